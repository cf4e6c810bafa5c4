"""Predictions, probabilities and evaluations: of several classes, of two, of any number at once, of numbers."""

import threading

import numpy as np
import pytest
from _helpers import at_once

import fastfnn as ff
from fastfnn.engine import lowering

RNG = np.random.default_rng(31)
N, FEATURES, CLASSES = 53, 12, 4
X = RNG.normal(size=(N, FEATURES))


def network(*middle, out=CLASSES, last=(), seed=0):
    layers = ff.Linear(FEATURES, 9), *middle, ff.Linear(9, out), *last
    return ff.Sequential(*layers, seed=seed, dtype="float64")


def test_predictions_in_chunks_are_those_of_the_whole(monkeypatch):
    model = network(ff.ReLU())
    logits = model.forward(X)
    monkeypatch.setattr(lowering, "CHUNK_ROWS", 10)
    np.testing.assert_array_equal(ff.predict_raw(model, X), logits)
    np.testing.assert_array_equal(ff.predict(model, X), logits.argmax(axis=1))
    np.testing.assert_allclose(ff.predict_proba(model, X), ff.functional.softmax(logits), rtol=1e-12)
    assert ff.predict(model, X[:0]).shape == (0,)
    assert ff.predict_proba(model, X[:0]).shape == (0, CLASSES)


@pytest.mark.parametrize(
    ("last", "probabilities"),
    [
        ((ff.Softmax(),), lambda out: out),
        ((ff.LogSoftmax(),), np.exp),
        ((ff.Sigmoid(),), lambda out: out),
    ],
)
def test_probabilities_know_the_last_layer(last, probabilities):
    model = network(ff.ReLU(), last=last)
    np.testing.assert_allclose(ff.predict_proba(model, X), probabilities(model.forward(X)), rtol=1e-12)


@pytest.mark.parametrize(("last", "threshold"), [((), 0.0), ((ff.Sigmoid(),), 0.5)])
def test_one_output_is_binary(last, threshold):
    model = network(ff.ReLU(), out=1, last=last)
    np.testing.assert_array_equal(ff.predict(model, X, task="binary"), model.forward(X)[:, 0] > threshold)
    p = ff.predict_proba(model, X)
    assert p.shape == (N, 1)
    np.testing.assert_array_equal(ff.predict(model, X, task="binary"), p[:, 0] > 0.5)


@pytest.mark.parametrize(("last", "threshold"), [((), 0.0), ((ff.Sigmoid(),), 0.5)])
@pytest.mark.parametrize("out", [1, 3])
def test_with_multilabel_every_output_is_a_class_of_its_own(out, last, threshold):
    model = network(ff.ReLU(), out=out, last=last)
    raw = model.forward(X)
    labels, p = ff.predict(model, X, multilabel=True), ff.predict_proba(model, X, multilabel=True)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, raw > threshold)
    np.testing.assert_allclose(p, raw if last else ff.functional.sigmoid(raw), rtol=1e-12)


def test_several_labels_a_row_are_learnt_by_fit():
    y = (X[:, :3] > 0.3).astype(np.int64)
    model = network(ff.Tanh(), out=3)
    loss, options = ff.BCEWithLogitsLoss(), {"epochs": 200, "batch_size": 16, "seed": 0, "progress": False}
    history = ff.fit(model, X, y, loss=loss, optimizer=ff.Adam(0.01), validation_data=(X, y), **options)
    assert (ff.predict(model, X, multilabel=True) == y).mean() > 0.97
    assert history.val_loss[-1] == pytest.approx(ff.evaluate(model, X, y, loss=loss).loss)
    assert history.val_accuracy[-1] == (ff.predict(model, X) == y).mean()


@pytest.mark.parametrize("targets", [1, 2])
def test_a_regression_is_learnt_by_fit(targets):
    y = np.stack([np.sin(X[:, 0]), X[:, 1] * 2 - 1], axis=1)[:, :targets]
    model = network(ff.Tanh(), out=targets)
    options = {"epochs": 300, "batch_size": 16, "seed": 0, "progress": False}
    ff.fit(model, X, y, loss=ff.MSELoss(), optimizer=ff.Adam(0.01), **options)
    residual = ((ff.predict_raw(model, X) - y) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    assert (residual < 0.05).all()


def test_what_is_no_model_is_named():
    for predict in (ff.predict, ff.predict_proba, ff.predict_raw):
        with pytest.raises(TypeError, match="model is str; expected a Sequential"):
            predict("model", X)


class Own(ff.Tanh):
    """A layer of a user's, which has no compiled form."""


def test_layers_of_a_users_own_predict_for_several_threads_at_once(rng):
    """They share the layers, which are told for the time of a forward that nobody trains."""
    model = ff.Sequential(ff.Linear(20, 30), ff.BatchNorm1d(30), Own(), ff.Dropout(0.5), ff.Linear(30, 3), seed=0)
    x = rng.random((700, 20)).astype(np.float32)
    expected, buffers = ff.predict_proba(model, x), {name: b.copy() for name, b in model.named_buffers().items()}
    wrong = []

    def predict(number):
        for _ in range(30):
            if not np.array_equal(ff.predict_proba(model, x), expected):
                wrong.append(1)

    at_once(predict)
    assert not wrong
    assert all(layer.training for layer in model.layers)
    for name, buffer in model.named_buffers().items():
        np.testing.assert_array_equal(buffer, buffers[name])


def test_a_callback_may_wait_for_another_threads_prediction(rng):
    model = ff.Sequential(ff.Linear(5, 4), Own(), ff.Linear(4, 3), seed=0)
    x, seen = rng.random((64, 5)).astype(np.float32), []

    def predict(end):
        thread = threading.Thread(target=lambda: seen.append(ff.predict(model, x[:3])))
        thread.start()
        thread.join(timeout=60)

    with pytest.warns(UserWarning, match="no compiled form"):
        ff.fit(
            model, x, rng.integers(0, 3, 64), loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1), batch_size=16,
            callbacks=[ff.EverySteps(2, predict)], progress=False,
        )  # fmt: skip
    assert len(seen) == 2
