"""Random bits that are a function of seed, step and place: nothing is stored or drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def random_bits(seed: int, step: int, element: NDArray[np.int64]) -> NDArray[np.uint32]:
    """32 bits for each element: two rounds of a 32-bit hash, keyed by two halves of a hash of seed and step."""
    key = _mix_64((_mix_64((seed + GOLDEN) & MASK_64) + step) & MASK_64)
    x = (element & 0xFFFFFFFF).astype(np.uint32)
    return _mix_32(_mix_32(x ^ np.uint32(key >> 32)) + np.uint32(key & 0xFFFFFFFF))
