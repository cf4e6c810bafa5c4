"""The ready-made networks: their layers, the images that they take, what is refused."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import models
from fastfnn.errors import InvalidTypeError, InvalidValueError

IMAGES = np.random.default_rng(4).integers(0, 256, (5, 28, 28), np.uint8)
MAKERS = pytest.mark.parametrize("make", models.BY_NAME.values(), ids=models.BY_NAME.keys())
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def widths(model):
    return [(layer.in_features, layer.out_features) for layer in model.layers if isinstance(layer, ff.Linear)]


# What they are made of


def test_an_mlp_is_pairs_of_a_product_and_an_activation():
    model = models.mlp(20, (7, 5), 3, "tanh")
    assert kinds(model) == ["Flatten", "Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert widths(model) == [(20, 7), (7, 5), (5, 3)]
    assert models.mlp().n_parameters == 79_510
    assert kinds(models.mlp(hidden=())) == ["Flatten", "Normalize", "Linear"]


def test_normalisation_comes_before_the_activation_and_dropout_behind_it():
    model = models.mlp(hidden=(7, 5), activation="leaky_relu", dropout=0.3, batch_norm=True)
    hidden = ["Linear", "BatchNorm1d", "LeakyReLU", "Dropout"]
    assert kinds(model) == ["Flatten", "Normalize", *hidden, *hidden, "Linear"]
    assert [layer.p for layer in model.layers if isinstance(layer, ff.Dropout)] == [0.3, 0.3]
    assert [layer.num_features for layer in model.layers if isinstance(layer, ff.BatchNorm1d)] == [7, 5]


def test_lenet5_has_the_papers_sizes():
    model = models.lenet5()
    shapes, shape = [], (28, 28)
    for layer in model.layers:
        shape = layer.output_shape(shape)
        if isinstance(layer, (ff.Conv2d, ff.MaxPool2d, ff.Linear)):
            shapes.append(shape)
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120,), (84,), (10,)]
    counts = [sum(array.size for array in layer.params.values()) for layer in model.layers if layer.params]
    assert counts == [156, 2_416, 48_120, 10_164, 850]  # the second's 1,516 in the paper are of fewer connections


@pytest.mark.parametrize(
    ("channels", "size", "pooled"), [(1, 28, 49), (3, 32, 64), (2, (5, 11), 2), (1, 4, 1), (3, (30, 7), 7)]
)
def test_the_small_network_fits_any_size_of_image(channels, size, pooled):
    model = models.small_cnn(4, channels, size, seed=0)
    assert widths(model) == [(16 * pooled, 4)]
    height, width = size if isinstance(size, tuple) else (size, size)
    images = np.zeros((2, channels, height, width), np.uint8)
    assert ff.predict_raw(model, images).shape == model(images).shape == (2, 4)


# What they have in common


@MAKERS
def test_the_defaults_are_mnists(make):
    (layer,) = (layer for layer in make().layers if isinstance(layer, ff.Normalize))
    assert (layer.mean, layer.std, layer.scale) == ((0.1307,), (0.3081,), 1 / 255)
    (layer,) = (layer for layer in make(mean=0.5, std=2, scale=3).layers if isinstance(layer, ff.Normalize))
    assert (layer.mean, layer.std, layer.scale) == ((0.5,), (2,), 3)


def test_features_that_are_no_images_are_taken_as_they_are():
    x = np.random.default_rng(0).normal(40, 3, size=(50, 20))
    np.testing.assert_array_equal(models.mlp(20, dtype="float64").layers[0](x), x)
    fitted = ff.Normalize.fit(x)
    model = models.mlp(20, mean=fitted.mean, std=fitted.std, dtype="float64")
    assert repr(model.layers[1]) == repr(fitted)
    assert np.abs(model.layers[1](x).mean(axis=0)).max() < 1e-9
    assert models.mlp(3072, scale=1 / 255).layers[1].config() == {"mean": 0.0, "std": 1.0, "scale": 1 / 255}
    assert models.mlp(784, scale=1).layers[1].config() == {"mean": 0.1307, "std": 0.3081, "scale": 1.0}


@MAKERS
def test_images_that_are_scaled_already_are_warned_of(make):
    model, y, options = make(seed=0), np.arange(5) % 3, {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD()}
    scaled = IMAGES / 255
    message = "x holds floats of at most .*, but the model's Normalize.*scales them by 0.00392 again.*scale=1"
    for call in (
        lambda: ff.fit(model, scaled, y, progress=False, **options),
        lambda: ff.evaluate(model, scaled, y, loss=options["loss"]),
        lambda: ff.predict(model, scaled[:1].astype(np.float32)),
    ):
        with pytest.warns(UserWarning, match=message) as seen:
            call()
        assert {warning.filename for warning in seen} == {__file__}
    with pytest.warns(UserWarning, match="validation x holds floats of at most"):
        ff.fit(model, IMAGES, y, validation_data=(scaled, y), progress=False, **options)


@MAKERS
@pytest.mark.filterwarnings("error")
def test_other_images_are_not(make):
    for images in (IMAGES, IMAGES.astype(np.float32), np.zeros((3, 28, 28)), (IMAGES > 128).astype(np.uint8)):
        ff.predict(make(seed=0), images)
    ff.predict(make(seed=0, scale=1), IMAGES / 255)


@MAKERS
@DTYPES
def test_raw_images_may_have_an_axis_for_their_channel(make, dtype):
    model = make(classes=4, seed=0, dtype=dtype)
    logits = model(IMAGES)
    assert (logits.shape, logits.dtype) == ((5, 4), dtype)
    np.testing.assert_array_equal(model(IMAGES[:, None]), logits)
    np.testing.assert_allclose(model(IMAGES.astype(dtype)), logits, rtol=1e-3, atol=1e-4)
    assert 0.05 < logits.std() < 20


@MAKERS
def test_the_seed_draws_the_weights(make):
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    np.testing.assert_array_equal(one.parameters, same.parameters)
    assert (one.parameters != other.parameters).mean() > 0.5


@MAKERS
def test_weights_before_a_relu_start_as_he_has_it(make):
    """Also those of filters, which are pooled before or behind it."""
    layers = [layer for layer in make(seed=0).layers if isinstance(layer, (ff.Linear, ff.Conv2d))]
    for layer in layers[:-1]:
        weight = layer.params["weight"]
        inputs = weight[0].size if isinstance(layer, ff.Conv2d) else len(weight)
        assert weight.var() == pytest.approx(2 / inputs, rel=0.5 if weight.size < 1000 else 0.1)


@MAKERS
def test_a_saved_model_is_the_same(make, tmp_path):
    model = make(seed=0)
    ff.save(model, tmp_path / "model.safetensors")
    loaded = ff.load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.mlp(36, (5,), 3, "tanh", seed=0, dtype="float64"),
        lambda: models.mlp(36, (5,), 3, "tanh", 0.5, True, seed=0, dtype="float64"),
        lambda: models.small_cnn(3, 1, 6, seed=0, dtype="float64"),
    ],
    ids=["mlp", "mlp with all", "small_cnn"],
)
def test_gradients(make, rng):
    assert ff.gradcheck(make(), 255 * rng.normal(size=(4, 1, 6, 6))) < 1e-6


# What is refused


BAD = [
    (lambda: models.mlp(0), InvalidValueError, "in_features is 0; expected an integer of at least 1"),
    (lambda: models.mlp(hidden=100), InvalidTypeError, r"hidden is 100; expected a sequence of integers"),
    (lambda: models.mlp(hidden=(9, 0)), InvalidValueError, r"hidden\[1\] is 0; expected an integer of at least 1"),
    (lambda: models.mlp(hidden="100"), InvalidTypeError, r"hidden\[0\] is '1'; expected an integer"),
    (lambda: models.mlp(activation="swish"), InvalidValueError, "activation is 'swish'; expected one of 'relu', "),
    (lambda: models.mlp(dropout=1), InvalidValueError, "dropout is 1; expected less than 1"),
    (lambda: models.mlp(dropout=-0.1), InvalidValueError, "dropout is -0.1; expected at least 0"),
    (lambda: models.small_cnn(channels=0), InvalidValueError, "channels is 0; expected an integer of at least 1"),
    (lambda: models.small_cnn(size=3), InvalidValueError, "size is 3; expected an integer of at least 4"),
    (lambda: models.small_cnn(size=(28, 3)), InvalidValueError, r"size\[1\] is 3; expected an integer of at least 4"),
    *(
        (lambda make=make, wrong=wrong: make(**wrong), error, said)
        for make in models.BY_NAME.values()
        for wrong, error, said in [
            ({"classes": 0}, InvalidValueError, "classes is 0; expected an integer of at least 1"),
            ({"classes": 2.5}, InvalidTypeError, "classes is 2.5; expected an integer"),
            ({"std": 0}, InvalidValueError, "std is 0; expected more than 0"),
            ({"scale": "1"}, InvalidTypeError, "scale is '1'; expected a number"),
            ({"dtype": "float16"}, InvalidTypeError, "dtype is float16; expected 'float32' or 'float64'"),
        ]
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "images"),
    [(models.mlp, IMAGES[:, :27]), (models.lenet5, IMAGES[:, :24]), (models.small_cnn, IMAGES[:, :14])],
    ids=["mlp", "lenet5", "small_cnn"],
)
def test_images_of_another_size_are_refused(make, images):
    with pytest.raises(InvalidValueError, match=r"x has shape \(5, \d\d, 28\).*got samples of shape"):
        ff.predict(make(), images)
