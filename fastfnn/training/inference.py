"""Inference: `evaluate`, `predict`, `predict_proba`, `predict_raw`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn._warnings import warn
from fastfnn.engine import eager, program
from fastfnn.engine.context import few_outputs
from fastfnn.engine.sparsity import CSR
from fastfnn.engine.task import Pass, Sums, Task
from fastfnn.errors import InvalidValueError
from fastfnn.layers import LogSoftmax, Sigmoid, Softmax
from fastfnn.losses import TASKS, Loss
from fastfnn.metrics import Metric
from fastfnn.metrics.named import Metrics
from fastfnn.model import Sequential
from fastfnn.training import arguments, finite
from fastfnn.training.arguments import Array, Inputs
from fastfnn.training.measuring import checked_metrics, measure
from fastfnn.training.outputs import as_labels, as_probabilities


class _Figures(NamedTuple):
    loss: float
    accuracy: float


class Evaluation(_Figures):
    """Loss, and the share of rows whose class is right, of binary outputs the share of these (NaN for numbers).

    Attributes
    ----------
    loss, accuracy : float
        ``loss, accuracy = evaluation``.
    metrics : mapping of str to float
        What else was asked for, by name.
    """

    metrics: Mapping[str, float] = MappingProxyType({})

    def __new__(cls, loss: float, accuracy: float, metrics: Mapping[str, float] | None = None) -> Evaluation:
        made = super().__new__(cls, loss, accuracy)
        if metrics:
            made.metrics = dict(metrics)
        return made

    def __repr__(self) -> str:
        more = f", metrics={self.metrics}" if self.metrics else ""
        return f"Evaluation(loss={self.loss!r}, accuracy={self.accuracy!r}{more})"


def figures(sums: Sums, loss: Loss, y: Array, metrics: Mapping[str, float] | None = None) -> Evaluation:
    """Loss and accuracy of all rows, whose targets are `y`, and what metrics said of them."""
    total, correct, rows, _ = sums
    value = total / rows if loss.reduction == "mean" else total
    share = correct / (rows * loss.kept_share(y)) if loss.has_accuracy else math.nan
    return Evaluation(value, share, metrics)


def with_outputs(model: Sequential, data: Pass, metrics: Mapping[str, Metric]) -> Pass:
    """The data with room for the outputs, where metrics need them."""
    if not metrics:
        return data
    return data._replace(out=np.empty((len(data.x), *model.output_shape(data.x.shape[1:])), model.dtype))


def evaluate_checked(
    model: Sequential, loss: Loss, data: Pass, team: Any, metrics: Mapping[str, Metric] | None = None
) -> Evaluation:
    """One pass over the data makes the loss and, where there are metrics, the outputs that they need."""
    task, sums = Task(model, loss), (0.0, 0, 0, 0)
    assert data.y is not None
    if program.is_compiled(task):
        for sums in program.run(task, data, team):  # noqa: B007 (the last is used)
            pass
    else:
        sums = eager.evaluate(task, data)
    return figures(sums, loss, data.y, measure(metrics, model, loss, data) if metrics else None)


def evaluate(
    model: Sequential,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: Loss,
    sample_weight: ArrayLike | None = None,
    metrics: Metrics | None = None,
    n_threads: int | None = None,
) -> Evaluation:
    """Loss and accuracy on a data set, which goes through in chunks: memory does not grow with it.

    With `metrics` the outputs of all rows are kept while it runs.

    Parameters
    ----------
    model, x, y, loss, n_threads
        As in `fit`.
    sample_weight : (n,) array, optional
        Weights of the rows in the loss, Σ w l / Σ w for a mean, and in the metrics. The accuracy counts all rows alike.
    metrics : list of names, metrics and functions, or a mapping of names to them, optional
        As in `fit`.

    Returns
    -------
    Evaluation
        ``loss, accuracy = evaluate(...)``; the accuracy is NaN where the targets are numbers. Its attribute `metrics`
        has the others by name: ``evaluate(..., metrics=["f1"]).metrics["f1"]``.
    """
    x, y, weights = arguments.as_data(model, loss, x, y, sample_weight)
    asked = checked_metrics(metrics, loss)
    data = with_outputs(model, Pass(x, y, weights=weights), asked)
    with arguments.team_for(model, x, len(x), n_threads, training=False) as team:
        result = evaluate_checked(model, loss, data, team, asked)
    found = None if math.isfinite(result.loss) else finite.described(data)
    if found:
        warn(f"evaluate: {found}, so the loss is {result.loss}", RuntimeWarning)
    return result


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


def predict_proba(
    model: Sequential, x: Inputs, *, multilabel: bool = False, task: str | None = None, n_threads: int | None = None
) -> Array:
    """Class probabilities (n, classes): the outputs of a final Softmax or Sigmoid, otherwise the softmax of the logits.

    A model with one output is taken as binary: (n, 1), the probability of class 1. With `multilabel`, and after a
    training with a binary loss, every output is one: a row may have several classes, or none, and the logits'
    probabilities are their sigmoids.

    Parameters
    ----------
    model, x, n_threads
        As in `predict_raw`.
    multilabel : bool
    task : {"classification", "binary"}, optional
        What the model is for; by default what it was trained for (`Sequential.task`).

    Warns
    -----
    UserWarning
        The model was trained for regression: its outputs are taken for logits, but may be none.
    """
    out = predict_raw(model, x, n_threads=n_threads)
    return probabilities_of(model, out, multilabel, task)


def probabilities_of(model: Sequential, out: Array, multilabel: bool, task: str | None) -> Array:
    """What `predict_proba` makes of a model's outputs."""
    kind = model.task if task is None else check.one_of("task", task, TASKS)
    last = model.last_layer
    if kind == "regression" and not isinstance(last, (Softmax, Sigmoid, LogSoftmax)):
        warn(
            "predict_proba: the model was trained for regression, whose outputs are numbers (predict gives them): they "
            'are taken for logits. Where they are, task="classification" or "binary" says so'
        )
    return as_probabilities(last, out, multilabel or kind == "binary")


def predict(
    model: Sequential, x: Inputs, *, multilabel: bool = False, task: str | None = None, n_threads: int | None = None
) -> NDArray[Any]:
    """What the model was trained for: labels after a loss of classes, 0 or 1 after a binary one, else numbers.

    Parameters
    ----------
    model, x, n_threads
        As in `predict_raw`.
    multilabel : bool
        Each output says yes or no to a class of its own, also where nobody knows.
    task : {"classification", "binary", "regression"}, optional
        What the model is for; by default what it was trained for (`Sequential.task`). Where nobody knows, as of a new
        model or one of another library, several outputs are taken for classes, and a final `Sigmoid` of one for a
        probability.

    Returns
    -------
    ndarray
        Classification: (n,) int64, the place of the largest output; two classes may have one. Binary: int64, 1 where a
        class is more probable than not, (n,) of one output and (n, outputs) of several. Regression: the outputs, (n,)
        where one was trained on targets in (n,). Rows whose outputs are NaN, as those of an x that holds NaN, are NaN,
        in float64, with a warning.

    Raises
    ------
    InvalidValueError
        Nobody knows what the one output of the model means.
    """
    out = predict_raw(model, x, n_threads=n_threads)
    return predictions_of(model, out, multilabel, task)


def predictions_of(model: Sequential, out: Array, multilabel: bool, task: str | None) -> NDArray[Any]:
    """What `predict` makes of a model's outputs."""
    kind = model.task if task is None else check.one_of("task", task, TASKS)
    if kind == "regression" and not multilabel:
        made = out[:, 0] if model.target_shape == () and out.shape[1:] == (1,) else out
    else:
        if kind is None and not multilabel and out.shape[-1] == 1 and not isinstance(model.last_layer, Sigmoid):
            raise InvalidValueError(
                "the model has one output and was not trained here, so nobody knows what that means; expected "
                'task="regression" for numbers as they are, or task="binary" for a logit: 0 or 1'
            )
        made = as_labels(model.last_layer, out, multilabel or (kind == "binary" and out.shape[-1] > 1))
    if not finite.has_nan(out):
        return made
    missing = np.isnan(out).any(axis=tuple(range(1, out.ndim)))
    made = made.astype(np.float64) if made.dtype.kind != "f" else made
    made[missing] = np.nan
    warn(
        f"predict: the outputs of {np.count_nonzero(missing)} of {len(out)} rows are NaN, as of row "
        f"{int(missing.argmax())}, and so are their predictions; x holds NaN or infinity there, or the model's "
        "parameters do",
        RuntimeWarning,
    )
    return made
