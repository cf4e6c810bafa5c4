"""Steps of pooling that is not fused to a convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Table
from fastfnn.layers import AvgPool2d, MaxPool2d


class PoolStep(Step):
    """Max or average pooling over windows, or over whole images."""

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        out, layer = table.buffer(self.out_shape), self._layer
        if isinstance(layer, MaxPool2d):
            self.index = table.buffer(self.out_shape, np.int32)
            table.row("max_pool", out, self.index, x, self._sizes())
        elif isinstance(layer, AvgPool2d):
            table.row("avg_pool", out, x, self._sizes(), int(layer.count_include_pad))
        else:
            table.row("global_avg_pool", out, x, *self.in_shape)
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        if not self.needs_grad_x:
            return None
        grad_x, layer = table.buffer(self.in_shape), self._layer
        if isinstance(layer, MaxPool2d):
            table.row("max_pool_backward", grad_x, grad, self.index, self._sizes())
        elif isinstance(layer, AvgPool2d):
            table.row("avg_pool_backward", grad_x, grad, self._sizes(), int(layer.count_include_pad))
        else:
            table.row("global_avg_pool_backward", grad_x, grad, *self.in_shape)
        return grad_x

    @property
    def _layer(self) -> Any:
        return self.layers[0]

    def _sizes(self) -> Array:
        """Channels and the twelve sizes of windows, as the operations take them."""
        return np.array([self.in_shape[0], *self._layer.windows.sizes(self.in_shape)], np.int64)
