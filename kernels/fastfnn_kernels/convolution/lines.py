"""Convolution with vectors along the pixels: for few channels, whatever their number."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn_kernels._config import helper, inlined
from fastfnn_kernels.convolution.geometry import FEW_TAPS, FIRST_PHASE, GEOMETRY, PHASE, PHASE_WORDS, TAPS, TILES
from fastfnn_kernels.convolution.planes import first_pixel
from fastfnn_kernels.reference.conv import POOL, RELU, RELU_POOL
from fastfnn_kernels.simd import VECTOR_BYTES, convolve_tile, correlate_tile, move_row, pool_row_2x2, record_in


def _make_lines(rows: int, vectors: int) -> Any:
    @inlined
    def lines(out, o0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, pixels):  # type: ignore[no-untyped-def]
        """Tiles along `pixels` pixels of `rows` channels: of `vectors` vectors, then of one."""
        lanes = VECTOR_BYTES // out.itemsize
        width = vectors * lanes
        p = 0
        # fmt: off
        while p + width <= pixels:
            convolve_tile(rows, vectors, out, o0 + p, ldo, weight, w0, start, s0, x, x0 + p, table, t0, depth, width)
            p += width
        while p < pixels:
            convolve_tile(rows, 1, out, o0 + p, ldo, weight, w0, start, s0, x, x0 + p, table, t0, depth,
                          min(lanes, pixels - p))
            p += lanes
        # fmt: on

    return lines


_lines_of = {height: _make_lines(height, vectors) for height, vectors in TILES}
_lines_of_8, _lines_of_6, _lines_of_4 = _lines_of.get(8, _lines_of[4]), _lines_of[6], _lines_of[4]
_lines_of_2, _lines_of_1 = _lines_of[2], _lines_of[1]


@helper
def _lines(height, out, ldo, weight, w0, start, s0, x, x0, table, t0, depth, pixels):  # type: ignore[no-untyped-def]
    if height == 8:
        _lines_of_8(out, 0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, pixels)
    elif height == 6:
        _lines_of_6(out, 0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, pixels)
    elif height == 4:
        _lines_of_4(out, 0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, pixels)
    elif height == 2:
        _lines_of_2(out, 0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, pixels)
    else:
        _lines_of_1(out, 0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, pixels)


@helper
def pack_filters(packed, p0, weight, bias, w, group):  # type: ignore[no-untyped-def]
    """A group's filters as `convolve_tile` reads them, tile by tile ``[depth][filter of the tile]``; then biases."""
    g = record_in(w, 0, GEOMETRY)
    filters, depth = g.filters // g.groups, weight.size // g.filters
    first, tile = 0, g.filter_tiles
    while w[tile] > 0:
        height = w[tile]
        for i in range(height):
            source = (group * filters + first + i) * depth
            for d in range(depth):
                packed[p0 + d * height + i] = weight[source + d] if first + i < filters else 0
        p0 += height * depth
        first += height
        tile += 1
    for k in range(first):
        packed[p0 + k] = bias[group * filters + k] if k < filters else 0


@helper
def pack_channels(packed, p0, weight, w, group, phase):  # type: ignore[no-untyped-def]
    """The same for the gradient of the input: ``[filter, tap of the phase][channel of the tile]``."""
    g = record_in(w, 0, GEOMETRY)
    filters, channels = g.filters // g.groups, g.channels // g.groups
    tap_count, tap_list = g.tap_count, phase.tap_list
    first, tile = 0, g.channel_tiles
    while w[tile] > 0:
        height = w[tile]
        for k in range(group * filters, (group + 1) * filters):
            for t in range(phase.taps):
                source = (k * channels + first) * tap_count + w[tap_list + t]
                for i in range(height):
                    packed[p0 + i] = weight[source + i * tap_count] if first + i < channels else 0
                p0 += height
        first += height
        tile += 1


@helper
def whole_vectors(count, array):  # type: ignore[no-untyped-def]
    lanes = VECTOR_BYTES // array.itemsize
    return (count + lanes - 1) // lanes * lanes


@helper
def input_gradient(grad_x, x0, own, lines, grads, g0, w):  # type: ignore[no-untyped-def]
    """The gradient of one image: a convolution of its gradient planes, for each phase with the taps that it has."""
    g = record_in(w, 0, GEOMETRY)
    groups, line, height, width = g.groups, g.line, g.height, g.width
    filters, channels = g.filters // groups, g.channels // groups
    stride_h, stride_w, room = g.stride_h, g.stride_w, g.channel_room
    group_weights = room * filters * g.tap_count
    for number in range(stride_h * stride_w):
        phase = record_in(w, FIRST_PHASE + number * PHASE_WORDS, PHASE)
        rows, columns = phase.row_count, phase.column_count
        depth = filters * phase.taps
        if rows == 0 or columns == 0 or depth == 0:
            continue
        pixels = (rows - 1) * line + columns
        ldo = whole_vectors(pixels, grad_x)
        target, pixel = first_pixel(w, phase)
        for group in range(groups):
            first, tile = 0, g.channel_tiles
            weights = group * group_weights + phase.taps_before * filters * room
            source = g0 + group * filters * g.grad_plane + g.lead + pixel
            while w[tile] > 0:
                # fmt: off
                _lines(w[tile], lines, ldo, own, weights, own, groups * group_weights, grads, source, w,
                       phase.table, depth, pixels)
                # fmt: on
                for i in range(min(w[tile], channels - first)):
                    to = x0 + (group * channels + first + i) * height * width + target
                    for row in range(rows):
                        at = i * ldo + row * line
                        if stride_w == 1:
                            move_row(False, grad_x, to, lines, at, lines, columns, grad_x.dtype.type(-np.inf))
                        else:
                            for j in range(columns):
                                grad_x[to + stride_w * j] = lines[at + j]
                        to += stride_h * width
                weights += w[tile] * depth
                first += w[tile]
                tile += 1


def _make_products(rows: int) -> Any:
    @helper
    def products(partial, o0, depth, grads, g0, x, x0, x_image, w, pixels, images, adds):  # type: ignore[no-untyped-def]
        """Tiles along the `depth` taps of `rows` filters."""
        g = record_in(w, 0, GEOMETRY)
        t = 0
        # fmt: off
        while depth - t > FEW_TAPS:
            correlate_tile(rows, TAPS, partial, o0 + t, depth, grads, g0, g.grad_plane, g.slot, x, x0,
                           x_image, w, g.table + t, pixels, images, adds, min(TAPS, depth - t))
            t += TAPS
        if t < depth:
            correlate_tile(rows, FEW_TAPS, partial, o0 + t, depth, grads, g0, g.grad_plane, g.slot, x,
                           x0, x_image, w, g.table + t, pixels, images, adds, depth - t)
        # fmt: on

    return products


_products_of_4, _products_of_2, _products_of_1 = _make_products(4), _make_products(2), _make_products(1)


@helper
def weight_gradient(partial, grads, g0, x, x0, x_image, w, images, adds):  # type: ignore[no-untyped-def]
    """Add some images' part to a block's part of the weight's gradient."""
    g = record_in(w, 0, GEOMETRY)
    groups, depth = g.groups, g.channels // g.groups * g.tap_count
    filters = g.filters // groups
    pixels = (g.out_height - 1) * g.line + g.out_width
    for group in range(groups):
        k, source = 0, x0 + group * (g.planes // groups)
        while k < filters:
            filter_ = group * filters + k
            line = g0 + filter_ * g.grad_plane + g.lead
            o0 = filter_ * depth
            if filters - k >= 4:
                _products_of_4(partial, o0, depth, grads, line, x, source, x_image, w, pixels, images, adds)
                k += 4
            elif filters - k >= 2:
                _products_of_2(partial, o0, depth, grads, line, x, source, x_image, w, pixels, images, adds)
                k += 2
            else:
                _products_of_1(partial, o0, depth, grads, line, x, source, x_image, w, pixels, images, adds)
                k += 1


@helper
def convolve_lines(out, index, n, own, lines, w0, s0, x, x0, w, group, after):  # type: ignore[no-untyped-def]
    """One group of one image, and what follows."""
    g = record_in(w, 0, GEOMETRY)
    filters, depth = g.filters // g.groups, g.channels // g.groups * g.tap_count
    out_h, out_w, line = g.out_height, g.out_width, g.line
    pixels = (out_h - 1) * line + out_w
    ldo = whole_vectors(pixels, out)
    zero = out.dtype.type(0)
    lowest = zero if after in (RELU, RELU_POOL) else out.dtype.type(-np.inf)
    pooled_h, pooled_w = out_h // 2, out_w // 2
    first, tile = 0, g.filter_tiles
    while w[tile] > 0:
        height = w[tile]
        _lines(height, lines, ldo, own, w0, own, s0 + first, x, x0, w, g.table, depth, pixels)
        for i in range(min(height, filters - first)):
            k = n * g.filters + group * filters + first + i
            # fmt: off
            if after >= POOL:
                for row in range(pooled_h):
                    target, at = (k * pooled_h + row) * pooled_w, 2 * row * line
                    pool_row_2x2(out, target, index, target, lines, i * ldo + at, line, pooled_w, at, zero, lowest)
            else:
                for row in range(out_h):
                    move_row(False, out, (k * out_h + row) * out_w, lines, i * ldo + row * line, lines, out_w, lowest)
            # fmt: on
        w0 += height * depth
        first += height
        tile += 1
