"""The references' gradients against central differences, and values known in closed form. All in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastfnn_kernels import reference as ref

Array = NDArray[np.float64]
Rng = np.random.Generator

REDUCTIONS = ("mean", "sum", "none")
STEP = 1e-5


def numeric_gradient(function: Callable[[Array], Any], x: Array, upstream: Any) -> Array:
    """Central differences of ``Σ upstream · function(x)``."""
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[place] += STEP
        below[place] -= STEP
        gradient[place] = np.sum(upstream * (function(above) - function(below))) / (2 * STEP)
    return gradient


def assert_is_gradient(got: Any, function: Callable[[Array], Any], x: Array, upstream: Any = 1.0) -> None:
    want = numeric_gradient(function, x, upstream)
    assert np.abs(want).max() > 1e-3, "a gradient of zero would prove nothing"
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def off_zero(rng: Rng, *shape: int) -> Array:
    """Both signs, nothing near 0, where ReLU has its kink."""
    return rng.choice([-1, 1], shape) * rng.uniform(0.1, 2, shape)


def labels(rng: Rng, n: int, classes: int) -> Any:
    return np.concatenate([[0, classes - 1], rng.integers(0, classes, n - 2)])


def one_hot(rng: Rng, n: int, classes: int) -> Any:
    return np.eye(classes)[labels(rng, n, classes)]


def probabilities(rng: Rng, n: int, classes: int) -> Any:
    q = rng.random((n, classes))
    return q / q.sum(axis=1, keepdims=True)


def weights(rng: Rng, n: int, classes: int) -> Any:
    """Rows that do not sum to 1."""
    return rng.random((n, classes))


TARGETS = [labels, one_hot, probabilities, weights]

FROM_INPUT = {
    "leaky_relu": lambda g, x: ref.leaky_relu_backward(g, x, 0.01),
    "log": ref.log_backward,
    **{
        name: getattr(ref, f"{name}_backward")
        for name in ("elu", "gelu", "gelu_tanh", "hardswish", "relu6", "selu", "silu", "softplus")
    },
}
FROM_OUTPUT = {
    "relu": ref.relu_backward,
    "sigmoid": ref.sigmoid_backward,
    "tanh": ref.tanh_backward,
    "softmax": ref.softmax_backward,
    "log_softmax": ref.log_softmax_backward,
}
ELEMENT_LOSSES: dict[str, Any] = {
    "bce": (ref.bce_losses, ref.bce_gradient, ref.binary_cross_entropy, ref.binary_cross_entropy_backward),
    "bce_with_logits": (
        ref.bce_with_logits_losses,
        ref.bce_with_logits_gradient,
        ref.binary_cross_entropy_with_logits,
        ref.binary_cross_entropy_with_logits_backward,
    ),
    "mse": (ref.mse_losses, ref.mse_gradient, ref.mse_loss, ref.mse_loss_backward),
    "l1": (ref.l1_losses, ref.l1_gradient, ref.l1_loss, ref.l1_loss_backward),
    "huber": (
        partial(ref.huber_losses, delta=0.3),
        partial(ref.huber_gradient, delta=0.3),
        partial(ref.huber_loss, delta=0.3),
        partial(ref.huber_loss_backward, delta=0.3),
    ),
    "poisson_nll": (
        ref.poisson_nll_losses,
        ref.poisson_nll_gradient,
        ref.poisson_nll_loss,
        ref.poisson_nll_loss_backward,
    ),
}
#: Every gradient in the references; each is named in a test of this file.
CHECKED = {
    *(f"random_{change}_backward" for change in ("flip", "shift", "erase", "rotation")),
    "rotate_images_backward",
    *("max_pool1d_backward", "avg_pool1d_backward"),
    *(f"{name}_backward" for name in (*FROM_INPUT, *FROM_OUTPUT, "matmul", "linear", "nll_loss", "cross_entropy")),
    *(getattr(each, "func", each).__name__ for functions in ELEMENT_LOSSES.values() for each in functions[1::2]),
    *("nll_gradient", "linear_backward_input", "linear_backward_weight"),
    *(f"batch_norm_backward{piece}" for piece in ("", "_sums", "_combine", "_coefficients", "_apply")),
    "dropout_backward",
    *("conv1d_backward", "adaptive_avg_pool2d_backward", "global_max_pool2d_backward"),
    *("dropout2d_backward", "pad_planes_backward", "zero_pad2d_backward"),
    *("embedding_backward", "look_up_backward"),
    *("prelu_backward", "prelu_rows_backward", "prelu_backward_weight"),
    *(f"layer_norm_{piece}" for piece in ("backward", "rows_backward", "backward_weight")),
    "scaled_elu_backward",
    "sparse_backward_weight",
    "marked_backward_weight",
    *(f"conv2d_{piece}" for piece in ("backward", "fused_backward", "fused_backward_weight")),
    *(f"{kind}_pool{suffix}_backward" for kind in ("max", "avg") for suffix in ("", "2d")),
    "global_avg_pool2d_backward",
}


def test_every_gradient_of_the_references_is_checked_here() -> None:
    assert {name for name in dir(ref) if "_backward" in name or name.endswith("_gradient")} == CHECKED


@pytest.mark.parametrize("name", [*FROM_INPUT, *FROM_OUTPUT])
def test_activations(name: str, rng: Rng) -> None:
    forward = getattr(ref, name)
    x = rng.uniform(0.2, 3, (4, 5)) if name == "log" else off_zero(rng, 4, 5)
    upstream = rng.normal(size=x.shape)
    got = FROM_INPUT[name](upstream, x) if name in FROM_INPUT else FROM_OUTPUT[name](upstream, forward(x))
    assert_is_gradient(got, forward, x, upstream)


def test_gelu_by_tanh_is_close_to_gelu(rng: Rng) -> None:
    x = np.linspace(-6, 6, 1001)
    np.testing.assert_allclose(ref.gelu(x, "tanh"), ref.gelu(x), atol=5e-4)
    np.testing.assert_array_equal(ref.gelu_backward(x, x, "tanh"), ref.gelu_tanh_backward(x, x))


def test_scaled_elu(rng: Rng) -> None:
    x, upstream = off_zero(rng, 4, 5), rng.normal(size=(4, 5))
    got = ref.scaled_elu_backward(upstream, x, 0.7, 1.3)
    assert_is_gradient(got, lambda x: ref.scaled_elu(x, 0.7, 1.3), x, upstream)


def test_products(rng: Rng) -> None:
    a, b, upstream = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    grad_a, grad_b = ref.matmul_backward(upstream, a, b)
    assert_is_gradient(grad_a, lambda a: ref.matmul(a, b), a, upstream)
    assert_is_gradient(grad_b, lambda b: ref.matmul(a, b), b, upstream)


def test_the_affine_layer(rng: Rng) -> None:
    x, weight, bias = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=5)
    upstream = rng.normal(size=(4, 5))
    grad_x, grad_weight, grad_bias = ref.linear_backward(upstream, x, weight)
    assert_is_gradient(grad_x, lambda x: ref.linear(x, weight, bias), x, upstream)
    assert_is_gradient(grad_weight, lambda weight: ref.linear(x, weight, bias), weight, upstream)
    assert_is_gradient(grad_bias, lambda bias: ref.linear(x, weight, bias), bias, upstream)
    np.testing.assert_allclose(ref.linear_backward_input(upstream, weight), grad_x, rtol=1e-13)
    np.testing.assert_allclose(ref.column_sum(np.empty(5), upstream), grad_bias, rtol=1e-13)


def test_the_affine_layer_behind_a_relu_gives_the_gradient_for_the_relus_input(rng: Rng) -> None:
    before, weight, upstream = off_zero(rng, 4, 3), rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    got = ref.linear_backward_input(upstream, weight, ref.relu(before))
    assert_is_gradient(got, lambda before: ref.linear(ref.relu(before), weight), before, upstream)


def test_a_scaled_accumulated_weight_gradient_is_a_step_downhill(rng: Rng) -> None:
    x, weight, upstream = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    stepped = ref.linear_backward_weight(weight, upstream, x, -0.1, True)
    assert_is_gradient((weight - stepped) / 0.1, lambda weight: ref.linear(x, weight), weight, upstream)
    plain = ref.linear_backward_weight(np.full_like(weight, np.nan), upstream, x)
    assert_is_gradient(plain, lambda weight: ref.linear(x, weight), weight, upstream)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ELEMENT_LOSSES)
def test_losses_of_single_elements(name: str, reduction: str, rng: Rng) -> None:
    losses, gradient, loss, backward = ELEMENT_LOSSES[name]
    prediction = rng.uniform(0.1, 0.9, (4, 3)) if name == "bce" else 2 * rng.normal(size=(4, 3))
    target = rng.random((4, 3))
    target[0] = 0, 1, 0.5
    upstream = rng.normal(size=(4, 3))
    assert_is_gradient(gradient(prediction, target, 1.0) * upstream, lambda p: losses(p, target), prediction, upstream)
    np.testing.assert_allclose(gradient(prediction, target, -0.3), -0.3 * gradient(prediction, target, 1.0), rtol=1e-13)
    got = backward(prediction, target, reduction)
    assert_is_gradient(got, lambda p: np.sum(loss(p, target, reduction)), prediction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("make_target", TARGETS)
def test_nll(make_target: Callable[..., Any], reduction: str, rng: Rng) -> None:
    log_p, target = -rng.uniform(0.1, 4, (5, 3)), make_target(rng, 5, 3)
    got = ref.nll_loss_backward(log_p, target, reduction)
    assert_is_gradient(got, lambda p: np.sum(ref.nll_loss(p, target, reduction)), log_p)
    assert_is_gradient(ref.nll_gradient(log_p, target, 0.7), lambda p: 0.7 * ref.nll_losses(p, target).sum(), log_p)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("make_target", TARGETS)
def test_cross_entropy(make_target: Callable[..., Any], reduction: str, label_smoothing: float, rng: Rng) -> None:
    logits, target = 2 * rng.normal(size=(5, 3)), make_target(rng, 5, 3)
    got = ref.cross_entropy_backward(logits, target, reduction, label_smoothing)
    loss = lambda z: np.sum(ref.cross_entropy(z, target, reduction, label_smoothing))  # noqa: E731
    assert_is_gradient(got, loss, logits)
    losses, grad = ref.softmax_cross_entropy(logits, target, 0.7, label_smoothing)
    assert_is_gradient(grad, lambda z: 0.7 * ref.softmax_cross_entropy(z, target, 1.0, label_smoothing)[0], logits)
    np.testing.assert_allclose(np.sum(losses) / (5 if reduction == "mean" else 1), loss(logits), rtol=1e-13)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_is_nll_of_log_softmax(label_smoothing: float, rng: Rng) -> None:
    logits, target = 2 * rng.normal(size=(5, 3)), labels(rng, 5, 3)
    smoothed = (1 - label_smoothing) * np.eye(3)[target] + label_smoothing / 3
    want = ref.nll_loss(ref.log_softmax(logits), smoothed)
    np.testing.assert_allclose(ref.cross_entropy(logits, target, "mean", label_smoothing), want, rtol=1e-13)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (11, 2, 3, 2)])
def test_batch_normalisation(shape: tuple[int, ...], training: bool, rng: Rng) -> None:
    """As a whole; and in pieces, which must come to the same."""
    x, upstream = 2 * rng.normal(size=shape) + 1, rng.normal(size=shape)
    channels = shape[1]
    weight, bias, mean, variance = rng.normal(size=(4, channels))
    variance = np.abs(variance) + 0.5

    def forward(x: Array, weight: Array, bias: Array) -> Array:
        return ref.batch_norm(x, mean.copy(), variance.copy(), weight, bias, training, eps=0.1)

    grad_x, grad_weight, grad_bias = ref.batch_norm_backward(upstream, x, weight, mean, variance, training, 0.1)
    assert_is_gradient(grad_x, lambda x: forward(x, weight, bias), x, upstream)
    assert_is_gradient(grad_weight, lambda weight: forward(x, weight, bias), weight, upstream)
    assert_is_gradient(grad_bias, lambda bias: forward(x, weight, bias), bias, upstream)

    images, grads = x.reshape(shape[0], channels, -1), upstream.reshape(shape[0], channels, -1)
    spatial = images.shape[2]
    if training:
        mean, variance = ref.batch_norm_combine(ref.batch_norm_moments(images), shape[0], spatial)
    coefficients = ref.batch_norm_coefficients(mean, variance, weight, bias, 0.1)
    out = ref.batch_norm_apply(images, *coefficients)
    np.testing.assert_allclose(out.reshape(shape), forward(x, weight, bias), rtol=1e-12, atol=1e-13)
    sums = ref.batch_norm_backward_combine(ref.batch_norm_backward_sums(grads, images, mean, variance, 0.1))
    np.testing.assert_allclose(sums, (grad_bias, grad_weight), rtol=1e-12, atol=1e-13)
    arguments = (mean, variance, weight, *sums, shape[0] * spatial, training, 0.1)
    got = ref.batch_norm_backward_apply(grads, images, *ref.batch_norm_backward_coefficients(*arguments))
    np.testing.assert_allclose(got.reshape(shape), grad_x, rtol=1e-11, atol=1e-12)


def test_dropout(rng: Rng) -> None:
    x, upstream = rng.normal(size=(6, 7)), rng.normal(size=(6, 7))
    assert_is_gradient(ref.dropout_backward(upstream, 0.4, 3, 2), lambda x: ref.dropout(x, 0.4, 3, 2), x, upstream)


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "settings"),
    [
        ((2, 2, 4, 5), (3, 2, 3, 2), (1, 0, 1, 1)),
        ((2, 4, 5, 4), (6, 2, 2, 3), ((2, 1), (1, 2), (1, 2), 2)),
        ((1, 3, 8, 8), (3, 1, 2, 2), (3, 1, 1, 3)),
    ],
)
def test_convolution(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], settings: Any, rng: Rng) -> None:
    """Alone, and with the ReLU and the pooling that the kernels do in the same pass."""
    arrays = [rng.normal(size=shape) for shape in (x_shape, weight_shape, weight_shape[:1])]
    x, weight, _ = arrays

    def assert_are_gradients(grads: Any, forward: Callable[..., Array], upstream: Array) -> None:
        for place, grad in enumerate(grads):
            before, after = arrays[:place], arrays[place + 1 :]
            assert_is_gradient(grad, lambda a, b=before, c=after: forward(*b, a, *c), arrays[place], upstream)

    upstream = rng.normal(size=ref.conv2d(*arrays, *settings).shape)
    grads = ref.conv2d_backward(upstream, x, weight, *settings)
    assert_are_gradients(grads, lambda *arrays: ref.conv2d(*arrays, *settings), upstream)
    for after in range(4):
        forward = lambda *arrays, after=after: ref.conv2d_fused(*arrays, *settings, after)[0]  # noqa: E731
        out, index = ref.conv2d_fused(*arrays, *settings, after)
        upstream = rng.normal(size=out.shape)
        saved = (upstream, x, weight, out, index, *settings, after)
        grads = ref.conv2d_fused_backward(*saved)
        assert_are_gradients(grads, forward, upstream)
        no_grad_x, *others = ref.conv2d_fused_backward_weight(*saved)
        assert no_grad_x.size == 0
        for got, want in zip(others, grads[1:], strict=True):
            np.testing.assert_array_equal(got, want)


def test_pooling(rng: Rng) -> None:
    """Overlapping, padded and dilated windows; the kernels' twins, which take sizes, come to the same."""
    x = rng.permutation(2 * 2 * 5 * 6).reshape(2, 2, 5, 6) / 10  # no two elements are near each other
    window, dilation = ((3, 2), (2, 1), (1, 1)), (1, 2)
    out, index = ref.max_pool2d(x, *window, dilation, return_indices=True)
    upstream = rng.normal(size=out.shape)
    got = ref.max_pool2d_backward(upstream, index, x.shape)
    assert_is_gradient(got, lambda x: ref.max_pool2d(x, *window, dilation), x, upstream)
    sizes = (5, 6, *out.shape[2:], *itertools.chain(*window, dilation))
    np.testing.assert_array_equal(ref.max_pool_backward(upstream, index, sizes), got)
    for counts in (True, False):
        upstream = rng.normal(size=ref.avg_pool2d(x, *window, False, counts).shape)
        got = ref.avg_pool2d_backward(upstream, x.shape, *window, False, counts)
        assert_is_gradient(got, lambda x, c=counts: ref.avg_pool2d(x, *window, False, c), x, upstream)
        sizes = (5, 6, *upstream.shape[2:], *itertools.chain(*window), 1, 1)
        np.testing.assert_array_equal(ref.avg_pool_backward(upstream, sizes, counts), got)
    upstream = rng.normal(size=(2, 2))
    got = ref.global_avg_pool2d_backward(upstream, x.shape)
    assert_is_gradient(got, ref.global_avg_pool2d, x, upstream)


def test_a_product_with_a_sparse_matrix(rng: Rng) -> None:
    x = np.round(rng.normal(size=(5, 70))) * (rng.random((5, 70)) < 0.3)
    weight, bias, upstream = rng.normal(size=(70, 3)), rng.normal(size=3), rng.normal(size=(5, 3))
    starts = np.cumsum([0, *np.count_nonzero(x, axis=1)])
    empty = np.zeros((5, 70)), np.zeros((5, 70), np.int64), np.zeros(5, np.int64)
    lists = ref.csr_nonzeros(*empty, starts, np.nonzero(x)[1], x[x != 0])
    forward = lambda weight: ref.sparse_linear(*lists, weight, bias, 0.3)  # noqa: E731
    np.testing.assert_allclose(forward(weight), (x + 0.3) @ weight + bias, rtol=1e-12)
    got = ref.sparse_backward_weight(np.zeros_like(weight), *lists, upstream, 0.3)
    assert_is_gradient(got, forward, weight, upstream)


def test_a_product_with_marks(rng: Rng) -> None:
    x = np.round(rng.normal(size=(5, 70))) * (rng.random((5, 70)) < 0.3) + 2
    weight, bias, upstream = rng.normal(size=(70, 3)), rng.normal(size=3), rng.normal(size=(5, 3))
    numbers, marks = ref.mark_nonzeros(x, np.zeros((1, 2, 64), np.int64), x, zero=2.0, factor=0.5)
    np.testing.assert_array_equal(numbers, (x - 2) / 2)
    bits = [[int(marks[0, k // 64, i]) >> (k % 64) & 1 for k in range(70)] for i in range(5)]
    np.testing.assert_array_equal(bits, x != 2)
    forward = lambda weight: ref.marked_linear(numbers, marks, weight, bias, 0.3)  # noqa: E731
    np.testing.assert_allclose(forward(weight), ((x - 2) / 2 + 0.3) @ weight + bias, rtol=1e-12)
    got = ref.marked_backward_weight(np.zeros_like(weight), numbers, marks, upstream, 0.3)
    assert_is_gradient(got, forward, weight, upstream)


# Values known without the code ---------------------------------------------------------------------------------------


def test_the_rows_of_a_softmax_sum_to_one_wherever_the_logits_lie(rng: Rng) -> None:
    x = rng.normal(size=(6, 4))
    for shift in (0, -1e4, 1e4):
        p = ref.softmax(x + shift)
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-13)
        np.testing.assert_allclose(p, ref.softmax(x), rtol=1e-10)
        np.testing.assert_allclose(np.exp(ref.log_softmax(x + shift)), p, rtol=1e-10)
    np.testing.assert_allclose(ref.softmax([[0, np.log(3)]]), [[0.25, 0.75]], rtol=1e-13)


def test_binary_cross_entropy_of_a_known_example() -> None:
    y, p = np.array([1.0, 0, 1, 1]), np.array([0.9, 0.1, 0.8, 0.7])
    assert ref.binary_cross_entropy(p, y) == pytest.approx(0.19763488164214868, rel=1e-14)
    assert ref.binary_cross_entropy_with_logits(np.log(p / (1 - p)), y) == pytest.approx(0.19763488164214868, rel=1e-13)


def test_a_certain_and_wrong_probability_costs_a_hundred() -> None:
    np.testing.assert_array_equal(ref.bce_losses([0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]), [100, 100, 0, 0])


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    assert ref.cross_entropy(np.full((3, 10), 7.0), [0, 5, 9]) == pytest.approx(np.log(10), rel=1e-14)
    assert ref.cross_entropy(np.full((3, 10), 7.0), [0, 5, 9], "sum", 0.3) == pytest.approx(3 * np.log(10), rel=1e-14)


def test_sigmoid_and_tanh_at_known_points() -> None:
    np.testing.assert_allclose(ref.sigmoid([-1e4, -np.log(3), 0, np.log(3), 1e4]), [0, 0.25, 0.5, 0.75, 1], rtol=1e-14)
    np.testing.assert_allclose(ref.tanh([-1e4, 0, np.log(2), 1e4]), [-1, 0, 0.6, 1], rtol=1e-14)


def test_one_step_of_each_optimizer_by_hand() -> None:
    assert ref.sgd(1.0, 0.5, 0.1, 0.0) == pytest.approx(0.95)
    assert ref.sgd(1.0, 0.5, 0.1, 0.2) == pytest.approx(0.93)  # the decay adds 0.2 to the gradient
    assert ref.sgd_momentum(1.0, 2.0, 0.5, 0.1, 0.9, False, 0.0) == pytest.approx((0.77, 2.3))
    assert ref.sgd_momentum(1.0, 2.0, 0.5, 0.1, 0.9, True, 0.0) == pytest.approx((0.743, 2.3))
    # Adam's first step has the length of the learning rate, whatever the gradient's size.
    settings, corrections = (0.01, 0.9, 0.999, 1e-12), (1 - 0.9, 1 - 0.999)
    first = ref.adam(1.0, 0.0, 0.0, 1e-3, *settings, 0.0, False, *corrections)
    assert first == pytest.approx((0.99, 1e-4, 1e-9))
    # Decoupled, the decay takes lr times itself of the parameter, and the averages do not know of it.
    assert ref.adam(1.0, 0.0, 0.0, 1e-3, *settings, 0.5, True, *corrections) == pytest.approx((0.985, 1e-4, 1e-9))
    assert ref.rmsprop(1.0, 0.0, 2.0, 0.1, 0.75, 0.0, 0.0) == pytest.approx((0.8, 1.0))
    assert ref.adagrad(1.0, 3.0, 1.0, 0.1, 0.0, 0.0) == pytest.approx((0.95, 4.0))
    # A gradient (3, -4) of norm 5.
    squares = ref.square_sums([3.0, -4.0])
    assert squares == pytest.approx([25.0])
    assert ref.clip_step([3.0, -4.0], squares, [1.0, 0.0], 1.0, np.inf, 0.0) == pytest.approx([0.6, -0.8])
    assert ref.clip_step([3.0, -4.0], squares, [1.0, 0.0], 9.0, 3.5, 0.1) == pytest.approx([3.1, -3.5])


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_layer_norm(shape: tuple[int, ...], rng: Rng) -> None:
    x, upstream = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2, 3))
    weight, bias = rng.normal(size=shape), rng.normal(size=shape)
    grads = ref.layer_norm_backward(upstream, x, shape, weight, 1e-3)
    assert_is_gradient(grads[0], lambda x: ref.layer_norm(x, shape, weight, bias, 1e-3), x, upstream)
    assert_is_gradient(grads[1], lambda weight: ref.layer_norm(x, shape, weight, bias, 1e-3), weight, upstream)
    assert_is_gradient(grads[2], lambda bias: ref.layer_norm(x, shape, weight, bias, 1e-3), bias, upstream)


def test_layer_norm_of_rows_is_made_of_its_pieces(rng: Rng) -> None:
    x, weight, upstream = rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=3), rng.normal(size=(4, 3))
    out, statistics = ref.layer_norm_rows(x, weight, 0 * weight, 1e-3)
    centre, factor, shift = statistics.T[:, :, None]
    np.testing.assert_allclose(out, ((x - centre) * factor + shift) * weight, rtol=1e-12)
    np.testing.assert_array_equal(centre, centre.astype("float32"))
    grads = ref.layer_norm_backward(upstream, x, 3, weight, 1e-3)
    np.testing.assert_array_equal(ref.layer_norm_rows_backward(upstream, x, statistics, weight), grads[0])
    twice = ref.layer_norm_backward_weight(*grads[1:], upstream, x, statistics, accumulate=True)
    np.testing.assert_allclose(twice, 2 * np.array(grads[1:]), rtol=1e-12)


def test_lookups(rng: Rng) -> None:
    x, weight, upstream = rng.integers(0, 4, (5, 3)), rng.normal(size=(4, 2)), rng.normal(size=(5, 3, 2))
    grad = ref.embedding_backward(upstream, x, 4)
    assert_is_gradient(grad, lambda weight: ref.embedding(x, weight), weight, upstream)
    wide, rows = np.column_stack([np.ones(5), x]), np.column_stack([upstream.reshape(5, 6), np.ones(5)])
    np.testing.assert_allclose(ref.look_up_backward(grad, rows, wide, 0, 1, 3, 2.0, True), 3 * grad, rtol=1e-12)


@pytest.mark.parametrize(("shape", "channels"), [((5, 3), 3), ((11, 3, 2, 2), 3), ((4, 3), 1), ((6,), 1)])
def test_prelu(shape: tuple[int, ...], channels: int, rng: Rng) -> None:
    x, weight, upstream = off_zero(rng, *shape), rng.normal(size=channels), rng.normal(size=shape)
    grad_x, grad_weight = ref.prelu_backward(upstream, x, weight)
    assert_is_gradient(grad_x, lambda x: ref.prelu(x, weight), x, upstream)
    assert_is_gradient(grad_weight, lambda weight: ref.prelu(x, weight), weight, upstream)


def test_prelu_of_blocks_of_rows(rng: Rng) -> None:
    x, weight, upstream = rng.normal(size=(19, 3, 4)), rng.normal(size=3), rng.normal(size=(19, 3, 4))
    grad_x, partials = ref.prelu_rows_backward(upstream, x, weight)
    np.testing.assert_array_equal(grad_x, ref.prelu_backward(upstream, x, weight)[0])
    for block, rows in enumerate((slice(8), slice(8, 16), slice(16, 19))):
        expected = ref.prelu_backward(upstream[rows], x[rows], weight)[1]
        np.testing.assert_allclose(partials[block], expected, rtol=1e-12)
    np.testing.assert_allclose(ref.prelu_backward_weight(weight, partials, True), weight + partials.sum(axis=0))


def test_dropped_channels(rng: Rng) -> None:
    x, upstream = rng.normal(size=(3, 4, 2, 2)), rng.normal(size=(3, 4, 2, 2))
    got = ref.dropout2d_backward(upstream, 0.4, 5, 2)
    assert_is_gradient(got, lambda x: ref.dropout2d(x, 0.4, 5, 2), x, upstream)
    planes = ref.dropout_planes(x[1:].reshape(8, 4), 0.4, 5, 2, 4)
    np.testing.assert_array_equal(planes.reshape(2, 4, 2, 2), ref.dropout2d(x, 0.4, 5, 2)[1:])


def test_zeros_around_images(rng: Rng) -> None:
    padding = (1, 0, 2, 3)
    x, upstream = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 3, 7, 5))
    got = ref.zero_pad2d_backward(upstream, padding)
    assert_is_gradient(got, lambda x: ref.zero_pad2d(x, padding), x, upstream)
    np.testing.assert_array_equal(ref.pad_planes(x[0], *padding), ref.zero_pad2d(x, padding)[0])
    np.testing.assert_array_equal(ref.pad_planes_backward(upstream[0], *padding), got[0])


def test_convolution_of_lines(rng: Rng) -> None:
    x, weight, bias = rng.normal(size=(2, 4, 7)), rng.normal(size=(6, 2, 2)), rng.normal(size=6)
    settings = (2, 1, 3, 2)
    upstream = rng.normal(size=ref.conv1d(x, weight, bias, *settings).shape)
    grads = ref.conv1d_backward(upstream, x, weight, *settings)
    assert_is_gradient(grads[0], lambda x: ref.conv1d(x, weight, bias, *settings), x, upstream)
    assert_is_gradient(grads[1], lambda weight: ref.conv1d(x, weight, bias, *settings), weight, upstream)
    assert_is_gradient(grads[2], lambda bias: ref.conv1d(x, weight, bias, *settings), bias, upstream)


@pytest.mark.parametrize("output_size", [1, 2, (4, 1), (2, 3)])
def test_adaptive_average(output_size: Any, rng: Rng) -> None:
    x = rng.normal(size=(2, 3, 4, 6))
    upstream = rng.normal(size=ref.adaptive_avg_pool2d(x, output_size).shape)
    assert upstream.shape[2:] == tuple(np.broadcast_to(output_size, 2))
    got = ref.adaptive_avg_pool2d_backward(upstream, x.shape)
    assert_is_gradient(got, lambda x: ref.adaptive_avg_pool2d(x, output_size), x, upstream)


def test_global_maximum(rng: Rng) -> None:
    x, upstream = rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(2, 3))
    assert_is_gradient(ref.global_max_pool2d_backward(upstream, x), ref.global_max_pool2d, x, upstream)
    ties = ref.global_max_pool2d_backward(upstream, np.ones((2, 3, 2, 2)))
    np.testing.assert_array_equal(ties[:, :, 0, 0], upstream)
    assert not ties[:, :, 1].any()


def test_pooling_of_lines(rng: Rng) -> None:
    x, settings = rng.normal(size=(2, 3, 9)), (3, 2, 1)
    out, index = ref.max_pool1d(x, *settings, 2, True, True)
    upstream = rng.normal(size=out.shape)
    got = ref.max_pool1d_backward(upstream, index, x.shape)
    assert_is_gradient(got, lambda x: ref.max_pool1d(x, *settings, 2, True), x, upstream)
    upstream = rng.normal(size=ref.avg_pool1d(x, *settings, True, False).shape)
    got = ref.avg_pool1d_backward(upstream, x.shape, *settings, True, False)
    assert_is_gradient(got, lambda x: ref.avg_pool1d(x, *settings, True, False), x, upstream)


@pytest.mark.parametrize(
    ("change", "settings"),
    [("flip", (True, True)), ("shift", ((1, 2),)), ("erase", ((2, 3), 0.7)), ("rotation", (50.0,))],
)
def test_random_changes_of_images(rng: Rng, change: str, settings: tuple[Any, ...]) -> None:
    forward, backward = getattr(ref, f"random_{change}"), getattr(ref, f"random_{change}_backward")
    x, upstream = rng.normal(size=(2, 4, 2, 3, 4))
    assert_is_gradient(backward(upstream, *settings, 5, 2), lambda x: forward(x, *settings, 5, 2), x, upstream)


def test_images_that_are_turned(rng: Rng) -> None:
    x, upstream = rng.normal(size=(2, 3, 2, 3, 4))
    settings = 0.7, 5, 2, 9
    got = ref.rotate_images_backward(upstream, *settings)
    assert_is_gradient(got, lambda x: ref.rotate_images(x, *settings), x, upstream)
