"""What the tests of single micro-kernels share: guarded memory for their arguments, and counts around a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from _helpers import READ_SENTINEL, WRITE_SENTINEL, Guarded
from numpy.typing import NDArray

from fastfnn_kernels import simd

DTYPES = ("float32", "float64")
#: None, one, and both sides of one and two vectors of any width.
COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 14, 15, 16, 17, 31, 32, 33)
#: What lies beside the elements that are to be written, inside the array.
UNTOUCHED = 77


def guarded(array: NDArray[Any]) -> NDArray[Any]:
    return Guarded(array, READ_SENTINEL).array


def blank(size: int, dtype: Any) -> Guarded:
    return Guarded(np.full(size, UNTOUCHED, dtype), WRITE_SENTINEL)


def lanes_of(dtype: Any) -> int:
    return simd.VECTOR_BYTES // np.dtype(dtype).itemsize
