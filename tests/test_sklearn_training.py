"""How estimators are trained, and go on: searches, copies, pickles, warm starts, partial fits, early ends, errors."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, NonFiniteLossError
from fastfnn.sklearn import FNNClassifier, FNNRegressor

RNG = np.random.default_rng(9)
X, CODES = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
NAMES = np.array(["setosa", "versicolor", "virginica"])[CODES]
NUMBERS = X @ RNG.normal(size=4) + 0.1 * RNG.normal(size=150)
SPEEDY = {"hidden_layer_sizes": (16,), "max_iter": 30, "learning_rate_init": 0.02, "random_state": 0, "batch_size": 32}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**parameters):
    return FNNClassifier(**{**SPEEDY, **parameters})


def regressor(**parameters):
    return FNNRegressor(**{**SPEEDY, **parameters})


def weights_of(estimator):
    return [array.copy() for array in estimator.coefs_ + estimator.intercepts_]


def equal_weights(one, other):
    return all(np.array_equal(mine, others) for mine, others in zip(weights_of(one), weights_of(other), strict=True))


def accuracy(estimator):
    return estimator.score(X, NAMES)


# Among scikit-learn's other parts


def test_a_grid_search_in_two_processes():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), classifier(n_threads=1, max_iter=5)),
        {"fnnclassifier__learning_rate_init": [1e-6, 0.02], "fnnclassifier__hidden_layer_sizes": [(8,)]},
        cv=2,
        n_jobs=2,
    )
    search.fit(X, NAMES)
    assert search.best_params_["fnnclassifier__learning_rate_init"] == 0.02
    assert search.predict(X).shape == (150,)


def test_cross_validation_and_calibration():
    assert cross_val_score(classifier(), X, NAMES, cv=3).mean() > 0.9
    assert cross_val_score(regressor(), X, NUMBERS, cv=KFold(3, shuffle=True, random_state=0)).mean() > 0.9
    calibrated = CalibratedClassifierCV(classifier(), cv=2).fit(X, NAMES)
    assert calibrated.score(X, NAMES) > 0.9


def test_a_clone_has_the_parameters_and_nothing_else():
    network = ff.Sequential(ff.Linear(4, 3), seed=0)
    model = FNNClassifier(network=network, learning_rate=ff.schedules.Cosine(), max_iter=2).fit(X, NAMES)
    other = clone(model)
    assert not hasattr(other, "model_")
    assert other.network is not network
    np.testing.assert_array_equal(other.network.parameters, network.parameters)
    assert repr(other.learning_rate) == repr(model.learning_rate)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("parameters", [{}, {"batch_norm": True, "dropout": 0.2}, {"early_stopping": True}])
def test_copies_predict_and_go_on_alike(again, parameters):
    model = classifier(**parameters).fit(X, NAMES)
    other = again(model)
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    if not model.early_stopping:
        for each in (model, other):
            for _ in range(3):
                each.partial_fit(X, NAMES)
    assert equal_weights(model, other)


def test_the_seed_decides():
    assert equal_weights(classifier().fit(X, NAMES), classifier().fit(X, NAMES))
    assert not equal_weights(classifier().fit(X, NAMES), classifier(random_state=1).fit(X, NAMES))
    drawn = np.random.RandomState(5)
    one, other = (classifier(random_state=drawn).fit(X, NAMES) for _ in range(2))
    assert not equal_weights(one, other)  # the generator has gone on
    assert equal_weights(one, classifier(random_state=np.random.RandomState(5)).fit(X, NAMES))


def test_threads_change_nothing():
    assert equal_weights(classifier(n_threads=1).fit(X, NAMES), classifier(n_threads=2).fit(X, NAMES))


# One epoch after the other


def test_partial_fits_are_the_epochs_of_a_fit():
    whole = classifier(max_iter=7, alpha=0.1, batch_size="full").fit(X, NAMES)
    parts = classifier(alpha=0.1, batch_size="full")
    for _ in range(7):
        parts.partial_fit(X, NAMES, classes=np.unique(NAMES))
    assert equal_weights(whole, parts)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.t_ == whole.t_ == 7 * 150
    assert (parts.n_iter_, whole.n_iter_) == (1, 7)


def test_partial_fits_know_classes_before_they_come():
    model = classifier()
    for rows in (slice(0, 50), slice(50, 100), slice(100, 150)) * 40:
        model.partial_fit(X[rows], NAMES[rows], classes=np.unique(NAMES))
    assert model.predict_proba(X).shape == (150, 3)
    labels = (X[:, :2] > 0).astype(int)
    assert classifier().partial_fit(X, labels, classes=[0, 1]).predict(X).shape == (150, 2)
    model = regressor().partial_fit(X, NUMBERS)
    with pytest.warns(
        UserWarning, match="larger than sample size. It is going to be clipped"
    ):  # as scikit-learn has it
        assert model.partial_fit(X[:9], NUMBERS[:9]).t_ == 159


def test_partial_fits_refuse_what_they_cannot_know():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        classifier().partial_fit(X, NAMES)
    with pytest.raises(ValueError, match="class_weight is 'balanced'"):
        classifier(class_weight="balanced").partial_fit(X, NAMES, classes=np.unique(NAMES))
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        regressor(early_stopping=True).partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match="learning_rate is Cosine.*expected a name"):
        regressor(learning_rate=ff.schedules.Cosine()).partial_fit(X, NUMBERS)
    model = classifier().partial_fit(X, NAMES, classes=np.unique(NAMES))
    with pytest.raises(ValueError, match="classes is .*expected .*the same as before"):
        model.partial_fit(X, NAMES, classes=["setosa"])
    with pytest.raises(ValueError, match="`y` has classes not in `self.classes_`"):
        model.partial_fit(X, np.full(150, "iris"))
    with pytest.raises(ValueError, match="X has 3 features, but FNNClassifier is expecting 4"):
        model.partial_fit(X[:, :3], NAMES)


def test_a_warm_start_goes_on():
    model = classifier(max_iter=5, warm_start=True).fit(X, NAMES)
    first = model.loss_
    model.fit(X, NAMES)
    assert model.loss_ < first
    assert len(model.loss_curve_) == 10
    assert (model.n_iter_, model.t_) == (5, 10 * 150)
    cold = classifier(max_iter=5).fit(X, NAMES)
    assert cold.loss_ == cold.fit(X, NAMES).loss_ == first


def test_a_warm_start_refuses_what_is_not_the_same():
    model = classifier(max_iter=2, warm_start=True).fit(X, NAMES)
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
        model.fit(X[:100], NAMES[:100])
    with pytest.raises(ValueError, match=r"parameters ask for .*\(9,\).*expected .*\(16,\)"):
        model.set_params(hidden_layer_sizes=(9,)).fit(X, NAMES)


# The end


def test_a_training_ends_when_it_no_longer_gets_better():
    model = classifier(max_iter=1000, tol=1e-3, n_iter_no_change=4).fit(X, NAMES)
    losses = model.loss_curve_
    assert model.n_iter_ == len(losses) < 1000
    best, waited = math.inf, 0
    for loss in losses:
        assert waited <= 4
        waited = waited + 1 if loss > best - 1e-3 else 0
        best = min(best, loss)
    assert waited == 5
    assert model.best_loss_ == best


def test_the_last_epoch_is_warned_of():
    with pytest.warns(ConvergenceWarning, match="Maximum iterations .3. reached"):
        classifier(max_iter=3).fit(X, NAMES)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_early_stopping_restores_the_best(batch_norm):
    noisy = RNG.permutation(NAMES)  # nothing to learn: the score soon gets worse
    model = classifier(early_stopping=True, validation_fraction=0.3, batch_norm=batch_norm, max_iter=100)
    model.fit(X, noisy)
    assert model.best_loss_ is None
    assert model.best_validation_score_ == max(model.validation_scores_) > model.validation_scores_[-1]
    assert model.n_iter_ == len(model.validation_scores_) == len(model.history_.val_loss) < 100
    epochs = int(np.argmax(model.validation_scores_)) + 1
    assert equal_weights(model, clone(model).set_params(max_iter=epochs).fit(X, noisy))


def test_early_stopping_scores_as_score_does():
    weights = RNG.uniform(0.5, 2, 150)
    for model, y in ((classifier(), NAMES), (classifier(), (X[:, :2] > 0).astype(int)), (regressor(), NUMBERS)):
        model.set_params(early_stopping=True, max_iter=60).fit(X, y, sample_weight=weights)
        assert 0.5 < model.best_validation_score_ <= 1
    with pytest.raises(
        ValueError, match="validation set is too small.*0.01, 1 of 100 rows; expected at least two rows"
    ):
        regressor(early_stopping=True, validation_fraction=0.01).fit(X[:100], NUMBERS[:100])


def test_rare_classes_do_not_prevent_early_stopping():
    rare = NAMES.copy()
    rare[0] = "the only one"
    classifier(early_stopping=True, max_iter=2).fit(X, rare)
    many = np.arange(150) // 2
    classifier(early_stopping=True, max_iter=2).fit(X, many)


# Learning rates


def test_a_schedule_runs_over_all_epochs_and_is_not_touched():
    plateau = ff.schedules.ReduceOnPlateau(patience=0, threshold=0.5)
    model = classifier(learning_rate=plateau, max_iter=5).fit(X, NAMES)
    assert model.history_.lr[-1] < model.history_.lr[0]
    assert plateau.factors(1, 5, 1)[0] == 1
    rates = classifier(learning_rate=ff.schedules.Step(2, 0.5), max_iter=5).fit(X, NAMES).history_.lr
    np.testing.assert_allclose(rates, 0.02 * np.array([1, 1, 0.5, 0.5, 0.25]))


def test_names_of_rates_are_for_sgd_alone():
    rates = classifier(learning_rate="invscaling", max_iter=4).fit(X, NAMES).history_.lr
    assert rates == [0.02] * 4
    rates = classifier(solver="sgd", learning_rate="invscaling", max_iter=4).fit(X, NAMES).history_.lr
    np.testing.assert_allclose(rates, [0.02, *(0.02 / np.sqrt(150 * np.arange(1, 4) + 1))])


def test_adaptive_ends_at_a_tiny_rate():
    model = classifier(
        solver="sgd", learning_rate="adaptive", tol=10.0, n_iter_no_change=1, momentum=0.0, max_iter=200
    ).fit(X, NAMES)
    rates = model.history_.lr
    assert min(rates) <= 1e-6 < 5.001 * min(rates)
    assert model.n_iter_ < 200


@pytest.mark.parametrize("solver, alpha, largest", [("sgd", 3000.0, 1e-3), ("adamw", 19.0, 0.2)])
def test_weight_decay_leaves_biases_alone(solver, alpha, largest):
    model = classifier(solver=solver, alpha=alpha, momentum=0.0, batch_size="full", max_iter=200, tol=0.0)
    model.set_params(learning_rate_init=0.05, n_iter_no_change=1000).fit(X, np.r_[NAMES[:100], NAMES[:50]])
    assert max(np.abs(weight).max() for weight in model.coefs_) < largest
    assert model.intercepts_[-1][0] < -0.3  # a third is of the second class


# What is refused


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("solver", "newton", "solver is 'newton'; expected one of 'lbfgs', 'sgd'"),
        ("activation", "gelus", "activation is 'gelus'; expected one of"),
        ("activation", ("relu", "tanh"), "activation has 2 entries; expected one, or 1"),
        ("activation", 3, "activation is 3; expected one of"),
        ("hidden_layer_sizes", (0,), r"hidden_layer_sizes\[0\] is 0; expected an integer of at least 1"),
        ("hidden_layer_sizes", ("a",), r"hidden_layer_sizes\[0\] is 'a'; expected an integer"),
        ("dropout", 1.0, "dropout is 1; expected less than 1"),
        ("dropout", (0.1, 0.2), "dropout has 2 entries"),
        ("batch_norm", "yes", "batch_norm is 'yes'; expected True or False"),
        ("alpha", -1, "alpha is -1; expected at least 0"),
        ("alpha", "much", "alpha is 'much'; expected a number"),
        ("batch_size", 0, "batch_size is 0; expected an integer of at least 1"),
        ("batch_size", "half", "batch_size is 'half'; expected one of 'auto', 'full'"),
        ("learning_rate", 0.1, "learning_rate is 0.1; expected one of .*the number is learning_rate_init"),
        ("learning_rate_init", 0, "learning_rate_init is 0; expected more than 0"),
        ("power_t", -1, "power_t is -1"),
        ("max_iter", 0, "max_iter is 0"),
        ("max_iter", 2.5, "max_iter is 2.5; expected an integer"),
        ("shuffle", None, "shuffle is None; expected True or False"),
        ("random_state", "seed", "cannot be used to seed"),
        ("tol", -1e-4, "tol is -0.0001"),
        ("momentum", 1.1, "momentum is 1.1; expected at most 1"),
        ("validation_fraction", 1.0, "validation_fraction is 1"),
        ("beta_1", 1.0, "beta_1 is 1"),
        ("beta_2", -0.1, "beta_2 is -0.1"),
        ("epsilon", 0, "epsilon is 0"),
        ("n_iter_no_change", 0, "n_iter_no_change is 0"),
        ("class_weight", "equal", "class_weight is 'equal'; expected None, 'balanced', or a dictionary"),
        ("label_smoothing", 1.0, "label_smoothing is 1"),
        ("clip_norm", 0, "clip_norm is 0"),
        ("dtype", "float16", "dtype is float16; expected 'float32' or 'float64'"),
        ("n_threads", 0, "n_threads is 0"),
        ("max_fun", 0, "max_fun is 0"),
        ("callbacks", print, "callbacks is .*; expected a list of callables"),
        ("callbacks", [3], "callbacks holds 3; expected callables"),
        ("callbacks", [ff.EarlyStopping], r"callbacks: EarlyStopping is a class; write EarlyStopping\(\)"),
        ("monitor", "loss", "monitor is 'loss'; expected one of 'score', 'val_loss'"),
    ],
)
def test_a_bad_parameter_is_named_before_anything_changes(name, value, message):
    model = classifier(max_iter=1).fit(X, NAMES)
    before, predicted = dict(vars(model)), model.predict_proba(X)
    model.set_params(**{name: value})
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=message) as caught:
            fit(X, NAMES)
        assert not isinstance(caught.value, InvalidTypeError)
    model.set_params(**{name: before[name]})
    assert vars(model).keys() == before.keys()
    np.testing.assert_array_equal(model.predict_proba(X), predicted)


@pytest.mark.parametrize("callback", [ff.EMA(0.9), ff.EverySteps(2, print)])
def test_what_is_called_within_epochs_is_refused_where_there_are_none(callback):
    with pytest.raises(ValueError, match="callbacks holds .* with solver 'lbfgs', which has no steps of an epoch"):
        classifier(solver="lbfgs", callbacks=[callback]).fit(X, NAMES)


def test_out_activation_is_checked():
    with pytest.raises(ValueError, match="out_activation is 'softmax'; expected one of 'identity', 'logistic'"):
        regressor(out_activation="softmax").fit(X, NUMBERS)
    network = ff.Sequential(ff.Linear(4, 1))
    with pytest.raises(ValueError, match="out_activation is 'tanh' beside a network"):
        regressor(out_activation="tanh", network=network).fit(X, NUMBERS)


def test_numbers_of_numpy_are_parameters_too():
    model = classifier(hidden_layer_sizes=np.int64(5), alpha=np.float32(1e-3), max_iter=np.int64(2), shuffle=np.True_)
    assert model.set_params(n_iter_no_change=np.inf, tol=0).fit(X, NAMES).n_iter_ == 2


def test_a_training_that_diverges_says_what_helps():
    model = regressor(solver="sgd", learning_rate_init=1e3).set_params(batch_size=10)
    with pytest.raises(NonFiniteLossError, match="epoch .*A smaller learning_rate_init than 1000 .*StandardScaler"):
        model.fit(X, 1e6 * NUMBERS)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_rows_without_any_weight_are_refused():
    with pytest.raises(ValueError, match="weight"):
        classifier().fit(X, NAMES, sample_weight=np.zeros(150))
    with pytest.raises(ValueError, match="sample_weight and class_weight leave no row a weight"):
        classifier(class_weight=dict.fromkeys(NAMES, 0.0)).fit(X, NAMES)
    with pytest.raises(ValueError, match="Negative values"):
        regressor().fit(X, NUMBERS, sample_weight=np.full(150, -1.0))


def test_verbose_shows_the_epochs(capsys):
    classifier(max_iter=2).fit(X, NAMES)
    assert capsys.readouterr() == ("", "")
    model = classifier(max_iter=2, verbose=True).fit(X, NAMES)
    lines = [f"Iteration {i}, loss = {loss:.8f}" for i, loss in enumerate(model.loss_curve_, start=1)]
    assert capsys.readouterr().out.splitlines() == lines
