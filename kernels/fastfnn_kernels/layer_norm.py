"""Layer normalisation (Ba et al. 2016) of rows: each by its own mean and variance.

Loop order: rows, columns; sums over a row are of one thread, so they do not depend on how many there are. As in
`batch_norm`, means are float64, and a rounded mean is subtracted *first*: right also for a mean far from 0. What the
rounding left over is the shift.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.team import share

#: Columns: whole turns of a vectorised loop. What is left over behind those may be rounded differently.
GRAIN = 64


@kernel(reference.layer_norm_rows, outputs=2)
def layer_norm_rows(
    out: NDArray[Any],
    statistics: NDArray[Any],
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    eps: float,
    tid: int,
    n_threads: int,
) -> None:
    """``x̂ * weight + bias`` with ``x̂ = (x - centre) * factor + shift``.

    x is (rows, columns), weight and bias are (columns,); statistics (rows, 3) are centre, factor and shift, which the
    backward takes. Each thread does its rows.
    """
    start, stop = share(x.shape[0], tid, n_threads, 1)
    out, statistics, x = out[start:stop], statistics[start:stop], x[start:stop]
    rows, columns = x.shape
    dtype, each = x.dtype.type, 1.0 / max(1, columns)
    for i in range(rows):
        total = 0.0
        for j in range(columns):
            total += np.float64(x[i, j])
        mean = total * each
        centre = dtype(mean)
        rest = mean - np.float64(centre)
        squares = dtype(0)
        for j in range(columns):
            distance = x[i, j] - centre
            squares += distance * distance
        deviation = np.sqrt(np.float64(squares) * each - rest * rest + eps)
        factor, shift = dtype(1.0 / deviation), dtype(-rest / deviation)
        statistics[i, 0] = centre
        statistics[i, 1] = factor
        statistics[i, 2] = shift
        for j in range(columns):
            out[i, j] = ((x[i, j] - centre) * factor + shift) * weight[j] + bias[j]


@kernel(reference.layer_norm_rows_backward)
def layer_norm_rows_backward(
    grad_x: NDArray[Any],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    statistics: NDArray[Any],
    weight: NDArray[Any],
    tid: int,
    n_threads: int,
) -> None:
    """``factor * (g - mean(g) - x̂ mean(g x̂))`` with ``g = grad_out * weight``. Each thread does its rows."""
    start, stop = share(x.shape[0], tid, n_threads, 1)
    grad_x, grad_out, x, statistics = (
        grad_x[start:stop],
        grad_out[start:stop],
        x[start:stop],
        statistics[start:stop],
    )
    rows, columns = x.shape
    dtype = x.dtype.type
    each = dtype(1.0 / max(1, columns))
    for i in range(rows):
        centre, factor, shift = statistics[i, 0], statistics[i, 1], statistics[i, 2]
        plain, along = dtype(0), dtype(0)
        for j in range(columns):
            g = grad_out[i, j] * weight[j]
            plain += g
            along += g * ((x[i, j] - centre) * factor + shift)
        plain *= each
        along *= each
        for j in range(columns):
            normal = (x[i, j] - centre) * factor + shift
            grad_x[i, j] = factor * (grad_out[i, j] * weight[j] - plain - normal * along)


@kernel(reference.layer_norm_backward_weight, outputs=2, in_place=True)
def layer_norm_backward_weight(
    grad_weight: NDArray[Any],
    grad_bias: NDArray[Any],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    statistics: NDArray[Any],
    accumulate: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``grad_weight (+)= Σ grad_out * x̂`` and ``grad_bias (+)= Σ grad_out`` over the rows.

    Each thread does its share of the columns, row after row.
    """
    start, stop = share(x.shape[1], tid, n_threads, GRAIN)
    grad_weight, grad_bias = grad_weight[start:stop], grad_bias[start:stop]
    if not accumulate:
        for j in range(grad_weight.size):
            grad_weight[j] = 0
            grad_bias[j] = 0
    for i in range(x.shape[0]):
        centre, factor, shift = statistics[i, 0], statistics[i, 1], statistics[i, 2]
        grads, row = grad_out[i, start:stop], x[i, start:stop]
        for j in range(grad_weight.size):
            grad_weight[j] += grads[j] * ((row[j] - centre) * factor + shift)
        for j in range(grad_bias.size):
            grad_bias[j] += grads[j]
