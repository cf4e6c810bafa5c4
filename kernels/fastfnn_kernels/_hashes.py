"""Random bits that are a function of seed, step and place, in kernels; their twin is `reference._hashes`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfnn_kernels._config import helper
from fastfnn_kernels.reference._hashes import GOLDEN, LOW_1, LOW_2, MIX_1, MIX_2


@helper
def _mix_64(z: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014), Stafford's variant 13."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2)
    return z ^ (z >> np.uint64(31))


@helper
def mix_32(x: Any) -> Any:
    """lowbias32 (Wellons 2018, "Prospecting for hash functions"). numba widens every result; LLVM narrows it again."""
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * np.uint32(LOW_1))
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(15))) * np.uint32(LOW_2))
    return np.uint32(x ^ (x >> np.uint32(16)))


@helper
def key_of(seed: int, step: int) -> Any:
    """Two halves of a hash of both."""
    key = _mix_64(_mix_64(np.uint64(seed) + np.uint64(GOLDEN)) + np.uint64(step))
    return np.uint32(key >> np.uint64(32)), np.uint32(key & np.uint64(0xFFFFFFFF))


@helper
def random_bits(element: Any, high: Any, low: Any) -> Any:
    """The 32 bits of an element, by the halves of a key."""
    return mix_32(np.uint32(mix_32(np.uint32(np.uint32(element) ^ high)) + low))
