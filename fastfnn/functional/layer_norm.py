"""Layer normalisation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import NANOSECONDS_PER_ELEMENT, Array, team_for


def _as_rows(x: ArrayLike, normalized_shape: int | tuple[int, ...]) -> tuple[Array, Array, tuple[int, ...]]:
    """`x`, the same memory with a row for each mean, and the shape that a mean is over."""
    shape, x = check.sizes("normalized_shape", normalized_shape), check.float_array("x", x)
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise InvalidValueError(f"x has shape {x.shape}; expected {shape} as its last axes")
    return x, x.reshape(x.size // math.prod(shape), math.prod(shape)), shape


def _vector(name: str, value: ArrayLike | None, default: float, shape: tuple[int, ...], dtype: object) -> Array:
    """Flat, as the rows are; `default` everywhere where it is None."""
    if value is None:
        return np.full(math.prod(shape), default, np.dtype(dtype))  # type: ignore[call-overload]
    array = check.float_array(name, value, dtype=dtype)
    if array.shape != shape:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected {shape}, the normalized_shape")
    return array.reshape(-1)


def layer_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    n_threads: int | None = None,
) -> Array:
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, over the last axes of each sample (Ba et al. 2016).

    Parameters
    ----------
    x : (..., *normalized_shape)
    normalized_shape : int or tuple of int
        The last axes, over which mean and (biased) variance are taken.
    weight, bias : normalized_shape, optional
    eps : float
    n_threads : int, optional

    Raises
    ------
    InvalidValueError
        Shapes do not fit.
    """
    x, rows, shape = _as_rows(x, normalized_shape)
    affine = _vector("weight", weight, 1.0, shape, x.dtype), _vector("bias", bias, 0.0, shape, x.dtype)
    out, statistics, eps = np.empty_like(x), np.empty((len(rows), 3), x.dtype), check.real("eps", eps, least=0.0)
    with team_for(n_threads, 4 * x.size * NANOSECONDS_PER_ELEMENT) as team:
        kernels.layer_norm.layer_norm_rows(out.reshape(rows.shape), statistics, rows, *affine, eps, team=team)
    return out


def layer_norm_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    n_threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `layer_norm`; the last two also where there is no weight and no bias."""
    x, rows, shape = _as_rows(x, normalized_shape)
    grad_out, eps = check.float_array("grad_out", grad_out, dtype=x.dtype), check.real("eps", eps, least=0.0)
    check.same_shape("grad_out", grad_out, "x", x)
    weight = _vector("weight", weight, 1.0, shape, x.dtype)
    grads, zeros = grad_out.reshape(rows.shape), np.zeros_like(weight)
    grad_x, statistics = np.empty_like(x), np.empty((len(rows), 3), x.dtype)
    grad_weight, grad_bias = np.empty(shape, x.dtype), np.empty(shape, x.dtype)
    flat = grad_x.reshape(rows.shape), grad_weight.reshape(-1), grad_bias.reshape(-1)
    norm = kernels.layer_norm
    with team_for(n_threads, 10 * x.size * NANOSECONDS_PER_ELEMENT) as team:
        norm.layer_norm_rows(flat[0], statistics, rows, weight, zeros, eps, team=team)
        norm.layer_norm_rows_backward(flat[0], grads, rows, statistics, weight, team=team)
        norm.layer_norm_backward_weight(*flat[1:], grads, rows, statistics, False, team=team)
    return grad_x, grad_weight, grad_bias
