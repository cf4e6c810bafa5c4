"""Winograd's tiles: the transforms by themselves, what they cost in digits, and what they must not be used for."""

import numpy as np
import pytest

from fastfnn import functional as F
from fastfnn_kernels import _config, reference

if not _config.JIT:
    pytest.skip("there are no tiles without the JIT", allow_module_level=True)

from _tiles import COUNTS, DTYPES, UNTOUCHED, blank, guarded, lanes_of

from fastfnn_kernels import simd
from fastfnn_kernels.convolution import geometry as geometries
from fastfnn_kernels.simd import winograd

FILTERS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


@_config.driver
def transform_inputs(out, o0, ldo, x, x0, odd_row, line, odd_column, beside, count):
    simd.winograd_inputs(out, o0, ldo, x, x0, odd_row, line, odd_column, beside, count)


@_config.driver
def transform_gradients(out, o0, ldo, x, x0, odd_row, line, odd_column, beside, count):
    simd.winograd_gradients(out, o0, ldo, x, x0, odd_row, line, odd_column, beside, count)


@_config.driver
def pooled(m, m0, ldm, count, bias, lowest, out, o0, index, corners, c0, below):
    simd.winograd_pooled(m, m0, ldm, count, bias, lowest, out, o0, index, corners, c0, below)


@_config.driver
def rows(m, m0, ldm, count, bias, lowest, out, upper, lower, columns):
    simd.winograd_rows(m, m0, ldm, count, bias, lowest, out, upper, lower, columns)


@_config.driver
def split(out, first, second, x, x0, count):
    simd.split_row(out, first, second, x, x0, count)


def test_the_matrices_make_a_convolution_and_its_gradients(rng):
    """``y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A``, and what follows from it for g."""
    inputs, products, gradients = (np.array(m) for m in (winograd.INPUTS, winograd.PRODUCTS, winograd.GRADIENTS))
    np.testing.assert_array_equal(gradients, products.T)
    d, g = rng.normal(size=(1, 1, 4, 4)), rng.normal(size=(1, 1, 3, 3))
    transformed, grad_y = inputs @ d[0, 0] @ inputs.T, rng.normal(size=(1, 1, 2, 2))
    y = products @ ((FILTERS @ g[0, 0] @ FILTERS.T) * transformed) @ products.T
    np.testing.assert_allclose(y, reference.conv2d(d, g)[0, 0], 1e-13, 1e-13)
    grad_g = FILTERS.T @ ((gradients @ grad_y[0, 0] @ gradients.T) * transformed) @ FILTERS
    np.testing.assert_allclose(grad_g, reference.conv2d_backward(grad_y, d, g)[1][0, 0], 1e-13, 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("transform", "matrix"), [(transform_inputs, winograd.INPUTS), (transform_gradients, winograd.GRADIENTS)]
)
def test_tiles_are_transformed_from_wherever_their_elements_lie(transform, matrix, dtype, rng):
    """Whole vectors are written, so what lies in the next lanes is anything, but nothing behind them is touched."""
    lanes, side = lanes_of(dtype), len(matrix[0])
    for count in (count for count in COUNTS if count):
        o0, x0, odd_row, line, odd_column, beside = 3, 5, 409, 67, 211, 31
        whole = -(-count // lanes) * lanes
        ldo = whole + 2
        x = rng.normal(size=x0 + odd_row + line + odd_column + beside + whole).astype(dtype)
        out = blank(o0 + 16 * ldo, dtype)
        transform(out.array, o0, ldo, guarded(x), x0, odd_row, line, odd_column, beside, count)
        places = [
            [a % 2 * odd_row + a // 2 * line + b % 2 * odd_column + b // 2 * beside for b in range(side)]
            for a in range(side)
        ]
        tiles = x[x0 + np.array(places)[..., None] + np.arange(count)].astype(float)
        want = np.einsum("ia,abp,jb->ijp", matrix, tiles, matrix).reshape(16, count)
        got = out.array[o0:].reshape(16, ldo)
        np.testing.assert_allclose(got[:, :count], want, 0, 50 * np.finfo(dtype).eps, err_msg=f"{count} tiles")
        np.testing.assert_array_equal(got[:, whole:], UNTOUCHED)
        np.testing.assert_array_equal(out.array[:o0], UNTOUCHED)
        out.assert_untouched(f"{count} tiles")


def outputs_of(m, bias, lowest):
    """(2, 2, tiles) from products (16, tiles)."""
    tile, matrix = m.reshape(4, 4, -1).astype(float), np.array(winograd.PRODUCTS)
    # Sums of what counts alone: 0 * NaN would be NaN.
    half = [sum(sign * row for sign, row in zip(signs, tile, strict=True) if sign) for signs in matrix]
    values = [[sum(sign * row[j] for j, sign in enumerate(signs) if sign) for signs in matrix] for row in half]
    return np.maximum(np.array(values) + bias, lowest)


@pytest.mark.parametrize("lowest", [0, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_become_rows_of_outputs(dtype, lowest, rng):
    """An odd number of columns ends within a tile, and without a lower row it may be written over by the upper one."""
    for columns in (columns for columns in COUNTS if columns):
        tiles, m0, below = (columns + 1) // 2, 3, columns + 5
        m = rng.normal(size=(16, tiles + 1)).astype(dtype)
        flat = guarded(np.concatenate([np.zeros(m0, dtype), m.ravel()]))
        bias, floor = m.dtype.type(0.25), m.dtype.type(lowest)
        want = outputs_of(m[:, :tiles], 0.25, lowest)
        for lower in (below, 0):
            out = blank(2 * below, dtype)
            rows(flat, m0, tiles + 1, tiles, bias, floor, out.array, 0, lower, columns)
            expected = np.full(2 * below, UNTOUCHED, float)
            expected[lower : lower + columns] = want[1].T.ravel()[:columns]
            expected[:columns] = want[0].T.ravel()[:columns]
            np.testing.assert_allclose(out.array, expected, 0, 50 * np.finfo(dtype).eps, err_msg=f"{columns}, {lower}")
            out.assert_untouched(f"{columns} columns, lower row at {lower}")


@pytest.mark.parametrize("lowest", [0, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_become_maxima_and_their_places(dtype, lowest, rng):
    """Of equals the first, of NaN the last."""
    for count in COUNTS:
        # Values from few integers tie often; they are exact, so the twin decides as the kernel must.
        m = rng.integers(-1, 2, (16, count + 1)).astype(dtype)
        m[rng.integers(0, 16), rng.random(count + 1) < 0.1] = np.nan
        corners, c0, o0, below = rng.integers(0, 1000, count + 4), 4, 2, 77
        out, index = blank(o0 + count + 1, dtype), blank(o0 + count + 1, np.int32)
        bias, floor = m.dtype.type(0.5), m.dtype.type(lowest)
        arguments = (guarded(m.ravel()), 0, count + 1, count, bias, floor)
        pooled(*arguments, out.array, o0, index.array, guarded(corners), c0, below)
        best, place = np.full(count, -np.inf), np.zeros(count, int)
        values = outputs_of(m[:, :count], 0, -np.inf)
        for (u, v), offset in (((0, 0), 0), ((0, 1), 1), ((1, 0), below), ((1, 1), below + 1)):
            wins = (values[u, v] > best) | np.isnan(values[u, v]) if u or v else np.ones(count, bool)
            best, place = np.where(wins, values[u, v], best), np.where(wins, offset, place)
        np.testing.assert_array_equal(out.array[o0 : o0 + count], np.maximum(best + 0.5, lowest))
        np.testing.assert_array_equal(index.array[o0 : o0 + count], corners[c0:] + place)
        out.assert_untouched(f"{count} tiles")
        index.assert_untouched(f"{count} tiles")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_split_into_even_and_odd(dtype, rng):
    for count in COUNTS:
        x, first, second = rng.normal(size=2 + count).astype(dtype), 1, count + 4
        out = blank(2 * count + 6, dtype)
        split(out.array, first, second, guarded(x), 2, count)
        expected = np.full(out.array.size, UNTOUCHED, float)
        expected[first : first + (count + 1) // 2], expected[second : second + count // 2] = x[2::2], x[3::2]
        np.testing.assert_array_equal(out.array, expected, f"{count} numbers")
        out.assert_untouched(f"{count} numbers")


# The convolution ------------------------------------------------------------------------------------------------------


@pytest.fixture
def directly(monkeypatch):
    """What direct summation gives: `geometry` knows no tiles meanwhile."""

    def run(function, *arguments, **settings):
        with monkeypatch.context() as patch:
            patch.setattr(geometries, "TILES_FORWARD", 1 << 40)
            patch.setattr(geometries, "TILES_BACKWARD", 1 << 40)
            geometries.geometry.cache_clear()
            made = function(*arguments, **settings)
        geometries.geometry.cache_clear()
        return made

    return run


def draw(rng, dtype, images=5, channels=16, filters=17, side=9):
    x, weight = rng.normal(size=(images, channels, side, side)), rng.normal(size=(filters, channels, 3, 3))
    return x.astype(dtype), weight.astype(dtype), rng.normal(size=(images, filters, side, side)).astype(dtype)


def deviation(got, want):
    return np.sqrt(np.mean((got - want) ** 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [8, 16, 64])
def test_tiles_cost_no_digits(channels, dtype, directly, rng):
    """Their sums are shorter, so of normal numbers their error is no larger than that of direct summation."""
    x, weight, grad_out = draw(rng, dtype, 4, channels, 16, 12)
    arguments = (x, weight, None, 1, 1)
    want = reference.conv2d(*(array.astype("longdouble") for array in (x, weight)), padding=1)
    assert deviation(F.conv2d(*arguments), want) <= deviation(directly(F.conv2d, *arguments), want)
    arguments, want = (grad_out, x, weight, 1, 1), reference.conv2d_backward(grad_out, x, weight, padding=1)
    if dtype == "float32":  # the twin's own errors are those of float64
        tiled, direct = F.conv2d_backward(*arguments), directly(F.conv2d_backward, *arguments)
        for name, one, other, right in zip(("x", "weight"), tiled, direct, want, strict=False):
            assert deviation(one, right) <= 1.2 * deviation(other, right), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("place", ["image", "weight"])
def test_what_is_not_moderate_spreads_no_further_than_in_direct_summation(place, value, directly, rng):
    x, weight, grad_out = draw(rng, "float32")
    clean = F.conv2d(x, weight, padding=1)
    if place == "image":
        x[2, 3, 4, 5] = value
    else:
        weight[1, 2, 0, 2] = value
    got, want = (run(F.conv2d, x, weight, padding=1) for run in (lambda f, *a, **k: f(*a, **k), directly))
    touched = [2] if place == "image" else slice(None)
    np.testing.assert_array_equal(got[touched], want[touched])
    untouched = [0, 1, 3, 4] if place == "image" else []
    np.testing.assert_array_equal(got[untouched], clean[untouched])

    got, want = (
        run(F.conv2d_backward, grad_out, x, weight, padding=1) for run in (lambda f, *a, **k: f(*a, **k), directly)
    )
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_gradient_that_is_not_moderate_goes_the_direct_way(directly, rng):
    """In its block of images: another block's part is as before."""
    x, weight, grad_out = draw(rng, "float32", images=11)
    clean = F.conv2d_backward(grad_out, x, weight, padding=1)[0]
    grad_out[9, 0, 0, 0] = np.inf
    got, want = (
        F.conv2d_backward(grad_out, x, weight, padding=1)[0],
        directly(F.conv2d_backward, grad_out, x, weight, padding=1)[0],
    )
    np.testing.assert_array_equal(got[8:], want[8:])
    np.testing.assert_array_equal(got[:8], clean[:8])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_is_the_same_alone_and_among_others(dtype, rng):
    """Rows of tiles go through the products over the images' ends, for any number of threads."""
    x, weight, grad_out = draw(rng, dtype, images=19)
    together = F.conv2d(x, weight, padding=1, n_threads=1)
    for n in (0, 7, 18):
        assert F.conv2d(x[n : n + 1], weight, padding=1).tobytes() == together[n].tobytes()
    results = [F.conv2d_backward(grad_out, x, weight, padding=1, n_threads=n) for n in (1, 2, 3)]
    for one, two, three in zip(*results, strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()
    assert together.tobytes() == F.conv2d(x, weight, padding=1, n_threads=3).tobytes()
