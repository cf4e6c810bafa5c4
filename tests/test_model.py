"""Sequential: one flat array, shapes, summary, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(5)


def small_model(**options):
    return ff.Sequential(ff.Linear(6, 5), ff.Tanh(), ff.Linear(5, 3), **{"seed": 0, **options})


def test_parameters_are_views_of_one_flat_array():
    model = small_model()
    model.parameters[...] = 0
    assert not any(array.any() for layer in model.layers for array in layer.params.values())
    model[0].params["weight"][2, 1] = 7
    assert (model.parameters == 7).sum() == 1
    assert list(model.named_parameters()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert model.n_parameters == 6 * 5 + 5 + 5 * 3 + 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_parameter_starts_on_a_cache_line_of_the_flat_array(dtype):
    model = small_model(dtype=dtype)
    first = model.parameters.ctypes.data
    for array in model.named_parameters().values():
        assert array.dtype == dtype
        assert (array.ctypes.data - first) % 64 == 0


def test_gradients_reach_the_flat_array():
    model = small_model()
    out = model.forward(RNG.normal(size=(4, 6)))
    model.backward(np.ones_like(out))
    assert np.count_nonzero(model.gradients) == model.n_parameters


def test_a_replaced_parameter_is_taken_over():
    model = small_model()
    model[0].params["bias"] = np.arange(5.0)
    assert model.named_parameters()["0.bias"].base is model.parameters
    np.testing.assert_array_equal(model[0].params["bias"], np.arange(5))
    model[0].params["bias"] = np.arange(4.0)
    with pytest.raises(InvalidValueError, match=r"params\['bias'\] .* has shape \(4,\); expected \(5,\)"):
        model.gather_parameters()


def test_a_layer_may_be_shared_with_another_model():
    model = small_model()
    head = ff.Sequential(model[0], model[1])
    x = RNG.normal(size=(4, 6)).astype("float32")
    np.testing.assert_array_equal(head.forward(x), model[1].forward(model[0].forward(x)))
    y = RNG.integers(0, 3, 4)
    ff.fit(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.5), epochs=1, progress=False)
    np.testing.assert_array_equal(head[0].params["weight"], model[0].params["weight"])
    assert model[0].params["weight"].base is model.parameters


def test_one_seed_gives_one_draw():
    a, b, c = small_model(), small_model(), small_model(seed=1)
    np.testing.assert_array_equal(a.parameters, b.parameters)
    assert (a.parameters != c.parameters).any()


def test_weights_set_before_stay():
    layer = ff.Linear(3, 2)
    layer.params["weight"][...] = 4
    assert (ff.Sequential(layer, seed=0)[0].params["weight"] == 4).all()


def test_forward_and_backward_are_the_layers_one_by_one():
    model = small_model(dtype="float64")
    x, grad = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 3))
    hidden = np.tanh(x @ model[0].params["weight"] + model[0].params["bias"])
    np.testing.assert_allclose(model(x), hidden @ model[2].params["weight"] + model[2].params["bias"], rtol=1e-12)
    grad_hidden = grad @ model[2].params["weight"].T * (1 - hidden**2)
    np.testing.assert_allclose(model.backward(grad), grad_hidden @ model[0].params["weight"].T, rtol=1e-10)
    np.testing.assert_allclose(model[0].grads["weight"], x.T @ grad_hidden, rtol=1e-10)


def test_the_whole_model_passes_the_gradient_check():
    assert ff.gradcheck(small_model(), RNG.normal(size=(4, 6))) < 1e-7


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_train_apart(how):
    model, x, y = small_model(), RNG.normal(size=(8, 6)), RNG.integers(0, 3, 8)
    model.forward(x)
    other, before = how(model), model.parameters.copy()
    ff.fit(other, x, y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1), epochs=1, progress=False)
    np.testing.assert_array_equal(model.parameters, before)
    assert (other.named_parameters()["0.weight"] != model.named_parameters()["0.weight"]).any()


def test_summary_shows_shapes_and_counts():
    model = ff.Sequential(ff.Flatten(), ff.Linear(784, 100), ff.ReLU(), ff.Linear(100, 10), seed=0)
    text = model.summary((28, 28))
    for part in ("(n, 784)", "(n, 100)", "(n, 10)", "78,500", "1,010", "79,510 parameters, float32, 0.32 MB"):
        assert part in text
    assert "?" in model.summary()


def test_repr_makes_such_a_model_again():
    model = small_model(dtype="float64")
    assert repr(eval(repr(model), vars(ff))) == repr(model)


BAD_MODELS = [
    (lambda: ff.Sequential(), InvalidValueError, "layers is empty"),
    (lambda: ff.Sequential(np.tanh), InvalidTypeError, r"layers\[0\] is <ufunc 'tanh'>; expected a layer"),
    (
        lambda: ff.Sequential(ff.Matmul()),
        InvalidTypeError,
        r"layers\[0\] is Matmul\(\); expected a layer with one input",
    ),
    (lambda: ff.Sequential(*[ff.ReLU()] * 2), InvalidValueError, r"layers\[1\] .* appears twice"),
    (lambda: ff.Sequential(ff.Linear(3, 4), ff.ReLU(), ff.Linear(5, 2)), InvalidValueError, "gets 4 features"),
    (lambda: ff.Sequential(ff.ReLU(), dtype="float16"), InvalidTypeError, "dtype is float16; expected 'float32'"),
    (lambda: ff.Sequential(ff.ReLU(), dtype="nonsense"), InvalidTypeError, "dtype is 'nonsense'"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD_MODELS)
def test_bad_models_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
