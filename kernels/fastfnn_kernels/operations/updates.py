"""Optimizers: kernels, of which each thread does its share of the parameters."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from fastfnn_kernels import optim
from fastfnn_kernels.operations._fields import (
    Adds,
    Array,
    DType,
    FlagSetting,
    Float64,
    Float64Setting,
    NThreads,
    Place,
    Setting,
    Tid,
    array,
)
from fastfnn_kernels.operations._registry import by_shares, operation
from fastfnn_kernels.program import JOB
from fastfnn_kernels.simd import record_at

Parameters = Annotated[Array, array("size")]
#: Of the gradients, block by block.
SQUARES = array("blocks", dtype=np.float64)

_adam = optim.adam.inlined

COMMON = {"param": Parameters, "grad": Parameters, "lr": Setting, "weight_decay": Setting}

by_shares(optim.sgd, **COMMON)
by_shares(optim.sgd_momentum, velocity=Parameters, momentum=Setting, nesterov=FlagSetting, **COMMON)
by_shares(optim.rmsprop, square=Parameters, alpha=Setting, eps=Setting, **COMMON)
by_shares(optim.adagrad, total=Parameters, eps=Setting, **COMMON)


@operation
def adam(
    param: Parameters,
    mean: Parameters,
    square: Parameters,
    grad: Parameters,
    lr: Setting,
    beta1: Float64Setting,
    beta2: Float64Setting,
    eps: Setting,
    weight_decay: Setting,
    decoupled: FlagSetting,
    epsilon_hat: FlagSetting,
    place: Place,
    tid: Tid,
    n_threads: NThreads,
    dtype: DType,
) -> None:
    first, second = dtype(1.0 - beta1**place.updates), dtype(1.0 - beta2**place.updates)
    if epsilon_hat:
        eps /= dtype(math.sqrt(second))
    # fmt: off
    _adam(param, mean, square, grad, lr, dtype(beta1), dtype(beta2), eps, weight_decay, decoupled, first, second, tid,
          n_threads)
    # fmt: on


@operation
def scale_setting(
    out: Annotated[Array, array(1, dtype=np.float64)], setting: Float64Setting, factor: Float64, tid: Tid
) -> None:
    """A setting that is another times a constant, such as a layer's own learning rate; a barrier must follow."""
    if tid == 0:
        out[0] = factor * setting


# Of clipping by norm: a barrier must lie between the two.
by_shares(optim.square_sums, out=SQUARES, grad=Parameters)
LIMITS = {"clip_norm": Float64Setting, "clip_value": Setting, "l1": Setting}
by_shares(optim.clip_step, grad=Parameters, squares=SQUARES, param=Parameters, **LIMITS)

# Of the L2 term in the loss: what a barrier must lie between, too.
_square_sums = optim.square_sums.inlined
Squares = Annotated[Array, SQUARES]


@operation
def weight_squares(out: Squares, param: Parameters, adds: Adds, tid: Tid, n_threads: NThreads) -> None:
    """Sums of squares of blocks of the weights, once a batch."""
    if not adds:
        _square_sums(out, param, tid, n_threads)


@operation
def l2_loss(squares: Squares, weight_decay: Float64Setting, penalty: Float64Setting, place: Place, tid: Tid) -> None:
    """Every row's loss of the batch has ``penalty * weight_decay / 2 * Σ w²`` more."""
    if tid == 0:
        total = 0.0
        for b in range(squares.size):
            total += squares[b]
        record_at(place.job, JOB).losses += place.batch_rows * penalty * weight_decay / 2 * total
