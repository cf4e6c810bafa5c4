"""Runs one operation, as a program does."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fastfnn_kernels.program import HEAD, Place

RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def run_operation(name: str, dtype: Any, places: list[Any], rows: int, **fields: Any) -> None:
    """Run an operation that is compiled for the network's dtype alone, once at each place of threads.

    `rows` are those of a chunk; `fields` are what a step gives.
    """
    from fastfnn_kernels import operations  # which need the JIT

    operation, known = operations.OPERATIONS[name], {operations.NETWORK: np.dtype(dtype)}
    words = operation.words(fields, known, operations.Room(rows, max(1, *(place.n_threads for place in places), 1)))
    address, table = operations.address(name, *(dtype for _ in operation.dtypes)), np.zeros(1, HEAD)
    operation.write(table, 0, address, words)
    for place in places:
        RUN(address)(table.ctypes.data, ctypes.addressof(place))


def places_of(rows: int, n_threads: int) -> list[Any]:
    """Where the threads of a team are with a chunk of so many rows, a whole batch: in blocks of eight."""
    ends = [min(rows, -(-rows // 8) * tid // n_threads * 8) for tid in range(n_threads + 1)]
    batch = {"rows": rows, "batch_rows": rows, "n_threads": n_threads}
    return [Place(first=ends[tid], last=ends[tid + 1], tid=tid, **batch) for tid in range(n_threads)]
