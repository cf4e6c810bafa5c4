"""The records of a loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastfnn.engine.steps.table import Array, Data, Table
from fastfnn.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss, NLLLoss

#: Operation of each loss, for labels and for rows.
LOSSES: dict[type[Loss], tuple[str, str]] = {
    CrossEntropyLoss: ("cross_entropy", "cross_entropy_rows"),
    NLLLoss: ("nll", "nll_rows"),
    BCELoss: ("", "bce"),
    BCEWithLogitsLoss: ("", "bce_with_logits"),
    MSELoss: ("", "mse"),
}


def write_loss(table: Table, loss: Loss, prediction: Array, data: Data, weights: Data | None = None) -> Array:
    """Append the loss of the chunk's rows, their hits, and in training the gradient, whose row array is returned.

    Losses and gradients of the rows are multiplied by their weights, where there are any.
    """
    labels, sample_shape = data.shape == (), prediction.shape[1:]
    width, mean = math.prod(sample_shape), int(loss.reduction == "mean")
    target = table.gather(data)
    table.row_losses, table.hits = np.zeros(table.rows), np.zeros(table.rows)
    needs_grad = table.training or isinstance(loss, CrossEntropyLoss)
    grad = table.buffer(sample_shape if needs_grad else (0,))
    # An element loss keeps the losses of the elements, a class loss has a smoothing or ignores the field.
    last: Any = float(getattr(loss, "label_smoothing", 0.0)) if loss.classifies else table.buffer(sample_shape)
    operation = LOSSES[type(loss)][0 if labels else 1]
    table.row(operation, table.row_losses, grad if needs_grad else 0, prediction, target, width, mean, last)
    if weights is not None:
        table.row("weigh", table.row_losses, grad if needs_grad else 0, table.gather(weights), width)
    if loss.classifies:
        table.row("count_hits", table.hits, prediction, target, width, int(labels))
    return grad
