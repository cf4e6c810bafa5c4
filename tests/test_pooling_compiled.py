"""Pooling, compiled: rows of 2×2 windows as explicit vectors, and the operations of compiled programs."""

import itertools

import numpy as np
import pytest

from fastfnn_kernels import _config

if not _config.JIT:
    pytest.skip("there are no vectors without the JIT", allow_module_level=True)

from _helpers import READ_SENTINEL, WRITE_SENTINEL, Guarded
from _operations import run_operation

from fastfnn_kernels import pool, simd
from fastfnn_kernels.program import Place

DTYPES = ("float32", "float64")
#: None, one, and both sides of one and two vectors of any width.
COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 14, 15, 16, 17, 31, 32, 33)


@_config.driver
def pool_row(out, out0, index, index0, x, x0, ldx, count, position, bias, lowest):
    simd.pool_row_2x2(out, out0, index, index0, x, x0, ldx, count, position, bias, lowest)


@_config.driver
def spread_row(grad_x, x0, ldx, grad, out, g0, index, count, position):
    simd.spread_row_2x2(False, grad_x, x0, ldx, grad, out, g0, index, count, position)


@_config.driver
def spread_row_where_positive(grad_x, x0, ldx, grad, out, g0, index, count, position):
    simd.spread_row_2x2(True, grad_x, x0, ldx, grad, out, g0, index, count, position)


def two_rows(rng, count, ldx, dtype):
    """Two rows of small integers, so that ties abound, with a NaN and a -inf here and there; a large number between."""
    x = rng.integers(-3, 4, ldx + 2 * count).astype(dtype)
    x[rng.random(x.size) < 0.05] = np.nan
    x[rng.random(x.size) < 0.05] = -np.inf
    x[2 * count : ldx] = 1e9
    return x


def largest_of_windows(x, count, ldx):
    """The value and the place, from the upper row's start, of each window's largest."""
    values, places = np.empty(count), np.empty(count, int)
    for j in range(count):
        for place in (2 * j, 2 * j + 1, 2 * j + ldx, 2 * j + ldx + 1):
            if place == 2 * j or x[place] > values[j] or np.isnan(x[place]):
                values[j], places[j] = x[place], place
    return values, places


def guarded_input(x):
    return Guarded(x, READ_SENTINEL).array


@pytest.mark.parametrize("lowest", [0, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_maxima(dtype, lowest, rng):
    """Of equals the first, NaN before all else, then bias and bound; nothing is written outside."""
    for count, more in itertools.product(COUNTS, (0, 1, 6)):
        ldx = 2 * count + more
        x = two_rows(rng, count, ldx, dtype)
        out, index = Guarded(np.empty(count, dtype), WRITE_SENTINEL), Guarded(np.empty(count, "int32"), WRITE_SENTINEL)
        bias, bound = x.dtype.type(0.5), x.dtype.type(lowest)
        pool_row(out.array, 0, index.array, 0, guarded_input(x), 0, ldx, count, 1000, bias, bound)
        values, places = largest_of_windows(x, count, ldx)
        np.testing.assert_array_equal(out.array, np.maximum(values + 0.5, lowest))
        np.testing.assert_array_equal(index.array, 1000 + places)
        for zone in (out, index):
            zone.assert_untouched(f"count {count}, ldx {ldx}")


def test_offsets_count_elements(rng):
    x, out, index = rng.normal(size=40).astype("float32"), np.zeros(9, "float32"), np.zeros(9, "int32")
    pool_row(out, 2, index, 3, x, 5, 9, 4, 0, x.dtype.type(0), x.dtype.type(-np.inf))
    values, places = largest_of_windows(x[5:], 4, 9)
    np.testing.assert_array_equal(out, [0, 0, *values.astype("float32"), 0, 0, 0])
    np.testing.assert_array_equal(index, [0, 0, 0, *places, 0, 0])
    grad_x, grad = np.ones(40, "float32"), rng.normal(size=9).astype("float32")
    spread_row(grad_x, 5, 9, grad, grad, 3, index, 4, 0)
    expected = np.ones(40, "float32")
    expected[5:13] = expected[14:22] = 0
    expected[5 + places] = grad[3:7]
    np.testing.assert_array_equal(grad_x, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_gradients(dtype, masked, rng):
    """At the place of the maximum and 0 beside it, also where the output is not positive; nothing outside."""
    for count, more in itertools.product(COUNTS, (0, 1, 6)):
        ldx = 2 * count + more
        _, places = largest_of_windows(two_rows(rng, count, ldx, dtype), count, ldx)
        grad, out = rng.normal(size=count).astype(dtype), rng.integers(-1, 2, count).astype(dtype)
        out[rng.random(count) < 0.1] = np.nan
        grad_x = Guarded(np.full(ldx + 2 * count, 77, dtype), WRITE_SENTINEL)
        index = guarded_input((1000 + places).astype("int32"))
        spread = spread_row_where_positive if masked else spread_row
        spread(grad_x.array, 0, ldx, guarded_input(grad), guarded_input(out), 0, index, count, 1000)
        expected = np.zeros(ldx + 2 * count)
        expected[places] = np.where(out > 0, grad, 0) if masked else grad
        expected[2 * count : ldx] = 77
        np.testing.assert_array_equal(grad_x.array, expected)
        grad_x.assert_untouched(f"count {count}, ldx {ldx}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [(2, 2, 0, 1), (3, 2, 1, 1)])
def test_an_operation_does_its_threads_rows_as_the_kernel_does(kind, dtype, rng):
    sizes = (7, 9, *((side + 2 * kind[2] - kind[0]) // kind[1] + 1 for side in (7, 9)), *np.repeat(kind, 2).tolist())
    rows, channels, first, last = 5, 3, 1, 4
    images = {"channels": channels, "height": 7, "width": 9}
    windows = {"channels": channels, **dict(zip(pool.SIZES, sizes, strict=True))}
    x = rng.normal(size=(rows, channels, 7, 9)).astype(dtype)
    grad = rng.normal(size=(rows, channels, *sizes[2:4])).astype(dtype)
    small = grad[:, :, 0, 0].copy()

    def run(name, **fields):
        run_operation(name, dtype, [Place(first=first, last=last)], rows, **fields)

    def check(got, expected):
        np.testing.assert_array_equal(got[first:last], expected[first:last])
        np.testing.assert_array_equal(got[[0, -1]], 77)

    blank = lambda like, kind=dtype: np.full(like.shape, 77, kind)  # noqa: E731
    out, index, out_kernel, index_kernel = blank(grad), blank(grad, "int32"), blank(grad), blank(grad, "int32")
    pool.max_pool2d(out_kernel, index_kernel, x, sizes)
    run("max_pool2d", out=out, index=index, x=x, **windows)
    check(out, out_kernel)
    check(index, index_kernel)
    grad_x, grad_kernel = blank(x), blank(x)
    pool.max_pool2d_backward(grad_kernel, grad, index_kernel, sizes)
    run("max_pool2d_backward", grad_x=grad_x, grad_out=grad, index=index_kernel, **windows)
    check(grad_x, grad_kernel)
    for counts in (True, False):
        out, grad_x = blank(grad), blank(x)
        pool.avg_pool2d(out_kernel, x, sizes, counts)
        run("avg_pool2d", out=out, x=x, count_include_pad=counts, **windows)
        check(out, out_kernel)
        pool.avg_pool2d_backward(grad_kernel, grad, sizes, counts)
        run("avg_pool2d_backward", grad_x=grad_x, grad_out=grad, count_include_pad=counts, **windows)
        check(grad_x, grad_kernel)
    out, grad_x, out_kernel = blank(small), blank(x), blank(small)
    pool.global_avg_pool2d(out_kernel, x)
    run("global_avg_pool2d", out=out, x=x, **images)
    check(out, out_kernel)
    pool.global_avg_pool2d_backward(grad_kernel, small, x.shape)
    run("global_avg_pool2d_backward", grad_x=grad_x, grad_out=small, **images)
    check(grad_x, grad_kernel)
