"""Optimizers.

Size, parameters, gradients, then the optimizer's state and settings. Each thread does its share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastfnn_kernels import optim
from fastfnn_kernels.operations._record import operation, real
from fastfnn_kernels.program import N_THREADS, TID, UPDATES
from fastfnn_kernels.simd import array_at, word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_sgd, _sgd_momentum, _adam = optim.sgd.jitted, optim.sgd_momentum.jitted, optim.adam.jitted


@operation
def sgd(dtype: Any) -> Callable[[int, int], None]:
    """…, lr, weight decay."""

    def sgd(record: int, at: int) -> None:
        size = word(record, 1)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        _sgd(params, grads, dtype(real(record, 4)), dtype(real(record, 5)), word(at, TID), word(at, N_THREADS))

    return sgd


@operation
def sgd_momentum(dtype: Any) -> Callable[[int, int], None]:
    """…, velocity, lr, weight decay, momentum, whether Nesterov's."""

    def sgd_momentum(record: int, at: int) -> None:
        size = word(record, 1)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        lr, decay, momentum = dtype(real(record, 5)), dtype(real(record, 6)), dtype(real(record, 7))
        velocity, nesterov = array_at(word(record, 4), size, dtype), word(record, 8) != 0
        _sgd_momentum(params, velocity, grads, lr, momentum, nesterov, decay, word(at, TID), word(at, N_THREADS))

    return sgd_momentum


@operation
def adam(dtype: Any) -> Callable[[int, int], None]:
    """…, mean, square, lr, weight decay, beta1, beta2, eps."""

    def adam(record: int, at: int) -> None:
        size, updates = word(record, 1), word(at, UPDATES)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        mean, square = array_at(word(record, 4), size, dtype), array_at(word(record, 5), size, dtype)
        lr, decay, eps = dtype(real(record, 6)), dtype(real(record, 7)), dtype(real(record, 10))
        beta1, beta2 = real(record, 8), real(record, 9)
        first, second = dtype(1.0 - beta1**updates), dtype(1.0 - beta2**updates)
        tid, n_threads = word(at, TID), word(at, N_THREADS)
        _adam(params, mean, square, grads, lr, dtype(beta1), dtype(beta2), eps, decay, first, second, tid, n_threads)

    return adam
