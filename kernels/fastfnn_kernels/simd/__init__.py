"""Vectors and atomics for kernels: the only package that emits LLVM IR.

numba compiles scalar code and hopes that LLVM vectorises it. For a matrix product that hope is not enough: the
accumulators must stay in registers for the whole inner loop. So the inner loop is written here once, as LLVM IR, for
whatever vector width the host has. Everything else is ordinary numba.

An intrinsic takes numba arrays and offsets counted in elements; none of them checks a bound.
"""

from fastfnn_kernels.simd._emit import VECTOR_BYTES, VECTOR_REGISTERS
from fastfnn_kernels.simd.convolution import (
    convolve_tile,
    convolve_wide_tile,
    correlate_tile,
    correlate_wide_tile,
    move_row,
)
from fastfnn_kernels.simd.cores import CORE_WORDS, current_core, get_cores, set_cores
from fastfnn_kernels.simd.marked import (
    MARKED_ROWS,
    WIDEST_MARKED,
    WIDEST_MARKED_ROW,
    add_marked,
    count_bits,
    multiply_marked,
    words_with,
)
from fastfnn_kernels.simd.memory import (
    array_at,
    atomic_add,
    atomic_load,
    atomic_store,
    bits_of,
    call_launched,
    call_operation,
    float_of,
    flush_subnormals,
    monotonic_nanoseconds,
    number_at,
    pause,
    prefetch,
    record_at,
    record_in,
    restore_control,
    settled,
    sleep_while,
    sleeps_in_kernel,
    wake_all,
    yield_thread,
)
from fastfnn_kernels.simd.pieces import gather_pieces, list_windows, scatter_pieces
from fastfnn_kernels.simd.pooling import pool_row_2x2, spread_row_2x2
from fastfnn_kernels.simd.softmax_rows import make_softmax_rows, stack_array
from fastfnn_kernels.simd.sparse import WIDEST_STRIP, WORD_BITS, add_rows, add_to_rows, differing_bits
from fastfnn_kernels.simd.tile import copy_vector, multiply_tile, transpose_block
from fastfnn_kernels.simd.winograd import (
    COMPONENTS,
    split_row,
    winograd_gradients,
    winograd_inputs,
    winograd_pooled,
    winograd_rows,
)

__all__ = [
    "COMPONENTS",
    "CORE_WORDS",
    "MARKED_ROWS",
    "VECTOR_BYTES",
    "VECTOR_REGISTERS",
    "WIDEST_MARKED",
    "WIDEST_MARKED_ROW",
    "WIDEST_STRIP",
    "WORD_BITS",
    "add_marked",
    "add_rows",
    "add_to_rows",
    "array_at",
    "atomic_add",
    "atomic_load",
    "atomic_store",
    "bits_of",
    "call_launched",
    "call_operation",
    "convolve_tile",
    "convolve_wide_tile",
    "copy_vector",
    "correlate_tile",
    "correlate_wide_tile",
    "count_bits",
    "current_core",
    "differing_bits",
    "float_of",
    "flush_subnormals",
    "gather_pieces",
    "get_cores",
    "list_windows",
    "make_softmax_rows",
    "monotonic_nanoseconds",
    "move_row",
    "multiply_marked",
    "multiply_tile",
    "number_at",
    "pause",
    "pool_row_2x2",
    "prefetch",
    "record_at",
    "record_in",
    "restore_control",
    "scatter_pieces",
    "set_cores",
    "settled",
    "sleep_while",
    "sleeps_in_kernel",
    "split_row",
    "spread_row_2x2",
    "stack_array",
    "transpose_block",
    "wake_all",
    "winograd_gradients",
    "winograd_inputs",
    "winograd_pooled",
    "winograd_rows",
    "words_with",
    "yield_thread",
]
