"""Estimators for scikit-learn: ``pip install "fastfnn[sklearn]"``.

>>> from fastfnn.sklearn import FNNClassifier
>>> model = make_pipeline(StandardScaler(), FNNClassifier((100,), random_state=0)).fit(X, y)

`FNNClassifier` and `FNNRegressor` stand where `MLPClassifier` and `MLPRegressor` do: what has the same name there has
the same meaning here. Beyond it are activations and dropout by layer, batch normalisation, more optimizers, weights of
classes, and any `Sequential` as the network, such as a convolutional one.

Elsewhere:

- ``skl2onnx.to_onnx`` takes pipelines with them once `register_skl2onnx` has been called.
- skops asks for trusted types: ``fastfnn.history.History``, ``fastfnn.initializers.zeros``,
  ``fastfnn.model.Sequential``, ``fastfnn.sklearn._course.Course``, ``fastfnn.sklearn._network.Architecture``,
  ``numpy.dtype``, the estimator's class (``fastfnn.sklearn._classifier.FNNClassifier`` or
  ``fastfnn.sklearn._regressor.FNNRegressor``), and those of the layers and the optimizer, such as
  ``fastfnn.layers.linear.Linear``, ``fastfnn.layers.activations.ReLU`` and ``fastfnn.optim.adam.Adam``;
  ``skops.io.get_untrusted_types`` lists them for a file.
- ``mlflow.sklearn.log_model`` needs them as ``skops_trusted_types=``, or ``serialization_format="cloudpickle"``.
- ``fastfnn.save`` and ``fastfnn.export_onnx`` take the network, `model_`; pickle and joblib take the estimator.
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
