"""Optimizers: kernels, of which each thread does its share of the parameters."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from fastfnn_kernels import optim
from fastfnn_kernels._config import helper
from fastfnn_kernels.operations._fields import (
    Adds,
    Array,
    DType,
    FlagSetting,
    Float64,
    Float64Setting,
    NThreads,
    Number,
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

_adam, _amsgrad, _nadam = optim.adam.inlined, optim.amsgrad.inlined, optim.nadam.inlined
_adagrad, _nadam_shares = optim.adagrad.inlined, helper(optim.nadam_shares)

COMMON = {"param": Parameters, "grad": Parameters, "lr": Setting, "weight_decay": Setting}

by_shares(optim.sgd, **COMMON)
by_shares(optim.sgd_momentum, velocity=Parameters, momentum=Setting, nesterov=FlagSetting, **COMMON)
by_shares(optim.rmsprop, square=Parameters, alpha=Setting, eps=Setting, **COMMON)
_VELOCITY = {"velocity": Parameters, "momentum": Setting}
by_shares(optim.rmsprop_momentum, square=Parameters, alpha=Setting, eps=Setting, **_VELOCITY, **COMMON)
by_shares(optim.rmsprop_centered, square=Parameters, mean=Parameters, alpha=Setting, eps=Setting, **_VELOCITY, **COMMON)
by_shares(optim.negate, grad=Parameters)
by_shares(optim.limit_norms, weight=array("before", "outputs", "behind"), limit=Number)


@operation
def adagrad(
    param: Parameters,
    total: Parameters,
    grad: Parameters,
    lr: Setting,
    lr_decay: Float64Setting,
    eps: Setting,
    weight_decay: Setting,
    place: Place,
    tid: Tid,
    n_threads: NThreads,
    dtype: DType,
) -> None:
    rate = dtype(lr / (1.0 + (place.updates - 1) * lr_decay))
    _adagrad(param, total, grad, rate, eps, weight_decay, tid, n_threads)


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


@operation
def amsgrad(
    param: Parameters,
    mean: Parameters,
    square: Parameters,
    largest: Parameters,
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
    _amsgrad(param, mean, square, largest, grad, lr, dtype(beta1), dtype(beta2), eps, weight_decay, decoupled, first,
             second, tid, n_threads)
    # fmt: on


@operation
def nadam(
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
    momentum_decay: Float64Setting,
    place: Place,
    tid: Tid,
    n_threads: NThreads,
    dtype: DType,
) -> None:
    of_gradient, of_mean = _nadam_shares(place.updates, beta1, momentum_decay)
    # fmt: off
    _nadam(param, mean, square, grad, lr, dtype(beta1), dtype(beta2), eps, weight_decay, decoupled, dtype(of_gradient),
           dtype(of_mean), dtype(1.0 - beta2**place.updates), tid, n_threads)
    # fmt: on


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
