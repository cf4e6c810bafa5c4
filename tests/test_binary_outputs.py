"""One output, columns of labels, yes and no to several classes: right in losses, metrics, histories and predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(8)
N, FEATURES = 77, 6
X = RNG.normal(size=(N, FEATURES))
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 16, "seed": 0, "progress": False}


def network(outputs: int, *last: ff.Layer, dtype: str = "float64") -> ff.Sequential:
    return ff.Sequential(ff.Linear(FEATURES, 7), ff.Tanh(), ff.Linear(7, outputs), *last, seed=0, dtype=dtype)


class Own(ff.Tanh):
    """A layer of a user's, which has no compiled form: training goes layer by layer."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("last", [(), (ff.Sigmoid,)], ids=["logits", "probabilities"])
def test_the_accuracy_of_a_binary_loss_is_the_share_of_right_outputs(
    outputs: int, last: tuple[Any, ...], dtype: str
) -> None:
    y = (X[:, :outputs] + 0.3 * RNG.normal(size=(N, outputs)) > 0).astype(dtype)
    loss = ff.BCELoss() if last else ff.BCEWithLogitsLoss()
    model = network(outputs, *(layer() for layer in last), dtype=dtype)
    history = ff.fit(model, X, y, loss=loss, optimizer=ff.Adam(0.05), validation_data=(X, y), **OPTIONS)
    raw = ff.predict_raw(model, X)
    right = np.mean((raw > (0.5 if last else 0)) == (y == 1))
    assert history.val_accuracy[-1] == pytest.approx(right, rel=1e-12)
    assert ff.evaluate(model, X, y, loss=loss).accuracy == pytest.approx(right, rel=1e-12)
    assert len(history.accuracy) == 3
    assert 0 < history.accuracy[0] <= 1


@pytest.mark.filterwarnings("ignore:.*no compiled form")
@pytest.mark.parametrize("outputs", [1, 3])
def test_layer_by_layer_counts_alike(outputs: int) -> None:
    y, loss = (X[:, :outputs] > 0).astype(float), ff.BCEWithLogitsLoss()
    compiled = network(outputs)
    own = ff.Sequential(*network(outputs).layers[:1], Own(), *network(outputs).layers[2:], dtype="float64")
    a, b = (
        ff.fit(model, X, y, loss=loss, optimizer=ff.SGD(0.5), validation_data=(X, y), **OPTIONS)
        for model in (compiled, own)
    )
    np.testing.assert_allclose(a.accuracy, b.accuracy, rtol=1e-12)
    np.testing.assert_allclose(a.val_accuracy, b.val_accuracy, rtol=1e-12)


@pytest.mark.parametrize("loss", [ff.BCEWithLogitsLoss(), ff.MSELoss()])
def test_one_output_takes_targets_without_a_second_axis(loss: ff.Loss) -> None:
    y = (X[:, 0] > 0).astype(float)
    models = [network(1) for _ in range(3)]
    for model, target in zip(models, (y[:, None], y, y > 0), strict=True):
        ff.fit(model, X, target, loss=loss, optimizer=ff.Adam(0.01), **OPTIONS)
    assert models[0].parameters.tobytes() == models[1].parameters.tobytes() == models[2].parameters.tobytes()
    with pytest.raises(InvalidValueError, match=r"y has shape \(77,\); expected \(n, 2\)"):
        ff.fit(network(2), X, y, loss=loss, optimizer=ff.Adam(0.01), **OPTIONS)


@pytest.mark.parametrize("weight", ["balanced", {1: 3.0}, [0.5, 2.0]])
def test_one_output_has_the_classes_0_and_1_to_weigh(weight: Any) -> None:
    y = (X[:, 0] > 1).astype(int)
    shares = np.bincount(y) / N
    each = {"balanced": 0.5 / shares, "[0.5, 2.0]": [0.5, 2.0]}.get(str(weight), [1.0, 3.0])
    a, b = network(1), network(1)
    options = {"loss": ff.BCEWithLogitsLoss(), "optimizer": ff.SGD(0.1), **OPTIONS}
    ff.fit(a, X, y, class_weight=weight, **options)
    ff.fit(b, X, y, sample_weight=np.array(each)[y], **options)
    np.testing.assert_allclose(a.parameters, b.parameters, rtol=1e-12)


@pytest.mark.parametrize("loss", [ff.BCEWithLogitsLoss(), ff.MSELoss(), ff.BCELoss()])
def test_a_loss_by_hand_never_makes_a_square_of_two_columns(loss: ff.Loss) -> None:
    p, t = RNG.uniform(0.1, 0.9, (5, 1)), RNG.integers(0, 2, 5)
    assert loss.forward(p, t) == pytest.approx(loss.forward(p, t[:, None]), rel=1e-14)
    assert loss.backward().shape == (5, 1)
    assert loss.forward(p[:, 0], t[:, None]) == pytest.approx(loss.forward(p, t[:, None]), rel=1e-14)


@pytest.mark.parametrize("make", [lambda y: y[:, None], lambda y: y.astype(np.uint8)[:, None], lambda y: y == 1])
def test_labels_may_be_a_column_or_booleans(make: Any) -> None:
    y = (X[:, 0] > 0).astype(np.int64)
    a, b = network(2), network(2)
    for model, target in ((a, y), (b, make(y))):
        ff.fit(model, X, target, loss=ff.CrossEntropyLoss(), optimizer=ff.Adam(0.01), **OPTIONS)
    assert a.parameters.tobytes() == b.parameters.tobytes()
    logits = ff.predict_raw(a, X)
    assert ff.CrossEntropyLoss()(logits, make(y)) == ff.CrossEntropyLoss()(logits, y)


@pytest.mark.parametrize("loss", [ff.CrossEntropyLoss(), ff.NLLLoss()])
def test_cross_entropy_over_one_class_is_refused(loss: ff.Loss) -> None:
    for call in (
        lambda: ff.fit(network(1), X, np.zeros(N, int), loss=loss, optimizer=ff.SGD(), **OPTIONS),
        lambda: ff.evaluate(network(1), X, np.zeros((N, 1)), loss=loss),
        lambda: loss(X[:, :1], np.zeros(N, int)),
    ):
        with pytest.raises(InvalidValueError, match="one output; expected two or more.*BCEWithLogitsLoss"):
            call()


@pytest.mark.parametrize("y", [np.sign(X[:, 0]), np.arange(N) % 3])
def test_other_labels_than_0_and_1_are_no_binary_targets(y: Any) -> None:
    with pytest.raises(InvalidValueError, match="y holds (-1|2); expected 0 to 1 for BCEWithLogitsLoss"):
        ff.fit(network(1), X, y, loss=ff.BCEWithLogitsLoss(), optimizer=ff.SGD(), **OPTIONS)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(N), r"y has dtype float64; expected integer labels, as y.astype\(int\) makes them"),
        (np.full(N, "a"), r"y has dtype <U1; expected integer labels, as np.unique\(y, return_inverse=True\)"),
        (np.zeros((N, 3), int), r"y has shape \(77, 3\)"),
    ],
)
def test_what_is_no_label_is_named(y: Any, message: str) -> None:
    if y.dtype.kind == "U":
        with pytest.raises(InvalidTypeError, match=r"y has dtype <U1; expected numbers, as np.unique"):
            ff.fit(network(1), X, y, loss=ff.BCEWithLogitsLoss(), optimizer=ff.SGD(), **OPTIONS)
    with pytest.raises((InvalidValueError, InvalidTypeError), match=message):
        ff.fit(network(2), X, y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(), **OPTIONS)


# Metrics


def test_metrics_understand_one_column() -> None:
    p, y = np.array([[0.9], [0.2], [0.6], [0.5]]), np.array([1, 0, 0, 1])
    for target in (y, y[:, None], y.astype(float), y[:, None] == 1):
        for prediction in (p, (p > 0.5).astype(int), (p[:, 0] > 0.5), (p > 0.5).astype(float)):
            assert ff.accuracy(prediction, target) == 0.5
            assert ff.confusion_matrix(prediction, target).tolist() == [[1, 1], [1, 1]]
    three = np.array([[2.0], [0.0], [1.0]])
    assert ff.confusion_matrix(three, [2, 1, 1]).tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_several_labels_a_row_are_counted_one_by_one() -> None:
    y = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]])
    p = np.array([[0.8, 0.4, 0.3], [0.1, 0.6, 0.2], [0.1, 0.7, 0.2]])
    assert ff.accuracy(p, y) == ff.accuracy(p > 0.5, y == 1) == pytest.approx(7 / 9)
    assert ff.accuracy(p[2:], y[2:]) == 1  # one class a row
    with pytest.raises(InvalidValueError, match="target says yes or no to 3 classes a row"):
        ff.accuracy(10 * p, y)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        ([[-2.0], [1.5]], "prediction has one column, from -2 to 1.5; expected labels, or probabilities"),
        ([1.0, np.nan], r"prediction\[1\] is nan"),
        ([[0.1, 0.2], [np.nan, 1]], r"prediction\[1\] is nan"),
    ],
)
def test_scores_that_mean_nothing_are_refused(prediction: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        ff.accuracy(prediction, [0, 1])
