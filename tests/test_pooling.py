"""Pooling: every kind of window against the twins, gradients, layers, and what is refused."""

import itertools

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import functional as F
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import reference

DTYPES = ("float32", "float64")

KERNELS = (1, 2, 3, (3, 2), (1, 4))
STRIDES = (None, 1, (2, 3))
IMAGES = ((1, 1), (2, 2), (3, 5), (4, 9), (7, 4), (8, 8))


def every_kind_of_window(dilations):
    """Arguments of a pooling that fit an image: kernel, stride, padding, dilation, ceil mode, image."""
    found = []
    for kernel, stride, padded, dilation, ceil_mode, image in itertools.product(
        KERNELS, STRIDES, (False, True), dilations, (False, True), IMAGES
    ):
        sides = np.broadcast_to(kernel, 2)
        padding = tuple(int(side) // 2 for side in sides) if padded else 0
        span = np.broadcast_to(dilation, 2) * (sides - 1) + 1
        room = np.array(image) + 2 * np.broadcast_to(padding, 2) - span
        fits = (room >= 0).all() and (np.broadcast_to(dilation, 2) <= image).all()
        if fits:
            found.append((kernel, stride, padding, dilation, ceil_mode, image))
    return found


def with_ties(rng, *shape):
    """A number that comes twice in most windows, as a ReLU's zeros do, and a few NaNs."""
    x = rng.integers(-2, 3, shape).astype(float)
    x[rng.random(shape) < 0.02] = np.nan
    return x


def test_max_pooling_of_every_kind(rng):
    kinds = every_kind_of_window((1, 2, (1, 3)))
    assert len(kinds) > 400
    for number, (kernel, stride, padding, dilation, ceil_mode, image) in enumerate(kinds):
        x = with_ties(rng, 2, 3, *image).astype(DTYPES[number % 2])
        arguments = (x, kernel, stride, padding, dilation, ceil_mode, True)
        out, indices = F.max_pool2d(*arguments)
        expected, places = reference.max_pool2d(*arguments)
        where = f"{arguments[1:]} of {image}"
        np.testing.assert_array_equal(out, expected, where)
        np.testing.assert_array_equal(indices, places, where)
        assert (out.dtype, indices.dtype) == (x.dtype, np.int64)
        grad = rng.integers(-9, 10, out.shape).astype(x.dtype)  # sums of integers are exact
        expected = reference.max_pool2d_backward(grad, places, x.shape)
        np.testing.assert_array_equal(F.max_pool2d_backward(grad, indices, x.shape), expected, where)
        layer = ff.MaxPool2d(*arguments[1:-1])
        np.testing.assert_array_equal(layer.forward(x), out, where)
        np.testing.assert_array_equal(layer.backward(grad), expected, where)


def test_average_pooling_of_every_kind(rng):
    kinds = every_kind_of_window((1,))
    assert len(kinds) > 200
    for number, (kernel, stride, padding, _, ceil_mode, image) in enumerate(kinds):
        x = rng.normal(size=(2, 3, *image)).astype(DTYPES[number % 2])
        for count_include_pad in (False, True):
            arguments = (kernel, stride, padding, ceil_mode, count_include_pad)
            tolerance, where = 16 * np.finfo(x.dtype).eps, f"{arguments} of {image}"
            out, expected = F.avg_pool2d(x, *arguments), reference.avg_pool2d(x, *arguments)
            np.testing.assert_allclose(out, expected, tolerance, tolerance, err_msg=where)
            grad = rng.normal(size=out.shape).astype(x.dtype)
            grad_x = F.avg_pool2d_backward(grad, x.shape, *arguments)
            expected = reference.avg_pool2d_backward(grad, x.shape, *arguments)
            np.testing.assert_allclose(grad_x, expected, tolerance, tolerance, err_msg=where)
            assert out.dtype == grad_x.dtype == x.dtype


def test_average_counts_padding_or_not_and_never_what_hangs_over():
    x = np.ones((1, 1, 3, 3))
    np.testing.assert_allclose(F.avg_pool2d(x, 2, 2, 1)[0, 0], [[1 / 4, 1 / 2], [1 / 2, 1]])
    np.testing.assert_array_equal(F.avg_pool2d(x, 2, 2, 1, False, False), np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(F.avg_pool2d(x, 2, 2, 0, True, True), np.ones((1, 1, 2, 2)))


def test_a_window_of_minus_infinities_or_beside_padding_has_its_maximum_inside():
    out, indices = F.max_pool2d(np.full((1, 1, 3, 3), -np.inf), 3, 2, 1, return_indices=True)
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 2), -np.inf))
    np.testing.assert_array_equal(indices[0, 0], [[0, 1], [3, 4]])
    np.testing.assert_array_equal(F.max_pool2d(np.full((1, 1, 2, 2), -5.0), 3, 1, 1), np.full((1, 1, 2, 2), -5))


def test_global_average_of_known_images():
    x = np.arange(24.0).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(F.global_avg_pool2d(x), [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]])
    grad = F.global_avg_pool2d_backward(np.array([[4.0, 8.0]]), (1, 2, 2, 2))
    np.testing.assert_array_equal(grad, np.repeat([1.0, 2.0], 4).reshape(1, 2, 2, 2))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)])
def test_no_samples_or_no_channels(shape):
    for out in (F.max_pool2d(np.empty(shape), 2), F.avg_pool2d(np.empty(shape), 2)):
        assert out.shape == (*shape[:2], 2, 2)
    assert F.global_avg_pool2d(np.empty(shape)).shape == shape[:2]


def test_shapes_of_a_small_network():
    model = ff.Sequential(ff.MaxPool2d(2), ff.AvgPool2d(3, 1, 1), ff.GlobalAvgPool2d(), ff.Linear(3, 2), seed=0)
    assert model.forward(np.ones((4, 3, 9, 8))).shape == (4, 2)
    assert ff.MaxPool2d(2).output_shape((3, 9, 8)) == (3, 4, 4)
    assert ff.AvgPool2d(3, 1, 1).output_shape((3, 4, 4)) == (3, 4, 4)
    assert ff.GlobalAvgPool2d().output_shape((3, 4, 4)) == (3,)


def test_repr_leaves_out_what_is_the_default():
    assert repr(ff.MaxPool2d(2)) == "MaxPool2d(kernel_size=2)"
    assert repr(ff.MaxPool2d((3, 2), 2, 1, 2, True)) == (
        "MaxPool2d(kernel_size=[3, 2], stride=2, padding=1, dilation=2, ceil_mode=True)"
    )
    assert repr(ff.AvgPool2d(2, 2, count_include_pad=False)) == "AvgPool2d(kernel_size=2, count_include_pad=False)"


X, GRAD = np.ones((2, 3, 5, 7)), np.ones((2, 3, 2, 3))
PLACES = np.zeros(GRAD.shape, int)
BAD_CALLS = [
    (lambda: F.max_pool2d(X[0], 2), InvalidValueError, r"x has shape \(3, 5, 7\); expected 4 dimensions"),
    (lambda: F.max_pool2d(X, 0), InvalidValueError, "kernel_size is 0; expected an integer of at least 1"),
    (lambda: F.max_pool2d(X, 2.0), InvalidTypeError, "kernel_size is 2.0; expected an integer"),
    (lambda: F.max_pool2d(X, (2, 2, 2)), InvalidValueError, r"kernel_size is \(2, 2, 2\); expected an integer, or"),
    (lambda: F.max_pool2d(X, (2, -1)), InvalidValueError, r"kernel_size\[1\] is -1; expected an integer of at least 1"),
    (lambda: F.max_pool2d(X, 2, 0), InvalidValueError, "stride is 0"),
    (lambda: F.max_pool2d(X, 2, 2, -1), InvalidValueError, "padding is -1; expected an integer of at least 0"),
    (lambda: F.max_pool2d(X, 3, 2, 2), InvalidValueError, r"padding is \(2, 2\); expected at most half of kernel_size"),
    (lambda: F.max_pool2d(X, 3, 2, 1, 0), InvalidValueError, "dilation is 0"),
    (lambda: F.max_pool2d(X, 6), InvalidValueError, r"\(2, 3, 5, 7\); its height of 5 is too small for kernel_size"),
    (lambda: F.max_pool2d(X, 3, 1, 0, (1, 4)), InvalidValueError, "its width of 7 is too small"),
    # Its one window would hold padding only, two columns left and right of the image.
    (lambda: F.max_pool2d(X, 2, 1, 1, (1, 8)), InvalidValueError, "its width of 7 is too small"),
    (lambda: F.avg_pool2d(X[:, :, :0], 2, 1, 1), InvalidValueError, "its height of 0 is too small"),
    (lambda: F.avg_pool2d(X, 8), InvalidValueError, "its height of 5 is too small"),
    (lambda: F.global_avg_pool2d(X[..., :0]), InvalidValueError, "expected images of at least one element"),
    (
        lambda: F.max_pool2d_backward(GRAD, PLACES[:1], X.shape),
        InvalidValueError,
        r"indices has shape \(1, 3, 2, 3\); expected \(2, 3, 2, 3\), the shape of grad_out",
    ),
    (lambda: F.max_pool2d_backward(GRAD, PLACES - 1, X.shape), InvalidValueError, "indices holds places from -1 to -1"),
    (lambda: F.max_pool2d_backward(GRAD, PLACES + 35, X.shape), InvalidValueError, "expected them from 0 to 34"),
    (lambda: F.max_pool2d_backward(GRAD, GRAD, X.shape), InvalidTypeError, "indices has dtype float64"),
    (lambda: F.max_pool2d_backward(GRAD, PLACES, (2, 4, 5, 7)), InvalidValueError, r"grad_out has shape .* \(2, 4, …"),
    (lambda: F.max_pool2d_backward(GRAD, PLACES, 5), InvalidTypeError, "x_shape is 5; expected four integers"),
    (lambda: F.max_pool2d_backward(GRAD, PLACES, (2, 3)), InvalidValueError, r"x_shape is \(2, 3\); expected four"),
    (
        lambda: F.avg_pool2d_backward(GRAD, X.shape, 3),
        InvalidValueError,
        r"grad_out has shape \(2, 3, 2, 3\); expected \(2, 3, 1, 2\)",
    ),
    (lambda: F.global_avg_pool2d_backward(GRAD, X.shape), InvalidValueError, r"grad_out has shape .* \(2, 3\)"),
    (lambda: ff.MaxPool2d(2, padding=2), InvalidValueError, "padding is"),
    (lambda: ff.AvgPool2d("a"), InvalidTypeError, "kernel_size is 'a'"),
    (lambda: ff.MaxPool2d(2).output_shape((5, 7)), InvalidValueError, r"MaxPool2d\(kernel_size=2\) got samples of"),
    (lambda: ff.GlobalAvgPool2d().output_shape((5,)), InvalidValueError, r"expected \(channels, height, width\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_layers_gradient_has_the_shape_of_its_output():
    layer = ff.MaxPool2d(2)
    layer.forward(X)
    with pytest.raises(InvalidValueError, match=r"grad_out has shape \(2, 3, 5, 7\); expected \(2, 3, 2, 3\)"):
        layer.backward(X)
