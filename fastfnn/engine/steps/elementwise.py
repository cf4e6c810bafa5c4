"""Steps of activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.layers import (
    ELU,
    GELU,
    SELU,
    Hardswish,
    Layer,
    LeakyReLU,
    Log,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)


def _nothing(layer: Any) -> dict[str, float]:
    return {}


class _Activation(NamedTuple):
    operation: str
    keeps: str = "out"  # what the backward is given beside the gradient, as it calls it: its output, or its input x
    by_blocks: bool = False
    scratch: bool = False
    scalars: Callable[[Any], dict[str, float]] = _nothing  # the layer's settings, by the operation's names for them


SELU_SETTINGS = {"alpha": kernels.reference.SELU_ALPHA, "scale": kernels.reference.SELU_SCALE}
ACTIVATIONS: dict[type[Layer], _Activation] = {
    ReLU: _Activation("relu"),
    LeakyReLU: _Activation("leaky_relu", keeps="x", scalars=lambda layer: {"negative_slope": layer.negative_slope}),
    Sigmoid: _Activation("sigmoid"),
    Tanh: _Activation("tanh"),
    Log: _Activation("log", keeps="x"),
    Softmax: _Activation("softmax", by_blocks=True),
    GELU: _Activation("gelu", keeps="x"),
    SiLU: _Activation("silu", keeps="x"),
    ELU: _Activation("scaled_elu", keeps="x", scalars=lambda layer: {"alpha": layer.alpha, "scale": 1.0}),
    SELU: _Activation("scaled_elu", keeps="x", scalars=lambda layer: SELU_SETTINGS),
    Softplus: _Activation(
        "softplus", keeps="x", scalars=lambda layer: {"beta": layer.beta, "threshold": layer.threshold}
    ),
    ReLU6: _Activation("relu6", keeps="x"),
    Hardswish: _Activation("hardswish", keeps="x"),
    LogSoftmax: _Activation("log_softmax", by_blocks=True, scratch=True),
}


class ElementwiseStep(Step):
    """An activation: of every element, or of every row along the last axis."""

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        self.activation = ACTIVATIONS[type(layers[0])]
        (layer,) = layers
        approximate = isinstance(layer, GELU) and layer.approximate == "tanh"
        self.operation = "gelu_tanh" if approximate else self.activation.operation
        self.scalars = {name: float(value) for name, value in self.activation.scalars(layer).items()}

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        self.out = table.buffer(self.out_shape)
        scratch = {"scratch": table.buffer(self.out_shape)} if self.activation.scratch else {}
        table.row(self.operation, out=self.out, x=x, **self._sizes(), **self.scalars, **scratch)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        if not self.needs_grad_x:
            return None
        assert not isinstance(x, Data)
        grad_x, kept = table.buffer(self.in_shape), {"out": self.out, "x": x}[self.activation.keeps]
        fields = {self.activation.keeps: kept, **self._sizes(), **self.scalars}
        table.row(f"{self.operation}_backward", grad_x=grad_x, grad_out=grad, **fields)
        return grad_x

    def _sizes(self) -> dict[str, int]:
        """Numbers in a row; or in a block along the last axis, and blocks in a row."""
        if self.activation.by_blocks:
            return {"width": self.out_shape[-1], "blocks": math.prod(self.out_shape[:-1])}
        return {"width": math.prod(self.out_shape)}


class PReLUStep(Step):
    """A leaky ReLU whose slopes are learnt."""

    has_parameters = True

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        self.layer: Any = layers[0]
        channels = self.layer.num_parameters
        self.sizes = {"channels": channels, "spatial": math.prod(in_shape) // channels}

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        out = table.buffer(self.out_shape)
        table.row("prelu", out=out, x=x, weight=self.layer.params["weight"], **self.sizes)
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        layer, channels, grad_x = self.layer, self.sizes["channels"], table.buffer(self.in_shape)
        partials = table.block_buffer((channels,), np.float64)
        given = {"grad_out": grad, "x": x, "weight": layer.params["weight"], **self.sizes}
        table.row("prelu_rows_backward", grad_x=grad_x, partials=partials, **given)
        if self.trains:
            grad_weight = layer.grads["weight"]
            table.weight("prelu_backward_weight", grad_weight=grad_weight, partials=partials, channels=channels)
        return grad_x if self.needs_grad_x else None
