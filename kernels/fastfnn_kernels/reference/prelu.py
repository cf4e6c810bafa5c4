"""A leaky ReLU whose slopes are learnt (He et al. 2015): one for all, or one for each channel, axis 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn_kernels.reference.normalization import BLOCK

Array = NDArray[np.float64]


def _f64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def _slopes(weight: ArrayLike, ndim: int) -> Array:
    """To go with an array of so many axes."""
    return _f64(weight).reshape(-1, *[1] * (ndim - 2)) if ndim > 1 else _f64(weight).reshape(-1)


def prelu(x: ArrayLike, weight: ArrayLike) -> Array:
    """x where it is positive, else ``weight * x``."""
    return np.where(_f64(x) > 0, _f64(x), _slopes(weight, np.ndim(x)) * _f64(x))


def prelu_rows_backward(grad_out: ArrayLike, x: ArrayLike, weight: ArrayLike) -> tuple[Array, Array]:
    """The gradient for x (rows, channels, spatial), and of the slopes those of each block of BLOCK rows."""
    grad, x = _f64(grad_out), _f64(x)
    grad_x = np.where(x > 0, grad, _slopes(weight, x.ndim) * grad)
    terms = np.sum(np.where(x > 0, 0, grad * x), axis=2)
    blocks = [terms[first : first + BLOCK].sum(axis=0) for first in range(0, len(x), BLOCK)]
    return grad_x, np.array(blocks).reshape(len(blocks), x.shape[1])


def prelu_backward_weight(grad_weight: ArrayLike, partials: ArrayLike, accumulate: bool = False) -> Array:
    """The blocks together, added to what is there or not."""
    sums = _f64(partials).sum(axis=0)
    return _f64(grad_weight) + sums if accumulate else sums


def prelu_backward(grad_out: ArrayLike, x: ArrayLike, weight: ArrayLike) -> tuple[Array, Array]:
    """``(grad_x, grad_weight)`` of `prelu`."""
    shape, channels = np.shape(x), np.size(weight)
    blocks = (len(_f64(x)), channels, -1) if np.size(x) else (0, channels, 1)
    rows = np.reshape(x, blocks)
    grad_x, partials = prelu_rows_backward(np.reshape(grad_out, rows.shape), rows, weight)
    return grad_x.reshape(shape), prelu_backward_weight(np.zeros(channels), partials)
