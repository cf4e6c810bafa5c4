"""Softmax over the last axis, its logarithm, and the cross-entropy of logits. Results are float64.

With p = softmax(z): dp_i/dz_j = p_i (δ_ij - p_j), so for an upstream gradient g the gradient is p (g - <g, p>);
and the gradient of -Σ q log p is p Σq - q, which for probabilities q is the p - q of the textbooks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _shifted(x: ArrayLike) -> Array:
    z = np.asarray(x, np.float64)
    return z - z.max(axis=-1, keepdims=True) if z.size else z


def softmax(x: ArrayLike) -> Array:
    e = np.exp(_shifted(x))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(grad_out: ArrayLike, out: ArrayLike) -> Array:
    grad, p = np.asarray(grad_out, np.float64), np.asarray(out, np.float64)
    return p * (grad - (grad * p).sum(axis=-1, keepdims=True))


def log_softmax(x: ArrayLike) -> Array:
    z = _shifted(x)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def log_softmax_backward(grad_out: ArrayLike, out: ArrayLike) -> Array:
    grad = np.asarray(grad_out, np.float64)
    return grad - np.exp(np.asarray(out, np.float64)) * grad.sum(axis=-1, keepdims=True)


def target_rows(target: ArrayLike, classes: int, label_smoothing: float = 0.0) -> Array:
    """Targets as rows of weights: labels (n,) become one-hot rows; smoothing mixes in the uniform distribution."""
    q = np.asarray(target)
    rows = np.eye(classes)[q] if q.ndim == 1 else q.astype(np.float64)
    return (1 - label_smoothing) * rows + label_smoothing / classes


def weighted_nll(weights: Array, log_p: Array) -> Array:
    """``-Σ weights · log_p`` a row; a weight of 0 counts nothing, even against -inf."""
    return -(weights * np.where(weights == 0, 0, log_p)).sum(axis=1)


def reduce_losses(losses: Array, reduction: str) -> Array | np.float64:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def cross_entropy(
    logits: ArrayLike, target: ArrayLike, reduction: str = "mean", label_smoothing: float = 0.0
) -> Array | np.float64:
    """``-Σ q log softmax(logits)`` a row; `target` is labels (n,), one-hot rows or probabilities (n, classes)."""
    log_p = log_softmax(logits)
    q = target_rows(target, log_p.shape[1], label_smoothing)
    return reduce_losses(weighted_nll(q, log_p), reduction)


def cross_entropy_backward(
    logits: ArrayLike, target: ArrayLike, reduction: str = "mean", label_smoothing: float = 0.0
) -> Array:
    p = softmax(logits)
    q = target_rows(target, p.shape[1], label_smoothing)
    grad = p * q.sum(axis=1, keepdims=True) - q
    return grad / len(grad) if reduction == "mean" and len(grad) else grad


def softmax_cross_entropy(
    logits: ArrayLike, target: ArrayLike, scale: float, label_smoothing: float
) -> tuple[Array | np.float64, Array]:
    """What the fused kernel computes in one pass: the loss of each row, and `scale` times its gradient."""
    return (
        cross_entropy(logits, target, "none", label_smoothing),
        scale * cross_entropy_backward(logits, target, "sum", label_smoothing),
    )
