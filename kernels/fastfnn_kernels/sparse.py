"""Products with a sparse matrix: only its nonzeros are walked.

Nonzeros lie by rows: ``values[i]`` and ``columns[i]`` (int32) hold those of row i, as far as ``ends[i, -1]`` says; what
lies behind means nothing. They need not be in order, and a column that comes twice is summed. Where `ends` has more
than one column, they lie in blocks: those of columns ``BLOCK * b`` to ``BLOCK * (b + 1)`` end at ``ends[i, b]``.

Normalisation is folded, so that zeros stay zeros. With ``x' = x * factor + shift``::

    x' @ W + b           = (x * factor) @ W + (b + shift * sum of W's rows)
    x'.T @ g             = (x * factor).T @ g + shift * sum of g's rows, the same in each of W's rows

so the values are scaled as they are collected, and what a shift adds is one row.

A weight is more than a first-level cache holds, and its rows are seldom whole cache lines, so that most of their
vectors lie in two. So where there are rows enough, products work with a copy of a block of it at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.simd import (
    VECTOR_BYTES,
    WIDEST_STRIP,
    WORD_BITS,
    add_rows,
    add_to_rows,
    differing_bits,
    lowest_bit,
)
from fastfnn_kernels.team import share

__all__ = [
    "BLOCK",
    "csr_nonzeros",
    "nonzeros",
    "scratch_for",
    "sparse_backward_weight",
    "sparse_linear",
]

#: Columns of a block of nonzeros, and so rows of a block of a copied weight: with WIDEST_STRIP vectors, half a cache.
BLOCK = WORD_BITS


@kernel(reference.nonzeros, outputs=3, in_place=True)
def nonzeros(
    values: NDArray[Any],
    columns: NDArray[Any],
    ends: NDArray[Any],
    x: NDArray[Any],
    zero: Any,
    factor: float,
    tid: int,
    n_threads: int,
) -> None:
    """Collect the elements of each row that are not `zero`, as ``(x - zero) * factor``, and their columns.

    Parameters
    ----------
    values, columns : (n, width)
        In the network's dtype, and int32; written as far as there are nonzeros.
    ends : (n, blocks) int64
    x : (n, width)
        Of any numeric dtype, C-contiguous.
    zero, factor : scalars of the dtype of `x` and of `values`

    Notes
    -----
    Loop order: rows; 64 elements at a time are compared, and the bits that differ walked. Each thread does its share
    of the rows.
    """
    width = x.shape[1]
    dtype = values.dtype.type
    flat, base = x.reshape(-1), dtype(zero)
    start, stop = share(x.shape[0], tid, n_threads, 1)
    for i in range(start, stop):
        count = np.uint64(0)  # unsigned: it needs no test for counting from the end
        for block in range(ends.shape[1]):
            first, last = block * BLOCK, min(width, (block + 1) * BLOCK)
            if last - first == BLOCK:
                bits = differing_bits(flat, i * width + first, zero)
                while bits != 0:
                    column = np.uint64(first + lowest_bit(bits))
                    values[i, count] = (dtype(x[i, column]) - base) * factor
                    columns[i, count] = column
                    count += np.uint64(1)
                    bits &= bits - 1
            else:
                for j in range(first, last):
                    if x[i, j] != zero:
                        values[i, count] = (dtype(x[i, j]) - base) * factor
                        columns[i, count] = j
                        count += np.uint64(1)
            ends[i, block] = count


@kernel(reference.csr_nonzeros, outputs=3, in_place=True)
def csr_nonzeros(
    values: NDArray[Any],
    columns: NDArray[Any],
    ends: NDArray[Any],
    starts: NDArray[Any],
    indices: NDArray[Any],
    data: NDArray[Any],
    factor: float,
    tid: int,
    n_threads: int,
) -> None:
    """The same from rows of a CSR matrix: row i lies from ``starts[i]`` to ``starts[i + 1]``.

    Parameters
    ----------
    values, columns : (n, at least the longest row)
    ends : (n, blocks) int64
        For more than one block columns must be in order.
    starts : (n + 1,) int64
    indices, data : (nonzeros,)
        Of any integer and any numeric dtype.
    factor : scalar of the dtype of `values`

    Notes
    -----
    Each thread does its share of the rows.
    """
    dtype = values.dtype.type
    first, last = share(ends.shape[0], tid, n_threads, 1)
    for i in range(first, last):
        begin, count, block = starts[i], starts[i + 1] - starts[i], 0
        for p in range(count):
            column = indices[begin + p]
            values[i, p] = dtype(data[begin + p]) * factor
            columns[i, p] = column
            while block < ends.shape[1] - 1 and column >= (block + 1) * BLOCK:
                ends[i, block] = p
                block += 1
        for rest in range(block, ends.shape[1]):
            ends[i, rest] = count


def scratch_for(dtype: Any, n_threads: int = 1) -> NDArray[Any]:
    """Working memory for products: for each thread a row of sums, and a block of a strip, at a cache line's start."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    elements = (1 + BLOCK) * WIDEST_STRIP * lanes
    memory = np.empty(n_threads * elements + lanes, dtype)
    aligned = -(memory.ctypes.data // memory.itemsize) % lanes
    return memory[aligned : aligned + n_threads * elements].reshape(n_threads, elements)


@helper
def _strip_width(columns: int, lanes: int) -> int:
    """Columns in equal strips of whole vectors, as few as the registers allow."""
    vectors = max(1, (columns + lanes - 1) // lanes)
    strips = (vectors + WIDEST_STRIP - 1) // WIDEST_STRIP
    return (vectors + strips - 1) // strips * lanes


@helper
def _add_block(total, block, ldb, x, j0):  # type: ignore[no-untyped-def]
    """Add rows of `x`, from column j0 on, to `total`, and copy them to rows of `ldb` elements, or to nowhere."""
    for k in range(x.shape[0]):
        row = x[k, j0 : j0 + total.size]
        for j in range(total.size):
            total[j] += row[j]
        if ldb > 0:
            copy = block[k * ldb : k * ldb + total.size]
            for j in range(total.size):
                copy[j] = row[j]


@kernel(reference.sparse_linear, scratch=1)
def sparse_linear(
    out: NDArray[Any],
    scratch: NDArray[Any],
    values: NDArray[Any],
    columns: NDArray[Any],
    ends: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    shift: float,
    relu: bool,
    copied: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``(x + shift) @ weight + bias`` over the nonzeros of x, through a ReLU where asked.

    Parameters
    ----------
    out : (n, out_features)
        C-contiguous, like every array here; all floats of one dtype.
    scratch : (n_threads, …)
        From `scratch_for`.
    values, columns, ends
        Nonzeros by rows, see above.
    weight : (width, out_features)
    bias : (out_features,)
    shift : scalar of the arrays' dtype
    copied : bool
        Work with a copy of the weight, block by block. Nonzeros must lie in blocks. The result is the same within
        rounding.

    Notes
    -----
    Loop order: strips of outputs, rows, nonzeros. With a copy: strips, blocks of the weight's rows, rows, nonzeros. The
    sum of a strip stays in registers, but for the time between two blocks. Each thread does its share of the rows.
    """
    first, last = share(ends.shape[0], tid, n_threads, 1)
    blocks, capacity, n = ends.shape[1], values.shape[1], weight.shape[1]
    flat, flat_values, flat_columns = out.reshape(-1), values.reshape(-1), columns.reshape(-1)
    flat_weight, zero = weight.reshape(-1), out.dtype.type(0)
    strip = _strip_width(n, VECTOR_BYTES // out.itemsize)
    block = scratch[tid, strip:]
    for j0 in range(0, n, strip):
        here = min(strip, n - j0)
        total = scratch[tid, :here]
        for j in range(here):
            total[j] = zero
        if not copied:
            if shift != zero:
                _add_block(total, block, 0, weight, j0)
            for j in range(here):
                total[j] = bias[j0 + j] + shift * total[j]
            for i in range(first, last):
                p0 = i * capacity
                p1 = p0 + ends[i, blocks - 1]
                # fmt: off
                add_rows(flat, i * n + j0, total, 0, flat_values, flat_columns, p0, p1, flat_weight, j0, n, here,
                         relu)
                # fmt: on
            continue
        for b in range(blocks):
            _add_block(total, block, strip, weight[b * BLOCK : (b + 1) * BLOCK], j0)
            if b == blocks - 1 and shift != zero:
                for i in range(first, last):
                    row = out[i, j0 : j0 + here]
                    for j in range(here):
                        row[j] += shift * total[j]
            for i in range(first, last):
                p0 = i * capacity
                if b > 0:
                    p0 += ends[i, b - 1]
                p1 = i * capacity + ends[i, b]
                origin = -b * BLOCK * strip
                # fmt: off
                if b == 0:
                    add_rows(flat, i * n + j0, bias, j0, flat_values, flat_columns, p0, p1, block, origin, strip, here,
                             False)
                else:
                    add_rows(flat, i * n + j0, flat, i * n + j0, flat_values, flat_columns, p0, p1, block, origin,
                             strip, here, relu and b == blocks - 1)
                # fmt: on


@kernel(reference.sparse_backward_weight, scratch=1, in_place=True)
def sparse_backward_weight(
    grad_weight: NDArray[Any],
    scratch: NDArray[Any],
    values: NDArray[Any],
    columns: NDArray[Any],
    ends: NDArray[Any],
    grad_out: NDArray[Any],
    shift: float,
    alpha: float,
    accumulate: bool,
    copied: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``grad_weight (+)= alpha * (x + shift).T @ grad_out``; with ``alpha=-lr`` onto the weight it is the SGD step.

    Parameters
    ----------
    grad_weight : (width, out_features)
    scratch : (n_threads, …)
        From `scratch_for`.
    values, columns, ends
        Nonzeros by rows, see above.
    grad_out : (n, out_features)
    shift, alpha : scalars of the arrays' dtype
    copied : bool
        Sum up a block at a time before it is added, as in `sparse_linear`.

    Notes
    -----
    Loop order: strips of outputs, rows, nonzeros; with a copy: strips, blocks of columns, rows, nonzeros. A strip of a
    row of `grad_out` stays in registers. Each thread writes its share of the outputs, or with a copy of the blocks.
    """
    n, blocks, width = grad_out.shape[1], ends.shape[1], grad_weight.shape[0]
    lanes, capacity, zero = VECTOR_BYTES // grad_out.itemsize, values.shape[1], grad_weight.dtype.type(0)
    flat, flat_grad, one = grad_weight.reshape(-1), grad_out.reshape(-1), grad_weight.dtype.type(1)
    flat_values, flat_columns, strip = values.reshape(-1), columns.reshape(-1), _strip_width(n, lanes)
    first_block, last_block, first_column, last_column = 0, blocks, 0, n
    if copied:
        first_block, last_block = share(blocks, tid, n_threads, 1)
    else:
        first_column, last_column = share(n, tid, n_threads, lanes)
    sums = scratch[tid, strip:]
    for j0 in range(first_column, last_column, strip):
        here = min(strip, last_column - j0)
        start = scratch[tid, :here]
        for j in range(here):
            start[j] = zero
        if shift != zero:
            _add_block(start, sums, 0, grad_out, j0)
        for j in range(here):
            start[j] *= shift
        if not copied:
            if not accumulate or shift != zero:
                _add_to_all(grad_weight, start, j0, alpha, accumulate)
            for i in range(ends.shape[0]):
                p0 = i * capacity
                p1 = p0 + ends[i, blocks - 1]
                add_to_rows(flat, j0, n, flat_values, flat_columns, p0, p1, flat_grad, i * n + j0, here, alpha)
            continue
        for b in range(first_block, last_block):
            top, bottom = b * BLOCK, min(width, (b + 1) * BLOCK)
            for k in range(bottom - top):
                row = sums[k * strip : k * strip + here]
                for j in range(here):
                    row[j] = start[j]
            for i in range(ends.shape[0]):
                p0, p1, from_top = i * capacity, i * capacity + ends[i, b], -top * strip
                if b > 0:
                    p0 += ends[i, b - 1]
                # fmt: off
                add_to_rows(sums, from_top, strip, flat_values, flat_columns, p0, p1, flat_grad, i * n + j0, here, one)
                # fmt: on
            for k in range(bottom - top):
                row, grad = sums[k * strip : k * strip + here], grad_weight[top + k, j0 : j0 + here]
                for j in range(here):
                    grad[j] = alpha * row[j] + (grad[j] if accumulate else zero)


@helper
def _add_to_all(out, row, j0, alpha, accumulate):  # type: ignore[no-untyped-def]
    """Add `alpha` times `row` to each row of `out`, from column j0 on, or write it."""
    zero = out.dtype.type(0)
    for k in range(out.shape[0]):
        here = out[k, j0 : j0 + row.size]
        for j in range(row.size):
            here[j] = alpha * row[j] + (here[j] if accumulate else zero)
