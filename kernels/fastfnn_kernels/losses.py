"""Losses on predictions that are not logits of a softmax, and their gradients.

Each loss is two kernels: `*_losses` writes the loss of every element (or row), `*_gradient` writes `scale` times its
gradient. What they become, mean or sum, is the caller's: it adds them up in float64, in one fixed order.
Arrays are flat unless a shape is given. Loop order: one pass; each thread does one slice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference, vecmath
from fastfnn_kernels._config import kernel
from fastfnn_kernels.reference.losses import LOWEST_LOG, LOWEST_VARIANCE
from fastfnn_kernels.team import share

GRAIN = 64


@kernel(reference.nll_losses)
def nll_losses(
    losses: NDArray[np.float64], prediction: NDArray[Any], target: NDArray[np.int64], tid: int, n_threads: int
) -> None:
    """``losses[i] = -prediction[i, target[i]]``; `prediction` is (n, classes), `target` (n,)."""
    start, stop = share(target.size, tid, n_threads, GRAIN)
    for row in range(start, stop):
        losses[row] = -prediction[row, target[row]]


@kernel(reference.nll_losses)
def nll_losses_rows(
    losses: NDArray[np.float64], prediction: NDArray[Any], target: NDArray[Any], tid: int, n_threads: int
) -> None:
    """``losses[i] = -Σ target[i] prediction[i]``; both (n, classes). A weight of 0 beats even -inf."""
    rows, classes = prediction.shape
    zero = target.dtype.type(0)
    start, stop = share(rows, tid, n_threads, GRAIN)
    for row in range(start, stop):
        total = np.float64(0)
        for j in range(classes):
            if target[row, j] != zero:
                total -= np.float64(target[row, j] * prediction[row, j])
        losses[row] = total


@kernel(reference.nll_gradient)
def nll_gradient(
    grad: NDArray[Any], prediction: NDArray[Any], target: NDArray[np.int64], scale: float, tid: int, n_threads: int
) -> None:
    """``-scale`` at each row's label, 0 elsewhere."""
    rows, classes = prediction.shape
    zero = grad.dtype.type(0)
    start, stop = share(rows, tid, n_threads, GRAIN)
    for row in range(start, stop):
        for j in range(classes):
            grad[row, j] = zero
        grad[row, target[row]] = -scale


@kernel(reference.nll_gradient)
def nll_gradient_rows(
    grad: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], scale: float, tid: int, n_threads: int
) -> None:
    """``-scale * target``; all (n, classes)."""
    rows, classes = prediction.shape
    start, stop = share(rows, tid, n_threads, GRAIN)
    for row in range(start, stop):
        for j in range(classes):
            grad[row, j] = -scale * target[row, j]


@kernel(reference.bce_losses)
def bce_losses(losses: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], tid: int, n_threads: int) -> None:
    """``-(t log p + (1 - t) log(1 - p))``, each logarithm bounded below by -100 as in PyTorch."""
    dtype = prediction.dtype.type
    one, lowest = dtype(1), dtype(LOWEST_LOG)
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, losses, target = prediction[start:stop], losses[start:stop], target[start:stop]
    for i in range(prediction.size):
        log_p, log_not_p = vecmath.log(prediction[i]), vecmath.log(one - prediction[i])
        log_p = lowest if log_p < lowest else log_p
        log_not_p = lowest if log_not_p < lowest else log_not_p
        losses[i] = -(target[i] * log_p + (one - target[i]) * log_not_p)


@kernel(reference.bce_gradient)
def bce_gradient(
    grad: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], scale: float, tid: int, n_threads: int
) -> None:
    """``scale (p - t) / (p (1 - p))``, the denominator bounded below as in PyTorch."""
    dtype = prediction.dtype.type
    one, lowest = dtype(1), dtype(LOWEST_VARIANCE)
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, grad, target = prediction[start:stop], grad[start:stop], target[start:stop]
    for i in range(prediction.size):
        variance = prediction[i] * (one - prediction[i])
        variance = lowest if variance < lowest else variance
        grad[i] = scale * (prediction[i] - target[i]) / variance


@kernel(reference.bce_with_logits_losses)
def bce_with_logits_losses(
    losses: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], tid: int, n_threads: int
) -> None:
    """``max(z, 0) - z t + log(1 + exp(-|z|))``: the loss of ``sigmoid(z)``, finite for every finite z."""
    zero = prediction.dtype.type(0)
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, losses, target = prediction[start:stop], losses[start:stop], target[start:stop]
    for i in range(prediction.size):
        z = prediction[i]
        positive = zero if z < zero else z
        losses[i] = positive - z * target[i] + vecmath.log1p_of_unit(vecmath.exp(-abs(z)))


@kernel(reference.bce_with_logits_gradient)
def bce_with_logits_gradient(
    grad: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], scale: float, tid: int, n_threads: int
) -> None:
    """``scale (sigmoid(z) - t)``."""
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    grad, prediction, target = grad[start:stop], prediction[start:stop], target[start:stop]
    for i in range(grad.size):
        grad[i] = scale * (vecmath.sigmoid(prediction[i]) - target[i])


@kernel(reference.mse_losses)
def mse_losses(losses: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], tid: int, n_threads: int) -> None:
    """``(prediction - target)²``."""
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, target, losses = prediction[start:stop], target[start:stop], losses[start:stop]
    for i in range(prediction.size):
        difference = prediction[i] - target[i]
        losses[i] = difference * difference


@kernel(reference.mse_gradient)
def mse_gradient(
    grad: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], scale: float, tid: int, n_threads: int
) -> None:
    """``2 scale (prediction - target)``."""
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, target, grad = prediction[start:stop], target[start:stop], grad[start:stop]
    for i in range(prediction.size):
        difference = prediction[i] - target[i]
        grad[i] = scale * (difference + difference)


@kernel(reference.l1_losses)
def l1_losses(losses: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], tid: int, n_threads: int) -> None:
    """``|prediction - target|``."""
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, target, losses = prediction[start:stop], target[start:stop], losses[start:stop]
    for i in range(prediction.size):
        losses[i] = abs(prediction[i] - target[i])


@kernel(reference.l1_gradient)
def l1_gradient(
    grad: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], scale: float, tid: int, n_threads: int
) -> None:
    """``scale`` times the sign of ``prediction - target``, which is 0 where they are equal."""
    zero = prediction.dtype.type(0)
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, target, grad = prediction[start:stop], target[start:stop], grad[start:stop]
    for i in range(prediction.size):
        difference = prediction[i] - target[i]
        grad[i] = scale if difference > zero else (-scale if difference < zero else difference)  # zero, or NaN


@kernel(reference.huber_losses)
def huber_losses(
    losses: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], delta: float, tid: int, n_threads: int
) -> None:
    """``d² / 2`` of the distance d up to `delta`, ``delta (d - delta / 2)`` beyond it."""
    half = prediction.dtype.type(0.5)
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, target, losses = prediction[start:stop], target[start:stop], losses[start:stop]
    for i in range(prediction.size):
        distance = abs(prediction[i] - target[i])
        within = delta if distance > delta else distance
        losses[i] = within * (distance - half * within)


@kernel(reference.huber_gradient)
def huber_gradient(
    grad: NDArray[Any],
    prediction: NDArray[Any],
    target: NDArray[Any],
    scale: float,
    delta: float,
    tid: int,
    n_threads: int,
) -> None:
    """``scale`` times ``prediction - target``, that bounded by ±`delta`."""
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, target, grad = prediction[start:stop], target[start:stop], grad[start:stop]
    for i in range(prediction.size):
        difference = prediction[i] - target[i]
        difference = delta if difference > delta else difference
        grad[i] = scale * (-delta if difference < -delta else difference)


@kernel(reference.poisson_nll_losses)
def poisson_nll_losses(
    losses: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], tid: int, n_threads: int
) -> None:
    """``exp(z) - t z`` of a Poisson mean whose logarithm is z."""
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    prediction, target, losses = prediction[start:stop], target[start:stop], losses[start:stop]
    for i in range(prediction.size):
        losses[i] = vecmath.exp(prediction[i]) - target[i] * prediction[i]


@kernel(reference.poisson_nll_gradient)
def poisson_nll_gradient(
    grad: NDArray[Any], prediction: NDArray[Any], target: NDArray[Any], scale: float, tid: int, n_threads: int
) -> None:
    """``scale (exp(z) - t)``."""
    start, stop = share(prediction.size, tid, n_threads, GRAIN)
    grad, prediction, target = grad[start:stop], prediction[start:stop], target[start:stop]
    for i in range(grad.size):
        grad[i] = scale * (vecmath.exp(prediction[i]) - target[i])
