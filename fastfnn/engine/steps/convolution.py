"""Steps of convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.functional import FLOPS_PER_NANOSECOND
from fastfnn.layers import BatchNorm2d, Conv1d, Layer, MaxPool2d, ReLU


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
    #: Whether the filters never change again.
    frozen = False

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        layer: Any = layers[0]
        self.layer = layer
        self.norm: Any = next((layer for layer in layers if isinstance(layer, BatchNorm2d)), None)
        relu, pool = (any(isinstance(layer, kind) for layer in layers) for kind in (ReLU, MaxPool2d))
        self.after = kernels.convolution.POOL * pool + kernels.convolution.RELU * relu
        images = (in_shape[0], 1, in_shape[1]) if isinstance(layer, Conv1d) else in_shape
        self.geometry = layer.filters.geometry(images if len(images) == 3 else (1, *images))

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
        weight, bias = params["weight"], self._bias(table)
        if self.norm is not None:
            weight, bias = self._fold(table, weight, bias)
        self.out = table.buffer(self.out_shape)
        pooled = self.after >= kernels.convolution.POOL
        self.index = table.buffer(self.out_shape, np.int32) if pooled else None
        filters = {"weight": weight, "bias": bias, "filters": self.geometry.filters, "folded": self.norm is not None}
        sizes = self._sizes(self._scratch(table, backward=False))
        ready = np.zeros(table.n_threads, np.int64) if self.frozen else None
        name = "convolution_tiled" if self.geometry.is_tiled else "convolution"
        table.row(name, out=self.out, index=self.index, x=x, ready=ready, **filters, **sizes)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        weight, grads = self.layer.params["weight"], self.layer.grads
        sums = weight.size + self.geometry.filters
        partials = table.block_buffer((sums,))
        grad_x = table.buffer(self.in_shape) if self.needs_grad_x else None
        saved = {"x": x, "weight": weight, "out": self.out, "index": self.index}
        sizes = {"sums": sums, **self._sizes(self._scratch(table, backward=True))}
        way = self.geometry.backward_way(self.after)
        name = "convolution_backward" if way == "direct" else f"convolution_backward_{way}"
        table.row(name, grad_x=grad_x, partials=partials, grad_out=grad, **saved, **sizes)
        if not self.trains:
            return grad_x
        grad_bias = grads["bias"] if self.layer.bias else np.empty(0, table.dtype)
        sizes = {"weights": weight.size, "biases": grad_bias.size, "sums": sums}
        table.weight("sum_blocks", grad_weight=grads["weight"], grad_bias=grad_bias, partials=partials, **sizes)
        return grad_x

    def _sizes(self, scratch: Array) -> dict[str, Any]:
        """Fields that forward and backward have alike."""
        words = self.geometry.words
        return {
            "words": words,
            "word_count": words.size,
            "after": self.after,
            "image": math.prod(self.in_shape),
            "outputs": math.prod(self.out_shape),
            "weights": self.layer.params["weight"].size,
            "scratch": scratch,
            "room": scratch.shape[1],
        }

    def _bias(self, table: Table) -> Array:
        return self.layer.params["bias"] if self.layer.bias else np.zeros(self.geometry.filters, table.dtype)

    def _scratch(self, table: Table, *, backward: bool) -> Array:
        """(n_threads, elements) of zeros: the borders of the planes stay what they are."""
        shape = self.geometry.scratch_shape(table.rows, backward, table.n_threads)
        scratch = table.empty(shape)
        scratch[...] = 0
        return scratch

    def _fold(self, table: Table, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Each thread's own scaled filters; made anew in every chunk."""
        norm, filters = self.norm, self.geometry.filters
        ones, zeros = np.ones(filters, table.dtype), np.zeros(filters, table.dtype)
        folded = table.empty((table.n_threads, weight.size)), table.empty((table.n_threads, filters))
        table.row(
            "fold_batch_norm",
            folded_weight=folded[0],
            folded_bias=folded[1],
            weight=weight,
            bias=bias,
            mean=norm.buffers["running_mean"],
            variance=norm.buffers["running_var"],
            gain=norm.params.get("weight", ones),
            shift=norm.params.get("bias", zeros),
            eps=float(norm.eps),
            weights=weight.size,
            filters=filters,
        )
        return folded
