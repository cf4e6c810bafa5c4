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
    decoupled: bool,
    correction1: float,
    correction2: float,
) -> tuple[Array, Array, Array]:
    """Algorithm 1 of Kingma & Ba (2015); ``correction = 1 - beta**step`` undoes the zero start of both averages.

    With `decoupled` the weight decay is no part of the gradient: w ← w - lr λ w (Loshchilov & Hutter 2019).
    """
    w, g = np.asarray(param, np.float64), np.asarray(grad, np.float64)
    if decoupled:
        w = w - lr * weight_decay * w
    else:
        g = g + weight_decay * w
    m = beta1 * np.asarray(mean, np.float64) + (1 - beta1) * g
    s = beta2 * np.asarray(square, np.float64) + (1 - beta2) * g * g
    return w - lr * (m / correction1) / (np.sqrt(s / correction2) + eps), m, s


def amsgrad(
    param: ArrayLike,
    mean: ArrayLike,
    square: ArrayLike,
    largest: ArrayLike,
    grad: ArrayLike,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    correction1: float,
    correction2: float,
) -> tuple[Array, Array, Array, Array]:
    """Adam that divides by the root of the largest second average so far (Reddi et al. 2018, PyTorch's form)."""
    w, g = np.asarray(param, np.float64), np.asarray(grad, np.float64)
    if decoupled:
        w = w - lr * weight_decay * w
    else:
        g = g + weight_decay * w
    m = beta1 * np.asarray(mean, np.float64) + (1 - beta1) * g
    s = beta2 * np.asarray(square, np.float64) + (1 - beta2) * g * g
    most = np.maximum(np.asarray(largest, np.float64), s)
    return w - lr * (m / correction1) / (np.sqrt(most / correction2) + eps), m, s, most


def nadam(
    param: ArrayLike,
    mean: ArrayLike,
    square: ArrayLike,
    grad: ArrayLike,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    of_gradient: float,
    of_mean: float,
    correction2: float,
) -> tuple[Array, Array, Array]:
    """w ← w - lr (a g + b m) / (√(s / c2) + ε), with the shares a and b of the step (Dozat 2016, PyTorch's form)."""
    w, g = np.asarray(param, np.float64), np.asarray(grad, np.float64)
    if decoupled:
        w = w - lr * weight_decay * w
    else:
        g = g + weight_decay * w
    m = beta1 * np.asarray(mean, np.float64) + (1 - beta1) * g
    s = beta2 * np.asarray(square, np.float64) + (1 - beta2) * g * g
    return w - lr * (of_gradient * g + of_mean * m) / (np.sqrt(s / correction2) + eps), m, s


def rmsprop_momentum(
    param: ArrayLike,
    square: ArrayLike,
    velocity: ArrayLike,
    grad: ArrayLike,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> tuple[Array, Array, Array]:
    """s ← α s + (1 - α) g²; v ← μ v + g / (√s + ε); w ← w - lr v (PyTorch's form)."""
    w = np.asarray(param, np.float64)
    g = np.asarray(grad, np.float64) + weight_decay * w
    s = alpha * np.asarray(square, np.float64) + (1 - alpha) * g * g
    v = momentum * np.asarray(velocity, np.float64) + g / (np.sqrt(s) + eps)
    return w - lr * v, s, v


def rmsprop_centered(
    param: ArrayLike,
    square: ArrayLike,
    mean: ArrayLike,
    velocity: ArrayLike,
    grad: ArrayLike,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> tuple[Array, Array, Array, Array]:
    """`rmsprop_momentum` by the variance: m ← α m + (1 - α) g; v ← μ v + g / (√(s - m²) + ε) (Graves 2013)."""
    w = np.asarray(param, np.float64)
    g = np.asarray(grad, np.float64) + weight_decay * w
    s = alpha * np.asarray(square, np.float64) + (1 - alpha) * g * g
    m = alpha * np.asarray(mean, np.float64) + (1 - alpha) * g
    v = momentum * np.asarray(velocity, np.float64) + g / (np.sqrt(np.maximum(s - m * m, 0)) + eps)
    return w - lr * v, s, m, v


def negate(grad: ArrayLike) -> Array:
    """-g: to maximise."""
    return -np.asarray(grad, np.float64)


def rmsprop(
    param: ArrayLike, square: ArrayLike, grad: ArrayLike, lr: float, alpha: float, eps: float, weight_decay: float
) -> tuple[Array, Array]:
    """s ← α s + (1 - α) g²; w ← w - lr g / (√s + ε) (Tieleman & Hinton 2012)."""
    w = np.asarray(param, np.float64)
    g = np.asarray(grad, np.float64) + weight_decay * w
    s = alpha * np.asarray(square, np.float64) + (1 - alpha) * g * g
    return w - lr * g / (np.sqrt(s) + eps), s


def adagrad(
    param: ArrayLike, total: ArrayLike, grad: ArrayLike, lr: float, eps: float, weight_decay: float
) -> tuple[Array, Array]:
    """s ← s + g²; w ← w - lr g / (√s + ε) (Duchi et al. 2011)."""
    w = np.asarray(param, np.float64)
    g = np.asarray(grad, np.float64) + weight_decay * w
    s = np.asarray(total, np.float64) + g * g
    return w - lr * g / (np.sqrt(s) + eps), s


#: Gradients whose squares make one partial sum.
NORM_BLOCK = 1024


def square_sums(grad: ArrayLike) -> Array:
    """Sums of squares of blocks of NORM_BLOCK elements: added up, the square of the norm."""
    g = np.asarray(grad, np.float64)
    return np.array([np.sum(g[i : i + NORM_BLOCK] ** 2) for i in range(0, g.size, NORM_BLOCK)])


def clip_step(
    grad: ArrayLike, squares: ArrayLike, param: ArrayLike, clip_norm: float, clip_value: float, l1: float
) -> Array:
    """The gradient scaled to a norm of `clip_norm` at most, its elements within ±`clip_value`, plus λ₁ sign(w).

    `squares` are the `square_sums`; infinite bounds do nothing.
    """
    norm = np.sqrt(np.sum(np.asarray(squares, np.float64)))
    scale = clip_norm / norm if norm > clip_norm else 1.0
    limited = np.clip(scale * np.asarray(grad, np.float64), -clip_value, clip_value)
    return limited + l1 * np.sign(np.asarray(param, np.float64))


def limit_norms(weight: ArrayLike, limit: float) -> Array:
    """`weight` (before, outputs, behind), where the norm of what belongs to an output is at most `limit`."""
    result = np.array(weight, np.float64)
    norms = np.sqrt((result**2).sum((0, 2), keepdims=True))
    return np.where(norms > limit, result * limit / np.where(norms > 0, norms, 1), result)
