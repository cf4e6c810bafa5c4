"""Optimizer steps over one flat array of all parameters. Each thread updates one contiguous slice.

Scalars are of the arrays' dtype. Weight decay is added to the gradient (L2 regularisation).
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.team import share

GRAIN = 64


@kernel(reference.sgd, in_place=True)
def sgd(param: NDArray[Any], grad: NDArray[Any], lr: float, weight_decay: float, tid: int, n_threads: int) -> None:
    """w ← w - lr (g + λ w)."""
    start, stop = share(param.size, tid, n_threads, GRAIN)
    param, grad = param[start:stop], grad[start:stop]
    for i in range(param.size):
        param[i] -= lr * (grad[i] + weight_decay * param[i])


@kernel(reference.sgd_momentum, outputs=2, in_place=True)
def sgd_momentum(
    param: NDArray[Any],
    velocity: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    tid: int,
    n_threads: int,
) -> None:
    """v ← μ v + g; w ← w - lr v, or with Nesterov w ← w - lr (g + μ v) (Sutskever et al. 2013, PyTorch's form)."""
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, velocity = grad[start:stop], param[start:stop], velocity[start:stop]
    for i in range(grad.size):
        g = grad[i] + weight_decay * param[i]
        v = momentum * velocity[i] + g
        velocity[i] = v
        param[i] -= lr * (g + momentum * v if nesterov else v)


@kernel(reference.adam, outputs=3, in_place=True)
def adam(
    param: NDArray[Any],
    mean: NDArray[Any],
    square: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
    tid: int,
    n_threads: int,
) -> None:
    """Algorithm 1 of Kingma & Ba (2015); ``correction = 1 - beta**step`` undoes the zero start of both averages."""
    one = param.dtype.type(1)
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, mean, square = grad[start:stop], param[start:stop], mean[start:stop], square[start:stop]
    for i in range(grad.size):
        g = grad[i] + weight_decay * param[i]
        m = beta1 * mean[i] + (one - beta1) * g
        s = beta2 * square[i] + (one - beta2) * g * g
        mean[i], square[i] = m, s
        param[i] -= lr * (m / correction1) / (math.sqrt(s / correction2) + eps)
