"""Metrics of probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn._warnings import warn
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.metrics.base import Array, Metric, Weights, as_labels, row_weights, same_rows


class ROCAUC(Metric):
    """Area under the curve of true over false positives (Fawcett 2006; scikit-learn's ``roc_auc_score``).

    It is the probability that a row of class 1 has a higher one than a row of class 0, ties counting half. Of several
    classes, or several labels a row, each is set against the rest.

    Parameters
    ----------
    average : {"macro", "weighted"}
        The mean over the classes, or that weighted by how many rows each has.

    Warns
    -----
    UserWarning
        No row is of a class, or all are: its area is NaN, and so is the mean.
    """

    name = "roc_auc"
    needs = "probabilities"

    def __init__(self, average: str = "macro") -> None:
        self.average = check.one_of("average", average, ("macro", "weighted"))
        if average != "macro":
            self.name = f"{self.name}_{average}"

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        truth, probabilities = _pair(y_true, y_predicted)
        weights = row_weights(sample_weight, len(truth))
        columns = list(_columns(truth, probabilities))
        areas = [_area(yes, scores, weights) for yes, scores in columns]
        if len(areas) == 1 or self.average == "macro":
            return float(np.mean(areas))
        shares = [float(weights @ yes) for yes, _ in columns]
        return float(np.average(areas, weights=shares)) if any(shares) else math.nan

    def config(self) -> dict[str, Any]:
        return {} if self.average == "macro" else {"average": self.average}


class LogLoss(Metric):
    """Mean of minus the logarithm of the true class's probability (scikit-learn's ``log_loss``).

    Probabilities are bounded by their dtype's epsilon on either side, as there. Of several labels a row it is the mean
    over all of them.
    """

    name = "log_loss"
    needs = "probabilities"
    greater_is_better = False

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        truth, probabilities = _pair(y_true, y_predicted)
        epsilon = np.finfo(probabilities.dtype).eps
        bounded = np.clip(probabilities, epsilon, 1 - epsilon).astype(np.float64)
        if truth.ndim == 1 and bounded.ndim == 2:
            losses = -np.log(bounded[np.arange(len(truth)), truth])
        else:
            losses = -np.log(np.where(truth == 1, bounded, 1 - bounded)).reshape(len(truth), -1).mean(axis=1)
        return float(np.average(losses, weights=row_weights(sample_weight, len(truth))))


def _pair(y_true: ArrayLike, y_predicted: ArrayLike) -> tuple[Array, Array]:
    """Labels (n,) and probabilities (n,) or (n, classes); or 0 and 1, and probabilities, both (n, labels)."""
    truth, probabilities = same_rows(y_true, y_predicted)
    if probabilities.dtype.kind not in "fiub":
        raise InvalidTypeError(f"y_predicted has dtype {probabilities.dtype}; expected probabilities")
    if probabilities.dtype.kind != "f":
        probabilities = probabilities.astype(np.float64)
    low, high = probabilities.min(), probabilities.max()
    if low < 0 or high > 1 + 1e-4:
        wrong = low if low < 0 else high
        raise InvalidValueError(f"y_predicted holds {wrong:g}; expected probabilities, as predict_proba gives them")
    if truth.ndim == 1 and probabilities.ndim <= 2:
        return as_labels(truth, probabilities.shape[1] if probabilities.ndim == 2 else 2), probabilities
    if truth.shape != probabilities.shape or truth.ndim != 2 or not ((truth == 0) | (truth == 1)).all():
        raise InvalidValueError(
            f"y_predicted has shape {probabilities.shape} and y_true {truth.shape}; expected labels (n,) and "
            "probabilities (n, classes), or 0 and 1 and as many probabilities"
        )
    return truth, probabilities


def _columns(truth: Array, probabilities: Array) -> Iterator[tuple[Array, Array]]:
    """Which rows are of a class, and their probabilities of it; of two classes only the second."""
    if probabilities.ndim == 1 or (truth.ndim == 1 and probabilities.shape[1] == 2):
        yield truth == 1, probabilities if probabilities.ndim == 1 else probabilities[:, 1]
        return
    for j in range(probabilities.shape[1]):
        yield truth == j if truth.ndim == 1 else truth[:, j] == 1, probabilities[:, j]


def _area(yes: Array, scores: Array, weights: Weights) -> float:
    """Of one class against the rest; rows with the same score are one step of the curve."""
    positive, negative = weights * yes, weights * ~yes
    if not (positive.any() and negative.any()) or np.isnan(scores).any():
        if not np.isnan(scores).any():
            warn("roc_auc is not defined where all rows are of a class, or none is, and is NaN")
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits, misses = (np.append(0.0, np.cumsum(part[order])[ends]) for part in (positive, negative))
    return float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1]) / 2) / (hits[-1] * misses[-1]))
