"""The backward of a convolution behind which 2×2 max-pooling follows: where its gradient is not zero, and only there.

Every filter has a list of values and places, at most a quarter of its outputs. The weight's gradient is the sum of the
values times the patches of the image at their places; the input's gradient gets the values times the filter, added at
the same places. Patches and filters are rows of pixels with their channels side by side, cut into vectors: *pieces*.
"""

from __future__ import annotations

import numpy as np

from fastfnn_kernels._config import helper, inlined
from fastfnn_kernels.convolution.geometry import BLOCK_ROWS, GEOMETRY, PIECE_TILES
from fastfnn_kernels.convolution.wide import lanes_of, turn
from fastfnn_kernels.reference.conv import RELU_POOL
from fastfnn_kernels.simd import (
    VECTOR_BYTES,
    gather_pieces,
    list_windows,
    move_row,
    record_in,
    scatter_pieces,
    transpose_block,
)

TALL, MIDDLE, LOW = PIECE_TILES


@helper
def _pieces(w, array):  # type: ignore[no-untyped-def]
    """Where the table of pieces begins, and how many there are."""
    g = record_in(w, 0, GEOMETRY)
    if array.itemsize == 4:
        return g.pieces, g.piece_count
    return g.pieces_of_8_bytes, g.piece_count_of_8_bytes


@helper
def _piece_of(w, lanes, c, u, v):  # type: ignore[no-untyped-def]
    """Where tap (u, v) of channel c lies in a filter's pieces."""
    g = record_in(w, 0, GEOMETRY)
    row_pieces = (g.kernel_w * g.channels + lanes - 1) // lanes
    return u * row_pieces * lanes + v * g.channels + c


@helper
def pack_pieces(packed, weight, w):  # type: ignore[no-untyped-def]
    """``packed[filter][piece][lane]``; lanes behind a row's end are zero."""
    g = record_in(w, 0, GEOMETRY)
    lanes, (_, count) = lanes_of(packed), _pieces(w, packed)
    packed[: g.filters * count * lanes] = 0
    source = 0
    for k in range(g.filters):
        for c in range(g.channels):
            for u in range(g.kernel_h):
                for v in range(g.kernel_w):
                    packed[k * count * lanes + _piece_of(w, lanes, c, u, v)] = weight[source]
                    source += 1


@helper
def store_pieces(partial, sums, w):  # type: ignore[no-untyped-def]
    """The way back: a block's sums to ``partial[filter][channel][tap]``."""
    g = record_in(w, 0, GEOMETRY)
    lanes, (_, count) = lanes_of(sums), _pieces(w, sums)
    target = 0
    for k in range(g.filters):
        for c in range(g.channels):
            for u in range(g.kernel_h):
                for v in range(g.kernel_w):
                    partial[target] = sums[k * count * lanes + _piece_of(w, lanes, c, u, v)]
                    target += 1


@helper
def to_pixels(pixels, p0, line, beside, x, x0, w):  # type: ignore[no-untyped-def]
    """An image to padded lines of pixels, channels side by side; what is not image stays zero.

    A pixel takes `beside` numbers and a line `line`.
    """
    g = record_in(w, 0, GEOMETRY)
    channels, height, width = g.channels, g.height, g.width
    lanes = lanes_of(pixels)
    for i in range(height):
        target = p0 + (i + g.pad_h) * line + g.pad_w * beside
        if beside == 1:
            move_row(False, pixels, target, x, x0 + i * width, x, width, pixels.dtype.type(-np.inf))
            continue
        for c in range(0, channels, lanes):
            count = min(lanes, channels - c)
            for j in range(0, width, lanes):
                source, columns = x0 + (c * height + i) * width + j, min(lanes, width - j)
                # fmt: off
                transpose_block(pixels, target + j * beside + c, beside, x, source, height * width, count, columns,
                                count)
                # fmt: on


@helper
def from_pixels(grad_x, x0, pixels, w):  # type: ignore[no-untyped-def]
    """The way back, without the padding."""
    g = record_in(w, 0, GEOMETRY)
    channels, height, width = g.channels, g.height, g.width
    for i in range(height):
        source = (i + g.pad_h) * g.pixel_line + g.pad_w * channels
        if channels == 1:
            to = x0 + i * width
            move_row(False, grad_x, to, pixels, source, pixels, width, grad_x.dtype.type(-np.inf))
        else:
            turn(grad_x, x0 + i * width, height * width, pixels, source, width, channels, channels)


@helper
def list_gradient(values, places, grad_out, out, index, plane, w, after):  # type: ignore[no-untyped-def]
    """One filter's gradient in one image: values that are not zero, and their places. Returns how many."""
    g = record_in(w, 0, GEOMETRY)
    line, windows = g.line, (g.out_height // 2) * (g.out_width // 2)
    below, beside = g.stride_h * g.pixel_line, g.stride_w * g.channels
    m0, corners, bases = plane * windows, g.corners, g.bases
    # fmt: off
    if after == RELU_POOL:
        return list_windows(True, values, places, grad_out, out, index, m0, w, corners, w, bases, windows, line, below,
                            beside)
    return list_windows(False, values, places, grad_out, out, index, m0, w, corners, w, bases, windows, line, below,
                        beside)
    # fmt: on


@helper
def add_filter_gradient(sums, s0, pixels, values, places, count, w):  # type: ignore[no-untyped-def]
    """One filter's part in the weight's gradient."""
    lanes, (table, left) = VECTOR_BYTES // sums.itemsize, _pieces(w, sums)
    while left > 0:
        if left >= TALL:
            gather_pieces(TALL, sums, s0, pixels, 0, w, table, values, places, count)
            done = TALL
        elif left >= MIDDLE:
            gather_pieces(MIDDLE, sums, s0, pixels, 0, w, table, values, places, count)
            done = MIDDLE
        else:
            gather_pieces(LOW, sums, s0, pixels, 0, w, table, values, places, count)
            done = LOW
        left -= done
        table += done
        s0 += done * lanes


@helper
def add_input_gradient(pixels, packed, w0, values, places, count, w):  # type: ignore[no-untyped-def]
    """One filter's part in the input's gradient, by pixels."""
    lanes, (table, left) = VECTOR_BYTES // pixels.itemsize, _pieces(w, pixels)
    while left > 0:
        if left >= TALL:
            scatter_pieces(TALL, pixels, 0, packed, w0, w, table, values, places, count)
            done = TALL
        elif left >= MIDDLE:
            scatter_pieces(MIDDLE, pixels, 0, packed, w0, w, table, values, places, count)
            done = MIDDLE
        else:
            scatter_pieces(LOW, pixels, 0, packed, w0, w, table, values, places, count)
            done = LOW
        left -= done
        table += done
        w0 += done * lanes


@inlined
def backward_sparse(grad_x, partials, own, grad_out, x, weight, out, index, w, after, first_image, last_image):  # type: ignore[no-untyped-def]
    """Images ``first_image`` to ``last_image``, in blocks as the dense backward has them."""
    g = record_in(w, 0, GEOMETRY)
    filters, image_size = g.filters, g.channels * g.height * g.width
    _, pieces = _pieces(w, own)
    filter_words, windows = pieces * lanes_of(own), (g.out_height // 2) * (g.out_width // 2)
    sums, rest = own[: g.wide_sums], own[g.wide_sums :]
    packed, rest = rest[: g.wide_sums], rest[g.wide_sums :]
    pixels, rest = rest[: g.pixel_words], rest[g.pixel_words :]
    grad_pixels, rest = rest[: g.pixel_words], rest[g.pixel_words :]
    values, places = rest[:windows], rest[windows : 2 * windows].view(np.int32)
    if grad_x.size:
        pack_pieces(packed, weight, w)
    for block in range(first_image, last_image, BLOCK_ROWS):
        partial = partials[block // BLOCK_ROWS]
        biases = partial[partial.size - filters :]
        sums[: filters * filter_words] = 0
        biases[:] = 0
        for n in range(block, min(block + BLOCK_ROWS, last_image)):
            to_pixels(pixels, 0, g.pixel_line, g.channels, x, n * image_size, w)
            if grad_x.size:
                grad_pixels[:] = 0
            for k in range(filters):
                count = list_gradient(values, places, grad_out, out, index, n * filters + k, w, after)
                add_filter_gradient(sums, k * filter_words, pixels, values, places, count, w)
                if grad_x.size:
                    add_input_gradient(grad_pixels, packed, k * filter_words, values, places, count, w)
                own_values = values[:count]
                for i in range(own_values.size):
                    biases[k] += own_values[i]
            if grad_x.size:
                from_pixels(grad_x, n * image_size, grad_pixels, w)
        store_pieces(partial, sums, w)
