"""Elementwise activations and their gradients. Any shape; results are float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _f64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def relu(x: ArrayLike) -> Array:
    """max(0, x); NaN stays NaN."""
    return np.where(_f64(x) < 0, 0, _f64(x))


def relu_backward(grad_out: ArrayLike, out: ArrayLike) -> Array:
    return np.where(_f64(out) > 0, _f64(grad_out), 0)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01) -> Array:
    return np.where(_f64(x) < 0, negative_slope * _f64(x), _f64(x))


def leaky_relu_backward(grad_out: ArrayLike, x: ArrayLike, negative_slope: float = 0.01) -> Array:
    return np.where(_f64(x) > 0, 1.0, negative_slope) * _f64(grad_out)


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), with the exponential taken of -|x| so that it cannot overflow."""
    e = np.exp(-np.abs(_f64(x)))
    return np.where(_f64(x) < 0, e, 1) / (1 + e)


def sigmoid_backward(grad_out: ArrayLike, out: ArrayLike) -> Array:
    return _f64(grad_out) * _f64(out) * (1 - _f64(out))


def tanh(x: ArrayLike) -> Array:
    return np.tanh(_f64(x))


def tanh_backward(grad_out: ArrayLike, out: ArrayLike) -> Array:
    return _f64(grad_out) * (1 - _f64(out) ** 2)


def log(x: ArrayLike) -> Array:
    """The natural logarithm; -inf at 0: no epsilon bends it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(_f64(x))


def log_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _f64(grad_out) / _f64(x)
