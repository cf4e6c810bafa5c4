"""Input and matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import normalization, optim
from fastfnn_kernels.operations._record import data_row, my_flat, my_rows, operation, prefetch_row, setting
from fastfnn_kernels.products import gemm, linear
from fastfnn_kernels.program import ADDS, FIRST, LAST, N_THREADS, RESULT, ROWS, START, TID
from fastfnn_kernels.simd import array_at, word
from fastfnn_kernels.team import share

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_gemm, _column_sum, _normalize = gemm.gemm.jitted, linear.column_sum.jitted, normalization.normalize.jitted
_sgd = optim.sgd.jitted


@operation
def gather(dtype: Any, data_dtype: Any) -> Callable[[int, int], None]:
    """out (rows), place of the data, width, factor, shift, channels: data, scaled, in the network's dtype."""

    def gather(record: int, at: int) -> None:
        data, width, channels = word(at, word(record, 2)), word(record, 3), word(record, 6)
        factor, shift = array_at(word(record, 4), channels, dtype), array_at(word(record, 5), channels, dtype)
        out = my_rows(record, 1, at, width, dtype)
        rows = out.shape[0]
        for i in range(rows):
            prefetch_row(at, data, width, data_dtype, min(i + 2, rows - 1))
            start = data_row(at, word(at, FIRST) + i) * width
            row = array_at(data, start + width, data_dtype)[start:].reshape(1, width)
            _normalize(out[i : i + 1], row, factor, shift, 0, 1)

    return gather


@operation
def gather_labels() -> Callable[[int, int], None]:
    """out (rows of int64), place of the data (int64)."""

    def gather_labels(record: int, at: int) -> None:
        out, data = my_flat(record, 1, at, 1, np.int64), word(at, word(record, 2))
        for i in range(out.size):
            out[i] = word(data, data_row(at, word(at, FIRST) + i))

    return gather_labels


@operation
def store(dtype: Any) -> Callable[[int, int], None]:
    """x (rows), width: the rows into the result, in the order of the data."""

    def store(record: int, at: int) -> None:
        width = word(record, 2)
        x, first = my_flat(record, 1, at, width, dtype), (word(at, START) + word(at, FIRST)) * width
        out = array_at(word(at, RESULT), first + x.size, dtype)[first:]
        for i in range(x.size):
            out[i] = x[i]

    return store


@operation
def scale(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), width, factor, shift, channels: a `Normalize` inside the network."""

    def scale(record: int, at: int) -> None:
        width, channels = word(record, 3), word(record, 6)
        factor, shift = array_at(word(record, 4), channels, dtype), array_at(word(record, 5), channels, dtype)
        _normalize(my_rows(record, 1, at, width, dtype), my_rows(record, 2, at, width, dtype), factor, shift, 0, 1)

    return scale


@operation
def product(dtype: Any) -> Callable[[int, int], None]:
    """out, scratch, a, b, extra, k, n, form, epilogue, scratch elements a thread, alpha's address, a's place.

    Form 0, out (rows) = a (rows) @ b: a layer's forward; where a's place is not 0, it is data in the network's dtype,
    read as it lies. Form 1, out (rows) = a (rows) @ b.T: its input's gradient. Form 2, out (+)= alpha * a.T @ b over
    the rows of both: its weight's gradient; each thread does its share of out. Form 3 is form 2 that always adds: an
    SGD step. In both a may be such data, too.
    """

    def product(record: int, at: int) -> None:
        k, n, form, epilogue, panel = (
            word(record, 6),
            word(record, 7),
            word(record, 8),
            word(record, 9),
            word(record, 10),
        )
        tid, n_threads = word(at, TID), word(at, N_THREADS)
        alpha = dtype(setting(record, 11))
        scratch = array_at(word(record, 2), n_threads * panel, dtype).reshape(n_threads, panel)
        adds = form == 3 or (form == 2 and word(at, ADDS) != 0)
        if form >= 2:
            rows = word(at, ROWS)
            out = array_at(word(record, 1), k * n, dtype).reshape(k, n)
            b = array_at(word(record, 4), rows * n, dtype).reshape(rows, n)
            first, place = 0, word(record, 3)
            if word(record, 12):
                first, place = word(at, START) * k, word(at, word(record, 12))
            a = array_at(place, first + rows * k, dtype)[first:].reshape(rows, k)
            extra = array_at(word(record, 5), 0, dtype)
        else:
            out, scratch = my_rows(record, 1, at, n, dtype), scratch[tid : tid + 1]
            tid, n_threads = 0, 1  # the rows are this thread's alone
            if word(record, 12):
                data, start = word(at, word(record, 12)), word(at, START)
                a = array_at(data, (start + word(at, LAST)) * k, dtype)[(start + word(at, FIRST)) * k :].reshape(-1, k)
            else:
                a = my_rows(record, 3, at, k, dtype)
            b = array_at(word(record, 4), k * n, dtype).reshape((k, n) if form == 0 else (n, k))
            extra = array_at(word(record, 5), n, dtype)
            if epilogue == gemm.RELU_MASK:
                extra = my_flat(record, 5, at, n, dtype)
        # One call for all forms: numba compiles the whole of it for each.
        _gemm(out, scratch, a, b, extra, form >= 2, form == 1, alpha, adds, epilogue, tid, n_threads)

    return product


@operation
def column_sum(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), width: a bias's gradient. Each thread does its share of the columns."""

    def column_sum(record: int, at: int) -> None:
        width, rows = word(record, 3), word(at, ROWS)
        x = array_at(word(record, 2), rows * width, dtype).reshape(rows, width)
        _column_sum(array_at(word(record, 1), width, dtype), x, word(at, ADDS) != 0, word(at, TID), word(at, N_THREADS))

    return column_sum


@operation
def column_sum_sgd(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), width, parameters, learning rate's address: a bias's gradient, and at once its SGD step."""

    def column_sum_sgd(record: int, at: int) -> None:
        width, rows, tid, n_threads = word(record, 3), word(at, ROWS), word(at, TID), word(at, N_THREADS)
        x = array_at(word(record, 2), rows * width, dtype).reshape(rows, width)
        grads, params = array_at(word(record, 1), width, dtype), array_at(word(record, 4), width, dtype)
        _column_sum(grads, x, False, tid, n_threads)
        start, stop = share(width, tid, n_threads, linear.GRAIN)  # the columns that this thread has just summed
        _sgd(params[start:stop], grads[start:stop], dtype(setting(record, 5)), dtype(0), 0, 1)

    return column_sum_sgd
