"""Steps of activations."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.layers import Layer, LeakyReLU, Log, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh


class _Activation(NamedTuple):
    operation: str
    keeps_input: bool = False  # what the backward is given beside the gradient; the output otherwise
    by_rows: bool = False
    scratch: bool = False


ACTIVATIONS: dict[type[Layer], _Activation] = {
    ReLU: _Activation("relu"),
    LeakyReLU: _Activation("leaky_relu", keeps_input=True),
    Sigmoid: _Activation("sigmoid"),
    Tanh: _Activation("tanh"),
    Log: _Activation("log", keeps_input=True),
    Softmax: _Activation("softmax", by_rows=True),
    LogSoftmax: _Activation("log_softmax", by_rows=True, scratch=True),
}


class ElementwiseStep(Step):
    """An activation: of every element, or of every row along the last axis."""

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        self.activation = ACTIVATIONS[type(layers[0])]
        layer: Any = layers[0]
        self.scalars = (layer.negative_slope,) if isinstance(layer, LeakyReLU) else ()

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        self.out = table.buffer(self.out_shape)
        scratch = (table.buffer(self.out_shape),) if self.activation.scratch else ()
        table.row(self.activation.operation, self.out, x, *self._sizes(), *self.scalars, *scratch)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        if not self.needs_grad_x:
            return None
        assert not isinstance(x, Data)
        grad_x, kept = table.buffer(self.in_shape), x if self.activation.keeps_input else self.out
        table.row(f"{self.activation.operation}_backward", grad_x, grad, kept, *self._sizes(), *self.scalars)
        return grad_x

    def _sizes(self) -> tuple[int, ...]:
        """Numbers in a row; or in a block along the last axis, and blocks in a row."""
        if self.activation.by_rows:
            return self.out_shape[-1], math.prod(self.out_shape[:-1])
        return (math.prod(self.out_shape),)
