"""Steps of pooling that is not fused to a convolution, and of padding."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Table
from fastfnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    MaxPool1d,
    MaxPool2d,
)

OPERATIONS: dict[type[Layer], str] = {
    MaxPool1d: "max_pool2d",
    MaxPool2d: "max_pool2d",
    GlobalMaxPool2d: "max_pool2d",
    AdaptiveAvgPool2d: "avg_pool2d",
    AvgPool1d: "avg_pool2d",
    AvgPool2d: "avg_pool2d",
    GlobalAvgPool2d: "global_avg_pool2d",
}


class PoolStep(Step):
    """Max or average pooling over windows, or over whole images."""

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        self.index = table.buffer(self.out_shape, np.int32) if self._operation == "max_pool2d" else None
        out = table.buffer(self.out_shape)
        table.row(self._operation, out=out, x=x, **self._fields())
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        if not self.needs_grad_x:
            return None
        grad_x = table.buffer(self.in_shape)
        table.row(f"{self._operation}_backward", grad_x=grad_x, grad_out=grad, **self._fields())
        return grad_x

    @property
    def _operation(self) -> str:
        return OPERATIONS[type(self.layers[0])]

    def _fields(self) -> dict[str, Any]:
        """Fields that forward and backward have alike."""
        layer: Any = self.layers[0]
        if isinstance(layer, GlobalAvgPool2d):
            return dict(zip(("channels", "height", "width"), self.in_shape, strict=True))
        told = isinstance(layer, (MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d))
        # Lines are images of one row.
        shape = (self.in_shape[0], 1, self.in_shape[1]) if len(self.in_shape) == 2 else self.in_shape
        windows = layer.windows if told else layer.windows_of(self.in_shape)
        sizes = dict(zip(kernels.pool.SIZES, windows.sizes(shape), strict=True))
        if self.index is not None:
            return {"channels": self.in_shape[0], **sizes, "index": self.index}
        counts = isinstance(layer, (AvgPool1d, AvgPool2d)) and layer.count_include_pad
        return {"channels": self.in_shape[0], **sizes, "count_include_pad": counts}


class PadStep(Step):
    """Zeros around images."""

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        out = table.buffer(self.out_shape)
        table.row("pad_planes", out=out, x=x, **self._fields())
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        if not self.needs_grad_x:
            return None
        grad_x = table.buffer(self.in_shape)
        table.row("pad_planes_backward", grad_x=grad_x, grad_out=grad, **self._fields())
        return grad_x

    def _fields(self) -> dict[str, int]:
        layer: Any = self.layers[0]
        padding = dict(zip(("left", "right", "top", "bottom"), layer.padding, strict=True))
        sizes = dict(zip(("channels", "height", "width"), self.in_shape, strict=True))
        return {**sizes, "out_height": self.out_shape[1], "out_width": self.out_shape[2], **padding}
