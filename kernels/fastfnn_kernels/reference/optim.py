"""Optimizer steps: the new parameter and state from the old. Everything is float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def sgd(param: ArrayLike, grad: ArrayLike, lr: float, weight_decay: float) -> Array:
    """w ← w - lr (g + λ w)."""
    w = np.asarray(param, np.float64)
    return w - lr * (np.asarray(grad, np.float64) + weight_decay * w)


def sgd_momentum(
    param: ArrayLike,
    velocity: ArrayLike,
    grad: ArrayLike,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> tuple[Array, Array]:
    """v ← μ v + g; w ← w - lr v, or with Nesterov w ← w - lr (g + μ v) (Sutskever et al. 2013, PyTorch's form)."""
    w = np.asarray(param, np.float64)
    g = np.asarray(grad, np.float64) + weight_decay * w
    v = momentum * np.asarray(velocity, np.float64) + g
    return w - lr * (g + momentum * v if nesterov else v), v


def adam(
    param: ArrayLike,
    mean: ArrayLike,
    square: ArrayLike,
    grad: ArrayLike,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
) -> tuple[Array, Array, Array]:
    """Algorithm 1 of Kingma & Ba (2015); ``correction = 1 - beta**step`` undoes the zero start of both averages."""
    w = np.asarray(param, np.float64)
    g = np.asarray(grad, np.float64) + weight_decay * w
    m = beta1 * np.asarray(mean, np.float64) + (1 - beta1) * g
    s = beta2 * np.asarray(square, np.float64) + (1 - beta2) * g * g
    return w - lr * (m / correction1) / (np.sqrt(s / correction2) + eps), m, s
