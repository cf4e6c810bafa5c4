"""Products that skip zeros: a dense matrix, with marks of the elements that are some.

Images are mostly one value: four of five pixels are blank. Beside the numbers lie bits, 64 columns a word, that say
which of them count (`reference.marked` has the layout). A tile of a product walks the terms of its sum that are marked
in any of its rows: two rows at a time, neighbours whose marks are mostly the same. There is no list of nonzeros to
make, no index to chase, and the sums stay in registers as in a dense product.

Normalisation is folded, so that zeros stay zeros. With ``x' = x * factor + shift``::

    x' @ W + b           = (x * factor) @ W + (b + shift * sum of W's rows)
    x'.T @ g             = (x * factor).T @ g + shift * sum of g's rows, the same in each of W's rows

so the values are scaled as they are marked, and what a shift adds is one row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, inlined, kernel
from fastfnn_kernels.simd import (
    MARKED_ROWS,
    VECTOR_BYTES,
    WIDEST_MARKED,
    WORD_BITS,
    differing_bits,
    multiply_marked,
    words_with,
)
from fastfnn_kernels.team import share

__all__ = ["mark_nonzeros", "marked_backward_weight", "marked_linear", "marks_for", "scratch_for"]

#: Columns of a share of the weight's gradient: their rows stay in the first-level cache while batches go by.
GRAIN = 32


def marks_for(rows: int, width: int) -> NDArray[np.int64]:
    """Room for the marks of so many rows: (groups of rows, blocks of columns, WORD_BITS)."""
    return np.empty((max(1, -(-rows // WORD_BITS)), max(1, -(-width // WORD_BITS)), WORD_BITS), np.int64)


def scratch_for(dtype: Any, rows: int, n_threads: int = 1) -> NDArray[Any]:
    """Working memory for products of so many rows: for each thread two rows and a block, at a cache line's start."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    elements = (2 + max(rows, WORD_BITS)) * WIDEST_MARKED * lanes
    memory = np.empty(n_threads * elements + lanes, dtype)
    aligned = -(memory.ctypes.data // memory.itemsize) % lanes
    return memory[aligned : aligned + n_threads * elements].reshape(n_threads, elements)


@helper
def strip_width(columns: int, lanes: int, widest: int) -> int:
    """Columns in equal strips of whole vectors, `widest` at most."""
    vectors = max(1, (columns + lanes - 1) // lanes)
    strips = (vectors + widest - 1) // widest
    return (vectors + strips - 1) // strips * lanes


@helper
def _first_bits(count):  # type: ignore[no-untyped-def]
    """A word in which so many bits are set, from the lowest on; all of them for more."""
    return (np.int64(1) << np.int64(count)) - 1 if count < WORD_BITS else np.int64(-1)


@helper
def mark_row(out, marks, i, x, zero, factor):  # type: ignore[no-untyped-def]
    """Row i of `out` and its marks, from the numbers `x`."""
    width, base = x.size, out.dtype.type(zero)
    row = out[i]
    for b in range(marks.shape[1]):
        first, last = b * WORD_BITS, min(width, (b + 1) * WORD_BITS)
        bits = np.int64(0)
        if last - first == WORD_BITS:
            bits = differing_bits(x, first, zero)
        else:
            for j in range(first, last):
                if x[j] != zero:
                    bits |= np.int64(1) << np.int64(j - first)
        marks[i // WORD_BITS, b, i % WORD_BITS] = bits
        here, numbers = row[first:last], x[first:last]
        for j in range(last - first):
            here[j] = (out.dtype.type(numbers[j]) - base) * factor


@kernel(reference.mark_nonzeros, outputs=2, in_place=True)
def mark_nonzeros(
    out: NDArray[Any],
    marks: NDArray[np.int64],
    x: NDArray[Any],
    zero: Any,
    factor: float,
    tid: int,
    n_threads: int,
) -> None:
    """``(x - zero) * factor``, and marks of the elements that are not `zero`.

    Parameters
    ----------
    out : (n, width)
        In the network's dtype.
    marks : from `marks_for`
        Words of rows that are none stay as they are.
    x : (n, width)
        Of any numeric dtype, C-contiguous.
    zero, factor : scalars of the dtype of `x` and of `out`

    Notes
    -----
    Loop order: rows, blocks of WORD_BITS columns. Each thread does its share of the rows.
    """
    first, last = share(x.shape[0], tid, n_threads, 1)
    for i in range(first, last):
        mark_row(out, marks, i, x[i], zero, factor)


@helper
def linear_rows(out, scratch, x, marks, weight, bias, shift, relu, first, last):  # type: ignore[no-untyped-def]
    """`marked_linear` for rows from `first`, a multiple of MARKED_ROWS, to `last`."""
    width, n, blocks = x.shape[1], weight.shape[1], marks.shape[1]
    flat, flat_x, flat_weight = out.reshape(-1), x.reshape(-1), weight.reshape(-1)
    zero, strip = out.dtype.type(0), strip_width(n, VECTOR_BYTES // out.itemsize, WIDEST_MARKED)
    ones = scratch[2 * strip :]
    ones[0] = 1
    for j0 in range(0, n, strip):
        here = min(strip, n - j0)
        start, total = scratch[:here], scratch[strip : strip + here]
        for j in range(here):
            total[j] = zero
            start[j] = bias[j0 + j]
        for b in range(blocks):
            top, ends = b * WORD_BITS, b == blocks - 1
            # fmt: off
            if shift != zero:
                every = _first_bits(width - top)
                multiply_marked(1, total, 0, 0, ones, 0, 0, 0, flat_weight, top * n + j0, n, every, total, 0, False,
                                False, here)
                if ends:
                    for j in range(here):
                        start[j] += shift * total[j]
            for i in range(first, last, MARKED_ROWS):
                c0, a0, b0, bits = i * n + j0, i * width + top, top * n + j0, marks[i // WORD_BITS, b, i % WORD_BITS]
                if i + 1 < last:
                    bits |= marks[i // WORD_BITS, b, i % WORD_BITS + 1]
                    if bits != 0 or b == 0 or ends:
                        multiply_marked(2, flat, c0, n, flat_x, a0, width, 1, flat_weight, b0, n, bits, start, 0, b > 0,
                                        relu and ends, here)
                else:
                    multiply_marked(1, flat, c0, n, flat_x, a0, width, 1, flat_weight, b0, n, bits, start, 0, b > 0,
                                    relu and ends, here)
            # fmt: on
            for j in range(here):
                start[j] = zero


@kernel(reference.marked_linear, scratch=1)
def marked_linear(
    out: NDArray[Any],
    scratch: NDArray[Any],
    x: NDArray[Any],
    marks: NDArray[np.int64],
    weight: NDArray[Any],
    bias: NDArray[Any],
    shift: float,
    relu: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``(x + shift) @ weight + bias`` over the marked elements of x, through a ReLU where asked.

    Parameters
    ----------
    out : (n, out_features)
        C-contiguous, like every array here; all floats of one dtype.
    scratch : (n_threads, …)
        From `scratch_for`.
    x, marks
        From `mark_nonzeros`: what is not marked is zero.
    weight : (width, out_features)
    bias : (out_features,)
    shift : scalar of the arrays' dtype

    Notes
    -----
    Loop order: strips of outputs, blocks of WORD_BITS columns of x, pairs of rows, marks. A block of the weight stays
    in the first-level cache. Each thread does its share of the rows.
    """
    first, last = share(out.shape[0], tid, n_threads, MARKED_ROWS)
    linear_rows(out, scratch[tid], x, marks, weight, bias, shift, relu, first, last)


@inlined
def _prepare_gradient(scratch, grad_out, shift, alpha, j0, here):  # type: ignore[no-untyped-def]
    """Columns j0 to j0 + here of ``alpha * grad_out`` as rows of whole vectors, behind zeros and what a shift adds."""
    zero = grad_out.dtype.type(0)
    strip = strip_width(grad_out.shape[1], VECTOR_BYTES // grad_out.itemsize, WIDEST_MARKED)
    nothing, start, rows = scratch[:here], scratch[strip : strip + here], scratch[2 * strip :]
    for j in range(here):
        nothing[j], start[j] = zero, zero
    for i in range(grad_out.shape[0]):
        copy, row = rows[i * strip : i * strip + here], grad_out[i, j0 : j0 + here]
        for j in range(here):
            copy[j] = alpha * row[j]
            start[j] += copy[j]
    for j in range(here):
        start[j] *= shift


@helper
def _backward_columns(grad_weight, scratch, x, marks, rows, shift, accumulate, j0, here, first, last):  # type: ignore[no-untyped-def]
    """`marked_backward_weight` for columns of x from `first`, a multiple of GRAIN, to `last`, after the preparation."""
    width, n = grad_weight.shape
    flat, flat_x, flat_marks = grad_weight.reshape(-1), x.reshape(-1), marks.reshape(-1)
    zero = grad_weight.dtype.type(0)
    strip = strip_width(n, VECTOR_BYTES // grad_weight.itemsize, WIDEST_MARKED)
    # fmt: off
    for k0 in range(first, last, GRAIN):
        words = k0 // WORD_BITS * WORD_BITS
        for i0 in range(0, max(1, rows), WORD_BITS):
            adds = accumulate or i0 > 0
            must = not adds or (i0 == 0 and shift != zero)
            start = strip if i0 == 0 and shift != zero else 0
            some, word0 = _first_bits(rows - i0), i0 // WORD_BITS * marks.shape[1] * WORD_BITS + words
            any_row = np.int64(0)
            for i in range(min(rows - i0, WORD_BITS)):
                any_row |= flat_marks[word0 + i]
            for k in range(k0, min(k0 + GRAIN, last), MARKED_ROWS):
                c0, a0, b0, place = k * n + j0, i0 * width + k, (2 + i0) * strip, np.int64(k % WORD_BITS)
                if (any_row >> place) & 3 == 0 and not must:
                    continue
                two = k + 1 < last
                bits = words_with(flat_marks, word0, np.int64(3 if two else 1) << place) & some
                if two:
                    multiply_marked(2, flat, c0, n, flat_x, a0, 1, width, scratch, b0, strip, bits, scratch, start,
                                    adds, False, here)
                else:
                    multiply_marked(1, flat, c0, n, flat_x, a0, 1, width, scratch, b0, strip, bits, scratch, start,
                                    adds, False, here)
    # fmt: on


@kernel(reference.marked_backward_weight, scratch=1, in_place=True)
def marked_backward_weight(
    grad_weight: NDArray[Any],
    scratch: NDArray[Any],
    x: NDArray[Any],
    marks: NDArray[np.int64],
    grad_out: NDArray[Any],
    shift: float,
    alpha: float,
    accumulate: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``grad_weight (+)= alpha * (x + shift).T @ grad_out``; with ``alpha=-lr`` onto the weight it is the SGD step.

    Parameters
    ----------
    grad_weight : (width, out_features)
    scratch : (n_threads, …)
        From `scratch_for`.
    x, marks
        From `mark_nonzeros`: what is not marked is zero.
    grad_out : (n, out_features)
    shift, alpha : scalars of the arrays' dtype

    Notes
    -----
    Loop order: strips of outputs, GRAIN columns of x, groups of WORD_BITS rows, pairs of columns, marked rows. Each
    thread writes its share of the weight's rows, from a copy of `grad_out` of its own whose rows are whole vectors.
    """
    rows, n = grad_out.shape
    strip = strip_width(n, VECTOR_BYTES // grad_out.itemsize, WIDEST_MARKED)
    first, last = share(grad_weight.shape[0], tid, n_threads, GRAIN)
    for j0 in range(0, n, strip):
        here = min(strip, n - j0)
        _prepare_gradient(scratch[tid], grad_out, shift, alpha, j0, here)
        _backward_columns(grad_weight, scratch[tid], x, marks, rows, shift, accumulate, j0, here, first, last)
