"""What every metric is, and what all of them make of their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError

Array = NDArray[Any]
Weights = NDArray[np.float64]


class Metric:
    """Base of the metrics: a number that says how good predictions are.

    ``metric(y_true, y_predicted, sample_weight=None)`` computes it. `fit` and `evaluate` take such an object among
    their `metrics`, give it what it `needs`, and call the figure by its `name`.

    Attributes
    ----------
    name : str
        In the history it has ``val_`` before it.
    needs : {"labels", "probabilities", "scores", "numbers", "predictions"}
        What y_predicted is. For classes: labels (n,); probabilities (n, classes); or the model's outputs as they are,
        (n, classes). For yes and no: 0 and 1, or the probability of 1, (n,) of one output and (n, outputs) of several.
        For numbers, (n,) of one output and (n, outputs) of several. "predictions" is what `predict` gives of
        whichever there is.
    greater_is_better : bool or None
        None: nobody knows, so who watches it has to be told.
    """

    name: str = ""
    needs: ClassVar[str] = "labels"
    greater_is_better: bool | None = True

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        """The figure. `n_classes` says how many classes there are, where not all need be among these rows."""
        raise TypeError(f"{type(self).__name__} has no __call__")

    def config(self) -> dict[str, Any]:
        """Arguments that make such a metric again."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


class OfFunction(Metric):
    """A function of (y_true, y_predicted) as a metric; weights of the rows are for those that take `sample_weight`."""

    needs = "predictions"
    greater_is_better = None

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function
        try:
            self._weighs = "sample_weight" in inspect.signature(function).parameters
        except (TypeError, ValueError):  # of some that are not written in Python nobody knows
            self._weighs = False

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        more = {"sample_weight": sample_weight} if self._weighs and sample_weight is not None else {}
        value = self.function(y_true, y_predicted, **more)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InvalidTypeError(f"the metric {self.name!r} returned {value!r}; expected a number") from None

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "function": self.function}


def same_rows(y_true: ArrayLike, y_predicted: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays of one row or more each, as many of one as of the other; columns of one are none."""
    made = []
    for name, values in (("y_true", y_true), ("y_predicted", y_predicted)):
        array = check.as_array(name, values)
        if array.ndim == 0 or not array.size:
            raise InvalidValueError(f"{name} has shape {array.shape}; expected at least one row")
        made.append(array.reshape(-1) if array.shape[1:] == (1,) else array)
    truth, predicted = made
    if len(truth) != len(predicted):
        raise InvalidValueError(f"y_predicted has {len(predicted)} rows; expected {len(truth)}, as many as y_true")
    return truth, predicted


def row_weights(sample_weight: ArrayLike | None, rows: int) -> Weights:
    """(rows,) float64, ones for None; each finite and at least 0, and not all of them 0."""
    if sample_weight is None:
        return np.ones(rows)
    weights = check.as_array("sample_weight", sample_weight)
    if weights.shape != (rows,):
        raise InvalidValueError(f"sample_weight has shape {weights.shape}; expected ({rows},)")
    if weights.dtype.kind not in "fiub":
        raise InvalidTypeError(f"sample_weight has dtype {weights.dtype}; expected numbers")
    weights = weights.astype(np.float64)
    if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise InvalidValueError("sample_weight holds no weights; expected finite ones of at least 0, and one above it")
    return weights


def as_labels(y_true: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Checked labels from 0 to ``n_classes - 1``, (n,)."""
    truth = check.as_array("y_true", y_true)
    return check.labels("y_true", truth, len(truth) if truth.ndim else 0, n_classes)
