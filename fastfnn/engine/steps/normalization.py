"""Steps that differ between training and inference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.functional import NANOSECONDS_PER_ELEMENT
from fastfnn.layers import Layer


class BatchNormStep(Step):
    """Batch normalisation, and the ReLU behind it where there is one. Frozen, it is in training what it is else."""

    #: Also without weight and bias: the backward moves the running statistics.
    has_parameters = True

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        layer: Any = layers[0]
        self.layer, self.relu = layer, len(layers) > 1
        self.overwrites_grad = self.relu
        self.sizes = {"channels": in_shape[0], "spatial": math.prod(in_shape[1:])}
        self.whole_batch = self.trains

    @property
    def nanoseconds(self) -> float:
        return 3 * NANOSECONDS_PER_ELEMENT * math.prod(self.out_shape)

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        layer, channels = self.layer, self.layer.num_features
        self.out = table.buffer(self.out_shape)
        self.weight = layer.params["weight"] if layer.affine else np.ones(channels, table.dtype)
        bias = layer.params["bias"] if layer.affine else np.zeros(channels, table.dtype)
        coefficients = {name: self._own(table) for name in ("centre", "factor", "shift")}
        affine = {"weight": self.weight, "bias": bias, "eps": float(layer.eps), "relu": self.relu, **self.sizes}
        if table.training and self.trains:
            self.partials = table.block_buffer((2, channels), np.float64)
            self.statistics = {name: self._own(table, np.float64) for name in ("mean", "variance")}
            table.row("batch_norm_moments", partials=self.partials, x=x, **self.sizes)
            table.barrier()
            fields = {"partials": self.partials, **self.statistics, **coefficients, **affine}
            table.row("batch_norm_apply_training", out=self.out, x=x, **fields)
        else:
            table.row("batch_norm_apply_inference", out=self.out, x=x, **self._running(), **coefficients, **affine)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        if self.relu:
            width = math.prod(self.out_shape)
            table.row("relu_backward", grad_x=grad, grad_out=grad, out=self.out, width=width)
        if not self.trains:
            return self._scaled(table, grad) if self.needs_grad_x else None
        layer, eps = self.layer, float(self.layer.eps)
        grad_x, partials = table.buffer(self.in_shape), table.block_buffer((2, layer.num_features), np.float64)
        bias_sum, weight_sum = self._own(table, np.float64), self._own(table, np.float64)
        rows = {"grad_out": grad, "x": x, **self.statistics, "eps": eps, **self.sizes}
        table.row("batch_norm_backward_sums", partials=partials, **rows)
        table.barrier()
        if self.needs_grad_x:
            coefficients = {name: self._own(table) for name in ("centre", "factor", "slope", "offset")}
            sums = {"partials": partials, "grad_bias": bias_sum, "grad_weight": weight_sum, "weight": self.weight}
            table.row("batch_norm_backward_apply", grad_x=grad_x, **rows, **sums, **coefficients)
        table.weight(
            "batch_norm_running",
            grad_weight=layer.grads["weight"] if layer.affine else None,
            grad_bias=layer.grads["bias"] if layer.affine else None,
            partials=self.partials,
            grad_partials=partials,
            bias_sum=bias_sum,
            weight_sum=weight_sum,
            momentum=float(layer.momentum),
            **self._running(),
            **self.statistics,
            **self.sizes,
        )
        return grad_x if self.needs_grad_x else None

    def _scaled(self, table: Table, grad: Array) -> Array:
        """The gradient of what the running statistics do, which are constants: they scale it."""
        grad_x, zeros = table.buffer(self.in_shape), np.zeros(self.layer.num_features, table.dtype)
        running = {"running_mean": zeros, "running_var": self.layer.buffers["running_var"]}
        coefficients = {name: self._own(table) for name in ("centre", "factor", "shift")}
        affine = {"weight": self.weight, "bias": zeros, "eps": float(self.layer.eps), "relu": False}
        fields = {**running, **coefficients, **affine, **self.sizes}
        table.row("batch_norm_apply_inference", out=grad_x, x=grad, **fields)
        return grad_x

    def _own(self, table: Table, dtype: Any = None) -> Array:
        """A number a channel, for each thread."""
        return table.empty((table.n_threads, self.layer.num_features), dtype)

    def _running(self) -> dict[str, Array]:
        return {name: self.layer.buffers[name] for name in ("running_mean", "running_var")}


class LayerNormStep(Step):
    """Layer normalisation."""

    has_parameters = True

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        self.layer: Any = layers[0]
        width = math.prod(self.layer.normalized_shape)
        self.sizes = {"blocks": math.prod(in_shape) // width, "width": width}

    @property
    def nanoseconds(self) -> float:
        return 3 * NANOSECONDS_PER_ELEMENT * math.prod(self.out_shape)

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        params, width = self.layer.params, self.sizes["width"]
        self.weight = params["weight"] if "weight" in params else np.ones(width, table.dtype)
        bias = params["bias"] if "bias" in params else np.zeros(width, table.dtype)
        self.statistics, out = table.buffer((self.sizes["blocks"], 3)), table.buffer(self.out_shape)
        affine = {"weight": self.weight, "bias": bias, "eps": float(self.layer.eps)}
        table.row("layer_norm_rows", out=out, statistics=self.statistics, x=x, **affine, **self.sizes)
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        given, grad_x = {"grad_out": grad, "x": x, "statistics": self.statistics, **self.sizes}, None
        if self.needs_grad_x:
            grad_x = table.buffer(self.in_shape)
            table.row("layer_norm_rows_backward", grad_x=grad_x, weight=self.weight, **given)
        if self.trains:
            grads = self.layer.grads
            grad_bias = grads["bias"] if "bias" in grads else table.empty((self.sizes["width"],))
            table.weight("layer_norm_backward_weight", grad_weight=grads["weight"], grad_bias=grad_bias, **given)
        return grad_x
