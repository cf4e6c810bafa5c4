"""Networks of images through `fit`, `train_step`, `evaluate` and `predict`: compiled equals the layers."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import lowering, program
from fastfnn.engine.steps import BatchNormStep, ConvStep, DropoutStep, LinearStep, NormalizeStep, PoolStep, ReshapeStep
from fastfnn.errors import InvalidValueError
from fastfnn_kernels import _config

RNG = np.random.default_rng(7)
N, CLASSES = 19, 3
X, Y = RNG.normal(size=(N, 2, 9, 10)), RNG.integers(0, CLASSES, N)

needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")

#: From images (2, 9, 10) to anything flat.
NETWORKS = {
    "conv": lambda: [ff.Conv2d(2, 3, 3), ff.Flatten()],
    "conv, relu": lambda: [ff.Conv2d(2, 3, (3, 2), padding=1), ff.ReLU(), ff.Flatten()],
    "conv, relu, pool": lambda: [ff.Conv2d(2, 6, 3, padding=1), ff.ReLU(), ff.MaxPool2d(2), ff.Flatten()],
    "conv, pool, relu": lambda: [ff.Conv2d(2, 18, 2), ff.MaxPool2d(2), ff.ReLU(), ff.Flatten()],
    "conv, pool": lambda: [ff.Conv2d(2, 3, 3, bias=False), ff.MaxPool2d(2), ff.Tanh(), ff.Flatten()],
    "a chain": lambda: [
        ff.Normalize([0.1, -0.2], [1.5, 0.7]),
        ff.Conv2d(2, 16, 3, padding=1, bias=False),
        ff.BatchNorm2d(16),
        ff.ReLU(),
        ff.Conv2d(16, 20, 3, stride=2, groups=2),
        ff.LeakyReLU(),
        ff.AvgPool2d(2, padding=1),
        ff.Flatten(),
    ],
    "depthwise": lambda: [ff.Conv2d(2, 4, 3, groups=2, dilation=2), ff.ReLU(), ff.Conv2d(4, 5, 1), ff.Flatten()],
    "pools": lambda: [ff.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), ff.Conv2d(2, 4, 2), ff.GlobalAvgPool2d()],
    "prelu": lambda: [ff.PReLU(2), ff.Conv2d(2, 4, 3), ff.PReLU(4, 0.1), ff.MaxPool2d(2), ff.PReLU(), ff.Flatten()],
    "adaptive average": lambda: [
        ff.Conv2d(2, 3, 2),
        ff.AdaptiveAvgPool2d((4, 3)),
        ff.AdaptiveAvgPool2d(1),
        ff.Flatten(),
    ],
    "global maximum": lambda: [ff.Conv2d(2, 4, 3), ff.ReLU(), ff.GlobalMaxPool2d()],
    "padded": lambda: [
        ff.ZeroPad2d((0, 1, 2, 3)),
        ff.Conv2d(2, 4, 3),
        ff.ZeroPad2d((1, 0, 0, 1)),
        ff.Conv2d(4, 2, 2),
        ff.Flatten(),
    ],
    "dropped channels": lambda: [
        ff.Dropout2d(0.4, seed=3),
        ff.Conv2d(2, 4, 3),
        ff.Dropout2d(0.3, seed=5),
        ff.Flatten(),
    ],
    "augmentation": lambda: [
        ff.RandomFlip(seed=7),
        ff.Normalize(0.1, 1.5),
        ff.RandomShift((1, 2), seed=8),
        ff.RandomErase(3, seed=9),
        ff.Noise(0.1, seed=10),
        ff.Flatten(),
    ],
    "augmentation behind layers that train": lambda: [
        ff.Conv2d(2, 3, 3),
        ff.RandomFlip(False, True, seed=7),
        ff.RandomShift(2, seed=8),
        ff.RandomErase((2, 5), seed=9),
        ff.RandomRotation(30, seed=11),
        ff.Noise(0.1, seed=10),
        ff.Flatten(),
    ],
    "layer norm": lambda: [
        ff.LayerNorm((2, 9, 10)),
        ff.Conv2d(2, 4, 3),
        ff.LayerNorm((4, 7, 8)),
        ff.ReLU(),
        ff.Flatten(),
    ],
    "batch norm, dropout": lambda: [
        ff.BatchNorm2d(2, affine=False),
        ff.Dropout(0.2, seed=3),
        ff.Conv2d(2, 4, 3),
        ff.BatchNorm2d(4, momentum=0.3),
        ff.ReLU(),
        ff.Dropout(0.4, seed=4),
        ff.Flatten(),
        ff.Linear(224, 7),
        ff.BatchNorm1d(7),
        ff.ReLU(),
    ],
}


def network(name, dtype="float64"):
    layers = NETWORKS[name]()
    model = ff.Sequential(*layers, seed=0)
    (features,) = model.output_shape(X.shape[1:])
    return ff.Sequential(*layers, ff.Linear(features, CLASSES), seed=1, dtype=dtype)


def use(name, dtype, optimizer, batch_size, n_threads=1, x=X):
    """What every entry point gives, and what the network then holds."""
    model, loss = network(name, dtype), ff.CrossEntropyLoss()
    x = x.astype(dtype) if x.dtype.kind == "f" else x
    options = {"batch_size": batch_size, "epochs": 2, "seed": 0, "progress": False, "n_threads": n_threads}
    history = ff.fit(model, x, Y, loss=loss, optimizer=optimizer, **options)
    step = ff.train_step(model, x[:9], Y[:9], loss=loss, optimizer=optimizer, n_threads=n_threads)
    result = ff.evaluate(model, x, Y, loss=loss, n_threads=n_threads)
    raw = ff.predict_raw(model, x, n_threads=n_threads)
    kept = [np.concatenate([np.zeros(0), *model.named_buffers().values()])]
    return [np.array(history.loss), np.array([*step, *result]), raw, model.parameters.copy(), *kept]


def layer_by_layer(*args, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "is_compiled", lambda *args: False)
        return use(*args, **options)


def assert_same(one, other, dtype):
    tolerance = {"float32": 1e-3, "float64": 1e-9}[dtype]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_equals_eager_on_any_number_of_threads(name, dtype):
    """Batches of 8 with a short last one, and all rows at once."""
    for batch_size in (8, None):
        expected = layer_by_layer(name, dtype, ff.SGD(0.02), batch_size)
        runs = [use(name, dtype, ff.SGD(0.02), batch_size, n) for n in (1, 2, 3)]
        assert_same(runs[0], expected, dtype)
        for run in runs[1:]:
            assert all(a.tobytes() == b.tobytes() for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_has_a_step(name):
    assert not lowering.uncompiled(network(name))


@needs_jit
@pytest.mark.parametrize("optimizer", [ff.SGD(0.02, momentum=0.9, weight_decay=0.1), ff.Adam(0.01)], ids=repr)
def test_with_every_optimizer(optimizer):
    name = "a chain"
    expected = layer_by_layer(name, "float64", type(optimizer)(**optimizer.config()), 8)
    assert_same(use(name, "float64", type(optimizer)(**optimizer.config()), 8), expected, "float64")


@needs_jit
def test_one_image_at_a_time():
    assert_same(
        use("conv, relu, pool", "float64", ff.SGD(0.02), 1),
        layer_by_layer("conv, relu, pool", "float64", ff.SGD(0.02), 1),
        "float64",
    )


@needs_jit
def test_bytes_are_scaled_on_their_way_in():
    x = RNG.integers(0, 256, X.shape, np.uint8)
    assert_same(
        use("a chain", "float64", ff.SGD(1e-3), 8, x=x),
        layer_by_layer("a chain", "float64", ff.SGD(1e-3), 8, x=x),
        "float64",
    )


def test_the_table_finds_what_can_be_fused():
    def kinds(*layers, shape=(2, 9, 10)):
        return [(type(step), len(step.layers)) for step in lowering.lower(ff.Sequential(*layers), shape)]

    conv, relu, pool = lambda: ff.Conv2d(2, 2, 3), ff.ReLU, lambda: ff.MaxPool2d(2)
    assert kinds(ff.Normalize(), conv(), relu(), pool()) == [(NormalizeStep, 1), (ConvStep, 3)]
    assert kinds(conv(), pool(), relu()) == [(ConvStep, 3)]
    assert kinds(conv(), relu(), ff.MaxPool2d(3)) == [(ConvStep, 2), (PoolStep, 1)]
    assert kinds(conv(), relu(), ff.MaxPool2d(2, stride=1)) == [(ConvStep, 2), (PoolStep, 1)]
    assert kinds(conv(), ff.BatchNorm2d(2), relu(), ff.Dropout()) == [
        (ConvStep, 1), (BatchNormStep, 2), (DropoutStep, 1)
    ]  # fmt: skip
    assert kinds(conv(), ff.Flatten(), ff.Linear(112, 3), relu()) == [(ConvStep, 1), (ReshapeStep, 1), (LinearStep, 2)]


def test_for_inference_batch_normalisation_is_folded_into_the_convolution():
    layers = (ff.Conv2d(2, 2, 3), ff.BatchNorm2d(2), ff.ReLU(), ff.MaxPool2d(2))
    steps = lowering.lower(ff.Sequential(*layers), (2, 9, 10), training=False)
    assert [(type(step), len(step.layers)) for step in steps] == [(ConvStep, 4)]


def test_a_pool_without_a_window_is_refused_as_the_layer_does():
    model = ff.Sequential(ff.Conv2d(1, 2, 3), ff.ReLU(), ff.MaxPool2d(2))
    with pytest.raises(InvalidValueError, match="too small for kernel_size"):
        ff.predict_raw(model, np.zeros((4, 1, 3, 3)))


@needs_jit
def test_each_step_drops_others_and_a_later_fit_goes_on():
    """The mask is that of the layer's own counter, whatever path and optimizer count it."""
    model = ff.Sequential(ff.Dropout(0.5, seed=1), ff.Flatten(), ff.Linear(180, CLASSES), seed=0)
    options = {"loss": ff.CrossEntropyLoss(), "batch_size": 8, "progress": False}
    ff.fit(model, X, Y, optimizer=ff.SGD(0.01), epochs=2, **options)
    assert model.layers[0].step == 6
    ff.fit(model, X, Y, optimizer=ff.Adam(), epochs=1, **options)
    assert model.layers[0].step == 9


@pytest.mark.parametrize("batch_size", [1, 6, 9])
def test_a_batch_of_one_row_has_no_statistics(batch_size):
    """Three batches of 6 and one of 1: refused before anything has changed."""
    model = ff.Sequential(ff.Flatten(), ff.Linear(180, CLASSES), ff.BatchNorm1d(CLASSES), seed=0)
    before = model.parameters.copy()
    with pytest.raises(InvalidValueError, match="batch_size"):
        options = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.1), "progress": False}
        ff.fit(model, X, Y, batch_size=batch_size, **options)
    np.testing.assert_array_equal(model.parameters, before)
    assert not model.named_buffers()["2.running_mean"].any()
