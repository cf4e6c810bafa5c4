"""Dropout (Srivastava et al. 2014) whose mask is a function of seed, step and place: nothing is stored or drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn_kernels.reference._hashes import random_bits

Array = NDArray[np.float64]


def dropout_elements(x: ArrayLike, p: float, seed: int, step: int, first_element: int) -> Array:
    """``x / (1 - p)`` where the hash of (seed, step, element) is at least ``p * 2**32``, else 0.

    `first_element` is the place of x's first element within the batch.
    """
    values = np.asarray(x, np.float64)
    element = first_element + np.arange(values.size).reshape(values.shape)
    kept = random_bits(seed, step, element) >= min(int(p * 2.0**32), 2**32 - 1)
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
