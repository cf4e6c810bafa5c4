"""Dropout (Srivastava et al. 2014) whose mask is a function of seed, step and place: nothing is stored or drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MASK_64 = (1 << 64) - 1
#: The increment and the finaliser of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
#: generators"; the constants are Stafford's variant 13).
GOLDEN, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
#: Multipliers of lowbias32 (Wellons 2018, "Prospecting for hash functions").
LOW_1, LOW_2 = 0x7FEB352D, 0x846CA68B


def _mix_64(z: int) -> int:
    z = ((z ^ (z >> 30)) * MIX_1) & MASK_64
    z = ((z ^ (z >> 27)) * MIX_2) & MASK_64
    return z ^ (z >> 31)


def _mix_32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(LOW_1)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(LOW_2)
    return x ^ (x >> np.uint32(16))


def _hash(seed: int, step: int, element: NDArray[np.int64]) -> NDArray[np.uint32]:
    """32 bits for each element: two rounds of a 32-bit hash, keyed by two halves of a hash of seed and step."""
    key = _mix_64((_mix_64((seed + GOLDEN) & MASK_64) + step) & MASK_64)
    x = (element & 0xFFFFFFFF).astype(np.uint32)
    return _mix_32(_mix_32(x ^ np.uint32(key >> 32)) + np.uint32(key & 0xFFFFFFFF))


def dropout_elements(x: ArrayLike, p: float, seed: int, step: int, first_element: int) -> Array:
    """``x / (1 - p)`` where the hash of (seed, step, element) is at least ``p * 2**32``, else 0.

    `first_element` is the place of x's first element within the batch.
    """
    values = np.asarray(x, np.float64)
    element = first_element + np.arange(values.size).reshape(values.shape)
    kept = _hash(seed, step, element) >= min(int(p * 2.0**32), 2**32 - 1)
    return np.where(kept, values / (1 - p), 0)


def dropout(x: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0) -> Array:
    """Each element is 0 with probability p, else scaled by 1 / (1 - p)."""
    return dropout_elements(x, p, seed, step, 0)


def dropout_backward(grad_out: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0) -> Array:
    """The same mask and scale for the gradient."""
    return dropout_elements(grad_out, p, seed, step, 0)


def dropout_planes(x: ArrayLike, p: float, seed: int, step: int, first_plane: int) -> Array:
    """The same for whole planes of (planes, spatial): what falls on an element there falls on a plane."""
    values = np.asarray(x, np.float64)
    return values * dropout_elements(np.ones((len(values), 1)), p, seed, step, first_plane)


def dropout2d(x: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0) -> Array:
    """Each channel of each image (n, c, h, w) is 0 with probability p, else scaled by 1 / (1 - p)."""
    values = np.asarray(x, np.float64)
    ones = np.ones((*values.shape[:2], 1, 1))
    return values * dropout_elements(ones, p, seed, step, 0)


def dropout2d_backward(grad_out: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0) -> Array:
    """The same mask and scale for the gradient."""
    return dropout2d(grad_out, p, seed, step)
