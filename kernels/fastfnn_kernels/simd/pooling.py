"""Rows of 2×2 pooling: five to fourteen outputs, which are too few for LLVM's own vector loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastfnn_kernels.simd._emit import I64, Emit, Integers, intrinsic, pointer_to


class _Windows:
    """Vectors of neighbouring 2×2 windows: a lane of `emit` for each window, and one of int32 beside it."""

    def __init__(self, builder: ir.IRBuilder, emit: Emit) -> None:
        lanes = emit.lanes
        self.builder, self.emit, self.lanes = builder, emit, lanes
        self.integers = Integers(emit)

    def each(self, count: Any, body: Callable[[Any, Any], None]) -> None:
        """Emit ``body(first window, number of windows)`` for every vector of `count` windows; None: all lanes."""
        whole = self.builder.and_(count, I64(-self.lanes))
        with cgutils.for_range_slice(self.builder, I64(0), whole, I64(self.lanes)) as (j, _):
            body(j, None)
        rest = self.builder.sub(count, whole)
        with self.builder.if_then(self.builder.icmp_signed(">", rest, I64(0))):
            body(whole, rest)

    def mask(self, count: Any) -> Any:
        return None if count is None else self.emit.first_lanes(count)

    def pair_masks(self, count: Any) -> tuple[Any, Any]:
        """Masks of the two vectors that the 2 * `count` elements of a row of windows fill."""
        if count is None:
            return None, None
        elements = self.builder.add(count, count)
        return self.emit.first_lanes(elements), self.emit.first_lanes(self.builder.sub(elements, I64(self.lanes)))

    def load_split(self, pointer: Any, masks: tuple[Any, Any]) -> tuple[Any, Any]:
        """The windows' left and their right elements."""
        low = self.emit.load(pointer, masks[0])
        high = self.emit.load(self.builder.gep(pointer, [I64(self.lanes)]), masks[1])
        even, odd = (ir.Constant(self.integers.vector, [2 * i + side for i in range(self.lanes)]) for side in (0, 1))
        return self.builder.shuffle_vector(low, high, even), self.builder.shuffle_vector(low, high, odd)

    def store_merged(self, left: Any, right: Any, pointer: Any, masks: tuple[Any, Any]) -> None:
        """The inverse of `load_split`."""
        for half, mask in enumerate(masks):
            places = [half * self.lanes // 2 + i // 2 + i % 2 * self.lanes for i in range(self.lanes)]
            merged = self.builder.shuffle_vector(left, right, ir.Constant(self.integers.vector, places))
            self.emit.store(merged, self.builder.gep(pointer, [I64(half * self.lanes)]), mask)

    def first_places(self, position: Any, j: Any) -> Any:
        """``position + 2 j`` of the windows from j on: the places of their upper left elements."""
        steps = ir.Constant(self.integers.vector, [2 * i for i in range(self.lanes)])
        return self.builder.add(self.integers.broadcast(self.builder.add(position, self.builder.add(j, j))), steps)


@intrinsic
def pool_row_2x2(typing, out, out0, index, index0, x, x0, ldx, count, position, bias, lowest):  # type: ignore[no-untyped-def]
    """A row of `count` maxima over 2×2 windows that lie side by side.

    With m the largest of ``x[x0 + 2j]``, ``x[x0 + 2j + 1]``, ``x[x0 + ldx + 2j]`` and ``x[x0 + ldx + 2j + 1]``, for
    ``0 <= j < count``::

        out[out0 + j] = max(m + bias, lowest)
        index[index0 + j] = position + 2j + one of 0, 1, ldx, ldx + 1

    `index` (int32) tells where m lies: the first of equals, in this order. A NaN is larger than every number, and the
    last NaN of a window is the one that counts, as in PyTorch; `lowest` (0: a fused ReLU; -inf: none) lets it pass.
    """
    integer, real = types.intp, x.dtype
    signature = types.void(out, integer, index, integer, x, integer, integer, integer, integer, real, real)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        out, out0, index, index0, x, x0, ldx, count, position, bias, lowest = args
        emit = Emit(context, builder, real)
        windows = _Windows(builder, emit)
        out = pointer_to(context, builder, signature.args[0], out, out0)
        index = pointer_to(context, builder, signature.args[2], index, index0)
        upper = pointer_to(context, builder, signature.args[4], x, x0)
        lower = builder.gep(upper, [ldx])
        to_lower, bias, lowest = windows.integers.broadcast(ldx), emit.broadcast(bias), emit.broadcast(lowest)

        def larger(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
            """Of two (value, place) the larger; the first of equals."""
            wins = builder.or_(
                builder.fcmp_ordered(">", second[0], first[0]), builder.fcmp_unordered("uno", second[0], second[0])
            )
            return builder.select(wins, second[0], first[0]), builder.select(wins, second[1], first[1])

        def body(j: Any, number: Any) -> None:
            masks, places = windows.pair_masks(number), (windows.integers.constant(0), windows.integers.constant(1))
            start = builder.add(j, j)
            top = larger(*zip(windows.load_split(builder.gep(upper, [start]), masks), places, strict=True))
            value, place = larger(*zip(windows.load_split(builder.gep(lower, [start]), masks), places, strict=True))
            value, place = larger(top, (value, builder.add(place, to_lower)))
            value = builder.fadd(value, bias)
            value = builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)
            mask = windows.mask(number)
            emit.store(value, builder.gep(out, [j]), mask)
            place = builder.add(place, windows.first_places(position, j))
            windows.integers.store(place, builder.gep(index, [j]), mask)

        windows.each(count, body)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def spread_row_2x2(typing, masked, grad_x, x0, ldx, grad, out, g0, index, count, position):  # type: ignore[no-untyped-def]
    """The inverse of `pool_row_2x2`: both rows of `grad_x`, ``2 * count`` elements of each, from a row of `grad`.

    ``grad[g0 + j]`` goes to the place that ``index[g0 + j]`` names, and 0 to the window's other three; with `masked`
    (a literal) 0 to all four where not ``out[g0 + j] > 0``: the gradient of a fused ReLU. Without it `out` is not read.
    """
    with_mask = masked.literal_value
    integer = types.intp
    signature = types.void(masked, grad_x, integer, integer, grad, out, integer, index, integer, integer)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _, grad_x, x0, ldx, grad, out, g0, index, count, position = args
        emit = Emit(context, builder, signature.args[1].dtype)
        windows = _Windows(builder, emit)
        upper = pointer_to(context, builder, signature.args[1], grad_x, x0)
        lower = builder.gep(upper, [ldx])
        grad = pointer_to(context, builder, signature.args[4], grad, g0)
        out = pointer_to(context, builder, signature.args[5], out, g0)
        index = pointer_to(context, builder, signature.args[7], index, g0)
        to_lower = windows.integers.broadcast(ldx)

        def body(j: Any, number: Any) -> None:
            mask, masks = windows.mask(number), windows.pair_masks(number)
            value = emit.load(builder.gep(grad, [j]), mask)
            if with_mask:
                positive = builder.fcmp_ordered(">", emit.load(builder.gep(out, [j]), mask), emit.zero())
                value = builder.select(positive, value, emit.zero())
            place = builder.sub(windows.integers.load(builder.gep(index, [j]), mask), windows.first_places(position, j))

            def where(offset: Any) -> Any:
                return builder.select(builder.icmp_signed("==", place, offset), value, emit.zero())

            right = windows.integers.constant(1)
            start = builder.add(j, j)
            windows.store_merged(where(windows.integers.constant(0)), where(right), builder.gep(upper, [start]), masks)
            windows.store_merged(
                where(to_lower), where(builder.add(to_lower, right)), builder.gep(lower, [start]), masks
            )

        windows.each(count, body)
        return context.get_dummy_value()

    return signature, codegen
