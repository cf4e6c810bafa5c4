"""Batch and layer normalisation, and dropout.

A batch normalisation in training takes the whole batch as one chunk. The program puts a barrier between what writes
partial sums and what reads those of all threads::

    batch_norm_moments, barrier, batch_norm_apply_training
    batch_norm_backward_sums, barrier, batch_norm_backward_apply        in the weight phase: batch_norm_running

Each thread combines the partials for itself, into statistics and coefficients of its own, and all get the same. The
backward finds mean and variance where the thread's own forward left them. The backward of a fused ReLU is
`relu_backward`, before the sums.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from fastfnn_kernels import batch_norm, dropout, layer_norm
from fastfnn_kernels.operations._fields import (
    Adds,
    Array,
    Count,
    DType,
    Flag,
    Float64,
    Place,
    Tid,
    all_blocks,
    all_rows,
    array,
    blocks,
    own,
    rows,
)
from fastfnn_kernels.operations._registry import by_rows, by_shares, operation

Images = Annotated[Array, rows("channels", "spatial")]
Channels = Annotated[Array, array("channels")]
AllPartials = Annotated[Array, all_blocks(2, "channels", dtype=np.float64)]
Statistic = Annotated[Array, own("channels", dtype=np.float64)]
Coefficient = Annotated[Array, own("channels")]
Flat = Annotated[Array, rows("width", axes=1)]
Planes = Annotated[Array, rows("channels", "spatial", axes=2)]
Counter = Annotated[Array, array(1, dtype=np.int64)]
PARTIALS = blocks(2, "channels", dtype=np.float64)

_combine, _coefficients = batch_norm.batch_norm_combine.inlined, batch_norm.batch_norm_coefficients.inlined
_apply, _running = batch_norm.batch_norm_apply.inlined, batch_norm.batch_norm_running.inlined
_backward_combine = batch_norm.batch_norm_backward_combine.inlined
_backward_coefficients = batch_norm.batch_norm_backward_coefficients.inlined
_backward_apply = batch_norm.batch_norm_backward_apply.inlined
_dropout, _dropout_planes = dropout.dropout.inlined, dropout.dropout_planes.inlined

by_rows(batch_norm.batch_norm_moments, partials=PARTIALS, x=Images)


@operation
def batch_norm_apply_training(
    out: Images,
    x: Images,
    partials: AllPartials,
    mean: Statistic,
    variance: Statistic,
    centre: Coefficient,
    factor: Coefficient,
    shift: Coefficient,
    weight: Channels,
    bias: Channels,
    eps: Float64,
    relu: Flag,
    spatial: Count,
    place: Place,
) -> None:
    _combine(mean, variance, partials, place.rows, spatial, 0, 1)
    _coefficients(centre, factor, shift, mean, variance, weight, bias, eps, 0, 1)
    _apply(out, x, centre, factor, shift, relu, 0, 1)


@operation
def batch_norm_apply_inference(
    out: Images,
    x: Images,
    running_mean: Channels,
    running_var: Channels,
    centre: Coefficient,
    factor: Coefficient,
    shift: Coefficient,
    weight: Channels,
    bias: Channels,
    eps: Float64,
    relu: Flag,
) -> None:
    """Any chunk of the batch will do."""
    _coefficients(centre, factor, shift, running_mean, running_var, weight, bias, eps, 0, 1)
    _apply(out, x, centre, factor, shift, relu, 0, 1)


by_rows(
    batch_norm.batch_norm_backward_sums,
    partials=PARTIALS,
    grad_out=Images,
    x=Images,
    mean=Statistic,
    variance=Statistic,
    eps=Float64,
)


@operation
def batch_norm_backward_apply(
    grad_x: Images,
    grad_out: Images,
    x: Images,
    partials: AllPartials,
    mean: Statistic,
    variance: Statistic,
    grad_bias: Statistic,
    grad_weight: Statistic,
    centre: Coefficient,
    factor: Coefficient,
    slope: Coefficient,
    offset: Coefficient,
    weight: Channels,
    eps: Float64,
    spatial: Count,
    place: Place,
) -> None:
    _backward_combine(grad_bias, grad_weight, partials, 0, 1)
    count = place.rows * spatial
    # fmt: off
    _backward_coefficients(centre, factor, slope, offset, mean, variance, weight, grad_bias, grad_weight, count, True,
                           eps, 0, 1)
    # fmt: on
    _backward_apply(grad_x, grad_out, x, centre, factor, slope, offset, 0, 1)


@operation
def batch_norm_running(
    grad_weight: Annotated[Array, array("channels", optional=True)],
    grad_bias: Annotated[Array, array("channels", optional=True)],
    running_mean: Channels,
    running_var: Channels,
    partials: AllPartials,
    grad_partials: AllPartials,
    mean: Statistic,
    variance: Statistic,
    weight_sum: Statistic,
    bias_sum: Statistic,
    momentum: Float64,
    spatial: Count,
    place: Place,
    dtype: DType,
) -> None:
    """What a step leaves behind, once a step and by the first thread, which need not have had rows."""
    if place.tid == 0:
        _combine(mean, variance, partials, place.rows, spatial, 0, 1)
        _running(running_mean, running_var, mean, variance, place.rows * spatial, momentum, 0, 1)
        _backward_combine(bias_sum, weight_sum, grad_partials, 0, 1)
        for j in range(grad_weight.size):
            grad_weight[j] = dtype(weight_sum[j])
            grad_bias[j] = dtype(bias_sum[j])


@operation
def dropout_forward(out: Flat, x: Flat, width: Count, p: Float64, seed: Count, counter: Counter, place: Place) -> None:
    """Forward and backward."""
    _dropout(out, x, p, seed, counter[0], (place.piece + place.first) * width, 0, 1)


@operation
def dropout_planes_forward(
    out: Planes, x: Planes, channels: Count, p: Float64, seed: Count, counter: Counter, place: Place
) -> None:
    """The same for whole channels of images."""
    _dropout_planes(out, x, p, seed, counter[0], (place.piece + place.first) * channels, 0, 1)


@operation
def dropout_step(counter: Counter, tid: Tid) -> None:
    """An update, after which the next step has another mask."""
    if tid == 0:
        counter[0] += 1


# Layer normalisation: of each block, of which a row has so many.
BLOCKS, STATISTICS, COLUMNS = rows("blocks", "width", axes=2), rows("blocks", 3, axes=2), array("width")

by_rows(
    layer_norm.layer_norm_rows, out=BLOCKS, statistics=STATISTICS, x=BLOCKS, weight=COLUMNS, bias=COLUMNS, eps=Float64
)
by_rows(
    layer_norm.layer_norm_rows_backward, grad_x=BLOCKS, grad_out=BLOCKS, x=BLOCKS, statistics=STATISTICS, weight=COLUMNS
)
by_shares(
    layer_norm.layer_norm_backward_weight,
    grad_weight=COLUMNS,
    grad_bias=COLUMNS,
    grad_out=all_rows("blocks", "width", axes=2),
    x=all_rows("blocks", "width", axes=2),
    statistics=all_rows("blocks", 3, axes=2),
    accumulate=Adds,
)
