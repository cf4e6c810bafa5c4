"""Rows of a table, looked up by number. Results are float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _entries(x: ArrayLike, column: int, lookups: int, entries: int) -> NDArray[np.int64]:
    """The rows of the table that are named; what names none is taken for 0."""
    numbers = np.asarray(x)[:, column : column + lookups]
    with np.errstate(invalid="ignore"):
        names = (numbers >= 0) & (numbers < entries) & (numbers == np.floor(numbers))
    return np.where(names, numbers, 0).astype(np.int64)


def look_up(out: ArrayLike, weight: ArrayLike, x: ArrayLike, first: int, column: int, lookups: int) -> Array:
    """`out` with the rows of the table that some columns of `x` name, from the column `first` on."""
    result, table = np.array(out, np.float64), np.asarray(weight, np.float64)
    found = table[_entries(x, column, lookups, len(table))].reshape(len(result), lookups * table.shape[1])
    result[:, first : first + found.shape[1]] = found
    return result


def look_up_backward(
    out: ArrayLike,
    grad_out: ArrayLike,
    x: ArrayLike,
    first: int,
    column: int,
    lookups: int,
    alpha: float,
    accumulate: bool,
) -> Array:
    """`out`, or zeros, with each lookup's gradient, times `alpha`, added to the row that it took."""
    result = np.array(out, np.float64) if accumulate else np.zeros(np.shape(out))
    (_, dim), entries = np.shape(out), _entries(x, column, lookups, len(result))
    grads = np.asarray(grad_out, np.float64)[:, first : first + lookups * dim].reshape(*entries.shape, dim)
    np.add.at(result, entries, alpha * grads)
    return result


def embedding(x: ArrayLike, weight: ArrayLike) -> Array:
    """``weight[x]``, with whole numbers of any dtype in `x`."""
    return np.asarray(weight, np.float64)[np.asarray(x).astype(np.int64)]


def embedding_backward(grad_out: ArrayLike, x: ArrayLike, entries: int) -> Array:
    """The gradient of a table of so many entries: each lookup's is added to the row that it took."""
    grads = np.asarray(grad_out, np.float64)
    result = np.zeros((entries, grads.shape[-1]))
    np.add.at(result, np.asarray(x).astype(np.int64), grads)
    return result
