"""From a `Sequential` to steps: which layers become which step, and how many rows go through them together.

What is fused is looked up in a table, never asked of the user. A new kind of layer is a line in it, and a `Step`.
"""

from __future__ import annotations

import math
from typing import Any

from fastfnn.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Normalize,
    ReLU,
)
from fastfnn.model import Sequential
from fastfnn.steps import (
    BatchNormStep,
    ConvStep,
    DropoutStep,
    ElementwiseStep,
    LinearStep,
    NormalizeStep,
    PoolStep,
    ReshapeStep,
    Step,
)
from fastfnn.steps.elementwise import ACTIVATIONS

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
    (BatchNorm1d, ReLU): BatchNormStep,
    (BatchNorm1d,): BatchNormStep,
    (BatchNorm2d, ReLU): BatchNormStep,
    (BatchNorm2d,): BatchNormStep,
    (MaxPool2d,): PoolStep,
    (AvgPool2d,): PoolStep,
    (GlobalAvgPool2d,): PoolStep,
    (Dropout,): DropoutStep,
    (Linear, ReLU): LinearStep,  # bias and ReLU while the product is in cache
    (Linear,): LinearStep,
    **{(activation,): ElementwiseStep for activation in ACTIVATIONS},
}
LONGEST = max(map(len, FUSIONS))

#: Rows of a batch that go through the network together: as many as keep the widest layer in a second-level cache,
#: and take a tenth of a second at most, for an interrupt waits for them; within bounds.
CHUNK_BYTES, CHUNK_NANOSECONDS, LEAST_CHUNK_ROWS, CHUNK_ROWS = 3 << 19, 1e8, 64, 2048
#: A training step's work, where that of the forward is 1.
TRAINING_WORK = 3.0


def uncompiled(model: Sequential) -> list[Layer]:
    """The layers that no table knows: a user's own."""
    return [layer for layer in model.layers if (type(layer),) not in FUSIONS]


def lower(model: Sequential, sample_shape: tuple[int, ...]) -> list[Step]:
    """The model's steps. Backwards stop at the first with parameters: nobody asks for the gradient of its input."""
    steps: list[Step] = []
    layers, shape = tuple(model.layers), tuple(sample_shape)
    while layers:
        length, kind = _longest_fusion(layers, shape)
        here, layers = layers[:length], layers[length:]
        out_shape = shape
        for layer in here:
            out_shape = layer.output_shape(out_shape)
        step = kind(here, shape, out_shape)
        if steps:
            step.follow(steps[-1])
        step.needs_grad_x = any(before.has_parameters for before in steps)
        steps.append(step)
        shape = out_shape
    return steps


def _longest_fusion(layers: tuple[Layer, ...], shape: tuple[int, ...]) -> tuple[int, type[Step]]:
    types = tuple(type(layer) for layer in layers[:LONGEST])
    for length in range(len(types), 1, -1):
        kind = FUSIONS.get(types[:length])
        if kind is not None and kind.fits(layers[:length], shape):
            return length, kind
    return 1, FUSIONS[types[:1]]


def nanoseconds(steps: list[Step], training: bool) -> float:
    """One thread's work for a row, roughly."""
    return sum(step.nanoseconds for step in steps) * (TRAINING_WORK if training else 1.0)


def chunk_rows(steps: list[Step], sample_shape: tuple[int, ...], dtype: Any, batch_rows: int, training: bool) -> int:
    """Rows that go through the steps together; it does not depend on the number of threads, so results do not."""
    if training and any(step.whole_batch for step in steps):
        return batch_rows
    widest = max(1, *(math.prod(shape) for shape in (sample_shape, *(step.out_shape for step in steps))))
    fitting = CHUNK_BYTES // (widest * dtype.itemsize)
    patient = int(CHUNK_NANOSECONDS / max(1.0, nanoseconds(steps, training)))
    rows = min(fitting, patient) // LEAST_CHUNK_ROWS * LEAST_CHUNK_ROWS
    return max(1, min(CHUNK_ROWS, max(LEAST_CHUNK_ROWS, rows), batch_rows))
