"""The convolutions that several test files go through: every combination of settings that fits its image."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pair = int | tuple[int, int]

KERNELS: tuple[Pair, ...] = (1, 2, 3, (1, 4), (3, 5), 5)
STRIDES: tuple[Pair, ...] = (1, 2, (3, 1), 4)
PADDINGS: tuple[Pair, ...] = (0, 1, (2, 0), (3, 4))
DILATIONS: tuple[Pair, ...] = (1, (1, 3), 2)
IMAGES = ((1, 1), (2, 3), (3, 5), (5, 5), (4, 9), (7, 6), (8, 17), (1, 33))
#: Channels, filters, groups: around the tiles' heights; two are depthwise.
CHANNELS = ((1, 1, 1), (3, 9, 1), (6, 4, 2), (4, 4, 4), (2, 6, 2), (5, 7, 1), (6, 15, 3))
#: Images a batch: one, and on both sides of the blocks that the gradient of the weight is summed in.
BATCHES = (1, 2, 9, 3, 17)


class Convolution(NamedTuple):
    """Settings, and the sizes that they are used with."""

    images: int
    size: tuple[int, int]
    channels: int
    filters: int
    kernel: tuple[int, int]
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def settings(self) -> tuple[Pair, Pair, Pair, int]:
        """What follows weight and bias in a call."""
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def room(self) -> Array:
        """By how many pixels the padded image is larger than what the filter spans; negative where it does not fit."""
        span = np.multiply(self.dilation, np.array(self.kernel) - 1) + 1
        return self.size + 2 * np.array(self.padding) - span

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.images, self.filters, *(self.room // self.stride + 1).tolist()

    def draw(self, rng: np.random.Generator, dtype: Any) -> tuple[Array, Array, Array, Array]:
        """x, weight, bias, and a gradient for the output."""
        shapes = (
            (self.images, self.channels, *self.size),
            (self.filters, self.channels // self.groups, *self.kernel),
            (self.filters,),
            self.out_shape,
        )
        x, weight, bias, grad_out = (rng.normal(size=shape).astype(dtype) for shape in shapes)
        return x, weight, bias, grad_out


def every_convolution() -> list[Convolution]:
    """Every kernel, stride, padding, dilation and image that fit each other; channels and batches take turns."""
    found: list[Convolution] = []
    for kernel, stride, padding, dilation, size in itertools.product(KERNELS, STRIDES, PADDINGS, DILATIONS, IMAGES):
        rows, columns = np.broadcast_to(kernel, 2).tolist()
        channels, filters, groups = CHANNELS[len(found) % len(CHANNELS)]
        images = BATCHES[len(found) % len(BATCHES)]
        settings = (stride, padding, dilation, groups)
        case = Convolution(images, size, channels, filters, (rows, columns), *settings)
        if (case.room >= 0).all():
            found.append(case)
    return found
