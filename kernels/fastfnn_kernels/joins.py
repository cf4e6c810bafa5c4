"""Where branches of a network meet: sums, and arrays one behind the other."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.activations import GRAIN
from fastfnn_kernels.team import share


@kernel(reference.add)
def add(out: NDArray[Any], a: NDArray[Any], b: NDArray[Any], relu: bool, tid: int, n_threads: int) -> None:
    """``a + b`` of flat arrays, then ReLU where `relu` is set; `out` may be one of them.

    Loop order: one pass over the elements. Each thread does one contiguous slice.
    """
    zero = out.dtype.type(0)
    start, stop = share(out.size, tid, n_threads, GRAIN)
    out, a, b = out[start:stop], a[start:stop], b[start:stop]
    if relu:
        for i in range(out.size):
            total = a[i] + b[i]
            out[i] = zero if total < zero else total
    else:
        for i in range(out.size):
            out[i] = a[i] + b[i]


@kernel(reference.put_columns, in_place=True)
def put_columns(out: NDArray[Any], x: NDArray[Any], first: int, tid: int, n_threads: int) -> None:
    """``out[:, first : first + width] = x`` with `x` (n, width); other columns of `out` (n, columns) stay.

    Loop order: rows, columns. Each thread does its share of the rows.
    """
    rows, width = x.shape
    start, stop = share(rows, tid, n_threads, 1)
    for row in range(start, stop):
        target, source = out[row, first : first + width], x[row]
        for j in range(source.size):
            target[j] = source[j]


@kernel(reference.take_columns)
def take_columns(out: NDArray[Any], x: NDArray[Any], first: int, width: int, tid: int, n_threads: int) -> None:
    """``out = x[:, first : first + width]`` with `out` (n, width) and `x` (n, columns).

    Loop order: rows, columns. Each thread does its share of the rows.
    """
    start, stop = share(out.shape[0], tid, n_threads, 1)
    for row in range(start, stop):
        target, source = out[row], x[row, first : first + width]
        for j in range(target.size):
            target[j] = source[j]
