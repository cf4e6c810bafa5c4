"""Training: `fit`, and `train_step` for loops written by hand."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _arguments as arguments
from fastfnn import _checks as check
from fastfnn import compiled, eager
from fastfnn._arguments import Array, Inputs
from fastfnn.callbacks import Callback, EpochEnd, EverySteps, History, StepEnd
from fastfnn.compiled import Sums
from fastfnn.errors import InvalidTypeError, InvalidValueError, NonFiniteLossError
from fastfnn.inference import Evaluation, evaluate_checked, figures
from fastfnn.layers import BatchNorm1d, BatchNorm2d
from fastfnn.losses import Loss
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.progress import Progress
from fastfnn.schedules import Schedule
from fastfnn.sparsity import CSR


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


def _buffers(model: Sequential) -> list[Array]:
    """What layers learn in their forward: running statistics."""
    return [array for layer in model.layers for array in layer.buffers.values()]


@dataclass
class _Course:
    """A training under way, epoch by epoch."""

    model: Sequential
    loss: Loss
    optimizer: Optimizer
    rows: int
    batch_size: int
    every: list[EverySteps]
    bar: Progress
    history: History = field(default_factory=History)

    def follow(self, epoch: int, sums: Iterator[Sums]) -> bool:
        """Train an epoch and append its figures to the history; whether a callback asked to stop.

        On a non-finite loss all goes back to where the epoch began.
        """
        self.model.gather_parameters()
        parameters, state = self.model.parameters.copy(), self.optimizer.snapshot()
        buffers = [(array, array.copy()) for array in _buffers(self.model)]
        loss, classifies, steps, failed, stops = 0.0, self.loss.classifies, 0, 0, False
        accuracy = 0.0 if classifies else math.nan
        began = time.perf_counter()
        for total, correct, done, failed in sums:
            if failed or not done:
                continue
            loss = total / done if self.loss.reduction == "mean" else total
            accuracy = correct / done if classifies else math.nan
            self.bar.step(epoch, done, {"loss": loss, "accuracy": accuracy})
            before, steps = steps, math.ceil(done / self.batch_size)
            if steps > before:
                end = StepEnd(epoch, steps, self.model, self.optimizer, loss, accuracy)
                answers = [each.callback(end) for each in self.every if steps % each.steps == 0]
                stops = any(answers)
                if stops:
                    break
        if not failed and not np.isfinite(self.model.parameters).all():
            failed = steps
        if failed:
            self.model.parameters[...] = parameters
            self.optimizer.restore(state)
            for array, saved in buffers:
                array[...] = saved
            raise NonFiniteLossError(
                f"the loss became infinite or NaN in epoch {epoch}, step {failed}; "
                f"the parameters are those after epoch {epoch - 1}. A smaller learning rate than "
                f"{self.optimizer.lr:g} or normalised inputs usually help.",
                epoch=epoch,
                step=failed,
            )
        self.history.seconds.append(time.perf_counter() - began)
        self.history.loss.append(loss)
        self.history.accuracy.append(accuracy)
        return stops


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
    schedule: Schedule | None = None,
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
    schedule : Schedule, optional
        From `fastfnn.schedules`: how the learning rate goes on from the optimizer's `lr`.
    seed : int or numpy.random.Generator, optional
        Makes the order repeatable. Results do not depend on the number of threads.
    n_threads : int, optional
        Default: one for small steps, else one or every core, whichever turns out to be faster while it runs.
    callbacks : callables
        Each is called with an `EpochEnd` after each epoch, or wrapped in an `EverySteps` after so many steps; a true
        return ends the training.
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
    x, y = arguments.as_pair(model, loss, x, y)
    if not isinstance(optimizer, Optimizer):
        raise InvalidTypeError(f"optimizer is {optimizer!r}; expected an optimizer such as SGD(lr=0.1)")
    if schedule is not None and not isinstance(schedule, Schedule):
        raise InvalidTypeError(f"schedule is {schedule!r}; expected a schedule such as ff.schedules.Cosine()")
    epochs = check.positive_int("epochs", epochs, least=0)
    rows = len(x)
    batch_size = rows if batch_size is None else min(rows, check.positive_int("batch_size", batch_size))
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise InvalidTypeError(f"validation_data is {type(validation_data).__name__}; expected a pair (x, y)")
        validation_data = arguments.as_pair(model, loss, *validation_data, "validation x", "validation y")
    _check_batches(model, x, batch_size)
    callbacks = list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, EverySteps) and not callable(callback):
            raise InvalidTypeError(f"callbacks holds {callback!r}; expected callables")
    after_epochs = [callback for callback in callbacks if not isinstance(callback, EverySteps)]
    after_steps = [callback for callback in callbacks if isinstance(callback, EverySteps)]
    rng, steps = np.random.default_rng(seed), math.ceil(rows / batch_size)
    if schedule is not None and epochs:
        schedule.begin()
        schedule.factors(1, epochs, steps)  # does it fit the epochs?

    own = compiled.uncompiled(model, loss, optimizer)
    if own and kernels.team.JIT:
        names = ", ".join(dict.fromkeys(type(part).__name__ for part in own))
        warnings.warn(f"{names}: no compiled form, so training goes layer by layer and is slower", stacklevel=2)
    bar = Progress(epochs, rows, progress)
    course = _Course(model, loss, optimizer, rows, batch_size, after_steps, bar)
    history = course.history
    batches: dict[str, Any] = {"batch_size": batch_size, "pause": math.gcd(*(each.steps for each in after_steps))}
    try:
        with arguments.team_for(model, x, batch_size, n_threads, training=True, lasts=True) as team:
            for epoch in range(1, epochs + 1):
                order = rng.permutation(rows).astype(np.int64) if shuffle and batch_size < rows else None
                rates = None if schedule is None else optimizer.lr * schedule.factors(epoch, epochs, steps)
                sums = _train(model, x, y, loss, optimizer, team, order=order, rates=rates, **batches)
                stops = course.follow(epoch, sums)
                history.lr.append(optimizer.lr if rates is None else float(rates[-1]))
                if validation_data is not None:
                    result = evaluate_checked(model, *validation_data, loss, team)
                    history.val_loss.append(result.loss)
                    history.val_accuracy.append(result.accuracy)
                if schedule is not None:
                    schedule.end_epoch(history)
                shown = {k: v for k, v in history.last().items() if k not in ("seconds", "lr")}
                bar.end_epoch(epoch, history.seconds[-1], shown)
                answers = [callback(EpochEnd(epoch, model, optimizer, history)) for callback in after_epochs]
                if stops or any(answers):
                    break
    finally:
        bar.close()
    return history


def _train(
    model: Sequential, x: Array | CSR, y: Array, loss: Loss, optimizer: Optimizer, team: Any, **batches: Any
) -> Iterator[Sums]:
    """Train on all rows once; `batches` are the other arguments of `compiled.run`."""
    if compiled.is_compiled(model, loss, optimizer):
        return compiled.run(model, team, x, y, loss=loss, optimizer=optimizer, **batches)
    return eager.run(model, x, y, loss=loss, optimizer=optimizer, **batches)


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
    x, y = arguments.as_pair(model, loss, x, y)
    if not isinstance(optimizer, Optimizer):
        raise InvalidTypeError(f"optimizer is {optimizer!r}; expected an optimizer such as SGD(lr=0.1)")
    buffers = [(array, array.copy()) for array in _buffers(model)]
    sums: Sums = (0.0, 0, 0, 0)
    _check_batches(model, x, len(x))
    with arguments.team_for(model, x, len(x), n_threads, training=True) as team:
        for sums in _train(model, x, y, loss, optimizer, team, keep_gradients=True):  # noqa: B007 (the last is used)
            pass
    if sums[3]:
        for array, saved in buffers:
            array[...] = saved
        raise NonFiniteLossError("the loss is infinite or NaN; the parameters are untouched", epoch=1, step=1)
    return figures(sums, loss)
