"""Products with lists of nonzeros: for matrices that are nearly all zeros, such as counts of words.

Nonzeros lie by rows: ``values[i]`` and ``columns[i]`` (int32) hold those of row i, as many as ``counts[i]`` says; what
lies behind means nothing. They need not be in order, and a column that comes twice is summed.

A shift of all numbers is folded as in `marked`, where it is explained. So are matrices of which more is left: there the
rows of a weight are walked in order, here each nonzero picks one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import inlined, kernel
from fastfnn_kernels.products.marked import strip_width
from fastfnn_kernels.simd import VECTOR_BYTES, WIDEST_STRIP, add_rows, add_to_rows
from fastfnn_kernels.team import share

__all__ = ["csr_nonzeros", "scratch_for", "sparse_backward_weight", "sparse_linear"]


@kernel(reference.csr_nonzeros, outputs=3, in_place=True)
def csr_nonzeros(
    values: NDArray[Any],
    columns: NDArray[Any],
    counts: NDArray[Any],
    starts: NDArray[Any],
    indices: NDArray[Any],
    data: NDArray[Any],
    factor: float,
    tid: int,
    n_threads: int,
) -> None:
    """The nonzeros of rows of a CSR matrix: row i lies from ``starts[i]`` to ``starts[i + 1]``.

    Parameters
    ----------
    values, columns : (n, at least the longest row)
    counts : (n,) int64
    starts : (n + 1,) int64
    indices, data : (nonzeros,)
        Of any integer and any numeric dtype.
    factor : scalar of the dtype of `values`

    Notes
    -----
    Each thread does its share of the rows.
    """
    dtype = values.dtype.type
    first, last = share(counts.size, tid, n_threads, 1)
    for i in range(first, last):
        begin = starts[i]
        counts[i] = starts[i + 1] - begin
        for p in range(counts[i]):
            values[i, p] = dtype(data[begin + p]) * factor
            columns[i, p] = indices[begin + p]


def scratch_for(dtype: Any, n_threads: int = 1) -> NDArray[Any]:
    """Working memory for products: a strip of sums for each thread."""
    return np.empty((n_threads, WIDEST_STRIP * VECTOR_BYTES // np.dtype(dtype).itemsize), dtype)


@inlined
def _sum_rows(total, x, j0, shift):  # type: ignore[no-untyped-def]
    """``total = shift * sum of x's rows``, from column j0 on; `x` is not read where there is no shift."""
    for j in range(total.size):
        total[j] = x.dtype.type(0)
    if shift != x.dtype.type(0):
        for k in range(x.shape[0]):
            row = x[k, j0 : j0 + total.size]
            for j in range(total.size):
                total[j] += row[j]
    for j in range(total.size):
        total[j] *= shift


@kernel(reference.sparse_linear, scratch=1)
def sparse_linear(
    out: NDArray[Any],
    scratch: NDArray[Any],
    values: NDArray[Any],
    columns: NDArray[Any],
    counts: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    shift: float,
    relu: bool,
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
    values, columns, counts
        Nonzeros by rows, see above.
    weight : (width, out_features)
    bias : (out_features,)
    shift : scalar of the arrays' dtype

    Notes
    -----
    Loop order: strips of outputs, rows, nonzeros; the sum of a strip stays in registers. Each thread does its share of
    the rows.
    """
    first, last = share(counts.size, tid, n_threads, 1)
    capacity, n = values.shape[1], weight.shape[1]
    flat, flat_values, flat_columns = out.reshape(-1), values.reshape(-1), columns.reshape(-1)
    flat_weight = weight.reshape(-1)
    strip = strip_width(n, VECTOR_BYTES // out.itemsize, WIDEST_STRIP)
    for j0 in range(0, n, strip):
        here = min(strip, n - j0)
        start = scratch[tid, :here]
        _sum_rows(start, weight, j0, shift)
        for j in range(here):
            start[j] += bias[j0 + j]
        for i in range(first, last):
            p0, p1 = i * capacity, i * capacity + counts[i]
            add_rows(flat, i * n + j0, start, 0, flat_values, flat_columns, p0, p1, flat_weight, j0, n, here, relu)


@kernel(reference.sparse_backward_weight, scratch=1, in_place=True)
def sparse_backward_weight(
    grad_weight: NDArray[Any],
    scratch: NDArray[Any],
    values: NDArray[Any],
    columns: NDArray[Any],
    counts: NDArray[Any],
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
    values, columns, counts
        Nonzeros by rows, see above.
    grad_out : (n, out_features)
    shift, alpha : scalars of the arrays' dtype

    Notes
    -----
    Loop order: strips of outputs, rows, nonzeros. A strip of a row of `grad_out` stays in registers. Each thread writes
    its share of the outputs.
    """
    n, capacity, zero = grad_out.shape[1], values.shape[1], grad_weight.dtype.type(0)
    flat, flat_grad = grad_weight.reshape(-1), grad_out.reshape(-1)
    flat_values, flat_columns, lanes = values.reshape(-1), columns.reshape(-1), VECTOR_BYTES // grad_out.itemsize
    first_column, last_column = share(n, tid, n_threads, lanes)
    strip = strip_width(n, lanes, WIDEST_STRIP)
    for j0 in range(first_column, last_column, strip):
        here = min(strip, last_column - j0)
        start = scratch[tid, :here]
        _sum_rows(start, grad_out, j0, shift)
        if not accumulate or shift != zero:
            for k in range(grad_weight.shape[0]):
                row = grad_weight[k, j0 : j0 + here]
                for j in range(here):
                    row[j] = alpha * start[j] + (row[j] if accumulate else zero)
        for i in range(counts.size):
            p0, p1 = i * capacity, i * capacity + counts[i]
            add_to_rows(flat, j0, n, flat_values, flat_columns, p0, p1, flat_grad, i * n + j0, here, alpha)
