"""exp, log, tanh and sigmoid that LLVM's loop vectoriser can vectorise.

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

from fastfnn_kernels._config import OPTIONS, helper
from fastfnn_kernels.simd import bits_of, float_of

#: Largest error in units in the last place over all arguments: measured, rounded up, checked by the tests.
MAX_ULP = {
    "exp": {"float32": 1.3, "float64": 1.4},
    "log": {"float32": 1.0, "float64": 1.4},
    "tanh": {"float32": 2.6, "float64": 2.6},
    "sigmoid": {"float32": 2.6, "float64": 3.2},
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


@helper
def _keep(x, bound):  # type: ignore[no-untyped-def]
    """`x`, which lies above `bound`. LLVM does not know that it does, and so cannot regroup a sum across this."""
    return max(bound, x)


def _build(
    real: type,
    integer: type,
    exp_range: tuple[float, float],
    tanh_end: float,
    ln2_parts: tuple[float, float],
    exp_polynomial: Callable[[Any], Any],
    log_polynomial: Callable[[Any], Any],
) -> dict[str, Callable[[Any], Any]]:
    """Compile the four functions for one type.

    Parameters
    ----------
    real, integer : type
        NumPy's float and integer types of one width.
    exp_range : tuple of float
        The exponential is 0 at the first (and below) and infinite at the second (and above).
    tanh_end : float
        The hyperbolic tangent is 1 from here on.
    ln2_parts : tuple of float
        ln(2) as a sum; the first part ends in so many zero bits that its product with an exponent is exact.
    exp_polynomial, log_polynomial : callable
        The compiled polynomials.
    """
    info = np.finfo(real)
    fraction_bits, bias, tiny = integer(info.nmant), np.int32(info.maxexp - 1), info.smallest_normal
    zero, half, one, two, infinity, nan = (real(v) for v in (0, 0.5, 1, 2, np.inf, np.nan))
    lowest, highest, tanh_top = real(exp_range[0]), real(exp_range[1]), real(tanh_end)
    log2_e = real(1.4426950408889634)
    ln2_high, ln2_low = real(ln2_parts[0]), real(ln2_parts[1])
    # Truncation rounds down what is positive: shift every exponent above 0, and half a step for "nearest".
    shift = np.int32(info.nmant - info.minexp + 8)
    shift_half = real(shift + 0.5)
    root_half_bits = np.sqrt(half).view(integer)
    fraction_mask = integer((1 << info.nmant) - 1)
    to_normal = real(2.0**info.nmant)

    @helper
    def reduce(x):  # type: ignore[no-untyped-def]
        """n and r with x = n ln(2) + r and |r| <= ln(2)/2, for `x` in `exp_range`."""
        n = np.int32(np.int32(x * log2_e + shift_half) - shift)
        k = real(n)
        return n, _keep(x - k * ln2_high, -half) - k * ln2_low

    @helper
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

    @helper
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

    @helper
    def tanh_(x):  # type: ignore[no-untyped-def]
        n, r = reduce(-two * min(tanh_top, abs(x)))
        power = float_of(integer(integer(np.int32(n + bias)) << fraction_bits))
        # t = exp(-2|x|) - 1 keeps its relative accuracy near 0
        t = power * (r + r * r * exp_polynomial(r)) + _keep(power - one, -two)
        y = t / (two + t)
        y = -y if x > zero else y
        return x if math.isnan(x) else y

    @helper
    def sigmoid_(x):  # type: ignore[no-untyped-def]
        e = exp_(-abs(x))
        return (one if x > zero else e) / (one + e)

    return {"exp": exp_, "log": log_, "tanh": tanh_, "sigmoid": sigmoid_}


_COMPILED = {
    types.float32: _build(
        np.float32,
        np.int32,
        (-104.0, 89.0),
        9.5,
        (0.693145751953125, 1.4286068203094173e-06),
        _exp_polynomial_32(),
        _log_polynomial_32(),
    ),
    types.float64: _build(
        np.float64,
        np.int64,
        (-746.0, 710.0),
        20.0,
        (0.6931471805598903, 5.497923018708371e-14),
        _exp_polynomial_64(),
        _log_polynomial_64(),
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


def _offer(function: Callable[[Any], Any]) -> None:
    """Make compiled code that calls `function` call the version for its argument's type."""

    @overload(function, jit_options=OPTIONS)  # type: ignore[arg-type]
    def choose(x):  # type: ignore[no-untyped-def]  # numba compares its signature with call's
        if x not in _COMPILED:
            return None
        compiled = _COMPILED[x][function.__name__]

        def call(x):  # type: ignore[no-untyped-def]
            return compiled(x)

        return call


for _function in (exp, log, tanh, sigmoid):
    _offer(_function)
