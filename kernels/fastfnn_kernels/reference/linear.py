"""The affine map ``x @ weight + bias`` and its gradients. `weight` is (in, out)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn_kernels.reference.activations import relu, relu_backward

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


def linear_relu(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
    """`linear` through a ReLU; NaN stays NaN."""
    return relu(linear(x, weight, bias))


def linear_backward_input(grad_out: ArrayLike, weight: ArrayLike, relu_output: ArrayLike | None = None) -> Array:
    """The gradient for `x`; where `x` was the output of a ReLU, the gradient for that ReLU's input."""
    grad_x = matmul(grad_out, np.asarray(weight).T)
    return grad_x if relu_output is None else relu_backward(grad_x, relu_output)


def linear_backward_weight(
    grad_weight: ArrayLike, grad_out: ArrayLike, x: ArrayLike, alpha: float = 1.0, accumulate: bool = False
) -> Array:
    """``grad_weight (+)= alpha * x.T @ grad_out``."""
    update = float(alpha) * matmul(np.asarray(x).T, grad_out)
    return update + np.asarray(grad_weight, np.float64) if accumulate else update


def column_sum(out: ArrayLike, x: ArrayLike, accumulate: bool = False) -> Array:
    """``out (+)= x.sum(axis=0)``: a bias's gradient."""
    return np.asarray(x, np.float64).sum(axis=0) + (np.asarray(out, np.float64) if accumulate else 0)
