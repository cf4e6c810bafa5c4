"""Losses and the gradients of exactly the number that they return. Results are float64.

`reduction` is "mean", "sum" or "none"; the gradient for "none" is that of the sum. The mean is over rows for
`nll_loss`, over elements for the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn_kernels.reference.activations import sigmoid
from fastfnn_kernels.reference.softmax import reduce_losses, target_rows, weighted_nll

Array = NDArray[np.float64]

#: PyTorch's bounds: a probability of 0 or 1 costs at most 100, and its gradient is finite.
LOWEST_LOG, LOWEST_VARIANCE = -100.0, 1e-12


def _f64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def _reduce_gradient(grad: Array, reduction: str, count: int) -> Array:
    return grad / count if reduction == "mean" and count else grad


def nll_losses(prediction: ArrayLike, target: ArrayLike) -> Array:
    log_p = _f64(prediction)
    return weighted_nll(target_rows(target, log_p.shape[1]), log_p)


def nll_gradient(prediction: ArrayLike, target: ArrayLike, scale: float) -> Array:
    return -scale * target_rows(target, np.asarray(prediction).shape[1])


def nll_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array | np.float64:
    """``-Σ q · prediction`` a row, where `prediction` holds log-probabilities."""
    return reduce_losses(nll_losses(prediction, target), reduction)


def nll_loss_backward(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array:
    return _reduce_gradient(nll_gradient(prediction, target, 1.0), reduction, len(_f64(prediction)))


def bce_losses(prediction: ArrayLike, target: ArrayLike) -> Array:
    p, t = _f64(prediction), _f64(target)
    with np.errstate(divide="ignore"):
        log_p, log_not_p = np.maximum(np.log(p), LOWEST_LOG), np.maximum(np.log(1 - p), LOWEST_LOG)
    return -(t * log_p + (1 - t) * log_not_p)


def bce_gradient(prediction: ArrayLike, target: ArrayLike, scale: float) -> Array:
    p = _f64(prediction)
    return scale * (p - _f64(target)) / np.maximum(p * (1 - p), LOWEST_VARIANCE)


def binary_cross_entropy(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array | np.float64:
    """``-(t log p + (1 - t) log(1 - p))``, the logarithms bounded below by -100."""
    return reduce_losses(bce_losses(prediction, target), reduction)


def binary_cross_entropy_backward(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array:
    return _reduce_gradient(bce_gradient(prediction, target, 1.0), reduction, np.size(prediction))


def bce_with_logits_losses(prediction: ArrayLike, target: ArrayLike) -> Array:
    z = _f64(prediction)
    return np.maximum(z, 0) - z * _f64(target) + np.log1p(np.exp(-np.abs(z)))


def bce_with_logits_gradient(prediction: ArrayLike, target: ArrayLike, scale: float) -> Array:
    return scale * (sigmoid(prediction) - _f64(target))


def binary_cross_entropy_with_logits(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean"
) -> Array | np.float64:
    """Binary cross-entropy of ``sigmoid(prediction)``, written so that no logit overflows."""
    return reduce_losses(bce_with_logits_losses(prediction, target), reduction)


def binary_cross_entropy_with_logits_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean"
) -> Array:
    return _reduce_gradient(bce_with_logits_gradient(prediction, target, 1.0), reduction, np.size(prediction))


def mse_losses(prediction: ArrayLike, target: ArrayLike) -> Array:
    return (_f64(prediction) - _f64(target)) ** 2


def mse_gradient(prediction: ArrayLike, target: ArrayLike, scale: float) -> Array:
    return scale * 2 * (_f64(prediction) - _f64(target))


def mse_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array | np.float64:
    return reduce_losses(mse_losses(prediction, target), reduction)


def mse_loss_backward(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array:
    return _reduce_gradient(mse_gradient(prediction, target, 1.0), reduction, np.size(prediction))


def l1_losses(prediction: ArrayLike, target: ArrayLike) -> Array:
    return np.abs(_f64(prediction) - _f64(target))


def l1_gradient(prediction: ArrayLike, target: ArrayLike, scale: float) -> Array:
    return scale * np.sign(_f64(prediction) - _f64(target))


def l1_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array | np.float64:
    return reduce_losses(l1_losses(prediction, target), reduction)


def l1_loss_backward(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array:
    return _reduce_gradient(l1_gradient(prediction, target, 1.0), reduction, np.size(prediction))


def huber_losses(prediction: ArrayLike, target: ArrayLike, delta: float) -> Array:
    distance = np.abs(_f64(prediction) - _f64(target))
    return np.where(distance <= delta, distance**2 / 2, delta * (distance - delta / 2))


def huber_gradient(prediction: ArrayLike, target: ArrayLike, scale: float, delta: float) -> Array:
    return scale * np.clip(_f64(prediction) - _f64(target), -delta, delta)


def huber_loss(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", delta: float = 1.0
) -> Array | np.float64:
    """Huber (1964): squared up to a distance of `delta`, straight beyond it."""
    return reduce_losses(huber_losses(prediction, target, delta), reduction)


def huber_loss_backward(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", delta: float = 1.0) -> Array:
    return _reduce_gradient(huber_gradient(prediction, target, 1.0, delta), reduction, np.size(prediction))


def poisson_nll_losses(prediction: ArrayLike, target: ArrayLike) -> Array:
    return np.exp(_f64(prediction)) - _f64(target) * _f64(prediction)


def poisson_nll_gradient(prediction: ArrayLike, target: ArrayLike, scale: float) -> Array:
    return scale * (np.exp(_f64(prediction)) - _f64(target))


def poisson_nll_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array | np.float64:
    """Of logarithms of Poisson means, without the term that depends on the target alone."""
    return reduce_losses(poisson_nll_losses(prediction, target), reduction)


def poisson_nll_loss_backward(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array:
    return _reduce_gradient(poisson_nll_gradient(prediction, target, 1.0), reduction, np.size(prediction))
