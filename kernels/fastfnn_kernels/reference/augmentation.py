"""Random changes of images (rows, planes, height, width), and noise: functions of seed, step and the row's place.

A row draws up to `DRAWS` numbers of 32 bits; `first_row` is the place of the first row within the batch.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn_kernels.reference._hashes import random_bits

Array = NDArray[np.float64]
Pair = tuple[int, int]

DRAWS = 4
#: Giles 2010, "Approximating the erfinv function" (GPU Computing Gems), single precision: polynomials in w - 2.5 below
#: w = 5, and in sqrt(w) - 3 above, the highest power last.
CENTRE = (
    1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087, -4.39150654e-06, -3.5233877e-06,
    3.43273939e-07, 2.81022636e-08,
)  # fmt: skip
TAIL = (
    2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773, -0.00367342844, 0.00134934322, 0.000100950558,
    -0.000200214257,
)  # fmt: skip


def _bits(which: int, rows: int, seed: int, step: int, first_row: int) -> NDArray[np.int64]:
    return random_bits(seed, step, (first_row + np.arange(rows)) * DRAWS + which).astype(np.int64)


def _below(bits: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Of 32 bits a number from 0 to count - 1."""
    return (bits * count) >> 32


def flip_images(x: ArrayLike, horizontal: bool, vertical: bool, seed: int, step: int, first_row: int) -> Array:
    """Each row from right to left with probability 1/2 where `horizontal`, and upside down where `vertical`."""
    out = np.array(x, np.float64)
    for axis, wanted, which in ((-1, horizontal, 0), (-2, vertical, 1)):
        flipped = (_bits(which, len(out), seed, step, first_row) < 2**31) & wanted
        out[flipped] = np.flip(out[flipped], axis)
    return out


def shift_images(x: ArrayLike, down: int, across: int, sign: int, seed: int, step: int, first_row: int) -> Array:
    """Each row moved by up to so many pixels, `sign` times what was drawn; zeros come in."""
    values = np.asarray(x, np.float64)
    out, (rows, _, height, width) = np.zeros_like(values), values.shape
    moves = [
        sign * (_below(_bits(which, rows, seed, step, first_row), 2 * most + 1) - most)
        for which, most in ((0, down), (1, across))
    ]
    for i, dy, dx in zip(range(rows), *moves, strict=True):
        for row in range(max(0, dy), min(height, height + dy)):
            for column in range(max(0, dx), min(width, width + dx)):
                out[i, :, row, column] = values[i, :, row - dy, column - dx]
    return out


def erase_images(x: ArrayLike, tall: int, wide: int, p: float, seed: int, step: int, first_row: int) -> Array:
    """Zeros in a rectangle of each row, with probability p; its centre is anywhere, so parts of it may lie outside."""
    out = np.array(x, np.float64)
    rows, _, height, width = out.shape
    erased = _bits(0, rows, seed, step, first_row) < min(int(p * 2.0**32), 2**32)
    tops = _below(_bits(1, rows, seed, step, first_row), height) - tall // 2
    lefts = _below(_bits(2, rows, seed, step, first_row), width) - wide // 2
    for i in np.flatnonzero(erased):
        top, left = tops[i], lefts[i]
        out[i, :, max(0, top) : max(0, top + tall), max(0, left) : max(0, left + wide)] = 0
    return out


def _matrices(height: int, width: int, radians: float, rows: int, seed: int, step: int, first_row: int) -> Array:
    """(rows, height * width, height * width): what of each pixel comes to which."""
    made = np.zeros((rows, height * width, height * width))
    for i, bits in enumerate(_bits(0, rows, seed, step, first_row)):
        angle = (2 * (float(bits) / 2.0**32) - 1) * radians
        cosine, sine, cy, cx = math.cos(angle), math.sin(angle), (height - 1) / 2, (width - 1) / 2
        for row in range(height):
            for column in range(width):
                down = cosine * (row - cy) + sine * (column - cx) + cy
                across = cosine * (column - cx) - sine * (row - cy) + cx
                top, left = math.floor(down), math.floor(across)
                for y, x, share in (
                    (top, left, (1 - (down - top)) * (1 - (across - left))),
                    (top, left + 1, (1 - (down - top)) * (across - left)),
                    (top + 1, left, (down - top) * (1 - (across - left))),
                    (top + 1, left + 1, (down - top) * (across - left)),
                ):
                    if 0 <= y < height and 0 <= x < width:
                        made[i, row * width + column, y * width + x] += share
    return made


def rotate_images(x: ArrayLike, radians: float, seed: int, step: int, first_row: int) -> Array:
    """Each row turned about its centre by up to `radians` to either side; bilinear, and zeros come in."""
    values = np.asarray(x, np.float64)
    rows, planes, height, width = values.shape
    matrices = _matrices(height, width, radians, rows, seed, step, first_row)
    return (values.reshape(rows, planes, height * width) @ matrices.swapaxes(1, 2)).reshape(values.shape)


def rotate_images_backward(grad_out: ArrayLike, radians: float, seed: int, step: int, first_row: int) -> Array:
    """The transpose."""
    grad = np.asarray(grad_out, np.float64)
    rows, planes, height, width = grad.shape
    matrices = _matrices(height, width, radians, rows, seed, step, first_row)
    return (grad.reshape(rows, planes, height * width) @ matrices).reshape(grad.shape)


def _polynomial(z: Array, coefficients: tuple[float, ...]) -> Array:
    return np.asarray(np.polynomial.polynomial.polyval(z, coefficients), np.float64)


def noise_elements(x: ArrayLike, std: float, seed: int, step: int, first_element: int) -> Array:
    """x with normally distributed noise of this standard deviation.

    Of 32 bits one is the sign, the others are the share of the distribution farther out, of which the quantile follows
    by the inverse of the error function, to some 1e-6.
    """
    values = np.asarray(x, np.float64)
    bits = random_bits(seed, step, first_element + np.arange(values.size).reshape(values.shape)).astype(np.int64)
    outside = ((bits & 0x7FFFFFFF) + 0.5) / 2.0**31
    w = -np.log(outside * (2 - outside))
    root = np.sqrt(np.maximum(w, 5)) - 3
    quantile = (1 - outside) * np.where(w < 5, _polynomial(w - 2.5, CENTRE), _polynomial(root, TAIL))
    return values + math.sqrt(2) * std * np.where(bits >> 31 == 1, -quantile, quantile)


# The same as functions of a batch of images (n, …, height, width).


def _images(x: ArrayLike) -> Array:
    values = np.asarray(x, np.float64)
    return values.reshape(len(values), math.prod(values.shape[1:-2]), *values.shape[-2:])


def random_flip(x: ArrayLike, horizontal: bool = True, vertical: bool = False, seed: int = 0, step: int = 0) -> Array:
    return flip_images(_images(x), horizontal, vertical, seed, step, 0).reshape(np.shape(x))


def random_flip_backward(
    grad_out: ArrayLike, horizontal: bool = True, vertical: bool = False, seed: int = 0, step: int = 0
) -> Array:
    return random_flip(grad_out, horizontal, vertical, seed, step)


def random_shift(x: ArrayLike, pixels: Pair, seed: int = 0, step: int = 0) -> Array:
    return shift_images(_images(x), *pixels, 1, seed, step, 0).reshape(np.shape(x))


def random_shift_backward(grad_out: ArrayLike, pixels: Pair, seed: int = 0, step: int = 0) -> Array:
    return shift_images(_images(grad_out), *pixels, -1, seed, step, 0).reshape(np.shape(grad_out))


def random_erase(x: ArrayLike, size: Pair, p: float = 0.5, seed: int = 0, step: int = 0) -> Array:
    return erase_images(_images(x), *size, p, seed, step, 0).reshape(np.shape(x))


def random_erase_backward(grad_out: ArrayLike, size: Pair, p: float = 0.5, seed: int = 0, step: int = 0) -> Array:
    return random_erase(grad_out, size, p, seed, step)


def random_rotation(x: ArrayLike, degrees: float, seed: int = 0, step: int = 0) -> Array:
    return rotate_images(_images(x), math.radians(degrees), seed, step, 0).reshape(np.shape(x))


def random_rotation_backward(grad_out: ArrayLike, degrees: float, seed: int = 0, step: int = 0) -> Array:
    return rotate_images_backward(_images(grad_out), math.radians(degrees), seed, step, 0).reshape(np.shape(grad_out))


def noise(x: ArrayLike, std: float = 0.1, seed: int = 0, step: int = 0) -> Array:
    return noise_elements(x, std, seed, step, 0)
