"""What `fit` calls: functions after each epoch or within epochs, and callbacks with a state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn import _checks as check
from fastfnn.engine.task import Pass
from fastfnn.errors import InvalidTypeError
from fastfnn.history import History
from fastfnn.model import Sequential
from fastfnn.monitor import Figures
from fastfnn.optim import Optimizer
from fastfnn.schedules import Schedule

Array = NDArray[Any]


@dataclass
class EpochEnd:
    """What a callback is given after each epoch. Returning True ends the training.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    model, optimizer, history
        Of the training; the epoch's figures are in the history.
    schedule : Schedule or None
    rng : numpy.random.Generator or None
        What draws the order of each epoch.
    callbacks : sequence
        All that the training has.
    stops : bool
        Whether one before this one, or one within the epoch, has asked to end the training.
    first_lr : float or None
        The optimizer's `lr` when the training began; callbacks may have changed it since.
    """

    epoch: int
    model: Sequential
    optimizer: Optimizer
    history: History
    schedule: Schedule | None = None
    rng: np.random.Generator | None = None
    callbacks: Sequence[Callback] = ()
    stops: bool = False
    first_lr: float | None = None


def asks_to_end(callback: Any, answer: Any) -> bool:
    """Whether a callback's answer ends the training: True does, None and False do not, and nothing else is one."""
    if answer is None:
        return False
    if isinstance(answer, (bool, np.bool_)):
        return bool(answer)
    raise InvalidTypeError(
        f"the callback {callback!r} returned {answer!r}; expected True to end the training, or else False or None"
    )


class EpochCallback:
    """Base of callbacks that know where a training begins and ends, and may have a state that a checkpoint keeps.

    Attributes
    ----------
    within : EverySteps or None
        What is called within epochs for it.
    """

    within: EverySteps | None = None

    def begin(self) -> None:
        """A training begins from its first epoch: forget the last one."""

    def expect(self, figures: Figures) -> None:
        """A training begins or goes on that is going to have these figures: refuse it where one is missing.

        `figures` are those of the history by their names, and whether each is better where it is greater; None: nobody
        knows.
        """

    def arrange(self, epoch: Pass) -> Pass:
        """An epoch begins, for which this was arranged: its order, weights and rates; return what it shall be."""
        return epoch

    def evaluating(self, model: Sequential) -> AbstractContextManager[None]:
        """Around the evaluation of the validation data: the model may be another there."""
        return nullcontext()

    def __call__(self, end: EpochEnd) -> bool | None:
        """An epoch is over. True ends the training."""

    def finish(self, end: EpochEnd) -> None:
        """The training is over, after its last epoch or because a callback ended it; not after an error."""

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What `restore` needs to go on as if nothing had happened: values as JSON has them, and arrays by name."""
        return {}, {}

    def restore(self, values: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take a `state`. A training that is resumed goes on from it, without `begin`."""

    def config(self) -> dict[str, Any]:
        """Arguments that make such a callback again."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


@dataclass
class StepEnd:
    """What the callback of an `EverySteps` is given. Returning True ends the training.

    Attributes
    ----------
    epoch, step : int
        Both counted from 1; the step within the epoch.
    loss, accuracy : float
        Mean over the epoch's batches so far.
    """

    epoch: int
    step: int
    model: Sequential
    optimizer: Optimizer
    loss: float
    accuracy: float


class EverySteps:
    """Among the callbacks of `fit`: calls another one within the epochs, with a `StepEnd`.

    Steps themselves cost no more for it: the compiled run returns to Python after so many.

    Parameters
    ----------
    steps : int
        Between two calls; they are counted from each epoch's beginning.
    callback : callable
        Returning True ends the training; anything else but False and None is refused.
    """

    def __init__(self, steps: int, callback: Callable[[StepEnd], Any]) -> None:
        self.steps = check.positive_int("steps", steps)
        if not callable(callback):
            raise InvalidTypeError(f"callback is {callback!r}; expected a callable")
        self.callback = callback

    def __repr__(self) -> str:
        return f"EverySteps({self.steps}, {self.callback!r})"


Callback = Callable[[EpochEnd], Any] | EverySteps
