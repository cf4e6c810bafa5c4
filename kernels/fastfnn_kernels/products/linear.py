"""The affine layer ``x @ weight + bias``: three products of `gemm` and one sum of columns.

`weight` is (in, out), so the products are nn (forward), nt (the input's gradient) and tn (the weight's). Arrays are
C-contiguous and of one dtype; `scratch` comes from `gemm.scratch_for`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.products.gemm import BIAS, BIAS_RELU, NO_EPILOGUE, RELU_MASK, gemm
from fastfnn_kernels.team import Team, share

__all__ = ["column_sum", "linear", "linear_backward_input", "linear_backward_weight"]

GRAIN = 16


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


@kernel(reference.column_sum, in_place=True)
def column_sum(out: NDArray[Any], x: NDArray[Any], accumulate: bool, tid: int, n_threads: int) -> None:
    """``out (+)= x.sum(axis=0)``: the bias's gradient. x is (n, columns).

    Loop order: rows outside, so that memory is read as it lies. Each thread sums its share of the columns.
    """
    start, stop = share(x.shape[1], tid, n_threads, GRAIN)
    total = out[start:stop]
    if not accumulate:
        for j in range(total.size):
            total[j] = 0
    for i in range(x.shape[0]):
        row = x[i, start:stop]
        for j in range(total.size):
            total[j] += row[j]
