"""Random changes of images, and noise: functions of seed, step and the row's place in the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import Array, run_on_team

Pair = tuple[int, int]


def _changed(
    kernel: Any, name: str, values: ArrayLike, *settings: Any, seed: int, step: int, n_threads: int | None
) -> Array:
    x = check.float_array(name, values)
    if x.ndim < 3:
        raise InvalidValueError(f"{name} has shape {x.shape}; expected images (n, …, height, width)")
    place, out = (check.counter("seed", seed), check.counter("step", step), 0), np.empty_like(x)
    images = len(x), math.prod(x.shape[1:-2]), *x.shape[-2:]
    run_on_team(kernel, out.reshape(images), x.reshape(images), *settings, *place, n_threads=n_threads)
    return out


def random_flip(
    x: ArrayLike,
    horizontal: bool = True,
    vertical: bool = False,
    seed: int = 0,
    step: int = 0,
    *,
    n_threads: int | None = None,
) -> Array:
    """Each image (n, …, height, width) from right to left, or upside down, or not, with probability 1/2.

    Parameters
    ----------
    x : (n, …, height, width)
    horizontal, vertical : bool
        Which of both may happen.
    seed, step : int
        What happens is a function of these and of the image's place: the same ones give the same images.
    n_threads : int, optional
    """
    place = {"seed": seed, "step": step, "n_threads": n_threads}
    return _changed(kernels.augmentation.flip_images, "x", x, bool(horizontal), bool(vertical), **place)


def random_flip_backward(
    grad_out: ArrayLike,
    horizontal: bool = True,
    vertical: bool = False,
    seed: int = 0,
    step: int = 0,
    *,
    n_threads: int | None = None,
) -> Array:
    """The gradient for x of the `random_flip` with the same settings: flipped back."""
    place = {"seed": seed, "step": step, "n_threads": n_threads}
    return _changed(kernels.augmentation.flip_images, "grad_out", grad_out, bool(horizontal), bool(vertical), **place)


def random_shift(
    x: ArrayLike, pixels: int | Pair, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """Each image (n, …, height, width) moved by whole pixels, up to so many in each direction; zeros come in.

    Parameters
    ----------
    x : (n, …, height, width)
    pixels : int or (height, width)
        At most, in either direction.
    seed, step : int
        What happens is a function of these and of the image's place: the same ones give the same images.
    n_threads : int, optional
    """
    most, place = check.pair("pixels", pixels, least=0), {"seed": seed, "step": step, "n_threads": n_threads}
    return _changed(kernels.augmentation.shift_images, "x", x, *most, 1, **place)


def random_shift_backward(
    grad_out: ArrayLike, pixels: int | Pair, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """The gradient for x of the `random_shift` with the same settings: moved back."""
    most, place = check.pair("pixels", pixels, least=0), {"seed": seed, "step": step, "n_threads": n_threads}
    return _changed(kernels.augmentation.shift_images, "grad_out", grad_out, *most, -1, **place)


def _erased(
    name: str, values: ArrayLike, size: int | Pair, p: float, seed: int, step: int, n_threads: int | None
) -> Array:
    settings = *check.pair("size", size), check.real("p", p, least=0.0, most=1.0)
    place = {"seed": seed, "step": step, "n_threads": n_threads}
    return _changed(kernels.augmentation.erase_images, name, values, *settings, **place)


def random_erase(
    x: ArrayLike, size: int | Pair, p: float = 0.5, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """Zeros in a rectangle of each image (n, …, height, width), with probability p (DeVries & Taylor 2017).

    Parameters
    ----------
    x : (n, …, height, width)
    size : int or (height, width)
        Of the rectangle. Its centre may be any pixel, so that parts of it may lie outside.
    p : float
        In [0, 1].
    seed, step : int
        What happens is a function of these and of the image's place: the same ones give the same images.
    n_threads : int, optional
    """
    return _erased("x", x, size, p, seed, step, n_threads)


def random_erase_backward(
    grad_out: ArrayLike, size: int | Pair, p: float = 0.5, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """The gradient for x of the `random_erase` with the same settings: none where zeros were put."""
    return _erased("grad_out", grad_out, size, p, seed, step, n_threads)


def random_rotation(
    x: ArrayLike, degrees: float, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """Each image (n, …, height, width) turned about its centre by an angle in [-degrees, degrees).

    Pixels are interpolated between four, bilinearly; zeros come in.

    Parameters
    ----------
    x : (n, …, height, width)
    degrees : float
        In [0, 180].
    seed, step : int
        What happens is a function of these and of the image's place: the same ones give the same images.
    n_threads : int, optional
    """
    place = {"seed": seed, "step": step, "n_threads": n_threads}
    return _changed(kernels.augmentation.rotate_images, "x", x, _radians(degrees), **place)


def random_rotation_backward(
    grad_out: ArrayLike, degrees: float, seed: int = 0, step: int = 0, *, n_threads: int | None = None
) -> Array:
    """The gradient for x of the `random_rotation` with the same settings: its transpose."""
    place = {"seed": seed, "step": step, "n_threads": n_threads}
    return _changed(kernels.augmentation.rotate_images_backward, "grad_out", grad_out, _radians(degrees), **place)


def _radians(degrees: float) -> float:
    return math.radians(check.real("degrees", degrees, least=0.0, most=180.0))


def noise(x: ArrayLike, std: float = 0.1, seed: int = 0, step: int = 0, *, n_threads: int | None = None) -> Array:
    """x with normally distributed noise added to each element; its gradient is the upstream one.

    Parameters
    ----------
    x : array_like
    std : float
        Standard deviation of the noise, at least 0.
    seed, step : int
        The noise is a function of these and of the element's place: the same ones give the same noise.
    n_threads : int, optional

    Notes
    -----
    Quantiles of 32 random bits, by the inverse error function of Giles 2010, "Approximating the erfinv function", to
    some 1e-6.
    """
    x, deviation = check.float_array("x", x), check.real("std", std, least=0.0)
    place, out = (check.counter("seed", seed), check.counter("step", step), 0), np.empty_like(x)
    arrays = out.reshape(-1), x.reshape(-1)
    run_on_team(kernels.augmentation.noise_elements, *arrays, deviation, *place, n_threads=n_threads)
    return out
