"""Images to planes, and gradients to gradient planes: see `geometry`."""

from __future__ import annotations

import numpy as np

from fastfnn_kernels._config import helper
from fastfnn_kernels.convolution.geometry import FIRST_PHASE, GEOMETRY, PHASE, PHASE_WORDS
from fastfnn_kernels.reference.conv import POOL, RELU, RELU_POOL
from fastfnn_kernels.simd import move_row, record_in, spread_row_2x2


@helper
def pad(planes, p0, x, x0, w):  # type: ignore[no-untyped-def]
    """One image to its planes; what is not image stays as it is: zero."""
    g = record_in(w, 0, GEOMETRY)
    height, width, stride_h, stride_w = g.height, g.width, g.stride_h, g.stride_w
    for c in range(g.channels):
        for number in range(stride_h * stride_w):
            phase = record_in(w, FIRST_PHASE + number * PHASE_WORDS, PHASE)
            columns = phase.column_count
            source, target = first_pixel(w, phase)
            source += x0 + c * height * width
            target += p0 + (c * stride_h * stride_w + number) * g.rows * g.line
            for _ in range(phase.row_count):
                if stride_w == 1:
                    move_row(False, planes, target, x, source, x, columns, planes.dtype.type(-np.inf))
                else:
                    for j in range(columns):
                        planes[target + j] = x[source + stride_w * j]
                target += g.line
                source += stride_h * width


@helper
def first_pixel(w, phase):  # type: ignore[no-untyped-def]
    """Where a phase's first pixel lies in the image, and where in the phase's plane."""
    g = record_in(w, 0, GEOMETRY)
    first_row, first_column = phase.first_row, phase.first_column
    row = phase.row + g.stride_h * first_row - g.pad_h
    column = phase.column + g.stride_w * first_column - g.pad_w
    return row * g.width + column, first_row * g.line + first_column


@helper
def spread(grads, g0, grad_out, out, index, n, w, after):  # type: ignore[no-untyped-def]
    """The gradient of image n's output to its gradient planes, back through what followed; zeros there stay zero."""
    g = record_in(w, 0, GEOMETRY)
    filters, out_h, out_w, line = g.filters, g.out_height, g.out_width, g.line
    lowest = grads.dtype.type(-np.inf)
    pooled_h, pooled_w = out_h // 2, out_w // 2
    for k in range(filters):
        target = g0 + k * g.grad_plane + g.lead
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
