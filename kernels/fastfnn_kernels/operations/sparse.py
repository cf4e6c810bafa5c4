"""Products over nonzeros: a first layer whose input is mostly zeros.

Nonzeros lie by rows (`fastfnn_kernels.sparse`) in three row arrays: values and columns, with room for `capacity`
nonzeros in a row, and the ends of `blocks` blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import sparse
from fastfnn_kernels.operations._record import data_row, my_rows, operation, prefetch_row, real, setting
from fastfnn_kernels.program import ADDS, FIRST, N_THREADS, ROWS, TID
from fastfnn_kernels.simd import array_at, word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_nonzeros, _csr_nonzeros = sparse.nonzeros.jitted, sparse.csr_nonzeros.jitted
_linear, _backward_weight = sparse.sparse_linear.jitted, sparse.sparse_backward_weight.jitted

#: Rows of a chunk from which on products work with a copy, forward and for the gradient. Not of a thread's rows:
#: results would depend on their number.
FORWARD_ROWS_WORTH_COPYING, BACKWARD_ROWS_WORTH_COPYING = 32, 16


@operation
def nonzeros(dtype: Any, data_dtype: Any) -> Callable[[int, int], None]:
    """values, columns, ends (rows), capacity, blocks, place of the data, width, zero, factor: those of dense rows."""

    def nonzeros(record: int, at: int) -> None:
        capacity, blocks, data, width = word(record, 4), word(record, 5), word(at, word(record, 6)), word(record, 7)
        zero, factor = data_dtype(real(record, 8)), dtype(real(record, 9))
        values, columns = my_rows(record, 1, at, capacity, dtype), my_rows(record, 2, at, capacity, np.int32)
        ends = my_rows(record, 3, at, blocks, np.int64)
        rows = ends.shape[0]
        for i in range(rows):
            prefetch_row(at, data, width, data_dtype, min(i + 2, rows - 1))
            start = data_row(at, word(at, FIRST) + i) * width
            row = array_at(data, start + width, data_dtype)[start:].reshape(1, width)
            _nonzeros(values[i : i + 1], columns[i : i + 1], ends[i : i + 1], row, zero, factor, 0, 1)

    return nonzeros


@operation
def csr_nonzeros(dtype: Any, data_dtype: Any, index_dtype: Any) -> Callable[[int, int], None]:
    """values, columns, ends (rows), capacity, blocks, place of the data, factor: those of rows of a CSR matrix.

    The data are three words: the addresses of the rows' starts (int64), of the columns and of the values.
    """

    def csr_nonzeros(record: int, at: int) -> None:
        capacity, blocks, data = word(record, 4), word(record, 5), word(at, word(record, 6))
        values, columns = my_rows(record, 1, at, capacity, dtype), my_rows(record, 2, at, capacity, np.int32)
        ends, factor = my_rows(record, 3, at, blocks, np.int64), dtype(real(record, 7))
        for i in range(ends.shape[0]):
            row = data_row(at, word(at, FIRST) + i)
            starts = array_at(word(data, 0), row + 2, np.int64)[row:]
            indices = array_at(word(data, 1), starts[1], index_dtype)
            numbers = array_at(word(data, 2), starts[1], data_dtype)
            here = slice(i, i + 1)
            _csr_nonzeros(values[here], columns[here], ends[here], starts, indices, numbers, factor, 0, 1)

    return csr_nonzeros


@operation
def sparse_product(dtype: Any) -> Callable[[int, int], None]:
    """values, columns, ends (rows), capacity, blocks, scratch, out (rows), weight, k, n, shift, scratch elements a
    thread, bias, ReLU or not: a layer's forward.
    """

    def sparse_product(record: int, at: int) -> None:
        capacity, blocks, k, n = word(record, 4), word(record, 5), word(record, 9), word(record, 10)
        tid, shift = word(at, TID), dtype(real(record, 11))
        values, columns = my_rows(record, 1, at, capacity, dtype), my_rows(record, 2, at, capacity, np.int32)
        ends, out = my_rows(record, 3, at, blocks, np.int64), my_rows(record, 7, at, n, dtype)
        weight, bias = array_at(word(record, 8), k * n, dtype).reshape(k, n), array_at(word(record, 13), n, dtype)
        panel = word(record, 12)
        scratch = array_at(word(record, 6), (tid + 1) * panel, dtype)[tid * panel :].reshape(1, panel)
        copied = blocks > 1 and word(at, ROWS) >= FORWARD_ROWS_WORTH_COPYING
        relu = word(record, 14) != 0
        _linear(out, scratch, values, columns, ends, weight, bias, shift, relu, copied, 0, 1)

    return sparse_product


@operation
def sparse_weight_gradient(dtype: Any) -> Callable[[int, int], None]:
    """values, columns, ends (rows), capacity, blocks, scratch, out, grad (rows), k, n, shift, scratch elements a
    thread, alpha's address, whether it always adds: the weight's gradient, or its SGD step.
    """

    def sparse_weight_gradient(record: int, at: int) -> None:
        capacity, blocks, k, n = word(record, 4), word(record, 5), word(record, 9), word(record, 10)
        rows, tid, n_threads = word(at, ROWS), word(at, TID), word(at, N_THREADS)
        values = array_at(word(record, 1), rows * capacity, dtype).reshape(rows, capacity)
        columns = array_at(word(record, 2), rows * capacity, np.int32).reshape(rows, capacity)
        ends = array_at(word(record, 3), rows * blocks, np.int64).reshape(rows, blocks)
        out = array_at(word(record, 7), k * n, dtype).reshape(k, n)
        grad = array_at(word(record, 8), rows * n, dtype).reshape(rows, n)
        panel = word(record, 12)
        scratch = array_at(word(record, 6), n_threads * panel, dtype).reshape(n_threads, panel)
        shift, alpha = dtype(real(record, 11)), dtype(setting(record, 13))
        adds = word(record, 14) != 0 or word(at, ADDS) != 0
        copied = blocks > 1 and rows >= BACKWARD_ROWS_WORTH_COPYING
        _backward_weight(out, scratch, values, columns, ends, grad, shift, alpha, adds, copied, tid, n_threads)

    return sparse_weight_gradient
