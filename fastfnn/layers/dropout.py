"""Dropout."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.layers.base import Array, KnownShape, Layer, Shape
from fastfnn.layers.random import RandomLayer


class Dropout(RandomLayer):
    """In training each element is 0 with probability p, else scaled by ``1 / (1 - p)``; in inference nothing happens.

    The mask is a function of `seed`, `step` and the element's place, so it is never stored.

    Parameters
    ----------
    p : float
        In [0, 1).
    seed : int, optional
        None: drawn from the model's generator.

    Attributes
    ----------
    seed : int
    step : int
        Forwards in training so far. Each has a mask of its own; put the number back to see one again.

    References
    ----------
    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
    """

    torch_names = ("Dropout",)
    functions = functional.dropout, functional.dropout_backward

    def __init__(self, p: float = 0.5, seed: int | None = None) -> None:
        super().__init__(seed)
        self.p = check.real("p", p, least=0.0, below=1.0)

    def settings(self) -> dict[str, Any]:
        return {"p": self.p}

    def to_torch(self, nn: Any) -> Any:
        return getattr(nn, type(self).__name__)(self.p)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.p)


class Dropout2d(Dropout):
    """In training each channel of each image (n, c, h, w) is 0 with probability p, else scaled by ``1 / (1 - p)``.

    Neighbouring pixels say nearly the same, so that dropping some of them alone drops little. Parameters and attributes
    are those of `Dropout`.

    References
    ----------
    Tompson et al. 2015, "Efficient Object Localization Using Convolutional Networks".
    """

    torch_names = ("Dropout2d",)
    functions = functional.dropout2d, functional.dropout2d_backward

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise InvalidValueError(f"{self!r} got samples of shape {input_shape}; expected (channels, height, width)")
        return input_shape

    def taken_shape(self) -> KnownShape:
        return None, None, None

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return came

    def forward(self, x: ArrayLike) -> Array:
        x = check.float_array("x", x, ndim=4, dtype=self.dtype)
        return super().forward(x)
