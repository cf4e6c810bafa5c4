"""Products that skip zeros: which elements of a matrix are some is marked by bits, 64 columns a word.

``marks[i // 64, b, i % 64]`` is the word of row i and columns 64·b to 64·b + 63, the first of them its lowest bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

#: Bits of a word: columns that one says something of, and rows whose words lie side by side.
WORD_BITS = 64


def mark_nonzeros(
    out: ArrayLike, marks: ArrayLike, x: Array, zero: float = 0.0, factor: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``(x - zero) * factor``, and marks of the elements that are not `zero`; marks of rows that are none stay."""
    x = np.asarray(x, np.float64)
    new_marks = np.array(marks)
    for i, row in enumerate(x):
        for b in range(new_marks.shape[1]):
            bits = sum(1 << int(j) for j in np.flatnonzero(row[b * WORD_BITS : (b + 1) * WORD_BITS] != zero))
            new_marks[i // WORD_BITS, b, i % WORD_BITS] = np.uint64(bits).astype(np.int64)
    return (x - zero) * factor, new_marks


def marked_linear(
    x: ArrayLike, marks: Array, weight: ArrayLike, bias: ArrayLike, shift: float = 0.0, relu: bool = False
) -> NDArray[np.float64]:
    """``(x + shift) @ weight + bias``, through a ReLU where asked; NaN stays NaN. What is not marked is zero."""
    x = np.asarray(x, np.float64)
    out = (x + float(shift)) @ np.asarray(weight, np.float64) + np.asarray(bias, np.float64)
    return np.where(out < 0, 0, out) if relu else out


def marked_backward_weight(
    grad_weight: ArrayLike,
    x: ArrayLike,
    marks: Array,
    grad_out: ArrayLike,
    shift: float = 0.0,
    alpha: float = 1.0,
    accumulate: bool = False,
) -> NDArray[np.float64]:
    """``grad_weight (+)= alpha * (x + shift).T @ grad_out``."""
    x = np.asarray(x, np.float64)
    gradient = (x + float(shift)).T @ np.asarray(grad_out, np.float64)
    return float(alpha) * gradient + (np.asarray(grad_weight, np.float64) if accumulate else 0)
