"""Pooling of (n, c, length) lines: images of one row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn_kernels.reference.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward

Array = NDArray[np.float64]


def _rows(x: ArrayLike) -> NDArray[Any]:
    return np.asarray(x)[:, :, None]


def _image_shape(x_shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*x_shape[:2], 1, x_shape[2])


def max_pool1d(
    x: ArrayLike,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of every window, and with `return_indices` its place in the line. Padding never wins."""
    step = kernel_size if stride is None else stride
    out, index = max_pool2d(_rows(x), (1, kernel_size), (1, step), (0, padding), (1, dilation), ceil_mode, True)
    return (out[:, :, 0], index[:, :, 0]) if return_indices else out[:, :, 0]


def max_pool1d_backward(grad_out: ArrayLike, indices: Any, x_shape: tuple[int, ...]) -> Array:
    return max_pool2d_backward(_rows(grad_out), _rows(indices), _image_shape(x_shape))[:, :, 0]


def avg_pool1d(
    x: ArrayLike,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The mean of every window."""
    step = kernel_size if stride is None else stride
    return avg_pool2d(_rows(x), (1, kernel_size), (1, step), (0, padding), ceil_mode, count_include_pad)[:, :, 0]


def avg_pool1d_backward(
    grad_out: ArrayLike,
    x_shape: tuple[int, ...],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    settings = (1, kernel_size), (1, kernel_size if stride is None else stride), (0, padding)
    made = avg_pool2d_backward(_rows(grad_out), _image_shape(x_shape), *settings, ceil_mode, count_include_pad)
    return made[:, :, 0]
