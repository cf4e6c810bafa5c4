"""Layers: forward and backward, gradients, parameters, initialisation, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(11)

LAYERS = {
    "Linear": (lambda: ff.Linear(6, 4), RNG.normal(size=(5, 6))),
    "Linear without bias": (lambda: ff.Linear(6, 4, bias=False), RNG.normal(size=(5, 6))),
    "Flatten": (lambda: ff.Flatten(), RNG.normal(size=(3, 2, 4))),
    "Normalize": (lambda: ff.Normalize(0.3, 2.0, scale=0.5), RNG.normal(size=(3, 2, 4))),
    "Normalize channels": (lambda: ff.Normalize([0.1, -0.2], [1.0, 3.0]), RNG.normal(size=(3, 2, 4))),
    "ReLU": (lambda: ff.ReLU(), RNG.normal(size=(5, 6))),
    "LeakyReLU": (lambda: ff.LeakyReLU(0.3), RNG.normal(size=(5, 6))),
    "LeakyReLU rising": (lambda: ff.LeakyReLU(-0.5), RNG.normal(size=(5, 6))),
    "PReLU": (lambda: ff.PReLU(init=0.3), RNG.normal(size=(5, 6))),
    "PReLU of each feature": (lambda: ff.PReLU(6), RNG.normal(size=(5, 6))),
    "PReLU of each channel": (lambda: ff.PReLU(3, -0.2), RNG.normal(size=(9, 3, 2, 4))),
    "Sigmoid": (lambda: ff.Sigmoid(), RNG.normal(size=(5, 6))),
    "Tanh": (lambda: ff.Tanh(), RNG.normal(size=(5, 6))),
    "GELU": (lambda: ff.GELU(), RNG.normal(size=(5, 6))),
    "GELU by tanh": (lambda: ff.GELU("tanh"), RNG.normal(size=(5, 6))),
    "SiLU": (lambda: ff.SiLU(), RNG.normal(size=(5, 6))),
    "ELU": (lambda: ff.ELU(0.7), RNG.normal(size=(5, 6))),
    "SELU": (lambda: ff.SELU(), RNG.normal(size=(5, 6))),
    "Softplus": (lambda: ff.Softplus(1.5, 0.8), RNG.choice([-1, 1], (5, 6)) * RNG.uniform(0.6, 2, (5, 6))),
    "ReLU6": (lambda: ff.ReLU6(), 4 * RNG.normal(size=(5, 6))),
    "Hardswish": (lambda: ff.Hardswish(), 3 * RNG.normal(size=(5, 6))),
    "Softmax": (lambda: ff.Softmax(), RNG.normal(size=(5, 6))),
    "LogSoftmax": (lambda: ff.LogSoftmax(), RNG.normal(size=(5, 6))),
    "Log": (lambda: ff.Log(), RNG.uniform(0.5, 2, (5, 6))),
    "BatchNorm1d": (lambda: ff.BatchNorm1d(6), RNG.normal(size=(5, 6))),
    "BatchNorm1d without affine": (lambda: ff.BatchNorm1d(6, affine=False), RNG.normal(size=(5, 6))),
    "BatchNorm2d": (lambda: ff.BatchNorm2d(2, eps=1e-3, momentum=0.5), RNG.normal(size=(3, 2, 4, 2))),
    "LayerNorm": (lambda: ff.LayerNorm(6, eps=1e-3), RNG.normal(size=(5, 6))),
    "LayerNorm of several axes": (lambda: ff.LayerNorm((4, 2)), RNG.normal(size=(3, 2, 4, 2))),
    "LayerNorm of each row": (lambda: ff.LayerNorm(4, bias=False), RNG.normal(size=(3, 2, 4))),
    "LayerNorm without affine": (lambda: ff.LayerNorm([6], elementwise_affine=False), RNG.normal(size=(5, 6))),
    "Dropout": (lambda: ff.Dropout(0.3, seed=4), RNG.normal(size=(5, 6))),
    "Dropout with a seed of its own": (lambda: ff.Dropout(0.7), RNG.normal(size=(2, 3, 4))),
    "MaxPool2d": (lambda: ff.MaxPool2d(2), RNG.normal(size=(3, 2, 5, 7))),
    "MaxPool2d overlapping": (lambda: ff.MaxPool2d((3, 2), 1, (1, 0), (2, 1), True), RNG.normal(size=(2, 2, 5, 6))),
    "AvgPool2d": (lambda: ff.AvgPool2d(2), RNG.normal(size=(3, 2, 5, 7))),
    "AvgPool2d overlapping": (lambda: ff.AvgPool2d(3, (2, 1), 1, True, False), RNG.normal(size=(2, 2, 6, 5))),
    "MaxPool1d": (lambda: ff.MaxPool1d(2), RNG.normal(size=(3, 2, 7))),
    "MaxPool1d overlapping": (lambda: ff.MaxPool1d(3, 2, 1, 2, True), RNG.normal(size=(2, 3, 9))),
    "AvgPool1d": (lambda: ff.AvgPool1d(3), RNG.normal(size=(3, 2, 7))),
    "AvgPool1d overlapping": (lambda: ff.AvgPool1d(4, 3, 2, True, False), RNG.normal(size=(2, 3, 9))),
    "Conv1d": (lambda: ff.Conv1d(2, 3, 3, padding=1), RNG.normal(size=(3, 2, 7))),
    "Conv1d with all": (lambda: ff.Conv1d(4, 6, 2, 2, 1, 3, groups=2, bias=False), RNG.normal(size=(3, 4, 9))),
    "AdaptiveAvgPool2d": (lambda: ff.AdaptiveAvgPool2d((3, 1)), RNG.normal(size=(3, 2, 6, 5))),
    "GlobalMaxPool2d": (lambda: ff.GlobalMaxPool2d(), RNG.normal(size=(3, 2, 5, 7))),
    "ZeroPad2d": (lambda: ff.ZeroPad2d(1), RNG.normal(size=(3, 2, 3, 4))),
    "ZeroPad2d on some sides": (lambda: ff.ZeroPad2d((2, 0, 0, 1)), RNG.normal(size=(3, 2, 3, 4))),
    "Dropout2d": (lambda: ff.Dropout2d(0.3, seed=4), RNG.normal(size=(5, 3, 2, 4))),
    "RandomFlip": (lambda: ff.RandomFlip(True, True, seed=4), RNG.normal(size=(5, 3, 2, 4))),
    "RandomFlip of images without channels": (lambda: ff.RandomFlip(seed=2), RNG.normal(size=(5, 3, 4))),
    "RandomShift": (lambda: ff.RandomShift((1, 3), seed=4), RNG.normal(size=(5, 3, 2, 4))),
    "RandomErase": (lambda: ff.RandomErase((2, 1), seed=4), RNG.normal(size=(5, 3, 4, 3))),
    "RandomErase always": (lambda: ff.RandomErase(2, 1.0), RNG.normal(size=(5, 3, 4, 3))),
    "RandomRotation": (lambda: ff.RandomRotation(40, seed=4), RNG.normal(size=(5, 3, 4, 3))),
    "Noise": (lambda: ff.Noise(0.5, seed=4), RNG.normal(size=(5, 6))),
    "GlobalAvgPool2d": (lambda: ff.GlobalAvgPool2d(), RNG.normal(size=(3, 2, 5, 7))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_match_central_differences(name):
    make, x = LAYERS[name]
    assert ff.gradcheck(make(), x) < 1e-7


def test_matmul_differentiates_both_arguments():
    assert ff.gradcheck(ff.Matmul(), RNG.normal(size=(4, 3)), RNG.normal(size=(3, 5))) < 1e-7


@pytest.mark.parametrize("name", LAYERS)
def test_backward_before_forward_is_refused(name):
    make, x = LAYERS[name]
    with pytest.raises(InvalidValueError, match="backward was called before forward"):
        make().backward(x)


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_and_gradients_are_left_alone(name):
    make, x = LAYERS[name]
    layer, kept = make(), x.copy()
    out = layer.forward(x)
    grad = RNG.normal(size=out.shape)
    grad_kept = grad.copy()
    grad_x = layer.backward(grad)
    assert grad_x.shape == x.shape
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(grad, grad_kept)


@pytest.mark.parametrize("name", LAYERS)
def test_output_shape_is_told_in_advance(name):
    make, x = LAYERS[name]
    layer = make()
    assert layer.forward(x).shape[1:] == layer.output_shape(x.shape[1:])


@pytest.mark.parametrize("name", LAYERS)
def test_repr_makes_such_a_layer_again(name):
    layer = LAYERS[name][0]()
    again = eval(repr(layer), vars(ff))
    assert type(again) is type(layer)
    assert again.config() == layer.config()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_compute_the_same_and_share_nothing(how):
    layer, x = ff.Linear(6, 4), RNG.normal(size=(5, 6))
    expected = layer.forward(x)
    other = how(layer)
    np.testing.assert_array_equal(other.forward(x), expected)
    other.params["weight"][...] = 0
    np.testing.assert_array_equal(layer.forward(x), expected)


def test_parameters_may_be_written_in_place():
    layer = ff.Linear(3, 2)
    layer.params["weight"][...] = [[1, 0], [0, 1], [1, 1]]
    layer.params["bias"][...] = [0.5, -1]
    np.testing.assert_array_equal(layer.forward([[1.0, 2.0, 3.0]]), [[4.5, 4.0]])


def test_backward_overwrites_the_gradients_of_the_last_call():
    layer, x, grad = ff.Linear(3, 2), np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    for _ in range(2):
        layer.forward(x)
        layer.backward(grad)
        np.testing.assert_array_equal(layer.grads["weight"], np.full((3, 2), 4))
        np.testing.assert_array_equal(layer.grads["bias"], [4, 4])


def test_the_default_start_fits_the_activation_that_follows():
    spread = {}
    for activation in (ff.ReLU(), ff.LeakyReLU(), ff.PReLU(), ff.GELU(), ff.SELU(), ff.Sigmoid(), ff.Tanh()):
        model = ff.Sequential(ff.Linear(400, 300), activation, seed=0)
        spread[type(activation).__name__] = model[0].params["weight"].std()
        assert not model[0].params["bias"].any()
    he, lecun, xavier = np.sqrt(2 / 400), np.sqrt(1 / 400), np.sqrt(2 / 700)
    fitting = {"ReLU": he, "LeakyReLU": he, "PReLU": he, "GELU": he, "SELU": lecun, "Sigmoid": xavier, "Tanh": xavier}
    for name, expected in fitting.items():
        assert spread[name] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "spread"), [("normal", 1.0), ("zeros", 0.0), ("he", 0.1), ("lecun", 0.0707), ("xavier", 0.0816)]
)
def test_initialisers_by_name(name, spread):
    model = ff.Sequential(ff.Linear(200, 100, weight_init=name, bias_init="zeros"), seed=1)
    assert model[0].params["weight"].std() == pytest.approx(spread, rel=0.02)


def test_an_initialiser_of_ones_own():
    layer = ff.Linear(2, 3, weight_init=lambda shape, rng: np.full(shape, 7.0), bias_init="normal")
    np.testing.assert_array_equal(layer.params["weight"], np.full((2, 3), 7))
    assert layer.params["bias"].any()
    with pytest.raises(InvalidValueError, match=r"weight_init made shape \(1,\); expected \(2, 3\)"):
        _ = ff.Linear(2, 3, weight_init=lambda shape, rng: np.ones(1)).params


def test_normalize_reads_images_as_they_come():
    images = RNG.integers(0, 256, (4, 3, 5), dtype=np.uint8)
    out = ff.Normalize(0.1307, 0.3081, scale=1 / 255).forward(images)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, (images / 255 - 0.1307) / 0.3081, rtol=1e-5, atol=1e-6)


def test_normalize_knows_channels_also_after_flatten():
    x = RNG.normal(size=(4, 2, 3, 3))
    layer = ff.Normalize([1.0, 2.0], [0.5, 4.0])
    np.testing.assert_array_equal(layer.forward(x).reshape(4, 18), layer.forward(x.reshape(4, 18)))


@pytest.mark.parametrize(("shape", "axes"), [((50, 4), 0), ((50, 6, 5), None), ((50, 3, 6, 5), (0, 2, 3))])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_fitted_normalize_has_the_datas_mean_and_deviation(monkeypatch, shape, axes, dtype):
    x = RNG.integers(0, 256, shape).astype(dtype)
    monkeypatch.setattr("fastfnn.layers.inputs.FITTED_ELEMENTS", 7 * x[0].size)  # several parts
    layer = ff.Normalize.fit(x)
    np.testing.assert_allclose(layer.mean, np.atleast_1d(x.mean(axis=axes, dtype=float)), rtol=1e-12)
    np.testing.assert_allclose(layer.std, np.atleast_1d(x.std(axis=axes, dtype=float)), rtol=1e-12)
    assert abs(layer.forward(x).mean()) < 1e-4
    assert layer.forward(x).std() == pytest.approx(1, rel=1e-4)


def test_a_constant_feature_stays_finite_when_fitted():
    x = np.column_stack([np.full(30, 0.1), np.zeros(30), np.arange(30)])
    layer = ff.Normalize.fit(x)
    assert layer.std[:2] == (1, 1)
    assert np.abs(layer.forward(x)[:, :2]).max() < 1e-6


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[1.0, np.nan], [2.0, 3.0]], InvalidValueError, r"x\[0, 1\] is nan; expected finite numbers"),
        (np.where(np.arange(40).reshape(10, 4) == 30, np.inf, 1.0), InvalidValueError, r"x\[7, 2\] is inf"),
        ([1.0, 2.0], InvalidValueError, r"x has shape \(2,\); expected \(n, …\)"),
        (np.empty((0, 3)), InvalidValueError, r"x has shape \(0, 3\)"),
        ([["a", "b"]], InvalidTypeError, "x has dtype <U1; expected numbers"),
    ],
)
def test_what_cannot_be_fitted_is_named(x, error, message):
    with pytest.raises(error, match=message):
        ff.Normalize.fit(x)


def test_relu_lets_nan_through():
    assert np.isnan(ff.ReLU().forward([[np.nan]])).all()
    assert np.isnan(ff.Linear(2, 2).forward([[np.nan, 1.0]])).all()


BAD_LAYERS = [
    (lambda: ff.Linear(0, 3), InvalidValueError, "in_features is 0; expected an integer of at least 1"),
    (lambda: ff.Linear(3, -1), InvalidValueError, "out_features is -1"),
    (lambda: ff.Linear(3, 2.5), InvalidTypeError, "out_features is 2.5; expected an integer"),
    (lambda: ff.Linear(3, True), InvalidTypeError, "out_features is True"),
    (lambda: ff.Linear(3, 2, weight_init="hee"), InvalidValueError, "weight_init is 'hee'; expected .*'he'"),
    (lambda: ff.Linear(3, 2, bias_init=3), InvalidTypeError, "bias_init is 3"),
    (lambda: ff.Linear(3, 2).forward(np.ones((4, 5))), InvalidValueError, r"x has shape \(4, 5\); expected \(n, 3\)"),
    (lambda: ff.LayerNorm(0), InvalidValueError, "normalized_shape is 0; expected an integer of at least 1"),
    (lambda: ff.LayerNorm(()), InvalidValueError, r"normalized_shape is \(\); expected an integer, or several"),
    (lambda: ff.LayerNorm((3, 1.5)), InvalidTypeError, r"normalized_shape\[1\] is 1.5; expected an integer"),
    (lambda: ff.LayerNorm(3, eps=-1), InvalidValueError, "eps is -1; expected at least 0"),
    (
        lambda: ff.LayerNorm(3).forward(np.ones((3, 4))),
        InvalidValueError,
        r"shape \(4,\); expected \(3,\) as last axes",
    ),
    (lambda: ff.Normalize(std=0), InvalidValueError, "std is 0; expected more than 0"),
    (lambda: ff.Normalize([1, 2], [1, 2, 3]), InvalidValueError, "std has 3 values; expected 2"),
    (lambda: ff.Normalize([1, 2]).forward(np.ones((2, 3, 4))), InvalidValueError, "expected 2 channels first"),
    (lambda: ff.Normalize(float("nan")), InvalidValueError, "mean is nan; expected a finite number"),
    (lambda: ff.Flatten().forward(np.ones(3)), InvalidValueError, r"x has shape \(3,\)"),
    (lambda: ff.LeakyReLU("x"), InvalidTypeError, "negative_slope is 'x'"),
    (lambda: ff.PReLU(0), InvalidValueError, "num_parameters is 0; expected an integer of at least 1"),
    (lambda: ff.PReLU(3).forward(np.ones((2, 4))), InvalidValueError, r"shape \(4,\); expected 3 channels first"),
    (lambda: ff.ZeroPad2d((1, -1, 0, 0)), InvalidValueError, r"padding\[1\] is -1; expected an integer of at least 0"),
    (lambda: ff.ZeroPad2d((1, 1)), InvalidValueError, r"padding is \(1, 1\); expected an integer, or \(left, right,"),
    (lambda: ff.AdaptiveAvgPool2d(3).forward(np.ones((2, 1, 6, 5))), InvalidValueError, r"divides, which is \(3, 3\)"),
    (
        lambda: ff.Dropout2d().forward(np.ones((2, 5))),
        InvalidValueError,
        r"x has shape \(2, 5\); expected 4 dimensions",
    ),
    (
        lambda: ff.RandomFlip().forward(np.ones((2, 5))),
        InvalidValueError,
        r"shape \(5,\); expected images \(…, height, width\), before any Flatten",
    ),
    (lambda: ff.RandomFlip(1), InvalidTypeError, "horizontal is 1; expected True or False"),
    (lambda: ff.RandomShift(-1), InvalidValueError, "pixels is -1; expected an integer of at least 0"),
    (lambda: ff.RandomShift((1, 2, 3)), InvalidValueError, r"pixels is \(1, 2, 3\); expected an integer, or a pair"),
    (lambda: ff.RandomErase(0), InvalidValueError, "size is 0; expected an integer of at least 1"),
    (lambda: ff.RandomErase(2, 1.5), InvalidValueError, "p is 1.5; expected at most 1"),
    (lambda: ff.RandomRotation(181), InvalidValueError, "degrees is 181; expected at most 180"),
    (lambda: ff.Noise(-1), InvalidValueError, "std is -1; expected at least 0"),
    (lambda: ff.Noise(seed=-1), InvalidValueError, "seed is -1"),
    (lambda: ff.MaxPool1d((2, 2)), InvalidTypeError, r"kernel_size is \(2, 2\); expected an integer"),
    (
        lambda: ff.AvgPool1d(2, padding=2),
        InvalidValueError,
        r"padding is \(0, 2\); expected at most half of kernel_size",
    ),
    (lambda: ff.AvgPool1d(2).forward(np.ones((2, 5))), InvalidValueError, r"x has shape \(2, 5\); expected 3 dimens"),
    (lambda: ff.MaxPool1d(9).forward(np.ones((2, 1, 5))), InvalidValueError, "its width of 5 is too small"),
    (lambda: ff.Conv1d(3, 4, 2, groups=2), InvalidValueError, "groups is 2; expected a divisor of in_channels"),
    (lambda: ff.Conv1d(3, 4, (2, 2)), InvalidTypeError, r"kernel_size is \(2, 2\); expected an integer"),
    (
        lambda: ff.Conv1d(3, 4, 5).forward(np.ones((2, 3, 4))),
        InvalidValueError,
        "width, 4 with padding, is less than the 5",
    ),
    (
        lambda: ff.Conv1d(3, 4, 5).forward(np.ones((2, 2, 9))),
        InvalidValueError,
        r"shape \(2, 9\); expected \(3, length\)",
    ),
    (lambda: ff.GELU("erf"), InvalidValueError, "approximate is 'erf'; expected one of 'none', 'tanh'"),
    (lambda: ff.ELU("x"), InvalidTypeError, "alpha is 'x'; expected a number"),
    (lambda: ff.Softplus(beta=0), InvalidValueError, "beta is 0; expected more than 0"),
    (lambda: ff.Softplus(threshold=np.inf), InvalidValueError, "threshold is inf; expected a finite number"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD_LAYERS)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
