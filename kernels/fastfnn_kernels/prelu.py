"""A leaky ReLU whose slopes are learnt (He et al. 2015): one for each channel of (rows, channels, spatial).

Loop order: rows, channels, spatial. The slopes' gradients are summed for each block of BLOCK rows, in float64, and
then over the blocks in their order: they do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels.reference.normalization import BLOCK
from fastfnn_kernels.team import share


@kernel(reference.prelu)
def prelu(out: NDArray[Any], x: NDArray[Any], weight: NDArray[Any], tid: int, n_threads: int) -> None:
    """x where it is positive, else its channel's ``weight * x``. Each thread does its rows."""
    start, stop = share(x.shape[0], tid, n_threads, BLOCK)
    out, x = out[start:stop], x[start:stop]
    zero = x.dtype.type(0)
    for i in range(x.shape[0]):
        for channel in range(x.shape[1]):
            slope = weight[channel]
            for j in range(x.shape[2]):
                out[i, channel, j] = x[i, channel, j] if x[i, channel, j] > zero else slope * x[i, channel, j]


@kernel(reference.prelu_rows_backward, outputs=2)
def prelu_rows_backward(
    grad_x: NDArray[Any],
    partials: NDArray[np.float64],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    weight: NDArray[Any],
    tid: int,
    n_threads: int,
) -> None:
    """The gradient for x, and partials (blocks of rows, channels): ``Σ grad_out * x`` where x is not positive.

    Each thread does its rows, whole blocks of them.
    """
    start, stop = share(x.shape[0], tid, n_threads, BLOCK)
    zero = x.dtype.type(0)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        block_x, block_out, block_grad = x[first:last], grad_out[first:last], grad_x[first:last]
        sums = partials[first // BLOCK]
        for channel in range(x.shape[1]):
            slope, total = weight[channel], 0.0
            for i in range(block_x.shape[0]):
                for j in range(block_x.shape[2]):
                    value, grad = block_x[i, channel, j], block_out[i, channel, j]
                    block_grad[i, channel, j] = grad if value > zero else slope * grad
                    total += np.float64(zero if value > zero else grad * value)
            sums[channel] = total


@kernel(reference.prelu_backward_weight, in_place=True)
def prelu_backward_weight(
    grad_weight: NDArray[Any], partials: NDArray[np.float64], accumulate: bool, tid: int, n_threads: int
) -> None:
    """``grad_weight (+)= partials.sum(axis=0)``. Each thread does its share of the channels."""
    start, stop = share(grad_weight.size, tid, n_threads, 1)
    for channel in range(start, stop):
        total = 0.0
        for i in range(partials.shape[0]):
            total += partials[i, channel]
        sums = grad_weight.dtype.type(total)
        grad_weight[channel] = grad_weight[channel] + sums if accumulate else sums
