"""Convolution with vectors along the channels: where those fill vectors, as 16 or 32 do.

Pixels are broadcast, and as many as have accumulators share a vector of weights, so no result is computed to be dropped
but those of a plane's last tile. Results have the form ``[pixel][channel]`` and are turned round on their way out.
"""

from __future__ import annotations

import numpy as np

from fastfnn_kernels._config import helper, inlined
from fastfnn_kernels.convolution.geometry import FIRST_PHASE, GEOMETRY, PHASE, PHASE_WORDS
from fastfnn_kernels.convolution.planes import first_pixel
from fastfnn_kernels.reference.conv import POOL, RELU, RELU_POOL
from fastfnn_kernels.simd import VECTOR_BYTES, convolve_wide_tile, correlate_wide_tile, record_in, transpose_block

#: Pixels of the tiles, and half cycles that one takes for a tap: a tile of few waits for its own sums.
TALL, MIDDLE, LOW, TALL_COST, MIDDLE_COST, LOW_COST = 10, 7, 4, 11, 8, 8
#: Taps of the tiles of the weight's gradient; a table may be read past its end, see `geometry.TAPS`.
TAP_ROWS, FEW_TAP_ROWS = 9, 3


@helper
def lanes_of(array):  # type: ignore[no-untyped-def]
    return VECTOR_BYTES // array.itemsize


@helper
def is_wide(channels, array):  # type: ignore[no-untyped-def]
    """Whether so many channels of a group fill enough of their vectors; below that, lines of pixels are faster."""
    lanes = VECTOR_BYTES // array.itemsize
    return 10 * channels >= 7 * ((channels + lanes - 1) // lanes * lanes)


@helper
def panels_of(channels, array):  # type: ignore[no-untyped-def]
    lanes = VECTOR_BYTES // array.itemsize
    return (channels + lanes - 1) // lanes


@helper
def _tile_of(pixels):  # type: ignore[no-untyped-def]
    """Height and cost of the best tile for a run of so many pixels."""
    height, cost = 1, pixels * LOW_COST
    if pixels >= TALL:
        height, cost = TALL, (pixels + TALL - 1) // TALL * TALL_COST
    if pixels >= MIDDLE and (pixels + MIDDLE - 1) // MIDDLE * MIDDLE_COST < cost:
        height, cost = MIDDLE, (pixels + MIDDLE - 1) // MIDDLE * MIDDLE_COST
    if pixels >= LOW and (pixels + LOW - 1) // LOW * LOW_COST < cost:
        height, cost = LOW, (pixels + LOW - 1) // LOW * LOW_COST
    return height, cost


@inlined
def _run(height, out, o0, weight, w0, s0, x, x0, table, t0, depth, pixels):  # type: ignore[no-untyped-def]
    """Tiles along a run of pixels; the last begins earlier instead of being lower, and repeats some pixels."""
    lanes = VECTOR_BYTES // out.itemsize
    p = 0
    while p < pixels:
        q = min(p, pixels - height)
        if height == TALL:
            convolve_wide_tile(TALL, out, o0 + q * lanes, weight, w0, weight, s0, x, x0 + q, table, t0, depth)
        elif height == MIDDLE:
            convolve_wide_tile(MIDDLE, out, o0 + q * lanes, weight, w0, weight, s0, x, x0 + q, table, t0, depth)
        elif height == LOW:
            convolve_wide_tile(LOW, out, o0 + q * lanes, weight, w0, weight, s0, x, x0 + q, table, t0, depth)
        else:
            convolve_wide_tile(1, out, o0 + q * lanes, weight, w0, weight, s0, x, x0 + q, table, t0, depth)
        p += height


@helper
def wide_plane(out, weight, w0, s0, x, x0, table, t0, depth, rows, columns, line):  # type: ignore[no-untyped-def]
    """A vector of channels for `rows` × `columns` pixels: ``out[(i * line + j) * lanes + channel]``."""
    height, cost = _tile_of(columns)
    whole = (rows - 1) * line + columns
    whole_height, whole_cost = _tile_of(whole)
    if whole_cost < rows * cost:  # short rows: over their ends, with the pixels between them
        _run(whole_height, out, 0, weight, w0, s0, x, x0, table, t0, depth, whole)
        return
    for i in range(rows):
        _run(height, out, i * line * lanes_of(out), weight, w0, s0, x, x0 + i * line, table, t0, depth, columns)


@helper
def pack_filters_wide(packed, p0, weight, bias, w, group):  # type: ignore[no-untyped-def]
    """A group's filters, ``[panel][depth][lane]``, and behind them their biases."""
    g = record_in(w, 0, GEOMETRY)
    filters, depth = g.filters // g.groups, weight.size // g.filters
    lanes, panels = lanes_of(packed), panels_of(filters, packed)
    for k in range(panels * lanes):
        at = p0 + k // lanes * depth * lanes + k % lanes
        for d in range(depth):
            packed[at + d * lanes] = weight[(group * filters + k) * depth + d] if k < filters else 0
        packed[p0 + panels * depth * lanes + k] = bias[group * filters + k] if k < filters else 0


@helper
def pack_channels_wide(packed, p0, weight, w, group, phase):  # type: ignore[no-untyped-def]
    """The same for the gradient of the input: ``[panel][filter, tap of the phase][channel]``, without starts."""
    g = record_in(w, 0, GEOMETRY)
    filters, channels = g.filters // g.groups, g.channels // g.groups
    tap_count, tap_list, lanes = g.tap_count, phase.tap_list, lanes_of(packed)
    for panel in range(panels_of(channels, packed)):
        for k in range(group * filters, (group + 1) * filters):
            for t in range(phase.taps):
                source = (k * channels + panel * lanes) * tap_count + w[tap_list + t]
                for i in range(lanes):
                    packed[p0 + i] = weight[source + i * tap_count] if panel * lanes + i < channels else 0
                p0 += lanes


@helper
def _through_relu(lines, count):  # type: ignore[no-untyped-def]
    zero, own = lines.dtype.type(0), lines[:count]
    for i in range(own.size):
        own[i] = zero if own[i] < zero else own[i]  # in this order a NaN stays one


@helper
def _pool(lines, places, line, rows, columns):  # type: ignore[no-untyped-def]
    """2×2 max-pooling in place: ``lines[(i * columns + j) * lanes + channel]``, and where the largest lay."""
    lanes = lanes_of(lines)
    for i in range(rows):
        for j in range(columns):
            corner = 2 * i * line + 2 * j
            source, target = np.uint64(corner * lanes), np.uint64((i * columns + j) * lanes)
            for lane in range(np.uint64(lanes)):
                best, place = lines[source + lane], np.int32(corner)
                value = lines[source + np.uint64(lanes) + lane]
                wins = value > best or value != value
                best, place = (value, np.int32(corner + 1)) if wins else (best, place)
                value = lines[source + np.uint64(line * lanes) + lane]
                wins = value > best or value != value
                best, place = (value, np.int32(corner + line)) if wins else (best, place)
                value = lines[source + np.uint64((line + 1) * lanes) + lane]
                wins = value > best or value != value
                best, place = (value, np.int32(corner + line + 1)) if wins else (best, place)
                lines[target + lane], places[target + lane] = best, place


@helper
def turn(out, o0, ldo, x, x0, pixels, channels, lanes):  # type: ignore[no-untyped-def]
    """``out[o0 + channel * ldo + p] = x[x0 + p * lanes + channel]``."""
    step = VECTOR_BYTES // out.itemsize
    for p in range(0, pixels, step):
        count = min(step, pixels - p)
        for c in range(0, channels, step):  # twice where places of 4 bytes go with numbers of 8, or the other way
            columns = min(step, channels - c)
            transpose_block(out, o0 + c * ldo + p, ldo, x, x0 + p * lanes + c, lanes, count, columns, count)


@helper
def finish_plane(out, index, o0, lines, places, rows, columns, line, channels, after):  # type: ignore[no-untyped-def]
    """What follows the convolution, and out: `channels` planes one behind the other from ``out[o0]`` on."""
    lanes, size, rectifies = lanes_of(out), (rows - 1) * line + columns, after in (RELU, RELU_POOL)
    if after >= POOL:
        size = rows // 2 * (columns // 2)
        _pool(lines, places, line, rows // 2, columns // 2)
    if rectifies:
        _through_relu(lines, size * lanes)
    if after >= POOL:
        at = o0 // (rows * columns) * size
        turn(out, at, size, lines, 0, size, channels, lanes)
        turn(index.view(np.float32), at, size, places.view(np.float32), 0, size, channels, lanes)
    else:
        for i in range(rows):
            turn(out, o0 + i * columns, rows * columns, lines, i * line * lanes, columns, channels, lanes)


@helper
def input_gradient_wide(grad_x, x0, own, lines, grads, g0, w):  # type: ignore[no-untyped-def]
    """The gradient of one image: a convolution of its gradient planes, for each phase with the taps that it has."""
    g = record_in(w, 0, GEOMETRY)
    groups, line, height, width = g.groups, g.line, g.height, g.width
    filters, channels = g.filters // groups, g.channels // groups
    lanes, panels, stride_w = lanes_of(grad_x), panels_of(channels, grad_x), g.stride_w
    group_weights = panels * lanes * filters * g.tap_count
    for number in range(g.stride_h * stride_w):
        phase = record_in(w, FIRST_PHASE + number * PHASE_WORDS, PHASE)
        rows, columns = phase.row_count, phase.column_count
        depth, table = filters * phase.taps, phase.table
        if rows == 0 or columns == 0 or depth == 0:
            continue
        target, pixel = first_pixel(w, phase)
        for group in range(groups):
            weights = group * group_weights + phase.taps_before * filters * panels * lanes
            source = g0 + group * filters * g.grad_plane + g.lead + pixel
            for first in range(0, channels, lanes):
                # fmt: off
                wide_plane(lines, own, weights, groups * group_weights, grads, source, w, table, depth, rows, columns,
                           line)
                # fmt: on
                to, count = x0 + (group * channels + first) * height * width + target, min(lanes, channels - first)
                for i in range(rows):
                    if stride_w == 1:
                        turn(grad_x, to, height * width, lines, i * line * lanes, columns, count, lanes)
                    else:
                        for c in range(count):
                            for j in range(columns):
                                grad_x[to + c * height * width + stride_w * j] = lines[(i * line + j) * lanes + c]
                    to += g.stride_h * width
                weights += depth * lanes


@helper
def weight_gradient_wide(sums, turned, grads, g0, x, x0, x_image, w, images):  # type: ignore[no-untyped-def]
    """Add some images' part to a block's ``sums[panel][tap][lane]``; `turned` is room for a gradient by pixels."""
    g = record_in(w, 0, GEOMETRY)
    groups, depth = g.groups, g.channels // g.groups * g.tap_count
    filters, lanes = g.filters // groups, lanes_of(sums)
    rows, columns, table, places = g.out_height, g.out_width, g.table, g.pixels
    at = 0
    for group in range(groups):
        for first in range(0, filters, lanes):
            count = min(lanes, filters - first)
            for n in range(images):
                source = x0 + n * x_image + group * (g.planes // groups)
                line = g0 + n * g.slot + (group * filters + first) * g.grad_plane + g.lead
                for i in range(rows):
                    for j in range(0, columns, lanes):
                        pixels = min(lanes, columns - j)
                        # fmt: off
                        transpose_block(turned, (i * columns + j) * lanes, lanes, grads, line + i * g.line + j,
                                        g.grad_plane, count, pixels, lanes)
                        # fmt: on
                t = 0
                # fmt: off
                while t + TAP_ROWS <= depth:
                    correlate_wide_tile(TAP_ROWS, sums, at + t * lanes, turned, 0, x, source, w, table + t, w, places,
                                        rows * columns)
                    t += TAP_ROWS
                while t + FEW_TAP_ROWS <= depth:
                    correlate_wide_tile(FEW_TAP_ROWS, sums, at + t * lanes, turned, 0, x, source, w, table + t, w,
                                        places, rows * columns)
                    t += FEW_TAP_ROWS
                while t < depth:
                    correlate_wide_tile(1, sums, at + t * lanes, turned, 0, x, source, w, table + t, w, places,
                                        rows * columns)
                    t += 1
                # fmt: on
            at += depth * lanes


@helper
def store_weight_gradient_wide(partial, sums, w):  # type: ignore[no-untyped-def]
    """A block's sums to ``partial[filter][tap]``."""
    g = record_in(w, 0, GEOMETRY)
    groups, depth, lanes = g.groups, g.channels // g.groups * g.tap_count, lanes_of(sums)
    filters, at = g.filters // groups, 0
    for group in range(groups):
        for first in range(0, filters, lanes):
            count = min(lanes, filters - first)
            turn(partial, (group * filters + first) * depth, depth, sums, at, depth, count, lanes)
            at += depth * lanes
