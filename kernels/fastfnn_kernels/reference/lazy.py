"""Lazy updates: a row that all rows of a weight are still to be given, and the sums of its columns as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: When a weight is settled: before the first steps, or before the next; before somebody looks at it; afterwards.
BEGIN, RENEW, LEAVE, RESUME = range(4)


def add_pending(
    out: ArrayLike,
    sums: Any,
    x: ArrayLike,
    totals: ArrayLike,
    pending: ArrayLike,
    shift: float,
    relu: bool = False,
) -> tuple[Array, Array]:
    """What ``out = x @ weight`` lacks of ``(x + shift) @ (weight + pending)``, and the sums of the rows of x."""
    x, totals, pending = (np.asarray(array, np.float64) for array in (x, totals, pending))
    sums = x.sum(axis=1)
    added = float(shift) * totals + (sums + x.shape[1] * float(shift))[:, None] * pending
    result = np.asarray(out, np.float64) + added
    return np.where(result < 0, 0, result) if relu else result, sums


def defer(
    pending: ArrayLike, totals: ArrayLike, sums: ArrayLike, grad_out: ArrayLike, shift: float, alpha: float
) -> tuple[Array, Array]:
    """``alpha * (x + shift).T @ grad_out``: the row that all have in common, and what the rest adds to the totals."""
    sums, grad_out = np.asarray(sums, np.float64), np.asarray(grad_out, np.float64)
    alpha, shift = float(alpha), float(shift)
    row = alpha * shift * grad_out.sum(axis=0)
    return np.asarray(pending, np.float64) + row, np.asarray(totals, np.float64) + alpha * (sums @ grad_out)


def settle(
    weight: NDArray[Any], kept: NDArray[Any], pending: NDArray[Any], totals: NDArray[Any], when: int
) -> tuple[Array, Array, Array, Array]:
    """The weight, what is kept of it, what it lacks and its columns' sums after such an event."""
    given = weight + pending  # in their dtype, for they are compared
    same = (weight == kept + pending).all(axis=0)
    weight, kept, pending, totals, given = (
        np.array(array, np.float64) for array in (weight, kept, pending, totals, given)
    )
    if when == LEAVE:
        return given, weight, pending, totals
    if when == RESUME:
        weight = np.where(same, kept, weight)
        return weight, kept, np.where(same, pending, 0), np.where(same, totals, weight.sum(axis=0))
    weight = given if when == RENEW else weight
    return weight, kept, np.zeros_like(pending), weight.sum(axis=0)
