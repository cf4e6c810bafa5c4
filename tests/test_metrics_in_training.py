"""Metrics of `fit` and `evaluate`: in the history, the logs and the callbacks, from one pass over the data."""

import math

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import eager, program
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.training.progress import _brief

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(90, 5)), RNG.integers(0, 3, 90)
REAL = RNG.normal(size=(90, 2))
SEVERAL = RNG.integers(0, 2, (90, 4))
WEIGHTS = RNG.uniform(size=90)


class OwnLayer(ff.Layer):
    """Which makes that a model is run layer by layer."""

    def forward(self, x):
        return np.asarray(x)

    def backward(self, grad_out):
        return grad_out


def network(outputs=3, *last, dtype="float32"):
    return ff.Sequential(ff.Linear(5, 7), ff.ReLU(), ff.Linear(7, outputs), *last, seed=0, dtype=dtype)


def fit(model, y=Y, loss=None, x=X, **options):
    options = {"optimizer": ff.SGD(0.1), "epochs": 3, "batch_size": 12, "seed": 0, "progress": False, **options}
    return ff.fit(model, x, y, loss=loss or ff.CrossEntropyLoss(), **options)


def score(y_true, y_predicted, sample_weight=None):
    """A function of the user's own, which takes weights."""
    return np.average(y_true == y_predicted, weights=sample_weight)


CASES = {
    "classes": (network, Y, ff.CrossEntropyLoss(), ["f1", "precision_micro", "roc_auc", "log_loss", "top_2", score]),
    "log-probabilities": (lambda: network(3, ff.LogSoftmax()), Y, ff.NLLLoss(), ["log_loss", "roc_auc", "recall"]),
    "smoothed": (network, Y, ff.CrossEntropyLoss(label_smoothing=0.1), ["log_loss"]),
    "rows": (network, np.eye(3)[Y], ff.CrossEntropyLoss(), ["f1", "log_loss", score]),
    "layer by layer": (lambda: network(3, OwnLayer()), Y, ff.CrossEntropyLoss(), ["f1", "log_loss"]),
    "yes and no": (lambda: network(1), Y > 1, ff.BCEWithLogitsLoss(), ["f1", "roc_auc", "log_loss", score]),
    "probability": (lambda: network(1, ff.Sigmoid()), Y > 1, ff.BCELoss(), ["f1", "roc_auc", "log_loss"]),
    "several": (lambda: network(4), SEVERAL, ff.BCEWithLogitsLoss(), ["f1", "precision_micro", "roc_auc", "log_loss"]),
    "numbers": (lambda: network(2), REAL, ff.MSELoss(), ["mae", "mse", "rmse", "r2"]),
    "a number": (lambda: network(1), REAL[:, 0], ff.L1Loss(), ["mae", "r2"]),
}


def expected(metric, model, y, weights):
    """The metric of what `predict`, `predict_proba` and `predict_raw` give."""
    y = np.argmax(y, axis=1) if y is not Y and y.ndim == 2 and y.shape[1] == 3 else np.asarray(y)
    made = {"probabilities": ff.predict_proba, "scores": ff.predict_raw}.get(metric.needs, ff.predict)(model, X)
    many = 3 if model.task == "classification" else None
    return metric(y.astype(int) if y.dtype == bool else y, made, weights, n_classes=many)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:OwnLayer")
def test_they_are_those_of_the_predictions(case, weighted):
    make, y, loss, asked = CASES[case]
    model, weights = make(), WEIGHTS if weighted else None
    validation = (X, y, weights) if weighted else (X, y)
    history = fit(model, y, loss, validation_data=validation, metrics=asked)
    result = ff.evaluate(model, X, y, loss=loss, sample_weight=weights, metrics=asked)
    plain = ff.evaluate(model, X, y, loss=loss, sample_weight=weights)
    assert tuple(result) == tuple(plain)  # to the bit, or both NaN
    for name, metric in ff.metrics.as_metrics(asked).items():
        assert history[f"val_{name}"][-1] == result.metrics[name]
        assert len(history[f"val_{name}"]) == 3
        np.testing.assert_allclose(result.metrics[name], expected(metric, model, y, weights), rtol=1e-5)


def test_they_change_nothing_else():
    plain, measured = network(), network()
    a = fit(plain, validation_data=(X, Y))
    b = fit(measured, validation_data=(X, Y), metrics=["f1", "log_loss"])
    assert plain.parameters.tobytes() == measured.parameters.tobytes()
    assert (a.loss, a.val_loss, a.val_accuracy) == (b.loss, b.val_loss, b.val_accuracy)


@pytest.mark.parametrize("own", [False, True])
def test_one_pass_over_the_data_makes_loss_and_metrics(own, monkeypatch):
    model, loss = network(3, *[OwnLayer()] * own), ff.CrossEntropyLoss()
    passes, run, evaluate = [], program.run, eager.evaluate
    monkeypatch.setattr(program, "run", lambda *args: passes.append("run") or run(*args))
    monkeypatch.setattr(eager, "evaluate", lambda *args: passes.append("run") or evaluate(*args))
    ff.evaluate(model, X, Y, loss=loss, metrics=["f1", "roc_auc", "top_2", "log_loss"])
    assert passes == ["run"]


def test_labels_to_be_ignored_are_left_out():
    y = np.where(np.arange(90) % 4, Y, -100)
    model = network()
    result = ff.evaluate(model, X, y, loss=ff.CrossEntropyLoss(), sample_weight=WEIGHTS, metrics=["f1", "log_loss"])
    kept = y >= 0
    again = ff.evaluate(
        model, X[kept], y[kept], loss=ff.CrossEntropyLoss(), sample_weight=WEIGHTS[kept], metrics=["f1", "log_loss"]
    )
    assert result.metrics == pytest.approx(again.metrics)


def test_the_accuracy_is_there_anyway_and_may_be_asked_for():
    model = network()
    history = fit(model, metrics=["accuracy"], validation_data=(X, Y))
    assert history.metrics == {}
    assert len(history.val_accuracy) == len(fit(network(), metrics=["accuracy"]).accuracy) == 3
    result = ff.evaluate(model, X, Y, loss=ff.CrossEntropyLoss(), metrics=[ff.accuracy], sample_weight=WEIGHTS)
    assert result.metrics["accuracy"] == pytest.approx(result.accuracy)
    loss, accuracy = result
    assert (loss, accuracy) == (result.loss, result.accuracy)
    assert repr(result).endswith(f"metrics={dict(result.metrics)})")


def test_a_function_gets_what_predict_gives():
    seen = {}

    def look(y_true, y_predicted):
        seen["shapes"] = y_true.shape, y_predicted.shape, y_predicted.dtype.kind
        return 0

    for model, y, loss, shapes in (
        (network(), np.eye(3)[Y], ff.CrossEntropyLoss(), ((90,), (90,), "i")),
        (network(1), Y > 1, ff.BCEWithLogitsLoss(), ((90,), (90,), "i")),
        (network(4), SEVERAL, ff.BCEWithLogitsLoss(), ((90, 4), (90, 4), "i")),
        (network(1), REAL[:, 0], ff.MSELoss(), ((90,), (90,), "f")),
        (network(2), REAL, ff.MSELoss(), ((90, 2), (90, 2), "f")),
    ):
        ff.evaluate(model, X, y, loss=loss, metrics=look, sample_weight=WEIGHTS)
        assert seen["shapes"] == shapes


# In what goes along with a training


def test_the_log_has_them(tmp_path):
    fit(network(), validation_data=(X, Y), metrics=["f1"], callbacks=[ff.CSVLogger(tmp_path / "log.csv")])
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds,val_f1"
    assert all(len(line.split(",")) == 8 and line.split(",")[-1] for line in lines)


def test_the_bar_and_the_lines_have_them(capsys):
    fit(network(), validation_data=(X, Y), metrics=["f1"], progress=True, epochs=1)
    assert ", val_f1 0." in capsys.readouterr().err
    shown = _brief({"loss": 0.5, "accuracy": 0.25, "val_loss": 1, "val_accuracy": 0.5, "val_f1": 0.75})
    assert shown == "loss 0.5000, acc 25.0%, val 50.0%, f1 0.7500"


@pytest.mark.parametrize(("monitor", "sign"), [("val_f1", 1), ("val_log_loss", -1), ("val_accuracy", 1)])
def test_early_stopping_and_checkpoints_watch_them(monitor, sign, tmp_path):
    stopping = ff.EarlyStopping(monitor, patience=50)
    checkpoint = ff.Checkpoint(tmp_path / "best", monitor=monitor, best_only=True)
    model = network()
    history = fit(model, validation_data=(X, Y), metrics=["f1", "log_loss"], epochs=6, callbacks=[stopping, checkpoint])
    best = int(np.argmax(sign * np.array(history[monitor])))
    assert stopping.best_epoch == best + 1
    assert stopping.best == history[monitor][best]
    assert ff.load(tmp_path / "best").parameters.tobytes() == model.parameters.tobytes()


def test_a_figure_of_ones_own_is_watched_where_its_direction_is_said():
    asked = {"validation_data": (X, Y), "metrics": [score]}
    with pytest.raises(
        InvalidValueError, match="'val_score', of which nobody knows .* expected mode='min' or mode='max'"
    ):
        fit(network(), callbacks=[ff.EarlyStopping("val_score")], **asked)
    for mode, choose in (("max", np.argmax), ("min", np.argmin)):
        stopping = ff.EarlyStopping("val_score", mode=mode, patience=50)
        history = fit(network(), callbacks=[stopping], **asked)
        assert stopping.best_epoch == choose(history["val_score"]) + 1
        assert f"mode='{mode}'" in repr(stopping)


def test_a_plateau_of_a_metric_reduces_the_rate():
    schedule = ff.schedules.ReduceOnPlateau(0.5, patience=0, monitor="val_f1")
    history = fit(network(), validation_data=(X, Y), metrics=["f1"], schedule=schedule, epochs=8)
    rate, best, rates = 0.1, -math.inf, []
    for figure in history["val_f1"]:
        rates.append(rate)
        rate, best = (rate, figure) if figure > best + 1e-4 * abs(best if best > -math.inf else 0) else (rate / 2, best)
    np.testing.assert_allclose(history.lr, rates)
    assert repr(schedule).endswith("least=0.0, monitor='val_f1')")


def test_a_resumed_training_goes_on_with_them(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = fit(network(), validation_data=(X, Y), metrics=["f1"], epochs=4)
    fit(network(), validation_data=(X, Y), metrics=["f1"], epochs=2, callbacks=[ff.Checkpoint(path)])
    resumed = fit(
        network(), validation_data=(X, Y), metrics=["f1"], epochs=4, callbacks=[ff.Checkpoint(path)], resume=path
    )
    assert resumed["val_f1"] == whole["val_f1"]
    other = fit(network(), validation_data=(X, Y), metrics=["recall"], epochs=6, resume=path)
    assert [math.isnan(value) for value in other["val_f1"]] == [False] * 4 + [True] * 2
    assert [math.isnan(value) for value in other["val_recall"]] == [True] * 4 + [False] * 2


# What does not fit


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metrics": ["f1"]}, InvalidValueError, "metrics holds 'f1' without validation data"),
        ({"metrics": ["mae"]}, InvalidValueError, "metrics holds 'mae', which needs numbers; with CrossEntropyLoss"),
        ({"metrics": ["f1"], "loss": ff.MSELoss(), "y": np.eye(3)[Y]}, InvalidValueError, r"needs labels; .* numbers$"),
        ({"metrics": ["top_2"], "loss": ff.BCEWithLogitsLoss(), "y": np.eye(3)[Y]}, InvalidValueError, "scores of sev"),
        ({"metrics": [ff.metrics.F1]}, InvalidTypeError, r"F1 is a class; write F1\(\)"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(options, error, message):
    model = network()
    before = model.parameters.copy()
    with pytest.raises(error, match=message):
        fit(model, **{"y": Y, **options})
    assert model.parameters.tobytes() == before.tobytes()


def test_a_function_that_returns_no_number_is_named():
    def matrix(y_true, y_predicted):
        return np.zeros((2, 2))

    with pytest.raises(InvalidTypeError, match=r"(?s)the metric 'matrix' returned .* expected a number"):
        ff.evaluate(network(), X, Y, loss=ff.CrossEntropyLoss(), metrics=[matrix])
