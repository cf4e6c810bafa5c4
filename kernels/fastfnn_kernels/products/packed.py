"""The affine layer with a weight that no longer changes: packed once, multiplied many times, zeros skipped where found.

A weight lies in strips of columns, each contiguous and its rows whole vectors: no row of a tile crosses a cache line,
and nothing is packed in a call. Where most of a row of x is one value, as the blank of an image is, the others' terms
alone are added up. With z for that value::

    x @ W + b  =  (x - z) @ W + (b + z * sum of W's rows)

where the last sum is known beforehand. Each row is looked at by itself, so what it becomes depends on nothing else:
not on the rows beside it, nor on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.products.gemm import (
    BIAS,
    BIAS_RELU,
    PANEL_BYTES,
    TILE_ROWS_1,
    TILE_ROWS_2,
    TILE_ROWS_3,
    TILE_ROWS_4,
    finish,
    make_panel,
)
from fastfnn_kernels.products.marked import strip_width
from fastfnn_kernels.simd import (
    VECTOR_BYTES,
    VECTOR_REGISTERS,
    WIDEST_MARKED_ROW,
    WORD_BITS,
    add_marked,
    count_bits,
    differing_bits,
    multiply_tile,
    prefetch,
)
from fastfnn_kernels.team import share

__all__ = ["marks_for", "pack", "packed_linear", "strip_shape"]

Array = NDArray[Any]
#: Vectors of a strip, at most: a single row has as many sums under way as keep the multipliers busy.
WIDEST_STRIP = WIDEST_MARKED_ROW if VECTOR_REGISTERS == 32 else 6
#: Rows of a tile of 5 or 6 vectors, and of 7 or 8.
TILE_ROWS_6, TILE_ROWS_8 = (4, 3) if VECTOR_REGISTERS == 32 else (2, 2)
#: Elements of a row that are looked at for its most frequent value, and how many must have it.
SAMPLE, LEAST_ALIKE = 8, 4
#: Rows that are looked at together: one bit each.
BLOCK_ROWS = 64
CACHE_LINE = 64


def strip_shape(depth: int, columns: int, dtype: Any) -> tuple[int, int, int]:
    """Of a packed weight: (strips, depth, width). A single column is a vector itself, not the first lane of many."""
    if columns == 1:
        return 1, depth, 1
    width = strip_width(columns, VECTOR_BYTES // np.dtype(dtype).itemsize, WIDEST_STRIP)
    return -(-columns // width), depth, width


def pack(weight: Array) -> tuple[Array, Array]:
    """A weight (in, out) as strips, at a cache line's start, and the sum of its rows."""
    depth, columns = weight.shape
    shape = strip_shape(depth, columns, weight.dtype)
    memory = np.zeros(shape[0] * depth * shape[2] + VECTOR_BYTES // weight.itemsize, weight.dtype)
    aligned = -(memory.ctypes.data // memory.itemsize) % (VECTOR_BYTES // weight.itemsize)
    strips = memory[aligned:][: shape[0] * depth * shape[2]].reshape(shape)
    for i, strip in enumerate(strips):
        here = weight[:, i * shape[2] : (i + 1) * shape[2]]
        strip[:, : here.shape[1]] = here
    return strips, weight.sum(axis=0, dtype=np.float64).astype(weight.dtype)


def marks_for(width: int, n_threads: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Working memory of each thread: marks of BLOCK_ROWS rows, and what most of each row is."""
    words = max(1, -(-width // WORD_BITS))
    return np.empty((n_threads, BLOCK_ROWS * words), np.int64), np.empty((n_threads, BLOCK_ROWS))


@helper
def _frequent(x):  # type: ignore[no-untyped-def]
    """What at least LEAST_ALIKE of SAMPLE elements are, and whether there is such a value."""
    step = x.size // SAMPLE
    for i in range(SAMPLE - LEAST_ALIKE + 1):
        value, alike = x[i * step + step // 2], 0
        for j in range(SAMPLE):
            alike += x[j * step + step // 2] == value
        if alike >= LEAST_ALIKE:
            return value, True
    return x.dtype.type(0), False


@helper
def _mark(words, x, zero):  # type: ignore[no-untyped-def]
    """Mark what is not `zero` of a row of at least WORD_BITS elements; returns how many are."""
    count = 0
    for b in range(words.size):
        # The last word is read from the end of the row, and loses what the word before has already.
        start = min(b * WORD_BITS, x.size - WORD_BITS)
        bits = differing_bits(x, start, zero)
        if start < b * WORD_BITS:
            bits = np.int64(np.uint64(bits) >> np.uint64(b * WORD_BITS - start))
        words[b] = bits
        count += count_bits(bits)
    return count


def _make_low_panel(rows: int, vectors: int) -> Any:
    @helper
    def panel(c, c0, ldc, a, a0, lda, b, b0, ldb, m, depth, adds, columns):  # type: ignore[no-untyped-def]
        """Tiles down a panel: as many of full height as fit, then of 2 and 1 rows."""
        one, i = c.dtype.type(1), 0
        # fmt: off
        while i + rows <= m:
            multiply_tile(rows, vectors, c, c0 + i * ldc, ldc, a, a0 + i * lda, lda, 1, b, b0, ldb, depth, one, adds,
                          columns)
            i += rows
        while i + 2 <= m:
            multiply_tile(2, vectors, c, c0 + i * ldc, ldc, a, a0 + i * lda, lda, 1, b, b0, ldb, depth, one, adds,
                          columns)
            i += 2
        if i < m:
            multiply_tile(1, vectors, c, c0 + i * ldc, ldc, a, a0 + i * lda, lda, 1, b, b0, ldb, depth, one, adds,
                          columns)
        # fmt: on

    return panel


_panel_of_1, _panel_of_2 = make_panel(TILE_ROWS_1, 1), make_panel(TILE_ROWS_2, 2)
_panel_of_3, _panel_of_4 = make_panel(TILE_ROWS_3, 3), make_panel(TILE_ROWS_4, 4)
_panel_of_5, _panel_of_6 = _make_low_panel(TILE_ROWS_6, 5), _make_low_panel(TILE_ROWS_6, 6)
_panel_of_7, _panel_of_8 = _make_low_panel(TILE_ROWS_8, 7), _make_low_panel(TILE_ROWS_8, 8)


@helper
def _multiply_rows(out, x, strips, bias, relu, first, last):  # type: ignore[no-untyped-def]
    """All terms of rows from `first` to `last`.

    Loop order: blocks of depth, so that a strip's part stays in the first-level cache; strips; tiles of rows.
    """
    m, n, k, width, lanes = last - first, out.shape[1], x.shape[1], strips.shape[2], VECTOR_BYTES // out.itemsize
    c, a, b, one = out.reshape(-1), x.reshape(-1), strips.reshape(-1), out.dtype.type(1)
    longest = max(1, PANEL_BYTES // (width * out.itemsize))
    blocks = max(1, (k + longest - 1) // longest)
    depth_block = max(1, (k + blocks - 1) // blocks)
    for s in range(strips.shape[0]):
        j0 = s * width
        columns = min(width, n - j0)
        vectors = (columns + lanes - 1) // lanes
        c0 = first * n + j0
        for k0 in range(0, max(1, k), depth_block):
            depth, a0, b0, adds = min(depth_block, k - k0), first * k + k0, (s * k + k0) * width, k0 > 0
            if vectors == 8:
                _panel_of_8(c, c0, n, a, a0, k, b, b0, width, m, depth, adds, columns)
            elif vectors == 7:
                _panel_of_7(c, c0, n, a, a0, k, b, b0, width, m, depth, adds, columns)
            elif vectors == 6:
                _panel_of_6(c, c0, n, a, a0, k, b, b0, width, m, depth, adds, columns)
            elif vectors == 5:
                _panel_of_5(c, c0, n, a, a0, k, b, b0, width, m, depth, adds, columns)
            elif vectors == 4:
                _panel_of_4(c, c0, n, a, a0, k, 1, b, b0, width, m, depth, one, adds, columns)
            elif vectors == 3:
                _panel_of_3(c, c0, n, a, a0, k, 1, b, b0, width, m, depth, one, adds, columns)
            elif vectors == 2:
                _panel_of_2(c, c0, n, a, a0, k, 1, b, b0, width, m, depth, one, adds, columns)
            else:
                _panel_of_1(c, c0, n, a, a0, k, 1, b, b0, width, m, depth, one, adds, columns)
        finish(c, n, bias, BIAS_RELU if relu else BIAS, first, last, j0, j0 + columns)


@helper
def _dot_rows(out, x, strips, bias, relu, first, last):  # type: ignore[no-untyped-def]
    """The same for a single column: a sum along each row, for the lanes of a vector share its terms."""
    weight, zero = strips.reshape(-1), out.dtype.type(0)
    for i in range(first, last):
        row, total = x[i], zero
        for j in range(weight.size):
            total += row[j] * weight[j]
        total += bias[0]
        out[i, 0] = zero if relu and total < zero else total  # a NaN stays one


@helper
def _add_marked_rows(out, marks, zeros, x, strips, bias, sums, relu, first, rows, sparse, more):  # type: ignore[no-untyped-def]
    """The marked terms of those of `rows` rows from `first` on whose bit of `sparse` is set.

    Loop order: strips, blocks of columns of x, so that a strip's part stays in the first-level cache; rows. Where there
    are `more` rows, those of the next block arrive from memory meanwhile.
    """
    n, k, width, zero = out.shape[1], x.shape[1], strips.shape[2], out.dtype.type(0)
    c, a, b = out.reshape(-1), x.reshape(-1), strips.reshape(-1)
    words = (k + WORD_BITS - 1) // WORD_BITS
    # Many a row of the weight is picked by no row of x: twice as many as fit stay there.
    together = max(1, 2 * PANEL_BYTES // (WORD_BITS * width * out.itemsize)) if rows > 1 else words
    for i in range(rows):
        if (sparse >> i) & 1:
            row, base = out[first + i], out.dtype.type(zeros[i])
            for j in range(n):
                row[j] = bias[j] + base * sums[j] if base != zero else bias[j]
    for s in range(strips.shape[0]):
        columns = min(width, n - s * width)
        for w in range(0, words, together):
            here, b0 = min(together, words - w), (s * k + w * WORD_BITS) * width
            for i in range(rows):
                if (sparse >> i) & 1 and (here > 1 or marks[i * words + w] != 0):
                    c0, a0 = (first + i) * n + s * width, (first + i) * k + w * WORD_BITS
                    base = out.dtype.type(zeros[i])
                    if s == 0 and more:
                        for line in range(0, here * WORD_BITS, CACHE_LINE // x.itemsize):
                            prefetch(a, a0 + BLOCK_ROWS * k + line)
                    add_marked(c, c0, a, a0, base, b, b0, width, marks, i * words + w, here, columns)
    if relu:
        for i in range(rows):
            if (sparse >> i) & 1:
                row = out[first + i]
                for j in range(n):
                    row[j] = zero if row[j] < zero else row[j]  # in this order a NaN stays one


@helper
def linear_rows(out, marks, zeros, x, strips, bias, sums, most, reach, relu, first, last):  # type: ignore[no-untyped-def]
    """`packed_linear` for rows from `first` to `last`."""
    k = x.shape[1]
    words = (k + WORD_BITS - 1) // WORD_BITS
    if strips.shape[2] == 1:
        _dot_rows(out, x, strips, bias, relu, first, last)
        return
    for i0 in range(first, last, BLOCK_ROWS):
        rows, sparse = min(BLOCK_ROWS, last - i0), np.int64(0)
        if k >= WORD_BITS and most > 0:
            for i in range(rows):
                value, is_frequent = _frequent(x[i0 + i])
                if is_frequent and abs(value) <= reach:
                    zeros[i] = value
                    if _mark(marks[i * words : (i + 1) * words], x[i0 + i], value) <= most * k:
                        sparse |= np.int64(1) << i
        if sparse != 0:
            _add_marked_rows(out, marks, zeros, x, strips, bias, sums, relu, i0, rows, sparse, i0 + rows < last)
        i = 0
        while i < rows:  # the others, as many neighbours together as there are
            j = i
            while j < rows and not (sparse >> j) & 1:
                j += 1
            if j > i:
                _multiply_rows(out, x, strips, bias, relu, i0 + i, i0 + j)
            i = j + 1


@kernel(reference.packed_linear, scratch=2)
def packed_linear(
    out: Array,
    marks: NDArray[np.int64],
    zeros: NDArray[np.float64],
    x: Array,
    strips: Array,
    bias: Array,
    sums: Array,
    most: float,
    reach: float,
    relu: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``x @ weight + bias``, through a ReLU where asked.

    Parameters
    ----------
    out : (n, out_features)
        C-contiguous, like every array here; all floats of one dtype but `zeros`.
    marks, zeros
        From `marks_for`.
    x : (n, in_features)
    strips, sums
        From `pack`.
    bias : (out_features,)
    most : float
        Up to what share of other values a row's most frequent one is skipped; 0: nothing is.
    reach : float
        How large that value may be: what it is larger than others costs these digits.

    Notes
    -----
    Loop order: blocks of BLOCK_ROWS rows; see `_multiply_rows` and `_add_marked_rows`. Each thread does its share of
    the rows.
    """
    first, last = share(out.shape[0], tid, n_threads, 8)
    linear_rows(out, marks[tid], zeros[tid], x, strips, bias, sums, most, reach, relu, first, last)
