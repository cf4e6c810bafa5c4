"""Convolution without im2col: an image is padded into planes that stay in cache, and a tile reads them by a table.

`geometry` explains planes, phases and tables. What each loop is for::

    images, each thread its share       its planes are made once, for all filters
      groups
        filters, as many as a tile has  their sums go to lines in the first-level cache
          pixels in vectors             convolve_tile: the sums in registers (simd/convolution.py)
        the lines: ReLU and max-pooling while they are in cache, and out

3×3 filters of stride 1 with several channels go another way, which has fewer multiplications: see `winograd`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import helper, inlined, kernel
from fastfnn_kernels.convolution.geometry import GEOMETRY, geometry_of, shapes_of
from fastfnn_kernels.convolution.lines import convolve_lines, pack_filters
from fastfnn_kernels.convolution.planes import pad
from fastfnn_kernels.convolution.tiles import IMAGE_TILES, Pair
from fastfnn_kernels.convolution.wide import (
    finish_plane,
    is_wide,
    lanes_of,
    pack_filters_wide,
    panels_of,
    wide_plane,
)
from fastfnn_kernels.convolution.winograd import convolve_winograd, is_moderate, pack_winograd
from fastfnn_kernels.simd import record_in
from fastfnn_kernels.team import Team, share

Array = NDArray[Any]

#: Products of an output from which on vectors of channels pay, for their results must be turned round.
WIDE_DEPTH = 64


def _forward_twin(x: Array, weight: Array, bias: Array, w: Array, after: int) -> tuple[Array, Array]:
    x_shape, weight_shape, settings = shapes_of(w, x.size)
    out, index = reference.conv2d_fused(x.reshape(x_shape), weight.reshape(weight_shape), bias, *settings, after=after)
    return out.ravel(), index.ravel()


@inlined
def forward_images(out, index, scratch, x, weight, bias, w, after, ready, tid, n_threads):  # type: ignore[no-untyped-def]
    """All arrays flat but `scratch`; `w` are a geometry's words, `after` is PLAIN, RELU, POOL or RELU_POOL.

    Where `ready` is not empty the filters are the same in every call, and so is `scratch`: they are packed once.
    """
    g = record_in(w, 0, GEOMETRY)
    own = scratch[tid]
    first, last = share(x.size // (g.channels * g.height * g.width), tid, n_threads, 1)
    if first < last and (ready.size == 0 or ready[0] == 0):
        _pack_filters(own, weight, bias, w)
        ready[:] = 1
    _forward_directly(out, index, own, x, weight, w, after, first, last)


@inlined
def forward_tiled_images(out, index, scratch, x, weight, bias, w, after, ready, tid, n_threads):  # type: ignore[no-untyped-def]
    """The same by Winograd's tiles, for a geometry that `is_tiled`."""
    g = record_in(w, 0, GEOMETRY)
    image_size, own = g.channels * g.height * g.width, scratch[tid]
    n, last = share(x.size // image_size, tid, n_threads, 1)
    room, t, fits = own[own.size - g.forward_tile_words :], record_in(w, g.forward_tiles, IMAGE_TILES), True
    if n < last and (ready.size == 0 or ready[0] == 0):
        fits = is_moderate(weight, 0, weight.size)
        if fits:
            pack_winograd(room, t, weight, False)
            ready[:] = 1
    while n < last:  # each way is called in one place: LLVM works on large functions once for every place
        begin = n
        while fits and n < last and is_moderate(x, n * image_size, image_size):
            n += 1
        if n > begin:
            # fmt: off
            convolve_winograd(out, index, room, t, bias, after, w, g.corners, g.line, x, begin * image_size, image_size,
                              g.height * g.width, g.width, begin, n)
            # fmt: on
        else:
            n = n + 1 if fits else last
            _pack_filters(own, weight, bias, w)
            _forward_directly(out, index, own, x, weight, w, after, begin, n)


@helper
def _by_channels(filters, depth, narrow_room, array):  # type: ignore[no-untyped-def]
    """Whether vectors run along the channels, and how many filters of a group are packed: else `narrow_room`."""
    if is_wide(filters, array) and depth >= WIDE_DEPTH:
        return True, panels_of(filters, array) * lanes_of(array)
    return False, narrow_room


@inlined
def _pack_filters(own, weight, bias, w):  # type: ignore[no-untyped-def]
    """All groups' filters for `_forward_directly`."""
    g = record_in(w, 0, GEOMETRY)
    depth = weight.size // g.filters
    wide, room = _by_channels(g.filters // g.groups, depth, g.filter_room, own)
    for group in range(g.groups):
        if wide:
            pack_filters_wide(own, group * room * (depth + 1), weight, bias, w, group)
        else:
            pack_filters(own, group * room * (depth + 1), weight, bias, w, group)


@inlined
def _forward_directly(out, index, own, x, weight, w, after, first_image, last_image):  # type: ignore[no-untyped-def]
    """Images ``first_image`` to ``last_image`` by lines of pixels, or by vectors of channels."""
    g = record_in(w, 0, GEOMETRY)
    groups, depth = g.groups, weight.size // g.filters
    filters, out_h, out_w = g.filters // groups, g.out_height, g.out_width
    lines, planes = own[g.packed :], own[g.packed + g.lines :]
    (wide, room), lanes = _by_channels(filters, depth, g.filter_room, own), lanes_of(out)
    group_words = room * (depth + 1)
    image_size, group_planes = g.channels * g.height * g.width, g.planes // groups
    places = lines[g.rows * g.line * lanes :].view(np.int32)
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
    forward_images(out, index, scratch, x, weight, bias, w, after, w[:0], tid, n_threads)


@kernel(_forward_twin, outputs=2, scratch=1)
def _forward_tiled(
    out: Array, index: Array, scratch: Array, x: Array, weight: Array, bias: Array, w: Array, after: int,
    tid: int, n_threads: int,
) -> None:  # fmt: skip
    forward_tiled_images(out, index, scratch, x, weight, bias, w, after, w[:0], tid, n_threads)


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
    geometry = geometry_of(x, weight, stride, padding, dilation, groups)
    run, flat = _forward_tiled if geometry.is_tiled else _forward, (array.reshape(-1) for array in (x, weight))
    run(out.reshape(-1), index.reshape(-1), scratch, *flat, bias, geometry.words, after, team=team)
