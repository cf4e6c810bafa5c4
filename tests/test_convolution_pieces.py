"""Convolution along channels and over few places: its micro-kernels, called directly, within guard zones.

All numbers are small integers, whose sums are exact in any order: results must be equal, not near.
"""

import itertools

import numpy as np
import pytest

from fastfnn_kernels import _config

if not _config.JIT:
    pytest.skip("there are no vectors without the JIT", allow_module_level=True)

from _tiles import COUNTS, DTYPES, UNTOUCHED, blank, guarded, lanes_of

from fastfnn_kernels import simd
from fastfnn_kernels.convolution import sparse, wide
from fastfnn_kernels.convolution.geometry import PIECE_TILES, geometry, header_of

HEIGHTS = (wide.TALL, wide.MIDDLE, wide.LOW, 1)
TAP_ROWS = (wide.TAP_ROWS, wide.FEW_TAP_ROWS, 1)


def make_convolve(pixels):
    @_config.driver
    def convolve(out, o0, weight, w0, start, s0, x, x0, table, t0, depth):
        simd.convolve_wide_tile(pixels, out, o0, weight, w0, start, s0, x, x0, table, t0, depth)

    return convolve


def make_correlate(taps):
    @_config.driver
    def correlate(out, o0, g, g0, x, x0, table, t0, places, p0, pixels):
        simd.correlate_wide_tile(taps, out, o0, g, g0, x, x0, table, t0, places, p0, pixels)

    return correlate


def make_gather(pieces):
    @_config.driver
    def gather(out, o0, x, x0, table, t0, values, places, count):
        simd.gather_pieces(pieces, out, o0, x, x0, table, t0, values, places, count)

    return gather


def make_scatter(pieces):
    @_config.driver
    def scatter(out, o0, weight, w0, table, t0, values, places, count):
        simd.scatter_pieces(pieces, out, o0, weight, w0, table, t0, values, places, count)

    return scatter


def make_list(masked):
    @_config.driver
    def list_windows(values, places, grad, out, index, m0, corners, c0, bases, b0, count, line, below, beside):
        return simd.list_windows(
            masked, values, places, grad, out, index, m0, corners, c0, bases, b0, count, line, below, beside
        )

    return list_windows


@_config.driver
def turn(out, o0, ldo, x, x0, pixels, channels, lanes):
    wide.turn(out, o0, ldo, x, x0, pixels, channels, lanes)


@_config.driver
def to_pixels(pixels, p0, line, beside, x, x0, words):
    sparse.to_pixels(pixels, p0, line, beside, x, x0, words)


@_config.driver
def from_pixels(x, x0, pixels, words):
    sparse.from_pixels(x, x0, pixels, words)


def integers(rng, size, dtype):
    return rng.integers(-9, 10, size).astype(dtype)


def table_of(rng, lowest, count):
    """Shifts that go both ways; in front of them one that nothing may follow."""
    return np.concatenate([[10**9], rng.integers(lowest, 60, count)])


def assert_written(out, expected, where):
    """The whole array is as expected, also beside what was to be written, and nothing around it was touched."""
    np.testing.assert_array_equal(out.array, expected, where)
    out.assert_untouched(where)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixels", HEIGHTS)
def test_a_wide_tile_of_sums_over_shifted_pixels(pixels, dtype, rng):
    """Whatever the depth; the sum's start comes first, also where there is nothing to sum."""
    convolve, lanes = make_convolve(pixels), lanes_of(dtype)
    for depth in (0, 1, 2, 7, 32):
        o0, w0, s0, x0, t0 = 3, 5, 2, 40, 1
        weight, start = integers(rng, w0 + depth * lanes, dtype), integers(rng, s0 + lanes, dtype)
        x, table = integers(rng, x0 + 60 + pixels, dtype), table_of(rng, -x0, depth)
        out = blank(o0 + pixels * lanes + 2, dtype)
        arguments = (guarded(weight), w0, guarded(start), s0, guarded(x), x0, guarded(table), t0)
        convolve(out.array, o0, *arguments, depth)
        expected = np.full(out.array.size, UNTOUCHED, float)
        for i in range(pixels):
            channels = expected[o0 + i * lanes :][:lanes]
            channels[:] = start[s0:]
            for d in range(depth):
                channels += x[x0 + table[t0 + d] + i] * weight[w0 + d * lanes :][:lanes]
        assert_written(out, expected, f"depth {depth}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("taps", TAP_ROWS)
def test_a_wide_tile_of_products_is_added_to_what_is_there(taps, dtype, rng):
    """Pixels may come in any order, and the same one twice."""
    correlate, lanes = make_correlate(taps), lanes_of(dtype)
    for pixels in COUNTS:
        o0, g0, x0, t0, p0 = 3, 2, 40, 1, 4
        g, x = integers(rng, g0 + pixels * lanes, dtype), integers(rng, x0 + 60 + 50, dtype)
        table, places = table_of(rng, -x0, taps), rng.integers(0, 50, p0 + pixels)
        out = blank(o0 + taps * lanes + 2, dtype)
        expected = out.array.astype(float)
        arguments = (guarded(g), g0, guarded(x), x0, guarded(table), t0, guarded(places), p0)
        correlate(out.array, o0, *arguments, pixels)
        for i, p in np.ndindex(taps, pixels):
            channels = g[g0 + p * lanes :][:lanes]
            expected[o0 + i * lanes :][:lanes] += x[x0 + table[t0 + i] + places[p0 + p]] * channels
        assert_written(out, expected, f"{pixels} pixels")


#: How a list's places follow each other: anywhere, each a pixel or a window further so that what is written overlaps,
#: in pairs of equal ones, and all the same.
ORDERS = {
    "anywhere": lambda rng, count: rng.integers(-20, 40, count),
    "neighbours": lambda rng, count: np.arange(count),
    "windows": lambda rng, count: 2 * np.arange(count)[::-1],
    "pairs": lambda rng, count: np.arange(count) // 2,
    "halves": lambda rng, count: np.arange(count) % max(1, count // 2),
    "one": lambda rng, count: np.full(count, 5),
}
#: None, one, two, odd and even, many.
LISTS = (0, 1, 2, 3, 4, 5, 8, 31, 40)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pieces", PIECE_TILES)
def test_pieces_are_gathered(pieces, dtype, rng):
    gather, lanes = make_gather(pieces), lanes_of(dtype)
    for count, (name, order) in itertools.product(LISTS, ORDERS.items()):
        o0, x0, t0 = 3, 60, 1
        x, table = integers(rng, x0 + 60 + 80 + lanes, dtype), table_of(rng, -40, pieces)
        values, places = integers(rng, count, dtype), order(rng, count).astype(np.int32)
        out = blank(o0 + pieces * lanes + 2, dtype)
        expected = out.array.astype(float)
        gather(out.array, o0, guarded(x), x0, guarded(table), t0, guarded(values), guarded(places), count)
        for i, n in np.ndindex(pieces, count):
            expected[o0 + i * lanes :][:lanes] += values[n] * x[x0 + places[n] + table[t0 + i] :][:lanes]
        assert_written(out, expected, f"{count} places, {name}")


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pieces", PIECE_TILES)
def test_pieces_are_scattered(pieces, dtype, overlap, rng):
    """Nothing is lost where places, or the pieces of one place, overlap or are the same."""
    scatter, lanes = make_scatter(pieces), lanes_of(dtype)
    steps = np.array([0, 1, 0, 2, lanes - 1]) if overlap else np.array([lanes])
    for count, (name, order) in itertools.product(LISTS, ORDERS.items()):
        o0, w0, t0 = 30, 5, 1
        weight, table = integers(rng, w0 + pieces * lanes, dtype), np.resize(steps, 1 + pieces).cumsum()
        values, places = integers(rng, count, dtype), order(rng, count).astype(np.int32)
        out = blank(o0 + 80 + table[-1] + lanes, dtype)
        expected = out.array.astype(float)
        scatter(out.array, o0, guarded(weight), w0, guarded(table), t0, guarded(values), guarded(places), count)
        for n, i in np.ndindex(count, pieces):
            expected[o0 + places[n] + table[t0 + i] :][:lanes] += values[n] * weight[w0 + i * lanes :][:lanes]
        assert_written(out, expected, f"{count} places, {name}")


#: What a gradient is drawn from: anything, nothing that counts, and only what counts, which fills the list.
GRADIENTS = ((1.5, -2, 0, -0.0, np.nan, np.inf, 1e-40), (0, -0.0), (1.5, -2, np.nan))
#: What is positive is let through.
OUTPUTS = (1.5, -2, 0, -0.0, np.nan, np.inf, -np.inf, 1e-40)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
def test_what_pooling_leaves_is_listed(masked, dtype, rng):
    """NaN counts and -0.0 does not; every window has its largest in each of the four places, beside the others."""
    list_windows = make_list(masked)
    for count, gradients, line, shift in itertools.product(COUNTS, GRADIENTS, (2, 9), range(4)):
        m0, c0, b0, below, beside = 3, 2, 4, 1000, 7
        grad, out = (rng.choice(values, m0 + count).astype(dtype) for values in (gradients, OUTPUTS))
        corners, bases = rng.integers(0, 500, c0 + count), rng.integers(0, 500, b0 + count)
        row, column = np.divmod((np.arange(count) + shift) % 4, 2)
        index = np.full(m0 + count, -1, np.int32)
        index[m0:] = corners[c0:] + row * line + column
        values, places = blank(count, dtype), blank(count, np.int32)
        arguments = (guarded(grad), guarded(out), guarded(index), m0, guarded(corners), c0, guarded(bases), b0)
        found = list_windows(values.array, places.array, *arguments, count, line, below, beside)
        expected = [
            (grad[m0 + m], bases[b0 + m] + row[m] * below + column[m] * beside)
            for m in range(count)
            if grad[m0 + m] != 0 and (not masked or out[m0 + m] > 0)
        ]
        where = f"{count} windows of {gradients}, line {line}, shift {shift}"
        assert found == len(expected), where
        rest = [(UNTOUCHED, UNTOUCHED)] * (count - found)
        for written, elements in zip((values, places), np.reshape(expected + rest, (count, 2)).T, strict=True):
            assert_written(written, elements, where)


@pytest.mark.parametrize("dtype", [*DTYPES, "int32"])
def test_pixels_are_turned_to_planes(dtype, rng):
    """Bit for bit, also what are places and only pass for floats; lines of pixels may be longer than their channels."""
    real = np.float32 if dtype == "int32" else dtype
    for pixels, channels, more in itertools.product((0, 1, 3, 8, 17, 33), (1, 2, 6, 16, 21, 32), (0, 3)):
        o0, ldo, x0, lanes = 3, pixels + 2, 5, channels + more
        x = rng.integers(-(2**31), 2**31, x0 + pixels * lanes).astype(dtype)
        out = blank(o0 + channels * ldo, dtype)
        turn(out.array.view(real), o0, ldo, guarded(x).view(real), x0, pixels, channels, lanes)
        expected = np.full(out.array.size, UNTOUCHED, dtype)
        expected[o0:].reshape(channels, ldo)[:, :pixels] = x[x0:].reshape(pixels, lanes)[:, :channels].T
        assert_written(out, expected, f"{pixels} pixels, {channels} of {lanes} channels")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8, 15, 16, 17, 33])
def test_an_image_becomes_padded_rows_of_pixels_and_comes_back(channels, dtype, rng):
    """Without a word written in the padding, and without one read from it."""
    for size, padding in itertools.product(((3, 1), (2, 5), (1, 16), (3, 33)), ((0, 0), (1, 0), (2, 3))):
        words = geometry(channels, size, 1, (1, 1), (1, 1), padding, (1, 1), 1).words
        (height, width), (above, left), x0 = size, padding, 3
        x = integers(rng, x0 + channels * height * width, dtype)
        pixels = blank((height + 2 * above) * header_of(words).pixel_line, dtype)
        to_pixels(pixels.array, 0, (width + 2 * left) * channels, channels, guarded(x), x0, words)
        expected = np.full((height + 2 * above, width + 2 * left, channels), UNTOUCHED, dtype)
        inside = expected[above : above + height, left : left + width]
        inside[:] = x[x0:].reshape(channels, height, width).transpose(1, 2, 0)
        where = f"size {size}, padding {padding}"
        assert_written(pixels, expected.ravel(), where)
        p0, beside = 2, channels + 3  # pixels need not lie side by side
        apart = blank(p0 + expected.shape[0] * expected.shape[1] * beside, dtype)
        to_pixels(apart.array, p0, expected.shape[1] * beside, beside, guarded(x), x0, words)
        spread = np.full((*expected.shape[:2], beside), UNTOUCHED, dtype)
        spread[..., :channels] = expected
        assert_written(apart, [*[UNTOUCHED] * p0, *spread.ravel()], where)
        again = blank(x.size + 2, dtype)
        from_pixels(again.array, x0, guarded(pixels.array), words)
        assert_written(again, [*[UNTOUCHED] * x0, *x[x0:], UNTOUCHED, UNTOUCHED], where)
