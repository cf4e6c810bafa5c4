"""What intrinsics are written with: the host's vector width, and vector instructions as LLVM IR."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core import config as numba_config
from numba.extending import intrinsic as numba_intrinsic
from numba.np.arrayobj import make_array

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


def pointer_to(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, offset: Any) -> Any:
    """Address of element `offset` (a flat, element-counted index) of `array`."""
    return builder.gep(make_array(array_type)(context, builder, array).data, [offset])


def emit_prefetch(builder: ir.IRBuilder, pointer: Any, *, for_writing: bool) -> None:
    byte = ir.IntType(8).as_pointer()
    function = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
    fetch = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
    builder.call(fetch, [builder.bitcast(pointer, byte), I32(int(for_writing)), I32(3), I32(1)])


class Emit:
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

        Only AVX-512 masks for nothing. AVX2 pays an instruction and a register of its sixteen, and for SSE2 and NEON
        LLVM makes a branch of every lane. There a second body without a mask serves whole vectors.
        """
        if VECTOR_BYTES == 64:
            body(self.first_lanes(count))
            return
        whole = self.builder.icmp_signed("==", count, I64(self.lanes))
        with self.builder.if_else(whole) as (all_lanes, some_lanes):
            with all_lanes:
                body(None)
            with some_lanes:
                body(self.first_lanes(count))

    def for_width(self, columns: Any, widest: int, body: Callable[[list[Any]], None]) -> None:
        """Emit ``body(masks)`` once for every number of vectors up to `widest`, and a choice by `columns`.

        So many registers must be known when this is compiled. The last mask is that of the columns that are left.
        """
        builder = self.builder
        done = builder.append_basic_block("width_done")
        whole = builder.sdiv(builder.sub(columns, I64(1)), I64(self.lanes))
        last = builder.sub(columns, builder.mul(whole, I64(self.lanes)))
        widths = builder.switch(whole, done)
        for n_whole in range(widest):
            block = builder.append_basic_block("width")
            widths.add_case(I64(n_whole), block)
            builder.position_at_end(block)
            self.with_mask(last, lambda mask, masks=[None] * n_whole: body([*masks, mask]))
            builder.branch(done)
        builder.position_at_end(done)

    def for_vectors(self, count: Any, body: Callable[[Any, Any], None]) -> None:
        """Emit a loop of ``body(index, None)`` over whole vectors, and ``body(index, mask)`` for what is left."""
        builder = self.builder
        whole = builder.and_(count, I64(-self.lanes))
        with cgutils.for_range_slice(builder, I64(0), whole, I64(self.lanes), I64) as (index, _):
            body(index, None)
        with builder.if_then(builder.icmp_signed("<", whole, count)):
            body(whole, self.first_lanes(builder.sub(count, whole)))

    def sums(self, vectors: list[Any]) -> Any:
        """A vector whose lane i is the sum of the lanes of vectors[i], of which there are at most as many as lanes.

        log2(lanes) rounds: neighbours are added so that their halves lie side by side, in blocks of 1, 2, 4, … lanes.
        """
        builder, block = self.builder, 1
        while block < self.lanes:
            if len(vectors) % 2:
                vectors = [*vectors, self.zero()]
            lanes = range(self.lanes)
            # In lane l of the result lies, block by block, first one of the left vector, then one of the right.
            place = [
                lane // (2 * block) * 2 * block + lane % block + (lane // block % 2) * self.lanes for lane in lanes
            ]
            index = ir.VectorType(I32, self.lanes)
            even, odd = (ir.Constant(index, [p + shift for p in place]) for shift in (0, block))
            vectors = [
                builder.fadd(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd))
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            block *= 2
        return vectors[0]

    def compress(self, value: Any, mask: Any, pointer: Any) -> None:
        compress(self.builder, value, mask, pointer, f"v{self.lanes}f{8 * self.align}")

    def count(self, mask: Any) -> Any:
        """How many lanes `mask` chooses, as an i64."""
        bits = self.builder.bitcast(mask, ir.IntType(self.lanes))
        return self.builder.zext(self.builder.ctpop(bits), I64) if self.lanes < 64 else self.builder.ctpop(bits)

    def neighbours(self, pointer: Any, count: int) -> list[Any]:
        """Pointers to `count` vectors that lie side by side."""
        return [self.builder.gep(pointer, [I64(j * self.lanes)]) for j in range(count)]

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


class Integers:
    """Vectors of int32, as many as `emit` has lanes."""

    def __init__(self, emit: Emit) -> None:
        self.builder, self.lanes = emit.builder, emit.lanes
        self.vector, self.words = ir.VectorType(I32, emit.lanes), ir.VectorType(I64, emit.lanes)

    def constant(self, value: int) -> ir.Constant:
        return ir.Constant(self.vector, [value] * self.lanes)

    def broadcast(self, value: Any) -> Any:
        """An i64 in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, self.builder.trunc(value, I32), I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(self.vector, [0] * self.lanes))

    def load(self, pointer: Any, mask: Any = None) -> Any:
        return self._load(self.vector, pointer, mask, 4)

    def load_words(self, pointer: Any, index: Any, mask: Any = None) -> Any:
        """From int64."""
        return self.builder.trunc(self._load(self.words, self.builder.gep(pointer, [index]), mask, 8), self.vector)

    def _load(self, vector: ir.VectorType, pointer: Any, mask: Any, align: int) -> Any:
        address = self.builder.bitcast(pointer, vector.as_pointer())
        if mask is None:
            value: Any = self.builder.load(address)
            value.align = align
            return value
        arguments = [vector.as_pointer(), I32, mask.type, vector]
        name = f"llvm.masked.load.v{self.lanes}i{8 * align}.p0"
        load = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(vector, arguments), name)
        return self.builder.call(load, [address, I32(align), mask, ir.Constant(vector, [0] * self.lanes)])

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            stored: Any = self.builder.store(value, address)
            stored.align = 4
            return
        arguments = [self.vector, self.vector.as_pointer(), I32, mask.type]
        name = f"llvm.masked.store.v{self.lanes}i32.p0"
        store = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(ir.VoidType(), arguments), name)
        self.builder.call(store, [value, address, I32(4), mask])

    def compress(self, value: Any, mask: Any, pointer: Any) -> None:
        compress(self.builder, value, mask, pointer, f"v{self.lanes}i32")


def compress(builder: ir.IRBuilder, value: Any, mask: Any, pointer: Any, suffix: str) -> None:
    """Store the lanes that `mask` chooses side by side."""
    function = ir.FunctionType(ir.VoidType(), [value.type, pointer.type, mask.type])
    store = cgutils.get_or_insert_function(builder.module, function, f"llvm.masked.compressstore.{suffix}")
    builder.call(store, [value, pointer, mask])


def emit_products(
    emit: Emit,
    depth: Any,
    starts: dict[tuple[int, int], Any],
    elements: Callable[[Any], list[Any]],
    line: Callable[[Any], list[Any]],
    masks: list[Any],
) -> dict[tuple[int, int], Any]:
    """Emit the loop of every micro-kernel: a tile of vector accumulators that never leave the registers.

    For k from 0 to `depth`, row i's element, at ``elements(k)[i]``, times vector j, at ``line(k)[j]`` and masked by
    ``masks[j]``, is added to accumulator (i, j), which begins as ``starts[i, j]``. Returns the sums.
    """
    builder, before = emit.builder, emit.builder.block
    loop, done = builder.append_basic_block("products"), builder.append_basic_block("products_done")
    builder.cbranch(builder.icmp_signed(">", depth, I64(0)), loop, done)

    builder.position_at_end(loop)
    k = builder.phi(I64)
    sums = {ij: builder.phi(emit.vector) for ij in starts}
    vectors = [emit.load(pointer, mask) for pointer, mask in zip(line(k), masks, strict=True)]
    new = {}
    for i, element in enumerate(elements(k)):
        value = emit.broadcast(builder.load(element))
        new |= {(i, j): emit.multiply_add(value, vector, sums[i, j]) for j, vector in enumerate(vectors)}
    following = builder.add(k, I64(1))
    k.add_incoming(I64(0), before)
    k.add_incoming(following, loop)
    for ij, start in starts.items():
        sums[ij].add_incoming(start, before)
        sums[ij].add_incoming(new[ij], loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)

    builder.position_at_end(done)
    totals = {ij: builder.phi(emit.vector) for ij in starts}
    for ij, start in starts.items():
        totals[ij].add_incoming(start, before)
        totals[ij].add_incoming(new[ij], loop)
    return totals
