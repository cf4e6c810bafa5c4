"""Training and inference: `fit`, `train_step`, `evaluate`, `predict`, `predict_proba`, `predict_raw`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn import compiled, eager, lowering
from fastfnn.compiled import Sums
from fastfnn.errors import InvalidTypeError, InvalidValueError, NonFiniteLossError
from fastfnn.functional import cores, sigmoid, softmax
from fastfnn.layers import BatchNorm1d, BatchNorm2d, LogSoftmax, Sigmoid, Softmax
from fastfnn.losses import Loss
from fastfnn.lowering import skips_zeros
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.progress import Progress
from fastfnn.sparsity import CSR, is_sparse_matrix

Array = NDArray[Any]
Inputs = ArrayLike | CSR

#: Nanoseconds of one thread's work a step below which a second thread does not pay for the step's three barriers.
WORK_WORTH_BARRIERS = 30_000.0
#: The same for a single call, which wakes its threads and waits for their last words.
WORK_WORTH_TEAM = 150_000.0


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


def _inputs(model: Any, x: Inputs, name: str = "x") -> tuple[Array | CSR, tuple[int, ...]]:
    """`x` as the kernels take it, and what shape the model makes of a sample."""
    if not isinstance(model, Sequential):
        raise InvalidTypeError(f"model is {type(model).__name__}; expected a Sequential")
    if isinstance(x, CSR) or is_sparse_matrix(x):
        if not skips_zeros(model.layers):
            raise InvalidTypeError(
                f"{name} is a sparse matrix; expected an array, for only a model that begins with Linear takes sparse "
                "matrices (a Normalize with one mean and std may come first)"
            )
        matrix = x if isinstance(x, CSR) else CSR(name, x, model.dtype)
        return matrix, _output_shape(model, matrix, name)
    array = check.numbers(name, np.asarray(x), model.dtype)
    if array.ndim < 2:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected (n, …), a sample in each row")
    return array, _output_shape(model, array, name)


def _output_shape(model: Sequential, x: Array | CSR, name: str) -> tuple[int, ...]:
    try:
        return model.output_shape(x.shape[1:])
    except InvalidValueError as error:
        raise InvalidValueError(f"{name} has shape {x.shape}: {error}") from None


def _pair(model: Sequential, loss: Any, x: Inputs, y: ArrayLike, x_name: str = "x", y_name: str = "y"):  # type: ignore[no-untyped-def]
    """Inputs and targets as the kernels take them."""
    array, output_shape = _inputs(model, x, x_name)
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
        return array, loss.check_target(target, output_shape, model.dtype)
    except (InvalidValueError, InvalidTypeError) as error:
        raise type(error)(str(error).replace("y ", f"{y_name} ", 1)) from None


def _team(n_threads: int | None, nanoseconds: float, worth: float) -> Any:
    """A team of the asked size; by default one thread where the work is not worth more."""
    automatic = cores() if nanoseconds >= worth else 1
    return kernels.team.Team(check.n_threads(n_threads, automatic=automatic))


def _work(model: Sequential, x: Any, rows: int, training: bool) -> float:
    """Nanoseconds of one thread, roughly, for so many rows of x."""
    return lowering.row_nanoseconds(model, x.shape[1:]) * rows * (lowering.TRAINING_WORK if training else 1.0)


def _check_batches(model: Sequential, x: Any, batch_size: int) -> None:
    """Refuse a batch that leaves a batch normalisation with one number a channel: that has no variance."""
    if 1 not in (batch_size, len(x) % batch_size):
        return
    shape = x.shape[1:]
    for i, layer in enumerate(model.layers):
        if isinstance(layer, (BatchNorm1d, BatchNorm2d)) and math.prod(shape[1:]) == 1:
            raise InvalidValueError(
                f"batch_size is {batch_size} for {len(x)} rows; expected batches of at least two rows, as layers[{i}] "
                f"({layer!r}) takes the variance of each"
            )
        shape = layer.output_shape(shape)


def fit(
    model: Sequential,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int = 1,
    batch_size: int | None = 64,
    shuffle: bool = True,
    validation_data: tuple[Inputs, ArrayLike] | None = None,
    seed: int | np.random.Generator | None = None,
    n_threads: int | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> History:
    """Train `model` in place.

    Parameters
    ----------
    model : Sequential
    x : (n, …) array of any numeric dtype, or a SciPy CSR matrix
        Taken as it comes; nothing of it is copied but the batch, so it may be a memory map. Where most of it is one
        value, a first `Linear` skips that. A CSR matrix is for models that begin with `Linear`, or with a `Normalize`
        of one mean and std before it.
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
    _check_batches(model, x, batch_size)
    callbacks = list(callbacks)
    for callback in callbacks:
        if not callable(callback):
            raise InvalidTypeError(f"callbacks holds {callback!r}; expected callables")
    rng = np.random.default_rng(seed)
    history = History()

    own = compiled.uncompiled(model, loss, optimizer)
    if own and kernels.team.JIT:
        names = ", ".join(dict.fromkeys(type(part).__name__ for part in own))
        warnings.warn(f"{names}: no compiled form, so training goes layer by layer and is slower", stacklevel=2)
    bar = Progress(epochs, rows, progress)
    try:
        with _team(n_threads, _work(model, x, batch_size, True), WORK_WORTH_BARRIERS) as team:
            for epoch in range(1, epochs + 1):
                order = rng.permutation(rows).astype(np.int64) if shuffle and batch_size < rows else None
                sums = _train(model, x, y, loss, optimizer, team, order=order, batch_size=batch_size)
                _follow(sums, model, loss, optimizer, rows, batch_size, epoch, history, bar)
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


def _is_compiled(model: Sequential, loss: Loss | None = None, optimizer: Optimizer | None = None) -> bool:
    return kernels.team.JIT and not compiled.uncompiled(model, loss, optimizer)


def _train(
    model: Sequential, x: Array | CSR, y: Array, loss: Loss, optimizer: Optimizer, team: Any, **batches: Any
) -> Iterator[Sums]:
    """Train on all rows once; `batches` are `order`, `batch_size` and `keep_gradients` of `compiled.run`."""
    if _is_compiled(model, loss, optimizer):
        return compiled.run(model, team, x, y, loss=loss, optimizer=optimizer, **batches)
    return eager.run(model, x, y, loss=loss, optimizer=optimizer, **batches)


def _buffers(model: Sequential) -> list[Array]:
    """What layers learn in their forward: running statistics."""
    return [array for layer in model.layers for array in layer.buffers.values()]


def _follow(
    sums: Iterator[Sums],
    model: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    rows: int,
    batch_size: int,
    epoch: int,
    history: History,
    bar: Progress,
) -> None:
    """Train an epoch and append its figures to `history`; on a non-finite loss go back to where it began."""
    model.gather_parameters()
    parameters, state = model.parameters.copy(), optimizer.snapshot()
    buffers = [(array, array.copy()) for array in _buffers(model)]
    total, correct, done, failed = 0.0, 0, 0, 0
    began = time.perf_counter()

    def figures() -> dict[str, float]:
        mean = total / done if loss.reduction == "mean" else total
        return {"loss": mean, "accuracy": correct / done if loss.classifies else math.nan}

    for total, correct, done, failed in sums:  # noqa: B007 (in `figures`)
        if not failed:
            bar.step(epoch, done, figures() if done and bar.due() else {})
    if not failed and not np.isfinite(model.parameters).all():
        failed = math.ceil(rows / batch_size)
    if failed:
        model.parameters[...] = parameters
        optimizer.restore(state)
        for array, saved in buffers:
            array[...] = saved
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


def train_step(
    model: Sequential, x: Inputs, y: ArrayLike, *, loss: Loss, optimizer: Optimizer, n_threads: int | None = None
) -> Evaluation:
    """One update from one batch, for hand-written loops.

    ``layer.grads`` hold the batch's gradients afterwards, which after `fit` they need not.

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
    buffers = [(array, array.copy()) for array in _buffers(model)]
    sums: Sums = (0.0, 0, 0, 0)
    _check_batches(model, x, len(x))
    with _team(n_threads, _work(model, x, len(x), True), WORK_WORTH_TEAM) as team:
        for sums in _train(model, x, y, loss, optimizer, team, keep_gradients=True):  # noqa: B007 (the last is used)
            pass
    if sums[3]:
        for array, saved in buffers:
            array[...] = saved
        raise NonFiniteLossError("the loss is infinite or NaN; the parameters are untouched", epoch=1, step=1)
    return _figures(sums, loss)


def _figures(sums: Sums, loss: Loss) -> Evaluation:
    total, correct, rows, _ = sums
    value = total / rows if loss.reduction == "mean" else total
    return Evaluation(value, correct / rows if loss.classifies else math.nan)


def _evaluate(model: Sequential, x: Array | CSR, y: Array, loss: Loss, team: Any) -> Evaluation:
    if not _is_compiled(model, loss):
        return _figures(eager.evaluate(model, loss, x, y), loss)
    sums: Sums = (0.0, 0, 0, 0)
    for sums in compiled.run(model, team, x, y, loss=loss):  # noqa: B007 (the last is used)
        pass
    return _figures(sums, loss)


def evaluate(model: Sequential, x: Inputs, y: ArrayLike, *, loss: Loss, n_threads: int | None = None) -> Evaluation:
    """Loss and accuracy on a data set, which goes through in chunks: memory does not grow with it.

    Returns
    -------
    Evaluation
        ``loss, accuracy = evaluate(...)``; the accuracy is NaN where the targets are no classes.
    """
    x, y = _pair(model, loss, x, y)
    with _team(n_threads, _work(model, x, len(x), False), WORK_WORTH_TEAM) as team:
        return _evaluate(model, x, y, loss, team)


def predict_raw(model: Sequential, x: Inputs, *, n_threads: int | None = None) -> Array:
    """The model's outputs as they are, (n, …), for any number of rows."""
    inputs, output_shape = _inputs(model, x)
    out = np.empty((len(inputs), *output_shape), model.dtype)
    if not len(inputs):
        return out
    if not _is_compiled(model):
        eager.predict(model, inputs, out)
        return out
    with _team(n_threads, _work(model, inputs, len(inputs), False), WORK_WORTH_TEAM) as team:
        for _ in compiled.run(model, team, inputs, out=out):
            pass
    return out


def predict_proba(model: Sequential, x: Inputs, *, n_threads: int | None = None) -> Array:
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


def predict(model: Sequential, x: Inputs, *, n_threads: int | None = None) -> NDArray[np.int64]:
    """Class labels (n,): the place of the largest output. A model with one output is binary: 0 or 1.

    For the outputs of a regression use `predict_raw`.
    """
    out = predict_raw(model, x, n_threads=n_threads)
    if out.shape[-1] == 1:
        threshold = 0.5 if isinstance(model.layers[-1], (Softmax, Sigmoid)) else 0.0
        return (out[..., 0] > threshold).astype(np.int64)
    return out.argmax(axis=-1)
