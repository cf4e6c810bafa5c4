"""Metrics of classifications."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError


def _classes(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Class labels from labels (n,) or (n, 1), or from the largest of each row of scores or one-hot rows (n, classes).

    One column that holds no labels has the probabilities of class 1.
    """
    array = check.as_array(name, values)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not array.shape[1]):
        raise InvalidValueError(f"{name} has shape {array.shape}; expected (n,) labels or (n, classes) rows")
    if array.dtype.kind not in "fiub":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected integer labels")
    missing = np.isnan(array).any(axis=tuple(range(1, array.ndim)))
    if missing.any():
        raise InvalidValueError(f"{name}[{int(missing.argmax())}] is nan; expected labels or scores in every row")
    if array.ndim == 2 and array.shape[1] > 1:
        return array.argmax(axis=1).astype(np.int64)
    if array.dtype.kind != "f" or (array == np.floor(array)).all():
        return array.reshape(len(array)).astype(np.int64)
    if array.ndim == 1:
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected integer labels")
    if array.min() < 0 or array.max() > 1:
        raise InvalidValueError(
            f"{name} has one column, from {array.min():g} to {array.max():g}; expected labels, or probabilities of "
            "class 1 as predict_proba gives them"
        )
    return (array[:, 0] > 0.5).astype(np.int64)


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    guess, truth = _classes("prediction", prediction), _classes("target", target)
    if len(guess) != len(truth):
        raise InvalidValueError(f"prediction has {len(guess)} rows; expected {len(truth)}, as many as target")
    return guess, truth


def _several_labels(prediction: ArrayLike, target: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Both as 0 and 1, where the rows of the target say yes or no to several classes each; None where they do not."""
    truth, guess = np.asarray(target), np.asarray(prediction)
    if truth.ndim != 2 or truth.shape[1] < 2 or truth.dtype.kind not in "fiub":
        return None
    if not ((truth == 0) | (truth == 1)).all() or (truth.sum(axis=1) == 1).all():
        return None
    if guess.shape != truth.shape or guess.dtype.kind not in "fiub" or not ((guess >= 0) & (guess <= 1)).all():
        raise InvalidValueError(
            f"target says yes or no to {truth.shape[1]} classes a row; expected as many labels or probabilities in "
            "prediction, as predict and predict_proba give them with multilabel=True"
        )
    return guess > 0.5, truth > 0.5


def accuracy(prediction: ArrayLike, target: ArrayLike) -> float:
    """Share of rows whose class is right; of rows with several labels each, the share of labels.

    Parameters
    ----------
    prediction, target
        (n,) or (n, 1) labels; (n, 1) probabilities of class 1; (n, classes) scores or one-hot rows. Where rows of the
        target have several ones or none, each column says yes or no to a class, and so does the prediction.

    Returns
    -------
    float
        Between 0 and 1; NaN for no rows.
    """
    several = _several_labels(prediction, target)
    guess, truth = _pair(prediction, target) if several is None else several
    return float(np.mean(guess == truth)) if len(truth) else float("nan")


def confusion_matrix(prediction: ArrayLike, target: ArrayLike, num_classes: int | None = None) -> NDArray[np.int64]:
    """How often class i (row, the truth) was taken for class j (column, the prediction).

    Parameters
    ----------
    prediction, target : as in `accuracy`, of one class a row
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
