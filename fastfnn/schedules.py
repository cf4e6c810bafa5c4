"""Schedules of the learning rate, for ``fit(…, schedule=…)``: a factor of the optimizer's `lr` for every step.

The optimizer's own `lr` stays what it is. Where a schedule changes within epochs, it does so at every step, whatever
the compiled run's slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.history import History
from fastfnn.monitor import Figures, Monitor

Array = NDArray[np.float64]


class Schedule:
    """Base of the schedules."""

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        """(steps,): what the learning rate is multiplied by in each step of `epoch` (from 1) of `epochs`."""
        raise TypeError(f"{type(self).__name__} has no factors")

    def begin(self) -> None:
        """A training begins: forget the last one."""

    def expect(self, figures: Figures) -> None:
        """A training begins or goes on that is going to have these figures: refuse it where one is missing."""

    def end_epoch(self, history: History) -> None:
        """An epoch is over, its figures are in the history."""

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on as if nothing had happened, as JSON has it."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take a `state`. A training that is resumed goes on from it, without `begin`."""

    def config(self) -> dict[str, Any]:
        """Arguments that make such a schedule again."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


def _places(epoch: int, steps: int) -> Array:
    """Where each step of an epoch begins, counted in epochs from the beginning of the training."""
    return epoch - 1 + np.arange(steps) / steps


class Step(Schedule):
    """Times `factor` every so many epochs.

    Parameters
    ----------
    every : int
    factor : float in (0, 1]
    """

    def __init__(self, every: int, factor: float = 0.1) -> None:
        self.every = check.positive_int("every", every)
        self.factor = check.real("factor", factor, above=0)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        return np.full(steps, self.factor ** ((epoch - 1) // self.every))

    def config(self) -> dict[str, Any]:
        return {"every": self.every, "factor": self.factor}


class MultiStep(Schedule):
    """Times `factor` after each of some epochs, as PyTorch's ``MultiStepLR``.

    Parameters
    ----------
    milestones : sequence of int
        After so many epochs each, in any order; one that comes twice counts twice.
    factor : float above 0
    """

    def __init__(self, milestones: Sequence[int], factor: float = 0.1) -> None:
        if isinstance(milestones, (str, bytes)) or not isinstance(milestones, Iterable):
            raise InvalidTypeError(f"milestones is {milestones!r}; expected integers, such as [30, 60]")
        self.milestones = sorted(check.positive_int(f"milestones[{i}]", n) for i, n in enumerate(milestones))
        self.factor = check.real("factor", factor, above=0)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        return np.full(steps, self.factor ** sum(milestone < epoch for milestone in self.milestones))

    def config(self) -> dict[str, Any]:
        return {"milestones": self.milestones, "factor": self.factor}


class Exponential(Schedule):
    """Times `factor` after every epoch.

    Parameters
    ----------
    factor : float above 0
    """

    def __init__(self, factor: float) -> None:
        self.factor = check.real("factor", factor, above=0)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        return np.full(steps, self.factor ** (epoch - 1))

    def config(self) -> dict[str, Any]:
        return {"factor": self.factor}


class Cosine(Schedule):
    """A straight line up in the first epochs, then half a cosine down (Loshchilov & Hutter 2017), step by step.

    Parameters
    ----------
    warmup : float
        Epochs of the line, from nearly 0 to 1; it may be less than one epoch.
    last : float in [0, 1]
        The factor at the end.
    """

    def __init__(self, warmup: float = 0.0, last: float = 0.0) -> None:
        self.warmup, self.last = check.real("warmup", warmup, least=0), check.real("last", last, least=0, most=1)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        if self.warmup >= epochs:
            raise InvalidValueError(f"warmup is {self.warmup:g} for {epochs} epochs; expected less than these")
        place = _places(epoch, steps)
        done = np.clip((place - self.warmup) / (epochs - self.warmup), 0, 1)
        down = self.last + (1 - self.last) * (1 + np.cos(math.pi * done)) / 2
        # The first step's rate is one step up the line, not 0, which would learn nothing.
        return np.where(place < self.warmup, np.minimum(1, (place + 1 / steps) / (self.warmup or 1)), down)

    def config(self) -> dict[str, Any]:
        return {"warmup": self.warmup, "last": self.last}


class CosineWarmRestarts(Schedule):
    """Half a cosine down, again and again from the optimizer's rate (Loshchilov & Hutter 2017), step by step.

    It is PyTorch's ``CosineAnnealingWarmRestarts`` with a call ``step(epoch + step / steps)`` before each step.

    Parameters
    ----------
    period : int
        Epochs of the first cosine.
    growth : int
        How many times as long as the one before each later one is.
    last : float in [0, 1]
        The factor that each ends at.
    """

    def __init__(self, period: int, growth: int = 1, last: float = 0.0) -> None:
        self.period = check.positive_int("period", period)
        self.growth = check.positive_int("growth", growth)
        self.last = check.real("last", last, least=0, most=1)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        start, length = 0, self.period
        while epoch - 1 >= start + length:  # restarts come between epochs
            if self.growth == 1:
                start = (epoch - 1) // length * length
                break
            start, length = start + length, length * self.growth
        done = (_places(epoch, steps) - start) / length
        return self.last + (1 - self.last) * (1 + np.cos(math.pi * done)) / 2

    def config(self) -> dict[str, Any]:
        return {"period": self.period, "growth": self.growth, "last": self.last}


class Cyclic(Schedule):
    """Up to the optimizer's rate and down again, in straight lines, again and again (Smith 2017), step by step.

    It is PyTorch's ``CyclicLR`` whose ``max_lr`` is the optimizer's rate.

    Parameters
    ----------
    up, down : int
        Steps of the way up, and of the way down; by default as many.
    first : float in [0, 1]
        The factor at the bottom.
    mode : {"triangular", "triangular2", "exp_range"}
        What becomes of the height of the cycles: it stays, is halved each time, or is multiplied by `gamma` every step.
    gamma : float in (0, 1]
    """

    MODES = ("triangular", "triangular2", "exp_range")

    def __init__(
        self, up: int, down: int | None = None, first: float = 0.1, mode: str = "triangular", gamma: float = 1.0
    ) -> None:
        self.up = check.positive_int("up", up)
        self.down = self.up if down is None else check.positive_int("down", down)
        self.first = check.real("first", first, least=0, most=1)
        self.mode = check.one_of("mode", mode, self.MODES)
        self.gamma = check.real("gamma", gamma, above=0, most=1)
        if self.gamma != 1 and mode != "exp_range":
            raise InvalidValueError(f"gamma is {gamma:g} with mode {mode!r}; expected it with mode 'exp_range'")

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        step = (epoch - 1) * steps + np.arange(steps)
        cycle, place = np.divmod(step, self.up + self.down)
        part = np.where(place <= self.up, place / self.up, (self.up + self.down - place) / self.down)
        height = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.gamma**step}[self.mode]
        return self.first + (1 - self.first) * part * height

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("up", "down", "first", "mode", "gamma")}


class OneCycle(Schedule):
    """Up to the optimizer's rate and far below where it came from, both by half a cosine (Smith & Topin 2018).

    Step by step it is PyTorch's ``OneCycleLR``: the last step of the rise has the optimizer's rate, the training's last
    step has `last`.

    Parameters
    ----------
    rise : float in (0, 1)
        The part of the training in which it rises.
    first, last : float in (0, 1]
        The factors at the beginning and at the end.
    """

    def __init__(self, rise: float = 0.3, first: float = 0.04, last: float = 4e-6) -> None:
        self.rise = check.real("rise", rise, above=0, below=1)
        self.first = check.real("first", first, above=0, most=1)
        self.last = check.real("last", last, above=0, most=1)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        step, end = (epoch - 1) * steps + np.arange(steps), epochs * steps - 1
        top = self.rise * epochs * steps - 1  # the step at which the rise ends, perhaps between two
        up, down = step / top if top > 0 else np.ones(steps), (step - top) / (end - top)
        rising = self.first + (1 - self.first) * (1 - np.cos(math.pi * np.minimum(up, 1))) / 2
        falling = self.last + (1 - self.last) * (1 + np.cos(math.pi * np.clip(down, 0, 1))) / 2
        return np.where(step <= top, rising, falling)

    def config(self) -> dict[str, Any]:
        return {"rise": self.rise, "first": self.first, "last": self.last}


class ReduceOnPlateau(Schedule):
    """Times `factor` whenever a figure has not become better for some epochs.

    Parameters
    ----------
    factor : float in (0, 1)
    patience : int
        Epochs without a better figure that are let pass.
    threshold : float
        By what part a figure must be better than the best to count.
    least : float
        The smallest factor.
    monitor, mode : str, optional
        As `EarlyStopping` has them: by default the loss of the validation data, or of the training where there are
        none.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        least: float = 0.0,
        monitor: str | None = None,
        mode: str | None = None,
    ) -> None:
        self.factor = check.real("factor", factor, above=0, below=1)
        self.patience = check.positive_int("patience", patience, least=0)
        self.threshold = check.real("threshold", threshold, least=0, below=1)
        self.least = check.real("least", least, least=0, most=1)
        self._monitor = Monitor(monitor, mode)
        self.begin()

    def begin(self) -> None:
        self._now, self._waited = 1.0, 0
        self._best: float | None = None

    def expect(self, figures: Figures) -> None:
        self._monitor.expect(figures)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        return np.full(steps, self._now)

    def end_epoch(self, history: History) -> None:
        name, values = self._monitor.watched(history)
        least = 0.0 if self._best is None else self.threshold * abs(self._best)
        if math.isfinite(values[-1]) and self._monitor.gain(name, values[-1], self._best) > least:
            self._best, self._waited = values[-1], 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._now, self._waited = max(self.least, self._now * self.factor), 0

    def state(self) -> dict[str, Any]:
        return {"now": self._now, "best": self._best, "waited": self._waited}

    def restore(self, state: dict[str, Any]) -> None:
        best = state["best"]
        self._now, self._waited = float(state["now"]), int(state["waited"])
        self._best = None if best is None or best == math.inf else float(best)  # infinity is what files had once

    def config(self) -> dict[str, Any]:
        names = ("factor", "patience", "threshold", "least")
        watched = {"monitor": self._monitor.name, "mode": self._monitor.mode}
        set_ones = {name: value for name, value in watched.items() if value is not None}
        return {**{name: getattr(self, name) for name in names}, **set_ones}
