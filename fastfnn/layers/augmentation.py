"""Random changes of images, and noise, in training alone: small variations that a network is to bear."""

from __future__ import annotations

import math
from typing import Any

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers.base import KnownShape, Shape, short_pairs
from fastfnn.layers.random import RandomLayer


class _Augmentation(RandomLayer):
    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return came

    def to_torch(self, nn: Any) -> Any:
        """An `Identity`: PyTorch changes images elsewhere."""
        return nn.Identity()


class _OfImages(_Augmentation):
    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2:
            raise InvalidValueError(
                f"{self!r} got samples of shape {input_shape}; expected images (…, height, width), before any Flatten"
            )
        return input_shape


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidTypeError(f"{name} is {value!r}; expected True or False")
    return value


class RandomFlip(_OfImages):
    """In training each image is turned from right to left, or upside down, or not, with probability 1/2.

    Samples are images (height, width) or (channels, height, width) of any numeric dtype; in inference nothing happens.
    What is drawn is a function of `seed`, `step` and the image's row in the batch.

    Parameters
    ----------
    horizontal, vertical : bool
        Which of both may happen.
    seed : int, optional
        None: drawn from the model's generator.

    Attributes
    ----------
    seed : int
    step : int
        Forwards in training so far. Each draws anew; put the number back to see the same again.

    Examples
    --------
    >>> model = ff.Sequential(ff.RandomFlip(), ff.RandomShift(2), ff.Conv2d(1, 8, 3), ff.ReLU(), ff.GlobalAvgPool2d())
    """

    functions = functional.random_flip, functional.random_flip_backward

    def __init__(self, horizontal: bool = True, vertical: bool = False, seed: int | None = None) -> None:
        super().__init__(seed)
        self.horizontal, self.vertical = _flag("horizontal", horizontal), _flag("vertical", vertical)

    def settings(self) -> dict[str, Any]:
        return {"horizontal": self.horizontal, "vertical": self.vertical}


class RandomShift(_OfImages):
    """In training each image is moved by whole pixels, up to so many in each direction; zeros come in.

    Put it where zeros mean nothing: behind `Normalize` they are the mean. Samples, and what is drawn, as for
    `RandomFlip`.

    Parameters
    ----------
    pixels : int or (height, width)
        At most, in either direction.
    seed : int, optional
        None: drawn from the model's generator.
    """

    functions = functional.random_shift, functional.random_shift_backward

    def __init__(self, pixels: int | tuple[int, int], seed: int | None = None) -> None:
        super().__init__(seed)
        self.pixels = check.pair("pixels", pixels, least=0)

    def settings(self) -> dict[str, Any]:
        return short_pairs({"pixels": self.pixels}, {})


class RandomErase(_OfImages):
    """In training a rectangle of each image is set to zero, with probability p.

    Put it where zeros mean nothing: behind `Normalize` they are the mean. Samples, and what is drawn, as for
    `RandomFlip`.

    Parameters
    ----------
    size : int or (height, width)
        Of the rectangle. Its centre may be any pixel, so that parts of it may lie outside.
    p : float
        In [0, 1].
    seed : int, optional
        None: drawn from the model's generator.

    References
    ----------
    DeVries & Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".
    """

    functions = functional.random_erase, functional.random_erase_backward

    def __init__(self, size: int | tuple[int, int], p: float = 0.5, seed: int | None = None) -> None:
        super().__init__(seed)
        self.size, self.p = check.pair("size", size), check.real("p", p, least=0.0, most=1.0)

    def settings(self) -> dict[str, Any]:
        return {**short_pairs({"size": self.size}, {}), "p": self.p}


class RandomRotation(_OfImages):
    """In training each image is turned about its centre by an angle in [-degrees, degrees), bilinearly; zeros come in.

    Put it where zeros mean nothing: behind `Normalize` they are the mean. Samples, and what is drawn, as for
    `RandomFlip`.

    Parameters
    ----------
    degrees : float
        In [0, 180].
    seed : int, optional
        None: drawn from the model's generator.
    """

    functions = functional.random_rotation, functional.random_rotation_backward

    def __init__(self, degrees: float, seed: int | None = None) -> None:
        super().__init__(seed)
        self.degrees = check.real("degrees", degrees, least=0.0, most=180.0)

    def settings(self) -> dict[str, Any]:
        return {"degrees": self.degrees}

    @property
    def radians(self) -> float:
        return math.radians(self.degrees)


class Noise(_Augmentation):
    """In training normally distributed noise is added to each number; in inference nothing happens.

    The noise is a function of `seed`, `step` and the number's place in the batch.

    Parameters
    ----------
    std : float
        Standard deviation, at least 0, in the units of what comes.
    seed : int, optional
        None: drawn from the model's generator.

    References
    ----------
    Bishop 1995, "Training with Noise is Equivalent to Tikhonov Regularization".
    """

    functions = functional.noise, lambda grad_out, *_: grad_out

    def __init__(self, std: float = 0.1, seed: int | None = None) -> None:
        super().__init__(seed)
        self.std = check.real("std", std, least=0.0)

    def settings(self) -> dict[str, Any]:
        return {"std": self.std}
