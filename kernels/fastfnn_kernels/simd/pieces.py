"""Sums over the few places where a gradient is not zero: of rows of pixels, cut into vectors, *pieces*."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastfnn_kernels.simd._emit import I64, Emit, Integers, emit_products, intrinsic, pointer_to


@intrinsic(prefer_literal=True)
def gather_pieces(typing, pieces, out, o0, x, x0, table, t0, values, places, count):  # type: ignore[no-untyped-def]
    """Sums of scattered vectors: the weight's gradient from the few places where the output's is not zero.

    Computes, for ``i < pieces`` and every lane j::

        out[o0 + i*lanes + j] += sum over n < count of values[n] * x[x0 + places[n] + table[t0 + i] + j]
    """
    n_pieces, integer = pieces.literal_value, types.intp
    signature = types.void(pieces, out, integer, x, integer, table, integer, values, places, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, out, o0, x, x0, table, t0, values, places, count = args
        emit, zero = Emit(context, builder, signature.args[1].dtype), I64(0)
        targets = emit.neighbours(pointer_to(context, builder, signature.args[1], out, o0), n_pieces)
        x = pointer_to(context, builder, signature.args[3], x, x0)
        table = pointer_to(context, builder, signature.args[5], table, t0)
        values = pointer_to(context, builder, signature.args[7], values, zero)
        places = pointer_to(context, builder, signature.args[8], places, zero)
        starts = [builder.gep(x, [builder.load(builder.gep(table, [I64(i)]))]) for i in range(n_pieces)]

        def scattered(n: Any) -> list[Any]:
            place = builder.sext(builder.load(builder.gep(places, [n])), I64)
            return [builder.gep(start, [place]) for start in starts]

        begin = {(0, i): emit.load(target) for i, target in enumerate(targets)}
        sums = emit_products(emit, count, begin, lambda n: [builder.gep(values, [n])], scattered, [None] * n_pieces)
        for i, target in enumerate(targets):
            emit.store(sums[0, i], target)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def scatter_pieces(typing, pieces, out, o0, weight, w0, table, t0, values, places, count):  # type: ignore[no-untyped-def]
    """The other way: the input's gradient, one place of the output's after the other.

    Computes, for ``n < count``, ``i < pieces`` and every lane j::

        out[o0 + places[n] + table[t0 + i] + j] += values[n] * weight[w0 + i*lanes + j]
    """
    n_pieces, integer = pieces.literal_value, types.intp
    signature = types.void(pieces, out, integer, weight, integer, table, integer, values, places, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, out, o0, weight, w0, table, t0, values, places, count = args
        emit, zero = Emit(context, builder, signature.args[1].dtype), I64(0)
        out = pointer_to(context, builder, signature.args[1], out, o0)
        weight = pointer_to(context, builder, signature.args[3], weight, w0)
        table = pointer_to(context, builder, signature.args[5], table, t0)
        values = pointer_to(context, builder, signature.args[7], values, zero)
        places = pointer_to(context, builder, signature.args[8], places, zero)
        starts = [builder.gep(out, [builder.load(builder.gep(table, [I64(i)]))]) for i in range(n_pieces)]
        weights = [emit.load(pointer) for pointer in emit.neighbours(weight, n_pieces)]

        def add(n: Any) -> None:
            value = emit.broadcast(builder.load(builder.gep(values, [n])))
            place = builder.sext(builder.load(builder.gep(places, [n])), I64)
            for start, vector in zip(starts, weights, strict=True):
                target = builder.gep(start, [place])
                emit.store(emit.multiply_add(value, vector, emit.load(target)), target)

        # Neighbours in the list are neighbours in memory, and one would wait for the other: take them in turn from
        # both halves.
        half = builder.lshr(count, I64(1))
        with cgutils.for_range(builder, half) as loop:
            add(loop.index)
            add(builder.add(loop.index, half))
        with builder.if_then(builder.trunc(count, ir.IntType(1))):
            add(builder.sub(count, I64(1)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def list_windows(  # type: ignore[no-untyped-def]
    typing, masked, values, places, grad, out, index, m0, corners, c0, bases, b0, count, line, below, beside
):
    """What 2×2 max-pooling leaves of a gradient: the values that are not zero and their places. Returns how many.

    For windows ``m < count`` in their order, where ``grad[m0 + m]`` is not zero (and, with `masked`, a compile-time
    constant, ``out[m0 + m] > 0``: the backward of a ReLU)::

        value = grad[m0 + m]
        place = bases[b0 + m] + (below, where the largest was in the lower row) + (beside, where in the right column)

    `index` tells where: it is ``corners[c0 + m]`` plus 0, 1, `line` or ``line + 1``. `places` is int32.
    """
    integer = types.intp
    signature = types.int64(
        masked, values, places, grad, out, index, integer, corners, integer, bases, integer, integer, integer, integer,
        integer,
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, values, places, grad, out, index, m0, corners, c0, bases, b0, count, line, below, beside = args
        emit, zero = Emit(context, builder, signature.args[1].dtype), I64(0)
        values = pointer_to(context, builder, signature.args[1], values, zero)
        places = pointer_to(context, builder, signature.args[2], places, zero)
        grad = pointer_to(context, builder, signature.args[3], grad, m0)
        out = pointer_to(context, builder, signature.args[4], out, m0)
        index = pointer_to(context, builder, signature.args[5], index, m0)
        corners = pointer_to(context, builder, signature.args[7], corners, c0)
        bases = pointer_to(context, builder, signature.args[9], bases, b0)
        small = Integers(emit)
        line, below, beside = (small.broadcast(value) for value in (line, below, beside))
        found = cgutils.alloca_once_value(builder, I64(0))

        def emit_vector(m: Any, mask: Any) -> None:
            value = emit.load(builder.gep(grad, [m]), mask)
            counts = builder.fcmp_unordered("!=", value, emit.zero())
            if signature.args[0].literal_value:
                kept = emit.load(builder.gep(out, [m]), mask)
                counts = builder.and_(counts, builder.fcmp_ordered(">", kept, emit.zero()))
            if mask is not None:
                counts = builder.and_(counts, mask)
            within = builder.sub(small.load(builder.gep(index, [m]), mask), small.load_words(corners, m, mask))
            lower = builder.icmp_signed(">=", within, line)
            column = builder.select(lower, builder.sub(within, line), within)
            place = builder.add(small.load_words(bases, m, mask), builder.mul(column, beside))
            place = builder.select(lower, builder.add(place, below), place)
            at = builder.load(found)
            emit.compress(value, counts, builder.gep(values, [at]))
            small.compress(place, counts, builder.gep(places, [at]))
            builder.store(builder.add(at, emit.count(counts)), found)

        emit.for_vectors(count, emit_vector)
        return builder.load(found)

    return signature, codegen
