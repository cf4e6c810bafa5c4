"""How operations come to the caller's rows, in the order of the epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn_kernels._config import helper
from fastfnn_kernels.program import JOB
from fastfnn_kernels.simd import number_at, prefetch, record_at

CACHE_LINE = 64


@helper
def data_row(place: Any, row: int) -> int:
    """Where a row of the chunk is in the data."""
    at = place.start + row
    return number_at(place.order + 8 * at, np.int64) if place.order else at


@helper
def refuse_row(place: Any, row: int) -> None:
    """Say that a row of the data holds what would be read or written as an address elsewhere.

    It was checked when the call began; since then somebody has written into it. With a loss all threads stop at the
    next barrier; whoever has called has to be told.
    """
    record_at(place.job, JOB).bad_row = row + 1


@helper
def prefetch_row(place: Any, data: Any, width: int, ahead: int) -> None:
    """Ask for this thread's row `ahead` of the data: rows in random order are no pattern to a processor."""
    first = data_row(place, place.first + ahead) * width
    for element in range(first, first + width, CACHE_LINE // data.itemsize):
        prefetch(data, element)
