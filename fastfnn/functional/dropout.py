"""Dropout."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.functional._run import Array, run_on_team


def _settings(p: float, seed: int, step: int) -> tuple[float, int, int]:
    return check.real("p", p, least=0.0, below=1.0), check.counter("seed", seed), check.counter("step", step)


def _dropped(name: str, values: ArrayLike, p: float, seed: int, step: int, n_threads: int | None) -> Array:
    x, settings = check.float_array(name, values), _settings(p, seed, step)
    out = np.empty_like(x)
    run_on_team(kernels.dropout.dropout, out.reshape(-1), x.reshape(-1), *settings, 0, n_threads=n_threads)
    return out


def _dropped_planes(name: str, values: ArrayLike, p: float, seed: int, step: int, n_threads: int | None) -> Array:
    x, settings = check.float_array(name, values, ndim=4), _settings(p, seed, step)
    out, planes = np.empty_like(x), (math.prod(x.shape[:2]), math.prod(x.shape[2:]))
    arrays = out.reshape(planes), x.reshape(planes)
    run_on_team(kernels.dropout.dropout_planes, *arrays, *settings, 0, n_threads=n_threads)
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


def dropout2d(x: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0, *, n_threads: int | None = None) -> Array:
    """Each channel of each image (n, c, h, w) is 0 with probability p, else scaled (Tompson et al. 2015).

    Parameters are those of `dropout`.
    """
    return _dropped_planes("x", x, p, seed, step, n_threads)


def dropout2d_backward(
    grad_out: ArrayLike, p: float = 0.5, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """The gradient for x: mask and scale of the `dropout2d` with the same p, seed and step."""
    return _dropped_planes("grad_out", grad_out, p, seed, step, n_threads)
