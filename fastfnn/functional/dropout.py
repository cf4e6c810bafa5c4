"""Dropout."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.functional._run import Array, run_on_team


def _dropped(name: str, values: ArrayLike, p: float, seed: int, step: int, n_threads: int | None) -> Array:
    x = check.float_array(name, values)
    p = check.real("p", p, least=0.0, below=1.0)
    seed, step = check.counter("seed", seed), check.counter("step", step)
    out = np.empty_like(x)
    run_on_team(kernels.dropout.dropout, out.reshape(-1), x.reshape(-1), p, seed, step, 0, n_threads=n_threads)
    return out


def dropout(x: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0, *, n_threads: int | None = None) -> Array:
    """Each element is 0 with probability p, else scaled by ``1 / (1 - p)`` (Srivastava et al. 2014).

    Parameters
    ----------
    x : array_like
    p : float
        In [0, 1); 0 changes nothing.
    seed, step : int
        The mask is a function of these and of the element's place: the same ones give the same mask.
    n_threads : int, optional
    """
    return _dropped("x", x, p, seed, step, n_threads)


def dropout_backward(
    grad_out: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """The gradient for x: mask and scale of the `dropout` with the same p, seed and step."""
    return _dropped("grad_out", grad_out, p, seed, step, n_threads)
