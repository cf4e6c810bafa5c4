"""Zeros around images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import Array, run_on_team

Sides = tuple[int, int, int, int]


def sides(padding: Any) -> Sides:
    """(left, right, top, bottom), of which none is negative."""
    if not isinstance(padding, (tuple, list)):
        each = check.positive_int("padding", padding, least=0)
        return each, each, each, each
    if len(padding) != 4:
        raise InvalidValueError(f"padding is {padding!r}; expected an integer, or (left, right, top, bottom)")
    left, right, top, bottom = (check.positive_int(f"padding[{i}]", side, least=0) for i, side in enumerate(padding))
    return left, right, top, bottom


def zero_pad2d(x: ArrayLike, padding: int | Sides, *, n_threads: int | None = None) -> Array:
    """Images (n, c, h, w) with zeros around them.

    Parameters
    ----------
    x : (n, c, h, w)
    padding : int or (left, right, top, bottom)
        In PyTorch's order; negative ones, which cut off, are refused.
    n_threads : int, optional
    """
    x, (left, right, top, bottom) = check.float_array("x", x, ndim=4), sides(padding)
    n, c, height, width = x.shape
    out = np.empty((n, c, height + top + bottom, width + left + right), x.dtype)
    planes = out.reshape(n * c, *out.shape[2:]), x.reshape(n * c, height, width)
    run_on_team(kernels.padding.pad_planes, *planes, left, right, top, bottom, n_threads=n_threads)
    return out


def zero_pad2d_backward(grad_out: ArrayLike, padding: int | Sides, *, n_threads: int | None = None) -> Array:
    """The gradient for x of `zero_pad2d`: what of `grad_out` lies over the image."""
    grad, (left, right, top, bottom) = check.float_array("grad_out", grad_out, ndim=4), sides(padding)
    height, width = grad.shape[2] - top - bottom, grad.shape[3] - left - right
    if height < 0 or width < 0:
        raise InvalidValueError(f"grad_out has shape {grad.shape}; expected images that hold a padding of {padding}")
    grad_x = np.empty((*grad.shape[:2], height, width), grad.dtype)
    planes = math.prod(grad.shape[:2])
    arrays = grad_x.reshape(planes, height, width), grad.reshape(planes, *grad.shape[2:])
    run_on_team(kernels.padding.pad_planes_backward, *arrays, left, right, top, bottom, n_threads=n_threads)
    return grad_x
