"""Pooling that is not fused to a convolution, and padding: kernels, each on its thread's rows."""

from __future__ import annotations

import numpy as np

from fastfnn_kernels import padding, pool
from fastfnn_kernels.operations._fields import COUNT, Flag, Known, counts, rows
from fastfnn_kernels.operations._registry import by_rows

SIZES = counts(*pool.SIZES)
IMAGES, POOLED = rows("channels", "height", "width"), rows("channels", "out_height", "out_width")
PLACES = rows("channels", "out_height", "out_width", dtype=np.int32)

by_rows(pool.max_pool2d, out=POOLED, index=PLACES, x=IMAGES, sizes=SIZES)
by_rows(pool.max_pool2d_backward, grad_x=IMAGES, grad_out=POOLED, index=PLACES, sizes=SIZES)
by_rows(pool.avg_pool2d, out=POOLED, x=IMAGES, sizes=SIZES, count_include_pad=Flag)
by_rows(pool.avg_pool2d_backward, grad_x=IMAGES, grad_out=POOLED, sizes=SIZES, count_include_pad=Flag)
by_rows(pool.global_avg_pool2d, out=rows("channels"), x=IMAGES)
by_rows(
    pool.global_avg_pool2d_backward,
    grad_x=IMAGES,
    grad_out=rows("channels"),
    x_shape=Known("(place.last - place.first, record.channels, record.height, record.width)"),
)

PLANES, PADDED = rows("channels", "height", "width", axes=3), rows("channels", "out_height", "out_width", axes=3)
SIDES = dict.fromkeys(("left", "right", "top", "bottom"), COUNT)

by_rows(padding.pad_planes, out=PADDED, x=PLANES, **SIDES)
by_rows(padding.pad_planes_backward, grad_x=PLANES, grad_out=PADDED, **SIDES)
