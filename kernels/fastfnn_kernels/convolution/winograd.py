"""3×3 convolution by Winograd's F(2×2, 3×3): 16 multiplications where direct summation has 36.

Outputs come in tiles of 2×2. A tile's 4×4 inputs d, a filter g and their products are transformed by matrices of 0, ±1
and ±1/2 (Lavin & Gray, "Fast algorithms for convolutional neural networks", 2016)::

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

and the sum over the channels of the products ⊙ is, for each of the 16 elements, a matrix product: filters × channels
times channels × tiles. Forward, and for the gradient of the input with the filters turned round::

    images, each thread its share       rows of tiles follow each other, over the images' ends
      row of tiles
        channels                        Bᵀ d B for all its tiles: a row of `inputs`, for each of the 16
      when enough rows are there        they and their products fit the second-level cache
        16 elements, filters in tiles   multiply_tile over the channels
        filters                         Aᵀ m A, with bias, ReLU and pooling, for vectors of tiles, and out

The sums are shorter than those of direct summation, and so are their errors. But an error is relative to the largest of
4×4 inputs where an output depends on 3×3, and what is infinite, or nearly, would spread: images that hold such numbers,
and all where a filter does, are summed directly.
"""

from __future__ import annotations

import numpy as np

from fastfnn_kernels._config import helper, inlined
from fastfnn_kernels.convolution.tiles import TILE_ROWS, TILE_VECTORS
from fastfnn_kernels.reference.conv import POOL, RELU, RELU_POOL
from fastfnn_kernels.simd import (
    COMPONENTS,
    VECTOR_BYTES,
    multiply_tile,
    split_row,
    winograd_inputs,
    winograd_pooled,
    winograd_rows,
)

#: Numbers up to so many bits of exponent are transformed: no product of two, nor a sum of a million, overflows.
LARGEST = {4: np.float32(2.0**45), 8: np.float64(2.0**450)}
LARGEST_BITS, LARGEST_BITS_OF_8_BYTES = (int(LARGEST[n].view(f"i{n}")) for n in (4, 8))


@helper
def is_moderate(x, x0, count):  # type: ignore[no-untyped-def]
    """Whether no element is so large that products might overflow, nor infinite, nor NaN."""
    # Bits compare as the numbers do, NaN above all; and unlike a maximum of floats that of integers becomes vectors.
    if x.itemsize == 4:
        bits, worst = x[x0 : x0 + count].view(np.int32), np.int32(0)
        for i in range(bits.size):
            worst = max(worst, bits[i] & np.int32(0x7FFFFFFF))
        return worst <= LARGEST_BITS
    wide, largest = x[x0 : x0 + count].view(np.int64), np.int64(0)
    for i in range(wide.size):
        largest = max(largest, wide[i] & np.int64(0x7FFFFFFFFFFFFFFF))
    return largest <= LARGEST_BITS_OF_8_BYTES


@inlined
def pack_winograd(room, t, weight, turned):  # type: ignore[no-untyped-def]
    """``G g Gᵀ`` of all filters, ``[element][tile of filters][channel][filter of the tile]``.

    With `turned`, for the gradient of the input: channels are filters, and filters are turned round.
    """
    half, channels, element = weight.dtype.type(0.5), t.channels, t.weight_stride
    for k in range(t.filter_room):
        at = t.weights + k // TILE_ROWS * TILE_ROWS * channels + k % TILE_ROWS
        for c in range(channels):
            to = at + c * TILE_ROWS
            if k >= t.filters:
                for e in range(COMPONENTS):
                    room[to + e * element] = 0
                continue
            first, step = (k * channels + c) * 9, 1
            if turned:
                first, step = (c * t.filters + k) * 9 + 8, -1
            for column in range(4):
                a, b, d = _filter_column(weight, first, step, column, half)
                room[to + column * element] = a
                room[to + (4 + column) * element] = half * (a + d + b)
                room[to + (8 + column) * element] = half * (a + d - b)
                room[to + (12 + column) * element] = d


@helper
def _filter_column(weight, first, step, column, half):  # type: ignore[no-untyped-def]
    """A column of ``g Gᵀ``: its three elements."""
    a, b, d = weight[first], weight[first + 3 * step], weight[first + 6 * step]
    if column == 3:
        return weight[first + 2 * step], weight[first + 5 * step], weight[first + 8 * step]
    if column > 0:
        sign = half if column == 1 else -half
        a = half * (a + weight[first + 2 * step]) + sign * weight[first + step]
        b = half * (b + weight[first + 5 * step]) + sign * weight[first + 4 * step]
        d = half * (d + weight[first + 8 * step]) + sign * weight[first + 7 * step]
    return a, b, d


@inlined
def _to_phases(room, t, source, s0, row_stride, c):  # type: ignore[no-untyped-def]
    """A channel's plane, split into even and odd rows and columns; the padding stays zero."""
    line, plane, width, pad_h = t.line, t.plane, t.width, t.pad_h
    to = t.planes + 4 * c * plane
    even, odd = to + t.pad_w // 2, to + (t.pad_w + 1) // 2
    if t.pad_w % 2 == 0:
        odd += plane
    else:
        even += plane
    for row in range(t.height):
        below = (pad_h + row) % 2 * 2 * plane + (pad_h + row) // 2 * line
        split_row(room, even + below, odd + below, source, s0, width)
        s0 += row_stride


@inlined
def _transform_inputs(room, t, held, source, s0, plane_stride, row_stride, first, rows, columns):  # type: ignore[no-untyped-def]
    """`rows` rows of tiles of an image, from row `first` on, behind `held` tiles that the block has."""
    row_length, stride, plane, line, planes = t.input_row, t.input_stride, t.plane, t.line, t.planes
    to = t.inputs + held
    for c in range(t.channels):
        if first == 0:
            _to_phases(room, t, source, s0 + c * plane_stride, row_stride, c)
        at = planes + 4 * c * plane + first * line
        for i in range(rows):
            winograd_inputs(room, to + i * columns, stride, room, at + i * line, 2 * plane, line, plane, 1, columns)
        to += row_length


@inlined
def _multiply(room, t, positions):  # type: ignore[no-untyped-def]
    """The 16 matrix products of a block: ``products[element][filter][position]``."""
    lanes, block, ldv, channels = VECTOR_BYTES // room.itemsize, t.block, t.input_row, t.channels
    one, whole = room.dtype.type(1), TILE_VECTORS * lanes
    for element in range(COMPONENTS):
        for k in range(0, t.filter_room, TILE_ROWS):
            u = t.weights + element * t.weight_stride + k * channels
            m, v = t.products + element * t.product_stride + k * block, t.inputs + element * t.input_stride
            left = positions
            # fmt: off
            while left > 0:
                if left > whole - lanes:
                    done = min(left, whole)
                    multiply_tile(TILE_ROWS, TILE_VECTORS, room, m, block, room, u, 1, TILE_ROWS, room, v, ldv,
                                  channels, one, 0, done)
                elif left > lanes:
                    done = min(left, 2 * lanes)
                    multiply_tile(TILE_ROWS, 2, room, m, block, room, u, 1, TILE_ROWS, room, v, ldv, channels, one, 0,
                                  done)
                else:
                    done = left
                    multiply_tile(TILE_ROWS, 1, room, m, block, room, u, 1, TILE_ROWS, room, v, ldv, channels, one, 0,
                                  done)
                m, v, left = m + done, v + done, left - done
            # fmt: on


@inlined
def _finish(out, index, room, t, bias, after, w, corners, below, first, rows, tile_rows, tile_columns):  # type: ignore[no-untyped-def]
    """A block's products to outputs: `rows` rows of tiles, from row `first` of all images' on."""
    lowest, stride, filters = out.dtype.type(0 if after in (RELU, RELU_POOL) else -np.inf), t.product_stride, t.filters
    out_height, out_width = t.out_height, t.out_width
    for k in range(filters):
        m, start, done = t.products + k * t.block, bias[k] if bias.size else out.dtype.type(0), 0
        while done < rows:
            n, i = (first + done) // tile_rows, (first + done) % tile_rows
            many = min(tile_rows - i, rows - done)
            # fmt: off
            if after >= POOL:
                winograd_pooled(room, m, stride, many * tile_columns, start, lowest, out,
                                ((n * filters + k) * tile_rows + i) * tile_columns, index, w,
                                corners + i * tile_columns, below)
            else:
                upper = ((n * filters + k) * out_height + 2 * i) * out_width
                for j in range(many):
                    lower = upper + out_width if 2 * (i + j) + 1 < out_height else upper
                    winograd_rows(room, m + j * tile_columns, stride, tile_columns, start, lowest, out, upper, lower,
                                  out_width)
                    upper += 2 * out_width
            # fmt: on
            m += many * tile_columns
            done += many


@inlined
def convolve_winograd(  # type: ignore[no-untyped-def]
    out, index, room, t, bias, after, w, corners, below, source, s0, image_stride, plane_stride, row_stride, first, last
):
    """Images `first` to `last`: image n's planes lie from ``source[s0 + (n - first) * image_stride]`` on."""
    tile_rows, tile_columns = (t.out_height + 1) // 2, (t.out_width + 1) // 2
    if after >= POOL:
        tile_rows, tile_columns = t.out_height // 2, t.out_width // 2
    rows_a_block = t.block // tile_columns
    row, end, begin = first * tile_rows, last * tile_rows, first * tile_rows
    while row < end:
        n, i = row // tile_rows, row % tile_rows
        many = min(tile_rows - i, rows_a_block - (row - begin))
        # fmt: off
        _transform_inputs(room, t, (row - begin) * tile_columns, source, s0 + (n - first) * image_stride, plane_stride,
                          row_stride, i, many, tile_columns)
        # fmt: on
        row += many
        if row - begin == rows_a_block or row == end:
            _multiply(room, t, (row - begin) * tile_columns)
            # fmt: off
            _finish(out, index, room, t, bias, after, w, corners, below, begin, row - begin, tile_rows, tile_columns)
            # fmt: on
            begin = row
