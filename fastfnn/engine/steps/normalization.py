"""Steps that differ between training and inference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.functional import NANOSECONDS_PER_ELEMENT
from fastfnn.layers import Layer


class BatchNormStep(Step):
    """Batch normalisation, and the ReLU behind it where there is one."""

    #: Also without weight and bias: the backward moves the running statistics.
    has_parameters = True
    whole_batch = True

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        layer: Any = layers[0]
        self.layer, self.relu = layer, len(layers) > 1
        self.sizes = (in_shape[0], math.prod(in_shape[1:]))

    @property
    def nanoseconds(self) -> float:
        return 3 * NANOSECONDS_PER_ELEMENT * math.prod(self.out_shape)

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        layer, channels = self.layer, self.layer.num_features
        self.out = table.buffer(self.out_shape)
        scratch_rows = kernels.operations.normalization.SCRATCH_ROWS
        self.scratch = table.empty((table.n_threads, scratch_rows, channels), np.float64)
        self.weight = layer.params["weight"] if layer.affine else np.ones(channels, table.dtype)
        bias = layer.params["bias"] if layer.affine else np.zeros(channels, table.dtype)
        affine = (self.scratch, self.weight, bias, float(layer.eps), int(self.relu))
        if table.training:
            self.partials = table.block_buffer((2, channels), np.float64)
            table.row("batch_norm_moments", self.partials, x, *self.sizes)
            table.barrier()
            table.row("batch_norm_apply_training", self.out, x, *self.sizes, self.partials, *affine)
        else:
            running = layer.buffers["running_mean"], layer.buffers["running_var"]
            table.row("batch_norm_apply_inference", self.out, x, *self.sizes, *running, *affine)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        layer, eps = self.layer, float(self.layer.eps)
        grad_x, partials = table.buffer(self.in_shape), table.block_buffer((2, layer.num_features), np.float64)
        if self.relu:
            table.row("relu_backward", grad, grad, self.out, math.prod(self.out_shape))
        table.row("batch_norm_backward_sums", partials, grad, x, *self.sizes, self.scratch, eps)
        table.barrier()
        if self.needs_grad_x:
            more = (partials, self.scratch, self.weight, eps)
            table.row("batch_norm_backward_apply", grad_x, grad, x, *self.sizes, *more)
        grads = (layer.grads["weight"], layer.grads["bias"]) if layer.affine else (0, 0)
        running = layer.buffers["running_mean"], layer.buffers["running_var"]
        more = (self.partials, partials, self.scratch, float(layer.momentum))
        table.weight("batch_norm_running", *grads, *running, *self.sizes, *more)
        return grad_x if self.needs_grad_x else None


class DropoutStep(Step):
    """Dropout: in inference nothing."""

    def takes_data(self, table: Table, data: Data) -> bool:
        return not table.training

    def forward(self, table: Table, x: Array | Data) -> Array | Data:
        if not table.training:
            return x
        assert not isinstance(x, Data)
        out = self._drop(table, x)
        table.update("dropout_step", self.layer.counter, dtypes=())
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        return self._drop(table, grad) if self.needs_grad_x else None

    @property
    def layer(self) -> Any:
        return self.layers[0]

    def _drop(self, table: Table, x: Array) -> Array:
        layer, out = self.layer, table.buffer(self.out_shape)
        table.row("dropout", out, x, math.prod(self.out_shape), float(layer.p), layer.seed, layer.counter)
        return out
