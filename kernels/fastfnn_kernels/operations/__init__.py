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
from fastfnn_kernels.operations._registry import OPERATIONS, address, prepare

__all__ = [
    "DATA",
    "INDEX",
    "NETWORK",
    "OPERATIONS",
    "Room",
    "activations",
    "address",
    "augmentation",
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
    wanted = []
    for name, operation in OPERATIONS.items():
        if INDEX in operation.dtypes:
            wanted.append((name, dtype, dtype, np.int32))
        elif DATA in operation.dtypes:
            wanted += [(name, dtype, data_dtype) for data_dtype in DATA_DTYPES]
        else:
            wanted.append((name, dtype) if operation.dtypes else (name,))
    prepare(wanted)
    for operation in wanted:
        address(*operation)


def serve() -> None:
    """Compile into the cache what another process asks for: see `_ahead`."""
    _ahead.serve(lambda key: address(*key))
