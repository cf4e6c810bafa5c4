"""The exercise's notebook on convolution: its printed shapes and figures, and its logistic regression done right.

The notebook's functions are written out here as it has them, the plain loops as well as the two wrong lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastfnn as ff
from fastfnn import functional

Array = NDArray[Any]

# As the notebook has them --------------------------------------------------------------------------------------------


def max_pooling(x: Array, kernel_size: int, stride: int) -> Array:
    n, c, h, w = x.shape
    out = np.zeros((n, c, (h - kernel_size) // stride + 1, (w - kernel_size) // stride + 1))
    for i, j in np.ndindex(out.shape[2:]):
        rows, columns = slice(i * stride, i * stride + kernel_size), slice(j * stride, j * stride + kernel_size)
        out[:, :, i, j] = np.max(x[:, :, rows, columns], axis=(2, 3))
    return out


def conv(x: Array, kernel: Array, bias: Array, stride: int = 2, padding: int = 1) -> Array:
    (n, _, h, w), (filters, _, kh, kw) = x.shape, kernel.shape
    out = np.zeros((n, filters, (h - kh + 2 * padding) // stride + 1, (w - kw + 2 * padding) // stride + 1))
    x_pad = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    for i, j, k in np.ndindex(*out.shape[2:], filters):
        window = x_pad[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
        out[:, k, i, j] = np.sum(window * kernel[k], axis=(1, 2, 3))
    return out + bias.reshape(1, -1, 1, 1)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def sigmoid_grad(z: Array) -> Array:
    return sigmoid(z) * (1 - sigmoid(z))


def cross_entropy_grad(y: Array, p: Array) -> Array:
    """The notebook's: it is the loss, not its gradient."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def wrong_gradients(x: Array, y: Array, y_hat: Array) -> tuple[Array, Array]:
    """The notebook's: the loss for a gradient, times the derivative of a sigmoid at the sigmoid."""
    grad_z = cross_entropy_grad(y, y_hat) * sigmoid_grad(y_hat)
    return x.T @ grad_z, grad_z.sum(axis=0)


# What it prints -----------------------------------------------------------------------------------------------------


def test_max_pooling_gives_the_printed_shape_and_the_loops_maxima(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 3, 3))
    out = functional.max_pool2d(x, kernel_size=2, stride=1)
    assert out.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(out, max_pooling(x, 2, 1))
    np.testing.assert_array_equal(ff.MaxPool2d(2, 1).forward(x.astype("float32")), out.astype("float32"))


def test_convolution_gives_the_printed_shape_and_the_loops_sums(rng: np.random.Generator) -> None:
    x, kernel, bias = rng.normal(size=(2, 3, 4, 4)), rng.normal(size=(3, 3, 3, 3)), rng.normal(size=3)
    out = functional.conv2d(x, kernel, bias, stride=2, padding=1)
    assert out.shape == (2, 3, 2, 2)
    np.testing.assert_allclose(out, conv(x, kernel, bias, stride=2, padding=1), rtol=1e-12, atol=1e-13)
    layer = ff.Conv2d(3, 3, 3, stride=2, padding=1)
    layer.build(rng, "float64")
    layer.params["weight"][...], layer.params["bias"][...] = kernel, bias
    np.testing.assert_array_equal(layer.forward(x), out)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 2), (2, 1), (3, 0)])
def test_both_equal_the_loops_on_digits_too(images: tuple[Array, ...], stride: int, padding: int) -> None:
    x, rng = images[0][:4, None] / 255, np.random.default_rng(0)
    kernel, bias = rng.normal(size=(6, 1, 5, 5)), rng.normal(size=6)
    out = functional.conv2d(x, kernel, bias, stride, padding)
    np.testing.assert_allclose(out, conv(x, kernel, bias, stride, padding), rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(functional.max_pool2d(out, 2, stride), max_pooling(out, 2, stride))


def test_binary_cross_entropy_relu_and_sigmoid_give_the_printed_figures() -> None:
    y, y_hat = np.array([1, 0, 1, 1]), np.array([0.9, 0.1, 0.8, 0.7])
    assert functional.binary_cross_entropy(y_hat, y) == pytest.approx(0.19763488164214868, rel=1e-14)
    np.testing.assert_array_equal(functional.relu(np.array([-1, 1, 2])), [0, 1, 2])
    x = np.linspace(-5, 5, 11)
    np.testing.assert_allclose(functional.sigmoid(x), sigmoid(x), rtol=1e-13)


# Logistic regression ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images() -> tuple[Array, ...]:
    """The sample's zeros and ones: images and labels to train with, images and labels to test with; uint8."""
    parts: list[Array] = []
    for x, y in ff.data.load_mnist_sample():
        parts += [x[y < 2], y[y < 2]]
    return tuple(parts)


def flat(x: Array) -> Array:
    return x.reshape(len(x), -1) / 255


def right_gradients(x: Array, y: Array, y_hat: Array) -> tuple[Array, Array]:
    """Function by function; together the first two are (ŷ - y) / n."""
    grad_z = functional.sigmoid_backward(functional.binary_cross_entropy_backward(y_hat, y), y_hat)
    _, grad_w, grad_b = functional.linear_backward(grad_z, x, np.empty((x.shape[1], 1)))
    return grad_w, grad_b


def learn(gradients: Any, x: Array, y: Array, *, lr: float, epochs: int) -> tuple[Array, Array, list[float]]:
    """The notebook's loop: weight, bias, and the loss before every update."""
    w, b, losses = np.zeros((x.shape[1], 1)), np.zeros(1), []
    for _ in range(epochs):
        y_hat = functional.sigmoid(functional.linear(x, w, b))
        losses.append(functional.binary_cross_entropy(y_hat, y))
        grad_w, grad_b = gradients(x, y, y_hat)
        w -= lr * grad_w
        b -= lr * grad_b
    return w, b, losses


def accuracy(w: Array, b: Array, x: Array, y: Array) -> float:
    return float(np.mean((functional.linear(x, w, b)[:, 0] > 0) == y))


def test_the_derivative_of_a_sigmoid_is_taken_of_its_argument() -> None:
    z = np.linspace(-3, 3, 13)
    y_hat, step = functional.sigmoid(z), 1e-6
    slope = (functional.sigmoid(z + step) - functional.sigmoid(z - step)) / (2 * step)
    np.testing.assert_allclose(functional.sigmoid_backward(np.ones(13), y_hat), slope, rtol=1e-8)
    np.testing.assert_allclose(sigmoid_grad(z), slope, rtol=1e-8)
    assert np.abs(sigmoid_grad(y_hat) - slope).min() > 0  # as the notebook's backward calls it
    assert np.abs(sigmoid_grad(y_hat) - slope).max() > 0.1


def test_the_gradient_for_the_logits_is_prediction_minus_truth_over_n(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(20, 6)), rng.integers(0, 2, (20, 1)).astype(float)
    w, b = rng.normal(size=(6, 1)), rng.normal(size=1)
    y_hat = functional.sigmoid(functional.linear(x, w, b))
    error = (y_hat - y) / len(x)
    grad_w, grad_b = right_gradients(x, y, y_hat)
    np.testing.assert_allclose(grad_w, x.T @ error, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(grad_b, error.sum(axis=0), rtol=1e-10)
    logits = functional.linear(x, w, b)
    np.testing.assert_allclose(functional.binary_cross_entropy_with_logits_backward(logits, y), error, rtol=1e-10)
    np.testing.assert_allclose(cross_entropy_grad(y, y_hat), functional.binary_cross_entropy(y_hat, y, "none"))


def test_zeros_and_ones_are_learnt_with_the_right_gradient(images: tuple[Array, ...]) -> None:
    x, y, x_test, y_test = images
    w, b, losses = learn(right_gradients, flat(x), y[:, None].astype(float), lr=0.5, epochs=30)
    assert losses[0] == pytest.approx(np.log(2))
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < 0.1
    assert accuracy(w, b, flat(x_test), y_test) > 0.98


def test_with_the_notebooks_gradient_every_weight_only_sinks(images: tuple[Array, ...]) -> None:
    """Its factors are never negative, nor are the pixels: soon every image is a zero."""
    x, y, x_test, y_test = images
    w, b, losses = learn(wrong_gradients, flat(x), y[:, None].astype(float), lr=0.5 / len(x), epochs=30)
    assert (w <= 0).all() and (b < 0).all()
    assert losses[-1] > losses[0]
    assert accuracy(w, b, flat(x_test), y_test) == np.mean(y_test == 0) < 0.6


def test_the_layers_learn_them_too(images: tuple[Array, ...]) -> None:
    x, y, x_test, y_test = images
    model = ff.Sequential(ff.Flatten(), ff.Normalize(scale=1 / 255), ff.Linear(784, 1), seed=0)
    loss, optimizer = ff.BCEWithLogitsLoss(), ff.SGD(lr=0.1)
    history = ff.fit(
        model, x, y[:, None].astype("float32"), loss=loss, optimizer=optimizer, epochs=5, seed=0, progress=False
    )
    assert history.loss[-1] < 0.1
    assert np.mean((ff.predict_raw(model, x_test)[:, 0] > 0) == y_test) > 0.98
