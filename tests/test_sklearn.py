"""The estimators among scikit-learn's other parts, and what they have beyond `MLPClassifier`."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from _helpers import at_once, run_python

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastfnn as ff
from fastfnn.sklearn import FNNClassifier, FNNRegressor

RNG = np.random.default_rng(9)
IRIS_X, IRIS_Y = load_iris(return_X_y=True)
IRIS_X = StandardScaler().fit_transform(IRIS_X)
NAMES = np.array(["setosa", "versicolor", "virginica"])[IRIS_Y]
NUMBERS = IRIS_X @ RNG.normal(size=(4, 2)) + 0.1 * RNG.normal(size=(150, 2))
SPEEDY = {"hidden_layer_sizes": (16,), "max_iter": 30, "learning_rate_init": 0.02, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**parameters):
    return FNNClassifier(**{**SPEEDY, **parameters})


def regressor(**parameters):
    return FNNRegressor(**{**SPEEDY, **parameters})


def weights_of(estimator):
    return [array.copy() for array in estimator.coefs_ + estimator.intercepts_]


def assert_equal_weights(one, other):
    for mine, others in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(mine, others)


# Imports


def test_importing_fastfnn_imports_no_scikit_learn():
    result = run_python("import sys, fastfnn; print('sklearn' in sys.modules)")
    assert result.stdout.strip() == "False", result.stderr


def test_without_scikit_learn_the_error_says_what_to_install():
    result = run_python("import sys; sys.modules['sklearn'] = None; import fastfnn.sklearn")
    assert (
        'ImportError: fastfnn.sklearn needs the package scikit-learn (pip install "fastfnn[sklearn]")' in result.stderr
    )


# Targets


def test_classes_may_be_strings():
    model = classifier(max_iter=60).fit(IRIS_X, NAMES)
    assert list(model.classes_) == ["setosa", "versicolor", "virginica"]
    assert model.score(IRIS_X, NAMES) > 0.95
    assert model.predict(IRIS_X[:1])[0] == "setosa"


def test_two_classes_have_one_logit():
    rows = IRIS_Y < 2
    model = classifier().fit(IRIS_X[rows], NAMES[rows])
    logits = model.decision_function(IRIS_X[rows])
    assert logits.shape == (100,)
    np.testing.assert_array_equal(model.predict(IRIS_X[rows]) == "versicolor", logits > 0)
    proba = model.predict_proba(IRIS_X[rows])
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(model.predict_log_proba(IRIS_X[rows]), np.log(proba), rtol=1e-6)


def test_a_single_class_is_all_that_is_predicted():
    model = classifier(max_iter=2).fit(IRIS_X, np.full(150, "only"))
    assert set(model.predict(IRIS_X)) == {"only"}
    np.testing.assert_array_equal(model.predict_proba(IRIS_X), np.ones((150, 1)))
    np.testing.assert_array_equal(model.predict_log_proba(IRIS_X), np.zeros((150, 1)))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_a_row_may_have_several_labels(form):
    labels = (IRIS_X[:, :3] > 0).astype(np.int64)
    model = classifier().fit(IRIS_X, form(labels))
    assert model.predict(IRIS_X).dtype == np.int64
    assert model.score(IRIS_X, labels) > 0.85
    assert model.predict_proba(IRIS_X).shape == model.decision_function(IRIS_X).shape == (150, 3)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(IRIS_X)), model.predict_proba(IRIS_X))


def test_several_columns_of_classes_are_refused_with_what_takes_them():
    columns = np.stack([IRIS_Y, IRIS_Y], axis=1)
    with pytest.raises(ValueError, match="MultiOutputClassifier"):
        classifier().fit(IRIS_X, columns)
    assert MultiOutputClassifier(classifier()).fit(IRIS_X, columns).predict(IRIS_X).shape == (150, 2)


def test_a_regression_may_have_several_targets():
    model = regressor(max_iter=200).fit(IRIS_X, NUMBERS)
    assert model.predict(IRIS_X).shape == (150, 2)
    assert model.score(IRIS_X, NUMBERS) > 0.9
    assert regressor().fit(IRIS_X, NUMBERS[:, 0]).predict(IRIS_X).shape == (150,)
    with pytest.warns(DataConversionWarning):
        regressor(max_iter=1).fit(IRIS_X, NUMBERS[:, :1])


@pytest.mark.parametrize("name, low, high", [("logistic", 0, 1), ("tanh", -1, 1), ("relu", 0, np.inf)])
def test_out_activation_bounds_the_predictions(name, low, high):
    model = regressor(out_activation=name).fit(IRIS_X, 0.5 + 0.1 * NUMBERS[:, 0])
    predicted = model.predict(10 * IRIS_X)
    assert low <= predicted.min() and predicted.max() <= high
    assert model.out_activation_ == name


# Inputs


@pytest.mark.parametrize(
    "dtype, network", [("float64", "float64"), ("float32", "float32"), ("uint8", "float32"), ("int64", "float32")]
)
def test_the_network_is_float64_only_for_float64(dtype, network):
    X = np.round(10 + 2 * IRIS_X).astype(dtype)
    model = classifier(max_iter=2).fit(X, IRIS_Y)
    assert model.model_.dtype == network
    assert model.predict_proba(X).dtype == network
    assert classifier(max_iter=2, dtype="float64").fit(X, IRIS_Y).model_.dtype == "float64"


def test_arrays_reach_fit_without_a_copy(monkeypatch):
    seen = []
    fit = ff.training.fit
    monkeypatch.setattr(
        ff.training, "fit", lambda model, x, *args, **options: seen.append(x) or fit(model, x, *args, **options)
    )
    X = RNG.integers(0, 255, (150, 4)).astype(np.uint8)
    classifier(max_iter=1).fit(X, IRIS_Y)
    rows = sparse.csr_matrix(IRIS_X)
    classifier(max_iter=1).fit(rows, IRIS_Y)
    assert seen[0] is X
    assert np.shares_memory(seen[1].data, rows.data)


def test_sparse_rows_train_as_dense_ones_do():
    dense = np.where(IRIS_X > 0, IRIS_X, 0)
    one, other = (classifier(batch_size=50).fit(form(dense), IRIS_Y) for form in (np.asarray, sparse.csc_matrix))
    np.testing.assert_allclose(one.predict_proba(dense), other.predict_proba(sparse.csr_array(dense)), rtol=1e-6)


def test_columns_have_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(IRIS_X, columns=["a", "b", "c", "d"])
    model = classifier().fit(frame, NAMES)
    assert list(model.feature_names_in_) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(IRIS_X)


@pytest.mark.parametrize(
    "rows, message",
    [
        (np.full((3, 4), np.nan), "Input X contains NaN"),
        (np.full((3, 4), np.inf), "Input X contains infinity"),
        (np.where(np.eye(4)[:2], -np.inf, IRIS_X[:2]), "Input X contains infinity"),
        (np.where(np.eye(4)[:2], np.nan, IRIS_X[:2]), "Input X contains NaN"),
        (IRIS_X[:, :3], "X has 3 features, but FNNClassifier is expecting 4 features"),
        (IRIS_X[0], "Expected 2D array, got 1D array"),
        (IRIS_X[:0], "Found array with 0 sample"),
        (IRIS_X.astype(complex), "Complex data not supported"),
    ],
)
def test_wrong_rows_meet_scikit_learns_messages(rows, message):
    model = classifier(max_iter=1).fit(IRIS_X, NAMES)
    with pytest.raises(ValueError, match=message):
        model.predict(rows)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 9), slice(None)])
def test_the_short_way_predicts_what_the_long_way_does(rows):
    model = classifier().fit(IRIS_X, NAMES)
    assert model._is_plain(IRIS_X[rows])
    assert not model._is_plain(IRIS_X[rows].tolist())
    np.testing.assert_array_equal(model.predict_proba(IRIS_X[rows]), model.predict_proba(IRIS_X[rows].tolist()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_few_rows_follow_whatever_is_written_into_the_model(dtype):
    model = classifier(dtype=dtype, max_iter=3).fit(IRIS_X, NAMES)

    def check():
        for rows in (slice(0, 1), slice(3, 70)):
            expected = ff.predict_raw(model.model_, IRIS_X[rows])
            np.testing.assert_array_equal(model.decision_function(IRIS_X[rows]), expected)

    check()
    model.coefs_[0][...] *= 1.5
    check()
    model.intercepts_[1][0] = 4
    check()
    model.model_.layers[0].params["weight"] = RNG.normal(size=(4, 16))
    check()
    model.model_.layers[1] = ff.Tanh()
    check()
    model.partial_fit(IRIS_X, NAMES)
    check()
    model.fit(IRIS_X[:, :3], NAMES)
    with pytest.raises(ValueError, match="expecting 3 features"):
        model.predict(IRIS_X[:1])
    np.testing.assert_array_equal(
        model.decision_function(IRIS_X[:2, :3]), ff.predict_raw(model.model_, IRIS_X[:2, :3].copy())
    )


def test_copies_of_an_estimator_have_their_own_short_way():
    model = classifier(max_iter=3).fit(IRIS_X, NAMES)
    expected = model.predict_proba(IRIS_X[:5])
    size = len(pickle.dumps(model))
    twins = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    assert len(pickle.dumps(model)) == size
    for twin in twins:
        np.testing.assert_array_equal(twin.predict_proba(IRIS_X[:5]), expected)
        twin.coefs_[0][...] = 0
        assert not np.array_equal(twin.predict_proba(IRIS_X[:5]), expected)
        np.testing.assert_array_equal(model.predict_proba(IRIS_X[:5]), expected)


def test_few_rows_may_be_predicted_by_several_threads_at_once():
    model, wrong = classifier(max_iter=3).fit(IRIS_X, NAMES), []
    expected = model.decision_function(IRIS_X)

    def call(number):
        for i in range(200):
            rows = (number + i) % 40 + 1
            if not np.array_equal(model.decision_function(IRIS_X[:rows]), expected[:rows]):
                wrong.append(rows)

    at_once(call)
    assert not wrong


def test_unfitted_ones_say_so():
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(classifier(), method)(IRIS_X)
    with pytest.raises(NotFittedError):
        regressor().predict(IRIS_X)


# Weights of rows and classes


def test_a_weight_counts_a_row_so_many_times():
    weights = RNG.integers(0, 4, 150)
    counted = classifier(batch_size="full").fit(IRIS_X, IRIS_Y, sample_weight=weights)
    repeated = classifier(batch_size="full").fit(IRIS_X.repeat(weights, axis=0), IRIS_Y.repeat(weights))
    np.testing.assert_allclose(counted.predict_proba(IRIS_X), repeated.predict_proba(IRIS_X), rtol=1e-6)


def test_class_weights_multiply_the_weights_of_rows():
    weights = RNG.uniform(0.5, 2, 150)
    by_class = {"setosa": 1.0, "versicolor": 5.0, "virginica": 0.5}
    one = classifier(class_weight=by_class).fit(IRIS_X, NAMES, sample_weight=weights)
    other = classifier().fit(IRIS_X, NAMES, sample_weight=weights * np.array([by_class[name] for name in NAMES]))
    assert_equal_weights(one, other)


def test_balanced_classes_help_the_rare_one():
    rows = np.r_[0:50, 50:100, 100:103]
    X, y = IRIS_X[rows] + RNG.normal(size=(103, 4)), IRIS_Y[rows]
    recall = [
        (classifier(class_weight=weight).fit(X, y).predict(IRIS_X[100:]) == 2).mean() for weight in (None, "balanced")
    ]
    assert recall[1] > recall[0]


@pytest.mark.parametrize("kind", ["two classes", "three classes", "labels"])
def test_label_smoothing_keeps_predictions_from_the_extremes(kind):
    y = {"two classes": IRIS_Y > 0, "three classes": IRIS_Y, "labels": (IRIS_X[:, :3] > 0).astype(int)}[kind]
    sharp, smooth = (
        classifier(max_iter=200, label_smoothing=s).fit(IRIS_X, y).predict_proba(IRIS_X) for s in (0.0, 0.3)
    )
    surest = [np.maximum(proba, 1 - proba).max(axis=1).mean() for proba in (sharp, smooth)]
    assert surest[1] < surest[0] - 0.05


# Networks


def test_layers_follow_the_parameters():
    model = FNNClassifier(
        (8, 6), activation=("tanh", "identity"), dropout=(0.1, 0.0), batch_norm=True, max_iter=1, random_state=0
    ).fit(IRIS_X, NAMES)
    names = [type(layer).__name__ for layer in model.model_.layers]
    assert names == ["Linear", "BatchNorm1d", "Tanh", "Dropout", "Linear", "BatchNorm1d", "Linear"]
    assert [weight.shape for weight in model.coefs_] == [(4, 8), (8, 6), (6, 3)]
    assert model.n_layers_ == 4
    for solver in ("sgd", "adam", "adamw", "rmsprop", "adagrad"):
        trained = classifier(solver=solver, activation="leaky_relu", clip_norm=1.0)
        losses = trained.fit(IRIS_X, NAMES).loss_curve_
        assert losses[-1] < losses[0]
    assert FNNClassifier((), max_iter=1).fit(IRIS_X, NAMES).model_.layers[0].out_features == 3


def test_batch_normalisation_never_meets_a_batch_of_one_row():
    for rows in (101, 149, 150):
        model = classifier(batch_norm=True, batch_size=50, max_iter=2).fit(IRIS_X[-rows:], IRIS_Y[-rows:])
        assert model.t_ == 2 * rows


def test_a_network_of_ones_own_stands_in_a_pipeline():
    X, y = load_digits(return_X_y=True)
    network = ff.models.small_cnn(size=8, mean=0.0, std=1.0, scale=1.0, seed=0)
    start = network.parameters.copy()
    parameters = {"batch_size": 50, "learning_rate_init": 0.01, "max_iter": 5, "random_state": 0}
    model = make_pipeline(StandardScaler(), FNNClassifier(network=network, input_shape=(1, 8, 8), **parameters))
    assert model.fit(X[:1200], y[:1200]).score(X[1200:], y[1200:]) > 0.85
    np.testing.assert_array_equal(network.parameters, start)
    first = weights_of(model[-1])
    model.fit(X[:1200], y[:1200])  # from the same start again
    for one, other in zip(first, weights_of(model[-1]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_classes_may_have_a_logit_each():
    network = ff.Sequential(ff.Linear(4, 2), seed=0)
    model = FNNClassifier(network=network, **SPEEDY).fit(IRIS_X, IRIS_Y > 0)
    logits = model.decision_function(IRIS_X)
    assert logits.shape == (150,)
    np.testing.assert_array_equal(model.predict(IRIS_X), logits > 0)
    assert model.predict_proba(IRIS_X).shape == (150, 2)


def cnn(*last):
    return ff.Sequential(ff.Conv2d(1, 2, 1), ff.Flatten(), ff.Linear(8, 3), *last)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"network": ff.Sequential(ff.Linear(7, 3))}, "network does not take X of 4 features"),
        ({"network": ff.Sequential(ff.Linear(4, 5))}, "network makes 5 numbers of a sample; expected 3 for 3 classes"),
        ({"network": cnn(), "input_shape": (1, 3, 3)}, "input_shape is .*, 9 numbers a sample; expected 4"),
        ({"network": cnn(ff.Softmax()), "input_shape": (1, 2, 2)}, "network ends in Softmax.*expected.*logits"),
        ({"network": ff.Sequential(ff.Conv2d(1, 2, 1)), "input_shape": (1, 2, 2)}, "network makes .* of a sample"),
        ({"network": cnn()}, "network does not take X of 4 features without an input_shape"),
        ({"input_shape": (1, 2, 2)}, "input_shape is .* without a network"),
        ({"network": cnn(), "input_shape": 4}, "input_shape is 4; expected the shape of a sample"),
        (
            {"network": cnn(), "input_shape": (1, 2, 2), "dtype": "float64"},
            "dtype is 'float64' for a network in float32",
        ),
        ({"network": "cnn"}, "network is str; expected a Sequential"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        FNNClassifier(**parameters).fit(IRIS_X, NAMES)


def test_only_a_network_that_begins_with_linear_takes_sparse_rows():
    rows = sparse.csr_matrix(IRIS_X)
    for network, shape in ((cnn(), (1, 2, 2)), (ff.Sequential(ff.BatchNorm1d(4), ff.Linear(4, 3)), None)):
        with pytest.raises((ValueError, TypeError), match="sparse matrix"):
            FNNClassifier(network=network, input_shape=shape).fit(rows, NAMES)
    FNNClassifier(network=ff.Sequential(ff.Linear(4, 3)), max_iter=1).fit(rows, NAMES)


def test_a_notebook_shows_estimators_as_scikit_learn_does_and_its_network():
    network = ff.Sequential(ff.Linear(4, 8), ff.Residual(ff.Linear(8, 8), ff.Tanh()), ff.Linear(8, 3), seed=0)
    model = FNNClassifier(network=network, **SPEEDY)
    for each in (model, make_pipeline(StandardScaler(), model), model.fit(IRIS_X, IRIS_Y)):
        page = each._repr_html_()
        assert "sk-estimator" in page
        assert "FNNClassifier" in page
        assert "Residual(Linear(" in page.replace("&#x27;", "'")
