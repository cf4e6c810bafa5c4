"""Metrics: how good predictions are, for `fit`, `evaluate`, and by hand.

Each is an object that is called as scikit-learn's functions are, ``F1()(y_true, y_predicted, sample_weight)``, and
gives what they give. `accuracy` and `confusion_matrix` are functions of (prediction, target).
"""

from fastfnn.metrics.base import Metric
from fastfnn.metrics.classes import F1, Accuracy, Precision, Recall, TopK
from fastfnn.metrics.labels import accuracy, confusion_matrix
from fastfnn.metrics.named import as_metrics, direction
from fastfnn.metrics.numbers import MAE, MSE, R2, RMSE
from fastfnn.metrics.probabilities import ROCAUC, LogLoss

__all__ = [
    "F1",
    "MAE",
    "MSE",
    "R2",
    "RMSE",
    "ROCAUC",
    "Accuracy",
    "LogLoss",
    "Metric",
    "Precision",
    "Recall",
    "TopK",
    "accuracy",
    "as_metrics",
    "confusion_matrix",
    "direction",
]
