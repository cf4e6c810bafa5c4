"""Softmax of a few short rows side by side."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

from fastfnn_kernels.simd._emit import I64, Emit, intrinsic, pointer_to


def make_softmax_rows(constants: dict[int, tuple[float, tuple[float, float], tuple[float, ...]]]) -> Any:
    """Make the intrinsic ``softmax_rows(rows, out, out0, x, x0, count, scale, addend, largest, total, at)``.

    `rows` (a literal) consecutive rows of ``count >= 1`` elements each; with x and out the elements of row i::

        largest[at + i] = max(x)
        total[at + i] = sum of exp(x - max(x))
        out = scale * exp(x - max(x)) / total[at + i] + addend

    A NaN in `x` makes the total and the row of `out` NaN. `out` and `x` must not overlap.

    The rows go through every step side by side: one row is a single chain of dependent instructions, too long for the
    processor to look past it to the next row. A row's last vector, whole or masked, stays in a register until it is
    written, once: a load that overlaps a masked store waits until the store has reached the cache, and a masked
    vector of one row overlaps the next row. Where a row fits into one vector, that is all of it.

    The exponential is that of `vecmath` without its care for large arguments and subnormal results: no argument is
    positive, and small results are 0. numba gives these instructions, too, the flags of our fast-math, hence `keep`.

    Parameters
    ----------
    constants : dict
        For types of 32 and of 64 bits: the argument below which the exponential is 0 (that of a normal number), ln(2)
        as a sum of two, and the coefficients of ``(e^r - 1 - r) / r^2``.
    """

    @intrinsic(prefer_literal=True)
    def softmax_rows(typing, rows, out, out0, x, x0, count, scale, addend, largest, total, at):  # type: ignore[no-untyped-def]
        integer, real = types.intp, out.dtype
        signature = types.void(rows, out, integer, x, integer, integer, real, real, largest, total, integer)

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            _, out, out0, x, x0, count, scale, addend, largest, total, at = args
            emit = Emit(context, builder, real)
            out = pointer_to(context, builder, signature.args[1], out, out0)
            x = pointer_to(context, builder, signature.args[3], x, x0)
            largest = pointer_to(context, builder, signature.args[8], largest, at)
            total = pointer_to(context, builder, signature.args[9], total, at)
            tile = range(signature.args[0].literal_value)
            x_rows = [builder.gep(x, [builder.mul(count, I64(i))]) for i in tile]
            out_rows = [builder.gep(out, [builder.mul(count, I64(i))]) for i in tile]

            smallest, (ln2_high, ln2_low), coefficients = constants[real.bitwidth]
            fraction_bits, bias = (23, 127) if real.bitwidth == 32 else (52, 1023)
            integers = ir.VectorType(ir.IntType(real.bitwidth), emit.lanes)
            infinite, lowest = emit.constant(-math.inf), emit.constant(smallest)
            log2_e, high, low = (emit.constant(c) for c in (1 / math.log(2), -ln2_high, -ln2_low))
            rounder, least_sum = (emit.constant(1.5 * 2.0**fraction_bits + c) for c in (bias, 8))
            to_exponent = ir.Constant(integers, [fraction_bits] * emit.lanes)

            def larger(a: Any, b: Any) -> Any:
                """`b` where `a` is NaN."""
                return builder.select(builder.fcmp_ordered(">", a, b), a, b)

            def keep(value: Any, bound: Any) -> Any:
                """`value`, which lies above `bound` or is NaN: LLVM cannot regroup a sum across this."""
                return builder.select(builder.fcmp_ordered(">", bound, value), bound, value)

            def exp(xs: list[Any]) -> list[Any]:
                # x = n ln(2) + r. So large a number as the rounder has no fraction bits: adding it rounds to an
                # integer, which the sum's lowest bits then hold, 2^n's exponent. Too small an x gives
                # some small normal number; a subnormal would cost a hundred cycles, though nobody uses it.
                sums = [keep(emit.multiply_add(x, log2_e, rounder), least_sum) for x in xs]
                ns = [builder.fsub(sum_, rounder) for sum_ in sums]
                rs = [keep(emit.multiply_add(n, high, x), emit.constant(-0.5)) for n, x in zip(ns, xs, strict=True)]
                rs = [emit.multiply_add(n, low, r) for n, r in zip(ns, rs, strict=True)]
                ys = [emit.constant(coefficients[-1])] * len(xs)
                for coefficient in (*coefficients[-2::-1], 1.0, 1.0):
                    ys = [emit.multiply_add(y, r, emit.constant(coefficient)) for y, r in zip(ys, rs, strict=True)]
                powers = [builder.shl(builder.bitcast(sum_, integers), to_exponent) for sum_ in sums]
                ys = [builder.fmul(y, builder.bitcast(p, emit.vector)) for y, p in zip(ys, powers, strict=True)]
                small = [builder.fcmp_ordered("<", x, lowest) for x in xs]
                return [builder.select(is_small, emit.zero(), y) for is_small, y in zip(small, ys, strict=True)]

            # The last vector has between one element and all of them.
            last = builder.and_(builder.sub(count, I64(1)), I64(-emit.lanes))
            mask = emit.first_lanes(builder.sub(count, last))

            def other_vectors() -> Any:
                return cgutils.for_range_slice(builder, I64(0), last, I64(emit.lanes))

            last_x = [emit.load(builder.gep(row, [last]), mask, infinite) for row in x_rows]
            # Accumulators live in "memory" that LLVM turns into registers.
            accumulators = [cgutils.alloca_once_value(builder, larger(value, infinite)) for value in last_x]
            with other_vectors() as (j, _):
                for row, accumulator in zip(x_rows, accumulators, strict=True):
                    value = emit.load(builder.gep(row, [j]))
                    builder.store(larger(value, builder.load(accumulator)), accumulator)
            maxima = [emit.reduce(larger, builder.load(accumulator)) for accumulator in accumulators]
            shifts = [emit.broadcast(maximum) for maximum in maxima]

            last_y = exp([builder.fsub(value, shift) for value, shift in zip(last_x, shifts, strict=True)])
            for y, accumulator in zip(last_y, accumulators, strict=True):
                builder.store(y, accumulator)
            with other_vectors() as (j, _):
                ys = exp([builder.fsub(emit.load(builder.gep(x_rows[i], [j])), shifts[i]) for i in tile])
                for i in tile:
                    emit.store(ys[i], builder.gep(out_rows[i], [j]))
                    builder.store(builder.fadd(builder.load(accumulators[i]), ys[i]), accumulators[i])
            totals = [emit.reduce(builder.fadd, builder.load(accumulator)) for accumulator in accumulators]

            factors, addend = [emit.broadcast(builder.fdiv(scale, t)) for t in totals], emit.broadcast(addend)
            with other_vectors() as (j, _):
                for i in tile:
                    target = builder.gep(out_rows[i], [j])
                    emit.store(emit.multiply_add(emit.load(target), factors[i], addend), target)
            for i in tile:
                target = builder.gep(out_rows[i], [last])
                emit.store(emit.multiply_add(last_y[i], factors[i], addend), target, mask)
                builder.store(maxima[i], builder.gep(largest, [I64(i)]))
                builder.store(totals[i], builder.gep(total, [I64(i)]))
            return context.get_dummy_value()

        return signature, codegen

    return softmax_rows


@intrinsic(prefer_literal=True)
def stack_array(typing, like, count):  # type: ignore[no-untyped-def]
    """`count` (a literal) uninitialised elements of `like`'s type, which live until the function returns."""
    array_type = types.Array(like.dtype, 1, "C")
    size, itemsize = I64(count.literal_value), I64(like.dtype.bitwidth // 8)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        array = make_array(array_type)(context, builder)
        data = cgutils.alloca_once(builder, context.get_value_type(array_type.dtype), size=size)
        populate_array(array, data, [size], [itemsize], itemsize, None)  # None: nobody counts references to it
        return array._getvalue()

    return array_type(like, count), codegen
