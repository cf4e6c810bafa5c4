"""Steps of convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.functional import FLOPS_PER_NANOSECOND
from fastfnn.layers import BatchNorm2d, Layer, MaxPool2d, ReLU


def _is_2x2(layer: Any) -> bool:
    windows = layer.windows
    pairs = windows.kernel_size, windows.stride, windows.padding, windows.dilation
    return pairs == ((2, 2), (2, 2), (0, 0), (1, 1)) and not windows.ceil_mode


class ConvStep(Step):
    """A convolution, and the batch normalisation, ReLU and 2×2 max-pooling behind it.

    The ReLU and the pooling work on lines that are still in the first-level cache, in either order: the largest of
    four is the same before and after a ReLU. Batch normalisation is only folded in for inference.
    """

    has_parameters = True

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        layer: Any = layers[0]
        self.layer = layer
        self.norm: Any = next((layer for layer in layers if isinstance(layer, BatchNorm2d)), None)
        relu, pool = (any(isinstance(layer, kind) for layer in layers) for kind in (ReLU, MaxPool2d))
        self.after = kernels.convolution.POOL * pool + kernels.convolution.RELU * relu
        self.geometry = layer.filters.geometry(in_shape if len(in_shape) == 3 else (1, *in_shape))

    @classmethod
    def fits(cls, layers: tuple[Layer, ...], in_shape: Shape) -> bool:
        pools = [layer for layer in layers if isinstance(layer, MaxPool2d)]
        # A plane of one row or column has no 2×2 window: its pooling must say so itself.
        return all(map(_is_2x2, pools))

    @property
    def nanoseconds(self) -> float:
        height, width = self.geometry.out_size
        return 2.0 * height * width * self.layer.params["weight"].size / FLOPS_PER_NANOSECOND

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        params = self.layer.params
        weight, bias, own_bytes = params["weight"], self._bias(table), 0
        if self.norm is not None:
            weight, bias, own_bytes = self._fold(table, weight, bias)
        pooled = self.after >= kernels.convolution.POOL
        self.out = table.buffer(self.out_shape)
        self.index = table.buffer(self.out_shape if pooled else (0,), np.int32)
        scratch, words = self._scratch(table, backward=False), self.geometry.words
        fields = (weight, bias, words, words.size, self.after, scratch.shape[1], own_bytes)
        table.row("convolution", self.out, self.index, scratch, x, *fields)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        params, grads, words = self.layer.params, self.layer.grads, self.geometry.words
        weight = params["weight"]
        partials = table.block_buffer((weight.size + self.geometry.filters,))
        grad_x = table.buffer(self.in_shape) if self.needs_grad_x else None
        scratch = self._scratch(table, backward=True)
        fields = (weight, self.out, self.index, words, words.size, self.after, scratch.shape[1])
        table.row("convolution_backward", 0 if grad_x is None else grad_x, partials, scratch, grad, x, *fields)
        grad_bias = grads["bias"] if self.layer.bias else np.empty(0, table.dtype)
        sizes = (weight.size, grad_bias.size, partials.shape[1])
        table.weight("sum_blocks", grads["weight"], grad_bias, partials, *sizes)
        return grad_x

    def _bias(self, table: Table) -> Array:
        return self.layer.params["bias"] if self.layer.bias else np.zeros(self.geometry.filters, table.dtype)

    def _scratch(self, table: Table, *, backward: bool) -> Array:
        """(n_threads, elements) of zeros: the borders of the planes stay what they are."""
        shape = self.geometry.scratch_shape(table.rows, backward, table.dtype, table.n_threads)
        scratch = table.empty(shape)
        scratch[...] = 0
        return scratch

    def _fold(self, table: Table, weight: Array, bias: Array) -> tuple[Array, Array, int]:
        """Each thread's own scaled filters, and the bytes from one's to the next's; made anew in every chunk."""
        norm, filters = self.norm, self.geometry.filters
        ones, zeros = np.ones(filters, table.dtype), np.zeros(filters, table.dtype)
        folded = table.empty((table.n_threads, weight.size + filters))
        statistics = norm.buffers["running_mean"], norm.buffers["running_var"]
        affine = norm.params.get("weight", ones), norm.params.get("bias", zeros)
        sizes = (weight.size, filters, float(norm.eps))
        table.row("fold_batch_norm", folded, weight, bias, *statistics, *affine, *sizes)
        return folded, folded.reshape(-1)[weight.size :], folded.strides[0]
