"""Convolution without im2col: an image is padded into planes that stay in cache, and a tile reads them by a table.

`geometry` explains planes, phases and tables. What each loop is for, forward::

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

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, inlined, kernel
from fastfnn_kernels.convolution.geometry import (
    BLOCK_ROWS,
    FIRST_PHASE,
    GEOMETRY,
    PHASE,
    PHASE_WORDS,
    Geometry,
    geometry,
    header_of,
    shapes_of,
)
from fastfnn_kernels.convolution.lines import (
    convolve_lines,
    input_gradient,
    pack_channels,
    pack_filters,
    weight_gradient,
)
from fastfnn_kernels.convolution.planes import pad, spread
from fastfnn_kernels.convolution.sparse import backward_sparse, is_sparse
from fastfnn_kernels.convolution.wide import (
    finish_plane,
    input_gradient_wide,
    is_wide,
    lanes_of,
    pack_channels_wide,
    pack_filters_wide,
    panels_of,
    store_weight_gradient_wide,
    weight_gradient_wide,
    wide_plane,
)
from fastfnn_kernels.reference.conv import PLAIN, POOL, RELU, RELU_POOL
from fastfnn_kernels.simd import record_in
from fastfnn_kernels.team import Team, share

__all__ = ["PLAIN", "POOL", "RELU", "RELU_POOL", "conv2d", "conv2d_backward", "sum_blocks"]

Array = NDArray[Any]

Pair = tuple[int, int]


def _forward_twin(x: Array, weight: Array, bias: Array, w: Array, after: int) -> tuple[Array, Array]:
    x_shape, weight_shape, settings = shapes_of(w, x.size)
    out, index = reference.conv2d_fused(x.reshape(x_shape), weight.reshape(weight_shape), bias, *settings, after=after)
    return out.ravel(), index.ravel()


@inlined
def forward_images(out, index, scratch, x, weight, bias, w, after, tid, n_threads):  # type: ignore[no-untyped-def]
    """All arrays flat but `scratch`; `w` are a geometry's words, `after` is PLAIN, RELU, POOL or RELU_POOL."""
    g = record_in(w, 0, GEOMETRY)
    own = scratch[tid]
    groups, depth = g.groups, weight.size // g.filters
    filters, out_h, out_w = g.filters // groups, g.out_height, g.out_width
    lines, planes = own[g.packed :], own[g.packed + g.lines :]
    wide, lanes = is_wide(filters, out), lanes_of(out)
    room = panels_of(filters, out) * lanes if wide else g.filter_room
    group_words = room * (depth + 1)
    for group in range(groups):
        if wide:
            pack_filters_wide(own, group * group_words, weight, bias, w, group)
        else:
            pack_filters(own, group * group_words, weight, bias, w, group)
    image_size, group_planes = g.channels * g.height * g.width, g.planes // groups
    places = lines[g.rows * g.line * lanes :].view(np.int32)
    first_image, last_image = share(x.size // image_size, tid, n_threads, 1)
    for n in range(first_image, last_image):
        source, source0 = x, n * image_size
        if not g.direct:
            pad(planes, 0, x, source0, w)
            source, source0 = planes, 0
        for group in range(groups):
            packed, image = group * group_words, source0 + group * group_planes
            starts = packed + room * depth
            # fmt: off
            if wide:
                for first in range(0, filters, lanes):
                    wide_plane(lines, own, packed + first * depth, starts + first, source, image, w, g.table,
                               depth, out_h, out_w, g.line)
                    finish_plane(out, index, (n * g.filters + group * filters + first) * out_h * out_w, lines,
                                 places, out_h, out_w, g.line, min(lanes, filters - first), after)
            else:
                convolve_lines(out, index, n, own, lines, packed, starts, source, image, w, group, after)
            # fmt: on


@kernel(_forward_twin, outputs=2, scratch=1)
def _forward(
    out: Array, index: Array, scratch: Array, x: Array, weight: Array, bias: Array, w: Array, after: int,
    tid: int, n_threads: int,
) -> None:  # fmt: skip
    forward_images(out, index, scratch, x, weight, bias, w, after, tid, n_threads)


@inlined
def _bias_gradient(partial, grads, g0, w, images, adds):  # type: ignore[no-untyped-def]
    """Add some images' part to a block's part of the bias's gradient: sums of gradient planes."""
    g = record_in(w, 0, GEOMETRY)
    pixels = (g.out_height - 1) * g.line + g.out_width
    for k in range(g.filters):
        total = partial.dtype.type(0)
        for n in range(images):
            line = g0 + n * g.slot + k * g.grad_plane + g.lead
            own = grads[line : line + pixels]
            for p in range(own.size):
                total += own[p]
        place = partial.size - g.filters + k
        partial[place] = partial[place] + total if adds else total


@helper
def _pack_channels(packed, weight, w, wide):  # type: ignore[no-untyped-def]
    """The weights for the gradient of the input, for every group and phase; behind them zeros, where sums start."""
    g = record_in(w, 0, GEOMETRY)
    filters, channels = g.filters // g.groups, g.channels // g.groups
    room = panels_of(channels, packed) * lanes_of(packed) if wide else g.channel_room
    group_words = room * filters * g.tap_count
    for group in range(g.groups):
        for number in range(g.stride_h * g.stride_w):
            phase = record_in(w, FIRST_PHASE + number * PHASE_WORDS, PHASE)
            at = group * group_words + phase.taps_before * filters * room
            if wide:
                pack_channels_wide(packed, at, weight, w, group, phase)
            else:
                pack_channels(packed, at, weight, w, group, phase)
    for k in range(room):
        packed[g.groups * group_words + k] = 0


def _backward_twin(
    grad_x: Array, partials: Array, grad_out: Array, x: Array, weight: Array, out: Array, index: Array, w: Array,
    after: int,
) -> tuple[Array, Array]:  # fmt: skip
    x_shape, weight_shape, settings = shapes_of(w, x.size)
    images, weights = x.reshape(x_shape), weight.reshape(weight_shape)
    header = header_of(w)
    size = (side // (2 if after >= POOL else 1) for side in (header.out_height, header.out_width))
    shape = (x_shape[0], weight_shape[0], *size)
    grad, kept = grad_out.reshape(shape), out.reshape(shape)
    places = index.reshape(shape if after >= POOL else (x_shape[0], 0))
    grads = [
        reference.conv2d_fused_backward(grad[b], images[b], weights, kept[b], places[b], *settings, after=after)
        for b in (slice(start, start + BLOCK_ROWS) for start in range(0, len(images), BLOCK_ROWS))
    ]
    parts = np.stack([np.concatenate([grad_w.ravel(), grad_b]) for _, grad_w, grad_b in grads])
    return np.concatenate([g.ravel() for g, _, _ in grads])[: grad_x.size], parts


@inlined
def backward_images(  # type: ignore[no-untyped-def]
    grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads
):
    """All arrays flat but `partials` and `scratch`; an empty `grad_x` is not computed. See the module."""
    g = record_in(w, 0, GEOMETRY)
    own = scratch[tid]
    image_size = g.channels * g.height * g.width
    images, slot = x.size // image_size, g.slot
    first_image, last_image = share(images, tid, n_threads, BLOCK_ROWS)
    if is_sparse(w, after):
        backward_sparse(grad_x, partials, own, grad_out, x, weight, out, index, w, after, first_image, last_image)
        return
    lines = own[g.packed :]
    # An image's planes and gradient planes lie side by side, where they are in every call: their borders stay zero.
    sums = own[g.packed + g.lines :]
    planes = sums[g.wide_sums :]
    grads = planes[g.planes_words :]
    filters, channels = g.filters // g.groups, g.channels // g.groups
    wide_filters, wide_channels = is_wide(filters, x), is_wide(channels, x)
    if grad_x.size:
        _pack_channels(own, weight, w, wide_channels)
    for block in range(first_image, last_image, BLOCK_ROWS):
        block_end = min(block + BLOCK_ROWS, last_image)
        if wide_filters:
            sums[: g.wide_sums] = 0
        for start in range(block, block_end, g.images_a_pass):
            count = min(g.images_a_pass, block_end - start)
            for i in range(count):
                if not g.direct:
                    pad(planes, i * slot, x, (start + i) * image_size, w)
                spread(grads, i * slot, grad_out, out, index, start + i, w, after)
                if not grad_x.size:
                    continue
                target = (start + i) * image_size
                if not g.covered:
                    for j in range(image_size):
                        grad_x[target + j] = 0
                if wide_channels:
                    input_gradient_wide(grad_x, target, own, lines, grads, i * slot, w)
                else:
                    input_gradient(grad_x, target, own, lines, grads, i * slot, w)
            partial, adds = partials[block // BLOCK_ROWS], start > block
            source, source0, source_image = planes, 0, slot
            if g.direct:
                source, source0, source_image = x, start * image_size, image_size
            _bias_gradient(partial, grads, 0, w, count, adds)
            if wide_filters:
                weight_gradient_wide(sums, lines, grads, 0, source, source0, source_image, w, count)
            else:
                weight_gradient(partial, grads, 0, source, source0, source_image, w, count, adds)
        if wide_filters:
            store_weight_gradient_wide(partials[block // BLOCK_ROWS], sums, w)


@kernel(_backward_twin, outputs=2, scratch=1, in_place=True)
def _backward(
    grad_x: Array, partials: Array, scratch: Array, grad_out: Array, x: Array, weight: Array, out: Array,
    index: Array, w: Array, after: int, tid: int, n_threads: int,
) -> None:  # fmt: skip
    backward_images(grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads)


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


@inlined
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
