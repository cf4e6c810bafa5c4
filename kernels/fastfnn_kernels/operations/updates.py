"""Optimizers.

Size, parameters, gradients, the address of the settings (float64), then the optimizer's state. Each thread does its
share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import optim
from fastfnn_kernels.operations._record import operation
from fastfnn_kernels.program import N_THREADS, TID, UPDATES
from fastfnn_kernels.simd import array_at, word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_sgd, _sgd_momentum, _adam = optim.sgd.jitted, optim.sgd_momentum.jitted, optim.adam.jitted
_rmsprop, _adagrad = optim.rmsprop.jitted, optim.adagrad.jitted
_square_sums, _clip_step = optim.square_sums.jitted, optim.clip_step.jitted


@operation
def sgd(dtype: Any) -> Callable[[int, int], None]:
    """Settings: lr, weight decay."""

    def sgd(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 2, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        _sgd(params, grads, dtype(settings[0]), dtype(settings[1]), word(at, TID), word(at, N_THREADS))

    return sgd


@operation
def sgd_momentum(dtype: Any) -> Callable[[int, int], None]:
    """State: velocity. Settings: lr, weight decay, momentum, whether Nesterov's."""

    def sgd_momentum(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 4, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        velocity, nesterov = array_at(word(record, 5), size, dtype), settings[3] != 0
        lr, decay, momentum = dtype(settings[0]), dtype(settings[1]), dtype(settings[2])
        _sgd_momentum(params, velocity, grads, lr, momentum, nesterov, decay, word(at, TID), word(at, N_THREADS))

    return sgd_momentum


@operation
def adam(dtype: Any) -> Callable[[int, int], None]:
    """State: mean, square. Settings: lr, weight decay, beta1, beta2, eps, whether the decay is decoupled."""

    def adam(record: int, at: int) -> None:
        size, settings, updates = word(record, 1), array_at(word(record, 4), 6, np.float64), word(at, UPDATES)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        mean, square = array_at(word(record, 5), size, dtype), array_at(word(record, 6), size, dtype)
        lr, decay, eps = dtype(settings[0]), dtype(settings[1]), dtype(settings[4])
        beta1, beta2, decoupled = settings[2], settings[3], settings[5] != 0
        first, second = dtype(1.0 - beta1**updates), dtype(1.0 - beta2**updates)
        tid, n_threads = word(at, TID), word(at, N_THREADS)
        betas = dtype(beta1), dtype(beta2)
        _adam(params, mean, square, grads, lr, *betas, eps, decay, decoupled, first, second, tid, n_threads)

    return adam


@operation
def rmsprop(dtype: Any) -> Callable[[int, int], None]:
    """State: square. Settings: lr, weight decay, alpha, eps."""

    def rmsprop(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 4, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        square, lr, decay = array_at(word(record, 5), size, dtype), dtype(settings[0]), dtype(settings[1])
        alpha, eps = dtype(settings[2]), dtype(settings[3])
        _rmsprop(params, square, grads, lr, alpha, eps, decay, word(at, TID), word(at, N_THREADS))

    return rmsprop


@operation
def adagrad(dtype: Any) -> Callable[[int, int], None]:
    """State: total. Settings: lr, weight decay, eps."""

    def adagrad(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 3, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        total, lr, decay = array_at(word(record, 5), size, dtype), dtype(settings[0]), dtype(settings[1])
        _adagrad(params, total, grads, lr, dtype(settings[2]), decay, word(at, TID), word(at, N_THREADS))

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
    """Size, parameters, gradients, the settings' address, blocks, squares. Settings: largest norm and value, l1."""

    def clip_step(record: int, at: int) -> None:
        size, settings = word(record, 1), array_at(word(record, 4), 3, np.float64)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        squares, value, l1 = (
            array_at(word(record, 6), word(record, 5), np.float64),
            dtype(settings[1]),
            dtype(settings[2]),
        )
        _clip_step(grads, squares, params, settings[0], value, l1, word(at, TID), word(at, N_THREADS))

    return clip_step
