"""Max, average and global average pooling of C-contiguous (n, c, h, w) images, on arrays of one dtype.

`sizes` are twelve integers: the height and width of an image, of the output, of the window, and the vertical and
horizontal stride, padding and dilation. Every window holds at least one element of the image.

Loop order: planes, and in each the rows and columns of the output. Each thread does its share of the n * c planes;
where windows overlap, a plane's gradients are added up in the order of the windows.

2×2 windows that lie side by side, which nearly every network has, have loops of their own: those of max pooling are
intrinsics, a row each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.simd import pool_row_2x2, settled, spread_row_2x2
from fastfnn_kernels.team import share

#: What the twelve `sizes` are called.
SIZES = (
    *("height", "width", "out_height", "out_width", "kernel_height", "kernel_width"),
    *("stride_height", "stride_width", "padding_height", "padding_width", "dilation_height", "dilation_width"),
)
Sizes = tuple[int, int, int, int, int, int, int, int, int, int, int, int]


@helper
def _side_by_side(sizes: Sizes) -> bool:
    """Whether the windows are 2×2, two apart and wholly inside."""
    height, width, out_h, out_w = sizes[:4]
    return sizes[4:] == (2, 2, 2, 2, 0, 0, 1, 1) and 2 * out_h <= height and 2 * out_w <= width


@helper
def _clear_rest(grad_x: NDArray[Any], plane: int, rows: int, columns: int) -> None:
    """An odd image's last row and last column are in no 2×2 window: no gradient."""
    zero = grad_x.dtype.type(0)
    for row in range(rows):
        for column in range(columns, grad_x.shape[2]):
            grad_x[plane, row, column] = zero
    for row in range(rows, grad_x.shape[1]):
        for column in range(grad_x.shape[2]):
            grad_x[plane, row, column] = zero


@helper
def _first_inside(i: int, stride: int, padding: int, dilation: int) -> int:
    """The first place of window `i` in the image, along one axis. A division would take longer than the steps do."""
    place = i * stride - padding
    while place < 0:
        place += dilation
    return place


@helper
def _max_of_plane(out: NDArray[Any], index: NDArray[np.int32], x: NDArray[Any], plane: int, sizes: Sizes) -> None:
    height, width, out_h, out_w = sizes[:4]
    kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w = sizes[4:]
    for i in range(out_h):
        top = _first_inside(i, stride_h, padding_h, dilation_h)
        bottom = min(i * stride_h - padding_h + dilation_h * (kernel_h - 1) + 1, height)
        for j in range(out_w):
            left = _first_inside(j, stride_w, padding_w, dilation_w)
            right = min(j * stride_w - padding_w + dilation_w * (kernel_w - 1) + 1, width)
            largest, place = x[plane, top, left], top * width + left
            row = top
            while row < bottom:
                column = left
                while column < right:
                    value = x[plane, row, column]
                    wins = (value > largest) | (value != value)
                    largest = value if wins else largest
                    place = row * width + column if wins else place
                    column += dilation_w
                row += dilation_h
            out[plane, i, j], index[plane, i, j] = largest, place


@kernel(reference.max_pool, outputs=2)
def max_pool2d(
    out: NDArray[Any], index: NDArray[np.int32], x: NDArray[Any], sizes: Sizes, tid: int, n_threads: int
) -> None:
    """The largest of every window, and where it lies in its plane: ``i * width + j``.

    The first of equals counts, and the last of NaNs, as in PyTorch. Padding never wins.

    Parameters
    ----------
    out, index : (n, c, out_height, out_width)
    x : (n, c, height, width)
    sizes : twelve integers, see the module
    """
    height, width, out_h, out_w = sizes[:4]
    n, zero, lowest = x.shape[0] * x.shape[1], x.dtype.type(0), x.dtype.type(-np.inf)
    planes, largest, places = x.reshape(n, height, width), out.reshape(n, out_h, out_w), index.reshape(n, out_h, out_w)
    start, stop = share(n, tid, n_threads, 1)
    if _side_by_side(sizes):
        for plane in range(start, stop):
            for i in range(out_h):
                to, source, position = (plane * out_h + i) * out_w, (plane * height + 2 * i) * width, 2 * i * width
                pool_row_2x2(largest, to, places, to, planes, source, width, out_w, position, zero, lowest)
    else:
        for plane in range(start, stop):
            _max_of_plane(largest, places, planes, plane, sizes)


@kernel(reference.max_pool_backward)
def max_pool2d_backward(
    grad_x: NDArray[Any], grad_out: NDArray[Any], index: NDArray[np.int32], sizes: Sizes, tid: int, n_threads: int
) -> None:
    """Every element of `grad_out` goes to the place that `index` names; where windows overlap, they add up.

    The sizes behind those of image and output only tell whether the windows are 2×2 and lie side by side: where they
    are not known, zeros will do.
    """
    height, width, out_h, out_w = sizes[:4]
    n, zero = grad_x.shape[0] * grad_x.shape[1], grad_x.dtype.type(0)
    planes, grads = grad_x.reshape(n, height, width), grad_out.reshape(n, out_h * out_w)
    places = index.reshape(n, out_h * out_w)
    start, stop = share(n, tid, n_threads, 1)
    if _side_by_side(sizes):
        for plane in range(start, stop):
            for i in range(out_h):
                target, source, position = (plane * height + 2 * i) * width, (plane * out_h + i) * out_w, 2 * i * width
                spread_row_2x2(False, planes, target, width, grads, grads, source, places, out_w, position)
            _clear_rest(planes, plane, 2 * out_h, 2 * out_w)
    else:
        flat = grad_x.reshape(n, height * width)
        for plane in range(start, stop):
            for place in range(flat.shape[1]):
                flat[plane, place] = zero
            for window in range(grads.shape[1]):
                flat[plane, places[plane, window]] += grads[plane, window]


@helper
def _extent(i: int, kernel_size: int, stride: int, padding: int, size: int) -> tuple[int, int, int]:
    """Where window `i` begins and ends inside the image, and how long it is with its padding, along one axis.

    What hangs over the padding (ceil mode) is not part of it.
    """
    first = i * stride - padding
    end = min(first + kernel_size, size + padding)
    return max(first, 0), min(end, size), end - first


@kernel(reference.avg_pool)
def avg_pool2d(
    out: NDArray[Any], x: NDArray[Any], sizes: Sizes, count_include_pad: bool, tid: int, n_threads: int
) -> None:
    """The mean of every window, where padding is 0; its count includes the padding, or only what is inside.

    Parameters
    ----------
    out : (n, c, out_height, out_width)
    x : (n, c, height, width)
    sizes : twelve integers, see the module; the dilation is not looked at
    """
    height, width, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, _, _ = sizes
    n, dtype = x.shape[0] * x.shape[1], x.dtype.type
    planes, means = x.reshape(n, height, width), out.reshape(n, out_h, out_w)
    start, stop = share(n, tid, n_threads, 1)
    if _side_by_side(sizes):
        for plane in range(start, stop):
            for i in range(out_h):
                for j in range(out_w):
                    upper = planes[plane, 2 * i, 2 * j] + planes[plane, 2 * i, 2 * j + 1]
                    lower = planes[plane, 2 * i + 1, 2 * j] + planes[plane, 2 * i + 1, 2 * j + 1]
                    means[plane, i, j] = (upper + lower) * dtype(0.25)
        return
    for plane in range(start, stop):
        for i in range(out_h):
            top, bottom, rows = _extent(i, kernel_h, stride_h, padding_h, height)
            for j in range(out_w):
                left, right, columns = _extent(j, kernel_w, stride_w, padding_w, width)
                total = dtype(0)
                for row in range(top, bottom):
                    for column in range(left, right):
                        total += planes[plane, row, column]
                count = rows * columns if count_include_pad else (bottom - top) * (right - left)
                means[plane, i, j] = total / dtype(count)


@kernel(reference.avg_pool_backward)
def avg_pool2d_backward(
    grad_x: NDArray[Any], grad_out: NDArray[Any], sizes: Sizes, count_include_pad: bool, tid: int, n_threads: int
) -> None:
    """Each of a window's elements gets its share of the window's gradient; where windows overlap, they add up."""
    height, width, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, _, _ = sizes
    n, dtype = grad_x.shape[0] * grad_x.shape[1], grad_x.dtype.type
    planes, grads = grad_x.reshape(n, height, width), grad_out.reshape(n, out_h, out_w)
    start, stop = share(n, tid, n_threads, 1)
    if _side_by_side(sizes):
        for plane in range(start, stop):
            for i in range(out_h):
                for j in range(out_w):
                    each = grads[plane, i, j] * dtype(0.25)
                    planes[plane, 2 * i, 2 * j] = each
                    planes[plane, 2 * i, 2 * j + 1] = each
                    planes[plane, 2 * i + 1, 2 * j] = each
                    planes[plane, 2 * i + 1, 2 * j + 1] = each
            _clear_rest(planes, plane, 2 * out_h, 2 * out_w)
        return
    for plane in range(start, stop):
        _clear_rest(planes, plane, 0, 0)
        for i in range(out_h):
            top, bottom, rows = _extent(i, kernel_h, stride_h, padding_h, height)
            for j in range(out_w):
                left, right, columns = _extent(j, kernel_w, stride_w, padding_w, width)
                count = rows * columns if count_include_pad else (bottom - top) * (right - left)
                each = grads[plane, i, j] / dtype(count)
                for row in range(top, bottom):
                    for column in range(left, right):
                        planes[plane, row, column] += each


@kernel(reference.global_avg_pool2d)
def global_avg_pool2d(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """The mean of every plane: `out` (n, c) of x (n, c, height, width)."""
    n, size = x.shape[0] * x.shape[1], x.shape[2] * x.shape[3]
    planes, means = x.reshape(n, size), out.reshape(n)
    start, stop = share(n, tid, n_threads, 1)
    for plane in range(start, stop):
        total = x.dtype.type(0)
        for place in range(size):
            total += planes[plane, place]
        means[plane] = total / x.dtype.type(size)


@kernel(reference.global_avg_pool2d_backward)
def global_avg_pool2d_backward(
    grad_x: NDArray[Any], grad_out: NDArray[Any], x_shape: tuple[int, int, int, int], tid: int, n_threads: int
) -> None:
    """Each element of a plane gets the same share of its mean's gradient. `x_shape` is that of `grad_x`."""
    n, size = x_shape[0] * x_shape[1], x_shape[2] * x_shape[3]
    planes, grads = grad_x.reshape(n, size), grad_out.reshape(n)
    part = settled(grad_x.dtype.type(1) / grad_x.dtype.type(size))
    start, stop = share(n, tid, n_threads, 1)
    for plane in range(start, stop):
        each = grads[plane] * part
        for place in range(size):
            planes[plane, place] = each
