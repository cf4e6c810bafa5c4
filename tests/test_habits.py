"""What people write who come from other libraries: it works, or the error says the right form."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(40, 5)).astype(np.float32), RNG.integers(0, 3, 40)


def network(*last):
    return ff.Sequential(ff.Linear(5, 4), ff.ReLU(), ff.Linear(4, 3), *last, seed=0)


SETTINGS = {"epochs": 2, "seed": 0, "progress": False}


def fit(model, **options):
    options = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.1), **SETTINGS, **options}
    return ff.fit(model, X, Y, **options)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_layers_is_taken_for_them(kind):
    model = ff.Sequential(kind([ff.Linear(5, 4), ff.ReLU(), ff.Linear(4, 3)]), seed=0)
    assert repr(model) == repr(network())
    assert model.parameters.tobytes() == network().parameters.tobytes()


def test_a_model_has_the_functions_as_methods(tmp_path):
    model, other = network(), network()
    history = model.fit(X, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1), **SETTINGS)
    assert history.loss == fit(other).loss
    assert model.parameters.tobytes() == other.parameters.tobytes()
    loss = ff.CrossEntropyLoss()
    assert model.evaluate(X, Y, loss=loss) == ff.evaluate(model, X, Y, loss=loss)
    assert np.array_equal(model.predict(X), ff.predict(model, X))
    assert np.array_equal(model.predict_proba(X), ff.predict_proba(model, X))
    model.save(tmp_path / "model.safetensors")
    assert ff.load(tmp_path / "model.safetensors").parameters.tobytes() == model.parameters.tobytes()


def test_one_callback_and_none_need_no_list():
    stopping, steps = ff.EarlyStopping("loss"), []
    fit(network(), callbacks=stopping)
    assert stopping.best is not None
    fit(network(), callbacks=ff.EverySteps(1, steps.append))
    assert len(steps) == 2
    assert fit(network(), callbacks=None).epochs == 2
    with pytest.raises(InvalidTypeError, match="callbacks is 3; expected a list of callables"):
        fit(network(), callbacks=3)


class Double(ff.Layer):
    def __init__(self, held=None):
        self.held = held

    def forward(self, x):
        return 2 * np.asarray(x)

    def backward(self, grad_out):
        return 2 * np.asarray(grad_out)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ff.Sequential(ff.Linear(4, 3), ff.ReLU), r"layers\[1\]: ReLU is a class; write ReLU\(\)"),
        (lambda: ff.Sequential(ff.Linear), r"layers\[0\]: Linear is a class; write Linear\(…\)"),
        (lambda: fit(network(), loss=ff.CrossEntropyLoss), r"loss: CrossEntropyLoss is a class; write CrossEntropyL"),
        (lambda: fit(network(), optimizer=ff.Adam), r"optimizer: Adam is a class; write Adam\(\)"),
        (lambda: fit(network(), schedule=ff.schedules.Step), r"schedule: Step is a class; write Step\(…\)"),
        (lambda: fit(network(), callbacks=[ff.EarlyStopping]), r"callbacks: EarlyStopping is a class; write EarlyS"),
        (lambda: fit(network(), callbacks=ff.EarlyStopping), r"callbacks: EarlyStopping is a class; write EarlyS"),
        (lambda: fit(ff.Sequential), r"model: Sequential is a class; write Sequential\(\)"),
        (lambda: fit(network(), metrics=[ff.metrics.F1]), r"metrics: F1 is a class; write F1\(\)"),
        (lambda: ff.Adam(learning_rate=0.1), r"learning_rate is no argument of Adam; write lr=0.1"),
        (lambda: ff.RMSprop(rho=0.9), r"rho is no argument of RMSprop; write alpha=0.9"),
        (lambda: ff.SGD(clipnorm=1.0), r"clipnorm is no argument of SGD; write clip_norm=1.0"),
        (lambda: ff.SGD(0.1, dampening=0.5), r"dampening is no argument of SGD; expected lr, momentum, .*clip_norm"),
        (lambda: ff.SGD(network().parameters, lr=0.1), r"SGD was given parameters; expected SGD\(lr=…\) alone: .* fit"),
        (lambda: ff.Adam(network().parameters), r"Adam was given parameters; expected Adam\(lr=…\) alone"),
        (lambda: ff.Adam(params=[np.ones(3)], lr=0.1), r"Adam was given parameters"),
        (lambda: ff.Adam(iter([np.ones(3)])), r"Adam was given parameters"),
        (lambda: ff.Sequential(Double()), r"__init__ of Double has not called super\(\).__init__\(\); expected it"),
        (lambda: Double().params, r"__init__ of Double has not called super"),
        (lambda: ff.gradcheck(Double(), X), r"__init__ of Double has not called super"),
    ],
)
def test_the_error_says_the_right_form(call, message):
    with pytest.raises(InvalidTypeError, match=message):
        call()


def test_what_a_layer_lacks_is_still_said():
    with pytest.raises(AttributeError, match="'ReLU' object has no attribute 'slope'"):
        _ = ff.ReLU().slope
    for twin in (copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))):
        assert repr(twin(ff.Linear(2, 3))) == "Linear(in_features=2, out_features=3)"


@pytest.mark.parametrize(
    ("last", "loss", "message"),
    [
        ([ff.Softmax], ff.CrossEntropyLoss, r"CrossEntropyLoss takes logits, .* ends with Softmax\(\)"),
        ([ff.LogSoftmax], ff.CrossEntropyLoss, r"CrossEntropyLoss takes logits, .* ends with LogSoftmax\(\)"),
        ([], ff.NLLLoss, r"NLLLoss takes log-probabilities, but the model ends with Linear\(.* LogSoftmax\(\) behind"),
        ([ff.Softmax], ff.NLLLoss, r"NLLLoss takes log-probabilities, but the model ends with Softmax\(\)"),
        ([ff.LogSoftmax], ff.NLLLoss, None),
        ([ff.Softmax, ff.Log], ff.NLLLoss, None),
        ([], ff.CrossEntropyLoss, None),
    ],
)
def test_a_last_layer_that_does_not_go_with_the_loss_is_warned_of_once(last, loss, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(network(*[each() for each in last]), loss=loss(), validation_data=(X, Y))
    assert len(caught) == (message is not None)
    if message is not None:
        with pytest.warns(UserWarning, match=message):
            fit(network(*[each() for each in last]), loss=loss())


def test_a_sigmoid_before_a_loss_of_logits_is_warned_of():
    model = ff.Sequential(ff.Linear(5, 1), ff.Sigmoid(), seed=0)
    with pytest.warns(UserWarning, match=r"BCEWithLogitsLoss takes logits, .* ends with Sigmoid\(\)"):
        ff.fit(model, X, Y > 1, loss=ff.BCEWithLogitsLoss(), optimizer=ff.SGD(0.1), **SETTINGS)
