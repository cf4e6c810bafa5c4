"""Losses: those of the rows, and in training the gradient for the prediction.

An element loss keeps those of the elements. The cross-entropies need the gradient's memory to work in, also where
nobody trains.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from fastfnn_kernels import losses, softmax
from fastfnn_kernels._config import helper, inlined
from fastfnn_kernels.operations._fields import Array, Number, array, rows, scale
from fastfnn_kernels.operations._registry import operation

RowNumbers = Annotated[Array, rows(dtype=np.float64)]
Labels = Annotated[Array, rows(dtype=np.int64)]
Rows = Annotated[Array, rows("width")]
MaybeRows = Annotated[Array, rows("width", optional=True)]
Vector = Annotated[Array, array("width")]
Flat = Annotated[Array, rows("width", axes=1)]
MaybeFlat = Annotated[Array, rows("width", axes=1, optional=True)]
Scale = Annotated[float, scale()]
ElementScale = Annotated[float, scale("width")]

_cross_entropy, _cross_entropy_rows = softmax.softmax_cross_entropy.inlined, softmax.softmax_cross_entropy_rows.inlined
_nll_losses, _nll_gradient = losses.nll_losses.inlined, losses.nll_gradient.inlined
_nll_losses_rows, _nll_gradient_rows = losses.nll_losses_rows.inlined, losses.nll_gradient_rows.inlined


@operation
def cross_entropy(
    losses: RowNumbers, grad: Rows, prediction: Rows, target: Labels, scale: Scale, label_smoothing: Number
) -> None:
    _cross_entropy(losses, grad, prediction, target, scale, label_smoothing, 0, 1)


@operation
def cross_entropy_rows(
    losses: RowNumbers, grad: Rows, prediction: Rows, target: Rows, scale: Scale, label_smoothing: Number
) -> None:
    _cross_entropy_rows(losses, grad, prediction, target, scale, label_smoothing, 0, 1)


@operation
def nll(losses: RowNumbers, grad: MaybeRows, prediction: Rows, target: Labels, scale: Scale) -> None:
    _nll_losses(losses, prediction, target, 0, 1)
    if grad.size:
        _nll_gradient(grad, prediction, target, scale, 0, 1)


@operation
def nll_rows(losses: RowNumbers, grad: MaybeRows, prediction: Rows, target: Rows, scale: Scale) -> None:
    _nll_losses_rows(losses, prediction, target, 0, 1)
    if grad.size:
        _nll_gradient_rows(grad, prediction, target, scale, 0, 1)


@inlined
def _add_up(row_losses: Any, elements: Any) -> None:
    width = elements.size // row_losses.size
    for i in range(row_losses.size):
        total = 0.0
        for j in range(width):
            total += elements[i * width + j]
        row_losses[i] = total


def _element_loss(name: str, losses_of: Any, gradient_of: Any) -> None:
    losses_kernel, gradient_kernel = losses_of.inlined, gradient_of.inlined

    def element_loss(
        losses: RowNumbers,
        elements: Flat,
        grad: MaybeFlat,
        prediction: Flat,
        target: Flat,
        scale: ElementScale,
    ) -> None:
        losses_kernel(elements, prediction, target, 0, 1)
        if grad.size:
            gradient_kernel(grad, prediction, target, scale, 0, 1)
        _add_up(losses, elements)

    operation(element_loss, name)


_element_loss("bce", losses.bce_losses, losses.bce_gradient)
_element_loss("bce_with_logits", losses.bce_with_logits_losses, losses.bce_with_logits_gradient)
_element_loss("mse", losses.mse_losses, losses.mse_gradient)
_element_loss("l1", losses.l1_losses, losses.l1_gradient)
_element_loss("poisson_nll", losses.poisson_nll_losses, losses.poisson_nll_gradient)

_huber_losses, _huber_gradient = losses.huber_losses.inlined, losses.huber_gradient.inlined


@operation
def huber(
    losses: RowNumbers,
    elements: Flat,
    grad: MaybeFlat,
    prediction: Flat,
    target: Flat,
    scale: ElementScale,
    delta: Number,
) -> None:
    _huber_losses(elements, prediction, target, delta, 0, 1)
    if grad.size:
        _huber_gradient(grad, prediction, target, scale, delta, 0, 1)
    _add_up(losses, elements)


@operation
def class_rows(meant: Rows, target: Labels, weight: Vector, label_smoothing: Number) -> None:
    """Labels as rows of weights: smoothed, and each class times its weight; a label beyond the classes means none."""
    classes = meant.shape[1]
    one = meant.dtype.type(1)
    spread = label_smoothing / meant.dtype.type(classes)
    for i in range(meant.shape[0]):
        label = target[i]
        for j in range(classes):
            meant[i, j] = weight[j] * spread if label < classes else meant.dtype.type(0)
        if label < classes:
            meant[i, label] += weight[label] * (one - label_smoothing)


@operation
def weigh_classes(meant: Rows, target: Rows, weight: Vector, label_smoothing: Number) -> None:
    """Rows of probabilities likewise."""
    one = meant.dtype.type(1)
    spread = label_smoothing / meant.dtype.type(meant.shape[1])
    for i in range(meant.shape[0]):
        for j in range(meant.shape[1]):
            meant[i, j] = weight[j] * (target[i, j] * (one - label_smoothing) + spread)


@operation
def weigh_targets(shifted: Rows, factor: Rows, target: Rows, weight: Vector, pos_weight: Vector) -> None:
    """What makes a weighted binary cross-entropy a plain one: ``p t / c`` and ``w c``, with ``c = 1 + (p - 1) t``."""
    zero, one = target.dtype.type(0), target.dtype.type(1)
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            kept = one + (pos_weight[j] - one) * target[i, j]
            shifted[i, j] = pos_weight[j] * target[i, j] / kept if kept > zero else zero
            factor[i, j] = weight[j] * kept


@operation
def weigh_elements(losses: RowNumbers, elements: Rows, grad: MaybeRows, factor: Rows) -> None:
    """Each element's loss and gradient times its factor."""
    for i in range(losses.size):
        total = 0.0
        for j in range(elements.shape[1]):
            elements[i, j] *= factor[i, j]
            total += elements[i, j]
        losses[i] = total
    for i in range(grad.shape[0]):
        for j in range(grad.shape[1]):
            grad[i, j] *= factor[i, j]


@operation
def weigh(losses: RowNumbers, grad: MaybeRows, weights: Annotated[Array, rows()]) -> None:
    """Each row's loss and gradient times its weight."""
    for i in range(losses.size):
        losses[i] *= weights[i]
    for i in range(grad.shape[0]):
        for j in range(grad.shape[1]):
            grad[i, j] *= weights[i]


@helper
def _largest(x: Any, row: int) -> int:
    best, largest = 0, x[row, 0]
    for j in range(1, x.shape[1]):
        # The largest is kept: looking it up again would wait for `best`, an element after the other.
        best, largest = (j, x[row, j]) if x[row, j] > largest else (best, largest)
    return best


@operation
def count_hits(hits: RowNumbers, prediction: Rows, target: Labels) -> None:
    """1 for each row whose largest output is the label's, else 0."""
    for i in range(hits.size):
        hits[i] = _largest(prediction, i) == target[i]


@operation
def count_sides(hits: RowNumbers, prediction: Rows, target: Rows, threshold: Number) -> None:
    """How many of each row's outputs are above the threshold where the target is above one half, and not elsewhere."""
    half = target.dtype.type(0.5)
    for i in range(hits.size):
        right = 0
        for j in range(prediction.shape[1]):
            right += (prediction[i, j] > threshold) == (target[i, j] > half)
        hits[i] = right


@operation
def count_hits_rows(hits: RowNumbers, prediction: Rows, target: Rows) -> None:
    """The same where the target's largest weight says the class."""
    for i in range(hits.size):
        hits[i] = _largest(prediction, i) == _largest(target, i)
