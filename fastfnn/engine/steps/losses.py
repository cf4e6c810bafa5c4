"""The records of a loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastfnn.engine.steps.table import Array, Data, Table
from fastfnn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
    PoissonNLLLoss,
)

#: Operation of each loss, for labels and for rows.
LOSSES: dict[type[Loss], tuple[str, str]] = {
    CrossEntropyLoss: ("cross_entropy", "cross_entropy_rows"),
    NLLLoss: ("nll", "nll_rows"),
    BCELoss: ("", "bce"),
    BCEWithLogitsLoss: ("", "bce_with_logits"),
    MSELoss: ("", "mse"),
    L1Loss: ("", "l1"),
    HuberLoss: ("", "huber"),
    PoissonNLLLoss: ("", "poisson_nll"),
}


def write_loss(
    table: Table, loss: Loss, prediction: Array, data: Data, weights: Data | None = None, ignores: bool = False
) -> Array | None:
    """Append the loss of the chunk's rows, their hits, and in training the gradient, whose row array is returned.

    Losses and gradients of the rows are multiplied by their weights, where there are any. With `ignores`, a label
    beyond the last class means none.
    """
    labels, sample_shape = data.shape == (), prediction.shape[1:]
    width = math.prod(sample_shape)
    target = table.gather_labels(data, width + ignores) if labels else table.gather(data)
    table.row_losses, table.hits = np.zeros(table.rows), np.zeros(table.rows)
    more: dict[str, Any] = {}
    if isinstance(loss, CrossEntropyLoss):
        more["label_smoothing"] = float(loss.label_smoothing)
    elif not loss.classifies:
        more["elements"] = table.buffer(sample_shape)
    if isinstance(loss, HuberLoss):
        more["delta"] = float(loss.delta)
    needs_grad = table.training or isinstance(loss, CrossEntropyLoss)
    grad = table.buffer(sample_shape) if needs_grad else None
    rows = {"losses": table.row_losses, "grad": grad, "width": width}
    scale = {"scale": loss.reduction == "mean"}
    meant, factor, is_rows = target, None, not labels
    if isinstance(loss, (BCELoss, BCEWithLogitsLoss)) and loss.weights():
        meant, factor = table.buffer(sample_shape), table.buffer(sample_shape)
        vectors = {name: loss.row_of_weights(name, sample_shape, table.dtype) for name in ("weight", "pos_weight")}
        table.row("weigh_targets", shifted=meant, factor=factor, target=target, width=width, **vectors)
    if isinstance(loss, (CrossEntropyLoss, NLLLoss)) and (loss.weights() or ignores):
        meant, is_rows = table.buffer(sample_shape), True
        weighing = {"weight": loss.class_weights(width).astype(table.dtype), "width": width}
        weighing["label_smoothing"] = float(loss.label_smoothing)
        table.row("class_rows" if labels else "weigh_classes", meant=meant, target=target, **weighing)
        more = dict.fromkeys(more, 0.0)
    table.row(LOSSES[type(loss)][is_rows], prediction=prediction, target=meant, **rows, **scale, **more)
    if factor is not None:
        table.row("weigh_elements", elements=more["elements"], factor=factor, **rows)
    if weights is not None:
        table.row("weigh", weights=table.gather(weights), **rows)
    if loss.task == "binary":
        threshold = float(loss.threshold)
        table.row(
            "count_sides", hits=table.hits, prediction=prediction, target=target, threshold=threshold, width=width
        )
    elif loss.classifies:
        operation = "count_hits" if labels else "count_hits_rows"
        table.row(operation, hits=table.hits, prediction=prediction, target=target, width=width)
    return grad
