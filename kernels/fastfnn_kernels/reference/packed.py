"""The affine layer with a packed weight: strips of columns, (strips, in, width), whose last is filled up with zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def packed_linear(
    x: ArrayLike,
    strips: NDArray[Any],
    bias: ArrayLike,
    sums: ArrayLike,
    most: float = 0.0,
    reach: float = 0.0,
    relu: bool = False,
) -> NDArray[np.float64]:
    """``x @ weight + bias``, through a ReLU where asked; NaN stays NaN. Which terms are left out changes nothing."""
    bias = np.asarray(bias, np.float64)
    n_strips, depth, width = strips.shape
    weight = np.moveaxis(np.asarray(strips, np.float64), 0, 1).reshape(depth, n_strips * width)[:, : bias.size]
    out = np.asarray(x, np.float64) @ weight + bias
    return np.where(out < 0, 0, out) if relu else out
