"""Layer normalisation (Ba et al. 2016): over the last axes of each sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _f64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def _normal(x: ArrayLike, statistics: ArrayLike) -> Array:
    """x̂ of rows, by their centre, factor and shift."""
    centre, factor, shift = _f64(statistics).T[:, :, None]
    return (_f64(x) - centre) * factor + shift


def layer_norm_rows(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, eps: float) -> tuple[Array, Array]:
    """Rows (n, columns), each with mean 0 and variance 1 before weight and bias; and their statistics (n, 3).

    These are the mean as the dtype of x has it, 1 / deviation, and what makes up for the mean's rounding.
    """
    rows = _f64(x)
    mean = rows.mean(axis=1, keepdims=True) if rows.size else np.zeros((len(rows), 1))
    variance = np.mean((rows - mean) ** 2, axis=1, keepdims=True) if rows.size else mean
    centre = _f64(mean.astype(np.asarray(x).dtype))
    factor = 1 / np.sqrt(variance + eps)
    statistics = np.concatenate([centre, factor, (centre - mean) * factor], axis=1)
    return (rows - mean) * factor * _f64(weight) + _f64(bias), statistics


def layer_norm_rows_backward(grad_out: ArrayLike, x: ArrayLike, statistics: ArrayLike, weight: ArrayLike) -> Array:
    """The gradient for x of `layer_norm_rows`."""
    normal, grad = _normal(x, statistics), _f64(grad_out) * _f64(weight)
    if not grad.size:
        return grad
    plain, along = grad.mean(axis=1, keepdims=True), np.mean(grad * normal, axis=1, keepdims=True)
    return _f64(statistics)[:, 1:2] * (grad - plain - normal * along)


def layer_norm_backward_weight(
    grad_weight: ArrayLike,
    grad_bias: ArrayLike,
    grad_out: ArrayLike,
    x: ArrayLike,
    statistics: ArrayLike,
    accumulate: bool = False,
) -> tuple[Array, Array]:
    """The gradients for weight and bias, added to what is there or not."""
    sums = np.sum(_f64(grad_out) * _normal(x, statistics), axis=0), np.sum(_f64(grad_out), axis=0)
    return (_f64(grad_weight) + sums[0], _f64(grad_bias) + sums[1]) if accumulate else sums


def _as_rows(x: ArrayLike, normalized_shape: int | tuple[int, ...]) -> tuple[NDArray[np.floating], tuple[int, ...]]:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    return np.asarray(x).reshape(-1, math.prod(shape)), shape


def layer_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, over the last axes, which have `normalized_shape`."""
    rows, _ = _as_rows(x, normalized_shape)
    weight = np.ones(rows.shape[1]) if weight is None else np.ravel(weight)
    bias = np.zeros(rows.shape[1]) if bias is None else np.ravel(bias)
    return layer_norm_rows(rows, weight, bias, eps)[0].reshape(np.shape(x))


def layer_norm_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `layer_norm`."""
    rows, shape = _as_rows(x, normalized_shape)
    ones, grads = np.ones(rows.shape[1]), np.asarray(grad_out).reshape(rows.shape)
    _, statistics = layer_norm_rows(rows, ones, 0 * ones, eps)
    grad_x = layer_norm_rows_backward(grads, rows, statistics, ones if weight is None else np.ravel(weight))
    grad_weight, grad_bias = layer_norm_backward_weight(ones, ones, grads, rows, statistics)
    return grad_x.reshape(np.shape(x)), grad_weight.reshape(shape), grad_bias.reshape(shape)
