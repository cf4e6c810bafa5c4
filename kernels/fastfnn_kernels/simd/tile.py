"""The micro-kernel of every matrix product, and what packs its panels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from fastfnn_kernels.simd._emit import I32, I64, Emit, emit_prefetch, intrinsic, pointer_to


@intrinsic(prefer_literal=True)
def multiply_tile(typing, rows, vectors, c, c0, ldc, a, a0, a_row, a_k, b, b0, ldb, depth, alpha, accumulate, columns):  # type: ignore[no-untyped-def]
    """The micro-kernel: a `rows` × `vectors` tile of vector accumulators that never leave the registers.

    Computes, for ``i < rows`` and ``j < columns``::

        c[c0 + i*ldc + j] (+)= alpha * sum over k < depth of a[a0 + i*a_row + k*a_k] * b[b0 + k*ldb + j]

    ``+=`` where `accumulate` is nonzero; otherwise `c` is written without being read. The sum runs through k
    upwards in one accumulator an element, so an element's value does not depend on the shape of the tile
    that computed it. `rows` and `vectors` are compile-time constants; `columns` lies in
    ``((vectors - 1) * lanes, vectors * lanes]`` and masks the last vector: nothing behind it is read or
    written.
    """
    n_rows, n_vectors = rows.literal_value, vectors.literal_value
    dtype, integer = c.dtype, types.intp
    signature = types.void(
        rows, vectors, c, integer, integer, a, integer, integer, integer, b, integer, integer, integer, dtype,
        integer, integer,
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, _, c, c0, ldc, a, a0, a_row, a_k, b, b0, ldb, depth, alpha, accumulate, columns = args
        emit = Emit(context, builder, dtype)
        c = pointer_to(context, builder, signature.args[2], c, c0)
        a = pointer_to(context, builder, signature.args[5], a, a0)
        b = pointer_to(context, builder, signature.args[9], b, b0)
        place = [(i, j) for i in range(n_rows) for j in range(n_vectors)]

        def emit_tile(last_mask: Any) -> None:
            masks = [None] * (n_vectors - 1) + [last_mask]
            before = builder.block
            loop = builder.append_basic_block("k_loop")
            done = builder.append_basic_block("k_done")
            a_rows = [builder.gep(a, [builder.mul(a_row, I64(i))]) for i in range(n_rows)]
            c_rows = [builder.gep(c, [builder.mul(ldc, I64(i))]) for i in range(n_rows)]
            targets = {(i, j): builder.gep(c_rows[i], [I64(j * emit.lanes)]) for i, j in place}
            for target in targets.values():
                emit_prefetch(builder, target, for_writing=True)  # it arrives while the sums are made
            builder.cbranch(builder.icmp_signed(">", depth, I64(0)), loop, done)

            builder.position_at_end(loop)
            k, a_offset, b_offset = (builder.phi(I64) for _ in range(3))
            sums = {ij: builder.phi(emit.vector) for ij in place}
            b_row = builder.gep(b, [b_offset])
            load_b = lambda j: emit.load(builder.gep(b_row, [I64(j * emit.lanes)]), masks[j])  # noqa: E731
            # LLVM keeps the order: in a wide tile each vector of b is loaded as it is used, for all of them first would
            # be more than there are registers.
            is_wide = n_vectors > n_rows
            b_vectors = [] if is_wide else [load_b(j) for j in range(n_vectors)]
            a_elements = [emit.broadcast(builder.load(builder.gep(a_row_i, [a_offset]))) for a_row_i in a_rows]
            new = {}
            for i, j in sorted(place, key=lambda ij: ij[::-1]) if is_wide else place:
                if is_wide and i == 0:
                    b_vectors.append(load_b(j))
                new[i, j] = emit.multiply_add(a_elements[i], b_vectors[j], sums[i, j])
            k_next = builder.add(k, I64(1))
            next_values = [(k, k_next), (a_offset, builder.add(a_offset, a_k)), (b_offset, builder.add(b_offset, ldb))]
            for phi, following in next_values:
                phi.add_incoming(I64(0), before)
                phi.add_incoming(following, loop)
            for ij in place:
                sums[ij].add_incoming(emit.zero(), before)
                sums[ij].add_incoming(new[ij], loop)
            builder.cbranch(builder.icmp_signed("<", k_next, depth), loop, done)

            builder.position_at_end(done)
            totals = {ij: builder.phi(emit.vector) for ij in place}
            for ij in place:
                totals[ij].add_incoming(emit.zero(), before)
                totals[ij].add_incoming(new[ij], loop)
            scale = emit.broadcast(alpha)
            with builder.if_else(builder.icmp_signed("!=", accumulate, I64(0))) as (add, overwrite):
                with add:
                    for i, j in place:
                        old = emit.load(targets[i, j], masks[j])
                        emit.store(emit.multiply_add(scale, totals[i, j], old), targets[i, j], masks[j])
                with overwrite:
                    for i, j in place:
                        emit.store(builder.fmul(scale, totals[i, j]), targets[i, j], masks[j])

        emit.with_mask(builder.sub(columns, I64((n_vectors - 1) * emit.lanes)), emit_tile)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy_vector(typing, out, out0, x, x0, count):  # type: ignore[no-untyped-def]
    """Copy `count` <= lanes elements and fill the vector's other lanes of `out` with zeros."""
    integer = types.intp
    signature = types.void(out, integer, x, integer, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        out, out0, x, x0, count = args
        emit = Emit(context, builder, signature.args[0].dtype)
        source = pointer_to(context, builder, signature.args[2], x, x0)
        target = pointer_to(context, builder, signature.args[0], out, out0)
        emit.with_mask(count, lambda mask: emit.store(emit.load(source, mask), target))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def transpose_block(typing, out, out0, ldo, x, x0, ldx, rows, columns, written):  # type: ignore[no-untyped-def]
    """Write a block of `x`, at most lanes × lanes, transposed: ``out[out0 + j*ldo + i] = x[x0 + i*ldx + j]``.

    The block has `rows` rows and `columns` columns; nothing else of `x` is read. Each of the `columns` rows of `out`
    gets its first `written` elements; those from `rows` on are zero.

    log2(lanes) rounds of two-vector shuffles: round by round, blocks of 1, 2, 4, … elements trade places across the
    diagonal.
    """
    integer = types.intp
    signature = types.void(out, integer, integer, x, integer, integer, integer, integer, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        out, out0, ldo, x, x0, ldx, rows, columns, written = args
        out = pointer_to(context, builder, signature.args[0], out, out0)
        x = pointer_to(context, builder, signature.args[3], x, x0)
        emit = Emit(context, builder, signature.args[0].dtype)
        lanes = emit.lanes

        def count_where(index: int, limit: Any, count: Any) -> Any:
            return builder.select(builder.icmp_signed("<", I64(index), limit), count, I64(0))

        def emit_block(mask_x: Callable[[int], Any], mask_out: Callable[[int], Any]) -> None:
            vectors = [emit.load(builder.gep(x, [builder.mul(ldx, I64(i))]), mask_x(i)) for i in range(lanes)]
            index = ir.VectorType(I32, lanes)
            step = 1
            while step < lanes:
                # Where bit `step` of its number is clear, a lane of the upper row stays; else the lower row's partner
                # takes its place.
                upper = ir.Constant(index, [j if not j & step else lanes + j - step for j in range(lanes)])
                lower = ir.Constant(index, [j + step if not j & step else lanes + j for j in range(lanes)])
                for i in (i for i in range(lanes) if not i & step):
                    top, bottom = vectors[i], vectors[i + step]
                    vectors[i] = builder.shuffle_vector(top, bottom, upper)
                    vectors[i + step] = builder.shuffle_vector(top, bottom, lower)
                step *= 2
            for j in range(lanes):
                emit.store(vectors[j], builder.gep(out, [builder.mul(ldo, I64(j))]), mask_out(j))

        whole = builder.icmp_signed("==", builder.mul(builder.mul(rows, columns), written), I64(lanes**3))
        with builder.if_else(whole) as (whole_block, part):
            with whole_block:
                emit_block(lambda i: None, lambda j: None)
            with part:
                emit_block(
                    lambda i: emit.first_lanes(count_where(i, rows, columns)),
                    lambda j: emit.first_lanes(count_where(j, columns, written)),
                )
        return context.get_dummy_value()

    return signature, codegen
