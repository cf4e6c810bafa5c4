"""Pooling of (n, c, length) lines: images of one row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import Array
from fastfnn.functional.pooling import Windows, avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward


def line_windows(
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    wide: bool = False,
) -> Windows:
    """Of images of one row."""
    size = check.positive_int("kernel_size", kernel_size)
    step = size if stride is None else check.positive_int("stride", stride)
    room, distance = check.positive_int("padding", padding, least=0), check.positive_int("dilation", dilation)
    return Windows((1, size), (1, step), (0, room), (1, distance), ceil_mode, wide)


def _image_shape(x_shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(x_shape) != 3:
        raise InvalidValueError(f"x_shape is {tuple(x_shape)}; expected three integers (n, c, length)")
    return (*x_shape[:2], 1, x_shape[2])


def max_pool1d(
    x: ArrayLike,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    n_threads: int | None = None,
) -> Any:
    """The largest of every window of lines; the first of equals, and NaN where there is one. Padding never wins.

    Parameters
    ----------
    x : (n, c, length)
    kernel_size, stride, padding, dilation : int
        A stride of None is the kernel size.
    ceil_mode : bool
        A last window that hangs over the edge counts too.
    return_indices : bool
    n_threads : int, optional

    Returns
    -------
    out : (n, c, out_length)
    indices : int64, the same shape
        Only with `return_indices`: where in its line each lies.
    """
    x, w = check.float_array("x", x, ndim=3), line_windows(kernel_size, stride, padding, dilation, ceil_mode)
    settings = w.kernel_size, w.stride, w.padding, w.dilation, w.ceil_mode
    out, index = max_pool2d(x[:, :, None], *settings, True, n_threads=n_threads)
    return (out[:, :, 0], index[:, :, 0]) if return_indices else out[:, :, 0]


def max_pool1d_backward(
    grad_out: ArrayLike, indices: ArrayLike, x_shape: tuple[int, ...], *, n_threads: int | None = None
) -> Array:
    """The gradient for x: each element of `grad_out` goes to the place that `indices` names; windows may share one."""
    grad, shape = check.float_array("grad_out", grad_out, ndim=3), _image_shape(x_shape)
    index = np.asarray(indices)
    check.same_shape("indices", index, "grad_out", grad)
    return max_pool2d_backward(grad[:, :, None], index[:, :, None], shape, n_threads=n_threads)[:, :, 0]


def avg_pool1d(
    x: ArrayLike,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    n_threads: int | None = None,
) -> Array:
    """The mean of every window of lines, padding counted as 0, or not at all without `count_include_pad`.

    Parameters are those of `max_pool1d`; what hangs over the padding (`ceil_mode`) never counts.
    """
    x, w = check.float_array("x", x, ndim=3), line_windows(kernel_size, stride, padding, ceil_mode=ceil_mode)
    settings = w.kernel_size, w.stride, w.padding, w.ceil_mode, count_include_pad
    return avg_pool2d(x[:, :, None], *settings, n_threads=n_threads)[:, :, 0]


def avg_pool1d_backward(
    grad_out: ArrayLike,
    x_shape: tuple[int, ...],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    n_threads: int | None = None,
) -> Array:
    """The gradient for x of `avg_pool1d`: its elements get equal shares of their windows' gradients."""
    grad, shape = check.float_array("grad_out", grad_out, ndim=3), _image_shape(x_shape)
    w = line_windows(kernel_size, stride, padding, ceil_mode=ceil_mode)
    settings = w.kernel_size, w.stride, w.padding, w.ceil_mode, count_include_pad
    return avg_pool2d_backward(grad[:, :, None], shape, *settings, n_threads=n_threads)[:, :, 0]
