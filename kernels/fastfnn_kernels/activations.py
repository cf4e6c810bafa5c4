"""Elementwise activations and their gradients, on flat arrays of one dtype. Each thread does one contiguous slice.

Loop order: one pass over the elements, written so that LLVM vectorises it (`vecmath` has no branches).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastfnn_kernels import reference, vecmath
from fastfnn_kernels._config import forced, kernel
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


@forced
def _normal_cdf(x: Any) -> Any:
    """The normal distribution's Φ, as ``(1 + erf(x / sqrt(2))) / 2``."""
    half, one, root_half = type(x)(0.5), type(x)(1), type(x)(0.7071067811865476)
    return half * (one + vecmath.erf(x * root_half))


@kernel(reference.gelu)
def gelu(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """x Φ(x); at -inf, as in PyTorch, NaN."""
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = x[i] * _normal_cdf(x[i])


@kernel(reference.gelu_backward)
def gelu_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """Φ(x) + x φ(x), with the density φ = Φ'."""
    half, height = x.dtype.type(0.5), x.dtype.type(0.3989422804014327)  # 1 / sqrt(2 π)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        density = height * vecmath.exp(-half * (x[i] * x[i]))
        grad_x[i] = grad_out[i] * (_normal_cdf(x[i]) + x[i] * density)


@kernel(reference.gelu_tanh)
def gelu_tanh(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """x σ(2u) with ``u = sqrt(2/π) (x + 0.044715 x³)``: that is ``x/2 (1 + tanh(u))``, and keeps its digits."""
    dtype = x.dtype.type
    one, twice, cubic = dtype(1), dtype(1.5957691216057308), dtype(0.044715)  # 2 sqrt(2/π)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = x[i] * vecmath.sigmoid(twice * x[i] * (one + cubic * (x[i] * x[i])))


@kernel(reference.gelu_tanh_backward)
def gelu_tanh_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """σ(2u) (1 + 2 x u' σ(-2u))."""
    dtype = x.dtype.type
    one, three, twice, cubic = dtype(1), dtype(3), dtype(1.5957691216057308), dtype(0.044715)  # 2 sqrt(2/π)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        square = cubic * (x[i] * x[i])
        z = twice * x[i] * (one + square)
        slope = twice * x[i] * (one + three * square)
        grad_x[i] = grad_out[i] * (vecmath.sigmoid(z) * (one + slope * vecmath.sigmoid(-z)))


@kernel(reference.silu)
def silu(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """x σ(x)."""
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = x[i] * vecmath.sigmoid(x[i])


@kernel(reference.silu_backward)
def silu_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """σ (1 + x (1 - σ))."""
    one = x.dtype.type(1)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        s = vecmath.sigmoid(x[i])
        grad_x[i] = grad_out[i] * (s * (one + x[i] * (one - s)))


@kernel(reference.scaled_elu)
def scaled_elu(out: NDArray[Any], x: NDArray[Any], alpha: float, scale: float, tid: int, n_threads: int) -> None:
    """``scale * x`` where x is positive, else ``scale * alpha * (exp(x) - 1)``: ELU and SELU."""
    zero = x.dtype.type(0)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        out[i] = scale * (x[i] if x[i] > zero else alpha * vecmath.negative_expm1(x[i]))


@kernel(reference.scaled_elu_backward)
def scaled_elu_backward(
    grad_x: NDArray[Any],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    alpha: float,
    scale: float,
    tid: int,
    n_threads: int,
) -> None:
    zero, one = x.dtype.type(0), x.dtype.type(1)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        grad_x[i] = grad_out[i] * (scale * (one if x[i] > zero else alpha * vecmath.exp(x[i])))


@kernel(reference.softplus)
def softplus(out: NDArray[Any], x: NDArray[Any], beta: float, threshold: float, tid: int, n_threads: int) -> None:
    """``log(1 + exp(beta x)) / beta``, without overflow; x itself where ``beta x`` is above the threshold."""
    zero = x.dtype.type(0)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        z = beta * x[i]
        smooth = ((zero if z < zero else z) + vecmath.log1p_of_unit(vecmath.exp(-abs(z)))) / beta
        out[i] = x[i] if z > threshold else smooth


@kernel(reference.softplus_backward)
def softplus_backward(
    grad_x: NDArray[Any],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    beta: float,
    threshold: float,
    tid: int,
    n_threads: int,
) -> None:
    """σ(beta x), and 1 above the threshold."""
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        z = beta * x[i]
        grad_x[i] = grad_out[i] if z > threshold else grad_out[i] * vecmath.sigmoid(z)


@kernel(reference.relu6)
def relu6(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """x between 0 and 6, and the nearer of them outside; NaN stays NaN."""
    zero, six = x.dtype.type(0), x.dtype.type(6)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        above = zero if x[i] < zero else x[i]
        out[i] = six if above > six else above


@kernel(reference.relu6_backward)
def relu6_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """The upstream gradient between 0 and 6, without the ends."""
    zero, six = x.dtype.type(0), x.dtype.type(6)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        passed = zero if x[i] <= zero else grad_out[i]
        grad_x[i] = zero if x[i] >= six else passed


@kernel(reference.hardswish)
def hardswish(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """``x relu6(x + 3) / 6``."""
    zero, three, six, sixth = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6), x.dtype.type(1 / 6)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.size):
        gate = x[i] + three
        gate = zero if gate < zero else gate
        gate = six if gate > six else gate
        out[i] = x[i] * gate * sixth


@kernel(reference.hardswish_backward)
def hardswish_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """0 up to -3, ``x/3 + 1/2`` between, 1 from 3 on."""
    zero, half, one, three, third = (
        x.dtype.type(0),
        x.dtype.type(0.5),
        x.dtype.type(1),
        x.dtype.type(3),
        x.dtype.type(1 / 3),
    )
    start, stop = share(x.size, tid, n_threads, GRAIN)
    grad_x, grad_out, x = grad_x[start:stop], grad_out[start:stop], x[start:stop]
    for i in range(grad_x.size):
        slope = x[i] * third + half
        slope = one if x[i] >= three else slope
        slope = zero if x[i] <= -three else slope
        grad_x[i] = grad_out[i] * slope
