"""Lazy updates: what an SGD step adds to every row of a weight alike is put off.

Rows x of mostly zeros whose numbers are all shifted (`products.marked`) change every row of the weight: the step is
``alpha * (x + shift).T @ g``, and ``alpha * shift * sum of g's rows`` of it is the same in all rows. In a small batch
that would cost more than all the rest. So the weight lacks that row, `pending`, for some steps, and `totals` are kept,
the sums of its columns as it is::

    (x + shift) @ (W + pending)  =  x @ W + shift * totals + (sum of x's row + width * shift) * pending

What is left to do goes by nonzeros. (Lazy updates for sparse SGD: Carpenter 2008.) Now and then the weight gets what it
lacks, see `settle`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.reference.lazy import BEGIN, LEAVE, RENEW, RESUME
from fastfnn_kernels.team import share

__all__ = ["BEGIN", "LEAVE", "RENEW", "RESUME", "add_pending", "defer", "settle"]

#: Columns of a share come in multiples of this: a vector of float32.
GRAIN = 16


@kernel(reference.add_pending, outputs=2, in_place=True)
def add_pending(
    out: NDArray[Any],
    sums: NDArray[Any],
    x: NDArray[Any],
    totals: NDArray[Any],
    pending: NDArray[Any],
    shift: float,
    relu: bool,
    tid: int,
    n_threads: int,
) -> None:
    """What ``out = x @ weight + bias`` lacks, through a ReLU where asked; and the sums of the rows of x.

    Parameters
    ----------
    out : (n, columns)
        C-contiguous, like every array here; all of one dtype.
    sums : (n,)
    x : (n, width)
    totals, pending : (columns,)
    shift : scalar of the arrays' dtype

    Notes
    -----
    Loop order: rows, columns. Each thread does its share of the rows.
    """
    first, last = share(out.shape[0], tid, n_threads, 1)
    zero, width = out.dtype.type(0), x.shape[1]
    for i in range(first, last):
        total = zero
        for k in range(width):
            total += x[i, k]
        sums[i] = total
        factor = total + width * shift
        for j in range(out.shape[1]):
            value = out[i, j] + (shift * totals[j] + factor * pending[j])
            out[i, j] = zero if relu and value < zero else value  # in this order a NaN stays one


@kernel(reference.defer, outputs=2, in_place=True)
def defer(
    pending: NDArray[Any],
    totals: NDArray[Any],
    sums: NDArray[Any],
    grad_out: NDArray[Any],
    shift: float,
    alpha: float,
    tid: int,
    n_threads: int,
) -> None:
    """Put off ``alpha * shift * sum of grad_out's rows``; and what ``alpha * x.T @ grad_out`` adds to the totals.

    Parameters
    ----------
    pending, totals : (columns,)
    sums : (n,)
        Of the rows of x.
    grad_out : (n, columns)
    shift, alpha : scalars of the arrays' dtype

    Notes
    -----
    Loop order: rows, columns. Each thread does its share of the columns.
    """
    start, stop = share(pending.size, tid, n_threads, GRAIN)
    put_off = alpha * shift
    for i in range(grad_out.shape[0]):
        own = alpha * sums[i]
        for j in range(start, stop):
            pending[j] += put_off * grad_out[i, j]
            totals[j] += own * grad_out[i, j]


@kernel(reference.settle, outputs=4, in_place=True)
def settle(
    weight: NDArray[Any],
    kept: NDArray[Any],
    pending: NDArray[Any],
    totals: NDArray[Any],
    when: int,
    tid: int,
    n_threads: int,
) -> None:
    """Give the weight what it lacks, or find out what it lacks now.

    Parameters
    ----------
    weight, kept : (width, columns)
    pending, totals : (columns,)
    when : int
        ``BEGIN``: the weight lacks nothing, whatever `pending` says. ``RENEW``: it gets the row and lacks nothing.
        ``LEAVE``: it gets the row for somebody to look at, and is `kept` as it was. ``RESUME`` after that: columns in
        which nobody has changed a number are again as they were; the others lack nothing.

    Notes
    -----
    So the same steps give the same bits wherever a caller looked at the weight between them. Loop order: rows, columns.
    Each thread does its share of the columns.
    """
    start, stop = share(pending.size, tid, n_threads, GRAIN)
    width, columns = weight.shape
    flat, copy, zero = weight.reshape(-1), kept.reshape(-1), weight.dtype.type(0)
    count = np.uint64(max(0, stop - start))  # unsigned, see `gemm.finish`
    owed, sums = pending[start:stop], totals[start:stop]
    if when == LEAVE:
        for k in range(width):
            base = np.uint64(k * columns + start)
            for j in range(count):
                copy[base + j] = flat[base + j]
                flat[base + j] += owed[j]
        return
    if when == RESUME:
        differ = np.int64(0)
        for k in range(width):
            base = np.uint64(k * columns + start)
            for j in range(count):
                differ += flat[base + j] != copy[base + j] + owed[j]
        if differ == 0:
            for k in range(width):
                base = np.uint64(k * columns + start)
                for j in range(count):
                    flat[base + j] = copy[base + j]
            return
        for j in range(stop - start):  # seldom, and so not by rows
            same = True
            for k in range(width):
                same = same and flat[k * columns + start + j] == copy[k * columns + start + j] + owed[j]
            for k in range(width if same else 0):
                flat[k * columns + start + j] = copy[k * columns + start + j]
            if not same:
                owed[j], sums[j] = zero, zero
                for k in range(width):
                    sums[j] += flat[k * columns + start + j]
        return
    for j in range(count):
        owed[j] = zero if when == BEGIN else owed[j]
        sums[j] = zero
    for k in range(width):
        base = np.uint64(k * columns + start)
        for j in range(count):
            flat[base + j] += owed[j]
            sums[j] += flat[base + j]
    for j in range(count):
        owed[j] = zero
