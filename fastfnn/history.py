"""`History`: what `fit` remembers of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fastfnn.errors import InvalidValueError


def shown_figure(value: float) -> str:
    """A loss or a rate for people: four digits behind the point, of small numbers four that count."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.4g}"


@dataclass
class History:
    """What `fit` saw: a list with one entry an epoch for each figure. ``history["val_loss"]`` is one by its name, too.

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
    metrics : dict of str to list of float
        The metrics that `fit` was given, by names such as ``val_f1``, of the validation data; NaN for epochs that one
        was not there in yet.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, columns: Mapping[str, Any]) -> History:
        """The history whose `to_dict` these columns are."""
        lists = {str(name): [float(figure) for figure in column] for name, column in columns.items()}
        own = {each.name for each in fields(cls)} - {"metrics"}
        metrics = {name: column for name, column in lists.items() if name not in own}
        foreign = [name for name in metrics if not name.startswith("val_")]
        if foreign:
            raise InvalidValueError(f"a history has {', '.join(foreign)}; expected {', '.join(sorted(own))} or 'val_…'")
        return cls(**{name: column for name, column in lists.items() if name in own}, metrics=metrics)  # type: ignore[arg-type]

    @property
    def epochs(self) -> int:
        """Epochs finished."""
        return len(self.loss)

    def add_metrics(self, figures: Mapping[str, float]) -> None:
        """Append those of the epoch whose loss is there already."""
        for name in self.metrics.keys() | figures.keys():
            column = self.metrics.setdefault(name, [])
            column += [math.nan] * (self.epochs - 1 - len(column))
            column.append(figures.get(name, math.nan))

    def __getitem__(self, name: str) -> list[float]:
        """The figure of this name, whichever it is."""
        return self._columns()[name]

    def _columns(self) -> dict[str, list[float]]:
        return {
            **{each.name: getattr(self, each.name) for each in fields(self) if each.name != "metrics"},
            **self.metrics,
        }

    def last(self) -> dict[str, float]:
        """The newest entry of every list that has one."""
        return {name: values[-1] for name, values in self._columns().items() if values}

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists by name, ready for JSON."""
        return {name: list(values) for name, values in self._columns().items()}

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={shown_figure(value)}" for name, value in self.last().items() if not math.isnan(value)
        )
        return f"History({self.epochs} epoch{'s' if self.epochs != 1 else ''}; last: {shown or 'none'})"
