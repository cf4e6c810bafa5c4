"""Products that skip zeros: a first layer whose input is mostly zeros.

Marked rows (`products.marked`) are a row array of numbers, the marks of a chunk and working memory; lists of nonzeros
(`products.sparse`) three row arrays: values and columns, with room for `capacity` nonzeros in a row, and counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels._config import helper
from fastfnn_kernels.operations._record import (
    data_row,
    my_flat,
    my_rows,
    operation,
    prefetch_row,
    real,
    setting,
)
from fastfnn_kernels.products import marked, sparse
from fastfnn_kernels.program import ADDS, FIRST, LAST, N_THREADS, ROWS, TID
from fastfnn_kernels.simd import WORD_BITS, array_at, word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_mark_row, _linear_rows = marked.mark_row, marked.linear_rows
_marked_backward_weight = marked.marked_backward_weight.jitted
_csr_nonzeros = sparse.csr_nonzeros.jitted
_linear, _backward_weight = sparse.sparse_linear.jitted, sparse.sparse_backward_weight.jitted


@helper
def _marks(record: int, index: int, rows: int, blocks: int) -> Any:
    groups = (rows + WORD_BITS - 1) // WORD_BITS
    return array_at(word(record, index), groups * blocks * WORD_BITS, np.int64).reshape(groups, blocks, WORD_BITS)


@helper
def _csr_row(record: int, data: int, row: int, data_dtype: Any, index_dtype: Any) -> Any:
    """Starts (of which the first two count), columns and values of a CSR matrix, from a row on."""
    starts = array_at(word(data, 0), row + 2, np.int64)[row:]
    return starts, array_at(word(data, 1), starts[1], index_dtype), array_at(word(data, 2), starts[1], data_dtype)


@operation
def mark_rows(dtype: Any, data_dtype: Any) -> Callable[[int, int], None]:
    """out (rows), marks, width, blocks, place of the data, zero, factor: dense rows, scaled and marked."""

    def mark_rows(record: int, at: int) -> None:
        width, data, last = word(record, 3), word(at, word(record, 5)), word(at, LAST)
        zero, factor = data_dtype(real(record, 6)), dtype(real(record, 7))
        out = array_at(word(record, 1), last * width, dtype).reshape(last, width)
        marks, mine = _marks(record, 2, last, word(record, 4)), last - word(at, FIRST)
        for i in range(mine):
            prefetch_row(at, data, width, data_dtype, min(i + 2, mine - 1))
            row = word(at, FIRST) + i
            start = data_row(at, row) * width
            _mark_row(out, marks, row, array_at(data, start + width, data_dtype)[start:], zero, factor)

    return mark_rows


@operation
def mark_csr_rows(dtype: Any, data_dtype: Any, index_dtype: Any) -> Callable[[int, int], None]:
    """out (rows), marks, width, blocks, place of the data, factor: the same of rows of a CSR matrix.

    The data are three words: the addresses of the rows' starts (int64), of the columns and of the values.
    """

    def mark_csr_rows(record: int, at: int) -> None:
        width, data, first, last = word(record, 3), word(at, word(record, 5)), word(at, FIRST), word(at, LAST)
        factor = dtype(real(record, 6))
        out = array_at(word(record, 1), last * width, dtype).reshape(last, width)
        marks = _marks(record, 2, last, word(record, 4))
        for i in range(first, last):
            starts, indices, numbers = _csr_row(record, data, data_row(at, i), data_dtype, index_dtype)
            group, place = i // WORD_BITS, i % WORD_BITS
            for j in range(width):
                out[i, j] = dtype(0)
            for b in range(marks.shape[1]):
                marks[group, b, place] = 0
            for p in range(starts[0], starts[1]):
                column = np.int64(indices[p])
                out[i, column] += dtype(numbers[p]) * factor
                marks[group, column // WORD_BITS, place] |= np.int64(1) << (column % WORD_BITS)

    return mark_csr_rows


@operation
def marked_product(dtype: Any) -> Callable[[int, int], None]:
    """x (rows), marks, k, blocks, scratch, scratch elements a thread, out (rows), weight, bias, n, shift, ReLU or not:
    a layer's forward over marked rows.
    """

    def marked_product(record: int, at: int) -> None:
        k, n, first, last, panel = word(record, 3), word(record, 10), word(at, FIRST), word(at, LAST), word(record, 6)
        x = array_at(word(record, 1), last * k, dtype).reshape(last, k)
        out = array_at(word(record, 7), last * n, dtype).reshape(last, n)
        weight, bias = array_at(word(record, 8), k * n, dtype).reshape(k, n), array_at(word(record, 9), n, dtype)
        scratch = array_at(word(record, 5), (word(at, TID) + 1) * panel, dtype)[word(at, TID) * panel :]
        marks, shift, relu = _marks(record, 2, last, word(record, 4)), dtype(real(record, 11)), word(record, 12) != 0
        _linear_rows(out, scratch, x, marks, weight, bias, shift, relu, first, last)

    return marked_product


@operation
def marked_weight_gradient(dtype: Any) -> Callable[[int, int], None]:
    """x (rows), marks, k, blocks, scratch, scratch elements a thread, out, grad (rows), n, shift, alpha's address,
    whether it always adds: the weight's gradient, or its SGD step.
    """

    def marked_weight_gradient(record: int, at: int) -> None:
        k, n, rows, panel, tid = word(record, 3), word(record, 9), word(at, ROWS), word(record, 6), word(at, TID)
        x = array_at(word(record, 1), rows * k, dtype).reshape(rows, k)
        out = array_at(word(record, 7), k * n, dtype).reshape(k, n)
        grad = array_at(word(record, 8), rows * n, dtype).reshape(rows, n)
        n_threads = word(at, N_THREADS)
        scratch = array_at(word(record, 5), n_threads * panel, dtype).reshape(n_threads, panel)
        marks, adds = _marks(record, 2, rows, word(record, 4)), word(record, 12) != 0 or word(at, ADDS) != 0
        shift, alpha = dtype(real(record, 10)), dtype(setting(record, 11))
        _marked_backward_weight(out, scratch, x, marks, grad, shift, alpha, adds, tid, n_threads)

    return marked_weight_gradient


@operation
def csr_nonzeros(dtype: Any, data_dtype: Any, index_dtype: Any) -> Callable[[int, int], None]:
    """values, columns, counts (rows), capacity, place of the data, factor: the nonzeros of rows of a CSR matrix."""

    def csr_nonzeros(record: int, at: int) -> None:
        capacity, data = word(record, 4), word(at, word(record, 5))
        values, columns = my_rows(record, 1, at, capacity, dtype), my_rows(record, 2, at, capacity, np.int32)
        counts, factor = my_flat(record, 3, at, 1, np.int64), dtype(real(record, 6))
        for i in range(counts.size):
            row = data_row(at, word(at, FIRST) + i)
            starts, indices, numbers = _csr_row(record, data, row, data_dtype, index_dtype)
            here = slice(i, i + 1)
            _csr_nonzeros(values[here], columns[here], counts[here], starts, indices, numbers, factor, 0, 1)

    return csr_nonzeros


@operation
def sparse_product(dtype: Any) -> Callable[[int, int], None]:
    """values, columns, counts (rows), capacity, scratch, scratch elements a thread, out (rows), weight, bias, k, n,
    shift, ReLU or not: a layer's forward over lists of nonzeros.
    """

    def sparse_product(record: int, at: int) -> None:
        capacity, panel, k, n, tid = (
            word(record, 4),
            word(record, 6),
            word(record, 10),
            word(record, 11),
            word(at, TID),
        )
        values, columns = my_rows(record, 1, at, capacity, dtype), my_rows(record, 2, at, capacity, np.int32)
        counts, out = my_flat(record, 3, at, 1, np.int64), my_rows(record, 7, at, n, dtype)
        weight, bias = array_at(word(record, 8), k * n, dtype).reshape(k, n), array_at(word(record, 9), n, dtype)
        scratch = array_at(word(record, 5), (tid + 1) * panel, dtype)[tid * panel :].reshape(1, panel)
        shift, relu = dtype(real(record, 12)), word(record, 13) != 0
        _linear(out, scratch, values, columns, counts, weight, bias, shift, relu, 0, 1)

    return sparse_product


@operation
def sparse_weight_gradient(dtype: Any) -> Callable[[int, int], None]:
    """values, columns, counts (rows), capacity, scratch, scratch elements a thread, out, grad (rows), k, n, shift,
    alpha's address, whether it always adds: the weight's gradient, or its SGD step.
    """

    def sparse_weight_gradient(record: int, at: int) -> None:
        capacity, panel, k, n = word(record, 4), word(record, 6), word(record, 9), word(record, 10)
        rows, tid, n_threads = word(at, ROWS), word(at, TID), word(at, N_THREADS)
        values = array_at(word(record, 1), rows * capacity, dtype).reshape(rows, capacity)
        columns = array_at(word(record, 2), rows * capacity, np.int32).reshape(rows, capacity)
        counts = array_at(word(record, 3), rows, np.int64)
        out = array_at(word(record, 7), k * n, dtype).reshape(k, n)
        grad = array_at(word(record, 8), rows * n, dtype).reshape(rows, n)
        scratch = array_at(word(record, 5), n_threads * panel, dtype).reshape(n_threads, panel)
        shift, alpha = dtype(real(record, 11)), dtype(setting(record, 12))
        adds = word(record, 13) != 0 or word(at, ADDS) != 0
        _backward_weight(out, scratch, values, columns, counts, grad, shift, alpha, adds, tid, n_threads)

    return sparse_weight_gradient
