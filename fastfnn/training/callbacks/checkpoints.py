"""`Checkpoint` writes all of a training to a file; `resume` takes one back to it, as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastfnn import _checks as check
from fastfnn._paths import StrPath, as_path
from fastfnn.errors import FOREIGN, InvalidValueError, ModelFileError
from fastfnn.history import History
from fastfnn.interchange import safetensors
from fastfnn.layers import Layer
from fastfnn.layers.random import RandomLayer
from fastfnn.model import Sequential
from fastfnn.monitor import Figures, Monitor
from fastfnn.optim import Optimizer
from fastfnn.schedules import Schedule
from fastfnn.training.callbacks import _saved
from fastfnn.training.callbacks._saved import Saved
from fastfnn.training.callbacks.base import EpochCallback, EpochEnd
from fastfnn.training.callbacks.logs import check_folder
from fastfnn_kernels._files import write_in_one_step


class Checkpoint(EpochCallback):
    """Writes all of a training to a file, for ``fit(…, resume=path)``; `load` reads the model out of it, too.

    `fit` calls it after all other callbacks of an epoch.

    Parameters
    ----------
    path : str or path
        By custom ``*.safetensors``. It is replaced in one step: whatever happens, there is the old file or the new.
    every : int
        Epochs from one file to the next. The epoch after which a callback ends the training always has one.
    monitor, mode : str, optional
        What is to be best, and whether by being smaller or greater, as in `EarlyStopping`; by default the loss of the
        validation data, or of the training where there are none.
    best_only : bool
        Write only after epochs whose figure is better than all before: the file then holds the best of them.

    Raises
    ------
    FileNotFoundError
        When a training begins: there is no such folder.
    InvalidValueError, InvalidTypeError
        When a training begins: it has no such figure as `monitor`. After an epoch: a layer is not one of fastfnn's, or
        JSON cannot hold the state of a callback or a schedule.
    """

    def __init__(
        self,
        path: StrPath,
        every: int = 1,
        *,
        monitor: str | None = None,
        mode: str | None = None,
        best_only: bool = False,
    ) -> None:
        self.path = as_path(path, "path")
        self.every = check.positive_int("every", every)
        self._monitor = Monitor(monitor, mode)
        self.monitor, self.mode, self.best_only = monitor, mode, bool(best_only)
        if self.monitor is not None and not self.best_only:
            raise InvalidValueError(f"monitor is {monitor!r} with best_only False; expected best_only=True")

    def expect(self, figures: Figures) -> None:
        if self.best_only:
            self._monitor.expect(figures)

    def begin(self) -> None:
        check_folder(self.path)

    def __call__(self, end: EpochEnd) -> None:
        if (end.epoch % self.every == 0 or end.stops) and self._is_best(end.history):
            write_in_one_step(self.path, _saved.to_bytes(end))

    def _is_best(self, history: History) -> bool:
        """Whether the newest figure is better than all before, which a resumed training's history has, too."""
        if not self.best_only:
            return True
        name, values = self._monitor.watched(history)
        return all(self._monitor.gain(name, values[-1], value) > 0 for value in [None, *values[:-1]])

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"path": str(self.path), "every": self.every}
        mode = {} if self.mode is None else {"mode": self.mode}
        return {**config, "monitor": self.monitor, **mode, "best_only": True} if self.best_only else config


@dataclass
class Resumed:
    """Where a training goes on.

    Attributes
    ----------
    epoch : int
        The last one that is over.
    history : History
        Up to there.
    stopped : bool
        Whether a callback has ended the training there.
    """

    epoch: int
    history: History
    stopped: bool


def resume(
    path: StrPath,
    *,
    model: Sequential,
    optimizer: Optimizer,
    schedule: Schedule | None,
    rng: np.random.Generator | None,
    callbacks: Iterable[Any],
    validates: bool | None = None,
) -> Resumed:
    """Take a training back to where `Checkpoint` wrote a file.

    Restored are the model's parameters and buffers, the seeds and counters of layers that draw, state and `steps` of
    the optimizer, and the states of the schedule, of the generator and of the callbacks that have one. Settings are as
    they come; but where the optimizer's `lr` is the one that the training began with, it goes on with what callbacks
    have made of it. A callback without a state is told that a training begins.

    Parameters
    ----------
    path : str or path
    model, optimizer, schedule, rng, callbacks
        Of the kinds that the training had. What they have learnt or counted since they were made does not matter.
    validates : bool, optional
        Whether there are validation data, which is then to be as it was: figures of other epochs are compared.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModelFileError
        The file is truncated, foreign, no checkpoint, or of another training: all differences are named. Nothing has
        changed.
    """
    saved = _saved.read(safetensors.read(path, "resume"))
    known = [callback for callback in callbacks if isinstance(callback, EpochCallback)]
    stateful = [callback for callback in known if _saved.has_state(callback)]
    wrong = _differences(saved, model, optimizer, schedule, rng, stateful)
    if validates is not None and validates != bool(saved.history.val_loss):
        wrong.append("validation data are missing" if saved.history.val_loss else "it had no validation data")
    if wrong:
        raise ModelFileError(f"{path} is of another training: {'; '.join(wrong)}")
    for callback in known:
        if not _saved.has_state(callback):
            callback.begin()
    try:
        if rng is not None:
            type(rng.bit_generator)().state = saved.generator.values  # a state that does not fit fails here
        _restore_states(saved, schedule, stateful)
    except FOREIGN as error:
        raise ModelFileError(f"{path} holds a state that does not fit: {error!r}") from None

    # Nothing below can fail.
    model.restore(saved.model.snapshot())
    model.take_purpose(saved.model.purpose())
    layers = zip(_saved.random_layers(model), _saved.random_layers(saved.model), saved.random_steps, strict=True)
    for mine, theirs, step in layers:
        mine.seed, mine.step = theirs.seed, step
    optimizer.prepare(model.parameters)
    optimizer.restore(({}, saved.steps))
    if optimizer.lr == saved.first_lr:
        optimizer.lr = saved.lr
    for slot, arrays in saved.slots.items():
        for name, view in _saved.by_name(model, optimizer.state[slot]).items():
            view[...] = arrays[name]
    if rng is not None:
        rng.bit_generator.state = saved.generator.values
    return Resumed(saved.epoch, saved.history, saved.stopped)


def _restore_states(saved: Saved, schedule: Schedule | None, callbacks: Sequence[EpochCallback]) -> None:
    """Give schedule and callbacks their states; where one refuses, all have those from before."""
    undo: list[Callable[[], None]] = []
    try:
        if schedule is not None:
            undo.append(partial(schedule.restore, schedule.state()))
            schedule.restore(saved.schedule.values)
        for callback, part in zip(callbacks, saved.callbacks, strict=True):
            undo.append(partial(callback.restore, *callback.state()))
            callback.restore(part.values, part.arrays)
    except BaseException:
        for put_back in undo:
            put_back()
        raise


def _differences(
    saved: Saved,
    model: Sequential,
    optimizer: Optimizer,
    schedule: Schedule | None,
    rng: np.random.Generator | None,
    callbacks: Sequence[EpochCallback],
) -> list[str]:
    """What keeps this training from going on with the saved one."""
    kinds = [
        ("optimizer", _kind(optimizer), saved.optimizer.kind),
        ("schedule", _kind(schedule), saved.schedule.kind),
        ("the bit generator", _kind(rng and rng.bit_generator), saved.generator.kind),
        ("callbacks with a state", _listed(map(_kind, callbacks)), _listed(part.kind for part in saved.callbacks)),
    ]
    if _kind(optimizer) == saved.optimizer.kind:
        kinds.append(("the optimizer's state", _listed(optimizer.slots), _listed(saved.slots)))
    return [
        f"{name} is {mine}, in the file {theirs}"
        for name, mine, theirs in [*_architectures(model, saved.model), *kinds]
        if mine != theirs
    ]


def _architectures(model: Sequential, saved: Sequential) -> list[tuple[str, str, str]]:
    """What is to be compared of two models, up to the first layers that differ."""
    compared = [("dtype", str(model.dtype), str(saved.dtype))]
    here, there = _layers(model), _layers(saved)
    for place in here | there:
        mine, theirs = here.get(place, "missing"), there.get(place, "missing")
        compared.append((f"layers[{place}]", mine, theirs))
        if mine != theirs:
            break
    return compared


def _layers(model: Sequential) -> dict[str, str]:
    """The layers by their places, as they show themselves, but for seeds, which belong to the state."""
    return {place: _described(layer) for place, layer in model.named_layers().items()}


def _described(layer: Layer) -> str:
    if isinstance(layer, RandomLayer):
        return f"{_kind(layer)}({_listed(f'{name}={value!r}' for name, value in layer.settings().items())})"
    return f"{_kind(layer)}({layer.config()})" if layer.holds_others else repr(layer)


def _kind(thing: Any) -> str:
    return type(thing).__name__


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "empty"
