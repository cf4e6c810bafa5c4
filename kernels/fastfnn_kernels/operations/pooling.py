"""Pooling.

Where a field is called sizes, it is the address of thirteen int64: channels, then the twelve sizes of `pool`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import pool
from fastfnn_kernels._config import helper
from fastfnn_kernels.operations._record import my_flat, operation
from fastfnn_kernels.program import FIRST, LAST
from fastfnn_kernels.simd import word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_max_pool = pool.max_pool2d.jitted
_max_pool_backward = pool.max_pool2d_backward.jitted
_avg_pool = pool.avg_pool2d.jitted
_avg_pool_backward = pool.avg_pool2d_backward.jitted
_global_avg_pool = pool.global_avg_pool2d.jitted
_global_avg_pool_backward = pool.global_avg_pool2d_backward.jitted


@helper
def _my_images(record: int, index: int, at: int, channels: int, height: int, width: int, dtype: Any) -> Any:
    """This thread's rows of a row array as (rows, channels, height, width)."""
    flat = my_flat(record, index, at, channels * height * width, dtype)
    return flat.reshape(word(at, LAST) - word(at, FIRST), channels, height, width)


@helper
def _sizes(place: int) -> Any:
    """The twelve sizes behind the channels."""
    height, width, out_height, out_width = word(place, 1), word(place, 2), word(place, 3), word(place, 4)
    kernel_and_stride = word(place, 5), word(place, 6), word(place, 7), word(place, 8)
    padding_and_dilation = word(place, 9), word(place, 10), word(place, 11), word(place, 12)
    return (height, width, out_height, out_width, *kernel_and_stride, *padding_and_dilation)


@operation
def max_pool(dtype: Any) -> Callable[[int, int], None]:
    """out, index (rows of int32), x (rows), sizes."""

    def max_pool(record: int, at: int) -> None:
        channels, sizes = word(word(record, 4), 0), _sizes(word(record, 4))
        out = _my_images(record, 1, at, channels, sizes[2], sizes[3], dtype)
        index = _my_images(record, 2, at, channels, sizes[2], sizes[3], np.int32)
        _max_pool(out, index, _my_images(record, 3, at, channels, sizes[0], sizes[1], dtype), sizes, 0, 1)

    return max_pool


@operation
def max_pool_backward(dtype: Any) -> Callable[[int, int], None]:
    """grad_x, grad_out, index (rows of int32), sizes."""

    def max_pool_backward(record: int, at: int) -> None:
        channels, sizes = word(word(record, 4), 0), _sizes(word(record, 4))
        grad_x = _my_images(record, 1, at, channels, sizes[0], sizes[1], dtype)
        grad_out = _my_images(record, 2, at, channels, sizes[2], sizes[3], dtype)
        index = _my_images(record, 3, at, channels, sizes[2], sizes[3], np.int32)
        _max_pool_backward(grad_x, grad_out, index, sizes, 0, 1)

    return max_pool_backward


@operation
def avg_pool(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), sizes, whether the padding counts."""

    def avg_pool(record: int, at: int) -> None:
        channels, sizes = word(word(record, 3), 0), _sizes(word(record, 3))
        out = _my_images(record, 1, at, channels, sizes[2], sizes[3], dtype)
        x = _my_images(record, 2, at, channels, sizes[0], sizes[1], dtype)
        _avg_pool(out, x, sizes, word(record, 4) != 0, 0, 1)

    return avg_pool


@operation
def avg_pool_backward(dtype: Any) -> Callable[[int, int], None]:
    """grad_x, grad_out (rows), sizes, whether the padding counts."""

    def avg_pool_backward(record: int, at: int) -> None:
        channels, sizes = word(word(record, 3), 0), _sizes(word(record, 3))
        grad_x = _my_images(record, 1, at, channels, sizes[0], sizes[1], dtype)
        grad_out = _my_images(record, 2, at, channels, sizes[2], sizes[3], dtype)
        _avg_pool_backward(grad_x, grad_out, sizes, word(record, 4) != 0, 0, 1)

    return avg_pool_backward


@operation
def global_avg_pool(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), channels, height, width."""

    def global_avg_pool(record: int, at: int) -> None:
        channels, height, width = word(record, 3), word(record, 4), word(record, 5)
        x = _my_images(record, 2, at, channels, height, width, dtype)
        _global_avg_pool(my_flat(record, 1, at, channels, dtype).reshape(x.shape[0], channels), x, 0, 1)

    return global_avg_pool


@operation
def global_avg_pool_backward(dtype: Any) -> Callable[[int, int], None]:
    """grad_x, grad_out (rows), channels, height, width."""

    def global_avg_pool_backward(record: int, at: int) -> None:
        channels, height, width = word(record, 3), word(record, 4), word(record, 5)
        grad_x = _my_images(record, 1, at, channels, height, width, dtype)
        grad_out = my_flat(record, 2, at, channels, dtype).reshape(grad_x.shape[0], channels)
        _global_avg_pool_backward(grad_x, grad_out, grad_x.shape, 0, 1)

    return global_avg_pool_backward
