"""How the tiles of `winograd` and `winograd_weight` lie in a thread's working memory.

All tiles of an image's 2×2 outputs follow each other row by row, over the ends of images: so many whole rows of tiles
go through the transforms and products together as fill vectors well and fit the second-level cache.
"""

from __future__ import annotations

import ctypes

import numpy as np

from fastfnn_kernels.simd import COMPONENTS, VECTOR_BYTES, VECTOR_REGISTERS

Pair = tuple[int, int]

CACHE_LINE = 64
#: Filters and vectors of tiles that a product makes at once.
TILE_ROWS, TILE_VECTORS = (4, 4) if VECTOR_REGISTERS == 32 else (4, 3)
#: Tiles that go through the products together, at least and at most, and bytes that they may take.
FEWEST_TILES, MOST_TILES, BLOCK_BYTES = 48, 128, 1 << 19

_Integer = ctypes.c_int64


class ImageTiles(ctypes.Structure):
    """How Winograd's tiles lie. `channels` come in, `filters` go out, in `filter_room` with their last tile.

    Phases of an image have lines of `line` and `plane` numbers. `block` tiles go through the products together. The
    rest is where phases, weights, transformed inputs and products start in working memory, and the strides from one of
    the 16 elements to the next.
    """

    _fields_ = tuple(
        (name, _Integer)
        for name in (
            *("channels", "filters", "filter_room", "height", "width", "pad_h", "pad_w", "out_height", "out_width"),
            *("line", "plane", "block", "planes", "weights", "weight_stride", "inputs", "input_row", "input_stride"),
            *("products", "product_stride"),
        )
    )


class WeightTiles(ctypes.Structure):
    """The same for the gradient of the weight, whose inputs lie pixel by pixel with their channels side by side.

    In lines of `pixel_line` numbers, `channel_room` for a pixel. Gradients are split into phases as images are, of
    `line` and `plane` numbers. `sums` has 16 numbers for each filter and channel.
    """

    _fields_ = tuple(
        (name, _Integer)
        for name in (
            *("channels", "channel_room", "filters", "filter_room", "tile_rows", "tile_columns", "block"),
            *("pixels", "pixel_line", "phases", "line", "plane", "inputs", "input_stride", "gradients", "gradient_row"),
            *("gradient_stride", "sums", "sum_stride"),
        )
    )


IMAGE_TILES, WEIGHT_TILES = np.dtype(ImageTiles), np.dtype(WeightTiles)


def image_tiles(channels: int, filters: int, size: Pair, padding: Pair) -> tuple[ImageTiles, int]:
    """How the tiles of a 3×3 convolution lie, and how many elements of working memory they take."""
    (height, width), (pad_h, pad_w) = size, padding
    out_h, out_w = height + 2 * pad_h - 2, width + 2 * pad_w - 2
    columns, line = (out_w + 1) // 2, (out_w + 1) // 2 + 1
    plane, room = ((out_h + 1) // 2 + 1) * line, rounded_up(filters, TILE_ROWS)
    block = _tiles_of_whole_rows(columns, COMPONENTS * 4 * (channels + room))
    # A line more than a multiple of a power of two, or 16 streams would meet in the same few sets of the cache.
    input_row = aligned(block) + CACHE_LINE // 4
    input_stride, product_stride = (aligned(size) + CACHE_LINE // 4 for size in (channels * input_row, room * block))
    made = ImageTiles(
        channels=channels,
        filters=filters,
        filter_room=room,
        height=height,
        width=width,
        pad_h=pad_h,
        pad_w=pad_w,
        out_height=out_h,
        out_width=out_w,
        line=line,
        plane=plane,
        block=block,
        weight_stride=room * channels + CACHE_LINE // 4,
        input_row=input_row,
        input_stride=input_stride,
        product_stride=product_stride,
    )
    made.weights = aligned(4 * channels * plane)
    made.inputs = made.weights + aligned(COMPONENTS * made.weight_stride)
    made.products = made.inputs + COMPONENTS * input_stride
    return made, made.products + COMPONENTS * product_stride + CACHE_LINE // 4  # read, but not used


def _tiles_of_whole_rows(columns: int, tile_bytes: int) -> int:
    """How many tiles of so many bytes go through the products together: rows of tiles that fill vectors well."""
    most = _fitting(tile_bytes) // columns

    def filled(rows: int) -> tuple[float, int]:
        """What part of the vectors so many rows fill; of equals the most rows count."""
        return rows * columns / rounded_up(rows * columns, VECTOR_BYTES // 4), rows

    return max(range(1, max(1, most) + 1), key=filled) * columns


def _fitting(tile_bytes: int) -> int:
    return max(FEWEST_TILES, min(MOST_TILES, BLOCK_BYTES // tile_bytes))


def weight_tiles(channels: int, filters: int, out_size: Pair) -> tuple[WeightTiles, int]:
    """The same for the gradient of the weight."""
    rows, columns = ((side + 1) // 2 for side in out_size)
    channel_room, filter_room = aligned(channels), rounded_up(filters, TILE_ROWS)
    most = _fitting(COMPONENTS * 4 * (channel_room + filter_room))
    made = WeightTiles(
        channels=channels,
        channel_room=channel_room,
        filters=filters,
        filter_room=filter_room,
        tile_rows=rows,
        tile_columns=columns,
        block=max(1, most // columns) * columns,
        pixel_line=2 * (columns + 1) * channel_room,
        line=columns,
        plane=rows * columns,
    )
    made.gradient_row = aligned(made.block) + CACHE_LINE // 4
    made.input_stride = made.block * channel_room + CACHE_LINE // 4
    made.gradient_stride = filter_room * made.gradient_row + CACHE_LINE // 4
    made.sum_stride = filter_room * channel_room + CACHE_LINE // 4
    made.phases = 2 * (rows + 1) * made.pixel_line
    made.inputs = made.phases + aligned(4 * filters * made.plane)
    made.gradients = made.inputs + COMPONENTS * made.input_stride
    made.sums = made.gradients + COMPONENTS * made.gradient_stride
    return made, made.sums + COMPONENTS * made.sum_stride


def aligned(elements: int) -> int:
    """So many elements or a few more, in whole cache lines even of the narrowest dtype."""
    return rounded_up(elements, 16)


def rounded_up(count: int, multiple: int) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple
