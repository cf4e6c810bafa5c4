"""exp, log, tanh, sigmoid and erf that LLVM's loop vectoriser can vectorise.

numba has no vector math library: ``math.exp`` in a kernel is one library call an element. The functions here are
straight-line arithmetic, with selects instead of branches, so a plain loop that calls them becomes vector code on any
machine. Compiled code calls them with a float32 or a float64 and gets the same type back; an element's value does not
depend on whether it was computed in a vector or in a loop's tail.

The flag "reassoc" of our fast-math lets LLVM fold ``(x + magic) - magic`` into ``x``, and ``(x - n*high) - n*low`` into
``x - n*(high + low)``; it does, and exp is then wrong by up to 67 units in float32. So nothing here rounds with a
magic number (converting to an integer truncates instead), powers of two are built from bits, and `_keep` stands where
the order of a sum matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fastfnn_kernels._config import FORCED, forced, helper
from fastfnn_kernels.simd import bits_of, float_of

#: Largest error in units in the last place over all arguments: measured, rounded up, checked by the tests.
MAX_ULP = {
    "exp": {"float32": 1.3, "float64": 1.4},
    "log": {"float32": 1.0, "float64": 1.4},
    "tanh": {"float32": 2.6, "float64": 2.6},
    "sigmoid": {"float32": 2.6, "float64": 3.2},
    "negative_expm1": {"float32": 1.1, "float64": 1.2},
    "erf": {"float32": 1.2, "float64": 1.2},
}

# The polynomials are minimax fits (Remez, computed with 50 digits), lowest power first.

# (e^r - 1 - r) / r^2 for |r| <= ln(2)/2, degrees 4 and 9: errors 2^-28.2 and 2^-57.9 of e^r.
_EXP_32 = (0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.00836874544620514, 0.0013814540579915047)
_EXP_64 = (
    0.5000000000000011,
    0.1666666666666641,
    0.041666666666529725,
    0.00833333333349498,
    0.0013888888943760038,
    0.00019841269505766276,
    2.4801492949545636e-05,
    2.755758681094885e-06,
    2.7630306284524306e-07,
    2.5000016505255968e-08,
)
# (log((1 + s)/(1 - s)) - 2s) / s^3, in z = s^2 for 0 <= z <= 0.02944 (logarithms of sqrt(1/2) to sqrt(2)),
# degrees 2 and 6: errors 2^-30.2 and 2^-59.5 of the logarithm.
_LOG_32 = (0.6666677594184875, 0.3997754156589508, 0.29871731996536255)
_LOG_64 = (
    0.6666666666666734,
    0.39999999999414665,
    0.28571428742391014,
    0.22222198572805352,
    0.18183564347345887,
    0.15314049972355384,
    0.14795955850896528,
)
# erf(x) / x - 1 in x^2 for 0 <= x <= 1, degrees 6 and 11: errors 2^-29.6 and 2^-56.9 of erf.
_ERF_32 = (
    0.12837916572673,
    -0.3761262582430296,
    0.11283585148789106,
    -0.02685381192925081,
    0.005188327658039149,
    -0.0008010193279185208,
    7.85385994935249e-05,
)
_ERF_64 = (
    0.1283791670955126,
    -0.3761263890318352,
    0.11283791670944185,
    -0.026866170643111458,
    0.005223977606118393,
    -0.0008548325929310457,
    0.00012055293576777468,
    -1.4924712299609983e-05,
    1.6447131541262487e-06,
    -1.620631352519064e-07,
    1.3710979372067498e-08,
    -7.779466538474252e-10,
)
# (1 + 2x) exp(x^2) erfc(x) in t = (x - 3) / (x + 3) for 1 <= x <= 4 and 6, the form of Shepherd & Laframboise
# (Math. Comp. 36, 1981), degrees 5 and 12: errors 2^-30.7 and 2^-64.4 of erf.
_ERFC_32 = (
    1.2530286809240616,
    -0.13516434513175526,
    -0.043624523302699676,
    0.14685356005974173,
    -0.07859932829148217,
    0.11791479380924838,
)
_ERFC_64 = (
    1.2530080582697307,
    -0.13562110612463124,
    -0.04756229435735184,
    0.12964515863303067,
    -0.11927366371921268,
    0.06830803287564309,
    -0.02377041583647159,
    0.002530178296064724,
    0.0018925420629156882,
    -0.0007672085261324459,
    -7.689870803214459e-05,
    0.0001676458291961166,
    4.5413018110237235e-05,
)


# Kernel code computes with constants of its argument's type only: float32 * float64 would be float64.
def _exp_polynomial_32() -> Callable[[Any], Any]:
    c0, c1, c2, c3, c4 = (np.float32(c) for c in _EXP_32)
    return helper(lambda r: c0 + r * (c1 + r * (c2 + r * (c3 + r * c4))))


def _exp_polynomial_64() -> Callable[[Any], Any]:
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = (np.float64(c) for c in _EXP_64)
    return helper(
        lambda r: c0 + r * (c1 + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * (c8 + r * c9))))))))
    )


def _log_polynomial_32() -> Callable[[Any], Any]:
    c0, c1, c2 = (np.float32(c) for c in _LOG_32)
    return helper(lambda z: c0 + z * (c1 + z * c2))


def _log_polynomial_64() -> Callable[[Any], Any]:
    c0, c1, c2, c3, c4, c5, c6 = (np.float64(c) for c in _LOG_64)
    return helper(lambda z: c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * (c5 + z * c6))))))


def _erf_polynomial_32() -> Callable[[Any], Any]:
    c0, c1, c2, c3, c4, c5, c6 = (np.float32(c) for c in _ERF_32)
    return helper(lambda z: c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * (c5 + z * c6))))))


def _erf_polynomial_64() -> Callable[[Any], Any]:
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 = (np.float64(c) for c in _ERF_64)

    @helper
    def polynomial(z):  # type: ignore[no-untyped-def]
        high = c6 + z * (c7 + z * (c8 + z * (c9 + z * (c10 + z * c11))))
        return c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * (c5 + z * high)))))

    return polynomial


def _erfc_polynomial_32() -> Callable[[Any], Any]:
    c0, c1, c2, c3, c4, c5 = (np.float32(c) for c in _ERFC_32)
    return helper(lambda t: c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5)))))


def _erfc_polynomial_64() -> Callable[[Any], Any]:
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12 = (np.float64(c) for c in _ERFC_64)

    @helper
    def polynomial(t):  # type: ignore[no-untyped-def]
        high = c6 + t * (c7 + t * (c8 + t * (c9 + t * (c10 + t * (c11 + t * c12)))))
        return c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * (c5 + t * high)))))

    return polynomial


@helper
def _keep(x, bound):  # type: ignore[no-untyped-def]
    """`x`, which lies above `bound`. LLVM does not know that it does, and so cannot regroup a sum across this."""
    return max(bound, x)


def _build(
    real: type,
    integer: type,
    exp_range: tuple[float, float],
    tanh_end: float,
    erf_end: float,
    ln2_parts: tuple[float, float],
    exp_polynomial: Callable[[Any], Any],
    log_polynomial: Callable[[Any], Any],
    erf_polynomial: Callable[[Any], Any],
    erfc_polynomial: Callable[[Any], Any],
) -> dict[str, Callable[[Any], Any]]:
    """Compile the functions for one type.

    Parameters
    ----------
    real, integer : type
        NumPy's float and integer types of one width.
    exp_range : tuple of float
        The exponential is 0 at the first (and below) and infinite at the second (and above).
    tanh_end : float
        The hyperbolic tangent is 1 from here on.
    erf_end : float
        And erf from here.
    ln2_parts : tuple of float
        ln(2) as a sum; the first part ends in so many zero bits that its product with an exponent is exact.
    exp_polynomial, log_polynomial, erf_polynomial, erfc_polynomial : callable
        The compiled polynomials.
    """
    info = np.finfo(real)
    fraction_bits, bias, tiny = integer(info.nmant), np.int32(info.maxexp - 1), info.smallest_normal
    zero, half, one, two, three, infinity, nan = (real(v) for v in (0, 0.5, 1, 2, 3, np.inf, np.nan))
    lowest, highest, tanh_top, erf_top = real(exp_range[0]), real(exp_range[1]), real(tanh_end), real(erf_end)
    log2_e = real(1.4426950408889634)
    ln2_high, ln2_low = real(ln2_parts[0]), real(ln2_parts[1])
    # Truncation rounds down what is positive: shift every exponent above 0, and half a step for "nearest".
    shift = np.int32(info.nmant - info.minexp + 8)
    shift_half = real(shift + 0.5)
    root_half_bits = np.sqrt(half).view(integer)
    fraction_mask = integer((1 << info.nmant) - 1)
    to_normal = real(2.0**info.nmant)

    @forced
    def reduce(x):  # type: ignore[no-untyped-def]
        """n and r with x = n ln(2) + r and |r| <= ln(2)/2, for `x` in `exp_range`."""
        n = np.int32(np.int32(x * log2_e + shift_half) - shift)
        k = real(n)
        return n, _keep(x - k * ln2_high, -half) - k * ln2_low

    @forced
    def exp_(x):  # type: ignore[no-untyped-def]
        # min and max return their first argument where the second is NaN: no conversion to an integer may see it.
        bounded = min(highest, max(lowest, x))
        n, r = reduce(bounded)
        y = one + (r + r * r * exp_polynomial(r))
        # 2^n itself would overflow or vanish too early, so it comes in two halves.
        first = np.int32(n >> np.int32(1))
        second = integer(np.int32(n - first + bias))
        y = float_of(integer(bits_of(y) + (integer(first) << fraction_bits)))
        y *= float_of(integer(second << fraction_bits))
        return x if math.isnan(x) else y

    @forced
    def log_(x):  # type: ignore[no-untyped-def]
        subnormal = x < tiny
        bits = bits_of(x * to_normal if subnormal else x)
        # x = m 2^e with m from sqrt(1/2) to sqrt(2)
        offset = integer(bits - root_half_bits)
        e = np.int32(integer(offset >> fraction_bits))
        e = np.int32(e - np.int32(fraction_bits)) if subnormal else e
        m = float_of(integer((offset & fraction_mask) + root_half_bits))
        k = real(e)
        f = _keep(m - one, -half)
        s = f / (two + f)
        z = s * s
        # log(1 + f) = 2s + s^3 R(z) = f - s (f - z R(z))
        y = k * ln2_high + _keep(f - (s * (f - z * log_polynomial(z)) - k * ln2_low), -half)
        y = y if x < infinity else x
        y = y if x > zero else -infinity
        return y if x >= zero else nan

    @forced
    def expm1_between(x):  # type: ignore[no-untyped-def]
        """exp(x) - 1 for x from ``-2 tanh_end`` to 0, to full relative accuracy near 0."""
        n, r = reduce(x)
        power = float_of(integer(integer(np.int32(n + bias)) << fraction_bits))
        return power * (r + r * r * exp_polynomial(r)) + _keep(power - one, -two)

    @forced
    def negative_expm1_(x):  # type: ignore[no-untyped-def]
        y = expm1_between(max(-two * tanh_top, min(zero, x)))
        return x if math.isnan(x) else y

    @forced
    def tanh_(x):  # type: ignore[no-untyped-def]
        t = expm1_between(-two * min(tanh_top, abs(x)))
        y = t / (two + t)
        y = -y if x > zero else y
        return x if math.isnan(x) else y

    @forced
    def sigmoid_(x):  # type: ignore[no-untyped-def]
        e = exp_(-abs(x))
        return (one if x > zero else e) / (one + e)

    @forced
    def erf_(x):  # type: ignore[no-untyped-def]
        size = abs(x)
        near = x + x * erf_polynomial(x * x)
        z = min(erf_top, size)
        wide = one + two * z
        quotient = one / ((z + three) * wide)
        erfc = exp_(-(z * z)) * erfc_polynomial((z - three) * wide * quotient) * ((z + three) * quotient)
        far = one - erfc
        y = near if size < one else (far if x > zero else -far)
        return x if math.isnan(x) else y

    compiled = {"exp": exp_, "log": log_, "tanh": tanh_, "sigmoid": sigmoid_}
    return {**compiled, "negative_expm1": negative_expm1_, "erf": erf_}


_COMPILED = {
    types.float32: _build(
        np.float32,
        np.int32,
        (-104.0, 89.0),
        9.5,
        4.0,
        (0.693145751953125, 1.4286068203094173e-06),
        _exp_polynomial_32(),
        _log_polynomial_32(),
        _erf_polynomial_32(),
        _erfc_polynomial_32(),
    ),
    types.float64: _build(
        np.float64,
        np.int64,
        (-746.0, 710.0),
        20.0,
        6.0,
        (0.6931471805598903, 5.497923018708371e-14),
        _exp_polynomial_64(),
        _log_polynomial_64(),
        _erf_polynomial_64(),
        _erfc_polynomial_64(),
    ),
}


def exp(x: Any) -> Any:
    """e to the power of `x`.

    The error is at most 1.3 units in the last place for float32 and 1.4 for float64, subnormal results included. Too
    large an argument gives infinity, too small a one 0.
    """
    return np.exp(x)


def log(x: Any) -> Any:
    """Natural logarithm; -inf at 0 and NaN below.

    The error is at most 1.0 units in the last place for float32 and 1.4 for float64, subnormal arguments included.
    """
    return np.log(x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent.

    The error is at most 2.6 units in the last place for float32 and float64, also near 0.
    """
    return np.tanh(x)


def sigmoid(x: Any) -> Any:
    """Logistic function, ``1 / (1 + exp(-x))``, without overflow on either side.

    The error is at most 2.6 units in the last place for float32 and 3.2 for float64, also where the result is tiny.
    """
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def negative_expm1(x: Any) -> Any:
    """``exp(x) - 1`` where `x` is negative, else 0.

    The error is at most 1.1 units in the last place for float32 and 1.2 for float64, also near 0.
    """
    return np.expm1(np.minimum(x, 0))


def erf(x: Any) -> Any:
    """The error function, ``2/sqrt(π) ∫ exp(-t²) dt`` from 0 to `x`.

    The error is at most 1.2 units in the last place for float32 and float64, also near 0.
    """
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.asarray(x).dtype)


@helper
def log1p_of_unit(e: Any) -> Any:
    """log(1 + e) for e in [0, 1], to full relative precision: 2 artanh(s) with s = e / (2 + e) <= 1/3.

    The series Σ 2 s^(2k+1) / (2k+1) has error s^31 / 31 < 1e-16 relative to s after 15 terms.
    """
    one = type(e)(1)
    s = e / (e + one + one)
    square = s * s
    total = type(e)(0)
    for k in range(15, -1, -1):
        total = total * square + type(e)(2) / type(e)(2 * k + 1)
    return total * s


def _offer(function: Callable[[Any], Any]) -> None:
    """Make compiled code that calls `function` call the version for its argument's type."""

    @overload(function, jit_options=FORCED)  # type: ignore[arg-type]
    def choose(x):  # type: ignore[no-untyped-def]  # numba compares its signature with call's
        if x not in _COMPILED:
            return None
        compiled = _COMPILED[x][function.__name__]

        def call(x):  # type: ignore[no-untyped-def]
            return compiled(x)

        return call


for _function in (exp, log, tanh, sigmoid, negative_expm1, erf):
    _offer(_function)
