"""The gradients of convolution, in blocks of BLOCK_ROWS images and passes of as many as fit the second-level cache::

    images                              planes; gradient planes, through the backward of pooling and ReLU;
                                        the gradient of the input: the forward's loops with the filters turned round
    filters × taps in tiles             correlate_tile: a part of the gradient of the weight, over the pass's images

A block's part of the gradient of weight and bias is a row of `partials`; `sum_blocks` adds the rows up in their order.
Blocks do not depend on threads, so results are the same bit for bit for any number of them. Behind pooling `sparse`
walks only what is not zero; and 3×3 filters of stride 1 with many channels go by `winograd` and `winograd_weight`.
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
    geometry_of,
    header_of,
    shapes_of,
)
from fastfnn_kernels.convolution.lines import input_gradient, pack_channels, weight_gradient
from fastfnn_kernels.convolution.planes import pad, spread
from fastfnn_kernels.convolution.sparse import backward_sparse
from fastfnn_kernels.convolution.tiles import IMAGE_TILES, WEIGHT_TILES, Pair
from fastfnn_kernels.convolution.wide import (
    input_gradient_wide,
    is_wide,
    lanes_of,
    pack_channels_wide,
    panels_of,
    store_weight_gradient_wide,
    weight_gradient_wide,
)
from fastfnn_kernels.convolution.winograd import convolve_winograd, is_moderate, pack_winograd
from fastfnn_kernels.convolution.winograd_weight import (
    add_weight_gradient,
    begin_weight_gradient,
    store_weight_gradient_winograd,
)
from fastfnn_kernels.reference.conv import PLAIN, POOL
from fastfnn_kernels.simd import record_in
from fastfnn_kernels.team import Team, share

Array = NDArray[Any]

#: Partial sums from which on several threads add them up faster than one.
SUMS_WORTH_TEAM = 1 << 17


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


@helper
def _tile_room(own, w):  # type: ignore[no-untyped-def]
    """Working memory of the tiles: for the gradient of the input, and behind it for that of the weight."""
    g = record_in(w, 0, GEOMETRY)
    return own[own.size - g.gradient_tile_words - g.weight_tile_words :]


@helper
def _gradient_planes(own, w):  # type: ignore[no-untyped-def]
    """Of the first image of a pass; they lie where they are in every call, so their borders stay zero."""
    g = record_in(w, 0, GEOMETRY)
    return own[g.packed + g.lines + g.wide_sums + g.planes_words :]


@inlined
def _block_by_tiles(grad_x, partial, own, grad_out, x, out, index, w, after, block, images):  # type: ignore[no-untyped-def]
    """A block of images by Winograd's transforms."""
    g = record_in(w, 0, GEOMETRY)
    image_size, slot, plane, line = g.channels * g.height * g.width, g.slot, g.grad_plane, g.line
    grads, room, t = _gradient_planes(own, w), _tile_room(own, w), record_in(w, g.gradient_tiles, IMAGE_TILES)
    weight_room, weight_t = room[g.gradient_tile_words :], record_in(w, g.weight_tiles, WEIGHT_TILES)
    begin_weight_gradient(weight_room, weight_t)
    for start in range(block, block + images, g.images_a_pass):
        count = min(g.images_a_pass, block + images - start)
        for i in range(count):
            spread(grads, i * slot, grad_out, out, index, start + i, w, after)
        # fmt: off
        if grad_x.size:
            convolve_winograd(grad_x, index, room, t, own[:0], PLAIN, w, 0, 0, grads, g.lead, slot, plane, line, start,
                              start + count)
        add_weight_gradient(weight_room, weight_t, w, x, start * image_size, image_size, grads, g.lead, slot, plane,
                            line, count)
        # fmt: on
        _bias_gradient(partial, grads, 0, w, count, start > block)
    store_weight_gradient_winograd(partial, weight_room, weight_t)


@inlined
def _block_directly(grad_x, partial, own, grad_out, x, out, index, w, after, block, images):  # type: ignore[no-untyped-def]
    """A block of images by direct summation."""
    g = record_in(w, 0, GEOMETRY)
    image_size, slot, lines = g.channels * g.height * g.width, g.slot, own[g.packed :]
    # An image's planes and gradient planes lie side by side, where they are in every call: their borders stay zero.
    sums = own[g.packed + g.lines :]
    planes, grads = sums[g.wide_sums :], _gradient_planes(own, w)
    wide_filters, wide_channels = is_wide(g.filters // g.groups, x), is_wide(g.channels // g.groups, x)
    if wide_filters:
        sums[: g.wide_sums] = 0
    for start in range(block, block + images, g.images_a_pass):
        count = min(g.images_a_pass, block + images - start)
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
        adds = start > block
        source, source0, source_image = planes, 0, slot
        if g.direct:
            source, source0, source_image = x, start * image_size, image_size
        _bias_gradient(partial, grads, 0, w, count, adds)
        if wide_filters:
            weight_gradient_wide(sums, lines, grads, 0, source, source0, source_image, w, count)
        else:
            weight_gradient(partial, grads, 0, source, source0, source_image, w, count, adds)
    if wide_filters:
        store_weight_gradient_wide(partial, sums, w)


@inlined
def backward_images(  # type: ignore[no-untyped-def]
    grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads
):
    """All arrays flat but `partials` and `scratch`; an empty `grad_x` is not computed. See the module."""
    g = record_in(w, 0, GEOMETRY)
    own = scratch[tid]
    first_image, last_image = share(x.size // (g.channels * g.height * g.width), tid, n_threads, BLOCK_ROWS)
    if grad_x.size and first_image < last_image:
        _pack_channels(own, weight, w, is_wide(g.channels // g.groups, x))
    for block in range(first_image, last_image, BLOCK_ROWS):
        count = min(BLOCK_ROWS, last_image - block)
        _block_directly(grad_x, partials[block // BLOCK_ROWS], own, grad_out, x, out, index, w, after, block, count)


@inlined
def backward_tiled_images(  # type: ignore[no-untyped-def]
    grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads
):
    """The same by Winograd's tiles."""
    g = record_in(w, 0, GEOMETRY)
    own, image_size = scratch[tid], g.channels * g.height * g.width
    images = x.size // image_size
    first_image, last_image = share(images, tid, n_threads, BLOCK_ROWS)
    is_packed, out_size = False, grad_out.size // max(1, images)
    fits = first_image < last_image and is_moderate(weight, 0, weight.size)
    if fits and grad_x.size:
        pack_winograd(_tile_room(own, w), record_in(w, g.gradient_tiles, IMAGE_TILES), weight, True)
    for block in range(first_image, last_image, BLOCK_ROWS):
        count = min(BLOCK_ROWS, last_image - block)
        # fmt: off
        if (fits and is_moderate(x, block * image_size, count * image_size)
                and is_moderate(grad_out, block * out_size, count * out_size)):
            _block_by_tiles(grad_x, partials[block // BLOCK_ROWS], own, grad_out, x, out, index, w, after, block, count)
        # fmt: on
        else:
            if grad_x.size and not is_packed:
                _pack_channels(own, weight, w, is_wide(g.channels // g.groups, x))
                is_packed = True
            _block_directly(grad_x, partials[block // BLOCK_ROWS], own, grad_out, x, out, index, w, after, block, count)


@inlined
def backward_sparse_images(  # type: ignore[no-untyped-def]
    grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads
):
    """The same behind pooling: see `sparse`."""
    g = record_in(w, 0, GEOMETRY)
    first, last = share(x.size // (g.channels * g.height * g.width), tid, n_threads, BLOCK_ROWS)
    backward_sparse(grad_x, partials, scratch[tid], grad_out, x, weight, out, index, w, after, first, last)


@kernel(_backward_twin, outputs=2, scratch=1, in_place=True)
def _backward(
    grad_x: Array, partials: Array, scratch: Array, grad_out: Array, x: Array, weight: Array, out: Array,
    index: Array, w: Array, after: int, tid: int, n_threads: int,
) -> None:  # fmt: skip
    backward_images(grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads)


@kernel(_backward_twin, outputs=2, scratch=1, in_place=True)
def _backward_tiled(
    grad_x: Array, partials: Array, scratch: Array, grad_out: Array, x: Array, weight: Array, out: Array,
    index: Array, w: Array, after: int, tid: int, n_threads: int,
) -> None:  # fmt: skip
    backward_tiled_images(grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads)


@kernel(_backward_twin, outputs=2, scratch=1, in_place=True)
def _backward_sparse(
    grad_x: Array, partials: Array, scratch: Array, grad_out: Array, x: Array, weight: Array, out: Array,
    index: Array, w: Array, after: int, tid: int, n_threads: int,
) -> None:  # fmt: skip
    backward_sparse_images(grad_x, partials, scratch, grad_out, x, weight, out, index, w, after, tid, n_threads)


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
    geometry = geometry_of(x, weight, stride, padding, dilation, groups)
    run = {"sparse": _backward_sparse, "tiled": _backward_tiled, "direct": _backward}[geometry.backward_way(after)]
    flat = (array.reshape(-1) for array in (grad_out, x, weight, out, index))
    run(grad_x.reshape(-1), partials, scratch, *flat, geometry.words, after, team=team)
    worth_team = team if partials.size > SUMS_WORTH_TEAM else None
    sum_blocks(grad_weight.reshape(-1), grad_bias, partials, False, team=worth_team)
