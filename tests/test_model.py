"""Sequential: one flat array, shapes, summary, and what is refused."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

import fastfnn as ff
from fastfnn._text import shortened
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


@pytest.mark.parametrize(
    "between",
    [
        lambda: [],
        lambda: [ff.BatchNorm1d(400)],
        lambda: [ff.Dropout(0.5, seed=0)],
        lambda: [ff.BatchNorm1d(400), ff.Dropout(0.5, seed=0)],
    ],
    ids=["nothing", "batch norm", "dropout", "both"],
)
@pytest.mark.parametrize(
    ("activation", "variance"),
    [(ff.ReLU, 2 / 300), (ff.LeakyReLU, 2 / 300), (ff.Tanh, 2 / 700), (lambda: ff.Linear(400, 2), 2 / 700)],
    ids=["relu", "leaky relu", "tanh", "linear"],
)
def test_weights_start_as_fits_the_activation_that_follows(between, activation, variance):
    """He or Xavier, also where something without an activation lies between."""
    model = ff.Sequential(ff.Linear(300, 400), *between(), activation(), seed=0, dtype="float64")
    assert model[0].params["weight"].var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize(
    "between",
    [
        lambda: [ff.MaxPool2d(2)],
        lambda: [ff.BatchNorm2d(64), ff.AvgPool2d(2), ff.Flatten()],
        lambda: [ff.GlobalAvgPool2d()],
    ],
    ids=["max-pool", "batch norm, average, flatten", "global average"],
)
def test_filters_start_as_fits_the_activation_behind_the_pooling(between):
    for activation, variance in ((ff.ReLU(), 2 / 800), (ff.Sigmoid(), 2 / 864)):
        model = ff.Sequential(ff.Conv2d(32, 64, 5), *between(), activation, seed=0, dtype="float64")
        assert model[0].params["weight"].var() == pytest.approx(variance, rel=0.03)


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


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copys_layers_are_views_of_its_own_parameters(how):
    model = small_model()
    other = how(model)
    for layer in other.layers:
        for name, array in layer.params.items():
            assert array.base is other.parameters and layer.grads[name].base is other.gradients
    np.testing.assert_array_equal(other.parameters, model.parameters)
    other.parameters[...] = 1.0
    assert (other[0].params["weight"] == 1.0).all() and not (model[0].params["weight"] == 1.0).any()


def test_a_pickle_holds_the_parameters_once():
    model = ff.Sequential(ff.Linear(100, 50), seed=0)
    model.forward(np.ones((300, 100)))
    assert len(pickle.dumps(model)) < 1.2 * model.parameters.nbytes


def test_a_shallow_copy_has_the_same_parameters():
    model = small_model()
    twin = copy.copy(model)
    assert twin.parameters is model.parameters and twin.layers is model.layers


def test_summary_shows_shapes_and_counts():
    model = ff.Sequential(ff.Flatten(), ff.Linear(784, 100), ff.ReLU(), ff.Linear(100, 10), seed=0)
    text = model.summary((28, 28))
    for part in ("(n, 784)", "(n, 100)", "(n, 10)", "78,500", "1,010", "79,510 parameters, float32, 0.32 MB"):
        assert part in text
    assert "?" in model.summary()


def with_long_layers():
    """One with twenty means to show, and one within another."""
    inner = ff.Residual(ff.Linear(20, 20), ff.BatchNorm1d(20))
    return ff.Sequential(ff.Normalize([*range(20)], [1.0] * 20), inner, ff.Linear(20, 3), seed=0)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_summary_is_as_wide_as_asked_and_shows_both_ends_of_a_long_layer(width):
    lines = with_long_layers().summary(width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert len({len(line) for line in lines if set(line) == {"-"}}) == 1
    assert "Normalize(mean=" in lines[2] and "…" in lines[2] and "=1.0)" in lines[2]
    assert "  Linear(in_feat" in lines[4]


def test_a_summary_in_50_columns_has_a_line_for_each_layer():
    lines = with_long_layers().summary(width=50).splitlines()
    assert max(map(len, lines)) <= 50
    assert len(lines) == 3 + 5 + 1
    with pytest.raises(InvalidValueError, match="width is 0"):
        with_long_layers().summary(width=0)


@pytest.mark.parametrize("most", [1, 2, 3, 10, 25, 26, 40])
def test_what_is_shortened_has_so_many_letters_of_its_beginning_and_end(most):
    text = "abcdefghijklmnopqrstuvwxyz"
    short = shortened(text, most)
    assert len(short) == min(most, 26)
    head, _, tail = short.partition("…")
    assert text.startswith(head) and text.endswith(tail)


def test_a_notebook_shows_the_summary_in_its_own_colours():
    model = with_long_layers()
    page = model._repr_html_()
    assert page.count("<tr>") == 1 + 5
    assert re.search(r">Normalize\(mean=[^<]*…[^<]*\)<", page)
    assert "1.layers.0" in page and "parameters, float32" in page
    assert not re.search("#[0-9a-f]{3}|rgb|background", page)
    assert "output" not in ff.Sequential(ff.ReLU())._repr_html_(), "no output is known"


def test_a_history_in_a_notebook_has_what_its_repr_has():
    history = ff.History(loss=[2.0, 1.0], accuracy=[math.nan] * 2, seconds=[1.0, 1.0], metrics={"val_<b>": [1.0, 3.0]})
    page = history._repr_html_()
    assert "val_&lt;b&gt;" in page and "<b>" not in page
    assert re.findall("<td[^>]*>([^<]*)<", page)[:4] == ["loss", "1.0000", "1.0000", "2"]
    assert "accuracy" not in page
    assert "History of 0 epochs" in ff.History()._repr_html_()


def images_to_classes():
    return ff.Sequential(
        ff.Conv2d(1, 6, 5), ff.BatchNorm2d(6), ff.ReLU(), ff.MaxPool2d(2), ff.Flatten(), ff.Linear(54, 4), seed=0
    )


def test_summary_of_images():
    model = images_to_classes()
    for shape in ((1, 10, 11), (10, 11)):
        text = model.summary(shape)
        for part in ("(n, 6, 6, 7)", "(n, 6, 3, 3)", "(n, 54)", "(n, 4)", "388 parameters"):
            assert part in text
    lines = model.summary().splitlines()
    assert [line.count("?") for line in lines[2:8]] == [1, 1, 1, 1, 1, 0]
    assert "(n, 4)" in lines[7]


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
    *(
        (lambda layers=layers: ff.Sequential(*layers()), InvalidValueError, message)
        for layers, message in [
            (lambda: (ff.Conv2d(1, 6, 5), ff.Conv2d(16, 3, 5)), "images of 6 channels; expected images of 16 channels"),
            (
                lambda: (ff.Conv2d(3, 1, 5), ff.Tanh(), ff.Conv2d(2, 3, 5)),
                "gets images of 1 channel; expected images of 2",
            ),
            (lambda: (ff.Conv2d(1, 6, 5), ff.MaxPool2d(2), ff.BatchNorm2d(5)), "gets images of 6 channels; .* of 5 "),
            (lambda: (ff.MaxPool2d(2), ff.BatchNorm2d(5), ff.Conv2d(6, 1, 3)), "gets images of 5 channels; .* of 6 "),
            (lambda: (ff.Conv2d(1, 6, 5), ff.Linear(6, 2)), "gets images of 6 channels; expected 6 features"),
            (
                lambda: (ff.AvgPool2d(2), ff.Dropout(), ff.Linear(6, 2)),
                r"layers\[2\] .* gets images; expected 6 features",
            ),
            (
                lambda: (ff.BatchNorm2d(4), ff.GlobalAvgPool2d(), ff.Linear(6, 2)),
                "gets 4 features; expected 6 features",
            ),
            (lambda: (ff.Conv2d(1, 4, 3), ff.GlobalAvgPool2d(), ff.MaxPool2d(2)), "gets 4 features; expected images$"),
            (lambda: (ff.Flatten(), ff.Conv2d(1, 4, 3)), "gets features in rows; expected images of 1 channel$"),
            (lambda: (ff.Flatten(), ff.BatchNorm1d(4), ff.Linear(6, 2)), "gets 4 features; expected 6 features"),
            (lambda: (ff.Linear(3, 4), ff.Flatten(), ff.Linear(5, 2)), "gets 4 features; expected 5 features"),
        ]
    ),
    (lambda: ff.Sequential(ff.ReLU(), dtype="float16"), InvalidTypeError, "dtype is float16; expected 'float32'"),
    (lambda: ff.Sequential(ff.ReLU(), dtype="nonsense"), InvalidTypeError, "dtype is 'nonsense'"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD_MODELS)
def test_bad_models_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


class Halves(ff.Layer):
    """A user's own layer that changes the shape."""

    def output_shape(self, input_shape):
        return (input_shape[0] // 2,)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (ff.Linear(3, 4), Halves(), ff.Linear(2, 5)),
        lambda: (ff.Conv2d(1, 4, 3), Halves(), ff.Linear(2, 5)),
        lambda: (ff.Conv2d(1, 4, 3), ff.Flatten(), ff.Linear(100, 5), ff.BatchNorm1d(5)),
        lambda: (ff.Conv2d(1, 4, 3), ff.GlobalAvgPool2d(), ff.Linear(4, 5)),
        lambda: (ff.Normalize(), ff.MaxPool2d(2), ff.BatchNorm2d(4), ff.Conv2d(4, 2, 3, groups=2)),
    ],
)
def test_what_may_fit_is_not_refused(layers):
    assert len(ff.Sequential(*layers())) == len(layers())
