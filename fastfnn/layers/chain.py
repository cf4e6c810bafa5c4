"""Layers one behind the other, as one layer; and what is asked of neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers.base import Array, KnownShape, Layer, Shape
from fastfnn.layers.linear import Matmul

#: Of layers that change no shape.
SAME_SHAPE = Layer.output_shape


class Chain(Layer):
    """Layers one behind the other, as one layer; none at all give back what came.

    Branches of `Parallel` and `Residual` are chains. `Sequential` is one with its parameters in one flat array.

    Parameters
    ----------
    *layers : Layer
        Each at most once.

    Attributes
    ----------
    layers : list of Layer
    """

    holds_others = True

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        self.layers = check_layers(layers, "layers")
        check_neighbours(self.layers)

    def children(self) -> dict[str, Layer]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def build_children(self, rng: np.random.Generator, activation: str | None) -> None:
        for i, layer in enumerate(self.layers):
            layer.build(rng, self.dtype, activation_after(self.layers[i + 1 :]) or activation)

    def forward(self, x: ArrayLike) -> Array:
        """Layer by layer; each keeps what its backward needs."""
        out: Any = x
        for layer in self.layers:
            out = layer.forward(out)
        return out

    def backward(self, grad_out: ArrayLike) -> Array:
        """Layer by layer, from the last to the first; fills every layer's `grads`, returns the gradient for x."""
        grad: Any = grad_out
        for layer in reversed(self.layers):
            grad = layer.backward(grad)
        return grad

    def output_shape(self, input_shape: Shape) -> Shape:
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def taken_shape(self) -> KnownShape | None:
        for layer in self.layers:
            taken = layer.taken_shape()
            if taken is not None or layer.made_shape(None) is not None or type(layer).output_shape is not SAME_SHAPE:
                return taken
        return None

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        for layer in self.layers:
            came = layer.made_shape(came or layer.taken_shape())
        return came

    def to_onnx(self, graph: Any) -> None:
        for name, layer in self.children().items():
            graph.write_layer(name, layer)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


def flattened(layers: Iterable[Layer]) -> list[Layer]:
    """The same network with chains among the layers opened."""
    found: list[Layer] = []
    for layer in layers:
        opens = isinstance(layer, Chain) and type(layer).forward is Chain.forward
        found += flattened(layer.layers) if isinstance(layer, Chain) and opens else [layer]
    return found


def check_layers(layers: Iterable[Any], name: str) -> list[Layer]:
    """Refuse what is no layer with one input, and a layer that comes twice."""
    checked = list(layers)
    for i, layer in enumerate(checked):
        check.instance(f"{name}[{i}]", layer)
        if not isinstance(layer, Layer) or isinstance(layer, Matmul):
            raise InvalidTypeError(f"{name}[{i}] is {layer!r}; expected a layer with one input, such as Linear or ReLU")
    check_appears_once(checked, name)
    return checked


def check_appears_once(layers: Iterable[Layer], name: str) -> None:
    """Refuse a layer that is in two places, itself or within others."""
    owners: dict[int, str] = {}
    for i, layer in enumerate(layers):
        for place, inner in layer.family(f"{name}[{i}]"):
            if id(inner) in owners:
                raise InvalidValueError(
                    f"{place} ({inner!r}) appears twice, at {owners[id(inner)]} before; expected each layer once"
                )
            owners[id(inner)] = place


def activation_after(following: Iterable[Layer]) -> str | None:
    """The class name of the layer that decides how a weight before `following` starts, if there is one."""
    return next((type(layer).__name__ for layer in following if not layer.precedes_activation), None)


def check_neighbours(layers: list[Layer]) -> None:
    """Refuse neighbours that cannot fit, as far as that is known before there is an input."""
    came: KnownShape | None = None
    for i, layer in enumerate(layers):
        taken = layer.taken_shape()
        if came is not None and taken is not None:
            if not _fits(came, taken):
                raise InvalidValueError(
                    f"layers[{i}] is {layer!r}, but gets {_described(came)}; expected {_described(taken)}"
                )
            came = tuple(b if a is None else a for a, b in zip(came, taken, strict=True))
        came = layer.made_shape(came or taken)


def _fits(came: KnownShape, taken: KnownShape) -> bool:
    return len(came) == len(taken) and all(a is None or b is None or a == b for a, b in zip(came, taken, strict=True))


def _described(shape: KnownShape) -> str:
    if len(shape) == 1:
        return "features in rows" if shape[0] is None else f"{shape[0]} features"
    return "images" if shape[0] is None else f"images of {shape[0]} channel{'' if shape[0] == 1 else 's'}"
