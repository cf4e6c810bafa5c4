"""Kernels of pooling and padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn_kernels import padding, pool, reference
from fastfnn_kernels.registry._spec import Draw, round_robin, spec_of

Pair = tuple[int, int]

CHANNELS = 2
_SAMPLES = (1, 2, 0, 3, 1, 7, 4)
#: Both sides of every vector's width, for windows side by side.
_WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 28, 31, 32, 33, 34, 63, 64, 65, 66, 5, 11)
_IMAGES: dict[str, Any] = {
    "shapes": round_robin(50, _SAMPLES, (2, 3, 5, 4, 7, 2, 9, 6), _WIDTHS),
    "bench_shapes": ((192, 24, 24), (512, 14, 14), (2048, 28, 28)),
}
_PLANES: dict[str, Any] = {
    "shapes": round_robin(40, _SAMPLES, _WIDTHS, (1, 3, 2, 5)),
    "bench_shapes": ((64, 49, 64), (512, 196, 32)),
}


def _sizes(
    height: int, width: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> pool.Sizes:
    def out_size(axis: int, size: int) -> int:
        room = size + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1
        windows = (room + ceil_mode * (stride[axis] - 1)) // stride[axis] + 1
        return windows - (ceil_mode and (windows - 1) * stride[axis] >= size + padding[axis])

    return height, width, out_size(0, height), out_size(1, width), *kernel, *stride, *padding, *dilation


class _Windows:
    """How to draw the arguments for one kind of windows, from a shape (n, height, width)."""

    def __init__(
        self,
        kernel: Pair,
        stride: Pair,
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.window, self.count_include_pad = (kernel, stride, padding, dilation, ceil_mode), count_include_pad

    def max(self, d: Draw, n: int, height: int, width: int) -> tuple[Any, ...]:
        sizes = _sizes(height, width, *self.window)
        out, index = d.blank(n, CHANNELS, *sizes[2:4]), d.blank(n, CHANNELS, *sizes[2:4], dtype=np.int32)
        return out, index, d.normal(n, CHANNELS, height, width), sizes

    def max_backward(self, d: Draw, n: int, height: int, width: int) -> tuple[Any, ...]:
        sizes = _sizes(height, width, *self.window)
        index = reference.max_pool(d.normal(n, CHANNELS, height, width), sizes)[1].astype(np.int32)
        return d.blank(n, CHANNELS, height, width), d.normal(*index.shape), index, sizes

    def avg(self, d: Draw, n: int, height: int, width: int) -> tuple[Any, ...]:
        sizes = _sizes(height, width, *self.window)
        out = d.blank(n, CHANNELS, *sizes[2:4])
        return out, d.normal(n, CHANNELS, height, width), sizes, self.count_include_pad

    def avg_backward(self, d: Draw, n: int, height: int, width: int) -> tuple[Any, ...]:
        sizes = _sizes(height, width, *self.window)
        grad_out = d.normal(n, CHANNELS, *sizes[2:4])
        return d.blank(n, CHANNELS, height, width), grad_out, sizes, self.count_include_pad


_WINDOWS = {
    "2x2": _Windows((2, 2), (2, 2)),
    "2x2_ceil": _Windows((2, 2), (2, 2), ceil_mode=True),
    "3x3_overlapping": _Windows((3, 3), (2, 2), (1, 1), ceil_mode=True, count_include_pad=False),
    "3x2_padded": _Windows((3, 2), (1, 2), (1, 1)),
}
_DILATED = _Windows((2, 3), (1, 2), (1, 1), (2, 1))


# fmt: off
SPECS = [
    *(spec_of(f"max_pool2d_{name}", pool.max_pool2d, windows.max, 2, **_IMAGES)
      for name, windows in {**_WINDOWS, "dilated": _DILATED}.items()),
    *(spec_of(f"max_pool2d_backward_{name}", pool.max_pool2d_backward, windows.max_backward, 2,
              scale=lambda *_: 9, **_IMAGES)
      for name, windows in {**_WINDOWS, "dilated": _DILATED}.items()),
    *(spec_of(f"avg_pool2d_{name}", pool.avg_pool2d, windows.avg, 2, **_IMAGES)
      for name, windows in _WINDOWS.items()),
    *(spec_of(f"avg_pool2d_backward_{name}", pool.avg_pool2d_backward, windows.avg_backward, 2, **_IMAGES)
      for name, windows in _WINDOWS.items()),
    spec_of("pad_planes", padding.pad_planes,
          lambda d, n, h, w: (d.blank(n, h + 3, w + 1), d.normal(n, h, w), 1, 0, 2, 1), 1, **_IMAGES),
    spec_of("pad_planes_backward", padding.pad_planes_backward,
          lambda d, n, h, w: (d.blank(n, h, w), d.normal(n, h + 3, w + 1), 1, 0, 2, 1), 1, **_IMAGES),
    spec_of("global_avg_pool2d", pool.global_avg_pool2d,
          lambda d, n, pixels, c: (d.blank(n, c), d.normal(n, c, pixels, 2)), 2, **_PLANES),
    spec_of("global_avg_pool2d_backward", pool.global_avg_pool2d_backward,
          lambda d, n, pixels, c: (d.blank(n, c, pixels, 2), d.normal(n, c), (n, c, pixels, 2)), 1, **_PLANES),
]
# fmt: on
