"""`History`: what `fit` remembers of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fastfnn import _html
from fastfnn._text import count
from fastfnn.errors import InvalidValueError
from fastfnn.metrics import direction

HEADER = ("", "last", "best", "in epoch")


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
        Time of the epoch's training, without compiling, validation and callbacks.
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
        for name in dict.fromkeys([*self.metrics, *figures]):  # in the order in which they were asked for
            column = self.metrics.setdefault(name, [])
            column += [math.nan] * (self.epochs - 1 - len(column))
            column.append(figures.get(name, math.nan))

    def __getitem__(self, name: str) -> list[float]:
        """The figure of this name, whichever it is."""
        return self.columns()[name]

    def columns(self) -> dict[str, list[float]]:
        """The lists themselves by name; those without validation data are empty."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "metrics"}
        return {**own, **self.metrics}

    def last(self) -> dict[str, float]:
        """The newest entry of every list that has one."""
        return {name: values[-1] for name, values in self.columns().items() if values}

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists by name, as long as there are epochs: NaN where an epoch has no such figure."""
        epochs = self.epochs
        return {name: [*values, *[math.nan] * (epochs - len(values))] for name, values in self.columns().items()}

    def to_frame(self) -> Any:
        """A `pandas.DataFrame`: a row for each epoch, by its number from 1; a column for each figure there is.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError(
                'to_frame needs pandas: pip install "fastfnn[tables]". to_dict() has the same as plain lists'
            ) from None
        columns = {name: values for name, values in self.to_dict().items() if self.columns()[name]}
        return pd.DataFrame(columns, index=pd.RangeIndex(1, self.epochs + 1, name="epoch"))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"metrics": {}, **state})  # which pickles of older versions lack

    def _best(self, name: str, values: list[float]) -> tuple[str, str]:
        """The best figure and its epoch, of those that can be better."""
        greater, known = direction(name), [value for value in values if not math.isnan(value)]
        if greater is None or not known:
            return "", ""
        best = max(known) if greater else min(known)
        return shown_figure(best), str(values.index(best) + 1)

    def _table(self) -> list[tuple[str, str, str, str]]:
        return [
            (name, shown_figure(values[-1]), *self._best(name, values))
            for name, values in self.columns().items()
            if values and not all(map(math.isnan, values))
        ]

    def __repr__(self) -> str:
        rows = [HEADER, *self._table()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"  {a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows
        ]
        return "\n".join([self._title(), *(lines if len(rows) > 1 else [])])

    def _repr_html_(self) -> str:
        """The same, which a notebook shows where the history is a cell's last value."""
        return _html.table(HEADER, self._table(), (0,), self._title())

    def _title(self) -> str:
        return f"History of {count(self.epochs, 'epoch')}"
