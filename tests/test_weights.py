"""Weights of rows and classes: what they mean, and that every path takes them alike."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import program
from fastfnn.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(12)
N = 53
X, Y = RNG.normal(size=(N, 6)), RNG.integers(0, 4, N)
WEIGHTS = RNG.uniform(0, 2, N)
WEIGHTS[5] = 0.0
UNIT = RNG.uniform(0.1, 0.9, (N, 4))


def network(dtype="float64", last=()):
    return ff.Sequential(ff.Linear(6, 9), ff.Tanh(), ff.Linear(9, 4), *last, seed=0, dtype=dtype)


def fit(model, x=X, y=Y, loss=None, **options):
    settings = {"optimizer": ff.SGD(0.1), "epochs": 3, "batch_size": None, "seed": 0, "progress": False, **options}
    return ff.fit(model, x, y, loss=loss or ff.CrossEntropyLoss(), **settings)


def everything(loss, y, last, dtype, **options):
    """Figures and parameters of all that takes weights."""
    model = network(dtype, [layer() for layer in last])
    x, classes = X.astype(dtype), {"class_weight": [1.0, 2.0, 0.5, 1.0]} if loss.classifies else {}
    options = {"sample_weight": WEIGHTS, "batch_size": 7, "validation_data": (x, y, WEIGHTS), **classes, **options}
    history = fit(model, x, y, loss, **options)
    optimizer = ff.SGD(0.1)
    step = ff.train_step(model, x[:9], y[:9], loss=loss, optimizer=optimizer, sample_weight=WEIGHTS[:9], **classes)
    result = ff.evaluate(model, x, y, loss=loss, sample_weight=WEIGHTS)
    return np.array([*history.loss, *history.val_loss, *step, *result, *model.parameters])


LOSSES = {
    "cross-entropy": (ff.CrossEntropyLoss(label_smoothing=0.1), Y, ()),
    "cross-entropy of rows": (ff.CrossEntropyLoss(), UNIT / UNIT.sum(axis=1, keepdims=True), ()),
    "cross-entropy, sum": (ff.CrossEntropyLoss("sum"), Y, ()),
    "nll": (ff.NLLLoss(), Y, (ff.LogSoftmax,)),
    "bce": (ff.BCELoss(), UNIT, (ff.Sigmoid,)),
    "bce with logits": (ff.BCEWithLogitsLoss(), UNIT, ()),
    "mse": (ff.MSELoss(), UNIT, ()),
    "huber": (ff.HuberLoss(delta=0.3), UNIT, ()),
    "mse, sum": (ff.MSELoss("sum"), UNIT, ()),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_compiled_equals_eager_with_weights_for_every_loss(name, dtype, monkeypatch):
    runs = [everything(*LOSSES[name], dtype, n_threads=n) for n in (1, 2, 3)]
    assert runs[0].tobytes() == runs[1].tobytes() == runs[2].tobytes()
    monkeypatch.setattr(program, "is_compiled", lambda *args: False)
    tolerance = {"float32": 3e-4, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(runs[0], everything(*LOSSES[name], dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("loss, y", [(ff.CrossEntropyLoss(), Y), (ff.MSELoss(), UNIT)])
def test_a_weight_of_k_is_k_copies_of_a_row(loss, y):
    times = RNG.integers(0, 4, N)
    weighted, repeated = network(), network()
    one = fit(weighted, y=y, loss=loss, sample_weight=times)
    other = fit(repeated, X.repeat(times, axis=0), y.repeat(times, axis=0), loss)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-12)
    np.testing.assert_allclose(weighted.parameters, repeated.parameters, rtol=1e-9, atol=1e-12)
    evaluated = [
        ff.evaluate(weighted, X, y, loss=loss, sample_weight=times).loss,
        ff.evaluate(weighted, X.repeat(times, axis=0), y.repeat(times, axis=0), loss=loss).loss,
    ]
    np.testing.assert_allclose(*evaluated, rtol=1e-12)


def test_only_the_ratios_of_weights_count():
    one, other = network(), network()
    fit(one, sample_weight=WEIGHTS, batch_size=7)
    fit(other, sample_weight=1000 * WEIGHTS, batch_size=7)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-9)


def test_a_sum_takes_weights_as_they_come():
    model, loss = network(), ff.CrossEntropyLoss("sum")
    rows = loss.row_losses(model.forward(X), Y)
    assert ff.evaluate(model, X, Y, loss=loss, sample_weight=WEIGHTS).loss == pytest.approx(rows @ WEIGHTS)


@pytest.mark.parametrize("name", LOSSES)
def test_row_losses_add_up_to_the_loss(name):
    loss, y, last = LOSSES[name]
    prediction = network(last=[layer() for layer in last]).forward(X)
    rows = loss.row_losses(prediction, y)
    assert rows.shape == (N,)
    assert loss.forward(prediction, y) == pytest.approx(rows.mean() if loss.reduction == "mean" else rows.sum())


def test_class_weights_are_weights_of_the_rows():
    each = np.array([0.5, 1.0, 2.0, 4.0])
    models = [network() for _ in range(4)]
    fit(models[0], sample_weight=each[Y])
    fit(models[1], class_weight=each)
    fit(models[2], class_weight={0: 0.5, 2: 2.0, 3: 4.0})  # what is not there is 1
    fit(models[3], y=np.eye(4)[Y], class_weight=list(each))
    for model in models[1:]:
        np.testing.assert_allclose(model.parameters, models[0].parameters, rtol=1e-9)


@pytest.mark.parametrize("y", [Y, np.eye(4)[Y]], ids=["labels", "one-hot"])
def test_balanced_classes_weigh_the_same(y):
    models = [network() for _ in range(2)]
    fit(models[0], y=y, class_weight="balanced")
    fit(models[1], sample_weight=1 / np.bincount(Y)[Y])
    np.testing.assert_allclose(models[0].parameters, models[1].parameters, rtol=1e-9)


class OwnLoss(ff.Loss):
    """Mean absolute difference, written by a user; with reduction "none" it may still return one number."""

    def __init__(self, by_row):
        super().__init__()
        self.by_row = by_row

    def _forward(self, prediction, target):
        distances = np.abs(prediction - target)
        return distances if self.by_row and self.reduction == "none" else distances.mean()

    def _backward(self, prediction, target):
        return np.sign(prediction - target) / prediction.size


@pytest.mark.filterwarnings("ignore:OwnLoss")
def test_a_loss_of_ones_own_takes_weights_if_it_has_a_loss_for_each_row():
    model, times = network(), RNG.integers(0, 3, N)
    repeated = network()
    fit(model, y=UNIT, loss=OwnLoss(True), sample_weight=times)
    fit(repeated, X.repeat(times, axis=0), UNIT.repeat(times, axis=0), OwnLoss(True))
    np.testing.assert_allclose(model.parameters, repeated.parameters, rtol=1e-9)
    before = network()
    with pytest.raises(InvalidTypeError, match="expected one a row"):
        fit(before, y=UNIT, loss=OwnLoss(False), sample_weight=times)
    assert before.parameters.tobytes() == network().parameters.tobytes()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sample_weight": WEIGHTS[1:]}, r"sample_weight has shape \(52,\); expected \(53,\)"),
        ({"sample_weight": [*WEIGHTS[1:], np.nan]}, r"sample_weight\[52\] is nan; expected finite"),
        ({"sample_weight": -WEIGHTS}, r"sample_weight\[0\] is -\S+; expected finite weights of at least 0"),
        ({"sample_weight": np.zeros(N)}, "sample_weight leaves no row a weight"),
        ({"sample_weight": ["a"] * N}, "sample_weight has dtype <U1; expected numbers"),
        ({"class_weight": "heavy"}, "class_weight is 'heavy'; expected 'balanced'"),
        ({"class_weight": {7: 1.0}}, "class_weight holds the label 7; expected labels from 0 to 3"),
        ({"class_weight": [1.0, 2.0]}, r"class_weight has shape \(2,\); expected \(4,\)"),
        ({"class_weight": "balanced", "y": UNIT, "loss": ff.MSELoss()}, "class_weight is 'balanced' for MSELoss"),
        ({"validation_data": (X, Y, WEIGHTS[1:])}, "validation sample_weight has shape"),
        ({"validation_data": (X,)}, r"validation_data is tuple; expected \(x, y\)"),
    ],
)
def test_bad_weights_are_refused_before_anything_changes(options, message):
    model = network()
    with pytest.raises((InvalidValueError, InvalidTypeError), match=message):
        fit(model, **options)
    assert model.parameters.tobytes() == network().parameters.tobytes()


OPTIMIZERS = {
    "sgd": lambda **o: ff.SGD(0.1, weight_decay=0.1, **o),
    "momentum": lambda **o: ff.SGD(0.1, momentum=0.9, weight_decay=0.1, **o),
    "adam": lambda **o: ff.Adam(0.01, weight_decay=0.1, **o),
    "adamw": lambda **o: ff.AdamW(0.01, weight_decay=0.1, **o),
    "rmsprop": lambda **o: ff.RMSprop(0.01, weight_decay=0.1, **o),
    "adagrad": lambda **o: ff.Adagrad(0.01, weight_decay=0.1, l1=0.01, clip_norm=0.5, **o),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_may_leave_biases_alone(name, monkeypatch):
    def trained(**options):
        layers = ff.Linear(6, 9, bias=False), ff.BatchNorm1d(9), ff.ReLU(), ff.Linear(9, 4)
        model = ff.Sequential(*layers, seed=0, dtype="float64")
        fit(model, optimizer=OPTIMIZERS[name](**options), batch_size=10)
        return model.parameters.copy(), model.n_weights

    (alone, n_weights), (all_held, _) = trained(decay_biases=False), trained()
    assert n_weights == 6 * 9 + 2 + 9 * 4 + 4  # each a multiple of the alignment, 8 numbers
    assert not np.allclose(alone[n_weights:], all_held[n_weights:], rtol=1e-4)
    monkeypatch.setattr(program, "is_compiled", lambda *args: False)
    np.testing.assert_allclose(trained(decay_biases=False)[0], alone, rtol=1e-9, atol=1e-12)


def test_without_gradient_decay_moves_weights_and_leaves_biases():
    params, grads = np.ones(6), np.zeros(6)
    ff.SGD(0.1, weight_decay=0.5, decay_biases=False).step(params, grads, n_weights=4)
    np.testing.assert_allclose(params, [0.95] * 4 + [1, 1])
    optimizer = ff.SGD(0.1, l1=0.5, decay_biases=False)
    optimizer.step(params, grads, n_weights=4)
    np.testing.assert_allclose(params, [0.9] * 4 + [1, 1])
    assert "decay_biases=False" in repr(optimizer)


@pytest.mark.filterwarnings("ignore:Drift")
def test_an_optimizer_of_ones_own_needs_to_know_of_parameters_and_gradients_alone():
    class Drift(ff.Optimizer):
        def __init__(self):
            super().__init__(0.1, 0.0)

        def step(self, params, grads):
            params -= self.lr * grads

    one, other = network(), network()
    fit(one, optimizer=Drift(), batch_size=7)
    fit(other, optimizer=ff.SGD(0.1), batch_size=7)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-9)


@pytest.mark.parametrize("optimizer", [ff.SGD(0.1, momentum=0.9), ff.Adam(clip_norm=1.0)], ids=["sgd", "adam"])
def test_without_biases_there_is_nothing_to_leave_alone(optimizer, monkeypatch):
    def trained(**changes):
        made = type(optimizer)(**{**optimizer.config(), "weight_decay": 0.1, **changes})
        model = ff.Sequential(ff.Linear(6, 4, bias=False), seed=0, dtype="float64")
        fit(model, optimizer=made, batch_size=10)
        return model.parameters

    expected = trained()
    np.testing.assert_array_equal(trained(decay_biases=False), expected)
    monkeypatch.setattr(program, "is_compiled", lambda *args: False)
    np.testing.assert_allclose(trained(decay_biases=False), expected, rtol=1e-9)
