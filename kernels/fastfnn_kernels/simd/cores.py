"""On which core a thread runs. Linux alone says: elsewhere nothing is known, and nothing is done."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastfnn_kernels.simd._emit import I32, I64, intrinsic

_IS_LINUX = sys.platform == "linux"
#: Numbers of 64 bits in a set of cores.
_WORDS = 16


@intrinsic
def current_core(typing):  # type: ignore[no-untyped-def]
    """The number of the core that runs this, or -1."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if not _IS_LINUX:
            return I64(-1)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), "sched_getcpu")
        return builder.sext(builder.call(function, []), I64)

    return types.int64(), codegen


@intrinsic
def allow_core(typing, thread, core, allowed):  # type: ignore[no-untyped-def]
    """Let a thread, by the system's number for it (0: this one), have a core, or no longer; not from its last one."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if not _IS_LINUX:
            return context.get_dummy_value()
        thread, core, allowed = args
        cores = cgutils.alloca_once(builder, ir.ArrayType(I64, _WORDS))
        kind = ir.FunctionType(I32, [I32, I64, cores.type])
        get, put = (
            cgutils.get_or_insert_function(builder.module, kind, f"sched_{verb}affinity") for verb in ("get", "set")
        )
        arguments = [builder.trunc(thread, I32), I64(8 * _WORDS), cores]
        is_one = builder.icmp_unsigned("<", core, I64(64 * _WORDS))
        with builder.if_then(is_one), builder.if_then(cgutils.is_null(builder, builder.call(get, arguments))):
            word = builder.gep(cores, [I32(0), builder.lshr(core, I64(6))])
            before, bit = builder.load(word), builder.shl(I64(1), builder.and_(core, I64(63)))
            with_it, without = builder.or_(before, bit), builder.and_(before, builder.not_(bit))
            builder.store(builder.select(cgutils.is_not_null(builder, allowed), with_it, without), word)
            builder.call(put, arguments)  # which refuses an empty set
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen
