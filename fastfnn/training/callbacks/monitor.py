"""Which figure of a training is watched, and when it is better."""

from __future__ import annotations

import math

from fastfnn.errors import InvalidValueError
from fastfnn.history import History

MONITORS = ("loss", "accuracy", "val_loss", "val_accuracy")


def watched(monitor: str | None, history: History) -> tuple[str, list[float]]:
    """Name and values of what is watched; None is the loss of the validation data, or of the training without them.

    Raises
    ------
    InvalidValueError
        The training has no such figure.
    """
    name = monitor or ("val_loss" if history.val_loss else "loss")
    values: list[float] = getattr(history, name)
    # Where targets are numbers, the accuracies are NaN.
    if not values or (name.endswith("accuracy") and math.isnan(values[-1])):
        has = [other for other in MONITORS if not math.isnan(history.last().get(other, math.nan))]
        raise InvalidValueError(f"monitor is {name!r}; expected one of what this training has: {', '.join(has)}")
    return name, values


def gain(name: str, value: float, best: float | None) -> float:
    """By how much it is better than the best: a loss by being smaller, an accuracy by being larger; NaN never is."""
    if best is None or math.isnan(best):
        return -math.inf if math.isnan(value) else math.inf
    return best - value if name.endswith("loss") else value - best
