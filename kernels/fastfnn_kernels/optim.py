"""Optimizer steps over one flat array of all parameters. Each thread updates one contiguous slice.

Scalars are of the arrays' dtype. Weight decay is added to the gradient (L2 regularisation).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.reference.optim import NORM_BLOCK
from fastfnn_kernels.simd import settled
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
    decoupled: bool,
    correction1: float,
    correction2: float,
    tid: int,
    n_threads: int,
) -> None:
    """Algorithm 1 of Kingma & Ba (2015); ``correction = 1 - beta**step`` undoes the zero start of both averages.

    With `decoupled` the weight decay is no part of the gradient: w ← w - lr λ w (Loshchilov & Hutter 2019).
    """
    one, zero = param.dtype.type(1), param.dtype.type(0)
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, mean, square = grad[start:stop], param[start:stop], mean[start:stop], square[start:stop]
    in_gradient, beside_it = (zero, lr * weight_decay) if decoupled else (weight_decay, zero)
    # lr (m / c1) / (√(s / c2) + ε), with one quotient and one root for an element.
    root = math.sqrt(correction2)
    rate, floor = settled(lr * root / correction1), eps * root
    for i in range(grad.size):
        g = grad[i] + in_gradient * param[i]
        param[i] -= beside_it * param[i]
        m = beta1 * mean[i] + (one - beta1) * g
        s = beta2 * square[i] + (one - beta2) * g * g
        mean[i], square[i] = m, s
        param[i] -= rate * m / (math.sqrt(s) + floor)


@kernel(reference.amsgrad, outputs=4, in_place=True)
def amsgrad(
    param: NDArray[Any],
    mean: NDArray[Any],
    square: NDArray[Any],
    largest: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    correction1: float,
    correction2: float,
    tid: int,
    n_threads: int,
) -> None:
    """`adam` that divides by the root of the largest second average so far (Reddi et al. 2018, PyTorch's form)."""
    one, zero = param.dtype.type(1), param.dtype.type(0)
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, mean = grad[start:stop], param[start:stop], mean[start:stop]
    square, largest = square[start:stop], largest[start:stop]
    in_gradient, beside_it = (zero, lr * weight_decay) if decoupled else (weight_decay, zero)
    root = math.sqrt(correction2)
    rate, floor = settled(lr * root / correction1), eps * root
    for i in range(grad.size):
        g = grad[i] + in_gradient * param[i]
        param[i] -= beside_it * param[i]
        m = beta1 * mean[i] + (one - beta1) * g
        s = beta2 * square[i] + (one - beta2) * g * g
        most = largest[i] if largest[i] > s else s
        mean[i], square[i], largest[i] = m, s, most
        param[i] -= rate * m / (math.sqrt(most) + floor)


#: A product of momenta below which one minus it is 1 in float64.
VANISHED = 2.0**-60


def nadam_shares(step: int, beta1: float, momentum_decay: float) -> tuple[float, float]:
    """What the gradient and its average count in NAdam's step (from 1): ``(1 - μ) / (1 - Π)`` and ``μ' / (1 - Π μ')``.

    The momentum of step i is ``β1 (1 - 0.96**(i ψ) / 2)``, μ is that of this step, μ' of the next, and Π the product up
    to this one (Dozat 2016, PyTorch's form). That has vanished after some hundred steps, so it is made anew each time.
    """
    product, i = 1.0, 1
    while i <= step and product > VANISHED:
        product *= beta1 * (1.0 - 0.5 * 0.96 ** (i * momentum_decay))
        i += 1
    now = beta1 * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))
    later = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    return (1.0 - now) / (1.0 - product), later / (1.0 - product * later)


@kernel(reference.nadam, outputs=3, in_place=True)
def nadam(
    param: NDArray[Any],
    mean: NDArray[Any],
    square: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    of_gradient: float,
    of_mean: float,
    correction2: float,
    tid: int,
    n_threads: int,
) -> None:
    """w ← w - lr (a g + b m) / (√(s / c2) + ε), with the shares a and b of `nadam_shares` (Dozat 2016)."""
    one, zero = param.dtype.type(1), param.dtype.type(0)
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, mean, square = grad[start:stop], param[start:stop], mean[start:stop], square[start:stop]
    in_gradient, beside_it = (zero, lr * weight_decay) if decoupled else (weight_decay, zero)
    root = math.sqrt(correction2)
    now, before, floor = settled(lr * root * of_gradient), settled(lr * root * of_mean), eps * root
    for i in range(grad.size):
        g = grad[i] + in_gradient * param[i]
        param[i] -= beside_it * param[i]
        m = beta1 * mean[i] + (one - beta1) * g
        s = beta2 * square[i] + (one - beta2) * g * g
        mean[i], square[i] = m, s
        param[i] -= (now * g + before * m) / (math.sqrt(s) + floor)


@kernel(reference.rmsprop, outputs=2, in_place=True)
def rmsprop(
    param: NDArray[Any],
    square: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    tid: int,
    n_threads: int,
) -> None:
    """s ← α s + (1 - α) g²; w ← w - lr g / (√s + ε) (Tieleman & Hinton 2012)."""
    one = param.dtype.type(1)
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, square = grad[start:stop], param[start:stop], square[start:stop]
    for i in range(grad.size):
        g = grad[i] + weight_decay * param[i]
        s = alpha * square[i] + (one - alpha) * g * g
        square[i] = s
        param[i] -= lr * g / (math.sqrt(s) + eps)


@kernel(reference.rmsprop_momentum, outputs=3, in_place=True)
def rmsprop_momentum(
    param: NDArray[Any],
    square: NDArray[Any],
    velocity: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    tid: int,
    n_threads: int,
) -> None:
    """s ← α s + (1 - α) g²; v ← μ v + g / (√s + ε); w ← w - lr v (PyTorch's form)."""
    one = param.dtype.type(1)
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, square, velocity = grad[start:stop], param[start:stop], square[start:stop], velocity[start:stop]
    for i in range(grad.size):
        g = grad[i] + weight_decay * param[i]
        s = alpha * square[i] + (one - alpha) * g * g
        v = momentum * velocity[i] + g / (math.sqrt(s) + eps)
        square[i], velocity[i] = s, v
        param[i] -= lr * v


@kernel(reference.rmsprop_centered, outputs=4, in_place=True)
def rmsprop_centered(
    param: NDArray[Any],
    square: NDArray[Any],
    mean: NDArray[Any],
    velocity: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    tid: int,
    n_threads: int,
) -> None:
    """`rmsprop_momentum` by the variance: m ← α m + (1 - α) g; v ← μ v + g / (√(s - m²) + ε) (Graves 2013).

    A variance that rounding has made negative counts as 0, where PyTorch's root is NaN.
    """
    one, zero = param.dtype.type(1), param.dtype.type(0)
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, square = grad[start:stop], param[start:stop], square[start:stop]
    mean, velocity = mean[start:stop], velocity[start:stop]
    for i in range(grad.size):
        g = grad[i] + weight_decay * param[i]
        s = alpha * square[i] + (one - alpha) * g * g
        m = alpha * mean[i] + (one - alpha) * g
        variance = s - m * m
        variance = zero if variance < zero else variance
        v = momentum * velocity[i] + g / (math.sqrt(variance) + eps)
        square[i], mean[i], velocity[i] = s, m, v
        param[i] -= lr * v


@kernel(reference.negate, in_place=True)
def negate(grad: NDArray[Any], tid: int, n_threads: int) -> None:
    """-g: to maximise. In place."""
    start, stop = share(grad.size, tid, n_threads, GRAIN)
    grad = grad[start:stop]
    for i in range(grad.size):
        grad[i] = -grad[i]


@kernel(reference.adagrad, outputs=2, in_place=True)
def adagrad(
    param: NDArray[Any],
    total: NDArray[Any],
    grad: NDArray[Any],
    lr: float,
    eps: float,
    weight_decay: float,
    tid: int,
    n_threads: int,
) -> None:
    """s ← s + g²; w ← w - lr g / (√s + ε) (Duchi et al. 2011)."""
    start, stop = share(param.size, tid, n_threads, GRAIN)
    grad, param, total = grad[start:stop], param[start:stop], total[start:stop]
    for i in range(grad.size):
        g = grad[i] + weight_decay * param[i]
        s = total[i] + g * g
        total[i] = s
        param[i] -= lr * g / (math.sqrt(s) + eps)


def norm_blocks(size: int) -> int:
    """How many `square_sums` there are of so many gradients."""
    return -(-size // NORM_BLOCK)


@kernel(reference.square_sums)
def square_sums(out: NDArray[np.float64], grad: NDArray[Any], tid: int, n_threads: int) -> None:
    """Sums of squares of blocks of NORM_BLOCK gradients. Each thread does its share of the blocks."""
    first, last = share(out.size, tid, n_threads, 1)
    for b in range(first, last):
        block, total = grad[b * NORM_BLOCK : (b + 1) * NORM_BLOCK], 0.0
        for i in range(block.size):
            total += np.float64(block[i]) * np.float64(block[i])
        out[b] = total


@kernel(reference.clip_step, in_place=True)
def clip_step(
    grad: NDArray[Any],
    squares: NDArray[np.float64],
    param: NDArray[Any],
    clip_norm: float,
    clip_value: float,
    l1: float,
    tid: int,
    n_threads: int,
) -> None:
    """Scale the gradient to a norm of `clip_norm` at most, bound its elements by ±`clip_value`, add λ₁ sign(w).

    `squares` are all `square_sums`, `clip_norm` is float64; infinite bounds do nothing, and NaN stays NaN.
    """
    total, zero, one = 0.0, grad.dtype.type(0), grad.dtype.type(1)
    for b in range(squares.size):
        total += squares[b]
    norm = math.sqrt(total)
    scale = grad.dtype.type(clip_norm / norm) if norm > clip_norm else one
    start, stop = share(grad.size, tid, n_threads, GRAIN)
    grad, param = grad[start:stop], param[start:stop]
    for i in range(grad.size):
        g = scale * grad[i]
        g = clip_value if g > clip_value else g
        g = -clip_value if g < -clip_value else g
        sign = one if param[i] > zero else (-one if param[i] < zero else param[i])  # zero, or NaN
        grad[i] = g + l1 * sign


@kernel(reference.limit_norms, in_place=True)
def limit_norms(weight: NDArray[Any], limit: float, tid: int, n_threads: int) -> None:
    """Scale what belongs to an output to a norm of at most `limit` (Srivastava et al. 2014, section 5.1).

    Parameters
    ----------
    weight : (before, outputs, behind)
        (inputs, outputs, 1) of a matrix, (1, filters, inputs) of a convolution.
    limit : scalar of its dtype

    Notes
    -----
    Loop order: outputs, then what belongs to them. Each thread does its share of the outputs.
    """
    before, outputs, behind = weight.shape
    start, stop = share(outputs, tid, n_threads, 1)
    for k in range(start, stop):
        total = 0.0
        for i in range(before):
            for j in range(behind):
                total += np.float64(weight[i, k, j]) * np.float64(weight[i, k, j])
        norm = math.sqrt(total)
        if norm > limit:
            factor = weight.dtype.type(limit / norm)
            for i in range(before):
                for j in range(behind):
                    weight[i, k, j] *= factor
