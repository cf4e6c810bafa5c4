"""Metrics by their names: what `fit` and `evaluate` take as `metrics`, and which way a figure becomes better."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.metrics.base import Metric, OfFunction
from fastfnn.metrics.classes import AVERAGES, F1, Accuracy, Precision, Recall, TopK
from fastfnn.metrics.labels import accuracy
from fastfnn.metrics.numbers import MAE, MSE, R2, RMSE
from fastfnn.metrics.probabilities import ROCAUC, LogLoss

#: One metric, or several; by names of the user's own in a mapping.
Metrics = str | Metric | Callable[..., Any] | Iterable[Any] | Mapping[str, Any]

_AVERAGED = (Precision, Recall, F1)
BY_NAME: dict[str, Callable[[], Metric]] = {
    made.name: made for made in (Accuracy, *_AVERAGED, ROCAUC, LogLoss, MAE, MSE, RMSE, R2)
}
#: What else the history and an `Evaluation` have by these names.
TAKEN = ("loss", "lr", "seconds", "epoch")


def as_metrics(metrics: Metrics | None) -> dict[str, Metric]:
    """The metrics by name; `accuracy` may be among them, though `fit` and `evaluate` have it anyway.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        One is unknown, has no name, or that of another.
    """
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        entries = [(name, value) for name, value in metrics.items()]
    elif isinstance(metrics, (str, Metric)) or callable(metrics):
        entries = [(None, metrics)]
    elif isinstance(metrics, Iterable):
        entries = [(None, value) for value in metrics]
    else:
        raise InvalidTypeError(f"metrics is {metrics!r}; expected a list such as ['accuracy', 'f1']")
    found: dict[str, Metric] = {}
    for name, value in entries:
        metric = _as_metric(value)
        name = metric.name if name is None else name
        if name in ("", "<lambda>"):
            raise InvalidValueError(
                f"metrics holds {value!r}, which has no name; expected a mapping {{'name': metric}}"
            )
        taken = name in TAKEN or (name == "accuracy" and not isinstance(metric, Accuracy))
        if not isinstance(name, str) or taken or name.startswith("val_"):
            raise InvalidValueError(f"metrics holds {value!r} by the name {name!r}; expected another name")
        if name in found:
            raise InvalidValueError(f"metrics holds two by the name {name!r}; expected a mapping of names to metrics")
        found[name] = metric
    return found


def _as_metric(value: Any) -> Metric:
    if isinstance(value, Metric):
        return value
    check.instance("metrics", value)
    if value is accuracy:
        return Accuracy()
    if isinstance(value, str):
        return _by_name(value)
    if callable(value):
        return OfFunction(getattr(value, "__name__", ""), value)
    raise InvalidTypeError(f"metrics holds {value!r}; expected a name, a metric or a function of (y_true, y_predicted)")


def _by_name(name: str) -> Metric:
    if name in BY_NAME:
        return BY_NAME[name]()
    top = re.fullmatch(r"top_([1-9][0-9]{0,8})", name)
    if top:
        return TopK(int(top[1]))
    kind, _, average = name.rpartition("_")
    for made in _AVERAGED:
        if kind == made.name and average in AVERAGES:
            return made(average)
    known = ", ".join(map(repr, BY_NAME))
    raise InvalidValueError(
        f"metrics holds {name!r}; expected {known}, 'top_5', 'f1_macro' and the like, or a function of "
        "(y_true, y_predicted)"
    )


def direction(name: str) -> bool | None:
    """Whether a figure of this name, as the history has it, is better where it is greater; None: nobody knows."""
    plain = name.removeprefix("val_")
    if plain == "loss":
        return False
    try:
        return _by_name(plain).greater_is_better
    except InvalidValueError:
        return None
