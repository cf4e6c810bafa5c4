"""The two micro-kernels of convolution, and what moves rows of images.

An image lies as flat lines of pixels, so vectors run along the pixels whatever the number of channels: a network's
first layers have one, three or six. Both tiles keep all their sums in registers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from fastfnn_kernels.simd._emit import I64, Emit, emit_products, intrinsic, pointer_to


@intrinsic(prefer_literal=True)
def convolve_tile(typing, rows, vectors, out, o0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, columns):  # type: ignore[no-untyped-def]
    """`rows` output channels × `vectors` vectors of pixels, each pixel a sum over `depth` shifted input lines.

    Computes, for ``i < rows`` and ``j < columns``::

        out[o0 + i*ldo + j] = start[s0 + i] + sum over d < depth of weight[w0 + d*rows + i] * x[x0 + table[t0 + d] + j]

    The sum runs through d upwards in one accumulator an element, so an element's value does not depend on the tile
    that computed it. `rows` and `vectors` are compile-time constants; `columns` lies in
    ``((vectors - 1) * lanes, vectors * lanes]`` and masks the last vector.
    """
    n_rows, n_vectors = rows.literal_value, vectors.literal_value
    integer = types.intp
    signature = types.void(
        rows, vectors, out, integer, integer, weight, integer, start, integer, x, integer, table, integer, integer,
        integer,
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, _, out, o0, ldo, weight, w0, start, s0, x, x0, table, t0, depth, columns = args
        emit = Emit(context, builder, signature.args[2].dtype)
        out = pointer_to(context, builder, signature.args[2], out, o0)
        weight = pointer_to(context, builder, signature.args[5], weight, w0)
        start = pointer_to(context, builder, signature.args[7], start, s0)
        x = pointer_to(context, builder, signature.args[9], x, x0)
        table = pointer_to(context, builder, signature.args[11], table, t0)
        place = [(i, j) for i in range(n_rows) for j in range(n_vectors)]

        def emit_tile(last_mask: Any) -> None:
            masks = [None] * (n_vectors - 1) + [last_mask]
            starts = [emit.broadcast(builder.load(builder.gep(start, [I64(i)]))) for i in range(n_rows)]

            def weights(d: Any) -> list[Any]:
                column = builder.gep(weight, [builder.mul(d, I64(n_rows))])
                return [builder.gep(column, [I64(i)]) for i in range(n_rows)]

            def pixels(d: Any) -> list[Any]:
                return emit.neighbours(builder.gep(x, [builder.load(builder.gep(table, [d]))]), n_vectors)

            sums = emit_products(emit, depth, {(i, j): starts[i] for i, j in place}, weights, pixels, masks)
            for i, j in place:
                target = builder.gep(out, [builder.add(builder.mul(ldo, I64(i)), I64(j * emit.lanes))])
                emit.store(sums[i, j], target, masks[j])

        emit.with_mask(builder.sub(columns, I64((n_vectors - 1) * emit.lanes)), emit_tile)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def convolve_wide_tile(typing, pixels, out, o0, weight, w0, start, s0, x, x0, table, t0, depth):  # type: ignore[no-untyped-def]
    """The same sums for `pixels` pixels side by side and one vector of output channels.

    Computes, for ``i < pixels`` and every lane j::

        out[o0 + i*lanes + j] = start[s0 + j] + sum over d < depth of
            x[x0 + table[t0 + d] + i] * weight[w0 + d*lanes + j]
    """
    n_pixels, integer = pixels.literal_value, types.intp
    signature = types.void(
        pixels, out, integer, weight, integer, start, integer, x, integer, table, integer, integer
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, out, o0, weight, w0, start, s0, x, x0, table, t0, depth = args
        emit = Emit(context, builder, signature.args[1].dtype)
        out = pointer_to(context, builder, signature.args[1], out, o0)
        weight = pointer_to(context, builder, signature.args[3], weight, w0)
        x = pointer_to(context, builder, signature.args[7], x, x0)
        table = pointer_to(context, builder, signature.args[9], table, t0)
        begin = emit.load(pointer_to(context, builder, signature.args[5], start, s0))

        def neighbours(d: Any) -> list[Any]:
            first = builder.gep(x, [builder.load(builder.gep(table, [d]))])
            return [builder.gep(first, [I64(i)]) for i in range(n_pixels)]

        def channels(d: Any) -> list[Any]:
            return [builder.gep(weight, [builder.mul(d, I64(emit.lanes))])]

        starts = {(i, 0): begin for i in range(n_pixels)}
        sums = emit_products(emit, depth, starts, neighbours, channels, [None])
        for i in range(n_pixels):
            emit.store(sums[i, 0], builder.gep(out, [I64(i * emit.lanes)]))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def correlate_wide_tile(typing, taps, out, o0, g, g0, x, x0, table, t0, places, p0, pixels):  # type: ignore[no-untyped-def]
    """Products of `taps` shifted images with one vector of channels of the gradient, summed over pixels.

    Computes, for ``i < taps`` and every lane j::

        out[o0 + i*lanes + j] += sum over p < pixels of x[x0 + table[t0 + i] + places[p0 + p]] * g[g0 + p*lanes + j]
    """
    n_taps, integer = taps.literal_value, types.intp
    signature = types.void(
        taps, out, integer, g, integer, x, integer, table, integer, places, integer, integer
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, out, o0, g, g0, x, x0, table, t0, places, p0, pixels = args
        emit = Emit(context, builder, signature.args[1].dtype)
        out = pointer_to(context, builder, signature.args[1], out, o0)
        g = pointer_to(context, builder, signature.args[3], g, g0)
        x = pointer_to(context, builder, signature.args[5], x, x0)
        table = pointer_to(context, builder, signature.args[7], table, t0)
        places = pointer_to(context, builder, signature.args[9], places, p0)
        images = [builder.gep(x, [builder.load(builder.gep(table, [I64(i)]))]) for i in range(n_taps)]
        targets = [builder.gep(out, [I64(i * emit.lanes)]) for i in range(n_taps)]

        def shifted(p: Any) -> list[Any]:
            place = builder.load(builder.gep(places, [p]))
            return [builder.gep(image, [place]) for image in images]

        def channels(p: Any) -> list[Any]:
            return [builder.gep(g, [builder.mul(p, I64(emit.lanes))])]

        starts = {(i, 0): emit.load(targets[i]) for i in range(n_taps)}
        sums = emit_products(emit, pixels, starts, shifted, channels, [None])
        for i in range(n_taps):
            emit.store(sums[i, 0], targets[i])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def correlate_tile(  # type: ignore[no-untyped-def]
    typing, rows, taps, out, o0, ldo, g, g0, g_row, g_image, x, x0, x_image, table, t0, length, images, adds, written
):
    """Products of `rows` gradient lines with `taps` shifted input lines, summed over their pixels and over images.

    Computes, for ``i < rows`` and ``j < written <= taps``::

        out[o0 + i*ldo + j] (+)= sum over n < images, p < length of
            g[g0 + n*g_image + i*g_row + p] * x[x0 + n*x_image + table[t0 + j] + p]

    ``+=`` where `adds` is nonzero. Vectors run along the pixels p; a sum's lanes are added up at the end. `table` has
    `taps` entries even where fewer are written.
    """
    n_rows, n_taps = rows.literal_value, taps.literal_value
    integer = types.intp
    signature = types.void(
        rows, taps, out, integer, integer, g, integer, integer, integer, x, integer, integer, table, integer,
        integer, integer, integer, integer,
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, _, out, o0, ldo, g, g0, g_row, g_image, x, x0, x_image, table, t0, length, images, adds, written = args
        emit = Emit(context, builder, signature.args[2].dtype)
        out = pointer_to(context, builder, signature.args[2], out, o0)
        g = pointer_to(context, builder, signature.args[5], g, g0)
        x = pointer_to(context, builder, signature.args[9], x, x0)
        table = pointer_to(context, builder, signature.args[12], table, t0)
        place = [(i, j) for i in range(n_rows) for j in range(n_taps)]
        g_shifts = [builder.mul(g_row, I64(i)) for i in range(n_rows)]
        x_shifts = [builder.load(builder.gep(table, [I64(j)])) for j in range(n_taps)]
        whole = builder.and_(length, I64(-emit.lanes))

        def multiply(g_line: Any, x_line: Any, p: Any, sums: dict[Any, Any], mask: Any) -> dict[Any, Any]:
            """`sums` and the products of one vector of pixels."""
            left = [emit.load(builder.gep(g_line, [builder.add(shift, p)]), mask) for shift in g_shifts]
            new = {}
            for j in range(n_taps):
                right = emit.load(builder.gep(x_line, [builder.add(x_shifts[j], p)]), mask)
                new |= {(i, j): emit.multiply_add(left[i], right, sums[i, j]) for i in range(n_rows)}
            return new

        def phis(block: Any, values: dict[Any, Any]) -> dict[Any, Any]:
            result = {ij: builder.phi(emit.vector) for ij in place}
            for ij in place:
                result[ij].add_incoming(values[ij], block)
            return result

        def close(result: dict[Any, Any], values: dict[Any, Any]) -> None:
            for ij in place:
                result[ij].add_incoming(values[ij], builder.block)

        zeros = {ij: emit.zero() for ij in place}
        names = ("image_loop", "pixel_loop", "pixels_done", "image_rest", "image_next", "images_done")
        image_loop, pixel_loop, pixels_done, rest, image_next, done = (builder.append_basic_block(n) for n in names)
        before = builder.block
        builder.cbranch(builder.icmp_signed(">", images, I64(0)), image_loop, done)

        builder.position_at_end(image_loop)
        image = builder.phi(I64)
        image.add_incoming(I64(0), before)
        sums = phis(before, zeros)
        g_line = builder.gep(g, [builder.mul(image, g_image)])
        x_line = builder.gep(x, [builder.mul(image, x_image)])
        builder.cbranch(builder.icmp_signed(">", whole, I64(0)), pixel_loop, pixels_done)

        builder.position_at_end(pixel_loop)
        p = builder.phi(I64)
        p.add_incoming(I64(0), image_loop)
        inner = phis(image_loop, sums)
        products = multiply(g_line, x_line, p, inner, None)
        p_next = builder.add(p, I64(emit.lanes))
        p.add_incoming(p_next, pixel_loop)
        close(inner, products)
        builder.cbranch(builder.icmp_signed("<", p_next, whole), pixel_loop, pixels_done)

        builder.position_at_end(pixels_done)
        after = phis(image_loop, sums)
        for ij in place:
            after[ij].add_incoming(products[ij], pixel_loop)
        builder.cbranch(builder.icmp_signed("<", whole, length), rest, image_next)

        builder.position_at_end(rest)
        with_rest = multiply(g_line, x_line, whole, after, emit.first_lanes(builder.sub(length, whole)))
        rest_end = builder.block
        builder.branch(image_next)

        builder.position_at_end(image_next)
        totals = phis(pixels_done, after)
        for ij in place:
            totals[ij].add_incoming(with_rest[ij], rest_end)
        following = builder.add(image, I64(1))
        image.add_incoming(following, image_next)
        close(sums, totals)
        builder.cbranch(builder.icmp_signed("<", following, images), image_loop, done)

        builder.position_at_end(done)
        final = phis(before, zeros)
        for ij in place:
            final[ij].add_incoming(totals[ij], image_next)
        for i in range(n_rows):
            for first in range(0, n_taps, emit.lanes):
                chunk = [final[i, j] for j in range(first, min(n_taps, first + emit.lanes))]
                target = builder.gep(out, [builder.add(builder.mul(ldo, I64(i)), I64(first))])
                mask = emit.first_lanes(builder.sub(written, I64(first)))
                total = emit.sums(chunk)
                old = emit.load(target, mask)
                keep = builder.icmp_signed("!=", adds, I64(0))
                emit.store(builder.select(keep, builder.fadd(old, total), total), target, mask)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def move_row(typing, masked, out, out0, x, x0, mask, count, lowest):  # type: ignore[no-untyped-def]
    """``out[out0 + j] = max(x[x0 + j], lowest)`` for ``j < count``; NaN stays NaN.

    With `masked`, a compile-time constant, 0 where not ``mask[x0 + j] > 0``: the backward of a ReLU. Short rows are
    the rule here, shorter than the loop that LLVM would make.
    """
    integer = types.intp
    signature = types.void(masked, out, integer, x, integer, mask, integer, out.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, out, out0, x, x0, kept, count, lowest = args
        emit = Emit(context, builder, signature.args[1].dtype)
        out = pointer_to(context, builder, signature.args[1], out, out0)
        x = pointer_to(context, builder, signature.args[3], x, x0)
        kept = pointer_to(context, builder, signature.args[5], kept, x0)
        floor = emit.broadcast(lowest)

        def emit_vector(j: Any, mask: Any) -> None:
            value = emit.load(builder.gep(x, [j]), mask)
            if signature.args[0].literal_value:
                positive = builder.fcmp_ordered(">", emit.load(builder.gep(kept, [j]), mask), emit.zero())
                value = builder.select(positive, value, emit.zero())
            value = builder.select(builder.fcmp_ordered("<", value, floor), floor, value)
            emit.store(value, builder.gep(out, [j]), mask)

        emit.for_vectors(count, emit_vector)
        return context.get_dummy_value()

    return signature, codegen
