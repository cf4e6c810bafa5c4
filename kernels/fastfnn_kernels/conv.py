"""Convolution without im2col: an image is padded into planes that stay in cache, and a tile reads them by a table.

`conv_geometry` explains planes, phases and tables. What each loop is for, forward::

    images, each thread its share       its planes are made once, for all filters
      groups
        filters, as many as a tile has  their sums go to lines in the first-level cache
          pixels in vectors             convolve_tile: the sums in registers (simd/convolution.py)
        the lines: ReLU and max-pooling while they are in cache, and out

Backward, in blocks of BLOCK_ROWS images and passes of as many as fit the second-level cache::

    images                              planes; gradient planes, through the backward of pooling and ReLU;
                                        the gradient of the input: the forward's loops with the filters turned round
    filters × taps in tiles             correlate_tile: a part of the gradient of the weight, over the pass's images

A block's part of the gradient of weight and bias is a row of `partials`; `sum_blocks` adds the rows up in their order.
Blocks do not depend on threads, so results are the same bit for bit for any number of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import conv_geometry as geo
from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.conv_geometry import BLOCK_ROWS, FEW_TAPS, TAPS, TILES, Geometry, geometry
from fastfnn_kernels.reference.conv import PLAIN, POOL, RELU, RELU_POOL
from fastfnn_kernels.simd import (
    VECTOR_BYTES,
    convolve_tile,
    correlate_tile,
    move_row,
    pool_row_2x2,
    spread_row_2x2,
)
from fastfnn_kernels.team import Team, share

__all__ = ["PLAIN", "POOL", "RELU", "RELU_POOL", "conv2d", "conv2d_backward", "sum_blocks"]

Array = NDArray[Any]

Pair = tuple[int, int]


def _make_lines(rows: int, vectors: int) -> Any:
    @helper
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
def _pack_filters(packed, p0, weight, w, group):  # type: ignore[no-untyped-def]
    """A group's filters as `convolve_tile` reads them: tile by tile ``[depth][filter of the tile]``."""
    filters, depth = w[geo.FILTERS] // w[geo.GROUPS], weight.size // w[geo.FILTERS]
    first, tile = 0, w[geo.FILTER_TILES]
    while w[tile] > 0:
        height = w[tile]
        for i in range(height):
            source = (group * filters + first + i) * depth
            for d in range(depth):
                packed[p0 + d * height + i] = weight[source + d] if first + i < filters else 0
        p0 += height * depth
        first += height
        tile += 1


@helper
def _pack_channels(packed, p0, weight, w, group, phase):  # type: ignore[no-untyped-def]
    """The same for the gradient of the input: ``[filter, tap of the phase][channel of the tile]``."""
    filters, channels = w[geo.FILTERS] // w[geo.GROUPS], w[geo.CHANNELS] // w[geo.GROUPS]
    tap_count, tap_list = w[geo.TAP_COUNT], w[phase + geo.TAP_LIST]
    first, tile = 0, w[geo.CHANNEL_TILES]
    while w[tile] > 0:
        height = w[tile]
        for k in range(group * filters, (group + 1) * filters):
            for t in range(w[phase + geo.PHASE_TAPS]):
                source = (k * channels + first) * tap_count + w[tap_list + t]
                for i in range(height):
                    packed[p0 + i] = weight[source + i * tap_count] if first + i < channels else 0
                p0 += height
        first += height
        tile += 1


@helper
def _pad(planes, p0, x, x0, w):  # type: ignore[no-untyped-def]
    """One image to its planes; what is not image stays as it is: zero."""
    height, width, stride_h, stride_w = w[geo.HEIGHT], w[geo.WIDTH], w[geo.STRIDE_H], w[geo.STRIDE_W]
    for c in range(w[geo.CHANNELS]):
        for phase in range(stride_h * stride_w):
            record = w[geo.PHASES] + phase * geo.PHASE_WORDS
            columns = w[record + geo.COLUMN_COUNT]
            source, target = _first_pixel(w, record)
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
def _first_pixel(w, phase):  # type: ignore[no-untyped-def]
    """Where a phase's first pixel lies in the image, and where in the phase's plane."""
    first_row, first_column = w[phase + geo.FIRST_ROW], w[phase + geo.FIRST_COLUMN]
    row = w[phase + geo.PHASE_A] + w[geo.STRIDE_H] * first_row - w[geo.PAD_H]
    column = w[phase + geo.PHASE_B] + w[geo.STRIDE_W] * first_column - w[geo.PAD_W]
    return row * w[geo.WIDTH] + column, first_row * w[geo.LINE] + first_column


@helper
def _whole_vectors(count, array):  # type: ignore[no-untyped-def]
    lanes = VECTOR_BYTES // array.itemsize
    return (count + lanes - 1) // lanes * lanes


def _forward_twin(x: Array, weight: Array, bias: Array, w: Array, after: int) -> tuple[Array, Array]:
    x_shape, weight_shape, settings = geo.shapes_of(w, x.size)
    out, index = reference.conv2d_fused(x.reshape(x_shape), weight.reshape(weight_shape), bias, *settings, after)
    return out.ravel(), index.ravel()


@kernel(_forward_twin, outputs=2, scratch=1)
def _forward(
    out: Array, index: Array, scratch: Array, x: Array, weight: Array, bias: Array, w: Array, after: int,
    tid: int, n_threads: int,
) -> None:  # fmt: skip
    """All arrays flat but `scratch`; `w` are a geometry's words, `after` is PLAIN, RELU, POOL or RELU_POOL."""
    own = scratch[tid]
    groups, line, depth = w[geo.GROUPS], w[geo.LINE], weight.size // w[geo.FILTERS]
    filters, out_h, out_w = w[geo.FILTERS] // groups, w[geo.OUT_HEIGHT], w[geo.OUT_WIDTH]
    pixels = (out_h - 1) * line + out_w
    ldo = _whole_vectors(pixels, out)
    lines, planes = own[w[geo.PACKED] :], own[w[geo.PACKED] + w[geo.LINES] :]
    group_weights, starts = w[geo.FILTER_ROOM] * depth, groups * w[geo.FILTER_ROOM] * depth
    for group in range(groups):
        _pack_filters(own, group * group_weights, weight, w, group)
        for k in range(w[geo.FILTER_ROOM]):
            own[starts + group * w[geo.FILTER_ROOM] + k] = bias[group * filters + k] if k < filters else 0
    zero = out.dtype.type(0)
    lowest = zero if after == RELU or after == RELU_POOL else out.dtype.type(-np.inf)
    image_size, group_planes = w[geo.CHANNELS] * w[geo.HEIGHT] * w[geo.WIDTH], w[geo.PLANES] // groups
    pooled_h, pooled_w = out_h // 2, out_w // 2
    first_image, last_image = share(x.size // image_size, tid, n_threads, 1)
    for n in range(first_image, last_image):
        source, source0 = x, n * image_size
        if not w[geo.DIRECT]:
            _pad(planes, 0, x, source0, w)
            source, source0 = planes, 0
        for group in range(groups):
            first, weights, tile = 0, group * group_weights, w[geo.FILTER_TILES]
            while w[tile] > 0:
                height = w[tile]
                # fmt: off
                _lines(height, lines, ldo, own, weights, own, starts + group * w[geo.FILTER_ROOM] + first, source,
                       source0 + group * group_planes, w, w[geo.TABLE], depth, pixels)
                for i in range(min(height, filters - first)):
                    k = n * w[geo.FILTERS] + group * filters + first + i
                    if after >= POOL:
                        for row in range(pooled_h):
                            target, at = (k * pooled_h + row) * pooled_w, 2 * row * line
                            pool_row_2x2(out, target, index, target, lines, i * ldo + at, line, pooled_w, at, zero,
                                         lowest)
                    else:
                        for row in range(out_h):
                            move_row(False, out, (k * out_h + row) * out_w, lines, i * ldo + row * line, lines, out_w,
                                     lowest)
                # fmt: on
                weights += height * depth
                first += height
                tile += 1


@helper
def _spread(grads, g0, grad_out, out, index, n, w, after):  # type: ignore[no-untyped-def]
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


@helper
def _input_gradient(grad_x, x0, own, lines, grads, g0, w):  # type: ignore[no-untyped-def]
    """The gradient of one image: a convolution of its gradient planes, for each phase with the taps that it has."""
    groups, line, height, width = w[geo.GROUPS], w[geo.LINE], w[geo.HEIGHT], w[geo.WIDTH]
    filters, channels = w[geo.FILTERS] // groups, w[geo.CHANNELS] // groups
    stride_h, stride_w, room = w[geo.STRIDE_H], w[geo.STRIDE_W], w[geo.CHANNEL_ROOM]
    group_weights = room * filters * w[geo.TAP_COUNT]
    if not w[geo.COVERED]:
        for i in range(w[geo.CHANNELS] * height * width):
            grad_x[x0 + i] = 0
    for phase in range(stride_h * stride_w):
        record = w[geo.PHASES] + phase * geo.PHASE_WORDS
        rows, columns = w[record + geo.ROW_COUNT], w[record + geo.COLUMN_COUNT]
        depth = filters * w[record + geo.PHASE_TAPS]
        if rows == 0 or columns == 0 or depth == 0:
            continue
        pixels = (rows - 1) * line + columns
        ldo = _whole_vectors(pixels, grad_x)
        target, pixel = _first_pixel(w, record)
        for group in range(groups):
            first, tile = 0, w[geo.CHANNEL_TILES]
            weights = group * group_weights + w[record + geo.PHASE_PACKED]
            source = g0 + group * filters * w[geo.GRAD_PLANE] + w[geo.LEAD] + pixel
            while w[tile] > 0:
                # fmt: off
                _lines(w[tile], lines, ldo, own, weights, own, groups * group_weights, grads, source, w,
                       w[record + geo.PHASE_TABLE], depth, pixels)
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
        t = 0
        # fmt: off
        while depth - t > FEW_TAPS:
            correlate_tile(rows, TAPS, partial, o0 + t, depth, grads, g0, w[geo.GRAD_PLANE], w[geo.SLOT], x, x0,
                           x_image, w, w[geo.TABLE] + t, pixels, images, adds, min(TAPS, depth - t))
            t += TAPS
        if t < depth:
            correlate_tile(rows, FEW_TAPS, partial, o0 + t, depth, grads, g0, w[geo.GRAD_PLANE], w[geo.SLOT], x,
                           x0, x_image, w, w[geo.TABLE] + t, pixels, images, adds, depth - t)
        # fmt: on

    return products


_products_of_4, _products_of_2, _products_of_1 = _make_products(4), _make_products(2), _make_products(1)


@helper
def _weight_gradient(partial, grads, g0, x, x0, x_image, w, images, adds):  # type: ignore[no-untyped-def]
    """Add some images' part to a block's part of the gradients of weight and bias."""
    groups, depth = w[geo.GROUPS], w[geo.CHANNELS] // w[geo.GROUPS] * w[geo.TAP_COUNT]
    filters = w[geo.FILTERS] // groups
    pixels = (w[geo.OUT_HEIGHT] - 1) * w[geo.LINE] + w[geo.OUT_WIDTH]
    for group in range(groups):
        k, source = 0, x0 + group * (w[geo.PLANES] // groups)
        while k < filters:
            filter_ = group * filters + k
            line = g0 + filter_ * w[geo.GRAD_PLANE] + w[geo.LEAD]
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
    for k in range(w[geo.FILTERS]):
        total = partial.dtype.type(0)
        for n in range(images):
            line = g0 + n * w[geo.SLOT] + k * w[geo.GRAD_PLANE] + w[geo.LEAD]
            own = grads[line : line + pixels]
            for p in range(own.size):
                total += own[p]
        place = w[geo.FILTERS] * depth + k
        partial[place] = partial[place] + total if adds else total


def _backward_twin(
    grad_x: Array, partials: Array, grad_out: Array, x: Array, weight: Array, out: Array, index: Array, w: Array,
    after: int,
) -> tuple[Array, Array]:  # fmt: skip
    x_shape, weight_shape, settings = geo.shapes_of(w, x.size)
    images, weights = x.reshape(x_shape), weight.reshape(weight_shape)
    size = w[[geo.OUT_HEIGHT, geo.OUT_WIDTH]] // (2 if after >= POOL else 1)
    shape = (x_shape[0], weight_shape[0], *size.tolist())
    grad, kept = grad_out.reshape(shape), out.reshape(shape)
    places = index.reshape(shape if after >= POOL else (x_shape[0], 0))
    grads = [
        reference.conv2d_fused_backward(grad[b], images[b], weights, kept[b], places[b], *settings, after)
        for b in (slice(start, start + BLOCK_ROWS) for start in range(0, len(images), BLOCK_ROWS))
    ]
    parts = np.stack([np.concatenate([grad_w.ravel(), grad_b]) for _, grad_w, grad_b in grads])
    return np.concatenate([g.ravel() for g, _, _ in grads])[: grad_x.size], parts


@kernel(_backward_twin, outputs=2, scratch=1, in_place=True)
def _backward(
    grad_x: Array, partials: Array, scratch: Array, grad_out: Array, x: Array, weight: Array, out: Array,
    index: Array, w: Array, after: int, tid: int, n_threads: int,
) -> None:  # fmt: skip
    """All arrays flat but `partials` and `scratch`; an empty `grad_x` is not computed. See the module."""
    own = scratch[tid]
    lines = own[w[geo.PACKED] :]
    # An image's planes and gradient planes lie side by side, where they are in every call: their borders stay zero.
    planes = own[w[geo.PACKED] + w[geo.LINES] :]
    grads = planes[w[geo.PLANES_WORDS] :]
    image_size = w[geo.CHANNELS] * w[geo.HEIGHT] * w[geo.WIDTH]
    images, slot = x.size // image_size, w[geo.SLOT]
    if grad_x.size:
        group_weights = w[geo.CHANNEL_ROOM] * (w[geo.FILTERS] // w[geo.GROUPS]) * w[geo.TAP_COUNT]
        for group in range(w[geo.GROUPS]):
            for phase in range(w[geo.STRIDE_H] * w[geo.STRIDE_W]):
                record = w[geo.PHASES] + phase * geo.PHASE_WORDS
                _pack_channels(own, group * group_weights + w[record + geo.PHASE_PACKED], weight, w, group, record)
        for k in range(w[geo.CHANNEL_ROOM]):
            own[w[geo.GROUPS] * group_weights + k] = 0
    first_image, last_image = share(images, tid, n_threads, BLOCK_ROWS)
    for block in range(first_image, last_image, BLOCK_ROWS):
        block_end = min(block + BLOCK_ROWS, last_image)
        for start in range(block, block_end, w[geo.PASS]):
            count = min(w[geo.PASS], block_end - start)
            for i in range(count):
                if not w[geo.DIRECT]:
                    _pad(planes, i * slot, x, (start + i) * image_size, w)
                _spread(grads, i * slot, grad_out, out, index, start + i, w, after)
                if grad_x.size:
                    _input_gradient(grad_x, (start + i) * image_size, own, lines, grads, i * slot, w)
            partial, adds = partials[block // BLOCK_ROWS], start > block
            if w[geo.DIRECT]:
                _weight_gradient(partial, grads, 0, x, start * image_size, image_size, w, count, adds)
            else:
                _weight_gradient(partial, grads, 0, planes, 0, slot, w, count, adds)


@kernel(reference.sum_blocks, outputs=2, in_place=True)
def sum_blocks(
    grad_weight: Array, grad_bias: Array, partials: Array, accumulate: bool, tid: int, n_threads: int
) -> None:
    """Add up the parts of the blocks, in their order: gradients of weight and bias, both flat.

    Parameters
    ----------
    grad_weight, grad_bias : (weights,), (biases,)
        `grad_bias` may be empty.
    partials : (blocks, at least weights + biases)
        A block's part of each: weights, then biases.

    Notes
    -----
    Loop order: blocks, elements. Each thread does its share of the elements of both.
    """
    _add_up(grad_weight, partials, 0, accumulate, tid, n_threads)
    _add_up(grad_bias, partials, grad_weight.size, accumulate, tid, n_threads)


@helper
def _add_up(out, partials, first, accumulate, tid, n_threads):  # type: ignore[no-untyped-def]
    start, stop = share(out.size, tid, n_threads, 16)
    total = out[start:stop]
    if not accumulate:
        for j in range(total.size):
            total[j] = 0
    for block in range(partials.shape[0]):
        part = partials[block, first + start : first + stop]
        for j in range(total.size):
            total[j] += part[j]


def conv2d(
    out: Array,
    index: Array,
    scratch: Array,
    x: Array,
    weight: Array,
    bias: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    after: int,
    team: Team | None = None,
) -> None:
    """Convolution and bias; then, as `after` says (PLAIN, RELU, POOL, RELU_POOL), ReLU and 2×2 max-pooling.

    Parameters
    ----------
    out : (n, k, oh, ow), or (n, k, oh // 2, ow // 2) with pooling
    index : int32 of the same shape with pooling, else empty
        The place ``i * line + j`` of each window's largest element, for the backward.
    scratch : from `Geometry.scratch`
    x : (n, c, h, w)
    weight : (k, c / groups, kh, kw)
    bias : (k,)
    """
    words = _geometry(x, weight, stride, padding, dilation, groups).words
    flat = (array.reshape(-1) for array in (x, weight))
    _forward(out.reshape(-1), index.reshape(-1), scratch, *flat, bias, words, after, team=team)


def conv2d_backward(
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
    scratch: Array,
    partials: Array,
    grad_out: Array,
    x: Array,
    weight: Array,
    out: Array,
    index: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    after: int,
    team: Team | None = None,
) -> None:
    """The gradients for x, weight and bias from that of `conv2d`'s output.

    `out` and `index` are what the forward made (`out` may be `grad_out` where no ReLU followed); an empty `grad_x` is
    not computed. `scratch` and `partials` are from `Geometry`.
    """
    words = _geometry(x, weight, stride, padding, dilation, groups).words
    flat = (array.reshape(-1) for array in (grad_out, x, weight, out, index))
    _backward(grad_x.reshape(-1), partials, scratch, *flat, words, after, team=team)
    sum_blocks(grad_weight.reshape(-1), grad_bias, partials, False, team=team)


def _geometry(x: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Geometry:
    filters, _, kernel_h, kernel_w = weight.shape
    size, kernel_size = (x.shape[2], x.shape[3]), (kernel_h, kernel_w)
    return geometry(x.shape[1], size, filters, kernel_size, stride, padding, dilation, groups)
