"""Convolution, with what `lowering` has fused to it.

`words` are a geometry's. Images, outputs and weights are flat; `scratch` is what each thread works in.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from fastfnn_kernels.convolution import backward, forward
from fastfnn_kernels.operations._fields import (
    Adds,
    Array,
    Count,
    Flag,
    Number,
    all_blocks,
    array,
    arrays,
    blocks,
    own,
    rows,
)
from fastfnn_kernels.operations._registry import by_shares, operation

Images = Annotated[Array, rows("image", axes=1)]
MaybeImages = Annotated[Array, rows("image", axes=1, optional=True)]
Outputs = Annotated[Array, rows("outputs", axes=1)]
Index = Annotated[Array, rows("outputs", dtype=np.int32, axes=1, optional=True)]
Scratch = Annotated[Array, own(1, "room")]
Words = Annotated[Array, array("word_count", dtype=np.int64)]
Weights = Annotated[Array, array("weights")]
Filters = Annotated[Array, array("filters")]
#: Each thread has filters of its own where they are folded, and else all have the same.
_of_thread_if_folded = arrays("place.tid * record.folded", None, lambda room: 1)
OwnWeights = Annotated[Array, _of_thread_if_folded("weights")]
OwnFilters = Annotated[Array, _of_thread_if_folded("filters")]
#: Zero at first, of threads whose filters never change: these are packed once.
Ready = Annotated[Array, own(1, dtype=np.int64, axes=1, optional=True)]
Partials = Annotated[Array, blocks("sums")]


@operation
def convolution(
    out: Outputs,
    index: Index,
    scratch: Scratch,
    x: Images,
    weight: OwnWeights,
    bias: OwnFilters,
    words: Words,
    after: Count,
    folded: Flag,
    ready: Ready,
) -> None:
    """`index` where pooling follows. Filters that are `folded` come from `fold_batch_norm`."""
    forward.forward_images(out, index, scratch, x, weight, bias, words, after, ready, 0, 1)


@operation
def convolution_tiled(
    out: Outputs,
    index: Index,
    scratch: Scratch,
    x: Images,
    weight: OwnWeights,
    bias: OwnFilters,
    words: Words,
    after: Count,
    folded: Flag,
    ready: Ready,
) -> None:
    """The same by Winograd's tiles."""
    forward.forward_tiled_images(out, index, scratch, x, weight, bias, words, after, ready, 0, 1)


@operation
def convolution_backward(
    grad_x: MaybeImages,
    partials: Partials,
    scratch: Scratch,
    grad_out: Outputs,
    x: Images,
    weight: Weights,
    out: Outputs,
    index: Index,
    words: Words,
    after: Count,
) -> None:
    """The gradients of weight and bias are the sums of `partials`."""
    backward.backward_images(grad_x, partials, scratch, grad_out, x, weight, out, index, words, after, 0, 1)


@operation
def convolution_backward_tiled(
    grad_x: MaybeImages,
    partials: Partials,
    scratch: Scratch,
    grad_out: Outputs,
    x: Images,
    weight: Weights,
    out: Outputs,
    index: Index,
    words: Words,
    after: Count,
) -> None:
    """The same by Winograd's tiles."""
    backward.backward_tiled_images(grad_x, partials, scratch, grad_out, x, weight, out, index, words, after, 0, 1)


@operation
def convolution_backward_sparse(
    grad_x: MaybeImages,
    partials: Partials,
    scratch: Scratch,
    grad_out: Outputs,
    x: Images,
    weight: Weights,
    out: Outputs,
    index: Index,
    words: Words,
    after: Count,
) -> None:
    """The same behind pooling."""
    backward.backward_sparse_images(grad_x, partials, scratch, grad_out, x, weight, out, index, words, after, 0, 1)


by_shares(
    backward.sum_blocks,
    grad_weight=Weights,
    grad_bias=array("biases"),
    partials=all_blocks("sums"),
    accumulate=Adds,
)


@operation
def fold_batch_norm(
    folded_weight: Annotated[Array, own("weights")],
    folded_bias: Annotated[Array, own("filters")],
    weight: Weights,
    bias: Filters,
    mean: Filters,
    variance: Filters,
    gain: Filters,
    shift: Filters,
    eps: Number,
) -> None:
    """A convolution whose filters are scaled does what batch normalisation would do to its output.

    ``γ (conv(x) + b - μ) / σ + β = conv'(x) + b'`` with ``weight' = weight γ / σ`` and ``b' = (b - μ) γ / σ + β``.
    """
    depth = weight.size // bias.size
    for k in range(bias.size):
        factor = gain[k] / np.sqrt(variance[k] + eps)
        for d in range(k * depth, (k + 1) * depth):
            folded_weight[d] = weight[d] * factor
        folded_bias[k] = (bias[k] - mean[k]) * factor + shift[k]
