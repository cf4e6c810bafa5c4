"""Functional: each function equals its reference, keeps the dtype, and refuses what does not fit."""

import inspect

import numpy as np
import pytest

from fastfnn import functional as F
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import reference

RNG = np.random.default_rng(7)
X, WEIGHT, BIAS, GRAD = (RNG.normal(size=shape) for shape in ((9, 7), (7, 5), (5,), (9, 5)))
POSITIVE = np.abs(GRAD) + 0.1
UNIT = 1 / (1 + np.exp(-GRAD))
LABELS = RNG.integers(0, 5, 9)
ROWS = POSITIVE / POSITIVE.sum(axis=1, keepdims=True)
IMAGES, POOLED = RNG.normal(size=(2, 3, 5, 7)), RNG.normal(size=(2, 3, 3, 4))
PLACES = RNG.integers(0, 35, POOLED.shape)
FILTERS, SETTINGS = RNG.normal(size=(6, 1, 3, 2)), ((2, 3), (1, 3), (1, 2), 3)

CALLS = {
    "matmul": (X, WEIGHT),
    "matmul_backward": (GRAD, X, WEIGHT),
    "linear": (X, WEIGHT, BIAS),
    "linear_backward": (GRAD, X, WEIGHT),
    "relu": (GRAD,),
    "relu_backward": (POSITIVE, GRAD),
    "leaky_relu": (GRAD, 0.2),
    "leaky_relu_backward": (POSITIVE, GRAD, 0.2),
    "sigmoid": (GRAD,),
    "sigmoid_backward": (GRAD, UNIT),
    "tanh": (GRAD,),
    "tanh_backward": (GRAD, UNIT),
    "gelu": (GRAD, "tanh"),
    "gelu_backward": (POSITIVE, GRAD, "tanh"),
    "silu": (GRAD,),
    "silu_backward": (POSITIVE, GRAD),
    "elu": (GRAD, 0.7),
    "elu_backward": (POSITIVE, GRAD, 0.7),
    "selu": (GRAD,),
    "selu_backward": (POSITIVE, GRAD),
    "softplus": (GRAD, 2.0, 1.0),
    "softplus_backward": (POSITIVE, GRAD, 2.0, 1.0),
    "relu6": (5 * GRAD,),
    "relu6_backward": (POSITIVE, 5 * GRAD),
    "hardswish": (3 * GRAD,),
    "hardswish_backward": (POSITIVE, 3 * GRAD),
    "log": (POSITIVE,),
    "log_backward": (GRAD, POSITIVE),
    "softmax": (GRAD,),
    "softmax_backward": (GRAD, ROWS),
    "log_softmax": (GRAD,),
    "log_softmax_backward": (GRAD, np.log(ROWS)),
    "cross_entropy": (GRAD, LABELS),
    "cross_entropy_backward": (GRAD, LABELS),
    "nll_loss": (np.log(ROWS), LABELS),
    "nll_loss_backward": (np.log(ROWS), LABELS),
    "binary_cross_entropy": (UNIT, ROWS),
    "binary_cross_entropy_backward": (UNIT, ROWS),
    "binary_cross_entropy_with_logits": (GRAD, ROWS),
    "binary_cross_entropy_with_logits_backward": (GRAD, ROWS),
    "mse_loss": (GRAD, ROWS),
    "mse_loss_backward": (GRAD, ROWS),
    "l1_loss": (GRAD, ROWS),
    "l1_loss_backward": (GRAD, ROWS),
    "huber_loss": (GRAD, ROWS),
    "huber_loss_backward": (GRAD, ROWS),
    "poisson_nll_loss": (GRAD, ROWS),
    "poisson_nll_loss_backward": (GRAD, ROWS),
    "batch_norm": (X, X[0], np.abs(X[1]), WEIGHT[:, 0], WEIGHT[:, 1], False, 0.1, 1e-3),
    "batch_norm_backward": (POOLED, POOLED[::-1] + POOLED**2, BIAS[:3], None, None, True, 1e-3),
    "dropout2d": (IMAGES, 0.3, 5, 2),
    "dropout2d_backward": (IMAGES, 0.3, 5, 2),
    "random_flip": (IMAGES, True, True, 5, 2),
    "random_flip_backward": (IMAGES, True, False, 5, 2),
    "random_shift": (IMAGES, (1, 3), 5, 2),
    "random_shift_backward": (IMAGES, (1, 3), 5, 2),
    "random_erase": (IMAGES, (2, 3), 0.8, 5, 2),
    "random_erase_backward": (IMAGES, (2, 3), 0.8, 5, 2),
    "random_rotation": (IMAGES, 40.0, 5, 2),
    "random_rotation_backward": (IMAGES, 40.0, 5, 2),
    "noise": (IMAGES, 0.3, 5, 2),
    "embedding": (np.arange(10).reshape(2, 5) % 3, WEIGHT),
    "embedding_backward": (IMAGES[0], np.arange(15).reshape(3, 5) % 4, 4),
    "zero_pad2d": (IMAGES, (1, 0, 2, 3)),
    "zero_pad2d_backward": (IMAGES, (1, 0, 2, 1)),
    "adaptive_avg_pool2d": (IMAGES, (5, 1)),
    "adaptive_avg_pool2d_backward": (POOLED[:, :, :1, :1], IMAGES.shape),
    "global_max_pool2d": (IMAGES,),
    "global_max_pool2d_backward": (POOLED[:, :, 0, 0], IMAGES),
    "max_pool1d": (IMAGES[0], 3, 2, 1, 2, True),
    "max_pool1d_backward": (IMAGES[0][:, :, :4], np.arange(60).reshape(3, 5, 4) % 7, IMAGES[0].shape),
    "avg_pool1d": (IMAGES[0], 3, 2, 1, True, False),
    "avg_pool1d_backward": (IMAGES[0][:, :, :4], IMAGES[0].shape, 3, 2, 1, False, False),
    "conv1d": (IMAGES[0], FILTERS[:, :, 0].repeat(5, axis=1), np.append(BIAS, 1), 2, 1, 2),
    "conv1d_backward": (RNG.normal(size=(3, 6, 4)), IMAGES[0], FILTERS[:, :, 0].repeat(5, axis=1), 2, 1, 2),
    "prelu": (IMAGES, BIAS[:3]),
    "prelu_backward": (IMAGES**2, IMAGES, BIAS[:3]),
    "layer_norm": (IMAGES, (5, 7), WEIGHT.T, WEIGHT.T, 1e-3),
    "layer_norm_backward": (IMAGES**2, IMAGES, (5, 7), WEIGHT.T, 1e-3),
    "dropout": (GRAD, 0.3, 5, 2),
    "dropout_backward": (GRAD, 0.3, 5, 2),
    "conv2d": (IMAGES, FILTERS, np.append(BIAS, 1), *SETTINGS),
    "conv2d_backward": (np.concatenate([POOLED, POOLED[::-1]], axis=1), IMAGES, FILTERS, *SETTINGS),
    "max_pool2d": (IMAGES, (3, 2), 2, 1, (1, 2), True),
    "max_pool2d_backward": (POOLED, PLACES, IMAGES.shape),
    "avg_pool2d": (IMAGES, 3, 2, 1, False, False),
    "avg_pool2d_backward": (POOLED, IMAGES.shape, 3, 2, 1, False, False),
    "global_avg_pool2d": (IMAGES,),
    "global_avg_pool2d_backward": (POOLED[:, :, 0, 0], IMAGES.shape),
}
LOSSES = [name for name in CALLS if "loss" in name or "entropy" in name]


def cast(arguments, dtype):
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_equals_its_reference_and_keeps_the_dtype(name, dtype):
    arguments = cast(CALLS[name], dtype)
    results, expected = as_tuple(getattr(F, name)(*arguments)), as_tuple(getattr(reference, name)(*arguments))
    assert len(results) == len(expected)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    for result, value in zip(results, expected, strict=True):
        assert np.shape(result) == np.shape(value)
        assert isinstance(result, float) or result.dtype == dtype
        np.testing.assert_allclose(result, value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_reduce_as_their_references(name, reduction):
    for target in [LABELS, ROWS] if name.startswith(("nll", "cross")) else [ROWS]:
        arguments = (CALLS[name][0], target, reduction)
        result, expected = getattr(F, name)(*arguments), getattr(reference, name)(*arguments)
        assert np.shape(result) == np.shape(expected)
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CALLS)
def test_has_the_signature_of_its_reference_and_n_threads(name):
    ours = inspect.signature(getattr(F, name)).parameters
    theirs = inspect.signature(getattr(reference, name)).parameters
    assert ours["n_threads"].kind is inspect.Parameter.KEYWORD_ONLY
    assert [(p.name, p.default) for p in ours.values() if p.name != "n_threads"] == [
        (p.name, p.default) for p in theirs.values()
    ]


def test_every_public_function_is_tested_here():
    public = {
        name
        for name, f in vars(F).items()
        if inspect.isfunction(f) and f.__module__.startswith(F.__name__) and not name.startswith("_")
    }
    assert public - {"cores", "cross_entropy_and_gradient"} == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_does_not_depend_on_the_number_of_threads(name):
    one, three = (as_tuple(getattr(F, name)(*CALLS[name], n_threads=n)) for n in (1, 3))
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [np.asfortranarray, lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: x[::-1][::-1]])
def test_takes_any_memory_layout(make):
    np.testing.assert_array_equal(F.linear(make(X), make(WEIGHT)), F.linear(X, WEIGHT))


def test_takes_read_only_and_foreign_endian_arrays_without_changing_them():
    frozen = X.astype("float32")
    frozen.flags.writeable = False
    before = frozen.copy()
    np.testing.assert_array_equal(F.relu(frozen), np.maximum(frozen, 0))
    np.testing.assert_array_equal(frozen, before)
    assert not frozen.flags.writeable
    np.testing.assert_array_equal(F.relu(X.astype(">f8")), np.maximum(X, 0))


def test_loss_and_gradient_at_once_are_those_of_the_two_functions():
    loss, grad = F.cross_entropy_and_gradient(GRAD, LABELS, "sum", 0.1)
    assert loss == F.cross_entropy(GRAD, LABELS, "sum", 0.1)
    np.testing.assert_array_equal(grad, F.cross_entropy_backward(GRAD, LABELS, "sum", 0.1))


def test_other_numbers_become_float32():
    for x in ([[1, -2]], np.array([[1, -2]], np.int8), np.array([[True, False]]), np.ones((1, 2), np.float16)):
        assert F.relu(x).dtype == np.float32


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one_row(rows):
    assert F.linear(X[:rows], WEIGHT, BIAS).shape == (rows, 5)
    assert F.softmax(GRAD[:rows]).shape == (rows, 5)
    grads = F.linear_backward(GRAD[:rows], X[:rows], WEIGHT)
    np.testing.assert_allclose(grads[1], X[:rows].T @ GRAD[:rows], rtol=1e-12, atol=1e-12)
    assert F.cross_entropy(GRAD[:rows], LABELS[:rows], "sum") >= 0


def test_empty_depth_gives_the_bias():
    np.testing.assert_array_equal(F.linear(np.empty((3, 0)), np.empty((0, 5)), BIAS), np.tile(BIAS, (3, 1)))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite(size):
    logits = np.array([[size, 0.0, -size], [0.0, 0.0, 0.0]])
    p = F.softmax(logits)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert np.isfinite(F.log_softmax(logits)).all()
    assert F.cross_entropy(logits, [0, 1]) == pytest.approx((max(0, -2 * size) + np.log(3)) / 2)
    assert np.isfinite(F.cross_entropy_backward(logits, [0, 1])).all()
    assert F.binary_cross_entropy_with_logits(np.array([size]), np.array([0.0])) == pytest.approx(max(size, 0))


BAD_CALLS = [
    ("linear", (X, WEIGHT.T), InvalidValueError, r"x has shape \(9, 7\); expected \(n, 5\)"),
    ("linear", (X[0], WEIGHT), InvalidValueError, r"x has shape \(7,\); expected 2 dimensions"),
    ("linear", (X, WEIGHT, BIAS[:3]), InvalidValueError, r"bias has shape \(3,\); expected \(5,\)"),
    ("matmul", (X, X), InvalidValueError, r"b has shape \(9, 7\); expected \(7, n\)"),
    ("matmul_backward", (GRAD[:3], X, WEIGHT), InvalidValueError, r"grad_out has shape \(3, 5\); expected \(9, 5\)"),
    ("relu", (np.array(["a"]),), InvalidTypeError, "x has dtype <U1; expected numbers"),
    ("relu", (X.astype(complex),), InvalidTypeError, "x has dtype complex128"),
    (
        "relu_backward",
        (X, GRAD),
        InvalidValueError,
        r"grad_out has shape \(9, 7\); expected \(9, 5\), the shape of out",
    ),
    ("leaky_relu", (X, "a"), InvalidTypeError, "negative_slope is 'a'; expected a number"),
    ("leaky_relu", (X, float("nan")), InvalidValueError, "negative_slope is nan; expected a finite number"),
    ("gelu", (X, "erf"), InvalidValueError, "approximate is 'erf'; expected one of 'none', 'tanh'"),
    ("softplus_backward", (X, X, -1.0), InvalidValueError, "beta is -1; expected more than 0"),
    (
        "prelu",
        (X, BIAS),
        InvalidValueError,
        r"weight has shape \(5,\); expected \(1,\) or \(7,\)",
    ),
    ("zero_pad2d_backward", (IMAGES, 3), InvalidValueError, r"expected images that hold a padding of 3"),
    ("adaptive_avg_pool2d", (IMAGES, 2), InvalidValueError, r"that output_size divides, which is \(2, 2\)"),
    ("global_max_pool2d", (IMAGES[:, :, :0],), InvalidValueError, r"x has shape \(2, 3, 0, 7\); expected a height"),
    ("prelu", (X, 0.25), InvalidValueError, r"weight has shape \(\); expected 1 dimension"),
    ("layer_norm", (X, 5), InvalidValueError, r"x has shape \(9, 7\); expected \(5,\) as its last axes"),
    ("layer_norm", (X, 7, BIAS), InvalidValueError, r"weight has shape \(5,\); expected \(7,\), the normalized_shape"),
    ("softmax", (np.empty((3, 0)),), InvalidValueError, r"x has shape \(3, 0\)"),
    ("softmax_backward", (GRAD, X), InvalidValueError, r"grad_out has shape \(9, 5\); expected \(9, 7\)"),
    ("cross_entropy", (GRAD, LABELS[:3]), InvalidValueError, r"target has shape \(3,\); expected \(9,\)"),
    ("cross_entropy", (GRAD, LABELS + 4), InvalidValueError, r"target holds the label \d; expected labels from 0 to 4"),
    (
        "cross_entropy",
        (GRAD, LABELS - 9),
        InvalidValueError,
        r"target holds the label -\d; expected labels from 0 to 4",
    ),
    ("cross_entropy", (GRAD, LABELS + 0.0), InvalidTypeError, "target has dtype float64; expected integer labels"),
    (
        "cross_entropy",
        (GRAD, X),
        InvalidValueError,
        r"target has shape \(9, 7\); expected \(9,\) for labels or \(9, 5\)",
    ),
    ("cross_entropy", (GRAD, LABELS, "avg"), InvalidValueError, "reduction is 'avg'; expected one of 'mean', 'sum'"),
    ("cross_entropy", (GRAD, LABELS, "mean", 1.0), InvalidValueError, "label_smoothing is 1; expected less than 1"),
    ("cross_entropy", (BIAS, LABELS), InvalidValueError, r"prediction has shape \(5,\); expected 2 dimensions"),
    (
        "mse_loss",
        (GRAD, X),
        InvalidValueError,
        r"target has shape \(9, 7\); expected \(9, 5\), the shape of prediction",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "error", "message"), BAD_CALLS)
def test_bad_arguments_are_named(name, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(F, name)(*arguments)


@pytest.mark.parametrize("n_threads", [0, -1, 1.5, True, "2"])
def test_bad_thread_counts_are_refused(n_threads):
    with pytest.raises(
        (InvalidValueError, InvalidTypeError), match="n_threads is .*; expected an integer of at least 1"
    ):
        F.relu(X, n_threads=n_threads)
