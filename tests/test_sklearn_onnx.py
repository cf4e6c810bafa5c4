"""skl2onnx converts pipelines with our estimators: ONNX Runtime predicts what they do."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
pytest.importorskip("onnxruntime")

import onnxruntime as ort
import skl2onnx
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastfnn as ff
from fastfnn.sklearn import FNNClassifier, FNNRegressor, register_skl2onnx

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NAMES = np.array(["one", "three", "two"])[Y]
CASES = {
    "names": (FNNClassifier((8,), dropout=0.2, batch_norm=True), NAMES),
    "two numbers": (FNNClassifier((8,), activation="tanh"), np.where(Y > 0, 7, 3)),
    "labels": (FNNClassifier((8,)), np.c_[Y > 0, Y > 1].astype(int)),
    "a network of images": (
        FNNClassifier(network=ff.Sequential(ff.Conv2d(1, 3, 2), ff.Flatten(), ff.Linear(3, 3)), input_shape=(1, 2, 2)),
        Y,
    ),
    "a number": (FNNRegressor(hidden_layer_sizes=(8,)), X[:, 0]),
    "float64": (FNNRegressor(hidden_layer_sizes=(8,), dtype="float64"), X[:, 0]),
    "counts": (FNNRegressor("poisson", (8,)), Y),
    "three numbers": (FNNRegressor(hidden_layer_sizes=(8,)), X[:, :3]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_the_graph_of_a_pipeline_predicts_as_it_does(case):
    register_skl2onnx()
    estimator, y = CASES[case]
    pipeline = make_pipeline(StandardScaler(), estimator.set_params(max_iter=30, random_state=0)).fit(X, y)
    classifies = isinstance(estimator, FNNClassifier)
    options = {"options": {id(pipeline): {"zipmap": False}}} if classifies else {}
    graph = skl2onnx.to_onnx(pipeline, X[:1], **options)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: X})
    if not classifies:
        np.testing.assert_allclose(found[0].reshape(np.shape(y)), pipeline.predict(X), rtol=1e-4, atol=1e-4)
        return
    np.testing.assert_array_equal(found[0], pipeline.predict(X))
    np.testing.assert_allclose(found[1], pipeline.predict_proba(X), rtol=1e-4, atol=1e-5)
