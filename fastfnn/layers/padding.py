"""Zeros around images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.functional.padding import Sides, sides
from fastfnn.layers.base import Array, KnownShape, Layer, Shape


class ZeroPad2d(Layer):
    """Zeros around images (n, c, h, w), as many on each side as is wanted there.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        In PyTorch's order; negative ones, which cut off, are refused.
    """

    precedes_activation = True
    torch_names = ("ZeroPad2d",)

    def __init__(self, padding: int | Sides) -> None:
        super().__init__()
        self.padding = sides(padding)

    def forward(self, x: ArrayLike) -> Array:
        self._saved = True
        return functional.zero_pad2d(x, self.padding)

    def backward(self, grad_out: ArrayLike) -> Array:
        return self.saved and functional.zero_pad2d_backward(grad_out, self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise InvalidValueError(f"{self!r} got samples of shape {input_shape}; expected (channels, height, width)")
        (channels, height, width), (left, right, top, bottom) = input_shape, self.padding
        return channels, height + top + bottom, width + left + right

    def config(self) -> dict[str, Any]:
        return {"padding": self.padding[0] if len(set(self.padding)) == 1 else list(self.padding)}

    def taken_shape(self) -> KnownShape:
        return None, None, None

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return (came[0], None, None) if came is not None else (None, None, None)

    def to_torch(self, nn: Any) -> Any:
        return nn.ZeroPad2d(self.padding)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(tuple(module.padding))

    def to_onnx(self, graph: Any) -> None:
        left, right, top, bottom = self.padding
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
        graph.add("Pad", graph.constant("pads", pads))
