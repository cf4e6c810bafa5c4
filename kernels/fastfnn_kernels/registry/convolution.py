"""Kernels of convolution. A shape: images, filters, out height, out width, channels a group, kernel height, width."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels.convolution import PLAIN, POOL, RELU, RELU_POOL, conv2d, conv2d_backward, sum_blocks
from fastfnn_kernels.convolution.geometry import Geometry, geometry
from fastfnn_kernels.registry._spec import Draw, Shape, round_robin, spec_of

Array = NDArray[Any]
Pair = tuple[int, int]

#: Filters and channels around the tiles' heights; outputs around the vectors' widths; more than one block of images.
_SHAPES = round_robin(
    22,
    (1, 3, 2, 9, 1, 17, 2),
    (1, 6, 2, 8, 3, 7, 16, 10, 5, 13, 4),
    (1, 5, 2, 8, 3),
    (1, 7, 28, 4, 16, 3, 33, 10, 5),
    (1, 3, 2, 6, 1, 9, 8),
    (3, 1, 2, 3, 5),
    (3, 1, 5, 2, 3, 4, 1),
)
#: 3×3 with channels enough for Winograd's tiles: odd sides, tiles of one row to more than a block, blocks over images.
_TILED = (
    (1, 8, 4, 4, 8, 3, 3), (3, 9, 5, 6, 17, 3, 3), (9, 16, 7, 4, 16, 3, 3), (2, 33, 4, 13, 16, 3, 3),
    (17, 17, 6, 5, 18, 3, 3), (1, 16, 34, 9, 16, 3, 3), (2, 16, 5, 67, 20, 3, 3),
)  # fmt: skip
#: The blocks of `bench/peers.py`, and the two layers of LeNet-5.
_BENCH = (
    (64, 8, 28, 28, 1, 3, 3), (64, 16, 14, 14, 8, 3, 3), (64, 32, 28, 28, 16, 3, 3), (64, 64, 14, 14, 32, 3, 3),
    (64, 6, 28, 28, 1, 5, 5), (64, 16, 10, 10, 6, 5, 5),
)  # fmt: skip


class _Convolution:
    """How to draw the arguments of one kind of convolution.

    Groups are given by how many there are; the shape's filters are those of one group.
    """

    def __init__(
        self,
        after: int = PLAIN,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        wants_grad_x: bool = True,
    ) -> None:
        self.after, self.wants_grad_x = after, wants_grad_x
        self.settings = (stride, padding, dilation, groups)

    def _geometry(self, shape: Shape) -> Geometry:
        """That of an image which gives the shape's output, or one a little larger where padding would leave none."""
        _, filters, *out, channels, kernel_h, kernel_w = shape
        *pairs, groups = self.settings
        size = [
            max(1, (o - 1) * s + d * (k - 1) + 1 - 2 * p)
            for o, k, s, p, d in zip(out, (kernel_h, kernel_w), *pairs, strict=True)
        ]
        kernel = (kernel_h, kernel_w)
        return geometry(channels * groups, (size[0], size[1]), filters * groups, kernel, *self.settings)

    def _out(self, d: Draw, shape: Shape) -> tuple[Array, Array]:
        """Memory for outputs and places."""
        rows, columns = self._geometry(shape).out_size
        if self.after in (PLAIN, RELU):
            return d.blank(shape[0], shape[1] * self.settings[3], rows, columns), np.empty(0, np.int32)
        out = d.blank(shape[0], shape[1] * self.settings[3], rows // 2, columns // 2)
        return out, d.blank(*out.shape, dtype=np.int32)

    def forward(self, d: Draw, *shape: int) -> tuple[Any, ...]:
        g = self._geometry(shape)
        x, weight, bias = d.normal(shape[0], g.channels, *g.size), d.normal(*g.weight_shape), d.normal(g.filters)
        scratch = g.scratch(shape[0], False, d.dtype, d.n_threads)
        return *self._out(d, shape), scratch, x, weight, bias, *self.settings, self.after

    def backward(self, d: Draw, *shape: int) -> tuple[Any, ...]:
        g = self._geometry(shape)
        x, weight = d.normal(shape[0], g.channels, *g.size), d.normal(*g.weight_shape)
        out, index = self._out(d, shape)
        grad_out = d.normal(*out.shape)
        out[...] = d.normal(*out.shape)
        if index.size:
            line = g.out_size[1] + (g.kernel[1] - 1) * g.dilation[1] // g.stride[1]
            corner = 2 * line * np.arange(out.shape[2])[:, None] + 2 * np.arange(out.shape[3])
            index[...] = corner + d.rng.choice([0, 1, line, line + 1], out.shape)
        scratch, partials = g.scratch(shape[0], True, d.dtype, d.n_threads), g.partials(shape[0], d.dtype)
        partials[...] = np.nan
        grad_x = d.blank(*(x.shape if self.wants_grad_x else (0,)))
        outs = (grad_x, d.blank(*weight.shape), d.blank(g.filters))
        return *outs, scratch, partials, grad_out, x, weight, out, index, *self.settings, self.after


def _depth(*shape: int) -> float:
    return 1.0 + math.prod(shape[4:])


def _sums(n: int, filters: int, height: int, width: int, channels: int, kernel_h: int, kernel_w: int) -> float:
    return 1.0 + n * height * width + filters * kernel_h * kernel_w


def _sum_blocks(accumulate: bool) -> Any:
    def draw(d: Draw, blocks: int, elements: int) -> tuple[Any, ...]:
        make = d.normal if accumulate else d.blank
        return make(elements), make(elements // 2), d.normal(blocks, elements + elements // 2 + 3), accumulate

    return draw


_FORWARD: dict[str, Any] = {"twin": reference.conv2d_fused, "outputs": 2, "scratch": 1, "scale": _depth}
_BACKWARD: dict[str, Any] = {"outputs": 3, "scratch": 2, "scale": _sums, "nan_spreads": True}
_ALL: dict[str, Any] = {"shapes": ((0, 2, 3, 3, 1, 3, 3), *_SHAPES), "bench_shapes": _BENCH}
_TILES: dict[str, Any] = {"shapes": _TILED, "bench_shapes": _BENCH[1:4]}
_SOME: dict[str, Any] = {"shapes": _SHAPES, "bench_shapes": _BENCH[2:4]}
_BLOCKS: dict[str, Any] = {
    "shapes": ((1, 1), (3, 17), (8, 150), (0, 5), (2, 900)),
    "bench_shapes": ((8, 2_416), (8, 18_496)),
    "scale": lambda blocks, _: 1.0 + blocks,
}

_PADDED: dict[str, Any] = {"padding": (1, 1)}
_STRIDED: dict[str, Any] = {"stride": (2, 2), "padding": (1, 1)}
_ODD: dict[str, Any] = {"stride": (3, 1), "padding": (2, 0), "dilation": (1, 2)}

# fmt: off
SPECS = [
    spec_of("conv2d", conv2d, _Convolution().forward, 2, **_FORWARD, **_ALL),
    spec_of("conv2d_relu", conv2d, _Convolution(RELU, **_PADDED).forward, 2, **_FORWARD, **_ALL),
    spec_of("conv2d_pool", conv2d, _Convolution(POOL).forward, 2, **_FORWARD, **_SOME),
    spec_of("conv2d_relu_pool", conv2d, _Convolution(RELU_POOL, **_PADDED).forward, 2, **_FORWARD, **_ALL),
    spec_of("conv2d_strided", conv2d, _Convolution(**_STRIDED).forward, 2, **_FORWARD, **_SOME),
    spec_of("conv2d_dilated", conv2d, _Convolution(RELU_POOL, **_ODD).forward, 2, **_FORWARD, **_SOME),
    spec_of("conv2d_groups", conv2d, _Convolution(RELU, groups=3, **_PADDED).forward, 2, **_FORWARD, **_SOME),
    spec_of("conv2d_backward", conv2d_backward, _Convolution().backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_ALL),
    spec_of("conv2d_relu_backward", conv2d_backward, _Convolution(RELU, **_PADDED).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_ALL),
    spec_of("conv2d_pool_backward", conv2d_backward, _Convolution(POOL).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_SOME),
    spec_of("conv2d_relu_pool_backward", conv2d_backward, _Convolution(RELU_POOL, **_PADDED).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_ALL),
    spec_of("conv2d_backward_weight", conv2d_backward, _Convolution(**_PADDED, wants_grad_x=False).backward, 2,
            twin=reference.conv2d_fused_backward_weight, **_BACKWARD, **_ALL),
    spec_of("conv2d_strided_backward", conv2d_backward, _Convolution(**_STRIDED).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_SOME),
    spec_of("conv2d_dilated_backward", conv2d_backward, _Convolution(RELU_POOL, **_ODD).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_SOME),
    spec_of("conv2d_groups_backward", conv2d_backward, _Convolution(RELU, groups=3, **_PADDED).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_SOME),
    spec_of("conv2d_tiles", conv2d, _Convolution(**_PADDED).forward, 2, **_FORWARD, **_TILES),
    spec_of("conv2d_tiles_relu", conv2d, _Convolution(RELU, padding=(0, 2)).forward, 2, **_FORWARD, **_TILES),
    spec_of("conv2d_tiles_relu_pool", conv2d, _Convolution(RELU_POOL, **_PADDED).forward, 2, **_FORWARD, **_TILES),
    spec_of("conv2d_tiles_backward", conv2d_backward, _Convolution(padding=(0, 2)).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_TILES),
    spec_of("conv2d_tiles_relu_backward", conv2d_backward, _Convolution(RELU, **_PADDED).backward, 4,
            twin=reference.conv2d_fused_backward, **_BACKWARD, **_TILES),
    spec_of("conv2d_tiles_backward_weight", conv2d_backward, _Convolution(**_PADDED, wants_grad_x=False).backward, 2,
            twin=reference.conv2d_fused_backward_weight, **_BACKWARD, **_TILES),
    spec_of("sum_blocks", sum_blocks, _sum_blocks(False), 1, **_BLOCKS),
    spec_of("sum_blocks_accumulate", sum_blocks, _sum_blocks(True), 1, **_BLOCKS),
]
# fmt: on
