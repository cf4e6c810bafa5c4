"""The gradient of a 3×3 filter by Winograd's transforms: 16 multiplications for a tile where direct summation has 36.

With d the 4×4 inputs of a tile of 2×2 outputs and y' their gradient, the filter's is, in `winograd`'s matrices::

    g' = Gᵀ [ sum over images and tiles of (A y' Aᵀ) ⊙ (Bᵀ d B) ] G

For each of the 16 elements the sum is a matrix product: filters × tiles times tiles × channels. Loop order, for a pass
of images of a block::

    images, rows of tiles               A y' Aᵀ along the tiles, Bᵀ d B along the channels, of pixels
      when enough rows are there        they fit the second-level cache
        16 elements, filters, channels  multiply_tile over the tiles, added to `sums`

and, once a block, ``Gᵀ sums G`` to a row of `partials`.
"""

from __future__ import annotations

from fastfnn_kernels._config import helper, inlined
from fastfnn_kernels.convolution.geometry import GEOMETRY
from fastfnn_kernels.convolution.sparse import to_pixels
from fastfnn_kernels.convolution.tiles import TILE_ROWS, TILE_VECTORS
from fastfnn_kernels.simd import (
    COMPONENTS,
    VECTOR_BYTES,
    multiply_tile,
    record_in,
    split_row,
    winograd_gradients,
    winograd_inputs,
)


@inlined
def _transform_gradients(room, t, w, held, grads, g0, plane_stride, row_stride, first, many):  # type: ignore[no-untyped-def]
    """`many` rows of tiles of an image's gradient planes, behind `held` tiles that the block has."""
    line, plane, row, stride, columns = t.line, t.plane, t.gradient_row, t.gradient_stride, t.tile_columns
    g = record_in(w, 0, GEOMETRY)
    rows, width = g.out_height, g.out_width
    for k in range(t.filters):
        phases = t.phases + 4 * k * plane
        if first == 0:
            for i in range(rows):
                to = phases + i % 2 * 2 * plane + i // 2 * line
                split_row(room, to, to + plane, grads, g0 + k * plane_stride + i * row_stride, width)
        for i in range(many):
            # fmt: off
            winograd_gradients(room, t.gradients + k * row + held + i * columns, stride, room,
                               phases + (first + i) * line, 2 * plane, line, plane, 1, columns)
            # fmt: on


@inlined
def _transform_pixels(room, t, held, first, many):  # type: ignore[no-untyped-def]
    """The same for its pixels."""
    channels, line, columns, stride = t.channel_room, t.pixel_line, t.tile_columns, t.input_stride
    to = t.inputs + held * channels
    for i in range(first, first + many):
        at = t.pixels + 2 * i * line
        for j in range(columns):
            # fmt: off
            winograd_inputs(room, to, stride, room, at + 2 * j * channels, line, 2 * line, channels, 2 * channels,
                            channels)
            # fmt: on
            to += channels


@inlined
def _multiply(room, t, tiles):  # type: ignore[no-untyped-def]
    """Add a block's 16 products to the sums."""
    lanes, channels, row = VECTOR_BYTES // room.itemsize, t.channel_room, t.gradient_row
    one, whole = room.dtype.type(1), TILE_VECTORS * lanes
    for element in range(COMPONENTS):
        for k in range(0, t.filter_room, TILE_ROWS):
            gradients = t.gradients + element * t.gradient_stride + k * row
            sums, inputs = t.sums + element * t.sum_stride + k * channels, t.inputs + element * t.input_stride
            left = channels
            # fmt: off
            while left > 0:
                if left >= whole:
                    multiply_tile(TILE_ROWS, TILE_VECTORS, room, sums, channels, room, gradients, row, 1, room, inputs,
                                  channels, tiles, one, 1, whole)
                    done = whole
                elif left >= 2 * lanes:
                    multiply_tile(TILE_ROWS, 2, room, sums, channels, room, gradients, row, 1, room, inputs, channels,
                                  tiles, one, 1, 2 * lanes)
                    done = 2 * lanes
                else:
                    multiply_tile(TILE_ROWS, 1, room, sums, channels, room, gradients, row, 1, room, inputs, channels,
                                  tiles, one, 1, lanes)
                    done = lanes
                sums, inputs, left = sums + done, inputs + done, left - done
            # fmt: on


@inlined
def begin_weight_gradient(room, t):  # type: ignore[no-untyped-def]
    """Sums start at zero."""
    room[t.sums : t.sums + COMPONENTS * t.sum_stride] = 0


@inlined
def add_weight_gradient(  # type: ignore[no-untyped-def]
    room, t, w, x, x0, image_size, grads, g0, image_stride, plane_stride, row_stride, images
):
    """Add the part of some images: image n's gradient planes lie from ``grads[g0 + n * image_stride]`` on."""
    tile_rows, columns = t.tile_rows, t.tile_columns
    rows_a_block = t.block // columns
    row, begin, end = 0, 0, images * tile_rows
    while row < end:
        n, i = row // tile_rows, row % tile_rows
        many = min(tile_rows - i, rows_a_block - (row - begin))
        if i == 0:
            to_pixels(room, t.pixels, t.pixel_line, t.channel_room, x, x0 + n * image_size, w)
        # fmt: off
        _transform_gradients(room, t, w, (row - begin) * columns, grads, g0 + n * image_stride, plane_stride,
                             row_stride, i, many)
        # fmt: on
        _transform_pixels(room, t, (row - begin) * columns, i, many)
        row += many
        if row - begin == rows_a_block or row == end:
            _multiply(room, t, (row - begin) * columns)
            begin = row


@inlined
def store_weight_gradient_winograd(partial, room, t):  # type: ignore[no-untyped-def]
    """A block's sums to ``partial[filter][channel][tap]``."""
    half, s, to = partial.dtype.type(0.5), t.sum_stride, 0
    for k in range(t.filters):
        for c in range(t.channels):
            at = t.sums + k * t.channel_room + c
            first = _folded(room[at], room[at + 4 * s], room[at + 8 * s], room[at + 12 * s], half)
            second = _folded(room[at + s], room[at + 5 * s], room[at + 9 * s], room[at + 13 * s], half)
            third = _folded(room[at + 2 * s], room[at + 6 * s], room[at + 10 * s], room[at + 14 * s], half)
            last = _folded(room[at + 3 * s], room[at + 7 * s], room[at + 11 * s], room[at + 15 * s], half)
            for i in range(3):
                taps = _folded(first[i], second[i], third[i], last[i], half)
                partial[to], partial[to + 1], partial[to + 2] = taps
                to += 3


@helper
def _folded(a, b, c, d, half):  # type: ignore[no-untyped-def]
    """``Gᵀ (a, b, c, d)``."""
    return a + half * (b + c), half * (b - c), half * (b + c) + d
