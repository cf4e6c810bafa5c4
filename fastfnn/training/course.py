"""A training under way: what it is, and how an epoch goes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastfnn._paths import StrPath
from fastfnn.engine import eager, program
from fastfnn.engine.task import Pass, Sums, Task
from fastfnn.errors import FastFNNError, InvalidValueError
from fastfnn.history import History
from fastfnn.metrics import Metric
from fastfnn.schedules import Schedule
from fastfnn.training import finite
from fastfnn.training.callbacks import EpochCallback, EpochEnd, EverySteps, StepEnd, asks_to_end, resume
from fastfnn.training.inference import evaluate_checked
from fastfnn.training.progress import Progress


def train(task: Task, data: Pass, team: Any, pause: int = 0) -> Iterator[Sums]:
    """Train on all rows once, in the fastest way that there is."""
    return program.run(task, data, team, pause) if program.is_compiled(task) else eager.run(task, data)


@dataclass
class Course:
    """A training under way.

    Attributes
    ----------
    task : Task
        The model, its loss and its optimizer.
    data : Pass
        All rows, in batches; each epoch has an order and rates of its own.
    validation : Pass or None
        What is evaluated after each epoch.
    epochs : int
        After how many it ends.
    shuffles : bool
    schedule : Schedule or None
    rng : numpy.random.Generator
        Draws the orders.
    callbacks : list
        What is called after epochs.
    every : list of EverySteps
        What is called within epochs.
    target_shape : tuple of int
        Of a row of the targets, as they were given.
    metrics : dict of str to Metric
        What else is computed of the validation data, which have room for the outputs then.
    history : History
        Of all epochs so far.
    stops : bool
        A callback has asked to end it.
    """

    task: Task
    data: Pass
    validation: Pass | None
    epochs: int
    shuffles: bool
    schedule: Schedule | None
    rng: np.random.Generator
    callbacks: list[Any]
    every: list[EverySteps]
    target_shape: tuple[int, ...]
    metrics: dict[str, Metric] = field(default_factory=dict)
    history: History = field(default_factory=History)
    stops: bool = False

    def __post_init__(self) -> None:
        assert self.task.loss is not None
        assert self.task.optimizer is not None
        self.loss, self.optimizer = self.task.loss, self.task.optimizer
        self.batch_size = self.data.batch_size or len(self.data.x)
        self.first_lr = self.optimizer.lr

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.data.x) / self.batch_size)

    @property
    def figures(self) -> dict[str, bool | None]:
        """What the history is going to have, and whether each is better where it is greater."""
        own: dict[str, bool | None] = {"loss": False, **({"accuracy": True} if self.loss.has_accuracy else {})}
        if self.validation is None:
            return own
        metrics = {name: metric.greater_is_better for name, metric in self.metrics.items()}
        return {**own, **{f"val_{name}": greater for name, greater in {**own, **metrics}.items()}}

    def begin(self, path: StrPath | None) -> None:
        """Bring all that takes part to where it begins, or to where a file to resume from has it."""
        for part in (self.schedule, *self.callbacks):
            if isinstance(part, (Schedule, EpochCallback)):
                part.expect(self.figures)
        if path is not None:
            parts: dict[str, Any] = {"schedule": self.schedule, "rng": self.rng, "callbacks": self.callbacks}
            found = resume(
                path,
                model=self.task.model,
                optimizer=self.optimizer,
                validates=self.validation is not None,
                **parts,
            )
            self.history, self.stops = found.history, found.stopped
            return
        if self.schedule is not None:
            self.schedule.begin()
        for callback in self.callbacks:
            if isinstance(callback, EpochCallback):
                callback.begin()

    def run(self, team: Any, bar: Progress) -> None:
        """Train epoch after epoch."""
        for epoch in range(self.history.epochs + 1, self.epochs + 1):
            if self.stops:
                break
            self._train(epoch, team, bar)
            if self.validation is not None:
                with contextlib.ExitStack() as stack:
                    for callback in self.callbacks:
                        if isinstance(callback, EpochCallback):
                            stack.enter_context(callback.evaluating(self.task.model))
                    result = evaluate_checked(self.task.model, self.loss, self.validation, team, self.metrics)
                self.history.val_loss.append(result.loss)
                self.history.val_accuracy.append(result.accuracy)
                self.history.add_metrics({f"val_{name}": value for name, value in result.metrics.items()})
            if self.schedule is not None:
                self.schedule.end_epoch(self.history)
            shown = {name: value for name, value in self.history.last().items() if name not in ("seconds", "lr")}
            bar.end_epoch(epoch, self.history.seconds[-1], shown)
            for callback in self.callbacks:
                self.stops = asks_to_end(callback, callback(self._end(epoch))) or self.stops

    def finish(self) -> None:
        """Tell the callbacks that it is over."""
        for callback in self.callbacks:
            if isinstance(callback, EpochCallback):
                callback.finish(self._end(self.history.epochs))

    def _end(self, epoch: int) -> EpochEnd:
        model, optimizer, history = self.task.model, self.optimizer, self.history
        whole = self.schedule, self.rng, self.callbacks, self.stops, self.first_lr
        return EpochEnd(epoch, model, optimizer, history, *whole)

    def _train(self, epoch: int, team: Any, bar: Progress) -> None:
        """Train an epoch and append its figures to the history.

        On a non-finite loss all goes back to where the epoch began.
        """
        rows, order, rates = len(self.data.x), None, None
        if self.shuffles and self.batch_size < rows:
            order = self.rng.permutation(rows).astype(np.int64)
        if self.schedule is not None:
            rates = self.optimizer.lr * self._factors(self.schedule, epoch)
        data = self.data._replace(order=order, rates=rates)
        for callback in self.callbacks:
            data = callback.arrange(data) if isinstance(callback, EpochCallback) else data
        sums = train(self.task, data, team, self._pause)
        self.task.model.gather_parameters()
        self.optimizer.prepare(self.task.model.parameters)
        model = self.task.model
        saved, state = (model.snapshot(), model.task, model.target_shape), self.optimizer.snapshot()
        model.task, model.target_shape = self.loss.task, self.target_shape
        bar.begin()
        began = time.perf_counter()  # all is compiled that the epoch runs
        try:
            loss, accuracy, failed = self._follow(epoch, sums, bar)
        except FastFNNError:  # it was changed within the epoch, or its data were
            self._restore(saved, state)
            raise
        if failed:
            self._restore(saved, state)
            happened = f"the loss became infinite or NaN in epoch {epoch}, step {failed}"
            now = f"the parameters are those after epoch {epoch - 1}"
            where = {"epoch": epoch, "step": failed, "history": self.history}
            raise finite.diverged(self.data, f"{happened}; {now}", self.optimizer.lr, **where)
        self.history.seconds.append(time.perf_counter() - began)
        self.history.loss.append(loss)
        self.history.accuracy.append(accuracy)
        self.history.lr.append(self.optimizer.lr if rates is None else float(rates[-1]))

    def _factors(self, schedule: Schedule, epoch: int) -> Any:
        """What a schedule, perhaps a user's own, has for the steps of an epoch."""
        factors = np.ascontiguousarray(schedule.factors(epoch, self.epochs, self.steps), np.float64)
        if factors.shape != (self.steps,):
            raise InvalidValueError(
                f"{schedule!r} has factors of shape {factors.shape} for epoch {epoch}; expected ({self.steps},), one "
                "for each step"
            )
        return factors

    def _restore(self, saved: tuple[Any, ...], state: Any) -> None:
        snapshot, self.task.model.task, self.task.model.target_shape = saved
        with contextlib.suppress(InvalidValueError):  # it has other layers now
            self.task.model.restore(snapshot)
            self.optimizer.restore(state)

    @property
    def _pause(self) -> int:
        """After how many steps the epoch must come back to Python; 0: whenever it likes."""
        return math.gcd(*(each.steps for each in self.every))

    def _follow(self, epoch: int, sums: Iterator[Sums], bar: Progress) -> tuple[float, float, int]:
        """Go along with an epoch: its loss and accuracy, and the step that failed, or 0."""
        counts, means = self.loss.has_accuracy, self.loss.reduction == "mean"
        assert self.data.y is not None
        kept = self.loss.kept_share(self.data.y)
        loss, accuracy, steps, failed = 0.0, 0.0 if counts else math.nan, 0, 0
        for total, correct, done, failed in sums:
            if failed or not done:
                continue
            loss, accuracy = total / done if means else total, correct / (done * kept) if counts else math.nan
            bar.step(epoch, done, {"loss": loss, "accuracy": accuracy})
            before, steps = steps, math.ceil(done / self.batch_size)
            if steps > before:
                end = StepEnd(epoch, steps, self.task.model, self.optimizer, loss, accuracy)
                due = [each.callback for each in self.every if steps % each.steps == 0]
                answers = [asks_to_end(callback, callback(end)) for callback in due]
                if any(answers):
                    self.stops = True
                    break
        if not failed and not np.isfinite(self.task.model.parameters).all():
            failed = steps
        return loss, accuracy, failed
