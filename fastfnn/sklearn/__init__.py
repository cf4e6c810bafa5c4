"""Estimators for scikit-learn: ``pip install "fastfnn[sklearn]"``.

>>> from fastfnn.sklearn import FNNClassifier
>>> model = make_pipeline(StandardScaler(), FNNClassifier((100,), random_state=0)).fit(X, y)

`FNNClassifier` and `FNNRegressor` stand where `MLPClassifier` and `MLPRegressor` do: what has the same name there has
the same meaning here. Beyond it are activations and dropout by layer, batch normalisation, more optimizers, weights of
classes, and any `Sequential` as the network, such as a convolutional one.
"""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError('fastfnn.sklearn needs the package scikit-learn (pip install "fastfnn[sklearn]")') from error

from fastfnn.sklearn._classifier import FNNClassifier
from fastfnn.sklearn._regressor import FNNRegressor
from fastfnn.sklearn._skl2onnx import register_skl2onnx

__all__ = ["FNNClassifier", "FNNRegressor", "register_skl2onnx"]
