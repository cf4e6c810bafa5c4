"""The operations of a program: each binds a kernel to a record of addresses and sizes.

A function in these modules makes the operation ``(record, at)`` for a dtype; `address` compiles it on first use. What
follows the address in its record (see `program`) is listed in its docstring or its module's. "Rows" are arrays of a
chunk's rows, of which an operation does those of its thread; "data" are arrays of all rows, read in the epoch's order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn_kernels.operations import (
    _ahead,
    activations,
    convolution,
    dense,
    losses,
    normalization,
    pooling,
    sparse,
    updates,
)
from fastfnn_kernels.operations._record import MAKERS, address, prepare

__all__ = [
    "MAKERS",
    "activations",
    "address",
    "compile_all",
    "convolution",
    "dense",
    "losses",
    "normalization",
    "pooling",
    "prepare",
    "serve",
    "sparse",
    "updates",
]

#: Operations of no dtype.
WITHOUT_DTYPE = ("gather_labels", "dropout_step")
#: Operations that read the caller's data, and dtypes that those commonly have.
READ_DATA = ("gather", "mark_rows")
DATA_DTYPES = (np.uint8, np.float32, np.float64)


def compile_all(dtype: Any) -> None:
    """Compile every operation for `dtype`, or load it from the cache."""
    wanted = []
    for name in MAKERS:
        if name in WITHOUT_DTYPE:
            wanted.append((name,))
        elif name in READ_DATA:
            wanted += [(name, dtype, data_dtype) for data_dtype in DATA_DTYPES]
        elif name in ("csr_nonzeros", "mark_csr_rows"):
            wanted.append((name, dtype, dtype, np.int32))
        else:
            wanted.append((name, dtype))
    prepare(wanted)
    for operation in wanted:
        address(*operation)


def serve() -> None:
    """Compile into the cache what another process asks for: see `_ahead`."""
    _ahead.serve(lambda key: address(*key))
