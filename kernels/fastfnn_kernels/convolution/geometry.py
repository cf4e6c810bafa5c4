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

**Winograd's tiles.** A 3×3 convolution of stride 1 with several channels goes by `winograd`, where images become tiles
of 2×2 outputs; how these lie is in `tiles`.

**Images by pixels.** Behind 2×2 max-pooling at most a quarter of the output's gradient is not zero, and behind a ReLU
fewer still. Then it pays to walk just those places. For that an image is copied to padded rows of pixels, each with
its channels side by side: the part of a filter's row is then one run of numbers, cut into *pieces* of a vector.
"""

from __future__ import annotations

import ctypes
import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels.convolution.tiles import CACHE_LINE, Pair, aligned, image_tiles, weight_tiles
from fastfnn_kernels.reference.conv import POOL
from fastfnn_kernels.simd import VECTOR_BYTES, VECTOR_REGISTERS

#: Channels and vectors of the tiles of `convolve_tile`: they fill the registers. Channels are rounded up to one.
TILES = ((8, 3), (6, 4), (4, 4), (2, 4), (1, 8)) if VECTOR_REGISTERS == 32 else ((6, 2), (4, 3), (2, 4), (1, 8))
#: Taps of the two tiles of `correlate_tile`; a table has as many entries more, so that it may be read past its end.
TAPS, FEW_TAPS = (6, 3) if VECTOR_REGISTERS == 32 else (3, 1)
#: The gradient of the weight is summed in partial sums over so many images each, whatever the number of threads.
BLOCK_ROWS = 8
#: Pieces of the tiles of `gather_pieces`.
PIECE_TILES = (10, 6, 3)
#: Bytes of planes and gradient planes that go through the weight's gradient together.
PASS_BYTES = 1 << 18
#: Channels and filters, forward and backward, and rows and columns of the output, from which on Winograd's tiles are
#: faster.
TILES_FORWARD, TILES_BACKWARD, TILES_SIDE = 8, 16, 4
_Integer = ctypes.c_int64


class Header(ctypes.Structure):
    """The beginning of a geometry's words; behind it lie the phases and the tables, which are told by their places.

    A *table* of offsets has one for each channel and tap of a group, `pieces` and `pixels` likewise; tiles are heights
    that end with a 0. Rooms are channels rounded up to whole tiles; `packed`, `lines`, `wide_sums`, … are elements of
    working memory.
    """

    _fields_ = tuple(
        (name, _Integer)
        for name in (
            *("channels", "height", "width", "filters", "out_height", "out_width", "groups", "tap_count"),
            *("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", "kernel_h", "kernel_w"),
            *("rows", "line", "planes", "direct", "lead", "grad_plane", "table", "filter_tiles", "channel_tiles"),
            *("filter_room", "channel_room", "covered", "packed", "lines", "planes_words", "slot", "images_a_pass"),
            *("pixels", "wide_sums", "pixel_line", "pixel_words", "pieces", "piece_count", "pieces_of_8_bytes"),
            *("piece_count_of_8_bytes", "corners", "bases", "sparse_words", "forward_tiles", "gradient_tiles"),
            *("forward_tile_words", "gradient_tile_words", "weight_tiles", "weight_tile_words"),
        )
    )


class Phase(ctypes.Structure):
    """A phase: its place in the stride, its taps, the pixels of the input that it holds, and where its tables start."""

    _fields_ = tuple(
        (name, _Integer)
        for name in (
            *("row", "column", "taps", "first_row", "row_count", "first_column", "column_count", "table", "tap_list"),
            "taps_before",
        )
    )


GEOMETRY, PHASE = np.dtype(Header), np.dtype(Phase)
#: Where the phases start, and the words of one.
FIRST_PHASE, PHASE_WORDS = GEOMETRY.itemsize // 8, PHASE.itemsize // 8


def header_of(words: NDArray[np.int64]) -> Any:
    """The `Header` of a geometry's words: a copy."""
    return Header.from_buffer_copy(words[:FIRST_PHASE].tobytes())


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

    @property
    def is_tiled(self) -> bool:
        """Whether the forward goes by Winograd's tiles."""
        return self._has_tiles(TILES_FORWARD)

    def backward_way(self, after: int) -> str:
        """How the backward goes: "sparse" behind pooling, where a filter has no gaps, else "tiled" or "direct"."""
        if after >= POOL and self.groups == 1 and self.dilation[1] == 1:
            return "sparse"
        return "tiled" if self._has_tiles(TILES_BACKWARD) else "direct"

    def scratch_shape(self, rows: int, backward: bool, n_threads: int) -> tuple[int, int]:
        """(n_threads, elements) of the kernels' working memory, whose borders must be zero when they start."""
        header = header_of(self.words)
        elements = header.packed + header.lines + header.planes_words
        if backward:
            elements += header.wide_sums + min(rows, header.images_a_pass) * header.slot - header.planes_words
            elements = max(elements, header.sparse_words)
        return n_threads, aligned(elements) + (
            header.gradient_tile_words + header.weight_tile_words if backward else header.forward_tile_words
        )

    def scratch(self, rows: int, backward: bool, dtype: Any, n_threads: int) -> NDArray[Any]:
        """Such memory, from a cache line's start on."""
        shape, itemsize = self.scratch_shape(rows, backward, n_threads), np.dtype(dtype).itemsize
        memory = np.zeros(math.prod(shape) + CACHE_LINE // itemsize, dtype)
        start = -memory.ctypes.data % CACHE_LINE // itemsize
        return memory[start : start + math.prod(shape)].reshape(shape)

    def partials(self, rows: int, dtype: Any) -> NDArray[Any]:
        """Memory for the partial sums of the gradients of weight and bias: one row a block of images."""
        blocks = -(-rows // BLOCK_ROWS)
        return np.empty((blocks, math.prod(self.weight_shape) + self.filters), dtype)

    def _has_tiles(self, fewest_channels: int) -> bool:
        """Whether `winograd` serves this convolution."""
        plain = (self.kernel, self.stride, self.dilation, self.groups) == ((3, 3), (1, 1), (1, 1), 1)
        large = min(self.channels, self.filters) >= fewest_channels and min(self.out_size) >= TILES_SIDE
        return plain and large and max(self.padding) <= 2

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

        header = Header(
            channels=self.channels,
            height=height,
            width=width,
            filters=self.filters,
            out_height=out_h,
            out_width=out_w,
            groups=groups,
            tap_count=len(taps),
            stride_h=stride_h,
            stride_w=stride_w,
            pad_h=self.padding[0],
            pad_w=self.padding[1],
            dilation_h=dilation_h,
            dilation_w=dilation_w,
            kernel_h=kernel_h,
            kernel_w=kernel_w,
            rows=rows,
            line=line,
            planes=self.channels * phases * rows * line,
            direct=direct,
            lead=lead,
            grad_plane=grad_plane,
        )
        tables: list[NDArray[np.int64]] = []

        def append(values: Any) -> int:
            start = FIRST_PHASE + phases * PHASE_WORDS + sum(map(len, tables))
            tables.append(np.asarray(values, np.int64))
            return start

        plane = rows * line
        table = [
            (c * phases + a * stride_w + b) * plane + shift
            for c in range(group_in)
            for (a, b), shift in zip(phase_of, shifts, strict=True)
        ]
        header.table = append(table + table[-1:] * TAPS)
        filter_tiles, channel_tiles = tile_heights(group_out), tile_heights(group_in)
        header.filter_tiles, header.channel_tiles = append([*filter_tiles, 0]), append([*channel_tiles, 0])
        header.filter_room, header.channel_room = sum(filter_tiles), sum(channel_tiles)
        records = (Phase * phases)()
        taps_before = covered = 0
        for number, phase in enumerate(records):
            a, b = divmod(number, stride_w)
            own = [t for t, place in enumerate(phase_of) if place == (a, b)]
            phase.row, phase.column, phase.taps = a, b, len(own)
            phase.first_row, phase.row_count = _held(a, stride_h, self.padding[0], height, rows)
            phase.first_column, phase.column_count = _held(b, stride_w, self.padding[1], width, line)
            phase.table = append([k * grad_plane - shifts[t] for k in range(group_out) for t in own])
            phase.tap_list = append(own)
            phase.taps_before = taps_before
            taps_before += len(own)
            covered += phase.row_count * phase.column_count if own else 0
        header.covered = covered == height * width
        header.pixels = append((line * np.arange(out_h)[:, None] + np.arange(out_w)).ravel())
        lanes = VECTOR_BYTES // 4  # of float64 there are fewer
        widest = max(vectors for _, vectors in TILES) * lanes
        header.pixel_line = (width + 2 * self.padding[1]) * self.channels
        header.pixel_words = aligned((height + 2 * self.padding[0]) * header.pixel_line + 2 * widest)
        pieces, pieces_of_8_bytes = (self._pieces(VECTOR_BYTES // itemsize, header.pixel_line) for itemsize in (4, 8))
        header.pieces, header.piece_count = append(pieces), len(pieces)
        header.pieces_of_8_bytes, header.piece_count_of_8_bytes = append(pieces_of_8_bytes), len(pieces_of_8_bytes)
        all_filters, all_channels = (-(-count // lanes) * lanes for count in (group_out, group_in))
        # Weights as tiles read them, and the sums' starts: for the forward, or for the gradient of the input.
        room = max(sum(filter_tiles), all_filters), max(sum(channel_tiles), all_channels)
        depth = max(room[0] * group_in, room[1] * group_out)
        header.packed = aligned(groups * (depth * len(taps) + sum(room)))
        # Lines of the tallest tile; or a plane and its places by pixels, or a gradient by pixels.
        header.lines = aligned(max(TILES[0][0] * (plane + widest), plane * lanes + out_h * out_w * lanes))
        by_pieces = lanes * header.piece_count, lanes // 2 * header.piece_count_of_8_bytes
        sums = groups * all_filters * group_in * len(taps), self.filters * max(by_pieces)
        header.wide_sums = aligned(max(sums))
        corners, bases = self._windows(line, header.pixel_line)
        header.corners, header.bases = append(corners), append(bases)
        # Sums, filters, two images, and a list of values and places.
        header.sparse_words = 2 * (header.wide_sums + header.pixel_words) + aligned(2 * len(corners))
        header.planes_words = 0 if direct else header.planes + lanes
        if self.is_tiled:
            forward, header.forward_tile_words = image_tiles(self.channels, self.filters, self.size, self.padding)
            header.forward_tiles = append(_words_of(forward))
        if self._has_tiles(TILES_BACKWARD):
            mirrored = (2 - self.padding[0], 2 - self.padding[1])
            gradient, header.gradient_tile_words = image_tiles(self.filters, self.channels, self.out_size, mirrored)
            weight, header.weight_tile_words = weight_tiles(self.channels, self.filters, self.out_size)
            header.gradient_tiles, header.weight_tiles = append(_words_of(gradient)), append(_words_of(weight))
        header.slot = header.planes_words + self.filters * grad_plane + lead + widest
        header.images_a_pass = min(BLOCK_ROWS, max(1, PASS_BYTES // (4 * header.slot)))
        return np.concatenate([_words_of(header), _words_of(records), *tables])


def _words_of(structure: Any) -> NDArray[np.int64]:
    return np.frombuffer(bytes(structure), np.int64)


def whole_pieces(count: int) -> int:
    """So many pieces, or as many more as make whole tiles of `gather_pieces`."""
    tall, middle, low = PIECE_TILES
    whole, rest = divmod(count, tall)
    return whole * tall + (0 if not rest else tall if rest > middle else middle if rest > low else low)


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
    h = header_of(w)
    settings = (h.stride_h, h.stride_w), (h.pad_h, h.pad_w), (h.dilation_h, h.dilation_w), h.groups
    x_shape = (elements // (h.channels * h.height * h.width), h.channels, h.height, h.width)
    return x_shape, (h.filters, h.channels // h.groups, h.kernel_h, h.kernel_w), settings


def geometry_of(
    x: NDArray[Any], weight: NDArray[Any], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Geometry:
    """That of a convolution of these arrays."""
    filters, _, kernel_h, kernel_w = weight.shape
    size, kernel_size = (x.shape[2], x.shape[3]), (kernel_h, kernel_w)
    return geometry(x.shape[1], size, filters, kernel_size, stride, padding, dilation, groups)
