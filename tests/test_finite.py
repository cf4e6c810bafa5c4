"""NaN and infinity: in the data they are named with their row, in predictions they stay what they are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidValueError, NonFiniteDataError, NonFiniteLossError
from fastfnn.training import finite

RNG = np.random.default_rng(4)
N, FEATURES = 90, 5
X = RNG.normal(size=(N, FEATURES))
Y = np.arange(N) % 3
CE = ff.CrossEntropyLoss()
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "seed": 0, "progress": False}


def network(*last: ff.Layer, out: int = 3, dtype: str = "float32") -> ff.Sequential:
    return ff.Sequential(ff.Linear(FEATURES, 8), ff.ReLU(), ff.Linear(8, out), *last, seed=0, dtype=dtype)


def with_bad(array: Any, place: Any, value: float = np.nan) -> Any:
    bad = np.array(array, float)
    bad[place] = value
    return bad


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [ff.ReLU, ff.Tanh, ff.Sigmoid, ff.LeakyReLU])
def test_a_number_in_x_that_is_none_is_named(activation: Any, dtype: str, value: float) -> None:
    model = ff.Sequential(ff.Linear(FEATURES, 8), activation(), ff.Linear(8, 3), seed=0, dtype=dtype)
    before = model.parameters.tobytes()
    with pytest.raises(NonFiniteDataError, match=rf"epoch 1, .* epoch 0\. x\[37, 2\] is {value}; expected finite"):
        ff.fit(model, with_bad(X, (37, 2), value), Y, loss=CE, optimizer=ff.Adam(0.01), **OPTIONS)
    assert model.parameters.tobytes() == before
    assert model.task is None
    with pytest.raises(ValueError, match=r"untouched\. x\[37, 2\] is nan"):
        ff.train_step(model, with_bad(X, (37, 2)), Y, loss=CE, optimizer=ff.SGD())


def test_so_is_one_of_an_image_of_a_sparse_matrix_and_of_targets() -> None:
    images = with_bad(RNG.normal(size=(N, 1, 6, 6)), (41, 0, 3, 5))
    cnn = ff.Sequential(ff.Conv2d(1, 4, 3), ff.ReLU(), ff.MaxPool2d(2), ff.Flatten(), ff.Linear(16, 3), seed=0)
    with pytest.raises(NonFiniteDataError, match=r"x\[41, 0, 3, 5\] is nan"):
        ff.fit(cnn, images, Y, loss=CE, optimizer=ff.SGD(), **OPTIONS)
    numbers, regression = X @ np.ones(FEATURES), {"loss": ff.MSELoss(), "optimizer": ff.SGD(), **OPTIONS}
    with pytest.raises(NonFiniteDataError, match=r"y\[12\] is inf"):
        ff.fit(network(out=1), X, with_bad(numbers, 12, np.inf), **regression)
    with pytest.raises(NonFiniteDataError, match=r"y\[12, 1\] is nan"):
        ff.fit(network(out=2), X, with_bad(X[:, :2], (12, 1)), **regression)


def test_a_sparse_matrix_has_its_row_and_column_named() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    dense = with_bad(np.where(RNG.random((N, 40)) < 0.9, 0, 1.0), (23, 7))
    model = ff.Sequential(ff.Linear(40, 3), seed=0)
    with pytest.raises(NonFiniteDataError, match=r"x\[23, 7\] is nan"):
        ff.fit(model, sparse.csr_matrix(dense), Y, loss=CE, optimizer=ff.SGD(), **OPTIONS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_validation_data_are_looked_through_before_anything_is_trained(value: float) -> None:
    model = network(ff.Sigmoid(), out=1)
    before, y = model.parameters.tobytes(), (X[:, 0] > 0).astype(float)
    options = {"loss": ff.BCELoss(), "optimizer": ff.SGD(), **OPTIONS}
    with pytest.raises(InvalidValueError, match=rf"validation x\[5, 1\] is {value}; expected finite"):
        ff.fit(model, X, y, validation_data=(with_bad(X, (5, 1), value), y), **options)
    with pytest.raises(InvalidValueError, match=r"validation y\[6\] is nan"):
        ff.fit(model, X, y, validation_data=(X, with_bad(y, 6)), **options)
    assert model.parameters.tobytes() == before


def test_a_rate_that_is_too_large_is_still_called_so() -> None:
    with pytest.raises(NonFiniteLossError, match="A smaller learning rate than 1e[+]30") as caught:
        ff.fit(network(), X, Y, loss=CE, optimizer=ff.SGD(1e30), **OPTIONS)
    assert not isinstance(caught.value, ValueError)


def test_large_numbers_are_finite() -> None:
    assert finite._first(np.full(200_000, 1e30, np.float32)) is None
    assert finite._first(with_bad(np.zeros(200_000), 150_001)) == 150_001
    assert finite._first(np.zeros(3, np.uint8)) is None


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(NonFiniteDataError("x[1] is nan", epoch=2, step=3)))
    assert (type(error), str(error), error.epoch, error.step) == (NonFiniteDataError, "x[1] is nan", 2, 3)


def test_the_sweep_of_rates_names_the_row_too() -> None:
    with pytest.raises(NonFiniteDataError, match=r"x\[3, 0\] is nan"):
        ff.lr_find(network(), with_bad(X, (3, 0)), Y, loss=CE, optimizer=ff.SGD())


def test_evaluate_says_where_its_loss_comes_from() -> None:
    with pytest.warns(RuntimeWarning, match=r"evaluate: x\[3, 0\] is nan, so the loss is nan"):
        assert np.isnan(ff.evaluate(network(), with_bad(X, (3, 0)), Y, loss=CE).loss)


@pytest.mark.parametrize("rows", [1, 20, N])
@pytest.mark.parametrize(("task", "out"), [("classification", 3), ("binary", 1), ("binary", 3), ("regression", 1)])
def test_predictions_of_nan_are_nan(task: str, out: int, rows: int) -> None:
    model, x = network(out=out), X[:rows].astype(np.float32)
    expected = np.array(ff.predict(model, x, task=task), float)
    bad = with_bad(x, (rows - 1, 2)).astype(np.float32)
    expected[rows - 1] = np.nan
    predictor = ff.Predictor(model)
    for call in (ff.predict, lambda model, x, task: predictor.predict(x, task=task)):
        with pytest.warns(RuntimeWarning, match=rf"the outputs of 1 of {rows} rows are NaN, as of row {rows - 1}"):
            found = call(model, bad, task=task)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(ff.predict_proba(model, bad)[-1]).all()


# What a model was trained for


def fitted(loss: ff.Loss, y: Any, *last: ff.Layer, out: int = 1) -> ff.Sequential:
    model = network(*last, out=out)
    ff.fit(model, X, y, loss=loss, optimizer=ff.Adam(0.01), **OPTIONS)
    return model


TRAINED: dict[str, tuple[ff.Loss, Any, tuple[ff.Layer, ...], int]] = {
    "classes": (CE, Y, (), 3),
    "yes or no": (ff.BCEWithLogitsLoss(), X[:, 0] > 0, (), 1),
    "yes or no, a probability": (ff.BCELoss(), X[:, :1] > 0, (ff.Sigmoid(),), 1),
    "yes or no to several": (ff.BCEWithLogitsLoss(), X[:, :3] > 0, (), 3),
    "a number": (ff.MSELoss(), X[:, 0], (), 1),
    "a column": (ff.MSELoss(), X[:, :1], (), 1),
    "a number, absolute": (ff.L1Loss(), X[:, 0], (), 1),
    "a number, Huber": (ff.HuberLoss(), X[:, 0], (), 1),
    "a logarithm": (ff.PoissonNLLLoss(), X[:, 0] ** 2, (), 1),
    "numbers": (ff.MSELoss(), X[:, :3], (), 3),
}


@pytest.mark.parametrize("name", TRAINED)
def test_predict_gives_what_the_training_was_for(name: str, tmp_path: Path) -> None:
    loss, y, last, out = TRAINED[name]
    model = fitted(loss, y, *last, out=out)
    raw, found = ff.predict_raw(model, X), ff.predict(model, X)
    yes = raw > (0.5 if last else 0)
    expected = {
        "classes": raw.argmax(axis=1),
        "yes or no": yes[:, 0],
        "yes or no, a probability": yes[:, 0],
        "yes or no to several": yes,
        "a number": raw[:, 0],
        "a column": raw,
        "a number, absolute": raw[:, 0],
        "a number, Huber": raw[:, 0],
        "a logarithm": raw[:, 0],
        "numbers": raw,
    }[name]
    assert found.dtype == (raw.dtype if loss.task == "regression" else np.int64)
    np.testing.assert_array_equal(found, expected)
    if loss.task != "regression":
        assert ff.accuracy(found, y) == ff.evaluate(model, X, y, loss=loss).accuracy
    # wherever the model goes
    ff.save(model, tmp_path / "model.safetensors")
    predictor = ff.Predictor(model)
    predictor.save(tmp_path / "predictor")
    for other in (ff.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model)), model.astype("float32")):
        np.testing.assert_array_equal(ff.predict(other, X), expected)
    for other in (predictor, ff.Predictor.load(tmp_path / "predictor"), pickle.loads(pickle.dumps(predictor))):
        np.testing.assert_allclose(other.predict(X), expected, rtol=1e-5, atol=1e-6)


def test_train_step_and_checkpoints_remember_it_too(tmp_path: Path) -> None:
    model = network(out=1)
    ff.train_step(model, X, X[:, 0], loss=ff.MSELoss(), optimizer=ff.SGD())
    assert (model.task, model.target_shape) == ("regression", ())
    options = {**OPTIONS, "callbacks": [ff.Checkpoint(tmp_path / "run")]}
    ff.fit(model, X, X[:, 0] > 0, loss=ff.BCEWithLogitsLoss(), optimizer=ff.SGD(), **options)
    assert ff.load(tmp_path / "run").task == "binary"
    again = network(out=1)  # nothing is left to train
    options = {**OPTIONS, "resume": tmp_path / "run"}
    ff.fit(again, X, X[:, 0] > 0, loss=ff.BCEWithLogitsLoss(), optimizer=ff.SGD(), **options)
    assert again.purpose() == model.purpose() == {"task": "binary", "target_shape": ()}


def test_where_nobody_knows_it_is_asked_for() -> None:
    model = network(out=1)
    for predict in (lambda **task: ff.predict(model, X, **task), ff.Predictor(model).predict):
        x = {} if predict.__name__ == "<lambda>" else {"x": X}
        with pytest.raises(InvalidValueError, match="one output and was not trained here.*task="):
            predict(**x)
        assert set(predict(task="binary", **x)) <= {0, 1}
        np.testing.assert_allclose(predict(task="regression", **x), ff.predict_raw(model, X), rtol=1e-6)
        with pytest.raises(InvalidValueError, match="task is 'numbers'; expected one of 'classification', 'binary'"):
            predict(task="numbers", **x)
    assert set(ff.predict(network(ff.Sigmoid(), out=1), X)) <= {0, 1}  # a probability, whoever trained it
    assert ff.predict(network(), X).shape == (N,)


def test_probabilities_of_numbers_are_warned_of() -> None:
    model = fitted(ff.MSELoss(), X[:, :2], out=2)
    with pytest.warns(UserWarning, match="predict_proba: the model was trained for regression"):
        ff.predict_proba(model, X)
    np.testing.assert_allclose(ff.predict_proba(model, X, task="classification").sum(axis=1), 1, rtol=1e-6)
    several = fitted(ff.BCEWithLogitsLoss(), X[:, :2] > 0, out=2)
    np.testing.assert_allclose(ff.predict_proba(several, X), ff.functional.sigmoid(ff.predict_raw(several, X)))


def test_a_file_that_names_another_task_is_refused(tmp_path: Path) -> None:
    model = fitted(ff.MSELoss(), X[:, 0])
    model.task = "divination"
    ff.save(model, tmp_path / "model")
    with pytest.raises(ff.errors.ModelFileError, match="task is 'divination'"):
        ff.load(tmp_path / "model")
