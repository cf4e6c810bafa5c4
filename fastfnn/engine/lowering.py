"""From a `Sequential` to steps: which layers become which step, and how many rows go through them together.

What is fused is looked up in a table, never asked of the user. A new kind of layer is a line in it, and a `Step`.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.engine.sparsity import CSR, Sparsity, look
from fastfnn.engine.steps import (
    AugmentationStep,
    BatchNormStep,
    BranchesStep,
    ColumnsStep,
    ConvStep,
    DropoutStep,
    ElementwiseStep,
    EmbeddingStep,
    LayerNormStep,
    LinearStep,
    ListedLinearStep,
    MarkedLinearStep,
    NormalizeStep,
    PackedLinearStep,
    PadStep,
    PoolStep,
    PReLUStep,
    ReshapeStep,
    Step,
    StepChain,
)
from fastfnn.engine.steps.elementwise import ACTIVATIONS
from fastfnn.engine.task import Packed
from fastfnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Columns,
    Conv1d,
    Conv2d,
    Dropout,
    Dropout2d,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    Linear,
    MaxPool1d,
    MaxPool2d,
    Noise,
    Normalize,
    Parallel,
    PReLU,
    RandomErase,
    RandomFlip,
    RandomRotation,
    RandomShift,
    ReLU,
    Residual,
    ZeroPad2d,
)
from fastfnn.layers.chain import flattened
from fastfnn.model import Sequential

AUGMENTATIONS: tuple[type[Layer], ...] = (Noise, RandomErase, RandomFlip, RandomRotation, RandomShift)
#: Neighbours and the step that they become; the longest entry that fits counts. A single layer's must always fit.
FUSIONS: dict[tuple[type[Layer], ...], type[Step]] = {
    (Flatten,): ReshapeStep,
    (Normalize,): NormalizeStep,
    # Bias, ReLU and 2×2 pooling while the lines are in the first-level cache.
    (Conv2d, ReLU, MaxPool2d): ConvStep,
    (Conv2d, MaxPool2d, ReLU): ConvStep,
    (Conv2d, MaxPool2d): ConvStep,
    (Conv2d, ReLU): ConvStep,
    (Conv2d,): ConvStep,
    (Conv1d, ReLU): ConvStep,
    (Conv1d,): ConvStep,
    (BatchNorm1d, ReLU): BatchNormStep,
    (BatchNorm1d,): BatchNormStep,
    (BatchNorm2d, ReLU): BatchNormStep,
    (BatchNorm2d,): BatchNormStep,
    (LayerNorm,): LayerNormStep,
    (MaxPool1d,): PoolStep,
    (AvgPool1d,): PoolStep,
    (MaxPool2d,): PoolStep,
    (AvgPool2d,): PoolStep,
    (AdaptiveAvgPool2d,): PoolStep,
    (GlobalAvgPool2d,): PoolStep,
    (GlobalMaxPool2d,): PoolStep,
    (ZeroPad2d,): PadStep,
    (PReLU,): PReLUStep,
    (Dropout,): DropoutStep,
    (Dropout2d,): DropoutStep,
    **{(augmentation,): AugmentationStep for augmentation in AUGMENTATIONS},
    (Linear, ReLU): LinearStep,  # bias and ReLU while the product is in cache
    (Linear,): LinearStep,
    **{(activation,): ElementwiseStep for activation in ACTIVATIONS},
    (Parallel, ReLU): BranchesStep,
    (Parallel,): BranchesStep,
    (Residual, ReLU): BranchesStep,
    (Residual,): BranchesStep,
    (Columns,): ColumnsStep,
    (Embedding,): EmbeddingStep,
}
#: For inference, where batch normalisation scales and shifts by constants, which may as well be the convolution's.
INFERENCE_FUSIONS: dict[tuple[type[Layer], ...], type[Step]] = {
    (Conv2d, BatchNorm2d, ReLU, MaxPool2d): ConvStep,
    (Conv2d, BatchNorm2d, MaxPool2d, ReLU): ConvStep,
    (Conv2d, BatchNorm2d, MaxPool2d): ConvStep,
    (Conv2d, BatchNorm2d, ReLU): ConvStep,
    (Conv2d, BatchNorm2d): ConvStep,
}
Array = NDArray[Any]
LONGEST = max(map(len, INFERENCE_FUSIONS))

#: Rows of a batch that go through the network together: as many as keep the widest layer in a second-level cache,
#: and take a tenth of a second at most, for an interrupt waits for them; within bounds.
CHUNK_BYTES, CHUNK_NANOSECONDS, LEAST_CHUNK_ROWS, CHUNK_ROWS = 3 << 19, 1e8, 64, 2048
#: What share of the inputs may be nonzeros, in one row or its neighbour, for these alone to be walked faster than all;
#: for rows of the weight of at least so many bytes, for each costs as much as some multiplications.
MOST_NONZEROS, LEAST_ROW_BYTES = 0.5, 256
#: Packed products skip zeros row by row. A term alone costs more than one among those of other rows, the more so the
#: narrower a strip is: so large a share may be left, and in a strip of few vectors as many of these.
MOST_SKIPPED_ALONE, VECTORS_WORTH_SKIPPING = 0.4, 16
#: What may be subtracted from all numbers so that most are zero, as the first layer sees them: it costs the other
#: numbers the digits in which it is larger than they are. Bytes are never larger than their range.
MOST_SHIFT = 8.0
#: Rows of a chunk from which on skipping zeros makes up for a shift of all numbers: the whole weight is read for it.
ROWS_WORTH_SHIFT = 8
#: A training step's work, where that of the forward is 1.
TRAINING_WORK = 3.0


def uncompiled(model: Sequential) -> list[Layer]:
    """The layers that no table knows: a user's own."""
    return _uncompiled(model.layers)


def _uncompiled(layers: Sequence[Layer]) -> list[Layer]:
    found = []
    for layer in flattened(layers):
        if (type(layer),) not in FUSIONS:
            found.append(layer)
        elif isinstance(layer, Parallel):
            found += _uncompiled(layer.branches)
    return found


def skips_zeros(layers: list[Layer]) -> bool:
    """Whether a model's first layer with parameters can walk the nonzeros of the model's input alone.

    That is a `Linear`. A `Flatten` before it changes no number, and one value that all are shifted by can be made up
    for: a `Normalize` of one channel.
    """
    numbers = [layer for layer in flattened(layers) if type(layer) is not Flatten]
    if numbers and type(numbers[0]) is Normalize and numbers[0].factor_and_shift()[0].size == 1:
        del numbers[0]
    return bool(numbers) and type(numbers[0]) is Linear


def sparsity(model: Sequential, x: Array | CSR, rows: int, lazy: bool = False) -> Sparsity | None:
    """How to find the nonzeros of `x`, or None where the first layer does not walk them, or where that does not pay.

    `rows` go through together; what a shift of all numbers costs is paid for few of them, or put off where `lazy`.
    """
    if not skips_zeros(model.layers):
        return None
    if isinstance(x, CSR):
        return x.sparsity
    bears_shift = (lazy and _first_linear(model).trainable) or rows >= ROWS_WORTH_SHIFT
    if not _has_long_rows(_first_linear(model), model.dtype) or (_is_shifted(model) and not bears_shift):
        return None
    found = look(x, MOST_NONZEROS)
    if found is None or not found.zero:
        return found
    layers = flattened(model.layers)
    factors = (layer.factor_and_shift()[0][0] for layer in layers if isinstance(layer, Normalize))
    keeps_digits = x.dtype.itemsize == 1 or abs(found.zero * float(next(factors, 1.0))) <= MOST_SHIFT
    return found if keeps_digits and bears_shift else None


def sparsity_of_a_row(model: Sequential) -> Sparsity | None:
    """How to skip the zeros of single rows, which nobody has looked at: what that costs is less than it may save."""
    if not skips_zeros(model.layers) or _is_shifted(model):
        return None
    return Sparsity() if _has_long_rows(_first_linear(model), model.dtype) else None


def _first_linear(model: Sequential) -> Linear:
    """Of a model that `skips_zeros`."""
    return next(layer for layer in flattened(model.layers) if isinstance(layer, Linear))


def _has_long_rows(layer: Linear, dtype: Any) -> bool:
    """Whether a row of the weight is worth being skipped."""
    return layer.out_features * dtype.itemsize >= LEAST_ROW_BYTES


def _is_shifted(model: Sequential) -> bool:
    """Whether a `Normalize` makes other numbers of zeros."""
    layers = flattened(model.layers)
    return any(type(layer) is Normalize and layer.factor_and_shift()[1].any() for layer in layers)


def lower(
    model: Sequential,
    sample_shape: tuple[int, ...],
    *,
    training: bool = True,
    sparsity: Sparsity | None = None,
    packed: Packed | None = None,
) -> list[Step]:
    """The model's steps. Backwards stop at the first that trains: nobody asks for the gradient of its input.

    With a `sparsity` the first `Linear` of a model that `skips_zeros` does. With `packed`, which is that of a `Task`,
    those of a `Linear` read their weight packed, and those of a `Conv2d` pack it once.
    """
    how = _How(FUSIONS if training else {**FUSIONS, **INFERENCE_FUSIONS}, model.dtype, packed)
    steps = _lowered(model.layers, tuple(sample_shape), how, sparsity)
    StepChain(steps).need_grad_x(False)
    return steps


class _How(NamedTuple):
    """What all steps of a model have in common."""

    fusions: dict[tuple[type[Layer], ...], type[Step]]
    dtype: np.dtype[Any]
    packed: Packed | None


def _lowered(
    chain: Sequence[Layer], shape: tuple[int, ...], how: _How, sparsity: Sparsity | None = None, inner: bool = False
) -> list[Step]:
    """The steps of a chain of layers; `inner`: of a branch."""
    steps: list[Step] = []
    layers, packed = tuple(flattened(chain)), how.packed
    while layers:
        length, kind = _longest_fusion(layers, shape, how.fusions)
        here, layers = layers[:length], layers[length:]
        out_shape = shape
        for layer in here:
            out_shape = layer.output_shape(out_shape)
        if sparsity is not None and kind is LinearStep:
            kind, sparsity = ListedLinearStep if sparsity.capacity else MarkedLinearStep, None
        if packed is not None and kind is LinearStep:
            step = PackedLinearStep(here, shape, out_shape)
            step.kept = packed
            if not inner and not any(before.has_parameters for before in steps):
                step.most, step.reach = _most_others(step.layer, how.dtype), MOST_SHIFT
        else:
            step = kind(here, shape, out_shape)
        if isinstance(step, ConvStep):
            step.frozen = packed is not None
        if isinstance(step, BranchesStep):
            shapes = step.branch_inputs()
            chains = (
                StepChain(_lowered([branch], own, how, inner=True))
                for branch, own in zip(step.layer.branches, shapes, strict=True)
            )
            step.take_branches(list(chains))
        if steps:
            step.follow(steps[-1])
        steps.append(step)
        shape = out_shape
    return steps


def _most_others(layer: Linear, dtype: Any) -> float:
    """Up to what share of others a row's most frequent value is skipped by a packed product."""
    if not _has_long_rows(layer, dtype):
        return 0.0
    _, _, width = kernels.products.packed.strip_shape(1, layer.out_features, dtype)
    return min(MOST_SKIPPED_ALONE, width * dtype.itemsize / kernels.simd.VECTOR_BYTES / VECTORS_WORTH_SKIPPING)


def _longest_fusion(
    layers: tuple[Layer, ...], shape: tuple[int, ...], fusions: dict[tuple[type[Layer], ...], type[Step]]
) -> tuple[int, type[Step]]:
    types = tuple(type(layer) for layer in layers[:LONGEST])
    for length in range(len(types), 1, -1):
        kind = fusions.get(types[:length])
        if kind is not None and kind.fits(layers[:length], shape):
            return length, kind
    return 1, fusions[types[:1]]


_row_work: weakref.WeakKeyDictionary[Sequential, tuple[Any, float]] = weakref.WeakKeyDictionary()


def row_nanoseconds(model: Sequential, sample_shape: tuple[int, ...]) -> float:
    """One thread's work for the forward of a row, roughly; a user's own layers count nothing."""
    key = sample_shape, *model.layer_ids()
    known = _row_work.get(model)
    if known is None or known[0] != key:
        steps = [] if uncompiled(model) else lower(model, sample_shape)
        known = _row_work[model] = key, nanoseconds(steps, training=False)
    return known[1]


def nanoseconds(steps: list[Step], training: bool) -> float:
    """One thread's work for a row, roughly."""
    return sum(step.nanoseconds for step in steps) * (TRAINING_WORK if training else 1.0)


def chunk_rows(steps: list[Step], sample_shape: tuple[int, ...], dtype: Any, batch_rows: int, training: bool) -> int:
    """Rows that go through the steps together; it does not depend on the number of threads, so results do not."""
    if training and any(step.whole_batch for step in steps):
        return batch_rows
    widest = max(1, math.prod(sample_shape), *(step.widest for step in steps))
    fitting = CHUNK_BYTES // (widest * dtype.itemsize)
    patient = int(CHUNK_NANOSECONDS / max(1.0, nanoseconds(steps, training)))
    rows = min(fitting, patient) // LEAST_CHUNK_ROWS * LEAST_CHUNK_ROWS
    rows = max(1, min(CHUNK_ROWS, max(LEAST_CHUNK_ROWS, rows), batch_rows))
    # A last chunk of few rows would cost nearly as much as a whole one: the gradients are gone through for each.
    even = -(-batch_rows // -(-batch_rows // rows))
    grain = kernels.program.ROW_GRAIN
    return min(rows, -(-even // grain) * grain)
