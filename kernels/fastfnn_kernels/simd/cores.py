"""On which core a thread runs. Linux alone says: elsewhere nothing is known, and nothing is done."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastfnn_kernels.simd._emit import I32, I64, intrinsic, pointer_to

_IS_LINUX = sys.platform == "linux"
#: Numbers of 64 bits in a set of cores.
CORE_WORDS = 16


@intrinsic
def current_core(typing):  # type: ignore[no-untyped-def]
    """The number of the core that runs this, or -1."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if not _IS_LINUX:
            return I64(-1)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), "sched_getcpu")
        return builder.sext(builder.call(function, []), I64)

    return types.int64(), codegen


def _make(verb: str) -> Any:
    @intrinsic
    def affinity(typing, thread, words, first):  # type: ignore[no-untyped-def]
        """Read or write a thread's set of cores, by the system's number for it (0: this one); whether that was done.

        Core i is bit i % 64 of ``words[first + i // 64]``, of CORE_WORDS words.
        """

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            if not _IS_LINUX:
                return ir.Constant(ir.IntType(1), 0)
            thread, words, first = args
            cores = pointer_to(context, builder, signature.args[1], words, first)
            kind = ir.FunctionType(I32, [I32, I64, cores.type])
            function = cgutils.get_or_insert_function(builder.module, kind, f"sched_{verb}affinity")
            code = builder.call(function, [builder.trunc(thread, I32), I64(8 * CORE_WORDS), cores])
            return cgutils.is_null(builder, code)

        return types.boolean(types.int64, words, types.int64), codegen

    return affinity


get_cores, set_cores = _make("get"), _make("set")
