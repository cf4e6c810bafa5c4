"""Convolution's micro-kernels, called directly: at every tile and every number of lanes, within guard zones."""

import itertools

import numpy as np
import pytest

from fastfnn_kernels import _config

if not _config.JIT:
    pytest.skip("there are no vectors without the JIT", allow_module_level=True)

from _tiles import COUNTS, DTYPES, UNTOUCHED, blank, guarded, lanes_of

from fastfnn_kernels import simd
from fastfnn_kernels.convolution.geometry import FEW_TAPS, TAPS, TILES


def make_convolve(rows, vectors):
    @_config.driver
    def convolve(out, o0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, columns):
        simd.convolve_tile(rows, vectors, out, o0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, columns)

    return convolve


def make_correlate(rows, taps):
    @_config.driver
    def correlate(out, o0, ldo, g, g0, g_row, g_image, x, x0, x_image, table, t0, length, images, adds, written):
        simd.correlate_tile(
            rows, taps, out, o0, ldo, g, g0, g_row, g_image, x, x0, x_image, table, t0, length, images, adds, written
        )

    return correlate


@_config.driver
def move(out, out0, x, x0, mask, count, lowest):
    simd.move_row(False, out, out0, x, x0, mask, count, lowest)


@_config.driver
def move_where_positive(out, out0, x, x0, mask, count, lowest):
    simd.move_row(True, out, out0, x, x0, mask, count, lowest)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "vectors"), sorted({*TILES, *((rows, 1) for rows, _ in TILES)}))
def test_a_tile_of_sums_over_shifted_lines(rows, vectors, dtype, rng):
    """Whole vectors and every part of the last; the sum's start comes first, also where there is nothing to sum."""
    convolve, lanes = make_convolve(rows, vectors), lanes_of(dtype)
    for depth, last in itertools.product((0, 1, 7), range(1, lanes + 1)):
        columns = (vectors - 1) * lanes + last
        o0, ldo, w0, s0, x0, t0 = 3, columns + 2, 5, 2, 40, 1
        weight, start = (rng.normal(size=size).astype(dtype) for size in (w0 + depth * rows, s0 + rows))
        table = np.concatenate([[10**9], rng.integers(-x0, 60, depth)])  # shifts go both ways
        x = rng.normal(size=x0 + 60 + columns).astype(dtype)
        out = blank(o0 + rows * ldo, dtype)
        arguments = (guarded(weight), w0, guarded(start), s0, guarded(x), x0, guarded(table), t0)
        convolve(out.array, o0, ldo, *arguments, depth, columns)
        expected = np.full((rows, ldo), UNTOUCHED, float)
        expected[:, :columns] = start[s0:, None]
        for d in range(depth):
            line = x[x0 + table[t0 + d] :][:columns].astype(float)
            expected[:, :columns] += np.outer(weight[w0 + d * rows :][:rows], line)
        where = f"depth {depth}, {columns} columns"
        np.testing.assert_array_equal(out.array[:o0], UNTOUCHED, where)
        tolerance = 20 * np.finfo(dtype).eps
        np.testing.assert_allclose(out.array[o0:].reshape(rows, ldo), expected, tolerance, tolerance, err_msg=where)
        np.testing.assert_array_equal(out.array[o0:].reshape(rows, ldo)[:, columns:], UNTOUCHED, where)
        out.assert_untouched(where)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("taps", sorted({TAPS, FEW_TAPS}))
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_tile_of_products_of_lines(rows, taps, dtype, rng):
    """Of any length and over any number of images; set or added to; as many taps written as are wanted."""
    correlate = make_correlate(rows, taps)
    for length, images, adds, written in itertools.product(COUNTS, (0, 1, 3), (0, 1), (1, taps)):
        o0, ldo, g0, x0, t0 = 3, taps + 1, 2, 25, 1
        g_row, g_image, x_image = length + 1, rows * (length + 1) + 3, length + 50
        g = rng.normal(size=g0 + max(1, images) * g_image).astype(dtype)
        x = rng.normal(size=x0 + max(1, images) * x_image).astype(dtype)
        table = np.concatenate([[10**9], rng.integers(-x0, 25, taps)])
        out = blank(o0 + rows * ldo, dtype)
        arguments = (guarded(g), g0, g_row, g_image, guarded(x), x0, x_image, guarded(table), t0)
        correlate(out.array, o0, ldo, *arguments, length, images, adds, written)
        expected = np.full((rows, ldo), UNTOUCHED, float)
        if not adds:
            expected[:, :written] = 0
        for n, i, j in np.ndindex(images, rows, written):
            left = g[g0 + n * g_image + i * g_row :][:length].astype(float)
            expected[i, j] += left @ x[x0 + n * x_image + table[t0 + j] :][:length]
        where = f"length {length}, {images} images, adds {adds}, written {written}"
        tolerance = (200 if adds else 20) * np.finfo(dtype).eps  # of sums of about 100
        got = out.array[o0:].reshape(rows, ldo)
        np.testing.assert_allclose(got, expected, 0, tolerance * (1 + np.sqrt(images * length)), err_msg=where)
        np.testing.assert_array_equal(got[:, written:], UNTOUCHED, where)
        np.testing.assert_array_equal(out.array[:o0], UNTOUCHED, where)
        out.assert_untouched(where)


@pytest.mark.parametrize("lowest", [0, -np.inf])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_moved_bounded_and_masked(dtype, masked, lowest, rng):
    """NaN stays NaN, but where the mask is NaN or not positive there is 0; nothing is written outside."""
    for count in COUNTS:
        out0, x0 = 3, 2
        x, mask = rng.normal(size=(2, x0 + count)).astype(dtype)
        for array in (x, mask):
            array[rng.random(array.size) < 0.2] = np.nan
            array[rng.random(array.size) < 0.2] = 0
            array[rng.random(array.size) < 0.1] = -np.inf
        out = blank(out0 + count + 2, dtype)
        run = move_where_positive if masked else move
        run(out.array, out0, guarded(x), x0, guarded(mask), count, x.dtype.type(lowest))
        value = np.where(mask > 0, x, 0) if masked else x
        expected = np.full(out.array.size, UNTOUCHED, float)
        expected[out0 : out0 + count] = np.maximum(value, lowest)[x0:]  # NumPy's maximum of NaN is NaN
        np.testing.assert_array_equal(out.array, expected, f"count {count}")
        out.assert_untouched(f"count {count}")
