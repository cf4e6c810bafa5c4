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
    """State: mean, square. Settings: lr, weight decay, beta1, beta2, eps."""

    def adam(record: int, at: int) -> None:
        size, settings, updates = word(record, 1), array_at(word(record, 4), 5, np.float64), word(at, UPDATES)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        mean, square = array_at(word(record, 5), size, dtype), array_at(word(record, 6), size, dtype)
        lr, decay, eps = dtype(settings[0]), dtype(settings[1]), dtype(settings[4])
        beta1, beta2 = settings[2], settings[3]
        first, second = dtype(1.0 - beta1**updates), dtype(1.0 - beta2**updates)
        tid, n_threads = word(at, TID), word(at, N_THREADS)
        _adam(params, mean, square, grads, lr, dtype(beta1), dtype(beta2), eps, decay, first, second, tid, n_threads)

    return adam
