"""`History`: what `fit` remembers of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


def shown_figure(value: float) -> str:
    """A loss or a rate for people: four digits behind the point, of small numbers four that count."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.4g}"


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
        shown = ", ".join(
            f"{name}={shown_figure(value)}" for name, value in self.last().items() if not math.isnan(value)
        )
        return f"History({self.epochs} epoch{'s' if self.epochs != 1 else ''}; last: {shown or 'none'})"
