"""Steps that draw random numbers in training: dropout, random changes of images, and noise."""

from __future__ import annotations

import math
from typing import Any

from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Table
from fastfnn.layers import Dropout2d, Noise, RandomErase, RandomFlip, RandomRotation, RandomShift


class RandomStep(Step):
    """A layer that draws: in inference nothing."""

    def takes_data(self, table: Table, data: Data) -> bool:
        return not table.training

    def forward(self, table: Table, x: Array | Data) -> Array | Data:
        if not table.training:
            return x
        assert not isinstance(x, Data)
        out = self._drawn(table, x, back=False)
        table.update("dropout_step", counter=self.layer.counter)
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        return self._drawn(table, grad, back=True) if self.needs_grad_x else None

    @property
    def layer(self) -> Any:
        return self.layers[0]

    def _drawn(self, table: Table, x: Array, back: bool) -> Array:
        """Append what makes another row array of `x`, or of its gradient where `back`."""
        operation, fields = self._operation(back)
        out = table.buffer(self.out_shape)
        table.row(operation, out=out, x=x, seed=self.layer.seed, counter=self.layer.counter, **fields)
        return out

    def _operation(self, back: bool) -> tuple[str, dict[str, Any]]:
        """The operation and the fields that are its own."""
        raise TypeError(f"{type(self).__name__} has no _operation")


class DropoutStep(RandomStep):
    """Dropout of numbers, or of whole channels."""

    def _operation(self, back: bool) -> tuple[str, dict[str, Any]]:
        p = float(self.layer.p)
        if isinstance(self.layer, Dropout2d):
            channels, *pixels = self.out_shape
            return "dropout_planes", {"p": p, "channels": channels, "spatial": math.prod(pixels)}
        return "dropout", {"p": p, "width": math.prod(self.out_shape)}


class AugmentationStep(RandomStep):
    """Random changes of images, and noise."""

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        return grad if isinstance(self.layer, Noise) else super().backward(table, x, grad)

    def _operation(self, back: bool) -> tuple[str, dict[str, Any]]:
        layer = self.layer
        if isinstance(layer, Noise):
            return "noise_elements", {"std": float(layer.std), "size": math.prod(self.out_shape)}
        *planes, height, width = self.out_shape
        sizes = {"planes": math.prod(planes), "height": height, "width": width}
        if isinstance(layer, RandomFlip):
            return "flip_images", {"horizontal": layer.horizontal, "vertical": layer.vertical, **sizes}
        if isinstance(layer, RandomShift):
            down, across = layer.pixels
            return "shift_images", {"down": down, "across": across, "sign": -1 if back else 1, **sizes}
        if isinstance(layer, RandomErase):
            tall, wide = layer.size
            return "erase_images", {"tall": tall, "wide": wide, "p": float(layer.p), **sizes}
        assert isinstance(layer, RandomRotation)
        return "rotate_images_backward" if back else "rotate_images", {"radians": layer.radians, **sizes}
