"""Vectors and atomics for kernels: the only package that emits LLVM IR.

numba compiles scalar code and hopes that LLVM vectorises it. For a matrix product that hope is not enough: the
accumulators must stay in registers for the whole inner loop. So the inner loop is written here once, as LLVM IR, for
whatever vector width the host has. Everything else is ordinary numba.

An intrinsic takes numba arrays and offsets counted in elements; none of them checks a bound.
"""

from fastfnn_kernels.simd._emit import VECTOR_BYTES, VECTOR_REGISTERS
from fastfnn_kernels.simd.memory import (
    array_at,
    atomic_add,
    atomic_load,
    atomic_store,
    bits_of,
    call_operation,
    float_of,
    prefetch,
    word,
    yield_thread,
)
from fastfnn_kernels.simd.softmax_rows import make_softmax_rows, stack_array
from fastfnn_kernels.simd.tile import copy_vector, multiply_tile, transpose_block

__all__ = [
    "VECTOR_BYTES",
    "VECTOR_REGISTERS",
    "array_at",
    "atomic_add",
    "atomic_load",
    "atomic_store",
    "bits_of",
    "call_operation",
    "copy_vector",
    "float_of",
    "make_softmax_rows",
    "multiply_tile",
    "prefetch",
    "stack_array",
    "transpose_block",
    "word",
    "yield_thread",
]
