"""Where branches of a network meet. Results are float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def add(a: ArrayLike, b: ArrayLike, relu: bool) -> Array:
    """``a + b``; with `relu`, what is negative of it becomes 0."""
    total = np.asarray(a, np.float64) + np.asarray(b, np.float64)
    return np.where(total < 0, 0, total) if relu else total


def put_columns(out: ArrayLike, x: ArrayLike, first: int) -> Array:
    """`out` with the columns from `first` on replaced by those of `x`."""
    result, x = np.array(out, np.float64), np.asarray(x, np.float64)
    result[:, first : first + x.shape[1]] = x
    return result


def take_columns(x: ArrayLike, first: int, width: int) -> Array:
    """So many columns from `first` on."""
    return np.asarray(x, np.float64)[:, first : first + width]
