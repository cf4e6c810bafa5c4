"""Scaling of inputs, and batch normalisation (Ioffe & Szegedy 2015) over (n, channels, spatial) arrays.

The batch's statistics are taken block by block of BLOCK rows and then put together: what the kernels do, so that each
thread can do its own rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Rows of the batch whose statistics are taken together.
BLOCK = 8


def _f64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def _column(x: ArrayLike) -> Array:
    """A value for each channel, to go with (n, channels, spatial)."""
    return _f64(x).reshape(1, -1, 1)


def _rounded(mean: ArrayLike, weight: ArrayLike) -> Array:
    """The mean as the weight's dtype has it, which is the rows'."""
    return _f64(np.asarray(mean, np.asarray(weight).dtype))


def normalize(x: ArrayLike, factor: ArrayLike, shift: ArrayLike) -> Array:
    """``x * factor + shift`` of (n, features); channel c's block of features takes factor[c] and shift[c]."""
    rows = np.asarray(x, np.float64)
    channels = np.size(factor)
    blocks = rows.reshape(len(rows), channels, rows.shape[1] // channels)
    return (blocks * np.reshape(factor, (1, -1, 1)) + np.reshape(shift, (1, -1, 1))).reshape(rows.shape)


def batch_norm_moments(x: ArrayLike) -> Array:
    """Mean, and sum of squared distances from it, of each block and channel: (blocks, 2, channels)."""
    x = _f64(x)
    partials = np.empty((-(-len(x) // BLOCK), 2, x.shape[1]))
    for b, partial in enumerate(partials):
        block = x[b * BLOCK : (b + 1) * BLOCK]
        partial[0] = block.mean(axis=(0, 2))
        partial[1] = ((block - _column(partial[0])) ** 2).sum(axis=(0, 2))
    return partials


def batch_norm_combine(partials: ArrayLike, rows: int, spatial: int) -> tuple[Array, Array]:
    """Mean and biased variance of the batch, from those of its blocks."""
    partials = _f64(partials)
    counts = np.minimum(BLOCK, rows - BLOCK * np.arange(len(partials)))[:, None] * spatial
    mean = (counts * partials[:, 0]).sum(axis=0) / counts.sum()
    squares = partials[:, 1] + counts * (partials[:, 0] - mean) ** 2
    return mean, squares.sum(axis=0) / counts.sum()


def batch_norm_running(
    running_mean: ArrayLike, running_var: ArrayLike, mean: ArrayLike, variance: ArrayLike, count: int, momentum: float
) -> tuple[Array, Array]:
    """``(1 - momentum) * running + momentum * batch``, with the unbiased variance, as in PyTorch."""
    old_mean, old_var, unbiased = _f64(running_mean), _f64(running_var), _f64(variance) * count / max(1, count - 1)
    return old_mean + momentum * (_f64(mean) - old_mean), old_var + momentum * (unbiased - old_var)


def batch_norm_coefficients(
    mean: ArrayLike, variance: ArrayLike, weight: ArrayLike, bias: ArrayLike, eps: float
) -> tuple[Array, Array, Array]:
    """Centre, factor and shift that `batch_norm_apply` takes; what rounding the centre left over is in the shift."""
    centre, factor = _rounded(mean, weight), _f64(weight) / np.sqrt(_f64(variance) + eps)
    return centre, factor, _f64(bias) - (_f64(mean) - centre) * factor


def batch_norm_apply(x: ArrayLike, centre: ArrayLike, factor: ArrayLike, shift: ArrayLike, relu: bool = False) -> Array:
    """``(x - centre) * factor + shift`` by channels, through a ReLU where asked."""
    out = (_f64(x) - _column(centre)) * _column(factor) + _column(shift)
    return np.maximum(out, 0) if relu else out


def batch_norm_backward_sums(
    grad_out: ArrayLike, x: ArrayLike, mean: ArrayLike, variance: ArrayLike, eps: float
) -> Array:
    """Σ g and Σ g x̂ of each block and channel: (blocks, 2, channels)."""
    g = _f64(grad_out)
    normal = (_f64(x) - _column(mean)) / np.sqrt(_column(variance) + eps)
    partials = np.empty((-(-len(g) // BLOCK), 2, g.shape[1]))
    for b, partial in enumerate(partials):
        rows = slice(b * BLOCK, (b + 1) * BLOCK)
        partial[0] = g[rows].sum(axis=(0, 2))
        partial[1] = (g[rows] * normal[rows]).sum(axis=(0, 2))
    return partials


def batch_norm_backward_combine(partials: ArrayLike) -> tuple[Array, Array]:
    """The sums over all blocks: the gradients of bias and weight."""
    total = _f64(partials).sum(axis=0)
    return total[0], total[1]


def batch_norm_backward_coefficients(
    mean: ArrayLike,
    variance: ArrayLike,
    weight: ArrayLike,
    grad_bias: ArrayLike,
    grad_weight: ArrayLike,
    count: int,
    training: bool,
    eps: float,
) -> tuple[Array, Array, Array, Array]:
    """Centre, factor, slope and offset that `batch_norm_backward_apply` takes.

    In training ``grad_x = factor (g - Σ g / count - x̂ Σ g x̂ / count)``; else the statistics are constants.
    """
    inverse = 1 / np.sqrt(_f64(variance) + eps)
    factor = _f64(weight) * inverse
    centre, share = _rounded(mean, weight), factor / count if training else np.zeros_like(factor)
    slope = -share * inverse * _f64(grad_weight)
    return centre, factor, slope, -share * _f64(grad_bias) - slope * (_f64(mean) - centre)


def batch_norm_backward_apply(
    grad_out: ArrayLike, x: ArrayLike, centre: ArrayLike, factor: ArrayLike, slope: ArrayLike, offset: ArrayLike
) -> Array:
    """``factor * grad_out + slope * (x - centre) + offset`` by channels."""
    return _column(factor) * _f64(grad_out) + _column(slope) * (_f64(x) - _column(centre)) + _column(offset)


def batch_norm(
    x: ArrayLike,
    running_mean: NDArray[np.floating] | None,
    running_var: NDArray[np.floating] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` by channels, the axis behind the rows.

    Mean and variance are the batch's in training, which also updates the running ones in place; else the running ones.
    """
    x = _f64(x)
    axes = (0, *range(2, x.ndim))
    mean, variance = (x.mean(axes), x.var(axes)) if training else (_f64(running_mean), _f64(running_var))  # type: ignore[arg-type]
    if training and running_mean is not None and running_var is not None:
        new = batch_norm_running(running_mean, running_var, mean, variance, x[:, 0].size, momentum)
        running_mean[...], running_var[...] = new
    shape = (-1, *(1 for _ in axes[1:]))
    out = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps)
    out = out if weight is None else out * _f64(weight).reshape(shape)
    return out if bias is None else out + _f64(bias).reshape(shape)


def batch_norm_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `batch_norm`."""
    g, x = _f64(grad_out), _f64(x)
    axes = (0, *range(2, x.ndim))
    shape = (-1, *(1 for _ in axes[1:]))
    mean, variance = (x.mean(axes), x.var(axes)) if training else (_f64(running_mean), _f64(running_var))  # type: ignore[arg-type]
    std = np.sqrt(variance.reshape(shape) + eps)
    normal = (x - mean.reshape(shape)) / std
    grad_weight, grad_bias = (g * normal).sum(axes), g.sum(axes)
    grad_normal = g if weight is None else g * _f64(weight).reshape(shape)
    if training:
        through_mean = grad_normal.mean(axes, keepdims=True)
        through_variance = normal * (grad_normal * normal).mean(axes, keepdims=True)
        grad_normal = grad_normal - through_mean - through_variance
    return grad_normal / std, grad_weight, grad_bias
