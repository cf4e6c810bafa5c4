"""Matrix products and the affine layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import FLOPS_PER_NANOSECOND, Array, run_on_team, team_for


def _product(
    a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, *, n_threads: int | None
) -> Array:
    m, k = a.shape[::-1] if transpose_a else a.shape
    n = b.shape[0] if transpose_b else b.shape[1]
    out = np.empty((m, n), a.dtype)
    with team_for(n_threads, 2.0 * m * n * k / FLOPS_PER_NANOSECOND) as team:
        scratch = kernels.products.gemm.scratch_for(a.dtype, team.size)
        nothing, one = np.empty(0, a.dtype), a.dtype.type(1)
        kernels.products.gemm.gemm(out, scratch, a, b, nothing, transpose_a, transpose_b, one, False, 0, team=team)
    return out


def matmul(a: ArrayLike, b: ArrayLike, *, n_threads: int | None = None) -> Array:
    """``a @ b`` for a (m, k) and b (k, n)."""
    a = check.float_array("a", a, ndim=2)
    b = check.float_array("b", b, ndim=2, dtype=a.dtype)
    if b.shape[0] != a.shape[1]:
        raise InvalidValueError(f"b has shape {b.shape}; expected ({a.shape[1]}, n), as a has shape {a.shape}")
    return _product(a, b, n_threads=n_threads)


def matmul_backward(
    grad_out: ArrayLike, a: ArrayLike, b: ArrayLike, *, n_threads: int | None = None
) -> tuple[Array, Array]:
    """``(grad_out @ b.T, a.T @ grad_out)``: the gradients for `a` and `b`."""
    grad, a, b = _checked_backward(grad_out, a, b)
    return (
        _product(grad, b, transpose_b=True, n_threads=n_threads),
        _product(a, grad, transpose_a=True, n_threads=n_threads),
    )


def linear_input_gradient(grad_out: ArrayLike, x: ArrayLike, weight: ArrayLike) -> Array:
    """The gradient for x of `linear` alone."""
    grad, _, weight = _checked_backward(grad_out, x, weight)
    return _product(grad, weight, transpose_b=True, n_threads=None)


def _checked_backward(grad_out: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array, Array]:
    a = check.float_array("a", a, ndim=2)
    b = check.float_array("b", b, ndim=2, dtype=a.dtype)
    grad = check.float_array("grad_out", grad_out, dtype=a.dtype)
    if grad.shape != (a.shape[0], b.shape[1]) or a.shape[1] != b.shape[0]:
        raise InvalidValueError(
            f"grad_out has shape {grad.shape}; expected {(a.shape[0], b.shape[1])}, "
            f"the shape of the product of a {a.shape} and b {b.shape}"
        )
    return grad, a, b


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, n_threads: int | None = None) -> Array:
    """``x @ weight + bias`` for x (n, in), weight (in, out) and bias (out,)."""
    x = check.float_array("x", x, ndim=2)
    weight = check.float_array("weight", weight, ndim=2, dtype=x.dtype)
    if weight.shape[0] != x.shape[1]:
        raise InvalidValueError(
            f"x has shape {x.shape}; expected (n, {weight.shape[0]}), as weight has shape {weight.shape}"
        )
    if bias is not None:
        bias = check.float_array("bias", bias, dtype=x.dtype)
        if bias.shape != weight.shape[1:]:
            raise InvalidValueError(f"bias has shape {bias.shape}; expected {weight.shape[1:]}")
    out = np.empty((x.shape[0], weight.shape[1]), x.dtype)
    with team_for(n_threads, 2.0 * out.size * x.shape[1] / FLOPS_PER_NANOSECOND) as team:
        kernels.products.linear.linear(
            out, kernels.products.gemm.scratch_for(x.dtype, team.size), x, weight, bias, team=team
        )
    return out


def linear_backward(
    grad_out: ArrayLike, x: ArrayLike, weight: ArrayLike, *, n_threads: int | None = None
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `linear`."""
    grad_x, grad_weight = matmul_backward(grad_out, x, weight, n_threads=n_threads)
    grad = check.float_array("grad_out", grad_out, dtype=grad_x.dtype)
    grad_bias = np.empty(grad.shape[1], grad.dtype)
    run_on_team(kernels.products.linear.column_sum, grad_bias, grad, False, n_threads=1)
    return grad_x, grad_weight, grad_bias
