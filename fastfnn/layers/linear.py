"""Layers that multiply matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.functional.products import linear_input_gradient
from fastfnn.initializers import Initializer, VarianceScaling, initializer
from fastfnn.layers.base import Array, KnownShape, Layer, Shape

#: What a weight starts as in front of an activation, by its name; "xavier" before all others.
FITTING = {
    **dict.fromkeys(("ReLU", "LeakyReLU", "PReLU", "ReLU6", "GELU", "SiLU", "ELU", "Hardswish"), "he"),
    "SELU": "lecun",
}


def affine_params(layer: Any, shape: Shape, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
    """Weight (inputs, outputs) and bias of a layer with `weight_init`, `bias_init` and `bias`, as they start."""
    fitting = initializer("weight_init", FITTING.get(activation or "", "xavier"))
    drawn: dict[str, tuple[Initializer, Shape]] = {"weight": (layer.weight_init or fitting, shape)}
    if layer.bias:
        drawn["bias"] = (layer.bias_init, shape[1:])
    params = {}
    for name, (make, expected) in drawn.items():
        fans = {}
        if isinstance(make, VarianceScaling) and name == "weight":
            fans["fan_out"] = shape[-1] * math.prod(layer.weight_shape[2:])  # and a convolution's pixels
        params[name] = np.asarray(make(expected, rng, **fans), np.float64)
        if params[name].shape != expected:
            raise InvalidValueError(f"{name}_init made shape {params[name].shape}; expected {expected}")
    return params


class Linear(Layer):
    """``x @ weight + bias``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether there is a bias vector.
    weight_init : {"he", "xavier", "normal", "zeros"}, another name or callable ``(shape, rng) -> array``, optional
        None: what fits the activation that follows in the `Sequential`: He before a ReLU and its like, LeCun before
        a `SELU`, else Xavier.
        Keras' and PyTorch's names are known, too: "he_uniform", "glorot_normal", "kaiming_normal", "xavier_uniform",
        "lecun_normal", "orthogonal", "ones" and so on; ``ff.initializers.normal(std)`` and ``constant(value)``.
    bias_init : the same; zeros by default

    Attributes
    ----------
    params : ``weight`` (in_features, out_features), ``bias`` (out_features,)
    """

    fixed_settings = ("in_features", "out_features", "bias")
    torch_names = ("Linear",)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_init: str | Initializer | None = None,
        bias_init: str | Initializer = "zeros",
    ) -> None:
        super().__init__()
        self.in_features = check.positive_int("in_features", in_features)
        self.out_features = check.positive_int("out_features", out_features)
        self.bias = bool(bias)
        self.weight_init = None if weight_init is None else initializer("weight_init", weight_init)
        self.bias_init = initializer("bias_init", bias_init)

    @property
    def weight_shape(self) -> tuple[int, int]:
        return self.in_features, self.out_features

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        return affine_params(self, self.weight_shape, rng, activation)

    def forward(self, x: ArrayLike) -> Array:
        """(n, in_features) to (n, out_features)."""
        x = check.float_array("x", x, ndim=2, dtype=self.dtype)
        if x.shape[1] != self.in_features:
            raise InvalidValueError(f"x has shape {x.shape}; expected (n, {self.in_features}) for {self!r}")
        self._saved = x
        return functional.linear(x, self.params["weight"], self.params.get("bias"))

    def backward(self, grad_out: ArrayLike) -> Array:
        if not self.trainable:
            return linear_input_gradient(grad_out, self.saved, self.params["weight"])
        grad_x, grad_weight, grad_bias = functional.linear_backward(grad_out, self.saved, self.params["weight"])
        self.grads["weight"][...] = grad_weight
        if self.bias:
            self.grads["bias"][...] = grad_bias
        return grad_x

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape != (self.in_features,):
            raise InvalidValueError(f"{self!r} got samples of shape {input_shape}; expected ({self.in_features},)")
        return (self.out_features,)

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"in_features": self.in_features, "out_features": self.out_features}
        return config if self.bias else {**config, "bias": False}

    def taken_shape(self) -> KnownShape:
        return (self.in_features,)

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return (self.out_features,)

    def to_torch(self, nn: Any) -> Any:
        return nn.Linear(self.in_features, self.out_features, self.bias)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.in_features, module.out_features, module.bias is not None)

    def torch_arrays(self) -> dict[str, Array]:
        return {**super().torch_arrays(), "weight": self.params["weight"].T}

    def to_onnx(self, graph: Any) -> None:
        graph.add("Gemm", *graph.own("weight", "bias"))


class Matmul(Layer):
    """The exercise's product of two arguments: ``forward(x, w)``, ``backward(grad) -> (grad_x, grad_w)``.

    It holds no parameters, so it stands for itself and not in a `Sequential`.
    """

    def forward(self, x: ArrayLike, w: ArrayLike) -> Array:  # type: ignore[override]
        """x (n, d) @ w (d, k)."""
        x = check.float_array("x", x, ndim=2)
        self._saved = (x, check.float_array("w", w, ndim=2, dtype=x.dtype))
        return functional.matmul(*self._saved)

    def backward(self, grad_out: ArrayLike) -> tuple[Array, Array]:  # type: ignore[override]
        """``(grad_out @ w.T, x.T @ grad_out)``."""
        return functional.matmul_backward(grad_out, *self.saved)

    __call__ = forward  # type: ignore[assignment]
