"""Inference: `evaluate`, `predict`, `predict_proba`, `predict_raw`."""

from __future__ import annotations

import math
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
from fastfnn.functional import sigmoid, softmax
from fastfnn.layers import Layer, LogSoftmax, Sigmoid, Softmax
from fastfnn.losses import TASKS, Loss
from fastfnn.model import Sequential
from fastfnn.training import arguments, finite
from fastfnn.training.arguments import Array, Inputs


class Evaluation(NamedTuple):
    """Loss, and the share of rows whose class is right, of binary outputs the share of these (NaN for numbers)."""

    loss: float
    accuracy: float


def figures(sums: Sums, loss: Loss, y: Array) -> Evaluation:
    """Loss and accuracy of all rows, whose targets are `y`."""
    total, correct, rows, _ = sums
    value = total / rows if loss.reduction == "mean" else total
    return Evaluation(value, correct / (rows * loss.kept_share(y)) if loss.has_accuracy else math.nan)


def evaluate_checked(model: Sequential, loss: Loss, data: Pass, team: Any) -> Evaluation:
    task, sums = Task(model, loss), (0.0, 0, 0, 0)
    assert data.y is not None
    if not program.is_compiled(task):
        return figures(eager.evaluate(task, data), loss, data.y)
    for sums in program.run(task, data, team):  # noqa: B007 (the last is used)
        pass
    return figures(sums, loss, data.y)


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
        ``loss, accuracy = evaluate(...)``; the accuracy is NaN where the targets are numbers.
    """
    x, y, weights = arguments.as_data(model, loss, x, y, sample_weight)
    data = Pass(x, y, weights=weights)
    with arguments.team_for(model, x, len(x), n_threads, training=False) as team:
        result = evaluate_checked(model, loss, data, team)
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
    last = model.layers[-1]
    if kind == "regression" and not isinstance(last, (Softmax, Sigmoid, LogSoftmax)):
        warn(
            "predict_proba: the model was trained for regression, whose outputs are numbers (predict gives them): they "
            'are taken for logits. Where they are, task="classification" or "binary" says so'
        )
    return as_probabilities(last, out, multilabel or kind == "binary")


def as_probabilities(last: Layer, out: Array, multilabel: bool) -> Array:
    """What `predict_proba` makes of the outputs of a model's last layer."""
    if isinstance(last, (Softmax, Sigmoid)):
        return out
    if isinstance(last, LogSoftmax):
        return np.exp(out)
    return sigmoid(out) if multilabel or out.shape[-1] == 1 else softmax(out)


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
        if kind is None and not multilabel and out.shape[-1] == 1 and not isinstance(model.layers[-1], Sigmoid):
            raise InvalidValueError(
                "the model has one output and was not trained here, so nobody knows what that means; expected "
                'task="regression" for numbers as they are, or task="binary" for a logit: 0 or 1'
            )
        made = as_labels(model.layers[-1], out, multilabel or (kind == "binary" and out.shape[-1] > 1))
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


def as_labels(last: Layer, out: Array, multilabel: bool) -> NDArray[np.int64]:
    """What `predict` makes of the outputs of a model's last layer."""
    if not multilabel and out.shape[-1] > 1:
        return out.argmax(axis=-1)
    threshold = 0.5 if isinstance(last, (Softmax, Sigmoid)) else 0.0
    above = (out > threshold).astype(np.int64)
    return above if multilabel else above[..., 0]
