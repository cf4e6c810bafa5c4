"""Metrics of a model on a data set: which of them fit its loss, and what they are given of its outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.engine.task import Pass
from fastfnn.errors import InvalidValueError
from fastfnn.functional import sigmoid
from fastfnn.losses import Loss
from fastfnn.metrics import Accuracy, Metric
from fastfnn.metrics.named import Metrics, as_metrics
from fastfnn.model import Sequential
from fastfnn.training.outputs import as_probabilities

Array = NDArray[Any]
#: What metrics may need where a model is trained for this; "predictions" there are always.
NEEDS = {
    "classification": ("labels", "probabilities", "scores"),
    "binary": ("labels", "probabilities"),
    "regression": ("numbers",),
}


def purpose_of(loss: Loss) -> str:
    """What a model is for that is trained with this loss; numbers, where nobody says."""
    return loss.task or ("classification" if loss.classifies else "regression")


def checked_metrics(metrics: Metrics | None, loss: Loss) -> dict[str, Metric]:
    """The metrics by name, each fit for the loss.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        One is none, or needs what there will not be.
    """
    found, purpose = as_metrics(metrics), purpose_of(loss)
    for name, metric in found.items():
        if metric.needs not in (*NEEDS[purpose], "predictions"):
            needs = metric.needs if metric.needs != "scores" else "scores of several classes"
            raise InvalidValueError(
                f"metrics holds {name!r}, which needs {needs}; with {loss!r} there are {', '.join(NEEDS[purpose])}"
            )
    return found


def measure(metrics: Mapping[str, Metric], model: Sequential, loss: Loss, data: Pass) -> dict[str, float]:
    """All metrics of the outputs that `data` holds, of rows whose label counts; the accuracy knows no weights."""
    assert data.y is not None
    assert data.out is not None
    if not metrics:
        return {}
    truth, out, weights = data.y, data.out, data.weights
    kept = truth != getattr(loss, "ignore_index", None) if truth.ndim == 1 else np.ones(len(truth), bool)
    if not kept.all():
        truth, out, weights = truth[kept], out[kept], None if weights is None else weights[kept]
    if weights is not None and not weights.any():
        return dict.fromkeys(metrics, math.nan)
    purpose, n_classes = purpose_of(loss), None
    if purpose == "classification":
        truth, n_classes = truth if truth.ndim == 1 else truth.argmax(axis=1), out.shape[1]
    elif purpose == "binary":
        truth = (truth > 0.5).astype(np.int64)
    figures, made = {}, {}
    for name, metric in metrics.items():
        if metric.needs not in made:
            made[metric.needs] = _predicted(metric.needs, model, loss, out)
        rows = None if isinstance(metric, Accuracy) else weights
        figures[name] = metric(_of_one(truth), made[metric.needs], rows, n_classes=n_classes)
    return figures


def _predicted(needs: str, model: Sequential, loss: Loss, out: Array) -> Array:
    """What a metric that `needs` this is given of the outputs."""
    purpose = purpose_of(loss)
    if needs in ("scores", "numbers") or (needs == "predictions" and purpose == "regression"):
        return _of_one(out)
    if needs == "probabilities":
        if purpose == "classification":
            return as_probabilities(model.last_layer, out, multilabel=False)
        return _of_one(out if loss.threshold else sigmoid(out))
    return out.argmax(axis=1) if purpose == "classification" else _of_one((out > loss.threshold).astype(np.int64))


def _of_one(array: Array) -> Array:
    """(n,) where it is (n, 1)."""
    return array.reshape(-1) if array.shape[1:] == (1,) else array
