"""Elementwise activations and their gradients, on flat arrays of one dtype. Each thread does one contiguous slice.

Loop order: one pass over the elements, written so that LLVM vectorises it (`vecmath` has no branches).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastfnn_kernels import reference, vecmath
from fastfnn_kernels._config import kernel
from fastfnn_kernels.team import share

#: Elements: slices of the threads then do not share a cache line.
GRAIN = 64


@kernel(reference.relu)
def relu(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """max(0, x); NaN stays NaN, so that a diverging network shows."""
    zero = x.dtype.type(0)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = zero if x[i] < zero else x[i]


@kernel(reference.relu_backward)
def relu_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], out: NDArray[Any], tid: int, n_threads: int) -> None:
    """The upstream gradient where the output is positive: the input need not be kept."""
    zero = out.dtype.type(0)
    start, stop = share(out.size, tid, n_threads, GRAIN)
    grad_x, grad_out, out = grad_x[start:stop], grad_out[start:stop], out[start:stop]
    for i in range(grad_x.size):
        grad_x[i] = grad_out[i] if out[i] > zero else zero


@kernel(reference.leaky_relu)
def leaky_relu(out: NDArray[Any], x: NDArray[Any], negative_slope: float, tid: int, n_threads: int) -> None:
    """x where x >= 0, else negative_slope * x. `negative_slope` is a scalar of the arrays' dtype."""
    zero = x.dtype.type(0)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = negative_slope * x[i] if x[i] < zero else x[i]


@kernel(reference.leaky_relu_backward)
def leaky_relu_backward(
    grad_x: NDArray[Any], grad_out: NDArray[Any], x: NDArray[Any], negative_slope: float, tid: int, n_threads: int
) -> None:
    """Takes the input: with a negative slope the output's sign would not tell the sides apart."""
    zero = x.dtype.type(0)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        grad_x[i] = grad_out[i] if x[i] > zero else negative_slope * grad_out[i]


@kernel(reference.sigmoid)
def sigmoid(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """1 / (1 + exp(-x)), without overflow at any x."""
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = vecmath.sigmoid(x[i])


@kernel(reference.sigmoid_backward)
def sigmoid_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], out: NDArray[Any], tid: int, n_threads: int) -> None:
    """dσ/dx = σ (1 - σ), from the output."""
    one = out.dtype.type(1)
    start, stop = share(out.size, tid, n_threads, GRAIN)
    grad_x, grad_out, out = grad_x[start:stop], grad_out[start:stop], out[start:stop]
    for i in range(grad_x.size):
        grad_x[i] = grad_out[i] * (out[i] * (one - out[i]))


@kernel(reference.tanh)
def tanh(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = vecmath.tanh(x[i])


@kernel(reference.tanh_backward)
def tanh_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], out: NDArray[Any], tid: int, n_threads: int) -> None:
    """dtanh/dx = 1 - tanh², from the output; as (1 - t)(1 + t), which keeps its digits near ±1."""
    one = out.dtype.type(1)
    start, stop = share(out.size, tid, n_threads, GRAIN)
    grad_x, grad_out, out = grad_x[start:stop], grad_out[start:stop], out[start:stop]
    for i in range(grad_x.size):
        grad_x[i] = grad_out[i] * ((one - out[i]) * (one + out[i]))


@kernel(reference.log)
def log(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """The natural logarithm; -inf at 0, NaN below it: no epsilon bends it."""
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = vecmath.log(x[i])


@kernel(reference.log_backward)
def log_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        grad_x[i] = grad_out[i] / x[i]
