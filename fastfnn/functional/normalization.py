"""Batch normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.functional._run import NANOSECONDS_PER_ELEMENT, Array, team_for


def _batch(x: ArrayLike) -> tuple[Array, Array]:
    """`x`, and the same memory as (n, channels, spatial)."""
    x = check.float_array("x", x)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise InvalidValueError(f"x has shape {x.shape}; expected (n, channels) or (n, channels, height, width)")
    return x, x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _of_channels(name: str, value: ArrayLike, images: Array, dtype: Any = None) -> Array:
    array = check.float_array(name, value, dtype=dtype or images.dtype)
    if array.shape != images.shape[1:2]:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected {images.shape[1:2]}, a value for a channel")
    return array


def _affine(weight: ArrayLike | None, bias: ArrayLike | None, images: Array) -> tuple[Array, Array]:
    channels = images.shape[1]
    return (
        np.ones(channels, images.dtype) if weight is None else _of_channels("weight", weight, images),
        np.zeros(channels, images.dtype) if bias is None else _of_channels("bias", bias, images),
    )


def _written_in_place(name: str, array: Any, images: Array) -> None:
    """Refuse running statistics that cannot be updated."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.flags.writeable:
        raise InvalidTypeError(f"{name} is {array!r}; expected a writable array of floats, which training updates")
    _of_channels(name, array, images)


def _running_statistics(running_mean: Any, running_var: Any, images: Array) -> tuple[Array, Array]:
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is None:
            raise InvalidValueError(f"{name} is None; expected a value for each channel, as training is False")
    mean = _of_channels("running_mean", running_mean, images, np.float64)
    return mean, _of_channels("running_var", running_var, images, np.float64)


def _batch_statistics(x: Array, images: Array, team: Any) -> tuple[Array, Array]:
    """Mean and variance of the batch, float64."""
    n, channels, spatial = images.shape
    if n * spatial < 2:
        raise InvalidValueError(f"x has shape {x.shape}; expected more than one value for each channel in training")
    partials = np.empty((-(-n // kernels.batch_norm.BLOCK), 2, channels))
    mean, variance = np.empty(channels), np.empty(channels)
    kernels.batch_norm.batch_norm_moments(partials, images, team=team)
    kernels.batch_norm.batch_norm_combine(mean, variance, partials, n, spatial)
    return mean, variance


def batch_norm(
    x: ArrayLike,
    running_mean: Array | None,
    running_var: Array | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    n_threads: int | None = None,
) -> Array:
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, by channels (Ioffe & Szegedy 2015).

    Parameters
    ----------
    x : (n, channels) or (n, channels, height, width)
    running_mean, running_var : (channels,)
        What inference takes for mean and variance. Training updates them in place; there they may both be None.
    weight, bias : (channels,), optional
    training : bool
        Take mean and (biased) variance of the batch, over all axes but the channels'.
    momentum : float
        ``running += momentum * (batch - running)``, with the unbiased variance, as in PyTorch.
    eps : float
    n_threads : int, optional

    Raises
    ------
    InvalidValueError
        Shapes do not fit; in training, the batch has fewer than two values for each channel.
    InvalidTypeError
        In training, the running statistics are no arrays that can be written.
    """
    x, images = _batch(x)
    momentum, eps = check.real("momentum", momentum, least=0.0), check.real("eps", eps, least=0.0)
    weight, bias = _affine(weight, bias, images)
    if training and (running_mean is None) != (running_var is None):
        raise InvalidValueError("one of running_mean and running_var is None; expected both or neither")
    coefficients = tuple(np.empty(images.shape[1], x.dtype) for _ in range(3))
    out = np.empty_like(x)
    with team_for(n_threads, 4 * x.size * NANOSECONDS_PER_ELEMENT) as team:
        if training:
            if running_mean is not None:
                _written_in_place("running_mean", running_mean, images)
                _written_in_place("running_var", running_var, images)
            mean, variance = _batch_statistics(x, images, team)
            if running_mean is not None and running_var is not None:
                running = running_mean.astype(x.dtype), running_var.astype(x.dtype)
                count = images.shape[0] * images.shape[2]
                kernels.batch_norm.batch_norm_running(*running, mean, variance, count, momentum)
                running_mean[...], running_var[...] = running
        else:
            mean, variance = _running_statistics(running_mean, running_var, images)
        kernels.batch_norm.batch_norm_coefficients(*coefficients, mean, variance, weight, bias, eps)
        kernels.batch_norm.batch_norm_apply(out.reshape(images.shape), images, *coefficients, False, team=team)
    return out


def batch_norm_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    training: bool = True,
    eps: float = 1e-5,
    *,
    n_threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `batch_norm`.

    In training mean and variance are those of `x`, through which the gradient flows too; else they are the running
    ones, which are constants. The gradients are also given where there is no weight and no bias.
    """
    x, images = _batch(x)
    grad_out = check.float_array("grad_out", grad_out, dtype=x.dtype)
    check.same_shape("grad_out", grad_out, "x", x)
    eps = check.real("eps", eps, least=0.0)
    weight, _ = _affine(weight, None, images)
    n, channels, spatial = images.shape
    grads, grad_x = grad_out.reshape(images.shape), np.empty_like(x)
    partials = np.empty((-(-n // kernels.batch_norm.BLOCK), 2, channels))
    grad_bias, grad_weight = np.empty(channels), np.empty(channels)
    coefficients = tuple(np.empty(channels, x.dtype) for _ in range(4))
    with team_for(n_threads, 6 * x.size * NANOSECONDS_PER_ELEMENT) as team:
        if training:
            mean, variance = _batch_statistics(x, images, team)
        else:
            mean, variance = _running_statistics(running_mean, running_var, images)
        kernels.batch_norm.batch_norm_backward_sums(partials, grads, images, mean, variance, eps, team=team)
        kernels.batch_norm.batch_norm_backward_combine(grad_bias, grad_weight, partials)
        kernels.batch_norm.batch_norm_backward_coefficients(
            *coefficients, mean, variance, weight, grad_bias, grad_weight, n * spatial, bool(training), eps
        )
        result = grad_x.reshape(images.shape)
        kernels.batch_norm.batch_norm_backward_apply(result, grads, images, *coefficients, team=team)
    return grad_x, grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)
