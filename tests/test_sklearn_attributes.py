"""What may be done with an estimator besides `fit`: its weights, interrupts, callbacks, validation data, tools."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import PoissonRegressor, SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

import fastfnn as ff
from fastfnn import errors
from fastfnn.sklearn import FNNClassifier, FNNRegressor

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
KINDS = [(FNNClassifier, MLPClassifier), (FNNRegressor, MLPRegressor)]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("ours, theirs", KINDS)
def test_arguments_have_the_same_places(ours, theirs):
    for name in ("__init__", "fit", "partial_fit"):
        mine, other = (inspect.signature(getattr(kind, name)).parameters.values() for kind in (ours, theirs))
        places = [[p.name for p in each if p.kind is p.POSITIONAL_OR_KEYWORD] for each in (mine, other)]
        assert places[0] == places[1], name


def test_sizes_in_the_place_of_the_loss_are_refused_with_what_is_meant():
    with pytest.raises(ValueError, match=r"loss is \(50,\); expected .*hidden_layer_sizes, the second argument"):
        FNNRegressor((50,)).fit(X, X[:, 0])


# Weights


def test_weights_are_written_in_place_and_as_lists():
    model = FNNClassifier((5,), max_iter=2, random_state=0).fit(X, Y)
    model.coefs_[1] = np.zeros((5, 3))
    model.intercepts_[1] = np.zeros(3)
    np.testing.assert_allclose(model.predict_proba(X[:2]), 1 / 3)
    model.coefs_[0][...] = 1
    model.coefs_[1] += 2  # what Python does with `list[i] += x`
    assert (model.model_[0].params["weight"] == 1).all()
    assert (model.model_[2].params["weight"] == 2).all()
    model.coefs_ = [coef / 2 for coef in model.coefs_]
    model.coefs_[:] = model.coefs_[::1]
    assert model.coefs_[1].min() == model.coefs_[1].max() == 1


def test_estimators_are_averaged_as_federated_learning_does():
    clients = [FNNClassifier((5,), max_iter=3, random_state=seed).fit(X, Y) for seed in range(3)]
    server = copy.deepcopy(clients[0])
    server.coefs_ = [np.mean(arrays, axis=0) for arrays in zip(*(each.coefs_ for each in clients), strict=True)]
    expected = np.mean([each.coefs_[0] for each in clients], axis=0)
    np.testing.assert_array_equal(server.coefs_[0], expected)
    assert not np.array_equal(clients[0].coefs_[0], expected)


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda m: m.coefs_.__setitem__(0, np.zeros((5, 4))), r"coefs_\[0\] gets an array of shape \(5, 4\); expected"),
        (lambda m: setattr(m, "coefs_", [np.zeros((4, 5))]), "coefs_ gets 1 arrays; expected 2, one a layer"),
        (lambda m: setattr(m, "coefs_", [np.zeros((4, 5)), "x"]), r"coefs_\[1\] gets 'x'; expected an array"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(write, message):
    model = FNNClassifier((5,), max_iter=2).fit(X, Y)
    before = model.model_.parameters.copy()
    with pytest.raises(ValueError, match=message):
        write(model)
    np.testing.assert_array_equal(model.model_.parameters, before)


def test_an_estimator_that_is_not_fitted_has_no_weights():
    assert not hasattr(FNNClassifier(), "coefs_")
    with pytest.raises(NotFittedError, match="not fitted yet"):
        FNNClassifier().coefs_ = [np.zeros((4, 3))]


# L-BFGS and losses


@pytest.mark.parametrize("weights", [None, np.linspace(0.2, 3, len(X))], ids=["", "weights"])
@pytest.mark.parametrize("ours, theirs", KINDS)
def test_lbfgs_finds_what_scikit_learn_finds(ours, theirs, weights):
    shared = {"solver": "lbfgs", "hidden_layer_sizes": (6,), "activation": "tanh", "alpha": 1.0, "random_state": 0}
    mine, other = (kind(**shared, max_iter=1000, tol=1e-6).fit(X, Y, sample_weight=weights) for kind in (ours, theirs))
    assert mine.loss_ == pytest.approx(other.loss_, rel=1e-4)
    assert mine.loss_curve_[-1] == mine.loss_ == mine.best_loss_
    np.testing.assert_allclose(mine.predict(X), other.predict(X), atol=1e-2)
    assert not hasattr(mine, "partial_fit")


def test_lbfgs_makes_the_steps_that_scikit_learn_makes():
    """Until rounding, which the search enlarges: after some fifty steps even the rows' order leads elsewhere."""
    X, y = load_iris(return_X_y=True)
    for steps, tolerance in ((1, 1e-14), (5, 1e-13), (20, 1e-10)):
        shared = {"solver": "lbfgs", "alpha": 0.1, "max_iter": steps, "random_state": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours, theirs = FNNClassifier(dtype="float64", **shared).fit(X, y), MLPClassifier(**shared).fit(X, y)
        assert ours.n_iter_ == theirs.n_iter_ == steps
        np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=tolerance)
        for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
            np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance)


def test_lbfgs_trains_float32_networks_in_float64():
    models = [
        FNNClassifier((6,), solver="lbfgs", alpha=1.0, random_state=0, dtype=dtype).fit(X, Y)
        for dtype in ("float32", "float64")
    ]
    assert models[0].model_.dtype == np.float32
    np.testing.assert_allclose(models[0].predict_proba(X), models[1].predict_proba(X), atol=5e-3)


def test_lbfgs_ends_at_its_limits_and_where_callbacks_ask():
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge.*max_fun"):
        assert FNNClassifier((6,), solver="lbfgs", max_fun=5).fit(X, Y).n_iter_ <= 5
    ends = []
    model = FNNClassifier((6,), solver="lbfgs", callbacks=[lambda end: ends.append(end.epoch) or end.epoch == 3])
    assert model.fit(X, Y, validation_data=(X, Y)).n_iter_ == 3
    assert ends == [1, 2, 3]
    assert len(model.history_.val_loss) == len(model.history_.loss) == 3
    with pytest.raises(ValueError, match="dropout is 0.5 with solver 'lbfgs'"):
        FNNClassifier(solver="lbfgs", dropout=0.5).fit(X, Y)


def test_poisson_is_scikit_learns_and_a_linear_one_the_generalised_linear_model():
    x = np.linspace(0, 1, 100)[:, None]
    counts = np.random.default_rng(0).poisson(np.exp(x[:, 0] + 1))
    glm = PoissonRegressor(alpha=0, tol=1e-9).fit(x, counts)
    linear = FNNRegressor("poisson", (), solver="lbfgs", alpha=0, tol=1e-9, max_iter=1000).fit(x, counts)
    np.testing.assert_allclose(linear.predict(x), glm.predict(x), rtol=1e-4)
    if "loss" in inspect.signature(MLPRegressor).parameters:
        shared = {"loss": "poisson", "max_iter": 20, "random_state": 0, "batch_size": 32}
        mine, other = (kind(**shared).fit(x, counts) for kind in KINDS[1])
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-9)
        np.testing.assert_allclose(mine.predict(x), other.predict(x), rtol=1e-9)
    with pytest.raises(ValueError, match="y has -1 in row 3; expected at least 0 for loss 'poisson'"):
        FNNRegressor("poisson").fit(x[:4], [0, 1, 2, -1])


def test_absolute_error_finds_the_median_and_huber_minds_outliers_less():
    y = np.r_[np.zeros(50), np.full(50, 1.0), np.full(20, 100.0)]
    x = np.ones((len(y), 1))
    found = {
        loss: FNNRegressor(loss, (), alpha=0, learning_rate_init=0.05, max_iter=2000, tol=0, n_iter_no_change=2000)
        .fit(x, y)
        .predict(x[:1])[0]
        for loss in ("absolute_error", "huber", "squared_error")
    }
    assert found["absolute_error"] == pytest.approx(np.median(y), abs=0.1)
    assert found["huber"] < 2 < found["squared_error"]


# Weights of classes, and names of labels


def test_class_weights_of_partial_fit_may_name_classes_that_do_not_come():
    for kind in (SGDClassifier, FNNClassifier):
        model = kind(class_weight={0: 5.0}, random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
        model.partial_fit(X[Y > 0], Y[Y > 0])
    with pytest.raises(ValueError, match="classes, .* are not in class_weight"):
        FNNClassifier(class_weight={9: 5.0}).partial_fit(X, Y, classes=[0, 1, 2])
    labels = np.c_[Y > 0, Y > 1].astype(int)
    model = FNNClassifier(class_weight=[{0: 2.0}, {1: 3.0}]).partial_fit(X, labels, classes=[0, 1])
    model.partial_fit(X[Y == 2], labels[Y == 2])


def test_names_of_labels_are_refused_in_the_first_call():
    labels = np.c_[Y > 0, Y > 1].astype(int)
    with pytest.raises(ValueError, match=r"classes is .'a' 'b'. for y of 2 columns of labels; expected np.arange\(2\)"):
        FNNClassifier().partial_fit(X, labels, classes=["a", "b"])


# The end


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_interrupt_leaves_a_fitted_estimator_and_a_warning(solver):
    def interrupt(end):
        if end.epoch == 3:
            raise KeyboardInterrupt

    model = FNNClassifier((5,), solver=solver, random_state=0, callbacks=[interrupt])
    with pytest.warns(UserWarning, match="Training interrupted by user."):
        model.fit(X, Y)
    assert model.n_iter_ == 3 == len(model.loss_curve_)
    np.testing.assert_array_equal(
        model.predict_proba(X),
        FNNClassifier((5,), solver=solver, random_state=0, max_iter=3).fit(X, Y).predict_proba(X),
    )


def test_an_interrupt_of_fit_has_the_history_so_far():
    def interrupt(end):
        raise KeyboardInterrupt

    model = ff.Sequential(ff.Linear(4, 3))
    options = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.Adam(), "progress": False, "callbacks": [interrupt]}
    with pytest.raises(KeyboardInterrupt) as caught:
        ff.fit(model, X, Y, epochs=5, **options)
    assert caught.value.history.epochs == 1  # type: ignore[attr-defined]


def test_a_training_that_diverges_ends_with_what_helps():
    shared = {"activation": "identity", "solver": "sgd", "learning_rate_init": 1, "max_iter": 200, "random_state": 0}
    with pytest.raises(errors.DivergenceError, match="A smaller learning_rate_init than 1 ") as caught:
        FNNRegressor(**shared).fit(X, Y)
    assert isinstance(caught.value, ValueError)
    with pytest.warns(ConvergenceWarning, match="A smaller learning_rate_init than 1 .*The best weights"):
        model = FNNRegressor(**shared, early_stopping=True, n_iter_no_change=1000).fit(X, Y)
    assert np.isnan(model.validation_scores_[-1])
    assert np.isfinite(model.predict(X)).all()


def test_every_error_can_be_pickled():
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    for kind in [*kinds, ff.gradcheck.__globals__["GradientError"]]:
        place = {"epoch": 2, "step": 3} if issubclass(kind, errors.NonFiniteLossError) else {}
        error = pickle.loads(pickle.dumps(kind("what came", **place)))
        assert type(error) is kind
        assert (str(error), {name: getattr(error, name) for name in place}) == ("what came", place)


# Beyond scikit-learn


def test_validation_data_are_followed_and_may_decide():
    train, test = slice(0, None, 2), slice(1, None, 2)
    model = FNNClassifier((5,), max_iter=5, random_state=0).fit(X[train], Y[train], validation_data=(X[test], Y[test]))
    assert len(model.history_.val_loss) == 5
    assert model.validation_scores_ is None
    stopping = FNNClassifier((5,), max_iter=5, random_state=0, early_stopping=True)
    stopping.fit(X[train], Y[train], X_val=X[test], y_val=Y[test])
    assert stopping.validation_scores_ == pytest.approx(model.history_.val_accuracy)
    assert stopping.t_ == 5 * 75
    stopping.set_params(monitor="val_loss").fit(X[train], Y[train], validation_data=(X[test], Y[test]))
    assert stopping.validation_scores_ == [-loss for loss in stopping.history_.val_loss]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"validation_data": X}, "validation_data is ndarray; expected"),
        ({"validation_data": (X,)}, r"validation_data is 1 things; expected \(X, y\)"),
        ({"X_val": X}, "y_val is None; expected X_val and y_val"),
        ({"X_val": X, "y_val": Y, "validation_data": (X, Y)}, "validation_data and X_val, y_val are given"),
        ({"validation_data": (X[:, :3], Y)}, "validation data: X has 3 features"),
        ({"validation_data": (X, Y + 5)}, "validation data: `y` has classes not in"),
    ],
)
def test_bad_validation_data_are_named(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FNNClassifier().fit(X, Y, **given)


def test_samples_may_have_more_axes_where_the_network_does():
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16
    network = ff.Sequential(ff.Flatten(), ff.Linear(64, 10), seed=0)
    model = FNNClassifier(network=network, max_iter=3, random_state=0).fit(images, labels)
    flat = FNNClassifier(network=network, max_iter=3, random_state=0, input_shape=(8, 8)).fit(
        images.reshape(-1, 64), labels
    )
    np.testing.assert_array_equal(model.predict(images), flat.predict(images))
    assert model.n_features_in_ == 64
    with pytest.raises(ValueError, match="dim 3"):
        FNNClassifier().fit(images, labels)


def test_files_and_graphs_name_the_network():
    model = FNNClassifier((5,), max_iter=2).fit(X, Y)
    for call in (ff.save, ff.export_onnx):
        with pytest.raises(TypeError, match="model is FNNClassifier; expected a Sequential, such as its model_"):
            call(model, "model")


def test_a_confusion_matrix_is_drawn_of_an_estimator():
    pytest.importorskip("matplotlib")
    names = np.array(["one", "three", "two"])[Y]
    model = FNNClassifier((5,), max_iter=50, random_state=0).fit(X, names)
    texts = {text.get_text() for text in ff.plot.confusion_matrix(model, X, names).axes[0].get_xticklabels()}
    assert texts == {"one", "three", "two"}
