"""Inference: `evaluate`, `predict`, `predict_proba`, `predict_raw`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn.engine import eager, program
from fastfnn.engine.context import few_outputs
from fastfnn.engine.sparsity import CSR
from fastfnn.engine.task import Pass, Sums, Task
from fastfnn.functional import sigmoid, softmax
from fastfnn.layers import Layer, LogSoftmax, Sigmoid, Softmax
from fastfnn.losses import Loss
from fastfnn.model import Sequential
from fastfnn.training import arguments
from fastfnn.training.arguments import Array, Inputs


class Evaluation(NamedTuple):
    """Loss, and the share of rows whose class is right (NaN where the targets are no classes)."""

    loss: float
    accuracy: float


def figures(sums: Sums, loss: Loss) -> Evaluation:
    total, correct, rows, _ = sums
    value = total / rows if loss.reduction == "mean" else total
    return Evaluation(value, correct / rows if loss.classifies else math.nan)


def evaluate_checked(model: Sequential, loss: Loss, data: Pass, team: Any) -> Evaluation:
    task, sums = Task(model, loss), (0.0, 0, 0, 0)
    if not program.is_compiled(task):
        return figures(eager.evaluate(task, data), loss)
    for sums in program.run(task, data, team):  # noqa: B007 (the last is used)
        pass
    return figures(sums, loss)


def evaluate(
    model: Sequential,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: Loss,
    sample_weight: ArrayLike | None = None,
    n_threads: int | None = None,
) -> Evaluation:
    """Loss and accuracy on a data set, which goes through in chunks: memory does not grow with it.

    Parameters
    ----------
    model, x, y, loss, n_threads
        As in `fit`.
    sample_weight : (n,) array, optional
        Weights of the rows in the loss: Σ w l / Σ w for a mean. The accuracy counts all rows alike.

    Returns
    -------
    Evaluation
        ``loss, accuracy = evaluate(...)``; the accuracy is NaN where the targets are no classes.
    """
    x, y, weights = arguments.as_data(model, loss, x, y, sample_weight)
    with arguments.team_for(model, x, len(x), n_threads, training=False) as team:
        return evaluate_checked(model, loss, Pass(x, y, weights=weights), team)


def predict_raw(model: Sequential, x: Inputs, *, n_threads: int | None = None) -> Array:
    """The model's outputs as they are, (n, …), for any number of rows."""
    inputs, output_shape = arguments.as_inputs(model, x)
    if arguments.may_be_one(n_threads) and not isinstance(inputs, CSR):
        few = few_outputs(model, inputs, arguments.WORK_WORTH_CALL)
        if few is not None:
            return few
    out = np.empty((len(inputs), *output_shape), model.dtype)
    if len(inputs):
        write_outputs(Task(model), Pass(inputs, out=out), n_threads)
    return out


def write_outputs(task: Task, data: Pass, n_threads: int | None) -> None:
    """Write the model's outputs for at least one row of checked inputs."""
    if not program.is_compiled(task):
        eager.predict(task, data)
        return
    with arguments.team_for(task.model, data.x, len(data.x), n_threads, training=False) as team:
        for _ in program.run(task, data, team):
            pass


def predict_proba(model: Sequential, x: Inputs, *, multilabel: bool = False, n_threads: int | None = None) -> Array:
    """Class probabilities (n, classes): the outputs of a final Softmax or Sigmoid, otherwise the softmax of the logits.

    A model with one output is taken as binary: (n, 1), the probability of class 1. With `multilabel` every output is
    one: a row may have several classes, or none, and the logits' probabilities are their sigmoids.
    """
    out = predict_raw(model, x, n_threads=n_threads)
    return as_probabilities(model.layers[-1], out, multilabel)


def as_probabilities(last: Layer, out: Array, multilabel: bool) -> Array:
    """What `predict_proba` makes of the outputs of a model's last layer."""
    if isinstance(last, (Softmax, Sigmoid)):
        return out
    if isinstance(last, LogSoftmax):
        return np.exp(out)
    return sigmoid(out) if multilabel or out.shape[-1] == 1 else softmax(out)


def predict(
    model: Sequential, x: Inputs, *, multilabel: bool = False, n_threads: int | None = None
) -> NDArray[np.int64]:
    """Class labels (n,): the place of the largest output. A model with one output is binary: 0 or 1.

    With `multilabel`, (n, classes): 1 where a class is more probable than not. For the outputs of a regression use
    `predict_raw`.
    """
    out = predict_raw(model, x, n_threads=n_threads)
    return as_labels(model.layers[-1], out, multilabel)


def as_labels(last: Layer, out: Array, multilabel: bool) -> NDArray[np.int64]:
    """What `predict` makes of the outputs of a model's last layer."""
    if not multilabel and out.shape[-1] > 1:
        return out.argmax(axis=-1)
    threshold = 0.5 if isinstance(last, (Softmax, Sigmoid)) else 0.0
    above = (out > threshold).astype(np.int64)
    return above if multilabel else above[..., 0]
