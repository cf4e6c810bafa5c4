"""Dropout whose mask is a function of seed, step and place: the backward makes it again, and nothing is stored.

The same mask comes from any number of threads and from any chunking of a batch. Loop order: one pass over the
elements, in 32-bit integers so that LLVM vectorises it. Each thread does one contiguous slice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import kernel
from fastfnn_kernels._hashes import key_of, random_bits
from fastfnn_kernels.team import share

GRAIN = 64


@kernel(reference.dropout_elements)
def dropout(
    out: NDArray[Any],
    x: NDArray[Any],
    p: float,
    seed: int,
    step: int,
    first_element: int,
    tid: int,
    n_threads: int,
) -> None:
    """``x / (1 - p)`` where the hash of (seed, step, element) is at least ``p * 2**32``, else 0.

    Parameters
    ----------
    out, x : flat
    p : float64 in [0, 1)
    seed, step : int64
    first_element : int64
        Place of ``x[0]`` within the batch. Places count modulo 2**32.
    """
    high, low = key_of(seed, step)
    threshold = np.uint32(min(p * 4294967296.0, 4294967295.0))
    scale, zero = x.dtype.type(1.0 / (1.0 - p)), x.dtype.type(0)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    element = np.uint32(first_element + start)  # counted in 32 bits, not made from i: the vectors are twice as full
    for i in range(out.size):
        bits = random_bits(element, high, low)
        element = np.uint32(element + np.uint32(1))
        out[i] = x[i] * scale if bits >= threshold else zero


@kernel(reference.dropout_planes)
def dropout_planes(
    out: NDArray[Any],
    x: NDArray[Any],
    p: float,
    seed: int,
    step: int,
    first_plane: int,
    tid: int,
    n_threads: int,
) -> None:
    """The same for whole planes of (planes, spatial): each has the bits of the element that has its number.

    Each thread does its share of the planes.
    """
    high, low = key_of(seed, step)
    threshold = np.uint32(min(p * 4294967296.0, 4294967295.0))
    scale, zero = x.dtype.type(1.0 / (1.0 - p)), x.dtype.type(0)
    start, stop = share(x.shape[0], tid, n_threads, 1)
    out, x = out[start:stop], x[start:stop]
    for i in range(out.shape[0]):
        plane = np.uint32(first_plane + start + i)
        bits = random_bits(plane, high, low)
        factor = scale if bits >= threshold else zero
        for j in range(out.shape[1]):
            out[i, j] = x[i, j] * factor
