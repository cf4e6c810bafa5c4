"""exp, log, tanh, sigmoid, expm1 and erf of `vecmath`: accuracy over the whole range, special values, vectorisation."""

from __future__ import annotations

import decimal
import math
import platform
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numba
import numpy as np
import pytest

from fastfnn_kernels import _config

if not _config.JIT:
    pytest.skip("vecmath exists for compiled code only", allow_module_level=True)

from fastfnn_kernels import vecmath

NAMES = sorted(vecmath.MAX_ULP)
DTYPES = ["float32", "float64"]


def _compile(function: Callable[[Any], Any]) -> tuple[Any, Any]:
    @numba.njit(**_config.OPTIONS)
    def scalar(x):  # type: ignore[no-untyped-def]
        return function(x)

    @numba.njit(**_config.OPTIONS)
    def loop(out, x):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            out[i] = function(x[i])

    return scalar, loop


SCALAR = {}
LOOP = {}
for _name in NAMES:
    SCALAR[_name], LOOP[_name] = _compile(getattr(vecmath, _name))


def in_loop(name: str, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    LOOP[name](out, x)
    return out


def one_by_one(name: str, x: np.ndarray) -> np.ndarray:
    return np.array([SCALAR[name](element) for element in x], x.dtype)


def reference(name: str, x: np.ndarray) -> np.ndarray:
    """In float64, so exact enough for float32 arguments only."""
    with np.errstate(all="ignore"):
        x = x.astype(np.float64)
        if name == "sigmoid":
            return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
        if name == "negative_expm1":
            return np.expm1(np.minimum(x, 0))
        if name == "erf":
            return np.vectorize(math.erf, otypes=[np.float64])(x)
        return getattr(np, name)(x)


def exact(name: str, x: float) -> Decimal:
    """To 50 digits."""
    value = Decimal(x)
    if name == "exp":
        return value.exp()
    if name == "log":
        return value.ln()
    if name == "erf":
        return exact_erf(value)
    if name == "negative_expm1":
        negative = min(value, Decimal(0))
        return negative + negative**2 / 2 if x > -1e-12 else negative.exp() - 1
    e = (-abs(value)).exp()
    if name == "sigmoid":
        return (1 if x > 0 else e) / (1 + e)
    if abs(x) < 1e-12:  # the formula below would lose the digits
        return value - value**3 / 3
    return (1 - e * e) / (1 + e * e) * (1 if x > 0 else -1)


def exact_erf(x: Decimal) -> Decimal:
    """``2/sqrt(π) Σ (-1)^n x^(2n+1) / (n! (2n+1))``; its largest term, exp(36) for |x| = 6, costs 16 of 50 digits."""
    if abs(x) > 7:  # 1 - erf is below 1e-22
        return Decimal(1).copy_sign(x)
    term, total, n = x, x, 0
    while abs(term) > abs(total) * Decimal("1e-25"):
        n += 1
        term *= -x * x / n
        total += term / (2 * n + 1)
    return total * 2 / Decimal("3.14159265358979323846264338327950288419716939937510582").sqrt()


def assert_close_32(name: str, got: np.ndarray, x: np.ndarray) -> None:
    """`got` is within the stated error of the reference; infinities and NaN are where they belong."""
    assert got.dtype == np.float32
    want = reference(name, x)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = want.astype(np.float32)
        finite = np.isfinite(rounded)
        exponent = np.maximum(np.frexp(want[finite])[1] - 1, np.finfo(np.float32).minexp)
        error = np.abs(got[finite] - want[finite]) / np.ldexp(1.0, exponent - np.finfo(np.float32).nmant)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    worst = np.argmax(error)  # NaN counts as the largest
    assert error[worst] <= vecmath.MAX_ULP[name]["float32"], f"{error[worst]} ulp at x = {x[finite][worst]!r}"


def neighbours(*places: float) -> np.ndarray:
    """The 2001 float32 numbers around each place, which is not 0, and around its negative."""
    bits = np.array(places, np.float32).view(np.int32)[:, None] + np.arange(-1000, 1001, dtype=np.int32)
    near = bits.view(np.float32).ravel()
    return np.concatenate([near, -near])


def border_values() -> np.ndarray:
    """float32 numbers near 0, subnormal, near 1, and where results begin to overflow, vanish or round to 1."""
    subnormal = np.arange(0, 2000, dtype=np.int32).view(np.float32)
    near = neighbours(1.2e-38, 2.0**-24, math.log(2) / 2, math.sqrt(0.5), 1, math.sqrt(2), 9.01, 87.34, 88.72, 103.97)
    return np.concatenate([subnormal, -subnormal, near, np.linspace(-2, 2, 100_001, dtype=np.float32)])


@pytest.mark.parametrize("name", NAMES)
def test_float32_over_all_bit_patterns(name: str) -> None:
    x = np.arange(0, 2**32, 1009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    assert_close_32(name, in_loop(name, x), x)


@pytest.mark.parametrize("name", NAMES)
def test_float32_at_the_borders(name: str) -> None:
    x = border_values()
    assert_close_32(name, in_loop(name, x), x)


@pytest.mark.parametrize("name", NAMES)
def test_float32_one_by_one(name: str) -> None:
    patterns = np.arange(0, 2**32, 1_000_003, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([patterns, border_values()[::17]])
    assert_close_32(name, one_by_one(name, x), x)


def values_64(name: str) -> np.ndarray:
    """Finite float64 arguments with finite results."""
    rng = np.random.default_rng(0)
    spans = [(-1e-3, 1e-3), (-1, 1), (-6, 6), (-40, 40), (-745, 709.7)]
    sign_and_size = rng.choice([-1, 1], 300) * 10.0 ** rng.uniform(-320, 0, 300)
    x = np.concatenate([rng.uniform(low, high, 300) for low, high in spans] + [sign_and_size])
    if name != "log":
        return x
    near_one = 1 + rng.choice([-1, 1], 300) * 10.0 ** rng.uniform(-16, -1, 300)
    x = np.concatenate([np.abs(x), 10.0 ** rng.uniform(-320, 308, 300), near_one, rng.uniform(0.5, 1.5, 600)])
    return x[x > 0]


@pytest.mark.parametrize("run", [in_loop, one_by_one])
@pytest.mark.parametrize("name", NAMES)
def test_float64(name: str, run: Callable[[str, np.ndarray], np.ndarray]) -> None:
    x = values_64(name)
    got = run(name, x)
    assert got.dtype == np.float64
    with decimal.localcontext() as context:
        context.prec = 50
        for argument, result in zip(x.tolist(), got.tolist(), strict=True):
            want = exact(name, argument)
            error = abs(Decimal(result) - want) / Decimal(math.ulp(float(want)))
            assert error <= Decimal(vecmath.MAX_ULP[name]["float64"]), f"{error:.3f} ulp at x = {argument!r}"


SPECIAL = {
    "exp": [(-np.inf, 0), (np.inf, np.inf), (0.0, 1), (-0.0, 1), (800, np.inf), (-800, 0), (1e30, np.inf), (-1e30, 0)],
    "log": [
        (0.0, -np.inf),
        (-0.0, -np.inf),
        (-1, np.nan),
        (-1e-40, np.nan),
        (-np.inf, np.nan),
        (np.inf, np.inf),
        (1, 0),
    ],
    "tanh": [(-np.inf, -1), (np.inf, 1), (0.0, 0), (-0.0, 0), (30, 1), (-30, -1), (1e30, 1), (1e-40, 1e-40)],
    "negative_expm1": [(-np.inf, -1), (np.inf, 0), (0.0, 0), (-0.0, 0), (-1e4, -1), (1e4, 0), (-1e-40, -1e-40)],
    "erf": [(-np.inf, -1), (np.inf, 1), (0.0, 0), (-0.0, 0), (30, 1), (-30, -1), (1e30, 1)],
    "sigmoid": [(-np.inf, 0), (np.inf, 1), (0.0, 0.5), (-0.0, 0.5), (1e4, 1), (-1e4, 0), (1e-40, 0.5)],
}


@pytest.mark.parametrize("run", [in_loop, one_by_one])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name: str, dtype: str, run: Callable[[str, np.ndarray], np.ndarray]) -> None:
    pairs = [*SPECIAL[name], (np.nan, np.nan)]
    # repeated, so that they also stand in vectors with their own kind
    x, want = (np.repeat(np.array(column, dtype), 16) for column in zip(*pairs, strict=True))
    np.testing.assert_array_equal(run(name, x), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_result_does_not_depend_on_its_place_in_the_loop(name: str, dtype: str) -> None:
    """Threads get slices of any length, and results must not depend on how many threads there are."""
    x = np.random.default_rng(0).uniform(0.01, 9, 300).astype(dtype)
    x = -x if name == "negative_expm1" else x
    whole = in_loop(name, x)
    np.testing.assert_array_equal(one_by_one(name, x), whole)
    for length in range(1, 80):
        np.testing.assert_array_equal(in_loop(name, x[5 : 5 + length]), whole[5 : 5 + length])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_usable_outside_compiled_code(name: str, dtype: str) -> None:
    x = np.linspace(0.1, 5, 20).astype(dtype)
    got = getattr(vecmath, name)(x)
    assert got.dtype == x.dtype
    np.testing.assert_allclose(got, in_loop(name, x), rtol=8 * float(np.finfo(dtype).eps))


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly")
@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "ps"), ("float64", "pd")])
@pytest.mark.parametrize("name", NAMES)
def test_the_loop_is_vectorised(name: str, dtype: str, suffix: str) -> None:
    in_loop(name, np.ones(4, dtype))
    assembly = next(text for types, text in LOOP[name].inspect_asm().items() if str(types[0].dtype) == dtype)
    packed = re.findall(rf"\b(?:v?mul|vf\w*madd\d+){suffix}\b", assembly)
    assert len(packed) >= 5
