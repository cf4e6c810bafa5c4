"""PyTorch as an extra oracle for batch normalisation, where it is installed."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import functional as F

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(47)
SHAPES = [(2, 1), (9, 17), (64, 100), (1, 2, 3, 1), (5, 3, 7, 7), (17, 4, 14, 14)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_function_with_all_gradients_and_running_statistics(shape, affine, training):
    x, grad = RNG.normal(2, 3, shape), RNG.normal(size=shape)
    weight, bias = RNG.normal(size=(2, shape[1])) if affine else (None, None)
    ours = [RNG.normal(size=shape[1]), RNG.uniform(1, 2, shape[1])]
    theirs = [torch.tensor(array) for array in ours]
    leaves = [torch.tensor(array, requires_grad=True) for array in ((x, weight, bias) if affine else (x,))]
    expected = torch.nn.functional.batch_norm(
        leaves[0], *theirs, *leaves[1:], training=training, momentum=0.2, eps=1e-4
    )
    expected.backward(torch.tensor(grad))
    before = [array.copy() for array in ours]
    out = F.batch_norm(x, *ours, weight, bias, training, 0.2, 1e-4)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-10, atol=1e-11)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-12)
    grads = F.batch_norm_backward(grad, x, weight, *before, training, 1e-4)
    for mine, leaf in zip(grads, leaves, strict=False):
        np.testing.assert_allclose(mine, leaf.grad.numpy(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(32, 6), (8, 6, 5, 5)])
def test_the_layer_over_some_steps_of_training_and_then_inference(shape):
    ours = ff.BatchNorm1d(6) if len(shape) == 2 else ff.BatchNorm2d(6)
    theirs = torch.nn.BatchNorm1d(6) if len(shape) == 2 else torch.nn.BatchNorm2d(6)
    for _ in range(4):
        x = RNG.normal(1, 2, shape).astype("float32")
        np.testing.assert_allclose(ours.forward(x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
    for name, array in ours.buffers.items():
        np.testing.assert_allclose(array, getattr(theirs, name).numpy(), rtol=1e-5, atol=1e-6)
    ours.training = False
    expected = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours.forward(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_for_each_channel_is_refused_by_both(shape):
    x = np.ones(shape)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True)
    with pytest.raises(ValueError, match="more than one value for each channel"):
        F.batch_norm(x, None, None, training=True)
