"""Rows of a table, looked up by the numbers in some columns of an array, and put into some columns of another."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.team import share


@helper
def entry_of(value: Any, entries: int) -> int:
    """The table's row that a number names, or -1: it may be too large, no whole number, or NaN."""
    return int(value) if 0 <= value < entries and int(value) == value else -1


@kernel(reference.look_up, in_place=True)
def look_up(
    out: NDArray[Any],
    weight: NDArray[Any],
    x: NDArray[Any],
    first: int,
    column: int,
    lookups: int,
    tid: int,
    n_threads: int,
) -> None:
    """``out[i, first + k * dim : …] = weight[x[i, column + k]]`` for so many lookups k; other columns of `out` stay.

    Parameters
    ----------
    out : (n, columns)
    weight : (entries, dim)
    x : (n, features), of the same dtype
        Whole numbers from 0 to entries - 1. What is none is read as 0: no address is made of it.

    Notes
    -----
    Loop order: rows, lookups, columns. Each thread does its share of the rows.
    """
    entries, dim = weight.shape
    start, stop = share(out.shape[0], tid, n_threads, 1)
    for i in range(start, stop):
        for k in range(lookups):
            entry = max(0, entry_of(x[i, column + k], entries))
            for j in range(dim):
                out[i, first + k * dim + j] = weight[entry, j]


@kernel(reference.look_up_backward, in_place=True)
def look_up_backward(
    out: NDArray[Any],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    first: int,
    column: int,
    lookups: int,
    alpha: float,
    accumulate: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``out[x[i, column + k]] += alpha * grad_out[i, first + k * dim : …]``; without `accumulate` from zeros on.

    With ``alpha = -lr`` and the table itself for `out` that is a step of SGD, which touches the rows that occur alone.

    Parameters
    ----------
    out : (entries, dim)
    grad_out : (n, columns)
    x : (n, features)
        As in `look_up`.
    alpha : scalar of the arrays' dtype

    Notes
    -----
    Loop order: rows, lookups, columns, so that sums go in the order of the rows. Each thread does its share of the
    table's rows, and passes over what belongs to others.
    """
    entries, dim = out.shape
    start, stop = share(entries, tid, n_threads, 1)
    if not accumulate:
        for entry in range(start, stop):
            for j in range(dim):
                out[entry, j] = 0
    for i in range(x.shape[0]):
        for k in range(lookups):
            entry = max(0, entry_of(x[i, column + k], entries))
            if start <= entry < stop:
                for j in range(dim):
                    out[entry, j] += alpha * grad_out[i, first + k * dim + j]
