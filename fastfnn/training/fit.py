"""Training: `fit`, and `train_step` for loops written by hand."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn._paths import StrPath
from fastfnn._signals import TERMINATED, sigterm_raises
from fastfnn.engine import program
from fastfnn.engine.task import Pass, Sums, Task
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.history import History
from fastfnn.layers import BatchNorm1d, BatchNorm2d
from fastfnn.layers.containers import with_shapes
from fastfnn.losses import Loss
from fastfnn.metrics import Metric
from fastfnn.metrics.named import Metrics
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.schedules import Schedule
from fastfnn.training import arguments, finite
from fastfnn.training.arguments import Inputs
from fastfnn.training.callbacks import Callback, Checkpoint, EpochCallback, EverySteps
from fastfnn.training.course import Course, train
from fastfnn.training.inference import Evaluation, figures, with_outputs
from fastfnn.training.measuring import checked_metrics
from fastfnn.training.progress import Progress
from fastfnn.training.splitting import split
from fastfnn.training.weights import ClassWeight


def _check_learns(model: Sequential) -> None:
    """Refuse a model whose parameters are all frozen."""
    if model.n_parameters and not model.trainable:
        raise InvalidValueError(
            "every layer of model is frozen; expected one with parameters that is trainable (layer.trainable = True)"
        )


def _check_batches(model: Sequential, x: Any, batch_size: int) -> None:
    """Refuse a batch that leaves a batch normalisation with one number a channel: that has no variance."""
    if 1 not in (batch_size, len(x) % batch_size):
        return
    for place, layer, shape in with_shapes(model.children(), x.shape[1:]):
        if isinstance(layer, (BatchNorm1d, BatchNorm2d)) and layer.trainable and math.prod(shape[1:]) == 1:
            raise InvalidValueError(
                f"batch_size is {batch_size} for {len(x)} rows; expected batches of at least two rows, as "
                f"layers[{place}] ({layer!r}) takes the variance of each"
            )


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
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
    validation_data: tuple[Any, ...] | None = None,
    validation_split: float | None = None,
    metrics: Metrics | None = None,
    schedule: Schedule | None = None,
    seed: int | np.random.Generator | None = None,
    n_threads: int | None = None,
    callbacks: Iterable[Callback] | Callback | None = (),
    resume: StrPath | None = None,
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
        For classes: (n,) or (n, 1) integer or boolean labels, or (n, classes) one-hot rows or probabilities. For
        numbers and for yes and no: (n, outputs), of one output also (n,).
    loss, optimizer : Loss, Optimizer
    epochs : int
        0 trains nothing.
    batch_size : int or None
        Rows of a step; the last of an epoch may have fewer. None: all rows, full batch.
    shuffle : bool
        Draw a new order each epoch (a full batch needs none).
    sample_weight : (n,) array, optional
        What each row's loss and gradient are multiplied by. They are first scaled to a mean of 1, unless the loss is a
        sum: only their ratios count, and the learning rate need not change.
    class_weight : "balanced", mapping of label to weight, or (classes,) sequence, optional
        Multiplies the weights of the rows by that of their class; "balanced" gives every class the same sum. Classes
        that a mapping lacks have 1. One output of a binary loss has the classes 0 and 1.
    validation_data : (x, y) or (x, y, sample_weight), optional
        Evaluated after each epoch.
    validation_split : float in (0, 1), optional
        Hold out so large a part of the rows, drawn by the seed, as validation data; of every class the same part, where
        the loss is of classes or of one yes or no. Both parts are copied, and weights scaled in each. NaN or infinity
        in the data is refused at once.
    metrics : list of names, metrics and functions, or a mapping of names to them, optional
        What is computed of the validation data after each epoch, beside loss and accuracy and in the same pass: of
        classes "precision", "recall", "f1" (also "f1_macro", "f1_micro", "f1_weighted" and so on), "roc_auc",
        "log_loss" and "top_5"; of numbers "mae", "mse", "rmse" and "r2"; objects such as ``ff.metrics.TopK(3)``; or any
        function of (y_true, y_predicted), whose y_predicted is what `predict` gives, and which gets the weights of the
        rows where it takes `sample_weight`. Labels that are rows of probabilities are taken for the likeliest class.
        The history has them as ``val_f1`` and so on. Of the training data it has the loss and the accuracy alone,
        which are counted while the training runs; `evaluate` computes the others.
    schedule : Schedule, optional
        From `fastfnn.schedules`: how the learning rate goes on from the optimizer's `lr`.
    seed : int or numpy.random.Generator, optional
        Makes the order repeatable. Results do not depend on the number of threads.
    n_threads : int, optional
        The most that may be used, and at most one for each core that this process may use (a control group's quota and
        ``OMP_NUM_THREADS`` count): while it runs, it turns out whether one or all of them are faster. Default: one for
        small steps, else all cores.
    callbacks : callables, or one
        Each is called with an `EpochEnd` after each epoch, or wrapped in an `EverySteps` after so many steps; returning
        True ends the training. `EarlyStopping`, `Checkpoint`, `CSVLogger` and `TensorBoard` are such.
    resume : str or path, optional
        A file that a `Checkpoint` wrote: go on after its last epoch, as if the training had never stopped. Model,
        optimizer, schedule and callbacks must be of the kinds that they were; settings are those given here, but that
        a learning rate which callbacks have changed stays changed, unless another is given. The history returned has
        all epochs.
    progress : bool
        Show a bar (in a log, a line an epoch) on stderr.

    Returns
    -------
    History

    Raises
    ------
    InvalidValueError, InvalidTypeError
        An argument does not fit, or validation data hold NaN or infinity; nothing has changed.
    NonFiniteDataError
        The loss became NaN or infinite, for x or y hold such a number. It is both of the errors above and below.
    NonFiniteLossError
        The loss became NaN or infinite; the parameters are those after the last good epoch.
    KeyboardInterrupt
        Somebody pressed Ctrl-C. Its attribute `history` has the epochs that were finished, and the model what it has
        learnt: catch it to go on with both. Where nobody has, a notebook keeps it as ``sys.last_value``.
    ModelFileError
        The file to resume from does not fit; nothing has changed.
    """
    x, targets, weights = arguments.as_data(model, loss, x, y, sample_weight, class_weight)
    _check_optimizer(optimizer)
    _check_learns(model)
    asked = _asked_metrics(metrics, loss, validation_data is not None or validation_split is not None)
    data, validation, rng = Pass(x, targets, weights=weights), None, np.random.default_rng(seed)
    if validation_split is not None:
        _check_split(validation_data, resume, seed)
        data, validation = split(model, loss, data, validation_split, rng, sample_weight, class_weight)
    elif validation_data is not None:
        validation = _as_validation(model, loss, validation_data)
    x, validation = data.x, None if validation is None else with_outputs(model, validation, asked)
    epochs = check.positive_int("epochs", epochs, least=0)
    batch_size = len(x) if batch_size is None else min(len(x), check.positive_int("batch_size", batch_size))
    _check_batches(model, x, batch_size)
    course = Course(
        Task(model, loss, optimizer),
        data._replace(batch_size=batch_size),
        validation,
        epochs,
        shuffle,
        schedule,
        rng,
        *_sorted_callbacks(callbacks),
        np.shape(y)[1:],
        asked,
    )
    _check_schedule(schedule, epochs, course.steps)
    own = program.uncompiled(course.task)
    if own and kernels.team.JIT:
        names = ", ".join(dict.fromkeys(type(part).__name__ for part in own))
        warnings.warn(f"{names}: no compiled form, so training goes layer by layer and is slower", stacklevel=2)
    course.begin(resume)
    bar = Progress(epochs, len(x), progress, course.history.epochs)
    try:
        with (
            sigterm_raises(SystemExit(TERMINATED)),
            arguments.team_for(model, x, batch_size, n_threads, training=True, lasts=True) as team,
        ):
            course.run(team, bar)
    except KeyboardInterrupt as interrupt:
        interrupt.history = course.history  # type: ignore[attr-defined]
        raise
    finally:
        bar.close()
    course.finish()
    return course.history


def _check_optimizer(optimizer: Any) -> None:
    check.instance("optimizer", optimizer)
    if not isinstance(optimizer, Optimizer):
        raise InvalidTypeError(f"optimizer is {optimizer!r}; expected an optimizer such as SGD(lr=0.1)")


def _check_schedule(schedule: Any, epochs: int, steps: int) -> None:
    """Refuse what is no schedule, or does not fit the epochs."""
    if schedule is None:
        return
    check.instance("schedule", schedule)
    if not isinstance(schedule, Schedule):
        raise InvalidTypeError(f"schedule is {schedule!r}; expected a schedule such as ff.schedules.Cosine()")
    if epochs:
        asked = copy.deepcopy(schedule)
        asked.begin()
        asked.factors(1, epochs, steps)


def _asked_metrics(metrics: Metrics | None, loss: Loss, validates: bool) -> dict[str, Metric]:
    """The metrics by name, but for the accuracy, which is there anyway."""
    found = checked_metrics(metrics, loss)
    found.pop("accuracy", None)
    if found and not validates:
        raise InvalidValueError(
            f"metrics holds {', '.join(map(repr, found))} without validation data, of which they are computed; "
            "expected validation_data, too. evaluate(…, metrics=…) computes them of any data"
        )
    return found


def _check_split(validation_data: Any, resume: Any, seed: Any) -> None:
    if validation_data is not None:
        raise InvalidValueError("validation_split and validation_data are both given; expected one of them")
    if resume is not None and seed is None:
        raise InvalidValueError(
            "seed is None with validation_split and resume; expected the seed that the training had, for else other "
            "rows are held out"
        )


def _as_validation(model: Sequential, loss: Loss, validation_data: Any) -> Pass:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise InvalidTypeError(
            f"validation_data is {type(validation_data).__name__}; expected (x, y) or (x, y, sample_weight)"
        )
    x, y, weights = arguments.as_data(model, loss, *validation_data, prefix="validation ")
    data = Pass(x, y, weights=weights)
    finite.check(data, "validation ")
    return data


def _sorted_callbacks(callbacks: Iterable[Callback] | Callback | None) -> tuple[list[Any], list[EverySteps]]:
    """Those called after epochs, checkpoints last, for they save the state of the others; and those within epochs."""
    after_epochs, after_steps = [], []
    if callbacks is None or isinstance(callbacks, EverySteps) or callable(callbacks):
        callbacks = [] if callbacks is None else [callbacks]
    if not isinstance(callbacks, Iterable):
        raise InvalidTypeError(f"callbacks is {callbacks!r}; expected a list of callables")
    for callback in callbacks:
        check.instance("callbacks", callback)
        if not isinstance(callback, EverySteps) and not callable(callback):
            raise InvalidTypeError(f"callbacks holds {callback!r}; expected callables")
        (after_steps if isinstance(callback, EverySteps) else after_epochs).append(callback)
        if isinstance(callback, EpochCallback) and callback.within is not None:
            after_steps.append(callback.within)
    return sorted(after_epochs, key=lambda callback: isinstance(callback, Checkpoint)), after_steps


def train_step(
    model: Sequential,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: Loss,
    optimizer: Optimizer,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
    n_threads: int | None = None,
) -> Evaluation:
    """One update from one batch, for hand-written loops.

    Arguments are as in `fit`; weights are scaled to a mean of 1 over the batch. ``layer.grads`` hold the batch's
    gradients afterwards, which after `fit` they need not.

    Returns
    -------
    Evaluation
        Loss and accuracy of the batch before the update.

    Raises
    ------
    NonFiniteLossError
        The loss is NaN or infinite; the parameters are untouched.
    """
    x, targets, weights = arguments.as_data(model, loss, x, y, sample_weight, class_weight)
    _check_optimizer(optimizer)
    _check_learns(model)
    buffers = [(array, array.copy()) for array in model.named_buffers().values()]
    sums: Sums = (0.0, 0, 0, 0)
    _check_batches(model, x, len(x))
    task = Task(model, loss, optimizer, keep_gradients=True)
    with arguments.team_for(model, x, len(x), n_threads, training=True) as team:
        for sums in train(task, Pass(x, targets, weights=weights), team):  # noqa: B007 (the last is used)
            pass
    if sums[3]:
        for array, saved in buffers:
            array[...] = saved
        already = "untouched" if np.isfinite(model.parameters).all() else "infinite or NaN since an earlier step"
        happened = f"the loss is infinite or NaN; the parameters are {already}"
        raise finite.diverged(Pass(x, targets), happened, optimizer.lr, epoch=1, step=1)
    model.task, model.target_shape = loss.task, np.shape(y)[1:]
    return figures(sums, loss, targets)
