"""Steps of activations."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.layers import Layer, LeakyReLU, Log, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh


class _Activation(NamedTuple):
    operation: str
    keeps: str = "out"  # what the backward is given beside the gradient, as it calls it: its output, or its input x
    by_blocks: bool = False
    scratch: bool = False


ACTIVATIONS: dict[type[Layer], _Activation] = {
    ReLU: _Activation("relu"),
    LeakyReLU: _Activation("leaky_relu", keeps="x"),
    Sigmoid: _Activation("sigmoid"),
    Tanh: _Activation("tanh"),
    Log: _Activation("log", keeps="x"),
    Softmax: _Activation("softmax", by_blocks=True),
    LogSoftmax: _Activation("log_softmax", by_blocks=True, scratch=True),
}


class ElementwiseStep(Step):
    """An activation: of every element, or of every row along the last axis."""

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        self.activation = ACTIVATIONS[type(layers[0])]
        layer: Any = layers[0]
        self.scalars = {"negative_slope": float(layer.negative_slope)} if isinstance(layer, LeakyReLU) else {}

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        self.out = table.buffer(self.out_shape)
        scratch = {"scratch": table.buffer(self.out_shape)} if self.activation.scratch else {}
        table.row(self.activation.operation, out=self.out, x=x, **self._sizes(), **self.scalars, **scratch)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        if not self.needs_grad_x:
            return None
        assert not isinstance(x, Data)
        grad_x, kept = table.buffer(self.in_shape), {"out": self.out, "x": x}[self.activation.keeps]
        fields = {self.activation.keeps: kept, **self._sizes(), **self.scalars}
        table.row(f"{self.activation.operation}_backward", grad_x=grad_x, grad_out=grad, **fields)
        return grad_x

    def _sizes(self) -> dict[str, int]:
        """Numbers in a row; or in a block along the last axis, and blocks in a row."""
        if self.activation.by_blocks:
            return {"width": self.out_shape[-1], "blocks": math.prod(self.out_shape[:-1])}
        return {"width": math.prod(self.out_shape)}
