"""Losses and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import NANOSECONDS_PER_ELEMENT, Array, run_on_team, team_for


def _reduced(losses: Array, reduction: str) -> Any:
    """The losses themselves, or their sum or mean in float64."""
    if reduction == "none":
        return losses
    total = float(np.sum(losses, dtype=np.float64))
    return total / losses.size if reduction == "mean" and losses.size else total


def _scale(reduction: str, count: int) -> float:
    """What the gradient of the sum is multiplied by, to be the gradient of the reduced loss."""
    return 1.0 / count if reduction == "mean" and count else 1.0


def _logits(logits: ArrayLike) -> Array:
    z = check.float_array("prediction", logits, ndim=2)
    if z.shape[1] == 0:
        raise InvalidValueError(f"prediction has shape {z.shape}; expected at least one class")
    return z


def _cross_entropy(
    logits: ArrayLike, target: ArrayLike, reduction: str, label_smoothing: float, n_threads: int | None
) -> tuple[Array, Array]:
    z = _logits(logits)
    check.one_of("reduction", reduction, check.REDUCTIONS)
    smoothing = check.real("label_smoothing", label_smoothing, least=0, below=1)
    q = check.class_target("target", target, z)
    kernel = kernels.softmax.softmax_cross_entropy if q.ndim == 1 else kernels.softmax.softmax_cross_entropy_rows
    losses, grad = np.empty(len(z)), np.empty_like(z)
    scalar = z.dtype.type
    with team_for(n_threads, z.size * 4 * NANOSECONDS_PER_ELEMENT) as team:
        kernel(losses, grad, z, q, scalar(_scale(reduction, len(z))), scalar(smoothing), team=team)
    return losses, grad


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    n_threads: int | None = None,
) -> Any:
    """``-Σ q log softmax(logits)`` a row, stable at any logits.

    Parameters
    ----------
    logits : (n, classes)
    target : (n,) integer labels, or (n, classes) one-hot rows or probabilities
    reduction : {"mean", "sum", "none"}
        Over rows. "none" returns the n losses (float64), the others a float.
    label_smoothing : float in [0, 1)
        Weight of the uniform distribution mixed into the target.
    """
    return _reduced(_cross_entropy(logits, target, reduction, label_smoothing, n_threads)[0], reduction)


def cross_entropy_and_gradient(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    n_threads: int | None = None,
) -> tuple[Any, Array]:
    """What `cross_entropy` and `cross_entropy_backward` return, for the price of one: the kernel makes both."""
    losses, grad = _cross_entropy(logits, target, reduction, label_smoothing, n_threads)
    return _reduced(losses, reduction), grad


def cross_entropy_backward(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    n_threads: int | None = None,
) -> Array:
    """The gradient of exactly what `cross_entropy` returns (for "none", of the losses' sum): (softmax - q) / n."""
    return _cross_entropy(logits, target, reduction, label_smoothing, n_threads)[1]


def _nll_arguments(prediction: ArrayLike, target: ArrayLike, reduction: str) -> tuple[Array, Array]:
    check.one_of("reduction", reduction, check.REDUCTIONS)
    log_p = _logits(prediction)
    return log_p, check.class_target("target", target, log_p)


def nll_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None) -> Any:
    """``-Σ q prediction`` a row of log-probabilities (n, classes); `target` as in `cross_entropy`."""
    log_p, q = _nll_arguments(prediction, target, reduction)
    kernel = kernels.losses.nll_losses if q.ndim == 1 else kernels.losses.nll_losses_rows
    return _reduced(run_on_team(kernel, np.empty(len(log_p)), log_p, q, n_threads=n_threads), reduction)


def nll_loss_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `nll_loss`: ``-q / n``."""
    log_p, q = _nll_arguments(prediction, target, reduction)
    kernel = kernels.losses.nll_gradient if q.ndim == 1 else kernels.losses.nll_gradient_rows
    scale = log_p.dtype.type(_scale(reduction, len(log_p)))
    return run_on_team(kernel, np.empty_like(log_p), log_p, q, scale, n_threads=n_threads)


def _pair(prediction: ArrayLike, target: ArrayLike, reduction: str) -> tuple[Array, Array]:
    check.one_of("reduction", reduction, check.REDUCTIONS)
    p = check.float_array("prediction", prediction)
    t = check.float_array("target", target, dtype=p.dtype)
    if {p.shape, t.shape} == {(len(p),), (len(p), 1)}:  # NumPy would make (n, n) of them
        t = t.reshape(p.shape)
    check.same_shape("target", t, "prediction", p)
    return p, t


def _losses(
    kernel: Callable[..., None],
    prediction: ArrayLike,
    target: ArrayLike,
    reduction: str,
    n_threads: int | None,
    *settings: float,
) -> Any:
    p, t = _pair(prediction, target, reduction)
    losses, given = np.empty_like(p), map(p.dtype.type, settings)
    run_on_team(kernel, losses.reshape(-1), p.reshape(-1), t.reshape(-1), *given, n_threads=n_threads, elements_each=4)
    return _reduced(losses, reduction)


def _gradient(
    kernel: Callable[..., None],
    prediction: ArrayLike,
    target: ArrayLike,
    reduction: str,
    n_threads: int | None,
    *settings: float,
) -> Array:
    p, t = _pair(prediction, target, reduction)
    grad, given = np.empty_like(p), map(p.dtype.type, (_scale(reduction, p.size), *settings))
    run_on_team(kernel, grad.reshape(-1), p.reshape(-1), t.reshape(-1), *given, n_threads=n_threads)
    return grad


def binary_cross_entropy(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Any:
    """``-(t log p + (1 - t) log(1 - p))`` of probabilities; logarithms are bounded below by -100, as in PyTorch."""
    return _losses(kernels.losses.bce_losses, prediction, target, reduction, n_threads)


def binary_cross_entropy_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `binary_cross_entropy`: ``(p - t) / (p (1 - p))``, over the count for "mean"."""
    return _gradient(kernels.losses.bce_gradient, prediction, target, reduction, n_threads)


def binary_cross_entropy_with_logits(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Any:
    """Binary cross-entropy of ``sigmoid(prediction)``, stable at any logits."""
    return _losses(kernels.losses.bce_with_logits_losses, prediction, target, reduction, n_threads)


def binary_cross_entropy_with_logits_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `binary_cross_entropy_with_logits`: ``sigmoid(z) - t``, over the count for "mean"."""
    return _gradient(kernels.losses.bce_with_logits_gradient, prediction, target, reduction, n_threads)


def mse_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None) -> Any:
    """``(prediction - target)²``; the mean is over all elements."""
    return _losses(kernels.losses.mse_losses, prediction, target, reduction, n_threads)


def mse_loss_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `mse_loss`: ``2 (prediction - target)``, over the count for "mean"."""
    return _gradient(kernels.losses.mse_gradient, prediction, target, reduction, n_threads)


def l1_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None) -> Any:
    """``|prediction - target|``; the mean is over all elements."""
    return _losses(kernels.losses.l1_losses, prediction, target, reduction, n_threads)


def l1_loss_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `l1_loss`: the sign of ``prediction - target``, over the count for "mean"."""
    return _gradient(kernels.losses.l1_gradient, prediction, target, reduction, n_threads)


def huber_loss(
    prediction: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    delta: float = 1.0,
    *,
    n_threads: int | None = None,
) -> Any:
    """``d² / 2`` of the distance d up to `delta`, ``delta (d - delta / 2)`` beyond it (Huber 1964)."""
    delta = check.real("delta", delta, above=0)
    return _losses(kernels.losses.huber_losses, prediction, target, reduction, n_threads, delta)


def huber_loss_backward(
    prediction: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    delta: float = 1.0,
    *,
    n_threads: int | None = None,
) -> Array:
    """The gradient of `huber_loss`: ``prediction - target`` bounded by ±`delta`, over the count for "mean"."""
    delta = check.real("delta", delta, above=0)
    return _gradient(kernels.losses.huber_gradient, prediction, target, reduction, n_threads, delta)


def poisson_nll_loss(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Any:
    """``exp(z) - t z`` of logarithms z of Poisson means: PyTorch's with ``log_input=True, full=False``."""
    return _losses(kernels.losses.poisson_nll_losses, prediction, target, reduction, n_threads)


def poisson_nll_loss_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `poisson_nll_loss`: ``exp(z) - t``, over the count for "mean"."""
    return _gradient(kernels.losses.poisson_nll_gradient, prediction, target, reduction, n_threads)
