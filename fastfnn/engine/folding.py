"""A model as inference alone needs it: what scales and shifts by constants is part of the layer beside it."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.engine.lowering import MOST_SHIFT
from fastfnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    Layer,
    Linear,
    Noise,
    Normalize,
    RandomErase,
    RandomFlip,
    RandomRotation,
    RandomShift,
)
from fastfnn.model import Sequential

Array = NDArray[Any]
#: Layers that do nothing in inference.
OF_TRAINING = (Dropout, Dropout2d, Noise, RandomErase, RandomFlip, RandomRotation, RandomShift)


def folded(model: Sequential, sample_shape: tuple[int, ...], input_dtype: np.dtype[Any]) -> Sequential:
    """A copy for inference alone, with `BatchNorm` and a first `Normalize` in the weights of their neighbours.

    These are computed in float64 and rounded once. A `Normalize` stays where inputs are converted anyway, before a
    convolution, whose padding is a number that it has not seen, and where what it subtracts is so large that the
    outputs would lose digits by it.
    """
    layers: list[Layer] = []
    scaled = _scaled_linear(model, input_dtype)
    shape, normalize, came = tuple(sample_shape), None, ()
    for layer in model.chain:
        kind = type(layer)
        if scaled is not None and kind is Normalize and normalize is None:
            normalize, came = layer, shape
        elif layer is scaled:
            layers.append(_after_normalize(layer, normalize, came))
        elif kind in (BatchNorm1d, BatchNorm2d) and layers and type(layers[-1]) in (Linear, Conv2d):
            layers.append(_before_batch_norm(layers.pop(), layer))
        elif kind not in OF_TRAINING:
            layers.append(copy.deepcopy(layer))
        shape = layer.output_shape(shape)
    twin = Sequential(*layers, seed=0, dtype=model.dtype)
    twin.take_purpose(model.purpose())
    return twin


def _scaled_linear(model: Sequential, input_dtype: np.dtype[Any]) -> Layer | None:
    """The `Linear` that a first `Normalize` can be part of, if there is one."""
    numbers = [layer for layer in model.chain if type(layer) not in (Flatten, *OF_TRAINING)]
    if [type(layer) for layer in numbers[:2]] != [Normalize, Linear] or input_dtype != model.dtype:
        return None
    normalize: Any = numbers[0]
    return numbers[1] if np.abs(normalize.factor_and_shift()[1]).max() <= MOST_SHIFT else None


def _after_normalize(linear: Any, normalize: Any, sample_shape: tuple[int, ...]) -> Layer:
    """``(x * factor + shift) @ weight + bias``."""
    factor, shift = (values.astype(np.float64) for values in normalize.factor_and_shift())
    factor, shift = (np.repeat(values, math.prod(sample_shape) // values.size) for values in (factor, shift))
    weight, bias = _weight_and_bias(linear)
    return _with(linear, factor[:, None] * weight, shift @ weight + bias)


def _before_batch_norm(layer: Any, norm: Any) -> Layer:
    """``((x @ weight + bias) - mean) / sqrt(variance + eps) * gamma + beta``; an output's weights scale alike."""
    mean, variance = (norm.buffers[name].astype(np.float64) for name in ("running_mean", "running_var"))
    factor = norm.params.get("weight", np.ones(1)).astype(np.float64) / np.sqrt(variance + norm.eps)
    beta = norm.params.get("bias", np.zeros(1)).astype(np.float64)
    weight, bias = _weight_and_bias(layer)
    scale = factor if type(layer) is Linear else factor[:, None, None, None]
    return _with(layer, weight * scale, (bias - mean) * factor + beta)


def _weight_and_bias(layer: Any) -> tuple[Array, Array]:
    weight = layer.params["weight"].astype(np.float64)
    outputs = weight.shape[1] if type(layer) is Linear else weight.shape[0]
    return weight, layer.params.get("bias", np.zeros(outputs)).astype(np.float64)


def _with(layer: Any, weight: Array, bias: Array) -> Layer:
    """Such a layer with these parameters, in its dtype."""
    made = type(layer)(**{**layer.config(), "bias": True})
    made.build(np.random.default_rng(0), layer.dtype)
    made.params["weight"][...], made.params["bias"][...] = weight, bias
    return made
