"""Winograd's transforms of F(2×2, 3×3) for vectors of neighbouring tiles, and what cuts rows of pixels in two.

A tile is 2×2 outputs, which a 3×3 filter makes of 4×4 inputs; neighbouring tiles overlap by two. Where inputs are
split into four *phases* (even and odd rows, even and odd columns), element (a, b) of every tile of a row lies at one
shift: in phase (a % 2, b % 2), a // 2 lines down and b // 2 to the right. So vectors run along the tiles.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastfnn_kernels.simd._emit import I64, Emit, Integers, intrinsic, pointer_to

#: The transforms' matrices, all signs: of inputs, of gradients of outputs, and of products.
INPUTS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
GRADIENTS = ((1, 0), (1, 1), (1, -1), (0, -1))
PRODUCTS = ((1, 1, 1, 0), (0, 1, -1, -1))
#: Elements of a transformed tile.
COMPONENTS = 16


def _combined(builder: ir.IRBuilder, signs: tuple[int, ...], values: list[Any]) -> Any:
    """The sum of the values with these signs."""
    total = None
    for sign, value in sorted(zip(signs, values, strict=True), key=lambda pair: -pair[0]):  # a positive one begins
        if sign and total is None:
            total = value if sign > 0 else builder.fneg(value)
        elif sign:
            total = builder.fadd(total, value) if sign > 0 else builder.fsub(total, value)
    return total


def _transformed(builder: ir.IRBuilder, matrix: tuple[tuple[int, ...], ...], tile: list[list[Any]]) -> list[Any]:
    """The elements of ``matrix @ tile @ matrix.T``, row by row."""
    half = [[_combined(builder, signs, list(column)) for column in zip(*tile, strict=True)] for signs in matrix]
    return [_combined(builder, signs, row) for row in half for signs in matrix]


def _make_transform(matrix: tuple[tuple[int, ...], ...]) -> Any:
    side = range(len(matrix[0]))

    @intrinsic
    def transform(typing, out, o0, ldo, x, x0, odd_row, line, odd_column, beside, count):  # type: ignore[no-untyped-def]
        """`matrix` times tile times `matrix` transposed, for `count` tiles of a row, or channels of a tile.

        Element (a, b) of tile p is ``x[x0 + row + column + p]`` with row ``a % 2 * odd_row + a // 2 * line`` and column
        ``b % 2 * odd_column + b // 2 * beside``; element (i, j) of the result becomes ``out[o0 + (4*i + j)*ldo + p]``.
        Whole vectors are read and written, for it is faster: up to `lanes` - 1 numbers behind the last are anything.
        """
        integer = types.intp
        signature = types.void(out, integer, integer, x, *[integer] * 6)

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            out, o0, ldo, x, x0, odd_row, line, odd_column, beside, count = args
            emit = Emit(context, builder, signature.args[0].dtype)
            out = pointer_to(context, builder, signature.args[0], out, o0)
            x = pointer_to(context, builder, signature.args[3], x, x0)

            def place(a: int, b: int) -> Any:
                down = builder.add(builder.mul(odd_row, I64(a % 2)), builder.mul(line, I64(a // 2)))
                right = builder.add(builder.mul(odd_column, I64(b % 2)), builder.mul(beside, I64(b // 2)))
                return builder.gep(x, [builder.add(down, right)])

            sources = [[place(a, b) for b in side] for a in side]
            targets = [builder.gep(out, [builder.mul(ldo, I64(k))]) for k in range(COMPONENTS)]

            def body(p: Any) -> None:
                tile = [[emit.load(builder.gep(source, [p])) for source in row] for row in sources]
                for value, target in zip(_transformed(builder, matrix, tile), targets, strict=True):
                    emit.store(value, builder.gep(target, [p]))

            with cgutils.for_range_slice(builder, I64(0), count, I64(emit.lanes), I64) as (p, _):
                body(p)
            return context.get_dummy_value()

        return signature, codegen

    return transform


winograd_inputs, winograd_gradients = _make_transform(INPUTS), _make_transform(GRADIENTS)


class _Products:
    """Vectors of outputs from products: element (i, j) of tile p is ``m[m0 + (4*i + j) * ldm + p]``.

    Whole vectors are read, so there must be so much behind the last.
    """

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> None:
        m, m0, ldm, self.count, bias, lowest = args
        self.builder, self.emit = builder, Emit(context, builder, signature.args[0].dtype)
        m = pointer_to(context, builder, signature.args[0], m, m0)
        self.sources = [[builder.gep(m, [builder.mul(ldm, I64(4 * i + j))]) for j in range(4)] for i in range(4)]
        self.bias, self.lowest = self.emit.broadcast(bias), self.emit.broadcast(lowest)

    def outputs(self, p: Any) -> list[Any]:
        """Those of a vector of tiles from p on: upper left and right, lower left and right."""
        tile = [[self.emit.load(self.builder.gep(source, [p])) for source in row] for row in self.sources]
        return _transformed(self.builder, PRODUCTS, tile)

    def finished(self, value: Any) -> Any:
        """Plus the bias, and not below `lowest`; NaN stays NaN."""
        value = self.builder.fadd(value, self.bias)
        return self.builder.select(self.builder.fcmp_ordered("<", value, self.lowest), self.lowest, value)


@intrinsic
def winograd_pooled(typing, m, m0, ldm, count, bias, lowest, out, o0, index, corners, c0, below):  # type: ignore[no-untyped-def]
    """A plane's maxima over 2×2 outputs: `count` tiles, each of which is a window.

    With y the outputs that the products `m` of tile p stand for, ``m[m0 + (4*i + j) * ldm + p]``::

        out[o0 + p] = max(max(y) + bias, lowest)
        index[o0 + p] = corners[c0 + p] + one of 0, 1, below, below + 1

    The first of equals counts, and the last NaN of a window, as in `pool_row_2x2`.
    """
    integer, real = types.intp, m.dtype
    signature = types.void(m, integer, integer, integer, real, real, out, integer, index, corners, integer, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        products = _Products(context, builder, signature, args[:6])
        out, o0, index, corners, c0, below = args[6:]
        emit, integers = products.emit, Integers(products.emit)
        out = pointer_to(context, builder, signature.args[6], out, o0)
        index = pointer_to(context, builder, signature.args[8], index, o0)
        corners = pointer_to(context, builder, signature.args[9], corners, c0)
        down, right = integers.broadcast(below), integers.constant(1)
        offsets = [integers.constant(0), right, down, builder.add(down, right)]

        def body(p: Any, mask: Any) -> None:
            values = products.outputs(p)
            best, place = values[0], offsets[0]
            for value, offset in zip(values[1:], offsets[1:], strict=True):
                larger, is_nan = builder.fcmp_ordered(">", value, best), builder.fcmp_unordered("uno", value, value)
                wins = builder.or_(larger, is_nan)
                best, place = builder.select(wins, value, best), builder.select(wins, offset, place)
            emit.store(products.finished(best), builder.gep(out, [p]), mask)
            place = builder.add(place, integers.load_words(corners, p, mask))
            integers.store(place, builder.gep(index, [p]), mask)

        emit.for_vectors(products.count, body)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def winograd_rows(typing, m, m0, ldm, count, bias, lowest, out, upper0, lower0, columns):  # type: ignore[no-untyped-def]
    """Two rows of outputs of a row of `count` tiles, of which the first `columns` of each are wanted.

    With y the outputs that the products `m` of tile p stand for, as in `winograd_pooled`::

        out[upper0 + 2*p + v] = max(y[0, v] + bias, lowest)
        out[lower0 + 2*p + v] = max(y[1, v] + bias, lowest)

    The upper row is written last: where there is no lower one it may be given the same place.
    """
    integer, real = types.intp, m.dtype
    signature = types.void(m, integer, integer, integer, real, real, out, integer, integer, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        products = _Products(context, builder, signature, args[:6])
        out, upper0, lower0, columns = args[6:]
        emit = products.emit
        upper, lower = (pointer_to(context, builder, signature.args[6], out, at) for at in (upper0, lower0))

        def body(p: Any, masked: Any) -> None:
            values = products.outputs(p)
            for row, (left, right) in ((lower, values[2:]), (upper, values[:2])):
                pair = products.finished(left), products.finished(right)
                _store_pairs(
                    emit, builder.gep(row, [builder.add(p, p)]), *pair, builder.sub(columns, builder.add(p, p)), masked
                )

        _for_pairs(emit, columns, body)
        return context.get_dummy_value()

    return signature, codegen


def _for_pairs(emit: Emit, count: Any, body: Any) -> None:
    """Emit ``body(pair, False)`` for vectors of pairs of `count` numbers, and ``body(pair, True)`` for the rest."""
    builder = emit.builder
    whole = builder.and_(builder.ashr(count, I64(1)), I64(-emit.lanes))
    with cgutils.for_range_slice(builder, I64(0), whole, I64(emit.lanes), I64) as (pair, _):
        body(pair, False)
    with builder.if_then(builder.icmp_signed("<", builder.add(whole, whole), count)):
        body(whole, True)


def _store_pairs(emit: Emit, pointer: Any, left: Any, right: Any, count: Any, masked: bool) -> None:
    """Numbers of `left` and `right` in turn, `count` of them where it is `masked`, else all."""
    builder, lanes = emit.builder, emit.lanes
    index = ir.VectorType(ir.IntType(32), lanes)

    def store(half: int) -> None:
        places = [half * lanes // 2 + i // 2 + i % 2 * lanes for i in range(lanes)]
        merged = builder.shuffle_vector(left, right, ir.Constant(index, places))
        mask = emit.first_lanes(builder.sub(count, I64(half * lanes))) if masked else None
        emit.store(merged, builder.gep(pointer, [I64(half * lanes)]), mask)

    store(0)
    if not masked:
        store(1)
        return
    with builder.if_then(builder.icmp_signed(">", count, I64(lanes))):  # a store of nothing takes its time, too
        store(1)


@intrinsic
def split_row(typing, out, first0, second0, x, x0, count):  # type: ignore[no-untyped-def]
    """``out[first0 + i] = x[x0 + 2 i]`` and ``out[second0 + i] = x[x0 + 2 i + 1]``, of `count` numbers."""
    integer = types.intp
    signature = types.void(out, integer, integer, x, integer, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        out, first0, second0, x, x0, count = args
        emit = Emit(context, builder, signature.args[0].dtype)
        lanes = emit.lanes
        targets = [pointer_to(context, builder, signature.args[0], out, at) for at in (first0, second0)]
        x = pointer_to(context, builder, signature.args[3], x, x0)
        index = ir.VectorType(ir.IntType(32), lanes)

        def body(pair: Any, masked: bool) -> None:
            start = builder.add(pair, pair)
            left = builder.sub(count, start)
            low, high = (
                emit.load(
                    builder.gep(x, [builder.add(start, I64(k * lanes))]),
                    emit.first_lanes(builder.sub(left, I64(k * lanes))) if masked else None,
                )
                for k in (0, 1)
            )
            for side, target in enumerate(targets):
                chosen = builder.shuffle_vector(low, high, ir.Constant(index, [2 * i + side for i in range(lanes)]))
                own = builder.ashr(builder.add(left, I64(1 - side)), I64(1))
                emit.store(chosen, builder.gep(target, [pair]), emit.first_lanes(own) if masked else None)

        _for_pairs(emit, count, body)
        return context.get_dummy_value()

    return signature, codegen
