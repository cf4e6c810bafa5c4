"""Metrics of numbers; of several outputs each is computed of every one, and averaged."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastfnn._warnings import warn
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.metrics.base import Array, Metric, Weights, row_weights, same_rows


class _NumberMetric(Metric):
    """A figure of each output, averaged over them."""

    needs = "numbers"
    greater_is_better = False

    def __call__(
        self,
        y_true: ArrayLike,
        y_predicted: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
    ) -> float:
        truth, numbers = same_rows(y_true, y_predicted)
        if truth.shape != numbers.shape:
            raise InvalidValueError(f"y_predicted has shape {numbers.shape}; expected {truth.shape}, y_true's")
        for name, array in (("y_true", truth), ("y_predicted", numbers)):
            if array.dtype.kind not in "fiub":
                raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected numbers")
        truth, numbers = (array.reshape(len(array), -1).astype(np.float64) for array in (truth, numbers))
        return float(np.mean(self._of_outputs(truth, numbers, row_weights(sample_weight, len(truth)))))

    def _of_outputs(self, truth: Array, numbers: Array, weights: Weights) -> Array:
        raise TypeError(f"{type(self).__name__} has no figure")


class MAE(_NumberMetric):
    """Mean absolute error."""

    name = "mae"

    def _of_outputs(self, truth: Array, numbers: Array, weights: Weights) -> Array:
        return np.average(np.abs(truth - numbers), axis=0, weights=weights)


class MSE(_NumberMetric):
    """Mean squared error."""

    name = "mse"

    def _of_outputs(self, truth: Array, numbers: Array, weights: Weights) -> Array:
        return np.average((truth - numbers) ** 2, axis=0, weights=weights)


class RMSE(MSE):
    """Root of the mean squared error; of several outputs the mean of their roots."""

    name = "rmse"

    def _of_outputs(self, truth: Array, numbers: Array, weights: Weights) -> Array:
        return np.sqrt(super()._of_outputs(truth, numbers, weights))


class R2(_NumberMetric):
    """Coefficient of determination, 1 - Σ w (y - p)² / Σ w (y - ȳ)² (scikit-learn's ``r2_score``).

    Where all y are the same it is 1 if the predictions are, too, else 0; of one row it is NaN, with a warning.
    """

    name = "r2"
    greater_is_better = True

    def _of_outputs(self, truth: Array, numbers: Array, weights: Weights) -> Array:
        if len(truth) < 2:
            warn("r2 is not defined for one row, and is NaN")
            return np.array([math.nan])
        unexplained = weights @ (truth - numbers) ** 2
        total = weights @ (truth - np.average(truth, axis=0, weights=weights)) ** 2
        values = 1 - np.divide(unexplained, total, out=np.ones(len(total)), where=total > 0)
        return np.where((total == 0) & (unexplained == 0), 1.0, values)
