"""Products with a sparse matrix, which is a list of nonzeros (value and column) for each of its rows.

Row i has ``counts[i]`` of them, the first of ``values[i]`` and ``columns[i]``; what lies behind means nothing. A column
may come more than once: its values add up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def csr_nonzeros(
    values: ArrayLike,
    columns: ArrayLike,
    counts: ArrayLike,
    starts: Array,
    indices: Array,
    data: Array,
    factor: float = 1.0,
) -> tuple[Array, Array, Array]:
    """The nonzeros of the rows of a CSR matrix: row i is what lies from ``starts[i]`` to ``starts[i + 1]``."""
    new_values, new_columns = np.array(values, np.float64), np.array(columns)
    new_counts = np.diff(starts)
    for i, count in enumerate(new_counts):
        here = slice(starts[i], starts[i + 1])
        new_values[i, :count] = np.asarray(data[here], np.float64) * factor
        new_columns[i, :count] = indices[here]
    return new_values, new_columns, new_counts


def sparse_linear(
    values: ArrayLike,
    columns: Array,
    counts: Array,
    weight: ArrayLike,
    bias: ArrayLike,
    shift: float = 0.0,
    relu: bool = False,
) -> NDArray[np.float64]:
    """``(x + shift) @ weight + bias``, through a ReLU where asked; NaN stays NaN."""
    weight, values = np.asarray(weight, np.float64), np.asarray(values, np.float64)
    out = np.zeros((len(counts), weight.shape[1])) + np.asarray(bias, np.float64)
    if shift:
        out += float(shift) * weight.sum(axis=0)
    # Not with the dense matrix: a zero is skipped, so that it makes no NaN of a weight that is one.
    for i, count in enumerate(counts):
        out[i] += values[i, :count] @ weight[columns[i, :count]]
    return np.where(out < 0, 0, out) if relu else out


def sparse_backward_weight(
    grad_weight: ArrayLike,
    values: ArrayLike,
    columns: Array,
    counts: Array,
    grad_out: ArrayLike,
    shift: float = 0.0,
    alpha: float = 1.0,
    accumulate: bool = False,
) -> NDArray[np.float64]:
    """``grad_weight (+)= alpha * (x + shift).T @ grad_out``."""
    grad, values = np.asarray(grad_out, np.float64), np.asarray(values, np.float64)
    out = np.zeros(np.shape(grad_weight))
    if shift:
        out += float(shift) * grad.sum(axis=0)
    for i, count in enumerate(counts):
        np.add.at(out, columns[i, :count], np.outer(values[i, :count], grad[i]))
    return float(alpha) * out + (np.asarray(grad_weight, np.float64) if accumulate else 0)
