"""Augmentation: layers that change images at random in training, as functions of seed, step and the row."""

from statistics import NormalDist

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import functional as F
from fastfnn.engine.folding import folded
from fastfnn.layers.random import RandomLayer
from fastfnn_kernels import reference
from fastfnn_kernels.reference._hashes import random_bits
from fastfnn_kernels.reference.augmentation import DRAWS

RNG = np.random.default_rng(47)
DTYPES = ("float32", "float64")
#: Standard deviations that no honest draw of these tests exceeds.
SIGMAS = 5.0
LAYERS = {
    "RandomFlip": lambda: ff.RandomFlip(True, True, seed=3),
    "RandomShift": lambda: ff.RandomShift((2, 1), seed=3),
    "RandomErase": lambda: ff.RandomErase(3, seed=3),
    "RandomRotation": lambda: ff.RandomRotation(45, seed=3),
    "Noise": lambda: ff.Noise(0.2, seed=3),
}


# What is drawn


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_flip_is_as_frequent_as_it_should(dtype, horizontal, vertical):
    image = RNG.normal(size=(3, 4)).astype(dtype)
    out = F.random_flip(np.broadcast_to(image, (2000, 3, 4)), horizontal, vertical, seed=1, step=2)
    wanted = [
        image[:: -1 if down else 1, :: -1 if across else 1]
        for across in ((False, True) if horizontal else (False,))
        for down in ((False, True) if vertical else (False,))
    ]
    counts = [(out == each).all(axis=(1, 2)).sum() for each in wanted]
    share = 1 / len(wanted)
    assert sum(counts) == 2000
    assert np.abs(np.array(counts) - 2000 * share).max() <= SIGMAS * np.sqrt(2000 * share * (1 - share))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_shift_is_as_frequent_as_it_should_and_zeros_come_in(dtype):
    image = RNG.uniform(1, 2, (2, 5, 6)).astype(dtype)
    out = F.random_shift(np.broadcast_to(image, (3000, 2, 5, 6)), (1, 2), seed=1, step=2)
    counts = []
    for down in (-1, 0, 1):
        for across in (-2, -1, 0, 1, 2):
            padded = np.pad(image, ((0, 0), (1, 1), (2, 2)))
            moved = padded[:, 1 - down : 6 - down, 2 - across : 8 - across]
            counts.append((out == moved).all(axis=(1, 2, 3)).sum())
    assert sum(counts) == 3000
    assert np.abs(np.array(counts) - 200).max() <= SIGMAS * np.sqrt(200)


def test_a_shift_beyond_the_image_leaves_nothing():
    out = F.random_shift(np.ones((400, 1, 2, 3)), 5, seed=3)
    assert set(np.unique(out)) == {0, 1}
    assert (out.reshape(400, 6).sum(axis=1) == 0).mean() > 0.8


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_rectangle_of_all_channels_is_erased(dtype):
    out = F.random_erase(np.ones((3000, 2, 7, 8), dtype), (3, 2), 0.4, seed=4, step=1)
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    erased = out[:, 0] == 0
    share = erased.any(axis=(1, 2)).mean()
    assert abs(share - 0.4) < SIGMAS * np.sqrt(0.24 / 3000)
    for image in erased[erased.any(axis=(1, 2))]:
        rows, columns = image.any(axis=1), image.any(axis=0)
        assert (image == rows[:, None] & columns).all()
        assert 1 <= rows.sum() <= 3
        assert 1 <= columns.sum() <= 2
        assert np.diff(np.flatnonzero(rows)).max(initial=1) == 1
    # An inner pixel is in six of the 56 rectangles.
    inner = erased[:, 3, 4].mean()
    assert abs(inner - 0.4 * 6 / 56) < SIGMAS * np.sqrt(0.4 * 6 / 56 / 3000)


def test_a_rotation_by_nothing_changes_nothing():
    x = RNG.normal(size=(4, 2, 5, 6))
    np.testing.assert_array_equal(F.random_rotation(x, 0.0, seed=1), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rotation_is_pytorchs_by_the_same_angle(dtype):
    torch = pytest.importorskip("torch")
    x = RNG.normal(size=(6, 2, 7, 7)).astype(dtype)
    bits = random_bits(5, 3, np.arange(6) * DRAWS).astype(np.int64)
    angles = torch.tensor((2 * bits / 2.0**32 - 1) * np.radians(60), dtype=torch.float64)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros(6, dtype=torch.float64)
    theta = torch.stack([cosine, -sine, zero, sine, cosine, zero], 1).reshape(6, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, [6, 2, 7, 7], align_corners=True)
    expected = torch.nn.functional.grid_sample(torch.tensor(x, dtype=torch.float64), grid, align_corners=True)
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(F.random_rotation(x, 60, 5, 3), expected, rtol=tolerance, atol=tolerance)
    assert angles.min() < -0.2
    assert angles.max() > 0.2


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_normally_distributed(dtype):
    noise = F.noise(np.zeros(1 << 18, dtype), 2.0, seed=6, step=7).astype(np.float64) / 2
    n = noise.size
    assert abs(noise.mean()) < SIGMAS / np.sqrt(n)
    assert abs(noise.var() - 1) < SIGMAS * np.sqrt(2 / n)
    assert abs((noise**4).mean() - 3) < SIGMAS * np.sqrt(96 / n)
    for bound in (-3.5, -2, -1, 0, 0.5, 1.5, 3, 4):
        expected = NormalDist().cdf(bound)
        assert abs((noise < bound).mean() - expected) < SIGMAS * np.sqrt(expected * (1 - expected) / n)
    for lag in (1, 2, 28, 784):
        assert abs((noise[lag:] * noise[:-lag]).mean()) < SIGMAS / np.sqrt(n - lag)


def test_the_noise_of_the_reference_is_the_quantile_of_its_bits():
    bits = random_bits(6, 7, np.arange(20_000)).astype(np.int64)
    outside = ((bits & 0x7FFFFFFF) + 0.5) / 2.0**32
    sign = np.where(bits >> 31 == 1, 1, -1)
    expected = [NormalDist().inv_cdf(each) for each in outside]
    np.testing.assert_allclose(reference.noise(np.zeros(20_000), 1.0, 6, 7), sign * np.array(expected), atol=5e-6)


# The layers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_neither_threads_nor_steps_nor_inference_surprise(name, dtype):
    layer, x = LAYERS[name](), RNG.normal(size=(9, 2, 5, 4)).astype(dtype)
    layer.build(np.random.default_rng(0), dtype)
    first, second = layer.forward(x), layer.forward(x)
    assert first.dtype == dtype
    assert first.tobytes() != second.tobytes()
    assert layer.step == 2
    for n_threads in (1, 2, 3):
        again = layer.functions[0](x, *layer.arguments(), 3, 0, n_threads=n_threads)
        assert again.tobytes() == first.tobytes()
    layer.step = 0
    assert layer.forward(x).tobytes() == first.tobytes()
    layer.training = False
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
    assert layer.step == 1


@pytest.mark.parametrize("name", LAYERS)
def test_no_rows_and_single_pixels(name):
    layer = LAYERS[name]()
    assert layer.forward(np.ones((0, 2, 3, 3))).shape == (0, 2, 3, 3)
    assert layer.forward(np.ones((2, 1, 1))).shape == (2, 1, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_the_backward_is_the_transpose(name):
    layer = LAYERS[name]()
    layer.build(np.random.default_rng(0), "float64")
    x, grad = RNG.normal(size=(2, 7, 2, 5, 4))
    out = layer.forward(x)
    if name == "Noise":  # which is affine
        out -= F.noise(0 * x, 0.2, 3, 0)
    assert (out * grad).sum() == pytest.approx((x * layer.backward(grad)).sum(), rel=1e-9)


def network(**options):
    layers = [ff.RandomFlip(), ff.Normalize(0.5, 0.3, 1 / 255), *(make() for make in LAYERS.values())]
    return ff.Sequential(*layers, ff.Flatten(), ff.Linear(30, 3), seed=0, **options)


def steps(model):
    return [layer.step for layer in model.layers if isinstance(layer, RandomLayer)]


def test_bytes_come_first_and_every_batch_is_another():
    x, y = RNG.integers(0, 256, (20, 5, 6), np.uint8), RNG.integers(0, 3, 20)
    model = network()
    options = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.01), "batch_size": 8, "progress": False}
    ff.fit(model, x, y, epochs=2, **options)
    assert steps(model) == [6] * 6


def test_a_predictor_leaves_them_out():
    model, x = network(), RNG.integers(0, 256, (4, 5, 6), np.uint8)
    assert [type(layer) for layer in folded(model, (5, 6), x.dtype).layers] == [ff.Normalize, ff.Flatten, ff.Linear]
    np.testing.assert_allclose(
        ff.Predictor(model, input_shape=(5, 6), input_dtype="uint8")(x), ff.predict_raw(model, x), rtol=1e-5, atol=1e-5
    )


def test_seeds_are_saved_and_come_from_the_models_generator(tmp_path):
    model, x = network(dtype="float64"), RNG.normal(size=(4, 5, 6))
    ff.save(model, tmp_path / "m")
    again, other = ff.load(tmp_path / "m"), network(dtype="float64")
    np.testing.assert_array_equal(again.forward(x), model.forward(x))
    assert [layer.config() for layer in model.layers] == [layer.config() for layer in other.layers]


def test_a_training_that_goes_on_draws_what_it_would_have_drawn(tmp_path):
    x, y = RNG.normal(size=(20, 5, 6)), RNG.integers(0, 3, 20)
    options = {"loss": ff.CrossEntropyLoss(), "batch_size": 8, "progress": False}
    whole, half, rest = (network(dtype="float64") for _ in range(3))
    ff.fit(whole, x, y, optimizer=ff.SGD(0.01), epochs=4, seed=1, **options)
    ff.fit(half, x, y, optimizer=ff.SGD(0.01), epochs=2, seed=1, callbacks=[ff.Checkpoint(tmp_path / "c")], **options)
    ff.fit(rest, x, y, optimizer=ff.SGD(0.01), epochs=4, seed=1, resume=tmp_path / "c", **options)
    assert rest.parameters.tobytes() == whole.parameters.tobytes()
    assert steps(rest) == [12] * 6


def test_pytorch_gets_identities():
    torch = pytest.importorskip("torch")
    module = ff.to_torch(network())
    assert [type(child) for child in module].count(torch.nn.Identity) == 6
    x = RNG.normal(size=(4, 5, 6)).astype("float32")
    model = network().eval()
    np.testing.assert_allclose(module.eval()(torch.tensor(x)).detach(), model.forward(x), rtol=1e-5, atol=1e-5)
