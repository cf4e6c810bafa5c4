"""Elementwise activations and their gradients. Any shape; results are float64."""

from __future__ import annotations

import math

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


def _erf(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)


def gelu(x: ArrayLike, approximate: str = "none") -> Array:
    """``x Φ(x)`` with the normal distribution Φ, or its approximation by a tanh (Hendrycks & Gimpel 2016)."""
    if approximate == "tanh":
        return gelu_tanh(x)
    return 0.5 * _f64(x) * (1 + _erf(_f64(x) / math.sqrt(2)))


def gelu_backward(grad_out: ArrayLike, x: ArrayLike, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return gelu_tanh_backward(grad_out, x)
    x = _f64(x)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return _f64(grad_out) * (0.5 * (1 + _erf(x / math.sqrt(2))) + x * density)


def gelu_tanh(x: ArrayLike) -> Array:
    """``x/2 (1 + tanh(u))`` with ``u = sqrt(2/π) (x + 0.044715 x³)``, as x σ(2u): 1 + tanh would lose digits."""
    x = _f64(x)
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def gelu_tanh_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    x = _f64(x)
    z = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return _f64(grad_out) * sigmoid(z) * (1 + x * slope * sigmoid(-z))


def silu(x: ArrayLike) -> Array:
    """x σ(x)."""
    return _f64(x) * sigmoid(x)


def silu_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    return _f64(grad_out) * sigmoid(x) * (1 + _f64(x) * (1 - sigmoid(x)))


#: Of `selu` (Klambauer et al. 2017): with them numbers of mean 0 and variance 1 stay so from layer to layer.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def scaled_elu(x: ArrayLike, alpha: float, scale: float) -> Array:
    """``scale * x`` where x is positive, else ``scale * alpha * (exp(x) - 1)``."""
    x = _f64(x)
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def scaled_elu_backward(grad_out: ArrayLike, x: ArrayLike, alpha: float, scale: float) -> Array:
    x = _f64(x)
    return _f64(grad_out) * scale * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    return scaled_elu(x, alpha, 1.0)


def elu_backward(grad_out: ArrayLike, x: ArrayLike, alpha: float = 1.0) -> Array:
    return scaled_elu_backward(grad_out, x, alpha, 1.0)


def selu(x: ArrayLike) -> Array:
    return scaled_elu(x, SELU_ALPHA, SELU_SCALE)


def selu_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    return scaled_elu_backward(grad_out, x, SELU_ALPHA, SELU_SCALE)


def softplus(x: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta x)) / beta``; x itself where ``beta x`` is above the threshold."""
    z = beta * _f64(x)
    smooth = (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta
    return np.where(z > threshold, _f64(x), smooth)


def softplus_backward(grad_out: ArrayLike, x: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> Array:
    z = beta * _f64(x)
    return _f64(grad_out) * np.where(z > threshold, 1, sigmoid(z))


def relu6(x: ArrayLike) -> Array:
    """x between 0 and 6, and the nearer of them outside; NaN stays NaN."""
    return np.clip(_f64(x), 0, 6)


def relu6_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    return np.where((_f64(x) <= 0) | (_f64(x) >= 6), 0, _f64(grad_out))


def hardswish(x: ArrayLike) -> Array:
    """``x relu6(x + 3) / 6``."""
    return _f64(x) * np.clip(_f64(x) + 3, 0, 6) / 6


def hardswish_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    x = _f64(x)
    return _f64(grad_out) * np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5))
