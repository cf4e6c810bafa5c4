"""A leaky ReLU whose slopes are learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.layers.base import Array, KnownShape, Layer, Shape


class PReLU(Layer):
    """x where it is positive, else ``weight * x``, with a weight that is learnt.

    Parameters
    ----------
    num_parameters : int
        1: one weight for all; else the number of channels (of features, for rows), each of which has its own.
    init : float
        What weights start as.

    Attributes
    ----------
    params : ``weight`` (num_parameters,)

    References
    ----------
    He et al. 2015, "Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet Classification".
    """

    fixed_settings = ("num_parameters",)
    torch_names = ("PReLU",)

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.num_parameters = check.positive_int("num_parameters", num_parameters)
        self.init = check.real("init", init)

    @property
    def weight_shape(self) -> Shape:
        return (self.num_parameters,)

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        return {"weight": np.full(self.num_parameters, self.init)}

    def forward(self, x: ArrayLike) -> Array:
        """(n, channels, ...) to the same."""
        x = check.float_array("x", x, dtype=self.dtype)
        self.output_shape(x.shape[1:])
        self._saved = x
        return functional.prelu(x, self.params["weight"])

    def backward(self, grad_out: ArrayLike) -> Array:
        grad_x, grad_weight = functional.prelu_backward(grad_out, self.saved, self.params["weight"])
        if self.trainable:
            self.grads["weight"][...] = grad_weight
        return grad_x

    def output_shape(self, input_shape: Shape) -> Shape:
        if self.num_parameters > 1 and input_shape[:1] != (self.num_parameters,):
            raise InvalidValueError(
                f"{self!r} got samples of shape {input_shape}; expected {self.num_parameters} channels first"
            )
        return input_shape

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return came

    def config(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters, "init": self.init}

    def to_torch(self, nn: Any) -> Any:
        return nn.PReLU(self.num_parameters, self.init)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.num_parameters, module.init)

    def to_onnx(self, graph: Any) -> None:
        slopes = graph.arrays[f"{graph.at}.weight"]
        spread = [1] * (len(graph.shape) - 1) if self.num_parameters > 1 else []
        graph.add("PRelu", graph.constant("weight", slopes.reshape(-1, *spread)))
