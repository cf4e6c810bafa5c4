"""PyTorch as an extra oracle for activations, where it is installed: values, gradients, its own sample inputs."""

import numpy as np
import pytest
from _torch_samples import samples

import fastfnn as ff
from fastfnn import functional as F

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(61)
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}

#: Names, which PyTorch's functions have too, and settings to try.
SETTINGS = [
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("elu", {}),
    ("elu", {"alpha": 0.3}),
    ("selu", {}),
    ("softplus", {}),
    ("softplus", {"beta": 3.0, "threshold": 5.0}),
    ("relu6", {}),
    ("hardswish", {}),
]
LAYERS = {"gelu": ff.GELU, "silu": ff.SiLU, "elu": ff.ELU, "selu": ff.SELU, "softplus": ff.Softplus, "relu6": ff.ReLU6}
LAYERS["hardswish"] = ff.Hardswish


def compare(name, x, settings):
    """Value and gradient for a random upstream gradient, of the function and of the layer."""
    leaf = x.clone().requires_grad_()
    expected = getattr(torch.nn.functional, name)(leaf, **settings)
    grad = torch.tensor(RNG.normal(size=tuple(x.shape)), dtype=x.dtype)
    expected.backward(grad)
    tolerance = TOLERANCE[str(x.dtype).removeprefix("torch.")]
    layer = LAYERS[name](**settings)
    out, grad_x = getattr(F, name)(x, **settings), getattr(F, f"{name}_backward")(grad, x, **settings)
    for got in (out, layer.forward(x)):
        np.testing.assert_allclose(got, expected.detach(), rtol=20 * tolerance, atol=tolerance)
    for got in (grad_x, layer.backward(grad)):
        np.testing.assert_allclose(got, leaf.grad, rtol=20 * tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_values_and_gradients_from_the_tails_to_the_kinks(name, settings, dtype):
    kinks = np.array([0.0, -0.0, 3.0, -3.0, 6.0, -6.0, 20.0, -20.0, 90.0, -90.0, 1e4, -1e4])
    for x in (RNG.normal(size=(3, 1, 17)) * 4, np.linspace(-12, 12, 4001), kinks):
        compare(name, torch.tensor(x, dtype=getattr(torch, dtype)), settings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_samples_that_torch_tests_itself_with(name, dtype):
    compared = 0
    for x, arguments, settings in samples(f"nn.functional.{name}", dtype):
        assert not arguments
        compare(name, x.detach(), {key: value for key, value in settings.items() if key != "inplace"})
        compared += 1
    assert compared


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tail_of_softplus_keeps_its_digits(dtype):
    x = np.linspace(-80, -10, 701).astype(dtype)
    np.testing.assert_allclose(F.softplus(x), np.log1p(np.exp(x.astype(float))), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elu_keeps_its_digits_near_zero(dtype):
    x = -np.logspace(-30, 0, 301).astype(dtype)
    np.testing.assert_allclose(F.elu(x), np.expm1(x.astype(float)), rtol=4 * np.finfo(dtype).eps)
