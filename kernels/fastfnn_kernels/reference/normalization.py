"""Scaling of inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def normalize(x: ArrayLike, factor: ArrayLike, shift: ArrayLike) -> NDArray[np.float64]:
    """``x * factor + shift`` of (n, features); channel c's block of features takes factor[c] and shift[c]."""
    rows = np.asarray(x, np.float64)
    channels = np.size(factor)
    blocks = rows.reshape(len(rows), channels, rows.shape[1] // channels)
    return (blocks * np.reshape(factor, (1, -1, 1)) + np.reshape(shift, (1, -1, 1))).reshape(rows.shape)
