"""Convolution: every combination of settings against the twins, the layer, gradients, and what is refused."""

import numpy as np
import pytest
from _convolutions import Convolution, every_convolution

import fastfnn as ff
import fastfnn_kernels as kernels
from fastfnn import functional as F
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import reference
from fastfnn_kernels.convolution import PLAIN, POOL, RELU, RELU_POOL

DTYPES = ("float32", "float64")
CASES = every_convolution()


def assert_all_close(got, want, terms, where):
    """Arrays that are sums of so many products lie within their rounding."""
    for one, other in zip(got, want, strict=True):
        tolerance = 2 * np.finfo(one.dtype).eps
        np.testing.assert_allclose(one, other, tolerance, tolerance * (1 + terms), err_msg=str(where))


def test_the_grid_has_the_corners():
    assert len(CASES) > 1500
    assert any(not case.room.any() and 1 not in case.kernel for case in CASES)  # the filter fills the padded image
    assert any(case.out_shape[2:] == (1, 1) for case in CASES)
    assert any(case.size == (1, 1) for case in CASES)
    assert any(1 < case.groups == case.channels for case in CASES)  # depthwise
    assert any(case.kernel == (1, 1) for case in CASES)
    assert any((np.array(case.stride) > case.kernel).all() and case.dilation == 1 for case in CASES)  # unread pixels
    assert any((np.array(case.padding) > case.size).any() for case in CASES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_and_backward_of_every_kind(dtype, rng):
    for number, case in enumerate(CASES[DTYPES.index(dtype) :: 2]):
        x, weight, bias, grad_out = arrays = case.draw(rng, dtype)
        kept = [array.copy() for array in arrays]
        bias = bias if number % 3 else None
        out = F.conv2d(x, weight, bias, *case.settings, n_threads=1)
        assert_all_close([out], [reference.conv2d(x, weight, bias, *case.settings)], weight[0].size, case)
        grads = F.conv2d_backward(grad_out, x, weight, *case.settings, n_threads=1)
        want = reference.conv2d_backward(grad_out, x, weight, *case.settings)
        assert_all_close(grads, want, max(grad_out[:, 0].size, weight[:, 0].size), case)
        assert {array.dtype for array in (out, *grads)} == {x.dtype}
        for array, before in zip(arrays, kept, strict=True):
            np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(dtype, rng):
    for case in CASES[::41]:
        x, weight, bias, grad_out = case._replace(images=19).draw(rng, dtype)
        one, two, three = (
            (
                F.conv2d(x, weight, bias, *case.settings, n_threads=n),
                *F.conv2d_backward(grad_out, x, weight, *case.settings, n_threads=n),
            )
            for n in (1, 2, 3)
        )
        for a, b, c in zip(one, two, three, strict=True):
            assert a.tobytes() == b.tobytes() == c.tobytes(), case


@pytest.mark.parametrize(("size", "padding", "images_a_pass"), [((50, 40), 1, 4), ((50, 40), 0, 6), ((90, 70), 2, 1)])
def test_large_images_go_through_the_backward_a_few_at_a_time(size, padding, images_a_pass, rng):
    """As many as fit the cache; their number changes nothing but the order of sums."""
    case = Convolution(11, size, 2, 5, (3, 2), 1, padding, 1, 1)
    geometry = kernels.convolution.geometry.geometry(2, size, 5, (3, 2), (1, 1), (padding, padding), (1, 1), 1)
    assert kernels.convolution.geometry.header_of(geometry.words).images_a_pass == images_a_pass
    x, weight, _, grad_out = case.draw(rng, "float64")
    grads = F.conv2d_backward(grad_out, x, weight, *case.settings)
    assert_all_close(grads, reference.conv2d_backward(grad_out, x, weight, *case.settings), grad_out[:, 0].size, case)


@pytest.mark.parametrize("after", [PLAIN, RELU, POOL, RELU_POOL])
@pytest.mark.parametrize("pairs", [((1, 1), (0, 0), (1, 1)), ((1, 1), (1, 2), (1, 1)), ((2, 3), (1, 0), (1, 1))])
def test_working_memory_may_be_used_again_even_after_nans(pairs, after, rng):
    """Programs keep it from batch to batch: its borders must stay zero."""
    geometry = kernels.convolution.geometry.geometry(2, (7, 8), 3, (3, 2), *pairs, groups=1)
    rows, columns = geometry.out_size
    out_shape = (9, 3, rows // 2, columns // 2) if after >= POOL else (9, 3, rows, columns)
    weight, bias = rng.normal(size=(3, 2, 3, 2)), rng.normal(size=3)

    def run(x, grad_out, forward_memory, backward_memory):
        out, index = np.empty(out_shape), np.empty(out_shape if after >= POOL else 0, np.int32)
        kernels.convolution.conv2d(out, index, forward_memory, x, weight, bias, *pairs, 1, after)
        grads = [np.full_like(array, np.nan) for array in (x, weight, bias)]
        kernels.convolution.conv2d_backward(*grads, *backward_memory, grad_out, x, weight, out, index, *pairs, 1, after)
        return out, *grads

    def memory():
        forward, backward = (geometry.scratch(9, is_backward, x.dtype, 1) for is_backward in (False, True))
        return forward, (backward, geometry.partials(9, x.dtype))

    x, grad_out = rng.normal(size=(9, 2, 7, 8)), rng.normal(size=out_shape)
    used = memory()
    run(np.full_like(x, np.nan), np.full_like(grad_out, np.nan), *used)
    for again, fresh in zip(run(x, grad_out, *used), run(x, grad_out, *memory()), strict=True):
        np.testing.assert_array_equal(again, fresh)
        assert np.isfinite(fresh).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize(("channels", "filters"), [(2, 6), (4, 32), (32, 4)])
def test_pooling_in_the_same_pass_has_the_gradients_of_the_layers(channels, filters, dilation, groups, dtype, rng):
    """However few of the output's places the backward walks; odd sizes leave a row or a column without a window."""
    for size, stride, padding in (((9, 8), (1, 1), (1, 0)), ((7, 12), (1, 2), (0, 3)), ((5, 6), (1, 1), (2, 1))):
        case = Convolution(9, size, channels, filters, (3, 2), stride, padding, dilation, groups)
        x, weight, bias, _ = case.draw(rng, dtype)
        relu, pool = ff.ReLU(), ff.MaxPool2d(2)
        want = pool.forward(relu.forward(F.conv2d(x, weight, bias, *case.settings)))
        grad_out = rng.normal(size=want.shape).astype(dtype)
        want_grads = F.conv2d_backward(relu.backward(pool.backward(grad_out)), x, weight, *case.settings)

        geometry = kernels.convolution.geometry.geometry(channels, size, filters, (3, 2), *case.settings)
        forward, backward = (geometry.scratch(9, is_backward, dtype, 1) for is_backward in (False, True))
        out, index, after = np.empty_like(want), np.empty(want.shape, np.int32), RELU_POOL
        kernels.convolution.conv2d(out, index, forward, x, weight, bias, *case.settings, after)
        grads = [np.full_like(array, np.nan) for array in (x, weight, bias)]
        saved = (grad_out, x, weight, out, index, *case.settings, after)
        kernels.convolution.conv2d_backward(*grads, backward, geometry.partials(9, dtype), *saved)
        assert_all_close([out, *grads], [want, *want_grads], max(weight[:, 0].size, grad_out[:, 0].size), case)


def test_a_filter_is_not_turned_round():
    x, weight = np.arange(16.0).reshape(1, 1, 4, 4), np.array([[[[1.0, 10], [100, 1000]]]])
    by_hand = [[5410, 6521, 7632], [9854, 10965, 12076], [14298, 15409, 16520]]
    np.testing.assert_array_equal(F.conv2d(x, weight)[0, 0], by_hand)
    np.testing.assert_array_equal(F.conv2d(x, weight, [0.5], 2)[0, 0], [[5410.5, 7632.5], [14298.5, 16520.5]])


def test_pixels_that_no_tap_reads_have_no_gradient():
    x, weight = np.ones((1, 1, 7, 7)), np.ones((1, 1, 2, 1))
    grad_x, grad_weight, grad_bias = F.conv2d_backward(np.ones((1, 1, 2, 3)), x, weight, (4, 3))
    expected = np.zeros((7, 7))
    expected[np.ix_([0, 1, 4, 5], [0, 3, 6])] = 1
    np.testing.assert_array_equal(grad_x[0, 0], expected)
    np.testing.assert_array_equal(grad_weight, np.full(weight.shape, 6))
    np.testing.assert_array_equal(grad_bias, [6])


def test_one_by_one_is_a_product_over_the_channels(rng):
    x, weight = rng.normal(size=(3, 5, 4, 6)), rng.normal(size=(7, 5, 1, 1))
    np.testing.assert_allclose(F.conv2d(x, weight), np.einsum("kc,nchw->nkhw", weight[..., 0, 0], x), 1e-12, 1e-12)


def test_groups_know_nothing_of_each_other(rng):
    x, weight = rng.normal(size=(2, 6, 5, 5)), rng.normal(size=(4, 3, 3, 3))
    halves = [F.conv2d(x[:, 3 * g : 3 * g + 3], weight[2 * g : 2 * g + 2], padding=1) for g in (0, 1)]
    np.testing.assert_array_equal(F.conv2d(x, weight, padding=1, groups=2), np.concatenate(halves, axis=1))


def test_no_images(rng):
    weight = rng.normal(size=(4, 3, 3, 3))
    out = F.conv2d(np.empty((0, 3, 5, 7)), weight, padding=1)
    assert out.shape == (0, 4, 5, 7)
    grad_x, grad_weight, grad_bias = F.conv2d_backward(out, np.empty((0, 3, 5, 7)), weight, padding=1)
    assert grad_x.shape == (0, 3, 5, 7)
    np.testing.assert_array_equal(grad_weight, np.zeros(weight.shape))
    np.testing.assert_array_equal(grad_bias, np.zeros(4))


# The layer ---------------------------------------------------------------------------------------------------------

LAYERS = {
    "plain": (lambda **more: ff.Conv2d(3, 4, 3, **more), (2, 3, 5, 6)),
    "padded": (lambda **more: ff.Conv2d(2, 5, 3, padding=1, **more), (9, 2, 4, 3)),
    "one pixel": (lambda **more: ff.Conv2d(1, 1, 1, **more), (1, 1, 1, 1)),
    "strided": (lambda **more: ff.Conv2d(2, 3, (3, 2), (2, 3), (1, 0), **more), (2, 2, 7, 8)),
    "leaping": (lambda **more: ff.Conv2d(1, 2, 2, 4, **more), (2, 1, 8, 9)),
    "dilated": (lambda **more: ff.Conv2d(2, 2, 3, 1, 2, (1, 2), **more), (2, 2, 5, 5)),
    "grouped": (lambda **more: ff.Conv2d(4, 6, 3, groups=2, **more), (2, 4, 4, 5)),
    "depthwise": (lambda **more: ff.Conv2d(3, 6, 3, 2, 1, groups=3, **more), (2, 3, 5, 5)),
    "images without channels": (lambda **more: ff.Conv2d(1, 3, 3, padding=1, **more), (4, 5, 6)),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_gradients_match_central_differences(name, bias, rng):
    make, shape = LAYERS[name]
    layer = make(bias=bias)
    assert set(layer.params) == ({"weight", "bias"} if bias else {"weight"})
    assert ff.gradcheck(layer, rng.normal(size=shape)) < 1e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_the_function_of_its_parameters(name, dtype, rng):
    make, shape = LAYERS[name]
    layer = make(bias_init="normal")
    layer.build(rng, dtype)
    x, params = rng.normal(size=shape).astype(dtype), layer.params
    filters = layer.filters
    images = x if x.ndim == 4 else x[:, None]
    out = layer.forward(x)
    np.testing.assert_array_equal(out, F.conv2d(images, params["weight"], params["bias"], *filters.settings))
    assert (out.dtype, out.shape[1:]) == (dtype, layer.output_shape(shape[1:]))
    grad = rng.normal(size=out.shape).astype(dtype)
    expected = F.conv2d_backward(grad, images, params["weight"], *filters.settings)
    for _ in range(2):  # gradients are overwritten, not added to
        grad_x = layer.backward(grad)
        np.testing.assert_array_equal(grad_x, expected[0].reshape(shape))
        np.testing.assert_array_equal(layer.grads["weight"], expected[1])
        np.testing.assert_array_equal(layer.grads["bias"], expected[2])


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_made_again_from_its_config_and_from_a_file(name, rng, tmp_path):
    make, shape = LAYERS[name]
    model = ff.Sequential(make(bias=name != "padded"), seed=0)
    assert eval(repr(model[0]), vars(ff)).config() == model[0].config()
    ff.save(model, tmp_path / "model")
    again = ff.load(tmp_path / "model")
    assert again[0].config() == model[0].config()
    x = rng.normal(size=shape)
    np.testing.assert_array_equal(again.forward(x), model.forward(x))


def test_repr_leaves_out_what_is_the_default():
    assert repr(ff.Conv2d(1, 6, 5)) == "Conv2d(in_channels=1, out_channels=6, kernel_size=5)"
    assert repr(ff.Conv2d(4, 6, (3, 1), 2, (1, 0), groups=2, bias=False)) == (
        "Conv2d(in_channels=4, out_channels=6, kernel_size=[3, 1], stride=2, padding=[1, 0], groups=2, bias=False)"
    )


def test_the_start_fits_the_activation_that_follows_and_counts_a_groups_pixels():
    fan_in = 32 // 2 * 5 * 3
    for activation, variance in ((ff.ReLU(), 2 / fan_in), (ff.Tanh(), 2 / (fan_in + 64))):
        model = ff.Sequential(ff.Conv2d(32, 64, (5, 3), groups=2), activation, seed=0)
        weight = model[0].params["weight"]
        assert weight.shape == (64, 16, 5, 3)
        assert weight.var() == pytest.approx(variance, rel=0.03)
        assert not model[0].params["bias"].any()


def test_an_initialiser_of_ones_own_gives_a_column_for_each_filter():
    layer = ff.Conv2d(2, 3, 2, weight_init=lambda shape, rng: np.arange(24.0).reshape(shape))
    np.testing.assert_array_equal(layer.params["weight"].reshape(3, 8), np.arange(24).reshape(8, 3).T)


# What is refused ---------------------------------------------------------------------------------------------------

X, WEIGHT, BIAS, GRAD = np.ones((2, 4, 5, 7)), np.ones((6, 4, 3, 3)), np.ones(6), np.ones((2, 6, 3, 5))
HALF = WEIGHT[:, :2]
TEXT = np.array([["a"]])


def layer_after(x, **arguments):
    layer = ff.Conv2d(4, 6, 3, **arguments)
    layer.forward(x)
    return layer


BAD_CALLS = [
    (lambda: F.conv2d(X[0], WEIGHT), InvalidValueError, r"x has shape \(4, 5, 7\); expected 4 dimensions"),
    (lambda: F.conv2d(X, WEIGHT[0]), InvalidValueError, r"weight has shape \(4, 3, 3\); expected 4 dimensions"),
    (lambda: F.conv2d(X[:, :3], WEIGHT), InvalidValueError, r"x has shape \(2, 3, 5, 7\), with 3 channels; expected 4"),
    (lambda: F.conv2d(X, HALF, groups=3), InvalidValueError, "with 4 channels; expected 6, 3 groups of 2"),
    (lambda: F.conv2d(X, WEIGHT[:0]), InvalidValueError, r"weight has shape \(0, 4, 3, 3\); expected no dimension of"),
    (lambda: F.conv2d(X[..., :0], WEIGHT, padding=2), InvalidValueError, "expected images of at least one pixel"),
    (lambda: F.conv2d(X[:, :, :2], WEIGHT), InvalidValueError, "its height, 2 with padding, is less than the 3 that a"),
    (
        lambda: F.conv2d(X, WEIGHT, padding=1, dilation=(1, 5)),
        InvalidValueError,
        r"x has shape \(2, 4, 5, 7\); its width, 9 with padding, is less than the 11 .* kernel of 3 with dilation 5",
    ),
    (lambda: F.conv2d(X, WEIGHT, BIAS[:4]), InvalidValueError, r"bias has shape \(4,\); expected \(6,\), one for each"),
    (lambda: F.conv2d(X, WEIGHT, BIAS[:, None]), InvalidValueError, r"bias has shape \(6, 1\); expected \(6,\)"),
    (lambda: F.conv2d(TEXT, WEIGHT), InvalidTypeError, "x has dtype <U1; expected numbers"),
    (lambda: F.conv2d(X, WEIGHT + 1j), InvalidTypeError, "weight has dtype complex128; expected numbers"),
    (lambda: F.conv2d(X, WEIGHT, TEXT), InvalidTypeError, "bias has dtype <U1"),
    (lambda: F.conv2d(X, WEIGHT, stride=0), InvalidValueError, "stride is 0; expected an integer of at least 1"),
    (
        lambda: F.conv2d(X, WEIGHT, stride=(1, 2, 3)),
        InvalidValueError,
        r"stride is \(1, 2, 3\); expected an integer, or",
    ),
    (lambda: F.conv2d(X, WEIGHT, stride=1.5), InvalidTypeError, "stride is 1.5; expected an integer"),
    (lambda: F.conv2d(X, WEIGHT, padding=(0, -1)), InvalidValueError, r"padding\[1\] is -1; expected an integer of at"),
    (lambda: F.conv2d(X, WEIGHT, dilation=0), InvalidValueError, "dilation is 0"),
    (lambda: F.conv2d(X, WEIGHT, groups=0), InvalidValueError, "groups is 0; expected an integer of at least 1"),
    (lambda: F.conv2d(X, HALF[:5], groups=2), InvalidValueError, "groups is 2; expected a divisor of the 5 output"),
    (
        lambda: F.conv2d_backward(GRAD[:1], X, WEIGHT),
        InvalidValueError,
        r"grad_out has shape \(1, 6, 3, 5\); expected \(2, 6, 3, 5\), the shape of the output",
    ),
    (lambda: F.conv2d_backward(GRAD, X, WEIGHT, 2), InvalidValueError, r"\(2, 6, 3, 5\); expected \(2, 6, 2, 3\)"),
    (lambda: F.conv2d_backward(TEXT, X, WEIGHT), InvalidTypeError, "grad_out has dtype <U1"),
    (lambda: F.conv2d_backward(GRAD, X[:, :3], WEIGHT), InvalidValueError, "with 3 channels; expected 4"),
    (
        lambda: ff.Conv2d(4, 6, 3, groups=3),
        InvalidValueError,
        "groups is 3; expected a divisor of in_channels, which is",
    ),
    (lambda: ff.Conv2d(4, 6, 3, groups=4), InvalidValueError, "groups is 4; expected a divisor of the 6 output"),
    (lambda: ff.Conv2d(0, 6, 3), InvalidValueError, "in_channels is 0"),
    (lambda: ff.Conv2d(4, 6, "3"), InvalidTypeError, "kernel_size is '3'; expected an integer"),
    (lambda: ff.Conv2d(4, 6, (3, 0)), InvalidValueError, r"kernel_size\[1\] is 0"),
    (lambda: ff.Conv2d(4, 6, 3, weight_init="hee"), InvalidValueError, "weight_init is 'hee'; expected .*'he'"),
    (lambda: ff.Conv2d(4, 6, 3).backward(GRAD), InvalidValueError, "Conv2d.backward was called before forward"),
    (lambda: layer_after(X[0, 0]), InvalidValueError, r"x has shape \(5, 7\); expected \(n, 4, height, width\)"),
    (
        lambda: layer_after(X[:, :3]),
        InvalidValueError,
        r"got samples of shape \(3, 5, 7\); expected \(4, height, width",
    ),
    (lambda: layer_after(X[:, 0]), InvalidValueError, r"got samples of shape \(5, 7\); expected \(4, height, width\)"),
    (
        lambda: layer_after(X, dilation=3),
        InvalidValueError,
        r"Conv2d\(.*dilation=3\).*height, 5 .* less than the 7 that",
    ),
    (
        lambda: layer_after(X).backward(X),
        InvalidValueError,
        r"grad_out has shape \(2, 4, 5, 7\); expected \(2, 6, 3, 5",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_arguments_are_named_and_left_alone(call, error, message):
    kept = [array.copy() for array in (X, WEIGHT, BIAS, GRAD)]
    with pytest.raises(error, match=message):
        call()
    for array, before in zip((X, WEIGHT, BIAS, GRAD), kept, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("refused", [X[:, :, :2], X[:, :3]])
def test_a_refused_call_leaves_the_layer_as_it_was(refused):
    layer = layer_after(X)
    grad_x = layer.backward(GRAD)
    kept = {name: array.copy() for name, array in layer.grads.items()}
    with pytest.raises(InvalidValueError, match="x has shape|got samples"):
        layer.forward(refused)
    with pytest.raises(InvalidValueError, match="grad_out has shape"):
        layer.backward(GRAD[..., :2])
    for name, array in layer.grads.items():
        np.testing.assert_array_equal(array, kept[name])
    np.testing.assert_array_equal(layer.backward(GRAD), grad_x)  # of the last images that were not refused
