"""Images to planes, and gradients to gradient planes: see `geometry`."""

from __future__ import annotations

import numpy as np

from fastfnn_kernels._config import helper
from fastfnn_kernels.convolution import geometry as geo
from fastfnn_kernels.reference.conv import POOL, RELU, RELU_POOL
from fastfnn_kernels.simd import move_row, spread_row_2x2


@helper
def pad(planes, p0, x, x0, w):  # type: ignore[no-untyped-def]
    """One image to its planes; what is not image stays as it is: zero."""
    height, width, stride_h, stride_w = w[geo.HEIGHT], w[geo.WIDTH], w[geo.STRIDE_H], w[geo.STRIDE_W]
    for c in range(w[geo.CHANNELS]):
        for phase in range(stride_h * stride_w):
            record = w[geo.PHASES] + phase * geo.PHASE_WORDS
            columns = w[record + geo.COLUMN_COUNT]
            source, target = first_pixel(w, record)
            source += x0 + c * height * width
            target += p0 + (c * stride_h * stride_w + phase) * w[geo.ROWS] * w[geo.LINE]
            for _ in range(w[record + geo.ROW_COUNT]):
                if stride_w == 1:
                    move_row(False, planes, target, x, source, x, columns, planes.dtype.type(-np.inf))
                else:
                    for j in range(columns):
                        planes[target + j] = x[source + stride_w * j]
                target += w[geo.LINE]
                source += stride_h * width


@helper
def first_pixel(w, phase):  # type: ignore[no-untyped-def]
    """Where a phase's first pixel lies in the image, and where in the phase's plane."""
    first_row, first_column = w[phase + geo.FIRST_ROW], w[phase + geo.FIRST_COLUMN]
    row = w[phase + geo.PHASE_A] + w[geo.STRIDE_H] * first_row - w[geo.PAD_H]
    column = w[phase + geo.PHASE_B] + w[geo.STRIDE_W] * first_column - w[geo.PAD_W]
    return row * w[geo.WIDTH] + column, first_row * w[geo.LINE] + first_column


@helper
def spread(grads, g0, grad_out, out, index, n, w, after):  # type: ignore[no-untyped-def]
    """The gradient of image n's output to its gradient planes, back through what followed; zeros there stay zero."""
    filters, out_h, out_w, line = w[geo.FILTERS], w[geo.OUT_HEIGHT], w[geo.OUT_WIDTH], w[geo.LINE]
    lowest = grads.dtype.type(-np.inf)
    pooled_h, pooled_w = out_h // 2, out_w // 2
    for k in range(filters):
        target = g0 + k * w[geo.GRAD_PLANE] + w[geo.LEAD]
        # fmt: off
        if after >= POOL:
            for row in range(pooled_h):
                source, at = ((n * filters + k) * pooled_h + row) * pooled_w, 2 * row * line
                if after == RELU_POOL:
                    spread_row_2x2(True, grads, target + at, line, grad_out, out, source, index, pooled_w, at)
                else:
                    spread_row_2x2(False, grads, target + at, line, grad_out, out, source, index, pooled_w, at)
        else:
            for row in range(out_h):
                source = ((n * filters + k) * out_h + row) * out_w
                if after == RELU:
                    move_row(True, grads, target + row * line, grad_out, source, out, out_w, lowest)
                else:
                    move_row(False, grads, target + row * line, grad_out, source, grad_out, out_w, lowest)
        # fmt: on
