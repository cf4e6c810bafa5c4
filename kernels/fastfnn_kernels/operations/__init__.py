"""The operations of a program: each binds a kernel to a record of addresses and sizes.

A new one is a function whose parameters say what they are, or a kernel with the same said beside it; it is registered
by a line, and compiled when a network first uses it. "Rows" are arrays of a chunk's rows, of which an operation gets
those of its thread; "sources" are the caller's data, read in the epoch's order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn_kernels.operations import (
    _ahead,
    _registry,
    activations,
    augmentation,
    convolution,
    dense,
    embedding,
    joins,
    losses,
    normalization,
    pooling,
    sparse,
    updates,
)
from fastfnn_kernels.operations._fields import DATA, INDEX, NETWORK, Room
from fastfnn_kernels.operations._registry import OPERATIONS, address, is_cached, prepare

__all__ = [
    "DATA",
    "INDEX",
    "NETWORK",
    "OPERATIONS",
    "Room",
    "activations",
    "address",
    "augmentation",
    "cached_families",
    "compile_all",
    "convolution",
    "dense",
    "embedding",
    "joins",
    "losses",
    "normalization",
    "pooling",
    "prepare",
    "serve",
    "sparse",
    "updates",
]

#: Dtypes that the caller's data commonly have.
DATA_DTYPES = (np.uint8, np.float32, np.float64)


def compile_all(dtype: Any) -> None:
    """Compile every operation for `dtype`, or load it from the cache."""
    wanted = _all_for(dtype)
    prepare(wanted)
    for operation in wanted:
        address(*operation)


def cached_families(dtype: Any) -> dict[str, tuple[int, int]]:
    """By family, how many operations for `dtype` the cache has, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for name, *dtypes in _all_for(dtype):
        family = OPERATIONS[name].family
        there, all_of_them = found.get(family, (0, 0))
        found[family] = there + is_cached(name, *dtypes), all_of_them + 1
    return dict(sorted(found.items()))


def _all_for(dtype: Any) -> list[tuple[Any, ...]]:
    """Every operation for `dtype`, and for the common dtypes of data."""
    wanted: list[tuple[Any, ...]] = []
    for name, operation in OPERATIONS.items():
        if INDEX in operation.dtypes:
            wanted.append((name, dtype, dtype, np.int32))
        elif DATA in operation.dtypes:
            wanted += [(name, dtype, data_dtype) for data_dtype in DATA_DTYPES]
        else:
            wanted.append((name, dtype) if operation.dtypes else (name,))
    return wanted


def serve() -> None:
    """Compile into the cache what another process asks for: see `_ahead`."""
    _ahead.serve(_registry._compile)
