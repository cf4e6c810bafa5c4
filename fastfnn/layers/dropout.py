"""Dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.layers.base import Array, KnownShape, Layer, Shape


class Dropout(Layer):
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
    precedes_activation = True
    functions: ClassVar[tuple[Callable[..., Array], Callable[..., Array]]] = (
        functional.dropout,
        functional.dropout_backward,
    )

    def __init__(self, p: float = 0.5, seed: int | None = None) -> None:
        super().__init__()
        self.p = check.real("p", p, least=0.0, below=1.0)
        self.seed = None if seed is None else check.counter("seed", seed)
        #: (1,) int64: `step`, where compiled programs find it.
        self.counter = np.zeros(1, np.int64)

    @property
    def step(self) -> int:
        return int(self.counter[0])

    @step.setter
    def step(self, value: int) -> None:
        self.counter[0] = check.counter("step", value)

    def build(self, rng: np.random.Generator, dtype: Any = "float32", activation: str | None = None) -> None:
        super().build(rng, dtype, activation)
        if self.seed is None:
            self.seed = int(rng.integers(2**31))

    def forward(self, x: ArrayLike) -> Array:
        x = check.float_array("x", x, dtype=self.dtype)
        if self.seed is None:
            self.build(np.random.default_rng(), self.dtype)
        assert self.seed is not None
        self._saved = (self.training, self.step)
        if not self.training:
            return x
        self.step += 1
        return self.functions[0](x, self.p, self.seed, self.step - 1)

    def backward(self, grad_out: ArrayLike) -> Array:
        dropped, step = self.saved
        grad = check.float_array("grad_out", grad_out, dtype=self.dtype)
        assert self.seed is not None
        return self.functions[1](grad, self.p, self.seed, step) if dropped else grad

    def config(self) -> dict[str, Any]:
        return {"p": self.p} if self.seed is None else {"p": self.p, "seed": self.seed}

    def to_torch(self, nn: Any) -> Any:
        return getattr(nn, type(self).__name__)(self.p)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.p)

    def to_onnx(self, graph: Any) -> None:
        """Nothing: the graph is for inference."""


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
