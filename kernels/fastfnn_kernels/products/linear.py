"""The affine layer ``x @ weight + bias``: three products of `gemm` and one sum of columns.

`weight` is (in, out), so the products are nn (forward), nt (the input's gradient) and tn (the weight's). Arrays are
C-contiguous and of one dtype; `scratch` comes from `gemm.scratch_for`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.products.gemm import BIAS, BIAS_RELU, NO_EPILOGUE, RELU_MASK, gemm
from fastfnn_kernels.simd import VECTOR_BYTES, multiply_tile, stack_array
from fastfnn_kernels.team import Team, share

__all__ = ["column_sum", "linear", "linear_backward_input", "linear_backward_weight"]

GRAIN = 16
#: Vectors of sums at a time.
SUM_VECTORS = 4


def _nothing(like: NDArray[Any]) -> NDArray[Any]:
    return np.empty(0, like.dtype)


def linear(
    out: NDArray[Any],
    scratch: NDArray[Any],
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None = None,
    relu: bool = False,
    team: Team | None = None,
) -> None:
    """``out = x @ weight + bias``, through a ReLU where asked; x is (n, in), weight (in, out), bias (out,)."""
    if bias is None:
        bias = np.zeros(weight.shape[1], weight.dtype) if relu else _nothing(weight)
        epilogue = BIAS_RELU if relu else NO_EPILOGUE
    else:
        epilogue = BIAS_RELU if relu else BIAS
    gemm(out, scratch, x, weight, bias, False, False, out.dtype.type(1), False, epilogue, team=team)


def linear_backward_input(
    grad_x: NDArray[Any],
    scratch: NDArray[Any],
    grad_out: NDArray[Any],
    weight: NDArray[Any],
    relu_output: NDArray[Any] | None = None,
    team: Team | None = None,
) -> None:
    """``grad_x = grad_out @ weight.T``; where `x` was the output of a ReLU, masked by it: that ReLU's backward too."""
    mask, epilogue = (_nothing(weight), NO_EPILOGUE) if relu_output is None else (relu_output.reshape(-1), RELU_MASK)
    gemm(grad_x, scratch, grad_out, weight, mask, False, True, grad_x.dtype.type(1), False, epilogue, team=team)


def linear_backward_weight(
    grad_weight: NDArray[Any],
    scratch: NDArray[Any],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    alpha: float = 1.0,
    accumulate: bool = False,
    team: Team | None = None,
) -> None:
    """``grad_weight (+)= alpha * x.T @ grad_out``; with ``alpha=-lr`` onto the weight itself it is the SGD step."""
    dtype = grad_weight.dtype.type
    gemm(grad_weight, scratch, x, grad_out, _nothing(x), True, False, dtype(alpha), accumulate, NO_EPILOGUE, team=team)


@helper
def column_share(n: int, itemsize: int, tid: int, n_threads: int) -> tuple[int, int]:
    """Which columns of `n` a thread sums. So few that several rows fill the vectors are all one thread's."""
    if _rows_side_by_side(n, itemsize) > 1:
        return (0, n) if tid == 0 else (n, n)
    return share(n, tid, n_threads, GRAIN)


@helper
def _rows_side_by_side(n: int, itemsize: int) -> int:
    return max(1, SUM_VECTORS * VECTOR_BYTES // itemsize // max(1, n))


@kernel(reference.column_sum, in_place=True)
def column_sum(out: NDArray[Any], x: NDArray[Any], accumulate: bool, tid: int, n_threads: int) -> None:
    """``out (+)= x.sum(axis=0)``: the bias's gradient. x is (n, columns).

    The sums stay in registers: four vectors of them, for one would wait for its own last addition. Where x is narrow,
    several of its rows, which lie side by side, are one row of these. Each thread sums its share of the columns.
    """
    rows, n = x.shape
    start, stop = column_share(n, x.itemsize, tid, n_threads)
    lanes, together = VECTOR_BYTES // x.itemsize, _rows_side_by_side(n, x.itemsize)
    flat, sums = x.reshape(-1), out
    one, partial = stack_array(out, 1), stack_array(out, VECTOR_BYTES)
    one[0] = 1
    depth, width, last, adds = rows, n, stop, accumulate
    if together > 1:
        depth, width, sums, adds = rows // together, together * n, partial, False
        last = width if stop > start else start
    alpha, j = out.dtype.type(1), start
    # fmt: off
    while j < last:
        columns = min(SUM_VECTORS * lanes, last - j)
        vectors = (columns + lanes - 1) // lanes
        if vectors == 4:
            multiply_tile(1, 4, sums, j, width, one, 0, 0, 0, flat, j, width, depth, alpha, adds, columns)
        elif vectors == 3:
            multiply_tile(1, 3, sums, j, width, one, 0, 0, 0, flat, j, width, depth, alpha, adds, columns)
        elif vectors == 2:
            multiply_tile(1, 2, sums, j, width, one, 0, 0, 0, flat, j, width, depth, alpha, adds, columns)
        else:
            multiply_tile(1, 1, sums, j, width, one, 0, 0, 0, flat, j, width, depth, alpha, adds, columns)
        j += columns
    # fmt: on
    if together > 1 and stop > start:
        for k in range(n):
            out[k] = out[k] + partial[k] if accumulate else partial[k]
        for g in range(1, together):
            for k in range(n):
                out[k] += partial[g * n + k]
        for i in range(depth * together, rows):
            for k in range(n):
                out[k] += x[i, k]
