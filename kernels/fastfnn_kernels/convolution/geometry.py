"""How a convolution lies in memory: sizes, and the tables of offsets that its micro-kernels walk.

**Planes.** The kernels read an image not as it comes but as *planes*: a padded copy in which every tap of the filter
is a constant shift. A plane has lines of `line` pixels; output pixel (i, j) is at ``p = i * line + j``, and tap
(u, v) reads ``x[table[u, v] + p]``. Vectors run along p, over the ends of lines: the few results between an output
row's end and the next row's start are computed and dropped. With a stride, the copy is de-interleaved into
``stride_h * stride_w`` *phases*, planes of every stride-th pixel, so that the shift stays constant. An image that needs
no padding and has no stride is its own plane.

**Gradient planes.** The gradient for the output gets the same line length, zeros between its rows, and `lead` zeros in
front. Then the gradient for the weight is, tap by tap, a dot product of two flat lines, and the gradient for the
input is again a convolution by a table, with negative shifts; one for each phase.

**Images by pixels.** Behind 2×2 max-pooling at most a quarter of the output's gradient is not zero, and behind a ReLU
fewer still. Then it pays to walk just those places. For that an image is copied to padded rows of pixels, each with
its channels side by side: the part of a filter's row is then one run of numbers, cut into *pieces* of a vector.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels.simd import VECTOR_BYTES, VECTOR_REGISTERS

Pair = tuple[int, int]

#: Channels and vectors of the tiles of `convolve_tile`: they fill the registers. Channels are rounded up to one.
TILES = ((8, 3), (6, 4), (4, 4), (2, 4), (1, 8)) if VECTOR_REGISTERS == 32 else ((6, 2), (4, 3), (2, 4), (1, 8))
#: Taps of the two tiles of `correlate_tile`; a table has as many entries more, so that it may be read past its end.
TAPS, FEW_TAPS = (6, 3) if VECTOR_REGISTERS == 32 else (3, 1)
#: The gradient of the weight is summed in partial sums over so many images each, whatever the number of threads.
BLOCK_ROWS = 8
#: Pieces of the tiles of `gather_pieces`.
PIECE_TILES = (10, 6, 3)
CACHE_LINE = 64
#: Bytes of planes and gradient planes that go through the weight's gradient together.
PASS_BYTES = 1 << 18

# The words of a geometry.
(
    CHANNELS, HEIGHT, WIDTH, FILTERS, OUT_HEIGHT, OUT_WIDTH, GROUPS, TAP_COUNT, STRIDE_H, STRIDE_W, PAD_H, PAD_W,
    DILATION_H, DILATION_W, KERNEL_H, KERNEL_W, ROWS, LINE, PLANES, DIRECT, LEAD, GRAD_PLANE, TABLE, PHASES,
    FILTER_TILES, CHANNEL_TILES, FILTER_ROOM, CHANNEL_ROOM, COVERED, PACKED, LINES, PLANES_WORDS, SLOT, PASS,
    PIXELS, WIDE_SUMS, PIXEL_LINE, PIXEL_WORDS, PIECES, PIECE_COUNT, PIECES_OF_8_BYTES, PIECE_COUNT_OF_8_BYTES,
    CORNERS, BASES, SPARSE, HEADER,
) = range(46)  # fmt: skip
# The words of a phase: its place in the stride, taps, the input pixels it holds, and where its tables start.
(
    PHASE_A, PHASE_B, PHASE_TAPS, FIRST_ROW, ROW_COUNT, FIRST_COLUMN, COLUMN_COUNT, PHASE_TABLE, TAP_LIST,
    TAPS_BEFORE, PHASE_WORDS,
) = range(11)  # fmt: skip


def tile_heights(channels: int) -> list[int]:
    """The tiles that `channels` channels are cut into; the last may be taller than what is left."""
    heights = [height for height, _ in TILES]
    result: list[int] = []
    while (left := channels - sum(result)) > 0:
        fitting = min((height for height in heights if height >= left), default=heights[0])
        # 7 or 8 channels are two tiles of 4 where there is none of 8.
        result.append(4 if heights[0] < left <= 8 else fitting)
    return result


@dataclass(frozen=True)
class Geometry:
    """A convolution of images of one size.

    Attributes
    ----------
    words : (…,) int64
        Everything that the kernels need, with the tables behind the header.
    """

    channels: int
    size: Pair
    filters: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def out_size(self) -> Pair:
        """Height and width of the output; not positive where the filter does not fit."""
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True)
        )
        return height, width

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.filters, self.channels // self.groups, *self.kernel

    def scratch_shape(self, rows: int, backward: bool, dtype: Any, n_threads: int) -> tuple[int, int]:
        """(n_threads, elements) of the kernels' working memory, whose borders must be zero when they start."""
        words = self.words
        elements = words[PACKED] + words[LINES] + words[PLANES_WORDS]
        if backward:
            elements += words[WIDE_SUMS] + min(rows, words[PASS]) * words[SLOT] - words[PLANES_WORDS]
            elements = max(elements, words[SPARSE])
        return n_threads, _aligned(int(elements))

    def scratch(self, rows: int, backward: bool, dtype: Any, n_threads: int) -> NDArray[Any]:
        """Such memory, from a cache line's start on."""
        shape, itemsize = self.scratch_shape(rows, backward, dtype, n_threads), np.dtype(dtype).itemsize
        memory = np.zeros(math.prod(shape) + CACHE_LINE // itemsize, dtype)
        start = -memory.ctypes.data % CACHE_LINE // itemsize
        return memory[start : start + math.prod(shape)].reshape(shape)

    def partials(self, rows: int, dtype: Any) -> NDArray[Any]:
        """Memory for the partial sums of the gradients of weight and bias: one row a block of images."""
        blocks = -(-rows // BLOCK_ROWS)
        return np.empty((blocks, math.prod(self.weight_shape) + self.filters), dtype)

    def _pieces(self, lanes: int, line: int) -> list[int]:
        """Where the vectors of a filter's rows lie, from its first pixel's first channel on, in an image by pixels."""
        row = -(-self.kernel[1] * self.channels // lanes)
        pieces = [u * self.dilation[0] * line + v * lanes for u in range(self.kernel[0]) for v in range(row)]
        return pieces + pieces[-1:] * (whole_pieces(len(pieces)) - len(pieces))

    def _windows(self, line: int, pixel_line: int) -> tuple[list[int], list[int]]:
        """The upper left pixel of every 2×2 window of the output: its place in a plane and in an image by pixels."""
        rows, columns = (max(0, size) // 2 for size in self.out_size)
        pixels = [(2 * i, 2 * j) for i in range(rows) for j in range(columns)]
        below, beside = self.stride[0] * pixel_line, self.stride[1] * self.channels
        return [i * line + j for i, j in pixels], [i * below + j * beside for i, j in pixels]

    @functools.cached_property
    def words(self) -> NDArray[np.int64]:
        (height, width), (kernel_h, kernel_w), groups = self.size, self.kernel, self.groups
        (stride_h, stride_w), (dilation_h, dilation_w) = self.stride, self.dilation
        out_h, out_w = self.out_size
        reach_h, reach_w = (kernel_h - 1) * dilation_h // stride_h, (kernel_w - 1) * dilation_w // stride_w
        rows, line = out_h + reach_h, out_w + reach_w
        phases = stride_h * stride_w
        direct = self.stride == (1, 1) and self.padding == (0, 0)
        # A tap's phase, and its shift within the phase's plane.
        taps = [(u * dilation_h, v * dilation_w) for u in range(kernel_h) for v in range(kernel_w)]
        phase_of = [(u % stride_h, v % stride_w) for u, v in taps]
        shifts = [u // stride_h * line + v // stride_w for u, v in taps]
        lead = reach_h * line + reach_w
        grad_plane = lead + out_h * line
        group_in, group_out = self.channels // groups, self.filters // groups

        header = np.zeros(HEADER, np.int64)
        plain = {
            CHANNELS: self.channels, HEIGHT: height, WIDTH: width, FILTERS: self.filters, OUT_HEIGHT: out_h,
            OUT_WIDTH: out_w, GROUPS: groups, TAP_COUNT: len(taps), STRIDE_H: stride_h, STRIDE_W: stride_w,
            PAD_H: self.padding[0], PAD_W: self.padding[1], DILATION_H: dilation_h, DILATION_W: dilation_w,
            KERNEL_H: kernel_h, KERNEL_W: kernel_w, ROWS: rows, LINE: line,
            PLANES: self.channels * phases * rows * line, DIRECT: direct, LEAD: lead, GRAD_PLANE: grad_plane,
        }  # fmt: skip
        for place, value in plain.items():
            header[place] = value
        tables: list[NDArray[np.int64]] = []

        def append(values: Any) -> int:
            start = HEADER + phases * PHASE_WORDS + sum(map(len, tables))
            tables.append(np.asarray(values, np.int64))
            return start

        plane = rows * line
        table = [
            (c * phases + a * stride_w + b) * plane + shift
            for c in range(group_in)
            for (a, b), shift in zip(phase_of, shifts, strict=True)
        ]
        header[TABLE] = append(table + table[-1:] * TAPS)
        filter_tiles, channel_tiles = tile_heights(group_out), tile_heights(group_in)
        header[FILTER_TILES], header[CHANNEL_TILES] = append([*filter_tiles, 0]), append([*channel_tiles, 0])
        header[FILTER_ROOM], header[CHANNEL_ROOM] = sum(filter_tiles), sum(channel_tiles)
        records = np.zeros((phases, PHASE_WORDS), np.int64)
        taps_before = covered = 0
        for number, record in enumerate(records):
            a, b = divmod(number, stride_w)
            own = [t for t, phase in enumerate(phase_of) if phase == (a, b)]
            record[PHASE_A], record[PHASE_B], record[PHASE_TAPS] = a, b, len(own)
            record[FIRST_ROW], record[ROW_COUNT] = _held(a, stride_h, self.padding[0], height, rows)
            record[FIRST_COLUMN], record[COLUMN_COUNT] = _held(b, stride_w, self.padding[1], width, line)
            record[PHASE_TABLE] = append([k * grad_plane - shifts[t] for k in range(group_out) for t in own])
            record[TAP_LIST] = append(own)
            record[TAPS_BEFORE] = taps_before
            taps_before += len(own)
            covered += int(record[ROW_COUNT] * record[COLUMN_COUNT]) if own else 0
        header[PHASES], header[COVERED] = HEADER, covered == height * width
        header[PIXELS] = append((line * np.arange(out_h)[:, None] + np.arange(out_w)).ravel())
        lanes = VECTOR_BYTES // 4  # of float64 there are fewer
        widest = max(vectors for _, vectors in TILES) * lanes
        header[PIXEL_LINE] = (width + 2 * self.padding[1]) * self.channels
        header[PIXEL_WORDS] = _aligned((height + 2 * self.padding[0]) * int(header[PIXEL_LINE]) + 2 * widest)
        for itemsize, start, count in ((4, PIECES, PIECE_COUNT), (8, PIECES_OF_8_BYTES, PIECE_COUNT_OF_8_BYTES)):
            pieces = self._pieces(VECTOR_BYTES // itemsize, int(header[PIXEL_LINE]))
            header[count], header[start] = len(pieces), append(pieces)
        all_filters, all_channels = (-(-count // lanes) * lanes for count in (group_out, group_in))
        # Weights as tiles read them, and the sums' starts: for the forward, or for the gradient of the input.
        room = max(sum(filter_tiles), all_filters), max(sum(channel_tiles), all_channels)
        depth = max(room[0] * group_in, room[1] * group_out)
        header[PACKED] = _aligned(groups * (depth * len(taps) + sum(room)))
        # Lines of the tallest tile; or a plane and its places by pixels, or a gradient by pixels.
        header[LINES] = _aligned(max(TILES[0][0] * (plane + widest), plane * lanes + out_h * out_w * lanes))
        by_pieces = lanes * header[PIECE_COUNT], lanes // 2 * header[PIECE_COUNT_OF_8_BYTES]
        sums = groups * all_filters * group_in * len(taps), self.filters * max(by_pieces)
        header[WIDE_SUMS] = _aligned(int(max(sums)))
        corners, bases = self._windows(line, int(header[PIXEL_LINE]))
        header[CORNERS], header[BASES] = append(corners), append(bases)
        # Sums, filters, two images, and a list of values and places.
        header[SPARSE] = 2 * (header[WIDE_SUMS] + header[PIXEL_WORDS]) + _aligned(2 * len(corners))
        header[PLANES_WORDS] = 0 if direct else header[PLANES] + lanes
        header[SLOT] = header[PLANES_WORDS] + self.filters * grad_plane + lead + widest
        header[PASS] = min(BLOCK_ROWS, max(1, PASS_BYTES // (4 * int(header[SLOT]))))
        return np.concatenate([header, records.ravel(), *tables])


def whole_pieces(count: int) -> int:
    """So many pieces, or as many more as make whole tiles of `gather_pieces`."""
    tall, middle, low = PIECE_TILES
    whole, rest = divmod(count, tall)
    return whole * tall + (0 if not rest else tall if rest > middle else middle if rest > low else low)


def _aligned(elements: int) -> int:
    """So many elements or a few more, in whole cache lines even of the narrowest dtype."""
    return -(-elements // 16) * 16


def _held(phase: int, stride: int, padding: int, size: int, limit: int) -> Pair:
    """Which of a phase's lines (or columns) hold pixels of the image: the first, and how many.

    Line i holds pixel ``phase + stride * i - padding``; lines from `limit` on are read by no tap.
    """
    first = max(0, -(-(padding - phase) // stride))
    last = min(limit - 1, (size - 1 + padding - phase) // stride)
    return first, max(0, last - first + 1)


@functools.lru_cache(maxsize=256)
def geometry(
    channels: int, size: Pair, filters: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Geometry:
    """The geometry of a convolution; its words are built once."""
    return Geometry(channels, size, filters, kernel, stride, padding, dilation, groups)


def shapes_of(w: NDArray[np.int64], elements: int) -> tuple[Any, Any, Any]:
    """Shapes of x (of so many elements) and weight, and (stride, padding, dilation, groups): what `words` came from."""
    channels, height, width, filters, _, _, groups = map(int, w[CHANNELS : GROUPS + 1])
    stride, padding, dilation, kernel = (tuple(map(int, w[i : i + 2])) for i in (STRIDE_H, PAD_H, DILATION_H, KERNEL_H))
    x_shape = (elements // (channels * height * width), channels, height, width)
    return x_shape, (filters, channels // groups, *kernel), (stride, padding, dilation, groups)
