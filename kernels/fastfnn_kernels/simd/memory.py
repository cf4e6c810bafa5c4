"""Atomics, bits, prefetch, and the records of a program: memory as the machine has it."""

from __future__ import annotations

import platform
import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

from fastfnn_kernels.simd._emit import I32, I64, emit_prefetch, intrinsic, pointer_to

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
_IS_ARM = platform.machine().lower() in ("arm64", "aarch64")


@intrinsic
def atomic_load(typing, array, index):  # type: ignore[no-untyped-def]
    """``array[index]`` of an int64 array; what other threads wrote before their matching store is visible after it."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.load_atomic(pointer_to(context, builder, signature.args[0], args[0], args[1]), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def atomic_store(typing, array, index, value):  # type: ignore[no-untyped-def]
    """``array[index] = value`` for an int64 array, after everything this thread wrote before."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], pointer_to(context, builder, signature.args[0], args[0], args[1]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def atomic_add(typing, array, index, value):  # type: ignore[no-untyped-def]
    """Add to ``array[index]`` of an int64 array in one indivisible step; returns the value before."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def yield_thread(typing):  # type: ignore[no-untyped-def]
    """Let another thread have this core."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        _emit_yield(builder)
        return context.get_dummy_value()

    return types.void(), codegen


def _emit_yield(builder: ir.IRBuilder) -> None:
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), name), [])


@intrinsic
def pause(typing):  # type: ignore[no-untyped-def]
    """A short rest in a loop that polls: the core's other thread gets its units."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if _IS_X86:
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), name), [])
        elif _IS_ARM:
            # All that came before is finished first; the hint "yield" does nothing on most processors. No text of
            # assembly: numba's LLVM cannot read arm64's.
            barrier = ir.FunctionType(ir.VoidType(), [I32])
            builder.call(cgutils.get_or_insert_function(builder.module, barrier, "llvm.aarch64.isb"), [I32(15)])
        return context.get_dummy_value()

    return types.void(), codegen


#: Waiting in the kernel, by the number of Linux' system call. Elsewhere a thread that waits long looks now and then
#: whether it need wait any longer; on Windows, whose shortest sleep is a millisecond, it yields in between.
_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine()) if sys.platform == "linux" else None
#: What POSIX' `clock_gettime` calls the clock that is never set.
_MONOTONIC = {"linux": 1, "darwin": 6}.get(sys.platform)
#: Nanoseconds of a sleep between two looks.
_NAP = 20_000
_FUTEX_WAIT, _FUTEX_WAKE = 128, 129  # among the threads of one process


def sleeps_in_kernel() -> bool:
    """Whether `sleep_while` costs nothing however long it takes."""
    return _FUTEX is not None


@intrinsic
def monotonic_nanoseconds(typing):  # type: ignore[no-untyped-def]
    """The system's clock; 0 where it has none that costs little."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if _MONOTONIC is None:
            return I64(0)
        time = cgutils.alloca_once(builder, ir.ArrayType(I64, 2))
        function = ir.FunctionType(I32, [I32, time.type])
        builder.call(cgutils.get_or_insert_function(builder.module, function, "clock_gettime"), [I32(_MONOTONIC), time])
        seconds, rest = (builder.load(builder.gep(time, [I32(0), I32(i)])) for i in range(2))
        return builder.add(builder.mul(seconds, I64(1_000_000_000)), rest)

    return types.int64(), codegen


@intrinsic
def sleep_while(typing, array, index, value, nanoseconds):  # type: ignore[no-untyped-def]
    """Sleep until `wake_all`, unless ``array[index]`` is another number than `value` by now; less than a second.

    It may wake up sooner.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if _FUTEX is None and sys.platform == "win32":
            _emit_yield(builder)
            return context.get_dummy_value()
        limit = cgutils.alloca_once(builder, ir.ArrayType(I64, 2))
        for place, number in enumerate((I64(0), args[3] if _FUTEX else I64(_NAP))):
            builder.store(number, builder.gep(limit, [I32(0), I32(place)]))
        if _FUTEX is None:
            function = ir.FunctionType(I32, [limit.type, limit.type])
            nanosleep = cgutils.get_or_insert_function(builder.module, function, "nanosleep")
            builder.call(nanosleep, [limit, ir.Constant(limit.type, None)])
            return context.get_dummy_value()
        word = pointer_to(context, builder, signature.args[0], args[0], args[1])  # of which the kernel reads 32 bits
        _call_futex(builder, word, _FUTEX_WAIT, builder.trunc(args[2], I32), limit)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64, types.int64), codegen


@intrinsic
def wake_all(typing, array, index):  # type: ignore[no-untyped-def]
    """Wake all threads that sleep while ``array[index]`` is a number."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if _FUTEX is not None:
            word = pointer_to(context, builder, signature.args[0], args[0], args[1])
            _call_futex(builder, word, _FUTEX_WAKE, I32(2**31 - 1), ir.Constant(word.type, None))
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def _call_futex(builder: ir.IRBuilder, word: Any, operation: int, value: Any, limit: Any) -> None:
    syscall = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I64, [I64], var_arg=True), "syscall")
    arguments = [word, I32(operation), value, limit, ir.Constant(word.type, None), I32(0)]
    builder.call(syscall, [I64(_FUTEX), *arguments])


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
def settled(typing, x):  # type: ignore[no-untyped-def]
    """`x`, a float, as it was computed: a loop that multiplies by a quotient would else divide in every step."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(x)
        name = f"llvm.arithmetic.fence.f{x.bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), args)

    return x(x), codegen


#: Bits of an x86 processor's control word that have it take subnormal numbers for zero, and make none.
_FLUSHES = 0x8040


@intrinsic
def flush_subnormals(typing):  # type: ignore[no-untyped-def]
    """Have this thread's float instructions make zeros of subnormal numbers; returns what `restore_control` takes.

    A subnormal number costs a processor a hundred cycles, and averages that decay, as Adam's, end there. Other
    processors than x86 are left as they are.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if not _IS_X86:
            return I32(0)
        place = cgutils.alloca_once(builder, I32)
        _call_with_pointer(builder, "llvm.x86.sse.stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, I32(_FLUSHES)), place)
        _call_with_pointer(builder, "llvm.x86.sse.ldmxcsr", place)
        return before

    return types.int32(), codegen


@intrinsic
def restore_control(typing, before):  # type: ignore[no-untyped-def]
    """Undo `flush_subnormals`, given what that returned."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if _IS_X86:
            place = cgutils.alloca_once_value(builder, args[0])
            _call_with_pointer(builder, "llvm.x86.sse.ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), codegen


def _call_with_pointer(builder: ir.IRBuilder, name: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [byte]), name)
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def prefetch(typing, array, index):  # type: ignore[no-untyped-def]
    """Have the cache line of element `index` of a flat array fetched for reading; a wrong one does no harm."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        emit_prefetch(builder, pointer_to(context, builder, signature.args[0], args[0], args[1]), for_writing=False)
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def array_at(typing, address, shape, dtype):  # type: ignore[no-untyped-def]
    """The numbers of `dtype` (a NumPy scalar class) at `address` as a C-contiguous array; Python keeps them alive."""
    element = dtype.instance_type
    array_type = types.Array(element, len(shape), "C")

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        array = make_array(array_type)(context, builder)
        sizes = cgutils.unpack_tuple(builder, args[1])
        item_bytes = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(element)))
        strides = [item_bytes]
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        data = builder.inttoptr(args[0], context.get_data_type(element).as_pointer())
        populate_array(array, data=data, shape=sizes, strides=strides, itemsize=item_bytes, meminfo=None)
        return array._getvalue()

    return array_type(types.int64, shape, dtype), codegen


@intrinsic
def number_at(typing, address, dtype):  # type: ignore[no-untyped-def]
    """The number of `dtype` (a NumPy scalar class) at `address`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], context.get_data_type(dtype.instance_type).as_pointer()))

    return dtype.instance_type(types.int64, dtype), codegen


# A record is a structure whose fields numba reads by name. It is passed on as a pointer, but returned as a copy: so
# these are intrinsics, which become part of their caller.


@intrinsic
def record_at(typing, address, layout):  # type: ignore[no-untyped-def]
    """The structure of the dtype `layout` at `address`: not a copy."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(layout.dtype))

    return layout.dtype(types.int64, layout), codegen


@intrinsic
def record_in(typing, array, first, layout):  # type: ignore[no-untyped-def]
    """The structure of the dtype `layout` that lies in a flat array, from element `first` on: not a copy."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        return builder.bitcast(pointer, context.get_value_type(layout.dtype))

    return layout.dtype(array, types.intp, layout), codegen


@intrinsic
def call_operation(typing, function, record, at):  # type: ignore[no-untyped-def]
    """Call the operation at the address `function` with its record and the thread's place."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        operation = ir.FunctionType(ir.VoidType(), [byte, byte])
        pointers = [builder.bitcast(pointer, byte) for pointer in args[1:]]
        builder.call(builder.inttoptr(args[0], operation.as_pointer()), pointers)
        return context.get_dummy_value()

    return types.void(types.int64, record, at), codegen


@intrinsic
def call_launched(typing, function, argument, tid, size):  # type: ignore[no-untyped-def]
    """Call the compiled function of three integers at the address `function`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        launched = ir.FunctionType(ir.VoidType(), [I64] * 3)
        builder.call(builder.inttoptr(args[0], launched.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
