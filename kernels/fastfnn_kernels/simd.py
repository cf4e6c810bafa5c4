"""Vectors and atomics for kernels: the only file that emits LLVM IR.

numba compiles scalar code and hopes that LLVM vectorises it. For a matrix product that hope is not
enough: the accumulators must stay in registers for the whole inner loop. So the inner loop is written
here once, as LLVM IR, for whatever vector width the host has. Everything above this file is ordinary
numba.

An intrinsic takes numba arrays and offsets counted in elements; none of them checks a bound.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core import config as numba_config
from numba.extending import intrinsic as numba_intrinsic
from numba.np.arrayobj import make_array, populate_array

# An intrinsic is written with a leading typing context that its callers do not pass; no type checker knows that.
intrinsic: Any = numba_intrinsic
config: Any = numba_config  # its settings are made at run time

I32, I64 = ir.IntType(32), ir.IntType(64)


def _host_vector_bytes() -> int:
    """Width of a vector register: what numba will compile for, not merely what the host has."""
    if config.CPU_FEATURES is not None:
        features = set(config.CPU_FEATURES.split(","))
    elif config.CPU_NAME is not None:  # "generic", or a processor whose features numba is not told
        features = set()
    else:
        features = {f"+{name}" for name, on in binding.get_host_cpu_features().items() if on}
    if "+avx512f" in features:
        return 64
    return 32 if "+avx2" in features else 16  # SSE2 and NEON are both 128 bits wide


if sys.platform == "win32":
    binding.load_library_permanently("kernel32.dll")  # SwitchToThread

VECTOR_BYTES = _host_vector_bytes()
#: How many vector registers there are: they bound the micro-kernel's tile.
VECTOR_REGISTERS = 32 if VECTOR_BYTES == 64 or platform.machine().lower() in ("arm64", "aarch64") else 16


def _pointer(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, offset: Any) -> Any:
    """Address of element `offset` (a flat, element-counted index) of `array`."""
    return builder.gep(make_array(array_type)(context, builder, array).data, [offset])


def _prefetch(builder: ir.IRBuilder, pointer: Any, *, for_writing: bool) -> None:
    byte = ir.IntType(8).as_pointer()
    function = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
    fetch = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
    builder.call(fetch, [builder.bitcast(pointer, byte), I32(int(for_writing)), I32(3), I32(1)])


class _Emit:
    """Vector instructions of one element type, bound to a builder."""

    def __init__(self, context: Any, builder: ir.IRBuilder, dtype: Any) -> None:
        lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        self.builder, self.lanes = builder, lanes
        self.scalar = context.get_value_type(dtype)
        self.vector = ir.VectorType(self.scalar, lanes)
        self.align = dtype.bitwidth // 8
        suffix = f"v{lanes}f{dtype.bitwidth}"
        mask = ir.VectorType(ir.IntType(1), lanes)
        pointer = self.vector.as_pointer()
        declare = lambda name, result, args: cgutils.get_or_insert_function(  # noqa: E731
            builder.module, ir.FunctionType(result, args), name
        )
        # fmuladd, not fma: where the host has no FMA unit it becomes a multiply and an add, not a library call.
        self._fmuladd = declare(f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3)
        self._load = declare(f"llvm.masked.load.{suffix}.p0", self.vector, [pointer, I32, mask, self.vector])
        self._store = declare(f"llvm.masked.store.{suffix}.p0", ir.VoidType(), [self.vector, pointer, I32, mask])

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.vector, [value] * self.lanes)

    def zero(self) -> ir.Constant:
        return self.constant(0.0)

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, I32(0))
        return self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        )

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.call(self._fmuladd, [a, b, c])

    def first_lanes(self, count: Any) -> Any:
        """Mask of the first `count` lanes (an i64)."""
        lane_type = ir.VectorType(I64, self.lanes)
        undefined = ir.Constant(lane_type, ir.Undefined)
        first = self.builder.insert_element(undefined, count, I32(0))
        counts = self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        )
        return self.builder.icmp_signed("<", ir.Constant(lane_type, list(range(self.lanes))), counts)

    def with_mask(self, count: Any, body: Callable[[Any], None]) -> None:
        """Emit ``body(mask of the first `count` lanes)``.

        SSE2 and NEON have no masked instructions: LLVM makes a branch of every lane. There a second body without a
        mask serves whole vectors.
        """
        if VECTOR_BYTES > 16:
            body(self.first_lanes(count))
            return
        whole = self.builder.icmp_signed("==", count, I64(self.lanes))
        with self.builder.if_else(whole) as (all_lanes, some_lanes):
            with all_lanes:
                body(None)
            with some_lanes:
                body(self.first_lanes(count))

    def reduce(self, combine: Callable[[Any, Any], Any], vector: Any) -> Any:
        """A vector's elements combined into one: its lower half with its upper, and so on."""
        half = self.lanes // 2
        while half:
            index = ir.VectorType(I32, half)
            lower, upper = (ir.Constant(index, list(range(first, first + half))) for first in (0, half))
            vector = combine(
                self.builder.shuffle_vector(vector, vector, lower), self.builder.shuffle_vector(vector, vector, upper)
            )
            half //= 2
        return self.builder.extract_element(vector, I32(0))

    def load(self, pointer: Any, mask: Any = None, other: Any = None) -> Any:
        """The vector at `pointer`; a lane that `mask` leaves out is `other`'s, or zero."""
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            value = self.builder.load(address)
            value.align = self.align
            return value
        return self.builder.call(self._load, [address, I32(self.align), mask, other or self.zero()])

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            stored: Any = self.builder.store(value, address)
            stored.align = self.align
        else:
            self.builder.call(self._store, [value, address, I32(self.align), mask])


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
        emit = _Emit(context, builder, dtype)
        c = _pointer(context, builder, signature.args[2], c, c0)
        a = _pointer(context, builder, signature.args[5], a, a0)
        b = _pointer(context, builder, signature.args[9], b, b0)
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
                _prefetch(builder, target, for_writing=True)  # it arrives while the sums are made
            builder.cbranch(builder.icmp_signed(">", depth, I64(0)), loop, done)

            builder.position_at_end(loop)
            k, a_offset, b_offset = (builder.phi(I64) for _ in range(3))
            sums = {ij: builder.phi(emit.vector) for ij in place}
            b_row = builder.gep(b, [b_offset])
            b_vectors = [emit.load(builder.gep(b_row, [I64(j * emit.lanes)]), masks[j]) for j in range(n_vectors)]
            a_elements = [emit.broadcast(builder.load(builder.gep(a_row_i, [a_offset]))) for a_row_i in a_rows]
            new = {(i, j): emit.multiply_add(a_elements[i], b_vectors[j], sums[i, j]) for i, j in place}
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
        emit = _Emit(context, builder, signature.args[0].dtype)
        source = _pointer(context, builder, signature.args[2], x, x0)
        target = _pointer(context, builder, signature.args[0], out, out0)
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
        out = _pointer(context, builder, signature.args[0], out, out0)
        x = _pointer(context, builder, signature.args[3], x, x0)
        emit = _Emit(context, builder, signature.args[0].dtype)
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
            emit = _Emit(context, builder, real)
            out = _pointer(context, builder, signature.args[1], out, out0)
            x = _pointer(context, builder, signature.args[3], x, x0)
            largest = _pointer(context, builder, signature.args[8], largest, at)
            total = _pointer(context, builder, signature.args[9], total, at)
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


@intrinsic
def atomic_load(typing, array, index):  # type: ignore[no-untyped-def]
    """``array[index]`` of an int64 array; what other threads wrote before their matching store is visible after it."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, signature.args[0], args[0], args[1]), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def atomic_store(typing, array, index, value):  # type: ignore[no-untyped-def]
    """``array[index] = value`` for an int64 array, after everything this thread wrote before."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def atomic_add(typing, array, index, value):  # type: ignore[no-untyped-def]
    """Add to ``array[index]`` of an int64 array in one indivisible step; returns the value before."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def yield_thread(typing):  # type: ignore[no-untyped-def]
    """Let another thread have this core."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def bits_of(typing, x):  # type: ignore[no-untyped-def]
    """The bit pattern of a float32 or float64 as an int32 or int64."""
    bits = types.int32 if x.bitwidth == 32 else types.int64

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(bits))

    return bits(x), codegen


@intrinsic
def float_of(typing, bits):  # type: ignore[no-untyped-def]
    """The float32 or float64 that has the bit pattern of an int32 or int64."""
    real = types.float32 if bits.bitwidth == 32 else types.float64

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(real))

    return real(bits), codegen


@intrinsic
def prefetch(typing, address):  # type: ignore[no-untyped-def]
    """Have the cache line at `address` fetched for reading; a wrong address does no harm."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _prefetch(builder, builder.inttoptr(args[0], I64.as_pointer()), for_writing=False)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def word(typing, address, index):  # type: ignore[no-untyped-def]
    """The int64 at `address` + 8 * `index`: a field of an operation's record."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(args[0], I64.as_pointer()), [args[1]]))

    return types.int64(types.int64, types.intp), codegen


@intrinsic
def array_at(typing, address, count, dtype):  # type: ignore[no-untyped-def]
    """The `count` numbers of `dtype` (a NumPy scalar class) at `address`, as a flat array; Python keeps them alive."""
    element = dtype.instance_type
    array_type = types.Array(element, 1, "C")

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        array = make_array(array_type)(context, builder)
        item_bytes = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(element)))
        data = builder.inttoptr(args[0], context.get_data_type(element).as_pointer())
        populate_array(array, data=data, shape=[args[1]], strides=[item_bytes], itemsize=item_bytes, meminfo=None)
        return array._getvalue()

    return array_type(types.int64, types.intp, dtype), codegen


@intrinsic
def call_operation(typing, function, record, at):  # type: ignore[no-untyped-def]
    """Call the operation at the address `function` with the addresses of its record and of the thread's place."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        operation = ir.FunctionType(ir.VoidType(), [I64, I64])
        builder.call(builder.inttoptr(args[0], operation.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen
