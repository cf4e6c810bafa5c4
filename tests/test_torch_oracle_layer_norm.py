"""PyTorch as an extra oracle for layer normalisation, where it is installed: all gradients, its own sample inputs."""

import numpy as np
import pytest
from _torch_samples import samples

import fastfnn as ff
from fastfnn import functional as F
from fastfnn.engine import lowering

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(83)
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def compare(x, shape, weight, bias, eps, dtype):
    leaves = [a if a is None else a.clone().requires_grad_() for a in (x, weight, bias)]
    expected = torch.nn.functional.layer_norm(leaves[0], shape, *leaves[1:], eps)
    grad = torch.tensor(RNG.normal(size=tuple(x.shape)), dtype=x.dtype)
    expected.backward(grad)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(F.layer_norm(x, shape, weight, bias, eps), expected.detach(), **tolerance)
    # Differences of numbers of that size are multiplied by 1 / deviation.
    axes = tuple(range(-len(shape), 0))
    factor = 1 / np.sqrt(x.detach().numpy().var(axis=axes) + eps).min(initial=1.0)
    size = np.abs(grad.numpy()).max(initial=0) * (1 if weight is None else np.abs(weight.detach().numpy()).max())
    tolerance["atol"] *= max(1.0, factor * size)
    grads = F.layer_norm_backward(grad, x, shape, weight, eps)
    for mine, leaf in zip(grads, leaves, strict=True):
        if leaf is not None:
            np.testing.assert_allclose(mine, leaf.grad, **tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("affine", ["weight and bias", "weight", "nothing"])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_function_with_all_gradients(mean, affine, dtype):
    for full, axes in (
        ((5, 17), 1),
        ((1, 3), 1),
        ((64, 129), 1),
        ((4, 3, 5, 5), 3),
        ((4, 3, 5, 7), 2),
        ((2, 6, 33), 1),
    ):
        shape = full[len(full) - axes :]
        x, weight, bias = RNG.normal(mean, 2, full), RNG.normal(size=shape), RNG.normal(size=shape)
        arrays = [torch.tensor(a, dtype=getattr(torch, dtype)) for a in (x, weight, bias)]
        given = arrays[1:] if affine == "weight and bias" else [arrays[1] if affine == "weight" else None, None]
        compare(arrays[0], shape, *given, 1e-4, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_samples_that_torch_tests_itself_with(dtype):
    compared = 0
    for x, arguments, settings in samples("nn.functional.layer_norm", dtype):
        (shape, weight, bias), eps = (*arguments, None, None)[:3], settings.get("eps", 1e-5)
        if eps >= 0:  # ours refuses others
            compare(x.detach(), tuple(shape), weight, bias, eps, dtype)
            compared += 1
    assert compared


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mean_far_from_zero_leaves_what_there_is_of_digits(dtype):
    x = (1e4 + RNG.integers(0, 8, (9, 40))).astype(dtype)
    np.testing.assert_allclose(F.layer_norm(x, 40), F.layer_norm(x - 1e4, 40), rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_follows_torch(dtype, monkeypatch):
    """Some steps of a network from the same weights: compiled, in chunks, and all parameters in the end."""
    monkeypatch.setattr(lowering, "CHUNK_ROWS", 64)
    x, y = RNG.normal(size=(300, 8)).astype(dtype), RNG.integers(0, 3, 300)
    layers = ff.Linear(8, 20), ff.LayerNorm(20), ff.GELU(), ff.Linear(20, 20), ff.PReLU(20), ff.Linear(20, 3)
    model = ff.Sequential(*layers, seed=0, dtype=dtype)
    twin = ff.to_torch(model)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    ff.fit(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1, momentum=0.9), epochs=6, batch_size=None,
           progress=False)  # fmt: skip
    for _ in range(6):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()
    tolerance = {"float32": 1e-4, "float64": 1e-9}[dtype]
    for mine, other in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=tolerance, atol=tolerance)
