"""What has the same name in scikit-learn means the same: from one start, the same steps lead to the same weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

import fastfnn as ff
from fastfnn.sklearn import FNNClassifier, FNNRegressor

RNG = np.random.default_rng(4)
N, FEATURES, HIDDEN = 60, 5, 7
X = RNG.normal(size=(N, FEATURES))
TARGETS = {
    "two classes": (X[:, 0] + 0.3 * RNG.normal(size=N) > 0).astype(int),
    "three classes": np.digitize(X[:, 1] + 0.3 * RNG.normal(size=N), [-0.5, 0.5]),
    "labels": (X[:, :3] + 0.3 * RNG.normal(size=(N, 3)) > 0).astype(int),
    "a number": 2 * X[:, 0] - X[:, 1] ** 2,
    "three numbers": X @ RNG.normal(size=(FEATURES, 3)) + 1,
}
WEIGHTS = RNG.uniform(0.2, 3, size=N)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def pair(kind, **parameters):
    """Both estimators, fitted from one start: scikit-learn's goes on from an epoch whose weights are overwritten."""
    y = TARGETS[kind]
    classes = "number" not in kind
    fit = {name: parameters.pop(name) for name in ("sample_weight",) if name in parameters}
    if fit and not has_fit_parameter(MLPClassifier(), "sample_weight"):
        pytest.skip("this version's MLPClassifier takes no weights")
    outputs = 1 if kind in ("two classes", "a number") else 3
    start = ff.Sequential(ff.Linear(FEATURES, HIDDEN), ff.Tanh(), ff.Linear(HIDDEN, outputs), seed=3, dtype="float64")
    shared = {"shuffle": False, "batch_size": N, "tol": 0.0, "n_iter_no_change": 1000, "max_iter": 30, **parameters}
    ours = (FNNClassifier if classes else FNNRegressor)(network=start, **shared).fit(X, y, **fit)
    shared.update(hidden_layer_sizes=(HIDDEN,), activation="tanh", warm_start=True)
    theirs = (MLPClassifier if classes else MLPRegressor)(**{**shared, "max_iter": 1}).fit(X, y, **fit)
    for i, layer in enumerate((start[0], start[2])):
        theirs.coefs_[i][...], theirs.intercepts_[i][...] = layer.params["weight"], layer.params["bias"]
    theirs.t_, theirs._no_improvement_count = 0, 0
    if theirs.best_loss_ is not None:
        theirs.best_loss_ = np.inf
    theirs.set_params(max_iter=shared["max_iter"]).fit(X, y, **fit)
    return ours, theirs


def assert_same(ours, theirs, rtol):
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=100 * rtol)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.n_outputs_ == theirs.n_outputs_
    assert ours.n_layers_ == theirs.n_layers_


SGD = {"solver": "sgd", "learning_rate_init": 0.05, "alpha": 0.5}
SETTINGS = {
    "plain": {**SGD, "momentum": 0.0},
    "momentum": {**SGD, "nesterovs_momentum": False},
    "nesterov": SGD,
    "invscaling": {**SGD, "learning_rate": "invscaling", "power_t": 0.2, "momentum": 0.0},
    "adaptive": {**SGD, "learning_rate": "adaptive", "tol": 0.01, "n_iter_no_change": 2, "momentum": 0.0},
    "weights": {**SGD, "sample_weight": WEIGHTS},
    "batches": {**SGD, "batch_size": 20, "alpha": 0.1},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", TARGETS)
def test_sgd_makes_the_same_steps(kind, settings):
    ours, theirs = pair(kind, **SETTINGS[settings])
    assert_same(ours, theirs, 1e-8)


@pytest.mark.parametrize("kind", TARGETS)
def test_adam_makes_the_same_steps(kind):
    ours, theirs = pair(kind, solver="adam", learning_rate_init=0.01, alpha=0.5, epsilon=1e-2, beta_1=0.8, beta_2=0.99)
    assert_same(ours, theirs, 1e-8)


@pytest.mark.parametrize("kind", TARGETS)
def test_losses_are_given_in_scikit_learns_unit(kind):
    ours, theirs = pair(kind, **{**SGD, "alpha": 0.0})
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_[1:], rtol=1e-9)
    assert ours.loss_ == ours.loss_curve_[-1]
    assert ours.best_loss_ == pytest.approx(theirs.best_loss_)


RATES = [("constant", 0.0), ("invscaling", 0.5), ("adaptive", 0.9)]
CURVES = {
    **{f"sgd, {rate}": {"solver": "sgd", "learning_rate": rate, "momentum": momentum} for rate, momentum in RATES},
    "without Nesterov": {"solver": "sgd", "learning_rate": "invscaling", "nesterovs_momentum": False},
    "adam": {"solver": "adam"},
    "early stopping": {"solver": "adam", "early_stopping": True, "validation_fraction": 0.3},
    "not shuffled": {"solver": "adam", "shuffle": False},
}


@pytest.mark.parametrize("settings", CURVES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@pytest.mark.parametrize("kind", TARGETS)
def test_curves_are_the_same_from_the_same_seed(kind, weights, settings):
    """In shuffled batches of which the last is shorter, with its own share of the L2 term."""
    kinds = (FNNRegressor, MLPRegressor) if "number" in kind else (FNNClassifier, MLPClassifier)
    if weights is not None and not has_fit_parameter(MLPClassifier(), "sample_weight"):
        pytest.skip("this version's MLPClassifier takes no weights")
    shared = {"hidden_layer_sizes": (7, 4), "batch_size": 16, "alpha": 0.3, "power_t": 0.3, "tol": 0.01}
    shared.update(learning_rate_init=0.05, n_iter_no_change=2, max_iter=40, random_state=3, **CURVES[settings])
    ours, theirs = (each(**shared).fit(X, TARGETS[kind], sample_weight=weights) for each in kinds)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    if ours.early_stopping:
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-9)
        assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)


@pytest.mark.parametrize("rate", ["constant", "invscaling", "adaptive"])
def test_curves_go_on_alike(rate):
    """By warm starts, and call by call of `partial_fit`."""
    shared = {"random_state": 3, "batch_size": 16, "solver": "sgd", "learning_rate": rate, "learning_rate_init": 0.1}
    for kinds, kind in (((FNNClassifier, MLPClassifier), "three classes"), ((FNNRegressor, MLPRegressor), "a number")):
        warm, parts = ([each(**shared, max_iter=5, warm_start=True) for each in kinds] for _ in range(2))
        classes = {} if "number" in kind else {"classes": range(3)}
        for _ in range(4):
            for model in warm:
                model.fit(X, TARGETS[kind])
            for model in parts:
                model.partial_fit(X, TARGETS[kind], **classes)
        for ours, theirs in (warm, parts):
            np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
            assert (ours.n_iter_, ours.t_, ours.best_loss_) == (
                theirs.n_iter_,
                theirs.t_,
                pytest.approx(theirs.best_loss_),
            )


@pytest.mark.parametrize("kind", ["two classes", "three classes", "a number"])
def test_a_training_ends_after_the_same_epoch(kind):
    ours, theirs = pair(kind, **{**SGD, "alpha": 0.0, "tol": 0.01, "n_iter_no_change": 3, "max_iter": 300})
    assert ours.n_iter_ == theirs.n_iter_ < 300


@pytest.mark.parametrize(
    "hidden, activation", [((), "relu"), ((7,), "relu"), ((7, 4), "tanh"), ((7, 4), "logistic"), ((7,), "identity")]
)
def test_the_weights_start_as_scikit_learns_from_the_same_seed(hidden, activation):
    shared = {"hidden_layer_sizes": hidden, "activation": activation, "random_state": 3, "max_iter": 1}
    for kinds, kind in (((FNNClassifier, MLPClassifier), "three classes"), ((FNNRegressor, MLPRegressor), "a number")):
        ours, theirs = (each(**shared, learning_rate_init=1e-12).fit(X, TARGETS[kind]) for each in kinds)
        for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-11)


def test_predictions_come_from_the_same_weights_in_the_same_form():
    for kind in TARGETS:
        ours, theirs = pair(kind, **SGD)
        assert ours.predict(X).shape == theirs.predict(X).shape
        assert ours.out_activation_ == theirs.out_activation_
        if "number" not in kind:
            assert ours.predict(X).dtype == theirs.predict(X).dtype
            np.testing.assert_array_equal(ours.classes_, theirs.classes_)
            np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6)
            np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-6)


@pytest.mark.parametrize("ours, theirs", [(FNNClassifier, MLPClassifier), (FNNRegressor, MLPRegressor)])
def test_parameters_have_the_same_defaults(ours, theirs):
    mine, other = ours().get_params(), theirs().get_params()
    for name in mine.keys() & other.keys():
        assert mine[name] == other[name], name
    assert other.keys() - mine.keys() <= {"max_fun", "loss"}  # of L-BFGS; and of newer versions


@pytest.mark.parametrize("early_stopping", [False, True])
def test_attributes_have_the_same_names_and_types(early_stopping):
    ours, theirs = pair("three classes", early_stopping=early_stopping, batch_size=20)
    names = [name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")]
    for name in names:
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert isinstance(mine, (type(other), float)), name
        if isinstance(other, list) and name in ("coefs_", "intercepts_"):
            assert [array.shape for array in mine] == [array.shape for array in other]


def test_the_import_can_be_swapped():
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    scores = [
        kind((20,), max_iter=500, random_state=0).fit(X, y).score(X, y) for kind in (FNNClassifier, MLPClassifier)
    ]
    assert min(scores) > 0.95
    X, y = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    scores = [
        kind(random_state=0, solver="sgd", max_iter=100).fit(X, y).score(X, y) for kind in (FNNRegressor, MLPRegressor)
    ]
    assert min(scores) > 0.5


def test_the_warning_about_the_last_epoch_is_scikit_learns():
    messages = []
    for kind in (FNNRegressor, MLPRegressor):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kind(max_iter=2).fit(X, TARGETS["a number"])
        messages.append([str(each.message) for each in caught if each.category is ConvergenceWarning])
    assert messages[0] == messages[1] != []
