"""Zeros around images, and their removal, on arrays (planes, height, width). Each thread does its share of the planes.

Loop order: planes, rows, columns.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.team import share


@kernel(reference.pad_planes)
def pad_planes(
    out: NDArray[Any], x: NDArray[Any], left: int, right: int, top: int, bottom: int, tid: int, n_threads: int
) -> None:
    """x with so many zeros on each side; out is larger by them."""
    start, stop = share(x.shape[0], tid, n_threads, 1)
    out, x = out[start:stop], x[start:stop]
    planes, height, width = x.shape
    zero = x.dtype.type(0)
    for plane in range(planes):
        for row in range(out.shape[1]):
            inside = top <= row < top + height
            ends = left if inside else out.shape[2]
            for column in range(ends):
                out[plane, row, column] = zero
            if inside:
                for column in range(width):
                    out[plane, row, left + column] = x[plane, row - top, column]
                for column in range(right):
                    out[plane, row, left + width + column] = zero


@kernel(reference.pad_planes_backward)
def pad_planes_backward(
    grad_x: NDArray[Any],
    grad_out: NDArray[Any],
    left: int,
    right: int,
    top: int,
    bottom: int,
    tid: int,
    n_threads: int,
) -> None:
    """What of `grad_out` lies over the image."""
    start, stop = share(grad_x.shape[0], tid, n_threads, 1)
    grad_x, grad_out = grad_x[start:stop], grad_out[start:stop]
    for plane in range(grad_x.shape[0]):
        for row in range(grad_x.shape[1]):
            for column in range(grad_x.shape[2]):
                grad_x[plane, row, column] = grad_out[plane, top + row, left + column]
