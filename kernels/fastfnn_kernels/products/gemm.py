"""Matrix products: one micro-kernel and the visible loops around it.

``out (+)= alpha * op(a) @ op(b)``, then an epilogue while the result is still in the first-level cache. There is no
packing of `a` and no recursion; small products are the main case. What each loop is for::

    rows in blocks of ROW_BLOCK         a block of `a` stays in the second-level cache
      depth in blocks (_depth_block)    a panel of `b` stays in the first-level cache
        columns in panels of vectors    a panel is packed: contiguous, aligned, transposed where need be
          rows in tiles                 multiply_tile: the sum in registers (simd/tile.py)

An element of `out` is summed over the depth in one fixed order, whichever thread, panel or tile it falls to: results
are the same bit for bit for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.reference.gemm import BIAS, BIAS_RELU, NO_EPILOGUE, RELU_MASK
from fastfnn_kernels.simd import VECTOR_BYTES, VECTOR_REGISTERS, copy_vector, multiply_tile, transpose_block
from fastfnn_kernels.team import share

__all__ = ["BIAS", "BIAS_RELU", "NO_EPILOGUE", "RELU_MASK", "gemm", "scratch_for"]

#: Panels are at most this many vectors wide; their tiles then have the heights below, which fill the registers:
#: rows * vectors accumulators, `vectors` of b, one of a, and the mask.
WIDEST_PANEL = 4 if VECTOR_REGISTERS == 32 else 2
TILE_ROWS_4, TILE_ROWS_3 = 6, 8  # wider than 16 registers hold
TILE_ROWS_2, TILE_ROWS_1 = (12, 14) if VECTOR_REGISTERS == 32 else (6, 8)

#: Bytes of a packed panel of `b`: less than a first-level cache, so that rows of `a` fit beside it. Narrower vectors
#: have narrower panels, which would otherwise be so deep that the rows of `a` drive them out.
PANEL_BYTES = (28 if VECTOR_BYTES == 64 else 14) * 1024
ROW_BLOCK = 512
#: With fewer rows than this, packing a panel costs more than it saves (a transposed `b` is always packed).
ROWS_WORTH_PACKING = 192 if VECTOR_BYTES == 64 else 32


def scratch_for(dtype: Any, n_threads: int = 1) -> NDArray[Any]:
    """Working memory that `gemm` needs: a packed panel for each thread."""
    return np.empty((n_threads, PANEL_BYTES // np.dtype(dtype).itemsize), dtype)


def make_panel(rows: int, vectors: int) -> Any:
    @helper
    def panel(c, c0, ldc, a, a0, a_row, a_k, b, b0, ldb, m, depth, alpha, accumulate, columns):  # type: ignore[no-untyped-def]
        """Tiles down a panel `vectors` vectors wide: as many of full height as fit, then of 4, 2 and 1 rows."""
        # fmt: off
        i = 0
        while i + rows <= m:
            multiply_tile(rows, vectors, c, c0 + i * ldc, ldc, a, a0 + i * a_row, a_row, a_k, b, b0, ldb, depth,
                          alpha, accumulate, columns)
            i += rows
        while i + 4 <= m:
            multiply_tile(4, vectors, c, c0 + i * ldc, ldc, a, a0 + i * a_row, a_row, a_k, b, b0, ldb, depth,
                          alpha, accumulate, columns)
            i += 4
        if i + 2 <= m:
            multiply_tile(2, vectors, c, c0 + i * ldc, ldc, a, a0 + i * a_row, a_row, a_k, b, b0, ldb, depth,
                          alpha, accumulate, columns)
            i += 2
        if i < m:
            multiply_tile(1, vectors, c, c0 + i * ldc, ldc, a, a0 + i * a_row, a_row, a_k, b, b0, ldb, depth,
                          alpha, accumulate, columns)
        # fmt: on

    return panel


_panel_of_4 = make_panel(TILE_ROWS_4, 4)
_panel_of_3 = make_panel(TILE_ROWS_3, 3)
_panel_of_2 = make_panel(TILE_ROWS_2, 2)
_panel_of_1 = make_panel(TILE_ROWS_1, 1)


@helper
def _panel_width(vectors_left: int) -> int:
    """Vectors of the next panel: the widest, but the last two share what is left (7 is 4 + 3, not 4 + 2 + 1)."""
    if vectors_left <= WIDEST_PANEL:
        return vectors_left
    if vectors_left < 2 * WIDEST_PANEL:
        return (vectors_left + 1) // 2
    return WIDEST_PANEL


@helper
def _depth_block(depth: int) -> int:
    """Depth in equal blocks, each short enough for a panel of the widest kind to fit PANEL_BYTES."""
    longest = PANEL_BYTES // (WIDEST_PANEL * VECTOR_BYTES)
    blocks = (depth + longest - 1) // longest
    return (depth + blocks - 1) // blocks


@helper
def _pack(panel, width, b, b0, ldb, depth, columns):  # type: ignore[no-untyped-def]
    """Copy `columns` columns of row-major `b` to rows of `width` elements; the rest of each row is zero."""
    lanes = VECTOR_BYTES // b.itemsize
    for k in range(depth):
        for j in range(0, width, lanes):
            copy_vector(panel, k * width + j, b, b0 + k * ldb + j, min(lanes, columns - j))


@helper
def _pack_transposed(panel, width, b, b0, ldb, depth, columns):  # type: ignore[no-untyped-def]
    """The same from a transposed `b`, whose row j holds column j."""
    lanes = VECTOR_BYTES // b.itemsize
    for j in range(0, width, lanes):
        for k in range(0, depth, lanes):
            rows = min(lanes, columns - j)
            transpose_block(panel, k * width + j, width, b, b0 + j * ldb + k, ldb, rows, min(lanes, depth - k), lanes)


@helper
def finish(c, ldc, extra, epilogue, i0, i1, j0, j1):  # type: ignore[no-untyped-def]
    """Apply the epilogue to rows i0..i1 and columns j0..j1 of the finished product.

    Indices are unsigned: a signed one could be negative for all numba knows, and its test for wrapping round would
    keep the loops from being vectorised.
    """
    zero = c.dtype.type(0)
    first, columns = np.uint64(j0), np.uint64(j1 - j0)
    for i in range(i0, i1):
        start = np.uint64(i * ldc) + first
        if epilogue == BIAS:
            for j in range(columns):
                c[start + j] += extra[first + j]
        elif epilogue == BIAS_RELU:
            for j in range(columns):
                value = c[start + j] + extra[first + j]
                c[start + j] = zero if value < zero else value  # in this order a NaN stays one
        elif epilogue == RELU_MASK:
            for j in range(columns):
                c[start + j] = c[start + j] if extra[start + j] > zero else zero


@kernel(reference.gemm, scratch=1, in_place=True)
def gemm(
    out: NDArray[Any],
    scratch: NDArray[Any],
    a: NDArray[Any],
    b: NDArray[Any],
    extra: NDArray[Any],
    transpose_a: bool,
    transpose_b: bool,
    alpha: float,
    accumulate: bool,
    epilogue: int,
    tid: int,
    n_threads: int,
) -> None:
    """``out (+)= alpha * op(a) @ op(b)``, followed by an epilogue.

    Parameters
    ----------
    out : (m, n)
        C-contiguous, like every array here; all of one dtype, float32 or float64. Not read unless `accumulate`.
    scratch : (n_threads, …)
        From `scratch_for`.
    a : (m, k), or (k, m) with `transpose_a`
    b : (k, n), or (n, k) with `transpose_b`
    extra : (n,) or (m * n,)
        The bias for ``BIAS`` and ``BIAS_RELU``. For ``RELU_MASK`` the flattened output of a ReLU: the product is
        zeroed where it is not positive. Empty for ``NO_EPILOGUE``.
    alpha : scalar of the arrays' dtype
    epilogue : int
        ``NO_EPILOGUE``, ``BIAS``, ``BIAS_RELU`` or ``RELU_MASK``.

    Notes
    -----
    Each thread writes a slice of the rows of `out`, or of its columns where there are too few rows. A single column is
    taken for a row: else all lanes but one of its vectors would idle.
    """
    m, n = out.shape
    depth = a.shape[0] if transpose_a else a.shape[1]
    a_row, a_k = (1, a.shape[1]) if transpose_a else (a.shape[1], 1)
    ldb, a_width = b.shape[1], a.shape[1]
    c, a, b = out.reshape(-1), a.reshape(-1), b.reshape(-1)
    panel = scratch[tid]
    lanes = VECTOR_BYTES // out.itemsize
    is_column = n == 1 and m >= lanes
    if is_column:  # vectors lie along it: a row, out.T = op(b).T @ op(a).T
        m, n, a, b, a_row, a_k, ldb, transpose_b = 1, m, b, a, 0, 1, a_width, not transpose_a

    first_row, last_row, first_column, last_column = 0, m, 0, n
    if m >= 8 * n_threads or m >= n:
        first_row, last_row = share(m, tid, n_threads, 8)
    else:
        first_column, last_column = share(n, tid, n_threads, lanes)
    packed = transpose_b or last_row - first_row >= ROWS_WORTH_PACKING
    depth_block = max(1, _depth_block(depth))

    for i0 in range(first_row, last_row, ROW_BLOCK):
        rows = min(ROW_BLOCK, last_row - i0)
        for k0 in range(0, max(1, depth), depth_block):
            depth_here = min(depth_block, depth - k0)
            adds = accumulate or k0 > 0
            a0 = i0 * a_row + k0 * a_k
            j0 = first_column
            while j0 < last_column:
                vectors = _panel_width((last_column - j0 + lanes - 1) // lanes)
                width = vectors * lanes
                columns = min(width, last_column - j0)
                b_panel, b0, b_width = b, k0 * ldb + j0, ldb
                if packed:
                    b_panel, b0, b_width = panel, 0, width
                    if transpose_b:
                        _pack_transposed(panel, width, b, j0 * ldb + k0, ldb, depth_here, columns)
                    else:
                        _pack(panel, width, b, k0 * ldb + j0, ldb, depth_here, columns)
                # fmt: off
                if vectors == 4:
                    _panel_of_4(c, i0 * n + j0, n, a, a0, a_row, a_k, b_panel, b0, b_width, rows, depth_here,
                                alpha, adds, columns)
                elif vectors == 3:
                    _panel_of_3(c, i0 * n + j0, n, a, a0, a_row, a_k, b_panel, b0, b_width, rows, depth_here,
                                alpha, adds, columns)
                elif vectors == 2:
                    _panel_of_2(c, i0 * n + j0, n, a, a0, a_row, a_k, b_panel, b0, b_width, rows, depth_here,
                                alpha, adds, columns)
                else:
                    _panel_of_1(c, i0 * n + j0, n, a, a0, a_row, a_k, b_panel, b0, b_width, rows, depth_here,
                                alpha, adds, columns)
                # fmt: on
                if epilogue != NO_EPILOGUE and k0 + depth_here >= depth:
                    if is_column:
                        finish(c, 1, extra, epilogue, j0, j0 + columns, 0, 1)
                    else:
                        finish(c, n, extra, epilogue, i0, i0 + rows, j0, j0 + columns)
                j0 += width
