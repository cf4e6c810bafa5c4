"""What `fit` remembers and tells: the history of a training, and callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer


@dataclass
class History:
    """What `fit` saw: a list with one entry an epoch for each figure.

    Attributes
    ----------
    loss, accuracy : list of float
        Mean over the epoch's batches as they came, so of a model that was still learning.
    val_loss, val_accuracy : list of float
        Of the validation data after the epoch; empty without them.
    lr : list of float
        Learning rate of the epoch's last step.
    seconds : list of float
        Time of the epoch's training, without validation and callbacks.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
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
        A true return ends the training.
    """

    def __init__(self, steps: int, callback: Callable[[StepEnd], Any]) -> None:
        self.steps = check.positive_int("steps", steps)
        if not callable(callback):
            raise InvalidTypeError(f"callback is {callback!r}; expected a callable")
        self.callback = callback

    def __repr__(self) -> str:
        return f"EverySteps({self.steps}, {self.callback!r})"


Callback = Callable[[EpochEnd], Any] | EverySteps
