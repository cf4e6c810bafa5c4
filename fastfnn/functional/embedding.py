"""Rows of a table, looked up by number."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import Array, run_on_team


def as_entries(x: ArrayLike, entries: int, dtype: np.dtype) -> Array:
    """Numbers of a table's entries, in the table's dtype; others are refused with their place."""
    array = check.float_array("x", x, dtype=dtype)
    wrong = ~((array >= 0) & (array < entries) & (array == np.floor(array)))
    if wrong.any():
        at = tuple(map(int, np.argwhere(wrong)[0]))
        raise InvalidValueError(
            f"x holds {array[at]:g} at {at}; expected whole numbers from 0 to {entries - 1}, the entries of the table"
        )
    return array


def embedding(x: ArrayLike, weight: ArrayLike, *, n_threads: int | None = None) -> Array:
    """``weight[x]``: the rows of a table that whole numbers name.

    Parameters
    ----------
    x : array of whole numbers, of any shape and dtype
    weight : (entries, dim)
    n_threads : int, optional

    Returns
    -------
    ndarray
        (*x.shape, dim), in the dtype of `weight`.

    Raises
    ------
    InvalidValueError
        A number is none from 0 to entries - 1.
    """
    weight = check.float_array("weight", weight, ndim=2)
    numbers = as_entries(x, len(weight), weight.dtype)
    out = np.empty((numbers.size, weight.shape[1]), weight.dtype)
    run_on_team(kernels.embedding.look_up, out, weight, numbers.reshape(-1, 1), 0, 0, 1, n_threads=n_threads)
    return out.reshape(*numbers.shape, weight.shape[1])


def embedding_backward(grad_out: ArrayLike, x: ArrayLike, entries: int, *, n_threads: int | None = None) -> Array:
    """The gradient of a table of so many entries: the sum of those of its lookups, and zeros where there was none.

    Parameters
    ----------
    grad_out : (*x.shape, dim)
    x : array of whole numbers
    entries : int
    n_threads : int, optional

    Returns
    -------
    ndarray
        (entries, dim).
    """
    grad_out = check.float_array("grad_out", grad_out)
    numbers = as_entries(x, entries, grad_out.dtype)
    if grad_out.ndim < 1 or grad_out.shape[:-1] != numbers.shape:
        raise InvalidValueError(f"grad_out has shape {grad_out.shape}; expected {(*numbers.shape, 'dim')}")
    out = np.empty((entries, grad_out.shape[-1]), grad_out.dtype)
    rows = grad_out.reshape(-1, grad_out.shape[-1])
    scaling = grad_out.dtype.type(1), False
    kernel = kernels.embedding.look_up_backward
    run_on_team(kernel, out, rows, numbers.reshape(-1, 1), 0, 0, 1, *scaling, n_threads=n_threads)
    return out
