"""Products that walk marked terms only: bits of a word say which terms of a sum are not zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from fastfnn_kernels.simd._emit import I64, VECTOR_REGISTERS, Emit, intrinsic, pointer_to
from fastfnn_kernels.simd.sparse import WORD_BITS

#: Vectors of a tile of MARKED_ROWS rows: with a vector of b and an element of each row they fit the registers.
MARKED_ROWS = 2
WIDEST_MARKED = 8 if VECTOR_REGISTERS == 32 else 6
#: Vectors of a single row, with one for the value that it is multiplied by; vectors of b are read as they are used.
WIDEST_MARKED_ROW = 8


@intrinsic
def words_with(typing, words, w0, pattern):  # type: ignore[no-untyped-def]
    """A word whose bit i says that ``words[w0 + i]`` and `pattern` have a bit in common; WORD_BITS words are read."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        vector = ir.VectorType(I64, WORD_BITS)
        loaded: Any = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        loaded.align = 8
        undefined = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(undefined, args[2], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WORD_BITS), [0] * WORD_BITS)
        common = builder.and_(loaded, builder.shuffle_vector(first, undefined, zeros))
        return builder.bitcast(builder.icmp_unsigned("!=", common, ir.Constant(vector, [0] * WORD_BITS)), I64)

    return types.int64(words, types.intp, types.int64), codegen


@intrinsic(prefer_literal=True)
def multiply_marked(typing, rows, c, c0, ldc, a, a0, a_row, a_k, b, b0, ldb, bits, start, start0, adds, relu, columns):  # type: ignore[no-untyped-def]
    """A tile of accumulators that never leave the registers: one row or MARKED_ROWS, at most WIDEST_MARKED vectors.

    Computes, for ``i < rows``, ``j < columns`` (one at least) and, upwards, the places k of the bits of `bits`::

        c[c0 + i*ldc + j] (+)= start[start0 + j] + sum of a[a0 + i*a_row + k*a_k] * b[b0 + k*ldb + j]

    ``+=`` where `adds` is nonzero; then through a ReLU where `relu` is; a NaN stays one. Nothing behind the last
    column is read or written.
    """
    n_rows = rows.literal_value
    dtype, integer = c.dtype, types.intp
    signature = types.void(
        rows, c, integer, integer, a, integer, integer, integer, b, integer, integer, types.int64, start, integer,
        integer, integer, integer,
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, c, c0, ldc, a, a0, a_row, a_k, b, b0, ldb, bits, start, start0, adds, relu, columns = args
        emit = Emit(context, builder, dtype)
        c = pointer_to(context, builder, signature.args[1], c, c0)
        a = pointer_to(context, builder, signature.args[4], a, a0)
        b = pointer_to(context, builder, signature.args[8], b, b0)
        start = pointer_to(context, builder, signature.args[12], start, start0)
        does_add, does_relu = (builder.icmp_signed("!=", flag, I64(0)) for flag in (adds, relu))
        a_rows = [builder.gep(a, [builder.mul(a_row, I64(i))]) for i in range(n_rows)]
        c_rows = [builder.gep(c, [builder.mul(ldc, I64(i))]) for i in range(n_rows)]

        def emit_tile(masks: list[Any]) -> None:
            count = len(masks)
            targets = {(i, j): p for i, row in enumerate(c_rows) for j, p in enumerate(emit.neighbours(row, count))}
            row = [emit.load(pointer, mask) for pointer, mask in zip(emit.neighbours(start, count), masks, strict=True)]
            starts = {(i, j): row[j] for i, j in targets}

            def terms(k: Any, sums: dict[Any, Any]) -> dict[Any, Any]:
                first, offset = builder.gep(b, [builder.mul(k, ldb)]), builder.mul(k, a_k)
                elements = [emit.broadcast(builder.load(builder.gep(a_i, [offset]))) for a_i in a_rows]
                new = {}
                for j, pointer in enumerate(emit.neighbours(first, count)):
                    vector = emit.load(pointer, masks[j])
                    new |= {(i, j): emit.multiply_add(elements[i], vector, sums[i, j]) for i in range(n_rows)}
                return new

            totals = _over_bits(emit, bits, starts, terms)
            before, adding = builder.block, builder.append_basic_block("adding")
            added, negative, done = (builder.append_basic_block(name) for name in ("added", "relu", "stored"))
            builder.cbranch(does_add, adding, added)
            builder.position_at_end(adding)
            more = {ij: builder.fadd(total, emit.load(targets[ij], masks[ij[1]])) for ij, total in totals.items()}
            builder.branch(added)
            builder.position_at_end(added)
            values = {ij: builder.phi(emit.vector) for ij in totals}
            for ij, value in values.items():
                value.add_incoming(totals[ij], before)
                value.add_incoming(more[ij], adding)
            for ij, value in values.items():
                emit.store(value, targets[ij], masks[ij[1]])
            builder.cbranch(does_relu, negative, done)
            builder.position_at_end(negative)
            for ij, value in values.items():
                below = builder.fcmp_ordered("<", value, emit.zero())  # not where it is a NaN
                emit.store(builder.select(below, emit.zero(), value), targets[ij], masks[ij[1]])
            builder.branch(done)
            builder.position_at_end(done)

        emit.for_width(columns, WIDEST_MARKED, emit_tile)
        return context.get_dummy_value()

    return signature, codegen


def _over_bits(
    emit: Emit, bits: Any, starts: dict[Any, Any], terms: Callable[[Any, dict[Any, Any]], dict[Any, Any]]
) -> dict[Any, Any]:
    """Emit a loop over the places of the bits: ``sums = terms(place, sums)``, which begin as `starts`."""
    builder, before = emit.builder, emit.builder.block
    loop, done = builder.append_basic_block("bits"), builder.append_basic_block("bits_done")
    builder.cbranch(builder.icmp_unsigned("!=", bits, I64(0)), loop, done)
    builder.position_at_end(loop)
    left = builder.phi(I64)
    sums = {key: builder.phi(emit.vector) for key in starts}
    new = terms(builder.cttz(left, ir.Constant(ir.IntType(1), 1)), sums)
    rest = builder.and_(left, builder.sub(left, I64(1)))
    left.add_incoming(bits, before)
    left.add_incoming(rest, loop)
    for key, start in starts.items():
        sums[key].add_incoming(start, before)
        sums[key].add_incoming(new[key], loop)
    builder.cbranch(builder.icmp_unsigned("!=", rest, I64(0)), loop, done)
    builder.position_at_end(done)
    totals = {key: builder.phi(emit.vector) for key in starts}
    for key, start in starts.items():
        totals[key].add_incoming(start, before)
        totals[key].add_incoming(new[key], loop)
    return totals


@intrinsic
def add_marked(typing, out, out0, x, x0, zero, b, b0, ldb, words, w0, n_words, columns):  # type: ignore[no-untyped-def]
    """Marked terms of a row of a product, at most WIDEST_MARKED_ROW vectors wide, added in registers.

    Computes, for ``j < columns`` (one at least) and, upwards, the places k of the bits of the `n_words` words from
    ``words[w0]`` on (one at least), WORD_BITS places a word::

        out[out0 + j] += sum of (x[x0 + k] - zero) * b[b0 + k*ldb + j]

    Rows of `b` are read in whole vectors; nothing behind the last column of `out` is read or written.
    """
    dtype, integer = out.dtype, types.intp
    signature = types.void(
        out, integer, x, integer, dtype, b, integer, integer, words, integer, integer, integer
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        out, out0, x, x0, zero, b, b0, ldb, words, w0, n_words, columns = args
        emit = Emit(context, builder, dtype)
        out = pointer_to(context, builder, signature.args[0], out, out0)
        x = pointer_to(context, builder, signature.args[2], x, x0)
        b = pointer_to(context, builder, signature.args[5], b, b0)
        words = pointer_to(context, builder, signature.args[8], words, w0)
        base = emit.broadcast(zero)

        def emit_row(masks: list[Any]) -> None:
            targets = emit.neighbours(out, len(masks))
            starts = [emit.load(target, mask) for target, mask in zip(targets, masks, strict=True)]
            before, loop = builder.block, builder.append_basic_block("words")
            builder.branch(loop)
            builder.position_at_end(loop)
            word = builder.phi(I64)
            sums = {j: builder.phi(emit.vector) for j in range(len(masks))}
            place = builder.mul(word, I64(WORD_BITS))

            def terms(k: Any, sums: dict[Any, Any]) -> dict[Any, Any]:
                column = builder.add(place, k)
                value = builder.fsub(emit.broadcast(builder.load(builder.gep(x, [column]))), base)
                row = emit.neighbours(builder.gep(b, [builder.mul(column, ldb)]), len(masks))
                return {j: emit.multiply_add(value, emit.load(row[j]), total) for j, total in sums.items()}

            totals = _over_bits(emit, builder.load(builder.gep(words, [word])), sums, terms)
            following, done = builder.add(word, I64(1)), builder.append_basic_block("words_done")
            word.add_incoming(I64(0), before)
            word.add_incoming(following, builder.block)
            for j, start in enumerate(starts):
                sums[j].add_incoming(start, before)
                sums[j].add_incoming(totals[j], builder.block)
            builder.cbranch(builder.icmp_signed("<", following, n_words), loop, done)
            builder.position_at_end(done)
            for j, (target, mask) in enumerate(zip(targets, masks, strict=True)):
                emit.store(totals[j], target, mask)

        emit.for_width(columns, WIDEST_MARKED_ROW, emit_row)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def count_bits(typing, word):  # type: ignore[no-untyped-def]
    """How many bits of a word are set."""
    return types.int64(types.int64), lambda context, builder, signature, args: builder.ctpop(args[0])
