"""PyTorch as an extra oracle for convolution, where it is installed: every kind, blocks with ties, LeNet-5."""

import numpy as np
import pytest
from _convolutions import every_convolution

import fastfnn as ff
import fastfnn_kernels as kernels
from fastfnn import functional as F

torch = pytest.importorskip("torch")

DTYPES = ("float32", "float64")
RNG = np.random.default_rng(31)


@pytest.fixture(autouse=True)
def torch_on_one_thread():
    """So small images are not worth the waiting for others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def leaves_of(*arrays):
    return [torch.tensor(array, requires_grad=True) for array in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
def test_convolution_with_all_three_gradients(dtype, rng):
    tolerance = 1e-3 if dtype == "float32" else 1e-11
    for case in every_convolution()[DTYPES.index(dtype) :: 2]:
        x, weight, bias, grad_out = case.draw(rng, dtype)
        leaves = leaves_of(x, weight, bias)
        out = torch.nn.functional.conv2d(*leaves, *case.settings)
        out.backward(torch.tensor(grad_out))
        ours = F.conv2d(x, weight, bias, *case.settings), *F.conv2d_backward(grad_out, x, weight, *case.settings)
        theirs = out.detach(), *(leaf.grad for leaf in leaves)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other.numpy(), tolerance, tolerance, err_msg=str(case))


def block_by_layers(x, weight, bias, grad_out, settings):
    """(out, grad_x, grad_weight, grad_bias) of convolution, ReLU and pooling, one after the other."""
    filters, channels, *kernel = weight.shape
    layer = ff.Conv2d(channels * settings[3], filters, tuple(kernel), *settings)
    model = ff.Sequential(layer, ff.ReLU(), ff.MaxPool2d(2), dtype=x.dtype, seed=0)
    layer.params["weight"][...], layer.params["bias"][...] = weight, bias
    out = model.forward(x)
    return out, model.backward(grad_out), layer.grads["weight"], layer.grads["bias"]


def block_by_one_kernel(x, weight, bias, grad_out, settings):
    """The same from the kernels that do all three at once."""
    pairs = tuple((n, n) for n in settings[:3])
    geometry = kernels.convolution.geometry.geometry(
        x.shape[1], x.shape[2:], len(weight), weight.shape[2:], *pairs, groups=settings[3]
    )
    settings = (*pairs, settings[3], kernels.convolution.RELU_POOL)
    out, index = np.empty_like(grad_out), np.empty(grad_out.shape, np.int32)
    kernels.convolution.conv2d(out, index, geometry.scratch(len(x), False, x.dtype, 1), x, weight, bias, *settings)
    grads = np.empty_like(x), np.empty_like(weight), np.empty_like(bias)
    memory = geometry.scratch(len(x), True, x.dtype, 1), geometry.partials(len(x), x.dtype)
    kernels.convolution.conv2d_backward(*grads, *memory, grad_out, x, weight, out, index, *settings)
    return out, *grads


@pytest.mark.parametrize("block", [block_by_layers, block_by_one_kernel])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(2, 2), (6, 6), (7, 9), (12, 35)])
@pytest.mark.parametrize("settings", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2)])
def test_convolution_relu_and_pooling_with_ties(settings, size, dtype, block, rng):
    """Of small integers all sums are exact: many windows have several largest, and many are not positive."""
    if settings[0] == 2 and size == (2, 2):
        size = (3, 4)  # for an output of two rows
    draw = lambda *shape: rng.integers(-1, 2, shape).astype(dtype)  # noqa: E731
    x, weight, bias = draw(9, 4, *size), draw(6, 4 // settings[3], 3, 3), draw(6)
    leaves = leaves_of(x, weight, bias)
    expected = torch.nn.functional.max_pool2d(torch.relu(torch.nn.functional.conv2d(*leaves, *settings)), 2)
    grad_out = rng.integers(-4, 5, tuple(expected.shape)).astype(dtype)
    expected.backward(torch.tensor(grad_out))
    ours = block(x, weight, bias, grad_out, settings)
    for one, other in zip(ours, (expected.detach(), *(leaf.grad for leaf in leaves)), strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def lenet5():
    """LeNet-5 with ReLU and max-pooling, and a PyTorch network with its weights."""
    model = ff.Sequential(
        *(ff.Conv2d(1, 6, 5, padding=2), ff.ReLU(), ff.MaxPool2d(2), ff.Conv2d(6, 16, 5), ff.ReLU(), ff.MaxPool2d(2)),
        *(ff.Flatten(), ff.Linear(400, 120), ff.ReLU(), ff.Linear(120, 84), ff.ReLU(), ff.Linear(84, 10)),
        dtype="float64",
        seed=0,
    )
    nn = torch.nn
    twin = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ).double()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(torch.tensor(as_in_torch(model.named_parameters()[name])))
    return model, twin


def as_in_torch(parameter):
    """A weight of `Linear` is (in, out) here and (out, in) there."""
    return parameter.T if parameter.ndim == 2 else parameter


def test_lenet5_forward_and_backward(rng):
    model, twin = lenet5()
    x, grad_out = rng.normal(size=(17, 1, 28, 28)), rng.normal(size=(17, 10))
    (leaf,) = leaves_of(x)
    expected = twin(leaf)
    expected.backward(torch.tensor(grad_out))
    np.testing.assert_allclose(model.forward(x), expected.detach().numpy(), 1e-10, 1e-11)
    np.testing.assert_allclose(model.backward(grad_out), leaf.grad.numpy(), 1e-9, 1e-11)
    for name, parameter in twin.named_parameters():
        index, kind = name.split(".")
        ours = as_in_torch(model[int(index)].grads[kind])
        np.testing.assert_allclose(ours, parameter.grad.numpy(), 1e-9, 1e-10, err_msg=name)


def test_lenet5_follows_torch_for_five_steps_of_training(rng):
    model, twin = lenet5()
    optimizer, torch_optimizer = ff.SGD(0.05, momentum=0.9), torch.optim.SGD(twin.parameters(), 0.05, momentum=0.9)
    for _ in range(5):
        x, y = rng.normal(size=(20, 1, 28, 28)), rng.integers(0, 10, 20)
        result = ff.train_step(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=optimizer)
        torch_optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        torch_optimizer.step()
        assert result.loss == pytest.approx(loss.item(), rel=1e-9)
    for name, parameter in twin.named_parameters():
        ours = as_in_torch(model.named_parameters()[name])
        np.testing.assert_allclose(ours, parameter.detach().numpy(), 1e-7, 1e-9, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 3, 2), (3, 0, 2, 4)])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_lines_with_all_gradients(size, settings, dtype):
    stride, padding, dilation, groups = settings
    arrays = [RNG.normal(size=s) for s in ((3, 4, 17), (8, 4 // groups, size), (8,))]
    leaves = [torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True) for a in arrays]
    expected = torch.nn.functional.conv1d(*leaves, stride, padding, dilation, groups)
    grad = torch.tensor(RNG.normal(size=tuple(expected.shape)), dtype=leaves[0].dtype)
    expected.backward(grad)
    x, weight, bias = (leaf.detach().numpy() for leaf in leaves)
    tolerance = {"float32": 3e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(F.conv1d(x, weight, bias, *settings), expected.detach(), tolerance, tolerance)
    for mine, leaf in zip(F.conv1d_backward(grad.numpy(), x, weight, *settings), leaves, strict=True):
        np.testing.assert_allclose(mine, leaf.grad, tolerance, tolerance)
