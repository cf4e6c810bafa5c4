"""Dropout: a mask that is a function of seed, step and place; the layer that counts its forwards."""

import math

import numpy as np
import pytest
from _operations import run_operation

import fastfnn as ff
import fastfnn_kernels as kernels
from fastfnn import functional as F
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import _config, reference
from fastfnn_kernels.program import Place

RNG = np.random.default_rng(43)
N = 1 << 18
#: Standard deviations that no honest draw of these tests exceeds: there are some thousand comparisons.
SIGMAS = 5.0


def kept(p=0.5, seed=0, step=0, n=N):
    return F.dropout(np.ones(n, "float32"), p, seed, step) != 0


def correlation(a, b):
    """In standard deviations of independent masks."""
    a, b = a - a.mean(), b - b.mean()
    return np.mean(a * b) / (a.std() * b.std()) * math.sqrt(len(a))


# The mask


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.77, 0.999])
def test_the_share_of_elements_kept_is_right_for_every_seed_and_step(p):
    for seed in (0, 1, 2**31, 2**63 - 1):
        for step in (0, 1, 1000):
            error = kept(p, seed, step).mean() - (1 - p)
            assert abs(error) < SIGMAS * math.sqrt(p * (1 - p) / N)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_neighbours_are_independent_at_every_distance(p):
    mask = kept(p, seed=3, step=5)
    for lag in [*range(1, 70), 100, 127, 128, 256, 784, 1000, 1024, 4096, 1 << 16]:
        assert abs(correlation(mask[:-lag], mask[lag:])) < SIGMAS, f"distance {lag}"


@pytest.mark.parametrize(
    "other", [{"step": 1}, {"step": 2}, {"step": 1 << 32}, {"seed": 1}, {"seed": 2}, {"seed": 1 << 32}]
)
def test_masks_of_other_steps_and_seeds_are_independent_also_when_shifted(other):
    mask, other_mask = kept(), kept(**other)
    for shift in (0, 1, 2, 3, 8, 64, 100, 784, 1 << 16):
        assert abs(correlation(mask, np.roll(other_mask, shift))) < SIGMAS, f"shifted by {shift}"


def test_seed_and_step_are_not_one_number():
    masks = {kept(seed=seed, step=step, n=64).tobytes() for seed in range(20) for step in range(20)}
    assert len(masks) == 400


def test_an_element_over_many_steps_and_seeds_is_kept_as_often_as_it_should():
    for masks in ([kept(0.3, 1, step, 256) for step in range(4000)], [kept(0.3, seed, 0, 256) for seed in range(4000)]):
        share = np.mean(masks, axis=0)
        assert np.abs(share - 0.7).max() < SIGMAS * math.sqrt(0.21 / 4000)


def test_every_pattern_of_eight_neighbours_is_as_frequent_as_it_should():
    """Chi-squared of 256 patterns: 255 on average, with a standard deviation of 22.6."""
    patterns = np.packbits(kept(0.5, 9, 9)).astype(np.int64)
    expected = len(patterns) / 256
    chi_squared = (((np.bincount(patterns, minlength=256)) - expected) ** 2 / expected).sum()
    assert abs(chi_squared - 255) < SIGMAS * math.sqrt(2 * 255)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(dtype):
    x = RNG.uniform(1, 2, (1000, 100)).astype(dtype)
    out = F.dropout(x, 0.2, 4, 2)
    assert out.dtype == dtype
    np.testing.assert_allclose(out[out != 0], x[out != 0] / 0.8, rtol=1e-6)
    assert out.mean() == pytest.approx(x.mean(), rel=0.01)


def test_the_compiled_mask_is_that_of_the_reference():
    x = RNG.normal(size=(33, 17))
    for p, seed, step in ((0.5, 0, 0), (0.1, 2**63 - 1, 7), (0.9, 12345, 2**40), (1 - 1e-12, 1, 1)):
        np.testing.assert_allclose(F.dropout(x, p, seed, step), reference.dropout(x, p, seed, step), rtol=1e-12)


def test_the_mask_does_not_depend_on_threads_or_chunks():
    x = RNG.normal(size=(101, 13))
    whole = F.dropout(x, 0.4, 5, 6)
    for n_threads in (2, 3):
        np.testing.assert_array_equal(F.dropout(x, 0.4, 5, 6, n_threads=n_threads), whole)
    pieces = np.full_like(x, np.nan)
    for start in range(0, 101, 24):
        rows = slice(start, start + 24)
        piece = np.empty_like(x[rows])
        kernels.dropout.dropout(piece.reshape(-1), x[rows].reshape(-1), 0.4, 5, 6, start * 13)
        pieces[rows] = piece
    np.testing.assert_array_equal(pieces, whole)


def test_the_backward_has_the_mask_and_the_scale_of_its_forward():
    x, grad = RNG.normal(size=(2, 20, 30))
    out, grad_x = F.dropout(x, 0.3, 8, 9), F.dropout_backward(grad, 0.3, 8, 9)
    np.testing.assert_allclose(grad_x, grad * (out / x), rtol=1e-12)


def test_nothing_is_dropped_at_zero():
    x = RNG.normal(size=1000).astype("float32")
    np.testing.assert_array_equal(F.dropout(x, 0.0, 3, 4), x)
    np.testing.assert_array_equal(F.dropout_backward(x, 0.0, 3, 4), x)


@pytest.mark.parametrize("function", [F.dropout, F.dropout_backward])
def test_bad_arguments_are_named(function):
    x = np.ones(3)
    for arguments, error, message in (
        ((x, 1.0), InvalidValueError, "p is 1; expected less than 1"),
        ((x, -0.1), InvalidValueError, "p is -0.1; expected at least 0"),
        ((x, "a"), InvalidTypeError, "p is 'a'; expected a number"),
        ((x, 0.5, -1), InvalidValueError, "seed is -1; expected an integer of at least 0"),
        ((x, 0.5, 2**63), InvalidValueError, "seed is 9223372036854775808; expected less than"),
        ((x, 0.5, 0, 1.5), InvalidTypeError, "step is 1.5; expected an integer"),
        ((["a"],), InvalidTypeError, "has dtype <U1; expected numbers"),
    ):
        with pytest.raises(error, match=message):
            function(*arguments)


@pytest.mark.skipif(not _config.JIT, reason="without the JIT there are no operations")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_operation_knows_its_place_in_the_batch(dtype):
    """Rows 5 to 9 of the chunk that starts at row 16 of the batch, in step 3."""
    batch = RNG.normal(size=(30, 11)).astype(dtype)
    x, out = np.ascontiguousarray(batch[16:]), np.full((14, 11), np.nan, dtype)
    mask = {"p": 0.4, "seed": 77, "counter": np.array([3])}
    run_operation("dropout", dtype, [Place(first=5, last=9, piece=16)], 14, out=out, x=x, width=11, **mask)
    np.testing.assert_array_equal(out[5:9], F.dropout(batch, 0.4, 77, 3)[21:25])
    assert np.isnan(out[:5]).all()
    assert np.isnan(out[9:]).all()


# The layer


def test_each_forward_draws_a_new_mask_and_the_backward_uses_it_again():
    layer, ones = ff.Dropout(0.5, seed=1), np.ones((40, 25))
    outs = []
    for step in range(3):
        assert layer.step == step
        outs.append(layer.forward(ones))
        np.testing.assert_array_equal(layer.backward(ones), outs[-1])
    assert all((outs[a] != outs[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    layer.step = 1
    np.testing.assert_array_equal(layer.forward(ones), outs[1])


def test_in_inference_nothing_happens():
    layer, x = ff.Dropout(0.5, seed=1), RNG.normal(size=(4, 5)).astype("float32")
    layer.training = False
    np.testing.assert_array_equal(layer.forward(x), x)
    layer.training = True
    np.testing.assert_array_equal(layer.backward(x), x)
    assert layer.step == 0


def network(seed):
    layers = (ff.Linear(6, 5), ff.Dropout(0.3), ff.Tanh(), ff.Dropout(0.3), ff.Linear(5, 3))
    return ff.Sequential(*layers, seed=seed)


def test_the_seed_comes_from_the_models_generator():
    a, b, c = network(0), network(0), network(1)
    assert (a[1].seed, a[3].seed) == (b[1].seed, b[3].seed)
    assert len({a[1].seed, a[3].seed, c[1].seed, c[3].seed}) == 4
    assert ff.Sequential(ff.Dropout(0.3, seed=8), seed=0)[0].seed == 8
    x = RNG.normal(size=(7, 6))
    np.testing.assert_array_equal(a.forward(x), b.forward(x))


def test_train_and_eval_switch_it():
    model, x = network(0), RNG.normal(size=(7, 6))
    quiet = model.eval().forward(x)
    np.testing.assert_array_equal(model.forward(x), quiet)
    assert (model.train().forward(x) != quiet).any()


def test_the_gradient_check_sees_one_mask_and_leaves_the_counter():
    model, x = network(0), RNG.normal(size=(7, 6))
    model.forward(x)
    assert ff.gradcheck(model, x) < 1e-7
    assert ff.gradcheck(ff.Dropout(0.6), x) < 1e-7
    assert model[1].step == 1


def test_the_seed_is_saved_with_the_model(tmp_path):
    model, x = network(5), RNG.normal(size=(7, 6))
    ff.save(model, tmp_path / "m")
    again = ff.load(tmp_path / "m")
    np.testing.assert_array_equal(again.forward(x), model.forward(x))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ff.Dropout(1), InvalidValueError, "p is 1; expected less than 1"),
        (lambda: ff.Dropout(-1), InvalidValueError, "p is -1; expected at least 0"),
        (lambda: ff.Dropout(seed=-1), InvalidValueError, "seed is -1"),
        (lambda: ff.Dropout(seed=2**63), InvalidValueError, "seed is .*; expected less than 2"),
        (lambda: ff.Dropout(seed="a"), InvalidTypeError, "seed is 'a'; expected an integer"),
    ],
)
def test_bad_layers_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout2d_drops_whole_channels_about_as_often_as_it_should(dtype):
    out = F.dropout2d(np.ones((200, 20, 3, 2), dtype), 0.3, seed=5, step=1)
    each = out.reshape(4000, 6)
    assert (each == each[:, :1]).all()
    np.testing.assert_allclose(np.unique(out), [0, 1 / 0.7], rtol=1e-6)
    assert abs((each[:, 0] == 0).mean() - 0.3) < 0.03


def test_dropout2d_does_nothing_in_inference():
    layer, x = ff.Dropout2d(0.9, seed=0), np.ones((2, 3, 4, 4), "float32")
    layer.training = False
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
