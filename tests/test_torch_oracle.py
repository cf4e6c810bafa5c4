"""PyTorch as an extra oracle, where it is installed: forward and gradient of every function."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import functional as F

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(3)


def compare(function, backward, torch_function, x, *, upstream=True, tolerance=1e-10):
    """`function(x)` and its gradient against autograd's, for a random upstream gradient."""
    inputs = torch.tensor(x, requires_grad=True)
    expected = torch_function(inputs)
    grad = RNG.normal(size=tuple(expected.shape)) if upstream else np.ones(tuple(expected.shape))
    expected.backward(torch.tensor(grad))
    out = function(x)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(backward(grad, x, out), inputs.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_activations(name):
    x = RNG.normal(size=(5, 7)) * 4
    compare(getattr(F, name), lambda g, x, out: getattr(F, f"{name}_backward")(g, out), getattr(torch, name), x)


def test_leaky_relu():
    x = RNG.normal(size=(5, 7))
    leaky = torch.nn.functional.leaky_relu
    compare(F.leaky_relu, lambda g, x, out: F.leaky_relu_backward(g, x), leaky, x)


def test_log():
    compare(F.log, lambda g, x, out: F.log_backward(g, x), torch.log, RNG.uniform(0.1, 3, (4, 3)))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(5, 10), (1, 1), (2, 3, 4)])
def test_softmaxes(name, shape):
    x = RNG.normal(size=shape) * 10
    backward = getattr(F, f"{name}_backward")
    compare(getattr(F, name), lambda g, x, out: backward(g, out), lambda t: getattr(torch, name)(t, dim=-1), x)


def test_linear_with_all_three_gradients():
    x, weight, bias, grad = (RNG.normal(size=s) for s in ((6, 4), (4, 3), (3,), (6, 3)))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    out = torch.nn.functional.linear(leaves[0], leaves[1].T, leaves[2])
    out.backward(torch.tensor(grad))
    np.testing.assert_allclose(F.linear(x, weight, bias), out.detach().numpy(), rtol=1e-12)
    for ours, leaf in zip(F.linear_backward(grad, x, weight), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", ["labels", "probabilities"])
def test_cross_entropy(reduction, smoothing, target):
    logits = RNG.normal(size=(8, 5)) * 20
    q = RNG.integers(0, 5, 8) if target == "labels" else RNG.dirichlet(np.ones(5), 8)
    compare(
        lambda x: F.cross_entropy(x, q, reduction, smoothing),
        lambda g, x, out: F.cross_entropy_backward(x, q, reduction, smoothing),
        lambda t: torch.nn.functional.cross_entropy(t, torch.tensor(q), reduction=reduction, label_smoothing=smoothing),
        logits,
        upstream=False,
    )


ELEMENT_LOSSES = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "poisson_nll_loss"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ELEMENT_LOSSES)
def test_element_losses(name, reduction):
    prediction, target = RNG.uniform(0.01, 0.99, (6, 3)), RNG.uniform(size=(6, 3))
    compare(
        lambda x: getattr(F, name)(x, target, reduction),
        lambda g, x, out: getattr(F, f"{name}_backward")(x, target, reduction),
        lambda t: getattr(torch.nn.functional, name)(t, torch.tensor(target), reduction=reduction),
        prediction,
        upstream=False,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("delta", [0.5, 1.0, 30.0])
def test_huber_loss(delta, reduction):
    prediction, target = 3 * RNG.normal(size=(6, 3)), RNG.normal(size=(6, 3))
    compare(
        lambda x: F.huber_loss(x, target, reduction, delta),
        lambda g, x, out: F.huber_loss_backward(x, target, reduction, delta),
        lambda t: torch.nn.functional.huber_loss(t, torch.tensor(target), reduction=reduction, delta=delta),
        prediction,
        upstream=False,
    )


def test_binary_cross_entropy_at_certain_probabilities_costs_a_hundred_as_in_torch():
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0])
    expected = torch.nn.functional.binary_cross_entropy(torch.tensor(p), torch.tensor(t), reduction="none")
    np.testing.assert_array_equal(F.binary_cross_entropy(p, t, "none"), expected.numpy())


def test_nll_loss():
    log_p, labels = np.log(RNG.dirichlet(np.ones(5), 8)), RNG.integers(0, 5, 8)
    compare(
        lambda x: F.nll_loss(x, labels),
        lambda g, x, out: F.nll_loss_backward(x, labels),
        lambda t: torch.nn.functional.nll_loss(t, torch.tensor(labels)),
        log_p,
        upstream=False,
    )


OPTIMIZERS = {
    "sgd": (lambda: ff.SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "decay": (lambda: ff.SGD(0.1, weight_decay=0.01), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.01)),
    "momentum": (lambda: ff.SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
    "clipped": (lambda: ff.SGD(0.1, clip_norm=0.2), lambda p: torch.optim.SGD(p, 0.1)),
    "nesterov": (
        lambda: ff.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "rmsprop": (lambda: ff.RMSprop(0.01, alpha=0.9), lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9)),
    "adagrad": (lambda: ff.Adagrad(0.05), lambda p: torch.optim.Adagrad(p, 0.05)),
    "undamped": (lambda: ff.SGD(0.01, momentum=1), lambda p: torch.optim.SGD(p, 0.01, momentum=1)),
    "rmsprop without eps": (lambda: ff.RMSprop(0.01, eps=0), lambda p: torch.optim.RMSprop(p, 0.01, eps=0)),
    "rmsprop with alpha 1": (
        lambda: ff.RMSprop(1e-3, alpha=1, eps=0.1),
        lambda p: torch.optim.RMSprop(p, 1e-3, alpha=1, eps=0.1),
    ),
    "adagrad without eps": (lambda: ff.Adagrad(0.05, eps=0), lambda p: torch.optim.Adagrad(p, 0.05, eps=0)),
    "adam without eps": (lambda: ff.Adam(0.01, eps=0), lambda p: torch.optim.Adam(p, 0.01, eps=0)),
    "adamw": (lambda: ff.AdamW(0.02), lambda p: torch.optim.AdamW(p, 0.02)),
    "adam": (lambda: ff.Adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam with all": (
        lambda: ff.Adam(0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01),
        lambda p: torch.optim.Adam(p, 0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_torch_for_ten_steps(name):
    """The same small network from the same weights: every loss and the final parameters agree."""
    ours, theirs = OPTIMIZERS[name]
    x, y = RNG.normal(size=(40, 6)), RNG.integers(0, 3, 40)
    model = ff.Sequential(ff.Linear(6, 8), ff.Tanh(), ff.Linear(8, 3), seed=0, dtype="float64")
    twin = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    for linear, layer in ((twin[0], model[0]), (twin[2], model[2])):
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(layer.params["weight"].T))
            linear.bias.copy_(torch.tensor(layer.params["bias"]))
    optimizer, torch_optimizer = ours(), theirs(twin.parameters())
    for step in range(10):
        rows = slice(step * 4, step * 4 + 4)
        result = ff.train_step(model, x[rows], y[rows], loss=ff.CrossEntropyLoss(), optimizer=optimizer)
        torch_optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.tensor(x[rows])), torch.tensor(y[rows]))
        loss.backward()
        if optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(twin.parameters(), optimizer.clip_norm)
        torch_optimizer.step()
        assert result.loss == pytest.approx(loss.item(), rel=1e-9 if optimizer.clip_norm is None else 1e-5)
    tolerance = 1e-7 if optimizer.clip_norm is None else 1e-4  # PyTorch adds 1e-6 to the norm
    np.testing.assert_allclose(model[2].params["weight"].T, twin[2].weight.detach().numpy(), rtol=tolerance, atol=1e-10)


@pytest.mark.parametrize("name", ["adam", "adamw", "momentum"])
def test_decay_of_the_weights_alone_is_torch_with_two_groups_of_parameters(name):
    """And class weights are those of PyTorch's loss: its mean, too, is over the weights."""
    ours, theirs = OPTIMIZERS[name]
    x, y, each = RNG.normal(size=(40, 6)), RNG.integers(0, 3, 40), np.array([0.5, 1.0, 3.0])
    model = ff.Sequential(ff.Linear(6, 8), ff.Tanh(), ff.Linear(8, 3), seed=0, dtype="float64")
    twin, optimizer = ff.to_torch(model), ours()
    optimizer.weight_decay, optimizer.decay_biases = 0.1, False
    weights = [p for p in twin.parameters() if p.ndim == 2]
    biases = [p for p in twin.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    torch_optimizer = theirs(groups)
    for _ in range(10):
        result = ff.train_step(
            model, x, y, loss=ff.CrossEntropyLoss(), optimizer=optimizer, class_weight=each, n_threads=1
        )
        torch_optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y), weight=torch.tensor(each))
        loss.backward()
        torch_optimizer.step()
        assert result.loss == pytest.approx(loss.item(), rel=1e-9)
    for mine, other in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-6, atol=1e-9)
