"""Compile ahead of time, so that the first training does not wait."""

from __future__ import annotations

import time

import fastfnn_kernels as kernels
from fastfnn import _checks as check


def warmup(dtypes: tuple[str, ...] = ("float32",)) -> float:
    """Compile every kernel, or load it from the cache.

    Parameters
    ----------
    dtypes : tuple of {"float32", "float64"}

    Returns
    -------
    float
        Seconds that it took.
    """
    checked = [check.as_dtype(dtype) for dtype in dtypes]
    began = time.perf_counter()
    for dtype in checked:
        kernels.registry.compile_all(dtype)
    return time.perf_counter() - began
