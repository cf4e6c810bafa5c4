"""Optimizers.

Size, parameters, gradients, the addresses of the settings and of the weight decay (float64), then the optimizer's
state. Each thread does its share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import optim
from fastfnn_kernels.operations._record import operation, setting
from fastfnn_kernels.program import N_THREADS, TID, UPDATES
from fastfnn_kernels.simd import array_at, word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_sgd, _sgd_momentum, _adam = optim.sgd.jitted, optim.sgd_momentum.jitted, optim.adam.jitted
_rmsprop, _adagrad = optim.rmsprop.jitted, optim.adagrad.jitted
_square_sums, _clip_step = optim.square_sums.jitted, optim.clip_step.jitted


@operation
def sgd(dtype: Any) -> Callable[[int, int], None]:
    """Settings: lr."""

    def sgd(record: int, at: int) -> None:
        size, lr, decay = word(record, 1), dtype(setting(record, 4)), dtype(setting(record, 5))
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        _sgd(params, grads, lr, decay, word(at, TID), word(at, N_THREADS))

    return sgd


@operation
def sgd_momentum(dtype: Any) -> Callable[[int, int], None]:
    """State: velocity. Settings: lr, momentum, whether Nesterov's."""

    def sgd_momentum(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 3, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        velocity, nesterov = array_at(word(record, 6), size, dtype), settings[2] != 0
        lr, momentum, decay = dtype(settings[0]), dtype(settings[1]), dtype(setting(record, 5))
        _sgd_momentum(params, velocity, grads, lr, momentum, nesterov, decay, word(at, TID), word(at, N_THREADS))

    return sgd_momentum


@operation
def adam(dtype: Any) -> Callable[[int, int], None]:
    """State: mean, square. Settings: lr, beta1, beta2, eps, whether the decay is decoupled."""

    def adam(record: int, at: int) -> None:
        size, settings, updates = word(record, 1), array_at(word(record, 4), 5, np.float64), word(at, UPDATES)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        mean, square = array_at(word(record, 6), size, dtype), array_at(word(record, 7), size, dtype)
        lr, decay, eps = dtype(settings[0]), dtype(setting(record, 5)), dtype(settings[3])
        beta1, beta2, decoupled = settings[1], settings[2], settings[4] != 0
        first, second = dtype(1.0 - beta1**updates), dtype(1.0 - beta2**updates)
        tid, n_threads = word(at, TID), word(at, N_THREADS)
        betas = dtype(beta1), dtype(beta2)
        _adam(params, mean, square, grads, lr, *betas, eps, decay, decoupled, first, second, tid, n_threads)

    return adam


@operation
def rmsprop(dtype: Any) -> Callable[[int, int], None]:
    """State: square. Settings: lr, alpha, eps."""

    def rmsprop(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 3, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        square, decay = array_at(word(record, 6), size, dtype), dtype(setting(record, 5))
        lr, alpha, eps = dtype(settings[0]), dtype(settings[1]), dtype(settings[2])
        _rmsprop(params, square, grads, lr, alpha, eps, decay, word(at, TID), word(at, N_THREADS))

    return rmsprop


@operation
def adagrad(dtype: Any) -> Callable[[int, int], None]:
    """State: total. Settings: lr, eps."""

    def adagrad(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 2, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        total, decay = array_at(word(record, 6), size, dtype), dtype(setting(record, 5))
        _adagrad(
            params, total, grads, dtype(settings[0]), dtype(settings[1]), decay, word(at, TID), word(at, N_THREADS)
        )

    return adagrad


@operation
def square_sums(dtype: Any) -> Callable[[int, int], None]:
    """Blocks, gradients, size, out (float64): their squares, block by block. A barrier must follow."""

    def square_sums(record: int, at: int) -> None:
        out, grads = (
            array_at(word(record, 4), word(record, 1), np.float64),
            array_at(word(record, 2), word(record, 3), dtype),
        )
        _square_sums(out, grads, word(at, TID), word(at, N_THREADS))

    return square_sums


@operation
def clip_step(dtype: Any) -> Callable[[int, int], None]:
    """Size, parameters, gradients, the addresses of the limits and of l1, blocks, squares.

    Limits: largest norm and value.
    """

    def clip_step(record: int, at: int) -> None:
        size, limits = word(record, 1), array_at(word(record, 4), 2, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        squares, l1 = array_at(word(record, 7), word(record, 6), np.float64), dtype(setting(record, 5))
        _clip_step(grads, squares, params, limits[0], dtype(limits[1]), l1, word(at, TID), word(at, N_THREADS))

    return clip_step
