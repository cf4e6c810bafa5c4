"""Kernels of random changes of images, and noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastfnn_kernels import augmentation
from fastfnn_kernels.registry._spec import FLAT, Draw, round_robin, spec_of

PLANES = 2
#: Seed, step and the first row's place, whose draws are numbered beyond 2**32.
PLACE = 7, 3, 2**30 - 2
_IMAGES: dict[str, Any] = {
    "shapes": round_robin(50, (1, 2, 0, 3, 1, 7, 4), (2, 3, 5, 1, 4, 7), (2, 3, 4, 5, 1, 7, 8, 9, 15, 16, 17, 18, 33)),
    "bench_shapes": ((192, 24, 24), (2048, 28, 28)),
}


def _changed(*settings: Any) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, height: int, width: int) -> tuple[Any, ...]:
        return d.blank(n, PLANES, height, width), d.normal(n, PLANES, height, width), *settings, *PLACE

    return draw


def _noise(std: float, first_element: int = 0) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n: (d.blank(n), d.normal(n), std, 7, 3, first_element)


def _coordinates(n: int, height: int, width: int) -> float:
    """Of pixels, whose rounding moves what is interpolated."""
    return 4.0 * (height + width)


# fmt: off
SPECS = [
    spec_of("flip_images", augmentation.flip_images, _changed(True, False), 1, **_IMAGES),
    spec_of("flip_images_both", augmentation.flip_images, _changed(True, True), 1, **_IMAGES),
    spec_of("shift_images", augmentation.shift_images, _changed(2, 3, 1), 1, **_IMAGES),
    spec_of("shift_images_back", augmentation.shift_images, _changed(9, 0, -1), 1, **_IMAGES),
    spec_of("erase_images", augmentation.erase_images, _changed(3, 4, 0.7), 1, **_IMAGES),
    spec_of("erase_images_always", augmentation.erase_images, _changed(1, 9, 1.0), 1, **_IMAGES),
    spec_of("rotate_images", augmentation.rotate_images, _changed(0.5), 16,
          scale=_coordinates, nan_spreads=True, **_IMAGES),
    spec_of("rotate_images_backward", augmentation.rotate_images_backward, _changed(2.0), 16,
          scale=_coordinates, nan_spreads=True, **_IMAGES),
    spec_of("noise_elements", augmentation.noise_elements, _noise(0.3), 50, scale=lambda *_: 4, **FLAT),
    spec_of("noise_elements_later", augmentation.noise_elements, _noise(2.0, 2**32 - 40), 50,
          scale=lambda *_: 16, **FLAT),
]
# fmt: on
