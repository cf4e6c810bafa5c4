"""Sums over nonzeros: which elements of a row are some, and the rows of a matrix that they pick, added up."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastfnn_kernels.simd._emit import I32, I64, Emit, emit_products, intrinsic, pointer_to

#: Elements that `differing_bits` compares: the bits of a word.
WORD_BITS = 64
#: Vectors of accumulators that `add_rows` keeps: with those of the matrix they fit 16 registers.
WIDEST_STRIP = 8


@intrinsic
def differing_bits(typing, x, x0, value):  # type: ignore[no-untyped-def]
    """A word whose bit i says that element ``x[x0 + i]`` is not `value`; all WORD_BITS elements are read."""
    element = x.dtype

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        vector = ir.VectorType(context.get_data_type(element), WORD_BITS)
        elements: Any = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        elements.align = context.get_abi_sizeof(context.get_data_type(element))
        undefined = ir.Constant(vector, ir.Undefined)
        scalar = context.data_model_manager[element].as_data(builder, args[2])
        first = builder.insert_element(undefined, scalar, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, WORD_BITS), [0] * WORD_BITS)
        values = builder.shuffle_vector(first, undefined, zeros)
        real = isinstance(element, types.Float)
        differ = (builder.fcmp_unordered if real else builder.icmp_unsigned)("!=", elements, values)
        return builder.bitcast(differ, I64)

    return types.int64(x, types.intp, element), codegen


@intrinsic
def add_rows(typing, out, out0, start, start0, values, index, p0, p1, x, x0, ldx, columns, relu):  # type: ignore[no-untyped-def]
    """A row of a sparse product, at most WIDEST_STRIP vectors wide: accumulators that never leave the registers.

    Computes, for ``j < columns``, of which there is one at least, and for p from p0 to p1 upwards::

        out[out0 + j] = start[start0 + j] + sum of values[p] * x[x0 + index[p]*ldx + j]

    through a ReLU where `relu` is nonzero; a NaN stays one. Nothing behind the last column is read or written.
    """
    integer = types.intp
    signature = types.void(
        out, integer, start, integer, values, index, integer, integer, x, integer, integer, integer, integer
    )

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        out, out0, start, start0, values, index, p0, p1, x, x0, ldx, columns, relu = args
        emit = Emit(context, builder, signature.args[0].dtype)
        out = pointer_to(context, builder, signature.args[0], out, out0)
        start = pointer_to(context, builder, signature.args[2], start, start0)
        values = pointer_to(context, builder, signature.args[4], values, p0)
        index = pointer_to(context, builder, signature.args[5], index, p0)
        x = pointer_to(context, builder, signature.args[8], x, x0)
        is_relu = builder.icmp_signed("!=", relu, I64(0))
        least = builder.select(is_relu, emit.zero(), emit.constant(-math.inf))

        def at(pointer: Any, j: int) -> Any:
            return builder.gep(pointer, [I64(j * emit.lanes)])

        def line(p: Any, vectors: int) -> list[Any]:
            row = builder.sext(builder.load(builder.gep(index, [p])), I64)
            first = builder.gep(x, [builder.mul(row, ldx)])
            return [at(first, j) for j in range(vectors)]

        def emit_row(masks: list[Any]) -> None:
            starts = {(0, j): emit.load(at(start, j), mask) for j, mask in enumerate(masks)}
            count = builder.sub(p1, p0)
            value = lambda p: [builder.gep(values, [p])]  # noqa: E731
            sums = emit_products(emit, count, starts, value, lambda p: line(p, len(masks)), masks)
            for j, mask in enumerate(masks):
                below = builder.fcmp_ordered("<", sums[0, j], least)  # not where it is a NaN
                emit.store(builder.select(below, least, sums[0, j]), at(out, j), mask)

        emit.for_width(columns, WIDEST_STRIP, emit_row)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_to_rows(typing, out, out0, ldo, values, index, p0, p1, x, x0, columns, alpha):  # type: ignore[no-untyped-def]
    """The transposed: a row of `x`, in registers, times each of a row's nonzeros, added to rows of `out`.

    Computes, for p from p0 to p1 upwards and ``j < columns``, of which there is one to WIDEST_STRIP vectors::

        out[out0 + index[p]*ldo + j] += alpha * values[p] * x[x0 + j]
    """
    integer = types.intp
    signature = types.void(out, integer, integer, values, index, integer, integer, x, integer, integer, out.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        out, out0, ldo, values, index, p0, p1, x, x0, columns, alpha = args
        emit = Emit(context, builder, signature.args[0].dtype)
        out = pointer_to(context, builder, signature.args[0], out, out0)
        values = pointer_to(context, builder, signature.args[3], values, I64(0))
        index = pointer_to(context, builder, signature.args[4], index, I64(0))
        x = pointer_to(context, builder, signature.args[7], x, x0)

        def emit_row(masks: list[Any]) -> None:
            row = [emit.load(builder.gep(x, [I64(j * emit.lanes)]), mask) for j, mask in enumerate(masks)]
            with cgutils.for_range_slice(builder, p0, p1, I64(1), I64) as (p, _):
                value = emit.broadcast(builder.fmul(alpha, builder.load(builder.gep(values, [p]))))
                place = builder.mul(builder.sext(builder.load(builder.gep(index, [p])), I64), ldo)
                for j, mask in enumerate(masks):
                    target = builder.gep(out, [builder.add(place, I64(j * emit.lanes))])
                    emit.store(emit.multiply_add(value, row[j], emit.load(target, mask)), target, mask)

        emit.for_width(columns, WIDEST_STRIP, emit_row)
        return context.get_dummy_value()

    return signature, codegen
