"""Training and inference: `fit`, `train_step`, `evaluate`, `predict`, `predict_proba`, `predict_raw`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.compiled import Program, can_compile
from fastfnn.errors import InvalidTypeError, InvalidValueError, NonFiniteLossError
from fastfnn.functional import FLOPS_PER_NANOSECOND, cores, sigmoid, softmax
from fastfnn.layers import LogSoftmax, Sigmoid, Softmax
from fastfnn.losses import Loss
from fastfnn.lowering import Plan, n_correct
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.progress import Progress

Array = NDArray[Any]

#: Nanoseconds of one thread's work a step below which a second thread does not pay for the step's three barriers.
WORK_WORTH_BARRIERS = 30_000.0
#: The same for a single call, which starts its threads and ends them.
WORK_WORTH_TEAM = 1_000_000.0


class Evaluation(NamedTuple):
    """Loss, and the share of rows whose class is right (NaN where the targets are no classes)."""

    loss: float
    accuracy: float


@dataclass
class History:
    """What `fit` saw: a list with one entry an epoch for each figure.

    Attributes
    ----------
    loss, accuracy : list of float
        Mean over the epoch's batches as they came, so of a model that was still learning.
    val_loss, val_accuracy : list of float
        Of the validation data after the epoch; empty without them.
    seconds : list of float
        Time of the epoch's training, without validation and callbacks.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs finished."""
        return len(self.loss)

    def last(self) -> dict[str, float]:
        """The newest entry of every list that has one."""
        return {name: values[-1] for name, values in vars(self).items() if values}

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists by name, ready for JSON."""
        return {name: list(values) for name, values in vars(self).items()}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4f}" for name, value in self.last().items() if not math.isnan(value))
        return f"History({self.epochs} epoch{'s' if self.epochs != 1 else ''}; last: {shown or 'none'})"


@dataclass
class EpochEnd:
    """What a callback is given after each epoch. Returning True ends the training."""

    epoch: int
    model: Sequential
    optimizer: Optimizer
    history: History


Callback = Callable[[EpochEnd], Any]


def _inputs(model: Any, x: ArrayLike, name: str = "x") -> Array:
    """`x` as the kernels take it; its samples are known to fit the model."""
    if not isinstance(model, Sequential):
        raise InvalidTypeError(f"model is {type(model).__name__}; expected a Sequential")
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected numbers")
    if array.ndim < 2:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected (n, …), a sample in each row")
    try:
        model.output_shape(array.shape[1:])
    except InvalidValueError as error:
        raise InvalidValueError(f"{name} has shape {array.shape}: {error}") from None
    supported = array.dtype.kind != "f" or array.dtype.newbyteorder("=") in check.DTYPES
    return check.plain(array, None if supported else model.dtype)  # no kernel reads half or extended precision


def _pair(model: Sequential, loss: Any, x: ArrayLike, y: ArrayLike, x_name: str = "x", y_name: str = "y"):  # type: ignore[no-untyped-def]
    """Inputs and targets as the kernels take them."""
    array = _inputs(model, x, x_name)
    if not isinstance(loss, Loss):
        raise InvalidTypeError(f"loss is {loss!r}; expected a loss such as CrossEntropyLoss()")
    if loss.reduction == "none":
        raise InvalidValueError('loss has reduction "none"; expected "mean" or "sum"')
    target = np.asarray(y)
    rows = len(target) if target.ndim else 0
    if rows != len(array):
        raise InvalidValueError(f"{y_name} has {rows} rows; expected {len(array)}, as many as {x_name}")
    if not rows:
        raise InvalidValueError(f"{x_name} has shape {array.shape}; expected at least one row")
    try:
        return array, loss.check_target(target, model.output_shape(array.shape[1:]), model.dtype)
    except (InvalidValueError, InvalidTypeError) as error:
        raise type(error)(str(error).replace("y ", f"{y_name} ", 1)) from None


def _team(n_threads: int | None, nanoseconds: float, worth: float) -> Any:
    """A team of the asked size; by default one thread where the work is not worth more."""
    automatic = cores() if nanoseconds >= worth else 1
    return kernels.team.Team(check.n_threads(n_threads, automatic=automatic))


def _work(model: Sequential, rows: int, products: int) -> float:
    """Nanoseconds of one thread, roughly, for so many products with all weights."""
    return 2.0 * products * rows * model.n_parameters / FLOPS_PER_NANOSECOND


def fit(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int = 1,
    batch_size: int | None = 64,
    shuffle: bool = True,
    validation_data: tuple[ArrayLike, ArrayLike] | None = None,
    seed: int | np.random.Generator | None = None,
    n_threads: int | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> History:
    """Train `model` in place.

    Parameters
    ----------
    model : Sequential
    x : (n, …) array of any numeric dtype
        Taken as it comes; nothing of it is copied but the batch.
    y : targets as `loss` takes them
        For classes: (n,) integer labels, or (n, classes) one-hot rows or probabilities.
    loss, optimizer : Loss, Optimizer
    epochs : int
        0 trains nothing.
    batch_size : int or None
        Rows of a step; the last of an epoch may have fewer. None: all rows, full batch.
    shuffle : bool
        Draw a new order each epoch (a full batch needs none).
    validation_data : (x, y), optional
        Evaluated after each epoch.
    seed : int or numpy.random.Generator, optional
        Makes the order repeatable. Results do not depend on the number of threads.
    n_threads : int, optional
        Default: every core where a step is worth it, else one.
    callbacks : callables
        Each is called with an `EpochEnd` after each epoch; a true return ends the training.
    progress : bool
        Show a bar (in a log, a line an epoch) on stderr.

    Returns
    -------
    History

    Raises
    ------
    InvalidValueError, InvalidTypeError
        An argument does not fit; nothing has changed.
    NonFiniteLossError
        The loss became NaN or infinite; the parameters are those after the last good epoch.
    """
    x, y = _pair(model, loss, x, y)
    if not isinstance(optimizer, Optimizer):
        raise InvalidTypeError(f"optimizer is {optimizer!r}; expected an optimizer such as SGD(lr=0.1)")
    epochs = check.positive_int("epochs", epochs, least=0)
    rows = len(x)
    batch_size = rows if batch_size is None else min(rows, check.positive_int("batch_size", batch_size))
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise InvalidTypeError(f"validation_data is {type(validation_data).__name__}; expected a pair (x, y)")
        validation_data = _pair(model, loss, *validation_data, "validation x", "validation y")
    callbacks = list(callbacks)
    for callback in callbacks:
        if not callable(callback):
            raise InvalidTypeError(f"callbacks holds {callback!r}; expected callables")
    rng = np.random.default_rng(seed)
    history = History()

    bar = Progress(epochs, rows, progress)
    try:
        with _team(n_threads, _work(model, batch_size, 2), WORK_WORTH_BARRIERS) as team:
            plan = Plan(model, loss, x.shape[1:], x.dtype, batch_size, team)
            for epoch in range(1, epochs + 1):
                order = rng.permutation(rows).astype(np.int64) if shuffle and batch_size < rows else None
                _epoch(plan, optimizer, x, y, order, batch_size, epoch, history, bar)
                if validation_data is not None:
                    result = _evaluate(model, *validation_data, loss, team)
                    history.val_loss.append(result.loss)
                    history.val_accuracy.append(result.accuracy)
                bar.end_epoch(epoch, history.seconds[-1], {k: v for k, v in history.last().items() if k != "seconds"})
                answers = [callback(EpochEnd(epoch, model, optimizer, history)) for callback in callbacks]
                if any(answers):
                    break
    finally:
        bar.close()
    return history


def _epoch(
    plan: Plan,
    optimizer: Optimizer,
    x: Array,
    y: Array,
    order: Array | None,
    batch_size: int,
    epoch: int,
    history: History,
    bar: Progress,
) -> None:
    """Train one epoch and append its figures to `history`; on a non-finite loss go back to where it began."""
    model, rows = plan.model, len(x)
    loss = plan.loss
    assert loss is not None
    parameters, state = model.parameters.copy(), optimizer.snapshot()
    total, correct, done = 0.0, 0, 0
    began = time.perf_counter()

    def figures() -> dict[str, float]:
        mean = total / done if loss.reduction == "mean" else total
        return {"loss": mean, "accuracy": correct / done if loss.classifies else math.nan}

    run = _compiled_epoch if can_compile(plan, optimizer) else _stepwise_epoch
    failed = 0
    for total, correct, done, failed in run(plan, optimizer, x, y, order, batch_size):  # noqa: B007 (in `figures`)
        if not failed:
            bar.step(epoch, done, figures() if bar.due() else {})
    if not failed and not np.isfinite(model.parameters).all():
        failed = math.ceil(rows / batch_size)
    if failed:
        model.parameters[...] = parameters
        optimizer.restore(state)
        raise NonFiniteLossError(
            f"the loss became infinite or NaN in epoch {epoch}, step {failed}; "
            f"the parameters are those after epoch {epoch - 1}. A smaller learning rate than {optimizer.lr:g} or "
            "normalised inputs usually help.",
            epoch=epoch,
            step=failed,
        )
    history.seconds.append(time.perf_counter() - began)
    for name, figure in figures().items():
        getattr(history, name).append(figure)


#: So far in the epoch: loss (times the rows, for a mean), rows that were right, rows, and the step that failed or 0.
Sums = tuple[float, int, int, int]


def _compiled_epoch(
    plan: Plan, optimizer: Optimizer, x: Array, y: Array, order: Array | None, batch_size: int
) -> Iterator[Sums]:
    """An epoch inside the kernels, reported every few tens of milliseconds."""
    assert plan.loss is not None
    each = math.prod(plan.output_shape) if plan.loss.reduction == "mean" and not plan.loss.classifies else 1
    for total, correct, done, failed in Program(plan, optimizer, x, y, batch_size).run(order):
        yield total / each, correct, done, failed


def _stepwise_epoch(
    plan: Plan, optimizer: Optimizer, x: Array, y: Array, order: Array | None, batch_size: int
) -> Iterator[Sums]:
    """An epoch step by step: for a user's own layers and losses, and without the JIT."""
    assert plan.loss is not None
    model, total, correct = plan.model, 0.0, 0
    for start in range(0, len(x), batch_size):
        size = min(batch_size, len(x) - start)
        index = slice(start, start + size) if order is None else order[start : start + size]
        value, right = plan.batch(x, y, index, size)
        if not math.isfinite(value):
            yield total, correct, start, start // batch_size + 1
            return
        optimizer.step(model.parameters, model.gradients)
        total += value * size if plan.loss.reduction == "mean" else value
        correct += right
        yield total, correct, start + size, 0


def train_step(
    model: Sequential, x: ArrayLike, y: ArrayLike, *, loss: Loss, optimizer: Optimizer, n_threads: int | None = None
) -> Evaluation:
    """One update from one batch, for hand-written loops.

    Returns
    -------
    Evaluation
        Loss and accuracy of the batch before the update.

    Raises
    ------
    NonFiniteLossError
        The loss is NaN or infinite; the parameters are untouched.
    """
    x, y = _pair(model, loss, x, y)
    if not isinstance(optimizer, Optimizer):
        raise InvalidTypeError(f"optimizer is {optimizer!r}; expected an optimizer such as SGD(lr=0.1)")
    with _team(n_threads, _work(model, len(x), 2), WORK_WORTH_TEAM) as team:
        plan = Plan(model, loss, x.shape[1:], x.dtype, len(x), team)
        value, right = plan.batch(x, y, slice(0, len(x)), len(x))
        if not math.isfinite(value):
            raise NonFiniteLossError(f"the loss is {value}; the parameters are untouched", epoch=1, step=1)
        optimizer.step(model.parameters, model.gradients, team)
    return Evaluation(value, right / len(x) if loss.classifies else math.nan)


def _forward(model: Sequential, x: Array, team: Any) -> Iterator[tuple[slice, Array]]:
    """Outputs chunk by chunk, in a buffer that the next chunk overwrites."""
    plan = Plan(model, None, x.shape[1:], x.dtype, len(x), team)
    for start in range(0, len(x), plan.rows):
        part = slice(start, min(start + plan.rows, len(x)))
        yield part, plan.forward(x[part])


def _evaluate(model: Sequential, x: Array, y: Array, loss: Loss, team: Any) -> Evaluation:
    total, correct, count = 0.0, 0, 0
    for part, prediction in _forward(model, x, team):
        losses = loss.losses_buffer(prediction)
        loss.compute(losses, None, prediction, y[part], 1.0, None)
        total, count = total + float(losses.sum(dtype=np.float64)), count + losses.size
        correct += n_correct(prediction, y[part]) if loss.classifies else 0
    value = total / count if loss.reduction == "mean" else total
    return Evaluation(value, correct / len(x) if loss.classifies else math.nan)


def evaluate(model: Sequential, x: ArrayLike, y: ArrayLike, *, loss: Loss, n_threads: int | None = None) -> Evaluation:
    """Loss and accuracy on a data set, which goes through in chunks: memory does not grow with it.

    Returns
    -------
    Evaluation
        ``loss, accuracy = evaluate(...)``; the accuracy is NaN where the targets are no classes.
    """
    x, y = _pair(model, loss, x, y)
    with _team(n_threads, _work(model, len(x), 1), WORK_WORTH_TEAM) as team:
        return _evaluate(model, x, y, loss, team)


def predict_raw(model: Sequential, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The model's outputs as they are, (n, …), for any number of rows."""
    x = _inputs(model, x)
    out = np.empty((len(x), *model.output_shape(x.shape[1:])), model.dtype)
    with _team(n_threads, _work(model, len(x), 1), WORK_WORTH_TEAM) as team:
        for part, prediction in _forward(model, x, team):
            out[part] = prediction
    return out


def predict_proba(model: Sequential, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """Class probabilities (n, classes): the outputs of a final Softmax or Sigmoid, otherwise the softmax of the logits.

    A model with one output is taken as binary: (n, 1), the probability of class 1.
    """
    out = predict_raw(model, x, n_threads=n_threads)
    last = model.layers[-1]
    if isinstance(last, (Softmax, Sigmoid)):
        return out
    if isinstance(last, LogSoftmax):
        return np.exp(out)
    return sigmoid(out) if out.shape[-1] == 1 else softmax(out)


def predict(model: Sequential, x: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.int64]:
    """Class labels (n,): the place of the largest output. A model with one output is binary: 0 or 1.

    For the outputs of a regression use `predict_raw`.
    """
    out = predict_raw(model, x, n_threads=n_threads)
    if out.shape[-1] == 1:
        threshold = 0.5 if isinstance(model.layers[-1], (Softmax, Sigmoid)) else 0.0
        return (out[..., 0] > threshold).astype(np.int64)
    return out.argmax(axis=-1)
