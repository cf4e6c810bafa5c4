"""Products with a sparse matrix, which is a list of nonzeros (value and column) for each of its rows.

Row i has ``ends[i, -1]`` of them, the first of ``values[i]`` and ``columns[i]``; what lies behind means nothing. A
column may come more than once: its values add up. The other columns of `ends` say where blocks of columns end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

#: Columns of a block.
BLOCK = 64


def nonzeros(
    values: ArrayLike, columns: ArrayLike, ends: ArrayLike, x: Array, zero: float = 0.0, factor: float = 1.0
) -> tuple[Array, Array, Array]:
    """Of each row the elements that are not `zero`, as ``(x - zero) * factor``, and their columns, upwards."""
    new_values, new_columns, new_ends = np.array(values, np.float64), np.array(columns), np.array(ends)
    for i, row in enumerate(np.asarray(x, np.float64)):
        (here,) = np.nonzero(row != zero)
        new_values[i, : here.size] = (row[here] - zero) * factor
        new_columns[i, : here.size] = here
        new_ends[i] = [np.count_nonzero(here < BLOCK * (b + 1)) for b in range(new_ends.shape[1])]
    return new_values, new_columns, new_ends


def csr_nonzeros(
    values: ArrayLike,
    columns: ArrayLike,
    ends: ArrayLike,
    starts: Array,
    indices: Array,
    data: Array,
    factor: float = 1.0,
) -> tuple[Array, Array, Array]:
    """The same of the rows of a CSR matrix: row i is what lies from ``starts[i]`` to ``starts[i + 1]``."""
    new_values, new_columns, new_ends = np.array(values, np.float64), np.array(columns), np.array(ends)
    for i in range(len(starts) - 1):
        start, stop = starts[i], starts[i + 1]
        new_values[i, : stop - start] = np.asarray(data[start:stop], np.float64) * factor
        new_columns[i, : stop - start] = indices[start:stop]
        below = [np.count_nonzero(indices[start:stop] < BLOCK * (b + 1)) for b in range(new_ends.shape[1] - 1)]
        new_ends[i] = [*below, stop - start]
    return new_values, new_columns, new_ends


def sparse_linear(
    values: ArrayLike,
    columns: Array,
    ends: Array,
    weight: ArrayLike,
    bias: ArrayLike,
    shift: float = 0.0,
    relu: bool = False,
    copied: bool = False,
) -> NDArray[np.float64]:
    """``(x + shift) @ weight + bias``, through a ReLU where asked; NaN stays NaN."""
    weight, values = np.asarray(weight, np.float64), np.asarray(values, np.float64)
    out = np.zeros((len(ends), weight.shape[1])) + np.asarray(bias, np.float64)
    if shift:
        out += float(shift) * weight.sum(axis=0)
    # Not with the dense matrix: a zero is skipped, so that it makes no NaN of a weight that is one.
    for i, count in enumerate(ends[:, -1]):
        out[i] += values[i, :count] @ weight[columns[i, :count]]
    return np.where(out < 0, 0, out) if relu else out


def sparse_backward_weight(
    grad_weight: ArrayLike,
    values: ArrayLike,
    columns: Array,
    ends: Array,
    grad_out: ArrayLike,
    shift: float = 0.0,
    alpha: float = 1.0,
    accumulate: bool = False,
    copied: bool = False,
) -> NDArray[np.float64]:
    """``grad_weight (+)= alpha * (x + shift).T @ grad_out``."""
    grad, values = np.asarray(grad_out, np.float64), np.asarray(values, np.float64)
    out = np.zeros(np.shape(grad_weight))
    if shift:
        out += float(shift) * grad.sum(axis=0)
    for i, count in enumerate(ends[:, -1]):
        np.add.at(out, columns[i, :count], np.outer(values[i, :count], grad[i]))
    return float(alpha) * out + (np.asarray(grad_weight, np.float64) if accumulate else 0)
