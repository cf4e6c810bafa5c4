"""Metrics of labels: how many are right, and of which classes."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn._warnings import warn
from fastfnn.errors import InvalidValueError
from fastfnn.metrics.base import Array, Metric, Weights, as_labels, row_weights, same_rows

AVERAGES = ("binary", "macro", "micro", "weighted")
OTHERS = "'macro', 'micro' or 'weighted'"


class Accuracy(Metric):
    """Share of the labels that are right; of rows with several labels each, the share of labels.

    `fit` and `evaluate` have it without being asked: there it counts all rows alike.
    """

    name = "accuracy"

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        truth, labels = same_rows(y_true, y_predicted)
        _refuse_other_shape(truth, labels)
        right = (truth == labels).reshape(len(truth), -1).mean(axis=1)
        return float(np.average(right, weights=row_weights(sample_weight, len(truth))))


class TopK(Metric):
    """Share of the rows whose class is among the k largest of their scores (scikit-learn's ``top_k_accuracy_score``).

    Of equal scores, those of later classes count as the larger ones, as there. From k = classes on it is 1, with a
    warning.

    Parameters
    ----------
    k : int
    """

    needs = "scores"

    def __init__(self, k: int = 5) -> None:
        self.k = check.positive_int("k", k)
        self.name = f"top_{self.k}"

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        truth, scores = same_rows(y_true, y_predicted)
        if scores.ndim != 2:
            raise InvalidValueError(f"y_predicted has shape {scores.shape}; expected (n, classes) scores for {self!r}")
        classes = scores.shape[1]
        truth = as_labels(truth, classes)
        if self.k >= classes:
            warn(f"{self!r} of {classes} classes is 1 whatever the predictions are; expected a smaller k")
        best = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, : self.k]
        right = (best == truth[:, None]).any(axis=1)
        return float(np.average(right, weights=row_weights(sample_weight, len(truth))))

    def config(self) -> dict[str, Any]:
        return {"k": self.k}


class _Counts(NamedTuple):
    """Rows, or their weights, of each class: taken for it rightly, taken for it, and of it."""

    right: Weights
    predicted: Weights
    actual: Weights

    def only(self, place: Any) -> _Counts:
        """Those of the classes at `place`, a mask; one that does not occur has 0."""
        return _Counts(*(part[place] if place.any() else np.zeros(1) for part in self))

    def together(self) -> _Counts:
        """Of all classes in one."""
        return _Counts(*(part.sum(keepdims=True) for part in self))


class _Ratio(Metric):
    """What is counted of each class, in relation, and averaged over the classes: see `Precision`."""

    #: What is not there where it is not defined.
    missing: ClassVar[str] = ""

    def __init__(self, average: str | None = None) -> None:
        self.average = None if average is None else check.one_of("average", average, AVERAGES)
        self.name = type(self).name if average is None else f"{type(self).name}_{average}"

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        classes, counts = _counts(*same_rows(y_true, y_predicted), sample_weight)
        is_binary = classes is not None and n_classes in (None, 2) and set(classes.tolist()) <= {0, 1}
        average = self.average or ("binary" if is_binary else "macro")
        if average == "binary":
            if not is_binary:
                raise InvalidValueError(
                    f"average is 'binary', but there are other classes than 0 and 1; expected {OTHERS}"
                )
            counts = counts.only(classes == 1)
        if average == "micro":
            counts = counts.together()
        above, below = self._parts(counts)
        if not below.all():
            warn(f"{type(self).name} is not defined where there are no {self.missing}, and counts as 0")
        values = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
        if average == "weighted":
            return float(np.average(values, weights=counts.actual)) if counts.actual.any() else 0.0
        return float(values.mean())

    def _parts(self, counts: _Counts) -> tuple[Weights, Weights]:
        """What is divided by what, of each class."""
        raise TypeError(f"{type(self).__name__} has no parts")

    def config(self) -> dict[str, Any]:
        return {} if self.average is None else {"average": self.average}


class Precision(_Ratio):
    """Of what was taken for a class, the share that is of it (scikit-learn's ``precision_score``).

    Parameters
    ----------
    average : {"binary", "macro", "micro", "weighted"}, optional
        Of class 1 alone; the mean over the classes; of the sums over the classes; or the mean weighted by how many
        rows each class has. Classes are those that occur in either argument; where rows say yes or no to several,
        (n, classes), all of them. By default "binary" of two classes 0 and 1, else "macro".

    Warns
    -----
    UserWarning
        A class has nothing to divide by: it counts as 0, as there.
    """

    name, missing = "precision", "predictions of a class"

    def _parts(self, counts: _Counts) -> tuple[Weights, Weights]:
        return counts.right, counts.predicted


class Recall(_Ratio):
    """Of what is of a class, the share that was taken for it (scikit-learn's ``recall_score``).

    Parameters and warnings are those of `Precision`.
    """

    name, missing = "recall", "rows of a class"

    def _parts(self, counts: _Counts) -> tuple[Weights, Weights]:
        return counts.right, counts.actual


class F1(_Ratio):
    """Harmonic mean of precision and recall (scikit-learn's ``f1_score``).

    Parameters and warnings are those of `Precision`.
    """

    name, missing = "f1", "rows and predictions of a class"

    def _parts(self, counts: _Counts) -> tuple[Weights, Weights]:
        return 2 * counts.right, counts.predicted + counts.actual


def _refuse_other_shape(truth: Array, labels: Array) -> None:
    if truth.shape != labels.shape or truth.ndim > 2:
        raise InvalidValueError(
            f"y_predicted has shape {labels.shape}; expected labels (n,), or 0 and 1 (n, classes), as y_true, "
            f"{truth.shape}"
        )


def _counts(truth: Array, labels: Array, sample_weight: ArrayLike | None) -> tuple[Array | None, _Counts]:
    """The labels that occur, or None where each column is a class; and what is counted of each."""
    _refuse_other_shape(truth, labels)
    weights = row_weights(sample_weight, len(truth))
    if truth.ndim == 2:
        for name, array in (("y_true", truth), ("y_predicted", labels)):
            if not ((array == 0) | (array == 1)).all():
                raise InvalidValueError(f"{name} has shape {array.shape}; expected nothing but 0 and 1 in it")
        yes, said = truth == 1, labels == 1
        return None, _Counts(weights @ (yes & said), weights @ said, weights @ yes)
    known, places = np.unique(np.concatenate([truth, labels]), return_inverse=True)
    of_truth, of_labels = places[: len(truth)], places[len(truth) :]
    sums = [(of_truth, weights * (of_truth == of_labels)), (of_labels, weights), (of_truth, weights)]
    return known, _Counts(*(np.bincount(where, these, len(known)).astype(np.float64) for where, these in sums))
