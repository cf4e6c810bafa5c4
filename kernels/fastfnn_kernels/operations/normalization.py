"""Batch normalisation and dropout.

A batch normalisation in training takes the whole batch as one chunk. Its operations share two arrays of `partials` (of
the forward and of the backward: float64, (blocks of the batch, 2, channels)) and a `scratch` of float64, (threads, 8,
channels): a thread's mean, variance and the sums of its backward, and behind them coefficients in the network's dtype.
The program puts a barrier between what writes partials and what reads them::

    batch_norm_moments, barrier, batch_norm_apply_training
    batch_norm_backward_sums, barrier, batch_norm_backward_apply        in the weight phase: batch_norm_running

Each thread combines the partials for itself, and all get the same. The backward finds mean and variance where the
thread's own forward left them. The backward of a fused ReLU is `relu_backward`, before the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import batch_norm, dropout
from fastfnn_kernels._config import helper
from fastfnn_kernels.operations._record import my_flat, operation, real
from fastfnn_kernels.program import FIRST, PIECE, ROWS, TID
from fastfnn_kernels.reference.normalization import BLOCK
from fastfnn_kernels.simd import array_at, word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_moments, _combine = batch_norm.batch_norm_moments.jitted, batch_norm.batch_norm_combine.jitted
_coefficients, _apply = batch_norm.batch_norm_coefficients.jitted, batch_norm.batch_norm_apply.jitted
_running = batch_norm.batch_norm_running.jitted
_sums = batch_norm.batch_norm_backward_sums.jitted
_backward_combine = batch_norm.batch_norm_backward_combine.jitted
_backward_coefficients = batch_norm.batch_norm_backward_coefficients.jitted
_backward_apply = batch_norm.batch_norm_backward_apply.jitted
_dropout = dropout.dropout.jitted

#: Rows of a thread's scratch, and the first of those that hold coefficients.
SCRATCH_ROWS, COEFFICIENTS = 8, 4
MEAN, VARIANCE, GRAD_BIAS, GRAD_WEIGHT = range(4)


@helper
def _my_images(record: int, index: int, at: int, channels: int, spatial: int, dtype: Any) -> Any:
    """This thread's rows of a row array as (rows, channels, spatial)."""
    flat = my_flat(record, index, at, channels * spatial, dtype)
    return flat.reshape(flat.size // (channels * spatial), channels, spatial)


@helper
def _blocks(rows: int) -> int:
    return (rows + BLOCK - 1) // BLOCK


@helper
def _all_partials(record: int, index: int, at: int, channels: int) -> Any:
    blocks = _blocks(word(at, ROWS))
    return array_at(word(record, index), blocks * 2 * channels, np.float64).reshape(blocks, 2, channels)


@helper
def _my_partials(record: int, index: int, at: int, channels: int) -> Any:
    """From this thread's first block on: its rows start at a multiple of BLOCK."""
    return _all_partials(record, index, at, channels)[word(at, FIRST) // BLOCK :]


@helper
def _my_scratch(record: int, index: int, at: int, channels: int) -> int:
    return word(record, index) + word(at, TID) * SCRATCH_ROWS * channels * 8


@helper
def _statistic(scratch: int, row: int, channels: int) -> Any:
    return array_at(scratch + row * channels * 8, channels, np.float64)


@helper
def _coefficient(scratch: int, number: int, channels: int, dtype: Any) -> Any:
    return array_at(scratch + (COEFFICIENTS + number) * channels * 8, channels, dtype)


@operation
def batch_norm_moments(dtype: Any) -> Callable[[int, int], None]:
    """partials, x (rows), channels, spatial."""

    def batch_norm_moments(record: int, at: int) -> None:
        channels, spatial = word(record, 3), word(record, 4)
        x = _my_images(record, 2, at, channels, spatial, dtype)
        _moments(_my_partials(record, 1, at, channels), x, 0, 1)

    return batch_norm_moments


@operation
def batch_norm_apply_training(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), channels, spatial, partials, scratch, weight, bias, eps, whether through a ReLU."""

    def batch_norm_apply_training(record: int, at: int) -> None:
        channels, spatial, eps = word(record, 3), word(record, 4), real(record, 9)
        scratch = _my_scratch(record, 6, at, channels)
        mean, variance = _statistic(scratch, MEAN, channels), _statistic(scratch, VARIANCE, channels)
        centre, factor = _coefficient(scratch, 0, channels, dtype), _coefficient(scratch, 1, channels, dtype)
        shift = _coefficient(scratch, 2, channels, dtype)
        weight, bias = array_at(word(record, 7), channels, dtype), array_at(word(record, 8), channels, dtype)
        _combine(mean, variance, _all_partials(record, 5, at, channels), word(at, ROWS), spatial, 0, 1)
        _coefficients(centre, factor, shift, mean, variance, weight, bias, eps, 0, 1)
        out, x = (
            _my_images(record, 1, at, channels, spatial, dtype),
            _my_images(record, 2, at, channels, spatial, dtype),
        )
        _apply(out, x, centre, factor, shift, word(record, 10) != 0, 0, 1)

    return batch_norm_apply_training


@operation
def batch_norm_apply_inference(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), channels, spatial, running mean, running variance, scratch, weight, bias, eps, whether through a
    ReLU. Any chunk of the batch will do."""

    def batch_norm_apply_inference(record: int, at: int) -> None:
        channels, spatial, eps = word(record, 3), word(record, 4), real(record, 10)
        scratch = _my_scratch(record, 7, at, channels)
        mean, variance = array_at(word(record, 5), channels, dtype), array_at(word(record, 6), channels, dtype)
        centre, factor = _coefficient(scratch, 0, channels, dtype), _coefficient(scratch, 1, channels, dtype)
        shift = _coefficient(scratch, 2, channels, dtype)
        weight, bias = array_at(word(record, 8), channels, dtype), array_at(word(record, 9), channels, dtype)
        _coefficients(centre, factor, shift, mean, variance, weight, bias, eps, 0, 1)
        out, x = (
            _my_images(record, 1, at, channels, spatial, dtype),
            _my_images(record, 2, at, channels, spatial, dtype),
        )
        _apply(out, x, centre, factor, shift, word(record, 11) != 0, 0, 1)

    return batch_norm_apply_inference


@operation
def batch_norm_backward_sums(dtype: Any) -> Callable[[int, int], None]:
    """partials of the backward, grad_out, x (rows), channels, spatial, scratch, eps."""

    def batch_norm_backward_sums(record: int, at: int) -> None:
        channels, spatial = word(record, 4), word(record, 5)
        scratch = _my_scratch(record, 6, at, channels)
        mean, variance = _statistic(scratch, MEAN, channels), _statistic(scratch, VARIANCE, channels)
        grad_out = _my_images(record, 2, at, channels, spatial, dtype)
        x = _my_images(record, 3, at, channels, spatial, dtype)
        _sums(_my_partials(record, 1, at, channels), grad_out, x, mean, variance, real(record, 7), 0, 1)

    return batch_norm_backward_sums


@operation
def batch_norm_backward_apply(dtype: Any) -> Callable[[int, int], None]:
    """grad_x, grad_out, x (rows), channels, spatial, partials of the backward, scratch, weight, eps."""

    def batch_norm_backward_apply(record: int, at: int) -> None:
        channels, spatial = word(record, 4), word(record, 5)
        scratch = _my_scratch(record, 7, at, channels)
        mean, variance = _statistic(scratch, MEAN, channels), _statistic(scratch, VARIANCE, channels)
        grad_bias, grad_weight = _statistic(scratch, GRAD_BIAS, channels), _statistic(scratch, GRAD_WEIGHT, channels)
        centre, factor = _coefficient(scratch, 0, channels, dtype), _coefficient(scratch, 1, channels, dtype)
        slope, offset = _coefficient(scratch, 2, channels, dtype), _coefficient(scratch, 3, channels, dtype)
        weight, count = array_at(word(record, 8), channels, dtype), word(at, ROWS) * spatial
        _backward_combine(grad_bias, grad_weight, _all_partials(record, 6, at, channels), 0, 1)
        _backward_coefficients(
            centre,
            factor,
            slope,
            offset,
            mean,
            variance,
            weight,
            grad_bias,
            grad_weight,
            count,
            True,
            real(record, 9),
            0,
            1,
        )
        grad_out = _my_images(record, 2, at, channels, spatial, dtype)
        x = _my_images(record, 3, at, channels, spatial, dtype)
        grad_x = _my_images(record, 1, at, channels, spatial, dtype)
        _backward_apply(grad_x, grad_out, x, centre, factor, slope, offset, 0, 1)

    return batch_norm_backward_apply


@operation
def batch_norm_running(dtype: Any) -> Callable[[int, int], None]:
    """grad_weight, grad_bias, running mean, running variance, channels, spatial, partials, partials of the backward,
    scratch, momentum: what a step leaves behind, once a step and by the first thread, which need not have had rows.

    0 in place of grad_weight: without weight and bias."""

    def batch_norm_running(record: int, at: int) -> None:
        if word(at, TID):
            return
        channels, spatial, rows = word(record, 5), word(record, 6), word(at, ROWS)
        scratch = _my_scratch(record, 9, at, channels)
        mean, variance = _statistic(scratch, MEAN, channels), _statistic(scratch, VARIANCE, channels)
        _combine(mean, variance, _all_partials(record, 7, at, channels), rows, spatial, 0, 1)
        running_mean = array_at(word(record, 3), channels, dtype)
        running_var = array_at(word(record, 4), channels, dtype)
        _running(running_mean, running_var, mean, variance, rows * spatial, real(record, 10), 0, 1)
        if word(record, 1):
            grad_weight = array_at(word(record, 1), channels, dtype)
            grad_bias = array_at(word(record, 2), channels, dtype)
            bias_sum, weight_sum = (
                _statistic(scratch, GRAD_BIAS, channels),
                _statistic(scratch, GRAD_WEIGHT, channels),
            )
            _backward_combine(bias_sum, weight_sum, _all_partials(record, 8, at, channels), 0, 1)
            for j in range(channels):
                grad_weight[j] = dtype(weight_sum[j])
                grad_bias[j] = dtype(bias_sum[j])

    return batch_norm_running


@operation
def dropout_forward(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), width, p, seed, counter: forward and backward. The counter's place in memory is a field."""

    def dropout_forward(record: int, at: int) -> None:
        width, step = word(record, 3), word(word(record, 6), 0)
        first = (word(at, PIECE) + word(at, FIRST)) * width
        out, x = my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype)
        _dropout(out, x, real(record, 4), word(record, 5), step, first, 0, 1)

    return dropout_forward


@operation
def dropout_step() -> Callable[[int, int], None]:
    """counter: an update, after which the next step has another mask."""

    def dropout_step(record: int, at: int) -> None:
        if word(at, TID) == 0:
            array_at(word(record, 1), 1, np.int64)[0] += 1

    return dropout_step
