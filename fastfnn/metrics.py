"""Metrics of classifications."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError


def _classes(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Class labels from labels (n,), or from the largest of each row of scores or one-hot rows (n, classes)."""
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1]:
        return array.argmax(axis=1).astype(np.int64)
    if array.ndim != 1:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected (n,) labels or (n, classes) rows")
    if array.dtype.kind not in "iub":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected integer labels")
    return array.astype(np.int64)


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    guess, truth = _classes("prediction", prediction), _classes("target", target)
    if len(guess) != len(truth):
        raise InvalidValueError(f"prediction has {len(guess)} rows; expected {len(truth)}, as many as target")
    return guess, truth


def accuracy(prediction: ArrayLike, target: ArrayLike) -> float:
    """Share of rows whose class is right.

    Parameters
    ----------
    prediction, target : (n,) labels, or (n, classes) scores or one-hot rows

    Returns
    -------
    float
        Between 0 and 1; NaN for no rows.
    """
    guess, truth = _pair(prediction, target)
    return float(np.mean(guess == truth)) if len(truth) else float("nan")


def confusion_matrix(prediction: ArrayLike, target: ArrayLike, num_classes: int | None = None) -> NDArray[np.int64]:
    """How often class i (row, the truth) was taken for class j (column, the prediction).

    Parameters
    ----------
    prediction, target : as in `accuracy`
    num_classes : int, optional
        One more than the largest label by default.

    Returns
    -------
    (num_classes, num_classes) int64
    """
    guess, truth = _pair(prediction, target)
    both: NDArray[Any] = np.concatenate([guess, truth])
    found = int(both.max()) + 1 if both.size else 0
    classes = found if num_classes is None else check.positive_int("num_classes", num_classes)
    if both.size and (both.min() < 0 or found > classes):
        wrong = both.min() if both.min() < 0 else both.max()
        raise InvalidValueError(f"a label is {wrong}; expected labels from 0 to {classes - 1}")
    return np.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes)
