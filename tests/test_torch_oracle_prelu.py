"""PyTorch as an extra oracle for leaky ReLUs with learnt slopes, where it is installed."""

import numpy as np
import pytest
from _torch_samples import samples

from fastfnn import functional as F

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(19)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def compare(x, weight, dtype):
    """Value and both gradients for a random upstream gradient."""
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    expected = torch.nn.functional.prelu(*leaves)
    grad = torch.tensor(RNG.normal(size=tuple(x.shape)), dtype=x.dtype)
    expected.backward(grad)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype] * max(1, x.numel()) ** 0.5}
    np.testing.assert_array_equal(F.prelu(x, weight), expected.detach())
    grad_x, grad_weight = F.prelu_backward(grad, x, weight)
    np.testing.assert_allclose(grad_x, leaves[0].grad, rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(grad_weight, leaves[1].grad, **tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 100), (9, 3, 5, 7), (17, 4, 1, 1), (8, 2, 3)])
def test_function_with_both_gradients(shape, dtype):
    x = torch.tensor(RNG.normal(size=shape), dtype=getattr(torch, dtype))
    x.flatten()[0] = 0
    for channels in {1, shape[1]}:
        compare(x, torch.tensor(RNG.normal(size=channels), dtype=x.dtype), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_samples_that_torch_tests_itself_with(dtype):
    compared = 0
    for x, arguments, settings in samples("nn.functional.prelu", dtype):
        (weight,) = (*arguments, *settings.values())
        compare(x.detach(), weight.detach().reshape(-1), dtype)
        compared += 1
    assert compared
