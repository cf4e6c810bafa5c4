"""Random changes of images, and noise. Each ends with seed, counter and the row's place in the batch."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from fastfnn_kernels import augmentation
from fastfnn_kernels.operations._fields import Array, Count, Flag, Float64, Place, array, rows
from fastfnn_kernels.operations._registry import operation

Images = Annotated[Array, rows("planes", "height", "width")]
Flat = Annotated[Array, rows("size", axes=1)]
Counter = Annotated[Array, array(1, dtype=np.int64)]

_flip, _shift, _erase = (
    kernel.inlined for kernel in (augmentation.flip_images, augmentation.shift_images, augmentation.erase_images)
)
_rotate, _rotate_backward = augmentation.rotate_images.inlined, augmentation.rotate_images_backward.inlined
_noise = augmentation.noise_elements.inlined


@operation
def flip_images(
    out: Images, x: Images, horizontal: Flag, vertical: Flag, seed: Count, counter: Counter, place: Place
) -> None:
    """Forward and backward."""
    _flip(out, x, horizontal, vertical, seed, counter[0], place.piece + place.first, 0, 1)


@operation
def shift_images(
    out: Images, x: Images, down: Count, across: Count, sign: Count, seed: Count, counter: Counter, place: Place
) -> None:
    """Backward with the other sign."""
    _shift(out, x, down, across, sign, seed, counter[0], place.piece + place.first, 0, 1)


@operation
def erase_images(
    out: Images, x: Images, tall: Count, wide: Count, p: Float64, seed: Count, counter: Counter, place: Place
) -> None:
    """Forward and backward."""
    _erase(out, x, tall, wide, p, seed, counter[0], place.piece + place.first, 0, 1)


@operation
def rotate_images(out: Images, x: Images, radians: Float64, seed: Count, counter: Counter, place: Place) -> None:
    _rotate(out, x, radians, seed, counter[0], place.piece + place.first, 0, 1)


@operation
def rotate_images_backward(
    out: Images, x: Images, radians: Float64, seed: Count, counter: Counter, place: Place
) -> None:
    _rotate_backward(out, x, radians, seed, counter[0], place.piece + place.first, 0, 1)


@operation
def noise_elements(out: Flat, x: Flat, size: Count, std: Float64, seed: Count, counter: Counter, place: Place) -> None:
    _noise(out, x, std, seed, counter[0], (place.piece + place.first) * size, 0, 1)
