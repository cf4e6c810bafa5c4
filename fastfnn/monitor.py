"""Which figure of a training is watched, and when it is better."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.history import History
from fastfnn.metrics import direction

#: What `fit` makes without being asked for metrics.
ALWAYS = ("loss", "accuracy", "val_loss", "val_accuracy")
#: Figures by name, and whether each is better where it is greater; None: nobody knows.
Figures = Mapping[str, "bool | None"]


class Monitor:
    """A figure that is watched.

    Parameters
    ----------
    name : str, optional
        As the history has it. None: the loss of the validation data, or of the training where there are none.
    mode : {"min", "max"}, optional
        Whether a smaller or a greater figure is better; needed only for functions of the user's own.
    """

    def __init__(self, name: str | None = None, mode: str | None = None) -> None:
        if name is not None and not (isinstance(name, str) and (name in ALWAYS or name.startswith("val_"))):
            expected = ", ".join(map(repr, ALWAYS))
            raise InvalidValueError(
                f"monitor is {name!r}; expected one of {expected}, or that of a metric of the validation data such as "
                "'val_f1'"
            )
        self.name = name
        self.mode = None if mode is None else check.one_of("mode", mode, ("min", "max"))
        self._known: dict[str, bool | None] = {}

    def expect(self, figures: Figures) -> None:
        """Refuse the figures that a training is going to have where the watched one is not among them."""
        self._known = dict(figures)
        name = self.name or "loss"
        if name not in figures:
            raise InvalidValueError(
                f"monitor is {name!r}; expected one of what this training has: {', '.join(figures)}"
            )
        self._greater(name)

    def watched(self, history: History) -> tuple[str, list[float]]:
        """Name and values of what is watched.

        Raises
        ------
        InvalidValueError
            The training has no such figure.
        """
        name = self.name or ("val_loss" if history.val_loss else "loss")
        values = history.columns().get(name)
        # Where targets are numbers, the accuracies are NaN.
        if not values or (name.endswith("accuracy") and math.isnan(values[-1])):
            has = [other for other, value in history.last().items() if not math.isnan(value)]
            has = [other for other in has if other not in ("lr", "seconds")]
            raise InvalidValueError(f"monitor is {name!r}; expected one of what this training has: {', '.join(has)}")
        return name, values

    def gain(self, name: str, value: float, best: float | None) -> float:
        """By how much a value is better than the best; NaN never is."""
        if best is None or math.isnan(best):
            return -math.inf if math.isnan(value) else math.inf
        return value - best if self._greater(name) else best - value

    def _greater(self, name: str) -> bool:
        if self.mode is not None:
            return self.mode == "max"
        known = self._known.get(name, direction(name))
        if known is None:
            raise InvalidValueError(
                f"monitor is {name!r}, of which nobody knows whether less or more is better; expected mode='min' or "
                "mode='max'"
            )
        return known
