"""Products that skip zeros: a first layer whose input is mostly zeros.

Marked rows (`products.marked`) are a row array of numbers, the marks of a chunk and working memory; lists of nonzeros
(`products.sparse`) three row arrays: values and columns, with room for `capacity` nonzeros in a row, and counts. Both
products have a weight of (k, n). The gradient of the weight is the SGD step of the weight itself where it is
`in_place`, with the step's size for `alpha`.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from fastfnn_kernels._config import helper
from fastfnn_kernels.operations._data import data_row, prefetch_row, refuse_row
from fastfnn_kernels.operations._fields import (
    Adds,
    Array,
    Count,
    DataDType,
    DataNumber,
    DType,
    Flag,
    IndexDType,
    NThreads,
    Number,
    Place,
    Setting,
    Source,
    Tid,
    all_rows,
    array,
    arrays,
    each_threads,
    own,
    rows,
    rows_up_to_mine,
    source_rows,
)
from fastfnn_kernels.operations._registry import operation
from fastfnn_kernels.products import lazy, marked, sparse
from fastfnn_kernels.program import MATRIX
from fastfnn_kernels.simd import WORD_BITS, array_at, record_at

_linear_rows, _mark_row = marked.linear_rows, marked.mark_row
_marked_backward_weight = marked.marked_backward_weight.inlined
_add_pending, _defer, _settle = lazy.add_pending.inlined, lazy.defer.inlined, lazy.settle.inlined
_linear, _backward_weight = sparse.sparse_linear.inlined, sparse.sparse_backward_weight.inlined


def _marks(rows: str) -> Any:
    """The marks of so many rows: a word for each row and block of columns, by groups of as many rows."""
    groups = arrays(None, f"({rows} + {WORD_BITS - 1}) // {WORD_BITS}", lambda room: -(-room.rows // WORD_BITS))
    return groups("blocks", WORD_BITS, dtype=np.int64)


Weight = Annotated[Array, array("k", "n")]
Bias = Annotated[Array, array("n")]
MarkedRows = Annotated[Array, rows_up_to_mine("k")]
Marks = Annotated[Array, _marks("place.last")]
AllMarkedRows = Annotated[Array, all_rows("k")]
AllMarks = Annotated[Array, _marks("place.rows")]
Values = Annotated[Array, rows("capacity")]
Columns = Annotated[Array, rows("capacity", dtype=np.int32)]
Counts = Annotated[Array, rows(dtype=np.int64)]
Scratch = Annotated[Array, own("panel")]
AllScratch = Annotated[Array, each_threads("panel")]


@helper
def _csr_row(matrix: int, row: int, data_dtype: Any, index_dtype: Any) -> Any:
    """Where a row of a CSR matrix begins and ends, all columns and all values; -1 where that is outside of these."""
    arrays = record_at(matrix, MATRIX)
    starts = array_at(arrays.starts, (row + 2,), np.int64)
    begin, end, count = starts[row], starts[row + 1], arrays.nonzeros
    if begin < 0 or begin > end or end > count:
        begin, end = np.int64(-1), np.int64(-1)
    return begin, end, array_at(arrays.columns, (count,), index_dtype), array_at(arrays.values, (count,), data_dtype)


@operation
def mark_rows(
    out: MarkedRows,
    marks: Marks,
    data: Annotated[Array, source_rows("k", axes=1)],
    k: Count,
    zero: DataNumber,
    factor: Number,
    place: Place,
) -> None:
    """The chunk's rows of dense data, scaled and marked."""
    mine = place.last - place.first
    for i in range(mine):
        prefetch_row(place, data, k, min(i + 2, mine - 1))
        row = place.first + i
        start = data_row(place, row) * k
        _mark_row(out, marks, row, data[start : start + k], zero, factor)


@operation
def mark_csr_rows(
    out: MarkedRows,
    marks: Marks,
    matrix: Source,
    k: Count,
    factor: Number,
    place: Place,
    dtype: DType,
    data_dtype: DataDType,
    index_dtype: IndexDType,
) -> None:
    """The same of rows of a CSR matrix."""
    for i in range(place.first, place.last):
        row = data_row(place, i)
        begin, end, indices, numbers = _csr_row(matrix, row, data_dtype, index_dtype)
        group, bit, bad = i // WORD_BITS, i % WORD_BITS, begin < 0
        for j in range(k):
            out[i, j] = dtype(0)
        for b in range(marks.shape[1]):
            marks[group, b, bit] = 0
        for p in range(begin, end):
            column = np.int64(indices[p])
            if 0 <= column < k:
                out[i, column] += dtype(numbers[p]) * factor
                marks[group, column // WORD_BITS, bit] |= np.int64(1) << (column % WORD_BITS)
            else:
                bad = True
        if bad:
            refuse_row(place, row)


@operation
def marked_product(
    out: Annotated[Array, rows_up_to_mine("n")],
    scratch: Scratch,
    x: MarkedRows,
    marks: Marks,
    weight: Weight,
    bias: Bias,
    shift: Number,
    relu: Flag,
    place: Place,
) -> None:
    """A layer's forward over marked rows."""
    _linear_rows(out, scratch, x, marks, weight, bias, shift, relu, place.first, place.last)


@operation
def marked_weight_gradient(
    out: Weight,
    scratch: AllScratch,
    x: AllMarkedRows,
    marks: AllMarks,
    grad: Annotated[Array, all_rows("n")],
    shift: Number,
    alpha: Setting,
    in_place: Flag,
    adds: Adds,
    tid: Tid,
    n_threads: NThreads,
) -> None:
    _marked_backward_weight(out, scratch, x, marks, grad, shift, alpha, in_place or adds, tid, n_threads)


@operation
def add_pending(
    out: Annotated[Array, rows("n")],
    sums: Annotated[Array, rows()],
    x: Annotated[Array, rows("k")],
    totals: Bias,
    pending: Bias,
    shift: Number,
    relu: Flag,
) -> None:
    """What a forward lacks with a weight that is still to be given a row, see `products.lazy`."""
    _add_pending(out, sums, x, totals, pending, shift, relu, 0, 1)


@operation
def defer(
    pending: Bias,
    totals: Bias,
    sums: Annotated[Array, all_rows()],
    grad: Annotated[Array, all_rows("n")],
    shift: Number,
    alpha: Setting,
    tid: Tid,
    n_threads: NThreads,
) -> None:
    """What an SGD step adds to every row of the weight, put off."""
    _defer(pending, totals, sums, grad, shift, alpha, tid, n_threads)


@operation
def settle(weight: Weight, kept: Weight, pending: Bias, totals: Bias, place: Place) -> None:
    """At the beginning and the end of some steps: the weight is given that row, or lacks it again."""
    _settle(weight, kept, pending, totals, place.when, place.tid, place.n_threads)


@operation
def csr_nonzeros(
    values: Values,
    columns: Columns,
    counts: Counts,
    matrix: Source,
    k: Count,
    factor: Number,
    place: Place,
    dtype: DType,
    data_dtype: DataDType,
    index_dtype: IndexDType,
) -> None:
    """The nonzeros of the chunk's rows of a CSR matrix, with k columns."""
    for i in range(counts.size):
        row = data_row(place, place.first + i)
        begin, end, indices, numbers = _csr_row(matrix, row, data_dtype, index_dtype)
        counts[i] = min(end - begin, values.shape[1])
        bad = begin < 0 or counts[i] < end - begin
        for p in range(counts[i]):
            column = np.int64(indices[begin + p])
            inside = 0 <= column < k
            bad = bad or not inside
            columns[i, p] = column if inside else 0
            values[i, p] = dtype(numbers[begin + p]) * factor if inside else dtype(0)
        if bad:
            refuse_row(place, row)


@operation
def sparse_product(
    out: Annotated[Array, rows("n")],
    scratch: Annotated[Array, own(1, "panel")],
    values: Values,
    columns: Columns,
    counts: Counts,
    weight: Weight,
    bias: Bias,
    shift: Number,
    relu: Flag,
) -> None:
    """A layer's forward over lists of nonzeros."""
    _linear(out, scratch, values, columns, counts, weight, bias, shift, relu, 0, 1)


@operation
def sparse_weight_gradient(
    out: Weight,
    scratch: AllScratch,
    values: Annotated[Array, all_rows("capacity")],
    columns: Annotated[Array, all_rows("capacity", dtype=np.int32)],
    counts: Annotated[Array, all_rows(dtype=np.int64)],
    grad: Annotated[Array, all_rows("n")],
    shift: Number,
    alpha: Setting,
    in_place: Flag,
    adds: Adds,
    tid: Tid,
    n_threads: NThreads,
) -> None:
    _backward_weight(out, scratch, values, columns, counts, grad, shift, alpha, in_place or adds, tid, n_threads)
