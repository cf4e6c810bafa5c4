"""Pooling of (n, c, h, w) images. Results are float64, places are integers.

The kernels' twins take `sizes`, twelve integers: the height and width of an image, of the output, of the window, and
the vertical and horizontal stride, padding and dilation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Sizes = tuple[int, ...]
Pair = int | tuple[int, int]


def _f64(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def _taps(i: int, kernel: int, stride: int, padding: int, dilation: int, size: int) -> Integers:
    """The places of window `i` that lie inside, along one axis."""
    places = i * stride - padding + dilation * np.arange(kernel)
    return places[(places >= 0) & (places < size)]


def _rows_and_columns(i: int, j: int, sizes: Sizes) -> tuple[Integers, Integers]:
    height, width, _, _, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w = sizes
    rows = _taps(i, kernel_h, stride_h, padding_h, dilation_h, height)
    return rows, _taps(j, kernel_w, stride_w, padding_w, dilation_w, width)


def max_pool(x: ArrayLike, sizes: Sizes) -> tuple[Array, Integers]:
    """The largest of every window and its place ``i * w + j``: the first of equals, the last of NaNs."""
    x = _f64(x)
    width, out_shape = sizes[1], (*x.shape[:2], *sizes[2:4])
    out, index = np.empty(out_shape), np.empty(out_shape, np.int64)
    for i, j in np.ndindex(out_shape[2:]):
        rows, columns = _rows_and_columns(i, j, sizes)
        places = (rows[:, None] * width + columns).ravel()
        window = x[:, :, rows[:, None], columns].reshape(*x.shape[:2], places.size)
        nan = np.isnan(window)
        last_nan = places.size - 1 - nan[:, :, ::-1].argmax(axis=2)
        best = np.where(nan.any(axis=2), last_nan, window.argmax(axis=2))
        out[:, :, i, j] = np.take_along_axis(window, best[:, :, None], axis=2)[:, :, 0]
        index[:, :, i, j] = places[best]
    return out, index


def max_pool_backward(grad_out: ArrayLike, index: Any, sizes: Sizes) -> Array:
    """Every element of `grad_out` is added at its place; windows may share one."""
    grad_out = _f64(grad_out)
    grad_x = np.zeros((*grad_out.shape[:2], sizes[0] * sizes[1]))
    for n, c, i, j in np.ndindex(grad_out.shape):
        grad_x[n, c, index[n, c, i, j]] += grad_out[n, c, i, j]
    return grad_x.reshape(*grad_out.shape[:2], *sizes[:2])


def _divisor(i: int, j: int, sizes: Sizes, count_include_pad: bool) -> int:
    """How many places a window has: inside, or with the padding too, but never those beyond it (ceil mode)."""
    if not count_include_pad:
        rows, columns = _rows_and_columns(i, j, sizes)
        return len(rows) * len(columns)
    height, width, _, _, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, _, _ = sizes
    rows_left = height + padding_h - (i * stride_h - padding_h)
    columns_left = width + padding_w - (j * stride_w - padding_w)
    return min(kernel_h, rows_left) * min(kernel_w, columns_left)


def avg_pool(x: ArrayLike, sizes: Sizes, count_include_pad: bool) -> Array:
    """The mean of every window; padding is 0."""
    x = _f64(x)
    out = np.empty((*x.shape[:2], *sizes[2:4]))
    for i, j in np.ndindex(out.shape[2:]):
        rows, columns = _rows_and_columns(i, j, sizes)
        total = x[:, :, rows[:, None], columns].sum(axis=(2, 3))
        out[:, :, i, j] = total / _divisor(i, j, sizes, count_include_pad)
    return out


def avg_pool_backward(grad_out: ArrayLike, sizes: Sizes, count_include_pad: bool) -> Array:
    grad_out = _f64(grad_out)
    grad_x = np.zeros((*grad_out.shape[:2], *sizes[:2]))
    for i, j in np.ndindex(grad_out.shape[2:]):
        rows, columns = _rows_and_columns(i, j, sizes)
        share = grad_out[:, :, i, j] / _divisor(i, j, sizes, count_include_pad)
        grad_x[:, :, rows[:, None], columns] += share[:, :, None, None]
    return grad_x


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _out_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows start on the grid; in ceil mode the last may hang over, if it starts in front of the end."""
    span = dilation * (kernel - 1) + 1
    if not ceil_mode:
        return len(range(0, size + 2 * padding - span + 1, stride))
    starts = [start for start in range(0, size + padding, stride) if start - stride + span < size + 2 * padding]
    return len(starts)


def _sizes(
    x_shape: tuple[int, ...], kernel: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Sizes:
    k, s, p, d = _pair(kernel), _pair(kernel if stride is None else stride), _pair(padding), _pair(dilation)
    out = (_out_size(x_shape[2 + axis], k[axis], s[axis], p[axis], d[axis], ceil_mode) for axis in (0, 1))
    return (*x_shape[2:], *out, *k, *s, *p, *d)


def max_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Integers]:
    """The largest of every window, and with `return_indices` its place in the image. Padding never wins."""
    out, index = max_pool(x, _sizes(np.shape(x), kernel_size, stride, padding, dilation, ceil_mode))
    return (out, index) if return_indices else out


def max_pool2d_backward(grad_out: ArrayLike, indices: Any, x_shape: tuple[int, ...]) -> Array:
    return max_pool_backward(grad_out, indices, x_shape[2:])


def avg_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    return avg_pool(x, _sizes(np.shape(x), kernel_size, stride, padding, 1, ceil_mode), count_include_pad)


def avg_pool2d_backward(
    grad_out: ArrayLike,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    return avg_pool_backward(grad_out, _sizes(x_shape, kernel_size, stride, padding, 1, ceil_mode), count_include_pad)


def global_avg_pool2d(x: ArrayLike) -> Array:
    """The mean of every image: (n, c, h, w) to (n, c)."""
    return _f64(x).mean(axis=(2, 3))


def global_avg_pool2d_backward(grad_out: ArrayLike, x_shape: tuple[int, ...]) -> Array:
    share = _f64(grad_out) / (x_shape[2] * x_shape[3])
    return np.broadcast_to(share[:, :, None, None], x_shape).copy()


def adaptive_avg_pool2d(x: ArrayLike, output_size: Pair) -> Array:
    """Means of windows side by side, so many that the output has this size, which divides that of the images."""
    return avg_pool2d(x, _dividing(np.shape(x), output_size))


def adaptive_avg_pool2d_backward(grad_out: ArrayLike, x_shape: tuple[int, ...]) -> Array:
    height, width = np.shape(grad_out)[2:]
    return avg_pool2d_backward(grad_out, x_shape, _dividing(x_shape, (height, width)))


def _dividing(x_shape: tuple[int, ...], output_size: Pair) -> tuple[int, int]:
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    return x_shape[2] // rows, x_shape[3] // columns


def global_max_pool2d(x: ArrayLike) -> Array:
    """The largest of every image: (n, c, h, w) to (n, c); NaN where there is one."""
    return _f64(x).max(axis=(2, 3))


def global_max_pool2d_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    """All of the gradient goes to the first of the largest."""
    images = _f64(x).reshape(*np.shape(x)[:2], -1)
    grad_x = np.zeros(images.shape)
    np.put_along_axis(grad_x, images.argmax(axis=2)[:, :, None], _f64(grad_out)[:, :, None], axis=2)
    return grad_x.reshape(np.shape(x))
