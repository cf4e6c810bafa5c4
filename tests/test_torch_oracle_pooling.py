"""PyTorch as an extra oracle for pooling, where it is installed: values, places and gradients."""

import itertools

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import functional as F

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(5)
KERNELS, STRIDES = (1, 2, 3, (3, 2), (1, 4)), (None, 1, 2, (2, 3))
IMAGES = ((1, 1), (2, 2), (3, 5), (4, 9), (5, 5), (7, 4), (8, 8), (6, 33))


@pytest.fixture(autouse=True)
def torch_on_one_thread():
    """So small images are not worth the waiting for others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases(dilations=(1,)):
    return itertools.product(KERNELS, STRIDES, (False, True), dilations, (False, True), IMAGES)


def half(kernel):
    return tuple(int(side) // 2 for side in np.broadcast_to(kernel, 2))


def outcome(function, *arguments, **options):
    """What a call returns; None where it is refused."""
    try:
        return function(*arguments, **options)
    except (ValueError, RuntimeError):
        return None


def test_max_pooling_with_places_and_gradient():
    """Ties go to the same element and NaN wins; what PyTorch refuses is refused."""
    compared = refused = 0
    for kernel, stride, padded, dilation, ceil_mode, image in cases((1, 2, (1, 3))):
        padding = half(kernel) if padded else 0
        window = (kernel, stride, padding, dilation, ceil_mode)
        x = RNG.integers(-2, 3, (2, 3, *image)).astype(float)
        x[RNG.random(x.shape) < 0.02] = np.nan
        leaf = torch.tensor(x, requires_grad=True)
        theirs = outcome(torch.nn.functional.max_pool2d, leaf, *window, return_indices=True)
        ours = outcome(F.max_pool2d, x, *window, return_indices=True)
        where = f"{window} of {image}"
        if theirs is None:
            assert ours is None, where
            refused += 1
            continue
        if ours is None:  # only where an image could disappear between two elements of a window
            assert padded, where
            assert (np.broadcast_to(dilation, 2) > image).any(), where
            continue
        np.testing.assert_array_equal(ours[0], theirs[0].detach().numpy(), where)
        np.testing.assert_array_equal(ours[1], theirs[1].numpy(), where)
        grad = RNG.normal(size=ours[0].shape)
        theirs[0].backward(torch.tensor(grad))
        expected = leaf.grad.numpy()
        np.testing.assert_allclose(F.max_pool2d_backward(grad, ours[1], x.shape), expected, 1e-12, 1e-12, err_msg=where)
        layer = ff.MaxPool2d(*window)
        layer.forward(x)
        np.testing.assert_allclose(layer.backward(grad), expected, 1e-12, 1e-12, err_msg=where)
        compared += 1
    assert compared > 500
    assert refused > 100


def test_average_pooling_with_gradient():
    compared = refused = 0
    for (kernel, stride, padded, _, ceil_mode, image), count_include_pad in itertools.product(cases(), (True, False)):
        window = (kernel, stride, half(kernel) if padded else 0, ceil_mode, count_include_pad)
        x = RNG.normal(size=(2, 3, *image))
        leaf = torch.tensor(x, requires_grad=True)
        theirs = outcome(torch.nn.functional.avg_pool2d, leaf, *window)
        ours = outcome(F.avg_pool2d, x, *window)
        where = f"{window} of {image}"
        assert (theirs is None) == (ours is None), where
        if theirs is None:
            refused += 1
            continue
        np.testing.assert_allclose(ours, theirs.detach().numpy(), 1e-12, 1e-12, err_msg=where)
        grad = RNG.normal(size=ours.shape)
        theirs.backward(torch.tensor(grad))
        grad_x = F.avg_pool2d_backward(grad, x.shape, *window)
        np.testing.assert_allclose(grad_x, leaf.grad.numpy(), 1e-12, 1e-12, err_msg=where)
        compared += 1
    assert compared > 300
    assert refused > 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_commonest_pooling_at_every_width(dtype):
    """2×2 windows side by side: whole vectors and what is left of them."""
    for width in range(2, 70):
        x = RNG.integers(-2, 3, (1, 2, 5, width)).astype(dtype)
        leaf = torch.tensor(x, requires_grad=True)
        theirs, places = torch.nn.functional.max_pool2d(leaf, 2, return_indices=True)
        layer = ff.MaxPool2d(2)
        np.testing.assert_array_equal(layer.forward(x), theirs.detach().numpy())
        np.testing.assert_array_equal(F.max_pool2d(x, 2, return_indices=True)[1], places.numpy())
        grad = RNG.normal(size=tuple(theirs.shape)).astype(dtype)
        theirs.backward(torch.tensor(grad))
        np.testing.assert_array_equal(layer.backward(grad), leaf.grad.numpy())


def test_global_average():
    x, grad = RNG.normal(size=(3, 4, 5, 7)), RNG.normal(size=(3, 4))
    leaf = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.adaptive_avg_pool2d(leaf, 1)
    theirs.backward(torch.tensor(grad[:, :, None, None]))
    np.testing.assert_allclose(F.global_avg_pool2d(x), theirs.detach().numpy()[:, :, 0, 0], 1e-12)
    np.testing.assert_allclose(F.global_avg_pool2d_backward(grad, x.shape), leaf.grad.numpy(), 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 2), (3, 2, 2), (2, 1, 1), ((4, 3), (2, 3), (3, 0)), (5, 4, 4)]
)
def test_padding_wider_than_half_a_window_as_padding_by_hand(kernel, stride, padding, dtype):
    """As ONNX has it; PyTorch refuses it."""
    rows, labels = RNG.normal(size=(6, 1, 9, 7)).astype(dtype), RNG.integers(0, 3, 6)
    layers = ff.Conv2d(1, 4, 3, padding=1), ff.ReLU(), ff.MaxPool2d(kernel, stride, padding), ff.Flatten()
    model = ff.Sequential(*layers, dtype=dtype, seed=0)
    width = model.output_shape((1, 9, 7))[0]
    model = ff.Sequential(*layers, ff.Linear(width, 3), dtype=dtype, seed=0)
    module = ff.to_torch(ff.Sequential(*model.layers[:2], dtype=dtype))
    (down, right), linear = np.broadcast_to(padding, 2).tolist(), torch.nn.Linear(width, 3, dtype=getattr(torch, dtype))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(model.layers[-1].params["weight"].T))
        linear.bias.copy_(torch.tensor(model.layers[-1].params["bias"]))
    padded = torch.nn.functional.pad(module(torch.tensor(rows)), (right, right, down, down), value=-torch.inf)
    logits = linear(torch.nn.functional.max_pool2d(padded, kernel, stride).flatten(1))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(ff.predict_raw(model, rows), logits.detach().numpy(), tolerance, tolerance)
    ff.fit(
        model, rows, labels, optimizer=ff.SGD(1.0), loss=ff.CrossEntropyLoss(), epochs=1, batch_size=6, progress=False
    )
    gradient = next(module.parameters()).grad.numpy()
    before = module[0].weight.detach().numpy()
    np.testing.assert_allclose(model.layers[0].params["weight"], before - gradient, tolerance, tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", [1, 2, (3, 1), (6, 4)])
def test_adaptive_average(output, dtype):
    x = torch.tensor(RNG.normal(size=(3, 4, 6, 4)), dtype=getattr(torch, dtype), requires_grad=True)
    layer, expected = ff.AdaptiveAvgPool2d(output), torch.nn.functional.adaptive_avg_pool2d(x, output)
    grad = torch.tensor(RNG.normal(size=tuple(expected.shape)), dtype=x.dtype)
    expected.backward(grad)
    tolerance = {"float32": 1e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(layer.forward(x.detach()), expected.detach(), tolerance, tolerance)
    np.testing.assert_allclose(layer.backward(grad), x.grad, tolerance, tolerance)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x.detach(), output), expected.detach(), tolerance, tolerance)
    np.testing.assert_allclose(F.adaptive_avg_pool2d_backward(grad, tuple(x.shape)), x.grad, tolerance, tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("image", [(1, 1), (2, 2), (5, 7), (1, 33)])
def test_global_maximum(image, dtype):
    x = torch.tensor(RNG.integers(-2, 3, (3, 4, *image)), dtype=getattr(torch, dtype), requires_grad=True)
    layer, expected = ff.GlobalMaxPool2d(), torch.nn.functional.adaptive_max_pool2d(x, 1).flatten(1)
    grad = torch.tensor(RNG.normal(size=(3, 4)), dtype=x.dtype)
    expected.backward(grad)
    np.testing.assert_array_equal(layer.forward(x.detach()), expected.detach())
    np.testing.assert_array_equal(layer.backward(grad), x.grad)
    np.testing.assert_array_equal(F.global_max_pool2d(x.detach()), expected.detach())
    np.testing.assert_array_equal(F.global_max_pool2d_backward(grad, x.detach()), x.grad)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", [0, 2, (1, 0, 0, 3), (0, 33, 1, 0)])
def test_zeros_around_images(padding, dtype):
    x = torch.tensor(RNG.normal(size=(2, 3, 4, 5)), dtype=getattr(torch, dtype), requires_grad=True)
    expected = torch.nn.ZeroPad2d(padding)(x)
    grad = torch.tensor(RNG.normal(size=tuple(expected.shape)), dtype=x.dtype)
    expected.backward(grad)
    np.testing.assert_array_equal(F.zero_pad2d(x.detach(), padding), expected.detach())
    np.testing.assert_array_equal(F.zero_pad2d_backward(grad, padding), x.grad)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", [(2, 2, 0), (3, 2, 1), (4, 3, 2), (1, 1, 0), (5, 1, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling_of_lines(settings, ceil_mode, dtype):
    x = torch.tensor(np.random.default_rng(3).normal(size=(3, 4, 17)), dtype=getattr(torch, dtype), requires_grad=True)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    ours = x.detach().numpy()
    for dilation in (1, 2):
        out, index = torch.nn.functional.max_pool1d(x, *settings, dilation, ceil_mode, True)
        (expected,) = torch.autograd.grad(out, x, torch.cos(out))
        got, places = F.max_pool1d(ours, *settings, dilation, ceil_mode, True)
        np.testing.assert_array_equal(got, out.detach())
        np.testing.assert_array_equal(places, index)
        grad = F.max_pool1d_backward(torch.cos(out).detach().numpy(), places, ours.shape)
        np.testing.assert_allclose(grad, expected, tolerance, tolerance)
    for counts in (False, True):
        out = torch.nn.functional.avg_pool1d(x, *settings, ceil_mode, counts)
        (expected,) = torch.autograd.grad(out, x, torch.cos(out))
        np.testing.assert_allclose(F.avg_pool1d(ours, *settings, ceil_mode, counts), out.detach(), tolerance, tolerance)
        grad = F.avg_pool1d_backward(torch.cos(out).detach().numpy(), ours.shape, *settings, ceil_mode, counts)
        np.testing.assert_allclose(grad, expected, tolerance, tolerance)
