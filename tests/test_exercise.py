"""The course exercise that fastfnn grew out of: all that it does works here, and none of its eight faults is here.

Convolution and pooling have tests of their own. The faulty formulas are written out in the tests, so that each test
shows both that the fault is one and that fastfnn does not have it.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastfnn as ff
from fastfnn import functional
from fastfnn.engine.lowering import lower

Array = NDArray[Any]
LABELS = np.array([1, 0, 3, 5, 0])


def differences(function: Callable[[], float], array: Array, eps: float = 1e-6) -> Array:
    """Central differences of `function` for each element of `array`, which it reads."""
    gradient = np.empty(array.shape)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + eps
        above = function()
        array[place] = kept - eps
        below = function()
        array[place] = kept
        gradient[place] = (above - below) / (2 * eps)
    return gradient


class Composed:
    """The exercise's network, operation by operation: product, ReLU, product, softmax, logarithm."""

    def __init__(self) -> None:
        self.first, self.relu, self.second = ff.Matmul(), ff.ReLU(), ff.Matmul()
        self.softmax, self.log = ff.Softmax(), ff.Log()

    def forward(self, x: Array, w1: Array, w2: Array) -> Array:
        h = self.relu.forward(self.first.forward(x, w1))
        return self.log.forward(self.softmax.forward(self.second.forward(h, w2)))

    def backward(self, grad: Array) -> dict[str, Array]:
        grad_p = self.log.backward(grad)
        grad_h, grad_w2 = self.second.backward(self.softmax.backward(grad_p))
        grad_x, grad_w1 = self.first.backward(self.relu.backward(grad_h))
        return {"p": grad_p, "x": grad_x, "w1": grad_w1, "w2": grad_w2}


@pytest.fixture
def small(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """x, w1 and w2 of the exercise's check, from N(0, 1)."""
    return rng.normal(size=(5, 6)), rng.normal(size=(6, 5)), rng.normal(size=(5, 6))


@pytest.fixture(scope="module")
def images() -> tuple[Array, Array]:
    """A few hundred digits: uint8 (600, 28, 28), and their labels."""
    (x, y), _ = ff.data.load_mnist_sample()
    return x[:600], y[:600]


def mlp(*, normalise: tuple[float, float] = (0.1307, 0.3081), hidden: ff.Layer | None = None, **arguments: Any) -> Any:
    scale = ff.Normalize(*normalise, scale=1 / 255)
    return ff.Sequential(
        ff.Flatten(), scale, ff.Linear(784, 100), hidden or ff.ReLU(), ff.Linear(100, 10), **{"seed": 0, **arguments}
    )


# What the exercise does -------------------------------------------------------------------------------------------


def test_a_product_has_the_two_products_as_gradients(small: tuple[Array, Array, Array]) -> None:
    x, w, upstream = small
    product = ff.Matmul()
    np.testing.assert_allclose(product.forward(x, w), x @ w, rtol=1e-13, atol=1e-14)
    grad_x, grad_w = product.backward(upstream[:, :5])
    np.testing.assert_allclose(grad_x, upstream[:, :5] @ w.T, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(grad_w, x.T @ upstream[:, :5], rtol=1e-13, atol=1e-14)


def test_relu_keeps_what_is_positive_and_lets_only_its_gradient_through() -> None:
    x = np.array([[-2.0, -0.5, 0.0, 0.5, 2.0]])
    relu = ff.ReLU()
    np.testing.assert_array_equal(relu.forward(x), [[0, 0, 0, 0.5, 2]])
    np.testing.assert_array_equal(relu.backward(np.array([[1.0, 2, 3, 4, 5]])), [[0, 0, 0, 4, 5]])


def test_softmax_gives_probabilities_and_the_gradient_of_its_jacobian(small: tuple[Array, Array, Array]) -> None:
    x, _, upstream = small
    softmax = ff.Softmax()
    p = softmax.forward(5 * x + 1)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(p, np.exp(5 * x) / np.exp(5 * x).sum(axis=1, keepdims=True), rtol=1e-12)
    expected = [u @ (np.diag(row) - np.outer(row, row)) for u, row in zip(upstream, p, strict=True)]
    np.testing.assert_allclose(softmax.backward(upstream), expected, rtol=1e-11, atol=1e-14)


def test_the_logarithm_divides_the_gradient_by_its_input(rng: np.random.Generator) -> None:
    x, upstream = rng.uniform(0.01, 1, (5, 6)), rng.normal(size=(5, 6))
    log = ff.Log()
    np.testing.assert_allclose(log.forward(x), np.log(x), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(log.backward(upstream), upstream / x, rtol=1e-13)


@pytest.mark.parametrize("name", ["x", "w1", "w2"])
def test_the_composed_network_has_the_gradients_of_central_differences(
    small: tuple[Array, Array, Array], name: str
) -> None:
    x, w1, w2 = small
    label = ff.data.one_hot(LABELS, 6, "float64")
    network = Composed()

    def objective() -> float:
        return float((label * network.forward(x, w1, w2)).sum())

    objective()
    analytic = network.backward(label)[name]
    numeric = differences(objective, {"x": x, "w1": w1, "w2": w2}[name])
    assert np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-8)


def test_the_composed_network_has_the_gradients_of_torch(small: tuple[Array, Array, Array]) -> None:
    torch = pytest.importorskip("torch")
    label = ff.data.one_hot(LABELS, 6, "float64")
    network = Composed()
    log_p = network.forward(*small)
    ours = network.backward(label)

    x, w1, w2 = (torch.tensor(array, requires_grad=True) for array in small)
    p = torch.softmax(torch.relu(x @ w1) @ w2, dim=1)
    p.retain_grad()
    torch_log_p = torch.log(p)
    (torch.tensor(label) * torch_log_p).sum().backward()
    np.testing.assert_allclose(log_p, torch_log_p.detach().numpy(), rtol=1e-11, atol=1e-14)
    for name, tensor in {"p": p, "x": x, "w1": w1, "w2": w2}.items():
        np.testing.assert_allclose(ours[name], tensor.grad.numpy(), rtol=1e-10, atol=1e-13, err_msg=name)


def test_labels_and_one_hot_rows_give_the_same_loss_and_accuracy(small: tuple[Array, Array, Array]) -> None:
    logits = small[0]
    rows = ff.data.one_hot(LABELS, 6, "float64")
    log_p = functional.log_softmax(logits)
    expected = -log_p[np.arange(5), LABELS].mean()
    for loss, prediction in ((ff.CrossEntropyLoss(), logits), (ff.NLLLoss(), log_p)):
        assert loss.forward(prediction, LABELS) == pytest.approx(expected, rel=1e-13)
        from_labels = loss.backward()
        assert loss.forward(prediction, rows) == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(loss.backward(), from_labels, rtol=1e-13, atol=1e-16)
    share = np.mean(logits.argmax(axis=1) == LABELS)
    assert ff.accuracy(log_p, LABELS) == ff.accuracy(log_p, rows) == share


def test_evaluation_takes_labels_and_one_hot_rows(images: tuple[Array, Array]) -> None:
    x, y = images
    model = mlp()
    from_labels = ff.evaluate(model, x, y, loss=ff.CrossEntropyLoss())
    from_rows = ff.evaluate(model, x, ff.data.one_hot(y, 10), loss=ff.CrossEntropyLoss())
    assert from_labels.loss == pytest.approx(from_rows.loss, rel=1e-6)
    assert from_labels.accuracy == from_rows.accuracy == np.mean(ff.predict(model, x) == y)


def numpy_step(x: Array, y: Array, weights: list[Array], lr: float) -> tuple[float, list[Array]]:
    """Loss, and the parameters after one step on the mean loss: the exercise's arithmetic in plain float64."""
    w1, b1, w2, b2 = weights
    h = np.maximum(x @ w1 + b1, 0)
    z = h @ w2 + b2
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    delta = (np.exp(log_p) - np.eye(10)[y]) / len(x)
    delta_h = delta @ w2.T * (h > 0)
    gradients = x.T @ delta_h, delta_h.sum(axis=0), h.T @ delta, delta.sum(axis=0)
    loss = -log_p[np.arange(len(y)), y].mean()
    return loss, [w - lr * g for w, g in zip(weights, gradients, strict=True)]


@pytest.mark.parametrize("rows", [64, 600])
def test_one_training_step_is_that_of_numpy(images: tuple[Array, Array], rows: int) -> None:
    x, y = images[0][:rows], images[1][:rows]
    model = mlp(dtype="float64")
    scaled = (x.reshape(rows, -1) / 255 - 0.1307) / 0.3081
    loss, expected = numpy_step(scaled, y, list(map(np.copy, model.named_parameters().values())), 0.1)
    result = ff.train_step(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(lr=0.1))
    assert result.loss == pytest.approx(loss, rel=1e-12)
    for (name, ours), theirs in zip(model.named_parameters().items(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11, err_msg=name)


def test_a_full_batch_epoch_is_one_update_and_reports_the_loss_before_it(images: tuple[Array, Array]) -> None:
    x, y = images
    model, optimizer = mlp(), ff.SGD(lr=0.05)
    before = ff.evaluate(model, x, y, loss=ff.CrossEntropyLoss())
    history = ff.fit(
        model, x, y, loss=ff.CrossEntropyLoss(), optimizer=optimizer, epochs=3, batch_size=None, progress=False
    )
    assert optimizer.steps == 3
    assert history.loss[0] == pytest.approx(before.loss, rel=1e-6)
    assert history.accuracy[0] == before.accuracy
    assert history.loss[2] < history.loss[1] < history.loss[0]


@pytest.mark.parametrize("hidden", [ff.ReLU, ff.Sigmoid])
def test_minibatches_of_64_learn_the_digits_with_relu_and_with_sigmoid(
    images: tuple[Array, Array], hidden: type[ff.Layer]
) -> None:
    x, y = images
    model, optimizer = mlp(hidden=hidden()), ff.SGD(lr=0.1)
    loss = ff.CrossEntropyLoss()
    history = ff.fit(model, x, y, loss=loss, optimizer=optimizer, epochs=8, batch_size=64, seed=0, progress=False)
    assert optimizer.steps == 8 * math.ceil(600 / 64)
    assert history.loss[-1] < history.loss[0] / 2
    assert ff.evaluate(model, x, y, loss=loss).accuracy > 0.85


def test_the_sigmoid_network_has_the_gradients_of_central_differences(rng: np.random.Generator) -> None:
    model = ff.Sequential(ff.Linear(7, 5, bias=False), ff.Sigmoid(), ff.Linear(5, 4, bias=False), ff.Softmax(), seed=0)
    assert ff.gradcheck(model, rng.normal(size=(6, 7))) < 1e-7
    probabilities, target = functional.softmax(rng.normal(size=(6, 4))), rng.integers(0, 4, 6)
    loss = ff.NLLLoss()  # of the logarithm: the exercise's cross-entropy of probabilities
    value = loss.forward(functional.log(probabilities), target)
    assert value == pytest.approx(-np.log(probabilities[np.arange(6), target]).mean(), rel=1e-13)
    numeric = differences(lambda: loss.forward(functional.log(probabilities), target), probabilities)
    loss.forward(functional.log(probabilities), target)
    np.testing.assert_allclose(functional.log_backward(loss.backward(), probabilities), numeric, rtol=1e-6, atol=1e-9)


TRUTH, GUESS = np.array([1.0, 0, 1, 1]), np.array([0.9, 0.1, 0.8, 0.7])


def test_binary_cross_entropy_is_the_printed_number() -> None:
    assert functional.binary_cross_entropy(GUESS, TRUTH) == pytest.approx(0.19763488164214868, rel=1e-14)
    logits = np.log(GUESS / (1 - GUESS))
    assert functional.binary_cross_entropy_with_logits(logits, TRUTH) == pytest.approx(0.19763488164214868, rel=1e-14)


def test_binary_cross_entropy_has_the_gradient_of_central_differences() -> None:
    guess = GUESS.copy()
    numeric = differences(lambda: functional.binary_cross_entropy(guess, TRUTH), guess)
    np.testing.assert_allclose(functional.binary_cross_entropy_backward(GUESS, TRUTH), numeric, rtol=1e-7)


def test_binary_cross_entropy_is_finite_where_a_probability_is_wrong_for_sure() -> None:
    assert math.isfinite(functional.binary_cross_entropy(np.array([0.0, 1.0]), np.array([1.0, 0.0])))
    assert functional.binary_cross_entropy(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0


@pytest.mark.parametrize("with_logits", [False, True])
def test_a_linear_model_goes_forward_backward_and_is_updated(rng: np.random.Generator, with_logits: bool) -> None:
    x = rng.normal(size=(50, 3))
    y = (x @ np.array([1.0, -2, 0.5]) + 0.3 > 0).astype(np.float64)[:, None]
    linear, sigmoid = ff.Linear(3, 1), ff.Sigmoid()
    ff.Sequential(linear, sigmoid, seed=0, dtype="float64")  # draws the parameters
    w, b = linear.params["weight"].copy(), linear.params["bias"].copy()
    loss: ff.Loss = ff.BCEWithLogitsLoss() if with_logits else ff.BCELoss()
    losses = []
    for _ in range(100):
        z = linear.forward(x)
        np.testing.assert_allclose(z, x @ w + b, rtol=1e-9, atol=1e-11)
        losses.append(loss.forward(z if with_logits else sigmoid.forward(z), y))
        grad = loss.backward()
        linear.backward(grad if with_logits else sigmoid.backward(grad))
        for name, array in linear.params.items():
            array -= 0.5 * linear.grads[name]
        error = (1 / (1 + np.exp(-(x @ w + b))) - y) / len(x)  # the gradient for z, worked out by hand
        w, b = w - 0.5 * x.T @ error, b - 0.5 * error.sum(axis=0)
    assert losses[-1] < losses[0] / 2
    assert np.mean((linear.forward(x) > 0) == y) > 0.9


# The eight faults -------------------------------------------------------------------------------------------------


def naive_softmax(z: Array) -> Array:
    e = np.exp(z)
    return e / (e.sum(axis=-1, keepdims=True) + 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fault_1_softmax_does_not_overflow(dtype: str) -> None:
    z = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4], [1e4, 1e4, 0.0]], dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(naive_softmax(z)).any()
    expected = [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]
    np.testing.assert_allclose(functional.softmax(z), expected, rtol=1e-6)
    assert functional.cross_entropy(z, np.array([2, 0, 1])) == pytest.approx(
        (2e4 + math.log(3) + math.log(2)) / 3, rel=1e-6
    )


def test_fault_2_no_epsilon_bends_the_gradient_of_the_logarithm() -> None:
    # The exercise's check printed 1.22527188e10 where TensorFlow gave 1.24047102e10.
    p = np.array([[1 / 1.24047102e10]])
    one = np.ones((1, 1))
    assert (one / (p + 1e-12)).item() == pytest.approx(1.22527188e10, rel=1e-8)
    assert functional.log_backward(one, p).item() == pytest.approx(1.24047102e10, rel=1e-14)


def test_fault_2_no_epsilon_hides_a_confident_mistake() -> None:
    z, label = np.array([[60.0, 0.0]]), np.array([1])
    p = naive_softmax(z)
    grad_p = np.array([[0, -1.0]]) / (p + 1e-12)
    bent = p * (grad_p - (grad_p * p).sum())
    assert -math.log(p[0, 1] + 1e-12) < 27.7 and np.abs(bent).max() < 1e-10  # capped, and nothing left to learn from
    assert functional.cross_entropy(z, label) == pytest.approx(60)
    np.testing.assert_allclose(functional.cross_entropy_backward(z, label), [[1.0, -1.0]])
    composed, log = ff.Softmax(), ff.Log()
    assert log.forward(composed.forward(z))[0, 1] == pytest.approx(-60)
    np.testing.assert_allclose(composed.backward(log.backward(np.array([[0, -1.0]]))), [[1.0, -1.0]])


@pytest.mark.parametrize("times", [2, 10])
def test_fault_3_the_gradient_of_the_mean_is_the_same_for_any_batch_size(
    images: tuple[Array, Array], times: int
) -> None:
    x, y = images[0][:50], images[1][:50]
    flat: dict[str, list[Array]] = {"mean": [], "sum": []}
    for reduction, gradients in flat.items():
        for n in (1, times):
            model = mlp(dtype="float64")
            loss, still = ff.CrossEntropyLoss(reduction), ff.SGD(lr=0.0)
            ff.train_step(model, np.tile(x, (n, 1, 1)), np.tile(y, n), loss=loss, optimizer=still)
            gradients.append(model.gradients.copy())
    np.testing.assert_allclose(flat["sum"][1], times * flat["sum"][0], rtol=1e-9, atol=1e-9)  # the fault, if wanted
    np.testing.assert_allclose(flat["mean"][1], flat["mean"][0], rtol=1e-9, atol=1e-11)
    assert ff.CrossEntropyLoss().reduction == "mean"


def peak_bytes(function: Callable[[], Any]) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_fault_4_no_jacobian_is_made_for_each_sample(rng: np.random.Generator) -> None:
    def by_jacobians(z: Array, labels: Array) -> Array:
        p = naive_softmax(z)
        grad = -np.eye(z.shape[1])[labels] / (p + 1e-12)
        outer = p[:, :, None] * p[:, None, :]
        return grad * p - (grad[:, None, :] @ outer)[:, 0]

    classes = 100
    z, labels = rng.normal(size=(2000, classes)), rng.integers(0, classes, 2000)
    functional.cross_entropy_backward(z[:2], labels[:2])  # compiled here
    few = slice(0, 200)
    theirs, their_peak = peak_bytes(lambda: by_jacobians(z[few], labels[few]))
    ours, our_peak = peak_bytes(lambda: functional.cross_entropy_backward(z, labels, reduction="sum"))
    assert their_peak > 200 * classes * classes * z.itemsize
    assert our_peak < 2000 * classes * classes * z.itemsize / 20
    np.testing.assert_allclose(ours[few], theirs, rtol=1e-7, atol=1e-8)


def test_fault_5_the_gradient_of_binary_cross_entropy_is_not_its_value() -> None:
    guess = GUESS.copy()
    numeric = differences(lambda: functional.binary_cross_entropy(guess, TRUTH, "sum"), guess)
    value = -(TRUTH * np.log(GUESS) + (1 - TRUTH) * np.log(1 - GUESS))
    assert np.abs(value - numeric).min() > 0.9  # the exercise returns the value
    np.testing.assert_allclose(functional.binary_cross_entropy_backward(GUESS, TRUTH, "sum"), numeric, rtol=1e-7)


def test_fault_5_the_derivative_of_a_sigmoid_is_taken_once() -> None:
    z = np.linspace(-4, 4, 9)
    numeric = np.array([(functional.sigmoid(z + 1e-6) - functional.sigmoid(z - 1e-6)) / 2e-6])[0]
    once = functional.sigmoid(z)
    twice = functional.sigmoid(once) * (1 - functional.sigmoid(once))
    assert np.abs(twice - numeric).max() > 0.1
    np.testing.assert_allclose(functional.sigmoid_backward(np.ones(9), once), numeric, rtol=1e-7)
    sigmoid = ff.Sigmoid()
    sigmoid.forward(z)
    np.testing.assert_allclose(sigmoid.backward(np.ones(9)), numeric, rtol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_fault_6_the_default_start_is_as_good_as_guessing(images: tuple[Array, Array], seed: int) -> None:
    x, y = images
    guessing = math.log(10)
    wide = ff.Sequential(
        ff.Flatten(),
        ff.Normalize(scale=1 / 255),
        ff.Linear(784, 100, weight_init="normal", bias_init="normal"),
        ff.ReLU(),
        ff.Linear(100, 10, bias=False, weight_init="normal"),
        ff.Softmax(),
        seed=seed,
    )
    p = ff.predict_raw(wide, x).astype(np.float64)
    assert -np.log(p[np.arange(len(y)), y] + 1e-12).mean() > 8 * guessing  # the exercise prints 24.12 and 23.90
    assert ff.evaluate(mlp(normalise=(0, 1), seed=seed), x, y, loss=ff.CrossEntropyLoss()).loss < 1.25 * guessing
    assert ff.evaluate(mlp(seed=seed), x, y, loss=ff.CrossEntropyLoss()).loss < 1.75 * guessing


def test_fault_7_training_makes_no_gradient_for_the_images(images: tuple[Array, Array]) -> None:
    x, y = images
    model = mlp()
    lowered = lower(model, x.shape[1:])
    trained = [step for step in lowered if step.has_parameters]
    assert [step.needs_grad_x for step in trained] == [False, True]
    assert not any(step.needs_grad_x for step in lowered[: lowered.index(trained[0])])
    ff.train_step(model, x[:64], y[:64], loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(lr=0.0))
    compiled = model.gradients.copy()
    # The eager way gives what is asked for, the gradient for the images too; those of the parameters are the same.
    loss = ff.CrossEntropyLoss()
    loss.forward(model.forward(x[:64]), y[:64])
    assert model.backward(loss.backward()).shape == (64, 28, 28)
    assert np.abs(model.gradients).max() > 0
    np.testing.assert_allclose(compiled, model.gradients, rtol=1e-3, atol=1e-6)


def test_fault_7_the_second_layer_has_a_bias_that_learns() -> None:
    x, y = np.ones((20, 4), np.float32), np.full(20, 3)
    accuracy, loss = {}, {}
    for bias in (False, True):
        first, second = ff.Linear(4, 8), ff.Linear(8, 10, bias=bias)
        model = ff.Sequential(first, ff.ReLU(), second, seed=0)
        first.params["weight"][...] = -1  # no unit of the hidden layer is on: only a bias can tell the class
        ff.fit(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(lr=1.0), epochs=20, progress=False)
        loss[bias], accuracy[bias] = ff.evaluate(model, x, y, loss=ff.CrossEntropyLoss())
    assert loss[False] == pytest.approx(math.log(10)) and accuracy[False] == 0
    assert loss[True] < 0.5 and accuracy[True] == 1
    assert ff.Linear(100, 10).bias and "bias" in ff.Linear(100, 10).params


@pytest.mark.parametrize(("dtype", "far", "near"), [("float32", -1e4, -80.0), ("float64", -1e4, -700.0)])
def test_fault_8_sigmoid_does_not_overflow(dtype: str, far: float, near: float) -> None:
    x = np.array([far, near, 0.0, -far], dtype)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        _ = 1 / (1 + np.exp(-x))
    with np.errstate(all="raise", under="ignore"):
        out = functional.sigmoid(x)
    np.testing.assert_allclose(out, [0, math.exp(near), 0.5, 1], rtol=1e-5)
    logits, target = np.array([far, -far], dtype), np.array([1.0, 0.0], dtype)
    assert functional.binary_cross_entropy_with_logits(logits, target) == pytest.approx(1e4)
    np.testing.assert_allclose(functional.binary_cross_entropy_with_logits_backward(logits, target, "sum"), [-1.0, 1.0])
