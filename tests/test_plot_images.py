"""What is in the pictures of weights, filters and mistakes: which images, on which scale; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from _plots import one_hot, passing, picture, texts, ticks

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

pytest.importorskip("matplotlib").use("Agg")

plot = ff.plot

# Weights and filters


def tile(image, row, column, height, width, gap):
    return image[row * (height + gap) :, column * (width + gap) :][:height, :width]


def test_weights_are_the_columns_as_images_on_one_scale():
    model = ff.Sequential(ff.Flatten(), ff.Normalize(0.1), ff.Linear(784, 10), seed=0)
    figure = plot.weights(model)
    ax, bar = figure.axes
    image = ax.images[0].get_array()
    weight = model[2].params["weight"]
    for unit in range(10):
        got = tile(image, unit // 5, unit % 5, 28, 28, gap=2)
        assert np.array_equal(got, weight[:, unit].reshape(28, 28))
    scale = float(np.abs(weight).max())
    assert ax.images[0].get_clim() == pytest.approx((-scale, scale))
    assert (ticks(ax.xaxis), ticks(ax.yaxis)) == (list("01234"), ["0 +", "5 +"])
    assert bar.get_ylabel() == "weight"
    assert picture(figure)


def test_tiles_that_are_missing_and_gaps_are_blank():
    model = ff.Sequential(ff.Linear(4, 3), seed=0)
    image = plot.weights(model, columns=2).axes[0].images[0].get_array().filled(np.nan)
    assert image.shape == (5, 5)
    assert np.isnan(image[2]).all() and np.isnan(image[:, 2]).all() and np.isnan(image[3:, 3:]).all()
    assert np.isfinite(image).sum() == 12


@pytest.mark.parametrize("layer", [2, -1, "itself"])
def test_a_layer_is_chosen_by_place_or_by_itself(layer):
    model = ff.Sequential(ff.Linear(9, 4), ff.ReLU(), ff.Linear(4, 2), seed=0)
    figure = plot.weights(model, model[2] if layer == "itself" else layer, (1, 4), columns=1)
    image = figure.axes[0].images[0].get_array().filled(np.nan)
    assert np.array_equal(image[::2], model[2].params["weight"].T)


def test_channels_lie_below_each_other():
    model = ff.Sequential(ff.Linear(12, 1), seed=0)
    image = plot.weights(model, image_shape=(3, 2, 2)).axes[0].images[0].get_array()
    assert np.array_equal(image, model[0].params["weight"].reshape(6, 2))


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_constant_weights_have_a_scale_around_zero(value):
    model = ff.Sequential(ff.Linear(4, 2), seed=0)
    model[0].params["weight"][...] = value
    figure = plot.weights(model)
    assert figure.axes[0].images[0].get_clim() == (-(abs(value) or 1.0), abs(value) or 1.0)
    assert picture(figure)


def test_weights_that_are_not_finite_are_counted():
    model = ff.Sequential(ff.Linear(4, 2), seed=0)
    model[0].params["weight"][...] = [[1, 2], [np.nan, 0], [np.inf, 0], [0, 0]]
    figure = plot.weights(model)
    assert "2 not finite" in figure.axes[0].get_title()
    assert figure.axes[0].images[0].get_clim() == (-2.0, 2.0)


@pytest.mark.parametrize("draw", [plot.weights, plot.filters])
def test_nothing_lies_outside_the_figure(draw):
    for model in (
        ff.models.small_cnn(seed=0),
        ff.Sequential(ff.Conv2d(40, 9, 3), ff.Flatten(), ff.Linear(9, 150), seed=0),
    ):
        figure = draw(model, image_shape=(1, model[-1].in_features)) if draw is plot.weights else draw(model)
        picture(figure)
        box = figure.get_tightbbox()
        assert box.x0 >= 0 and box.y0 >= 0
        assert np.all([box.x1, box.y1] <= figure.get_size_inches())


def test_filters_of_one_input_channel_fill_a_grid():
    model = ff.models.small_cnn(seed=0)
    ax = plot.filters(model).axes[0]
    image, weight = ax.images[0].get_array(), model[1].params["weight"]
    for channel in range(8):
        assert np.array_equal(tile(image, channel // 4, channel % 4, 3, 3, gap=1), weight[channel, 0])
    assert ticks(ax.yaxis) == ["0 +", "4 +"]


@pytest.mark.parametrize(("groups", "inputs"), [(1, 4), (2, 2)])
def test_filters_have_output_channels_in_columns_and_input_channels_in_rows(groups, inputs):
    model = ff.Sequential(ff.Conv2d(4, 6, (3, 2), groups=groups), seed=0)
    ax = plot.filters(model).axes[0]
    image, weight = ax.images[0].get_array(), model[0].params["weight"]
    for out in range(6):
        for channel in range(inputs):
            assert np.array_equal(tile(image, channel, out, 3, 2, gap=1), weight[out, channel])
    assert ticks(ax.xaxis) == list("012345")
    assert ax.get_ylabel().startswith("input channel")


LENET = ff.models.lenet5(seed=0)


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: plot.weights("model"), InvalidTypeError, "model is str; expected a Sequential"),
        (lambda: plot.weights(ff.Sequential(ff.ReLU())), InvalidValueError, "model has no Linear"),
        (lambda: plot.filters(passing(3)), InvalidValueError, "model has no Conv2d"),
        (lambda: plot.weights(passing(3), 1), InvalidValueError, "layer is 1; expected a place from 0 to 0"),
        (lambda: plot.weights(passing(3), -2), InvalidValueError, "layer is -2; expected an integer of at least -1"),
        (lambda: plot.weights(passing(3), "a"), InvalidTypeError, "layer is 'a'"),
        (lambda: plot.filters(LENET, 0), InvalidValueError, "layer is 0, where the model has Normalize.*a Conv2d"),
        (lambda: plot.weights(LENET, ff.Linear(4, 4)), InvalidValueError, "layer is Linear.*not in the model"),
        (lambda: plot.weights(passing(3)), InvalidValueError, "image_shape is None, and 3 is not a square"),
        # 400 is a square, but of 16 channels of 5×5.
        (
            lambda: plot.weights(LENET),
            InvalidValueError,
            "image_shape is None, and layer 8 reads the outputs of MaxPool",
        ),
        (lambda: plot.weights(passing(4), image_shape=(3, 2)), InvalidValueError, r"image_shape is \(3, 2\); expected"),
        (lambda: plot.weights(passing(4), image_shape=4), InvalidTypeError, "image_shape is 4; expected"),
        (lambda: plot.weights(passing(4), image_shape=(4, 0)), InvalidValueError, r"image_shape\[1\] is 0"),
        (
            lambda: plot.weights(passing(4), columns=0),
            InvalidValueError,
            "columns is 0; expected an integer of at least 1",
        ),
    ],
)
def test_weights_and_filters_refuse(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


# Mistakes


def four_pixels(guesses, sureness):
    """Images of 2×2 pixels, which `passing(4)` takes as logits."""
    return np.asarray(sureness, np.float32)[:, None] * one_hot(guesses, 4, 1.0)


def shown(figure):
    return [ax for ax in figure.axes if ax.images]


def test_mistakes_come_with_the_surest_first():
    x = four_pixels([0, 1, 2, 3, 0], [3.0, 1.0, 2.0, 9.0, 5.0])
    truth = [1, 2, 2, 0, 0]  # rows 0, 1 and 3 are wrong
    figure = plot.mistakes(passing(4), x, truth, labels=["a", "b", "c", "d"])
    axes = shown(figure)
    for ax, row in zip(axes, (3, 0, 1), strict=True):
        assert np.array_equal(ax.images[0].get_array(), x[row].reshape(2, 2))
    assert [ax.get_title().split(" (")[0] for ax in axes] == ["true a\nguess d", "true b\nguess a", "true c\nguess b"]
    probability = ff.predict_proba(passing(4), x)[0, 0]
    assert axes[1].get_title().endswith(f"({probability:.1%})")
    assert axes[0].get_title().endswith("(>99.9%)")
    assert figure.texts[0].get_text() == "3 mistakes among 5 samples"
    assert {ax.images[0].get_clim() for ax in axes} == {(0.0, 9.0)}
    assert picture(figure)


def test_no_more_mistakes_are_shown_than_asked_for():
    figure = plot.mistakes(passing(4), four_pixels([0] * 8, range(8, 0, -1)), [1] * 7 + [0], count=5)
    assert len(shown(figure)) == 5
    assert figure.texts[0].get_text() == "5 surest of 7 mistakes among 8 samples"


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_no_mistakes_are_said(rows):
    x = four_pixels([2] * rows, [1.0] * rows)
    figure = plot.mistakes(passing(4), x, np.full(rows, 2))
    assert texts(figure.axes[0]) == [f"no mistakes among {rows} sample{'s' * (rows != 1)}"]
    assert picture(figure)


def flat(*layers):
    return ff.Sequential(ff.Flatten(), *layers, seed=0)


@pytest.mark.parametrize(
    ("shape", "want"),
    [((5, 3), (5, 3)), ((1, 5, 3), (5, 3)), ((3, 5, 4), (5, 4, 3)), ((16,), (4, 4))],
    ids=["grey", "one channel", "colours", "flat"],
)
def test_images_of_any_layout_are_shown(rng, shape, want):
    x = rng.integers(0, 256, (4, *shape), np.uint8)
    model = flat(ff.Linear(int(np.prod(shape)), 2))
    y = 1 - ff.predict(model, x)
    axes = shown(plot.mistakes(model, x, y))
    assert [ax.images[0].get_array().shape for ax in axes] == [want] * 4
    if len(shape) == 3 and shape[0] == 3:  # as matplotlib takes colours: between 0 and 1, the channels last
        first = np.argmax(ff.predict_proba(model, x).max(axis=1))
        assert np.allclose(axes[0].images[0].get_array(), np.moveaxis(x[first], 0, -1) / 255)
    else:
        assert axes[0].images[0].get_clim() == (0, 255)


def test_a_model_with_one_output_has_two_classes():
    model = flat(ff.Linear(4, 1))
    model[1].params["weight"][...] = 1.0
    x, y = np.array([[1.0] * 4, [-1.0] * 4]), np.array([[0.0], [0.0]])  # as a binary loss takes them
    axes = shown(plot.mistakes(model, x, y))
    assert [ax.get_title() for ax in axes] == ["true 0\nguess 1 (98.2%)"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("model", np.ones((1, 4)), [0]), InvalidTypeError, "model is str; expected a Sequential"),
        ((passing(3), one_hot([0]), [1]), InvalidValueError, r"x has shape \(1, 3\); expected images"),
        ((passing(4), np.ones((2, 4)), [1]), InvalidValueError, r"y has shape \(1,\); expected \(2,\)"),
        ((passing(4), np.ones((1, 4)), [1], 0), InvalidValueError, "count is 0; expected an integer of at least 1"),
        ((passing(4), np.ones((1, 4)), [1], 5, ["a"]), InvalidValueError, "labels has 1 names; expected 4"),
    ],
)
def test_mistakes_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.mistakes(*arguments)
