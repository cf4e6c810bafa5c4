"""Pictures of what layers have learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers import Conv2d, Flatten, Layer, Linear, Normalize
from fastfnn.model import Sequential, as_sequential
from fastfnn.plot._figure import columns_for, draw_tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def weights(
    model: Sequential,
    layer: int | Layer | None = None,
    image_shape: tuple[int, ...] | None = None,
    columns: int | None = None,
) -> Figure:
    """What each unit of a `Linear` looks for: its column of the weight as an image.

    All images have one scale with white at zero. A unit's number is the sum of those at its row and its column.

    Parameters
    ----------
    model : Sequential
    layer : int or Linear, optional
        The layer or its place in the model; the first `Linear` by default.
    image_shape : (height, width) or (channels, height, width), optional
        Of what the layer reads; channels are drawn below each other. By default a square, where the layer reads the
        model's inputs and their number is a square.
    columns : int, optional
        Images in a row.

    Returns
    -------
    Figure
    """
    place, linear = _chosen(model, layer, Linear)
    height, width = _image_size(model, place, linear, image_shape)
    count = linear.out_features
    columns = columns_for(count) if columns is None else min(check.positive_int("columns", columns), count)
    return draw_tiles(
        linear.params["weight"].T.reshape(count, height, width),
        columns,
        0.6,
        title=f"Weights of layer {place}: Linear {linear.in_features} → {count}",
        xlabel="unit (row + column)" if columns < count else "unit",
    )


def filters(model: Sequential, layer: int | Layer | None = None) -> Figure:
    """The kernels of a `Conv2d`: an output channel in each column, an input channel in each row.

    Where there is one input channel, the output channels fill several rows, as in `weights`. All have one scale with
    white at zero.

    Parameters
    ----------
    model : Sequential
    layer : int or Conv2d, optional
        The layer or its place in the model; the first `Conv2d` by default.

    Returns
    -------
    Figure
    """
    place, convolution = _chosen(model, layer, Conv2d)
    weight = convolution.params["weight"]
    outputs, inputs, *size = weight.shape
    title = f"Filters of layer {place}: Conv2d {convolution.in_channels} → {outputs}, {size[0]}×{size[1]}"
    if inputs == 1:
        columns = columns_for(outputs)
        xlabel = "output channel (row + column)" if columns < outputs else "output channel"
        return draw_tiles(weight[:, 0], columns, 0.8, title=title, xlabel=xlabel)
    tiles = weight.swapaxes(0, 1).reshape(inputs * outputs, *size)
    ylabel = "input channel" if convolution.filters.groups == 1 else "input channel\nof the group"
    return draw_tiles(tiles, outputs, 0.45, title=title, xlabel="output channel", ylabel=ylabel)


def _chosen(model: Any, layer: Any, kind: type[Layer]) -> tuple[int, Any]:
    """The layer of `kind` that is meant, and its place."""
    as_sequential(model)
    layers, name = model.layers, kind.__name__
    if layer is None:
        places = [i for i, one in enumerate(layers) if isinstance(one, kind)]
        if not places:
            raise InvalidValueError(f"model has no {name}; expected at least one")
        return places[0], layers[places[0]]
    if isinstance(layer, Layer):
        places = [i for i, one in enumerate(layers) if one is layer]
        if not places:
            raise InvalidValueError(f"layer is {layer!r}, which is not in the model; expected one of its layers")
        place = places[0]
    else:
        place = check.positive_int("layer", layer, least=-len(layers))
        if place >= len(layers):
            raise InvalidValueError(f"layer is {place}; expected a place from 0 to {len(layers) - 1}")
        place %= len(layers)
    if not isinstance(layers[place], kind):
        raise InvalidValueError(f"layer is {layer!r}, where the model has {layers[place]!r}; expected a {name}")
    return place, layers[place]


def _image_size(model: Sequential, place: int, linear: Linear, image_shape: Any) -> tuple[int, int]:
    """Height and width of a unit's image, channels below each other."""
    features = linear.in_features
    if image_shape is None:
        side = math.isqrt(features)
        between = [one for one in model.layers[:place] if not isinstance(one, (Flatten, Normalize))]
        if between or side * side != features:
            why = f"layer {place} reads the outputs of {between[-1]!r}" if between else f"{features} is not a square"
            raise InvalidValueError(f"image_shape is None, and {why}; expected (height, width)")
        return side, side
    if not isinstance(image_shape, (tuple, list)):
        raise InvalidTypeError(f"image_shape is {image_shape!r}; expected (height, width)")
    shape = [check.positive_int(f"image_shape[{i}]", size) for i, size in enumerate(image_shape)]
    if len(shape) not in (2, 3) or np.prod(shape) != features:
        raise InvalidValueError(
            f"image_shape is {image_shape!r}; expected (height, width) or (channels, height, width) of {features} "
            "pixels together"
        )
    return math.prod(shape[:-1]), shape[-1]
