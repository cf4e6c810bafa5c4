"""The affine map ``x @ weight + bias`` and its gradients. `weight` is (in, out)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def matmul(a: ArrayLike, b: ArrayLike) -> Array:
    return np.asarray(a, np.float64) @ np.asarray(b, np.float64)


def matmul_backward(grad_out: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """From d(ab) = da b + a db: the gradients for `a` and `b`."""
    grad = np.asarray(grad_out, np.float64)
    return grad @ np.asarray(b, np.float64).T, np.asarray(a, np.float64).T @ grad


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
    out = matmul(x, weight)
    return out if bias is None else out + np.asarray(bias, np.float64)


def linear_backward(grad_out: ArrayLike, x: ArrayLike, weight: ArrayLike) -> tuple[Array, Array, Array]:
    """The gradients for `x`, `weight` and `bias`."""
    grad_x, grad_weight = matmul_backward(grad_out, x, weight)
    return grad_x, grad_weight, np.asarray(grad_out, np.float64).sum(axis=0)


def column_sum(out: ArrayLike, x: ArrayLike, accumulate: bool = False) -> Array:
    """``out (+)= x.sum(axis=0)``: a bias's gradient."""
    return np.asarray(x, np.float64).sum(axis=0) + (np.asarray(out, np.float64) if accumulate else 0)
