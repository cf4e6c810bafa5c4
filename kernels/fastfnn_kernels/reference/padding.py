"""Zeros around images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def pad_planes(x: ArrayLike, left: int, right: int, top: int, bottom: int) -> Array:
    """(planes, height, width) with so many zeros on each side."""
    return np.pad(np.asarray(x, np.float64), ((0, 0), (top, bottom), (left, right)))


def pad_planes_backward(grad_out: ArrayLike, left: int, right: int, top: int, bottom: int) -> Array:
    """What of `grad_out` lies over the image."""
    grad = np.asarray(grad_out, np.float64)
    return grad[:, top : grad.shape[1] - bottom, left : grad.shape[2] - right]


def zero_pad2d(x: ArrayLike, padding: tuple[int, int, int, int]) -> Array:
    """Images (n, c, h, w) with (left, right, top, bottom) zeros around them."""
    left, right, top, bottom = padding
    return np.pad(np.asarray(x, np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))


def zero_pad2d_backward(grad_out: ArrayLike, padding: tuple[int, int, int, int]) -> Array:
    """The gradient for x of `zero_pad2d`."""
    grad, (left, right, top, bottom) = np.asarray(grad_out, np.float64), padding
    return grad[:, :, top : grad.shape[2] - bottom, left : grad.shape[3] - right]
