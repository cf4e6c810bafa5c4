"""A leaky ReLU whose slopes are learnt."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import Array, run_on_team


def _checked(x: ArrayLike, weight: ArrayLike) -> tuple[Array, Array, Array]:
    """`x`, the same memory as (rows, channels, spatial), and the slopes."""
    x = check.float_array("x", x)
    weight = check.float_array("weight", weight, ndim=1, dtype=x.dtype)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.size not in (1, channels) or not weight.size:
        raise InvalidValueError(
            f"weight has shape {weight.shape}; expected (1,) or ({channels},), one for each channel"
        )
    rows = len(x) if x.ndim else 1
    width = math.prod(x.shape[1:]) // weight.size
    return x, x.reshape(rows, weight.size, width), weight


def prelu(x: ArrayLike, weight: ArrayLike, *, n_threads: int | None = None) -> Array:
    """x where it is positive, else ``weight * x`` (He et al. 2015).

    Parameters
    ----------
    x : (n, channels, ...)
    weight : (1,) or (channels,)
        One slope for all, or one for each channel.
    n_threads : int, optional
    """
    x, rows, weight = _checked(x, weight)
    out = np.empty_like(x)
    run_on_team(kernels.prelu.prelu, out.reshape(rows.shape), rows, weight, n_threads=n_threads)
    return out


def prelu_backward(
    grad_out: ArrayLike, x: ArrayLike, weight: ArrayLike, *, n_threads: int | None = None
) -> tuple[Array, Array]:
    """``(grad_x, grad_weight)`` of `prelu`."""
    x, rows, weight = _checked(x, weight)
    grad_out = check.float_array("grad_out", grad_out, dtype=x.dtype)
    check.same_shape("grad_out", grad_out, "x", x)
    grad_x, grad_weight = np.empty_like(x), np.empty_like(weight)
    partials = np.empty((-(-len(rows) // kernels.batch_norm.BLOCK), weight.size))
    arrays = partials, grad_out.reshape(rows.shape), rows, weight
    run_on_team(kernels.prelu.prelu_rows_backward, grad_x.reshape(rows.shape), *arrays, n_threads=n_threads)
    kernels.prelu.prelu_backward_weight(grad_weight, partials, False)
    return grad_x, grad_weight
