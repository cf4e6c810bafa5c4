"""`Sequential`: layers one behind the other, their parameters in one flat array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers import Layer
from fastfnn.layers.base import Shape
from fastfnn.layers.linear import Linear, Matmul

Array = NDArray[Any]

#: Parameters start at multiples of this many bytes in the flat array: a cache line, the widest vector.
ALIGNMENT = 64


class Sequential:
    """Layers one behind the other.

    Parameters
    ----------
    *layers : Layer
        Each at most once. Those without parameters yet draw them here, to fit the activation that follows.
    seed : int or numpy.random.Generator, optional
        Makes the draw repeatable.
    dtype : {"float32", "float64"}
        Of parameters, activations and gradients.

    Attributes
    ----------
    layers : list of Layer
    parameters, gradients : ndarray
        All of them in one flat array each; ``layer.params`` and ``layer.grads`` are views of it. Between the
        parameters lie a few zeros that keep them aligned.
    """

    def __init__(self, *layers: Layer, seed: int | np.random.Generator | None = None, dtype: Any = "float32") -> None:
        if not layers:
            raise InvalidValueError("layers is empty; expected at least one layer")
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer) or isinstance(layer, Matmul):
                raise InvalidTypeError(
                    f"layers[{i}] is {layer!r}; expected a layer with one input, such as Linear or ReLU"
                )
            if any(layer is other for other in layers[:i]):
                raise InvalidValueError(f"layers[{i}] ({layer!r}) appears twice; expected each layer once")
        self.layers = list(layers)
        self.dtype = check.as_dtype(dtype)
        _check_shapes(self.layers)
        rng = np.random.default_rng(seed)
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            layer.build(rng, self.dtype, type(following).__name__ if following is not None else None)
        self.parameters = self.gradients = np.empty(0, self.dtype)
        self.gather_parameters()

    def gather_parameters(self) -> None:
        """Make `parameters` and `gradients` hold what the layers hold, and the layers views of them.

        Called before each training; it does nothing unless a layer's arrays were replaced since, or the layer was
        put into another model.
        """
        owned = [
            (layer, name, array, grads[name])
            for layer in self.layers
            for grads in [layer.grads]
            for name, array in layer.params.items()
        ]
        if all(array.base is self.parameters and grad.base is self.gradients for _, _, array, grad in owned):
            return
        step = ALIGNMENT // self.dtype.itemsize
        starts = np.cumsum([0] + [-(-array.size // step) * step for _, _, array, _ in owned])
        parameters, gradients = np.zeros(starts[-1], self.dtype), np.zeros(starts[-1], self.dtype)
        for start, (layer, name, array, _) in zip(starts, owned, strict=False):
            if layer.is_built and layer.grads[name].shape != np.shape(array):
                raise InvalidValueError(
                    f"params[{name!r}] of {layer!r} has shape {np.shape(array)}; expected {layer.grads[name].shape}"
                )
            for flat, views in ((parameters, layer.params), (gradients, layer.grads)):
                view = flat[start : start + array.size].reshape(array.shape)
                view[...] = views[name]
                views[name] = view
        self.parameters, self.gradients = parameters, gradients

    def named_parameters(self) -> dict[str, Array]:
        """Views of the parameters by name: ``{"2.weight": …, "2.bias": …}``, counted by the layer's place."""
        self.gather_parameters()
        return {f"{i}.{name}": array for i, layer in enumerate(self.layers) for name, array in layer.params.items()}

    @property
    def n_parameters(self) -> int:
        """How many numbers training adjusts."""
        return sum(array.size for layer in self.layers for array in layer.params.values())

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

    __call__ = forward

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one sample's output from that of one sample's input, both without the batch axis."""
        shape = tuple(input_shape)
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of the layers with output shapes and parameter counts.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Of one sample. Without it, shapes are given from the first `Linear` on.
        """
        shape = tuple(input_shape) if input_shape is not None else None
        rows = [("", "layer", "output", "parameters")]
        for i, layer in enumerate(self.layers):
            if shape is None and isinstance(layer, Linear):
                shape = (layer.in_features,)
            shape = layer.output_shape(shape) if shape is not None else None
            count = sum(array.size for array in layer.params.values())
            shown = "?" if shape is None else str(("n", *shape)).replace("'", "")
            rows.append((str(i), repr(layer), shown, f"{count:,}" if count else ""))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{a:>{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows
        ]
        rule = "-" * (sum(widths) + 6)
        megabytes = self.n_parameters * self.dtype.itemsize / 1e6
        total = f"{self.n_parameters:,} parameters, {self.dtype}, {megabytes:.2f} MB"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __repr__(self) -> str:
        lines = "".join(f"    {layer!r},\n" for layer in self.layers)
        return f"Sequential(\n{lines}    dtype={str(self.dtype)!r},\n)"


def _check_shapes(layers: list[Layer]) -> None:
    """Refuse neighbours that cannot fit, as far as that is known before there is an input."""
    shape: Shape | None = None
    for i, layer in enumerate(layers):
        if isinstance(layer, Linear):
            if shape is not None and math.prod(shape) != layer.in_features:
                raise InvalidValueError(
                    f"layers[{i}] is {layer!r}, but gets {math.prod(shape)} features; expected {layer.in_features}"
                )
            shape = (layer.out_features,)
