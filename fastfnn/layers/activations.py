"""Layers without parameters that act on each element, or on each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.layers.base import Array, Layer


class ReLU(Layer):
    """max(0, x). Its backward needs only the output."""

    torch_names = ("ReLU",)

    def forward(self, x: ArrayLike) -> Array:
        self._saved = functional.relu(x)
        return self._saved

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.relu_backward(grad_out, self.saved)

    def to_torch(self, nn: Any) -> Any:
        return nn.ReLU()

    def to_onnx(self, graph: Any) -> None:
        graph.add("Relu")


class LeakyReLU(Layer):
    """x where it is positive, else ``negative_slope * x``."""

    torch_names = ("LeakyReLU",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = check.real("negative_slope", negative_slope)

    def forward(self, x: ArrayLike) -> Array:
        self._saved = check.float_array("x", x)
        return functional.leaky_relu(self._saved, self.negative_slope)

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.leaky_relu_backward(grad_out, self.saved, self.negative_slope)

    def config(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}

    def to_torch(self, nn: Any) -> Any:
        return nn.LeakyReLU(self.negative_slope)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.negative_slope)

    def to_onnx(self, graph: Any) -> None:
        graph.add("LeakyRelu", alpha=self.negative_slope)


class Sigmoid(Layer):
    """1 / (1 + exp(-x)), without overflow."""

    torch_names = ("Sigmoid",)

    def forward(self, x: ArrayLike) -> Array:
        self._saved = functional.sigmoid(x)
        return self._saved

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.sigmoid_backward(grad_out, self.saved)

    def to_torch(self, nn: Any) -> Any:
        return nn.Sigmoid()

    def to_onnx(self, graph: Any) -> None:
        graph.add("Sigmoid")


class Tanh(Layer):
    """The hyperbolic tangent."""

    torch_names = ("Tanh",)

    def forward(self, x: ArrayLike) -> Array:
        self._saved = functional.tanh(x)
        return self._saved

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.tanh_backward(grad_out, self.saved)

    def to_torch(self, nn: Any) -> Any:
        return nn.Tanh()

    def to_onnx(self, graph: Any) -> None:
        graph.add("Tanh")


class Softmax(Layer):
    """Probabilities over the last axis. For training, logits into `CrossEntropyLoss` are faster and more accurate."""

    torch_names = ("Softmax",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"dim": (-1, 1)}

    def forward(self, x: ArrayLike) -> Array:
        self._saved = functional.softmax(x)
        return self._saved

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.softmax_backward(grad_out, self.saved)

    def to_torch(self, nn: Any) -> Any:
        return nn.Softmax(dim=-1)

    def to_onnx(self, graph: Any) -> None:
        graph.add("Softmax", axis=-1)


class LogSoftmax(Layer):
    """Log-probabilities over the last axis; `NLLLoss` takes them."""

    torch_names = ("LogSoftmax",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"dim": (-1, 1)}

    def forward(self, x: ArrayLike) -> Array:
        self._saved = functional.log_softmax(x)
        return self._saved

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.log_softmax_backward(grad_out, self.saved)

    def to_torch(self, nn: Any) -> Any:
        return nn.LogSoftmax(dim=-1)

    def to_onnx(self, graph: Any) -> None:
        graph.add("LogSoftmax", axis=-1)


class Log(Layer):
    """The natural logarithm, without an epsilon."""

    def forward(self, x: ArrayLike) -> Array:
        self._saved = check.float_array("x", x)
        return functional.log(self._saved)

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.log_backward(grad_out, self.saved)

    def to_onnx(self, graph: Any) -> None:
        graph.add("Log")


class _FromInput(Layer):
    """An activation whose backward takes its input: a pair of functions, and the settings that both are given."""

    functions: ClassVar[tuple[Callable[..., Array], Callable[..., Array]]]

    def forward(self, x: ArrayLike) -> Array:
        self._saved = check.float_array("x", x)
        return self.functions[0](self._saved, **self._settings())

    def backward(self, grad_out: ArrayLike) -> Array:
        return self.functions[1](grad_out, self.saved, **self._settings())

    def _settings(self) -> dict[str, Any]:
        return {}

    def config(self) -> dict[str, Any]:
        return self._settings()

    def to_torch(self, nn: Any) -> Any:
        return getattr(nn, type(self).__name__)(**self._settings())


class GELU(_FromInput):
    """``x Φ(x)`` with the normal distribution Φ; with ``approximate="tanh"`` as GPT-2 has it, which is faster."""

    torch_names = ("GELU",)
    functions = functional.gelu, functional.gelu_backward

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = check.one_of("approximate", approximate, ("none", "tanh"))

    def _settings(self) -> dict[str, Any]:
        return {"approximate": self.approximate}

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.approximate)

    def to_onnx(self, graph: Any) -> None:
        graph.needs_opset(20)
        graph.add("Gelu", approximate=self.approximate)


class SiLU(_FromInput):
    """``x σ(x)``; also called swish."""

    torch_names = ("SiLU",)
    functions = functional.silu, functional.silu_backward

    def to_onnx(self, graph: Any) -> None:
        x = graph.value
        graph.add("Sigmoid")
        graph.add("Mul", x)


class ELU(_FromInput):
    """x where it is positive, else ``alpha (exp(x) - 1)``."""

    torch_names = ("ELU",)
    functions = functional.elu, functional.elu_backward

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = check.real("alpha", alpha)

    def _settings(self) -> dict[str, Any]:
        return {"alpha": self.alpha}

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.alpha)

    def to_onnx(self, graph: Any) -> None:
        graph.add("Elu", alpha=self.alpha)


class SELU(_FromInput):
    """1.0507 times an `ELU` with alpha 1.6733: numbers of mean 0 and variance 1 stay so from layer to layer.

    A weight in front of it starts with variance 1 / inputs, which that needs.
    """

    torch_names = ("SELU",)
    functions = functional.selu, functional.selu_backward

    def to_onnx(self, graph: Any) -> None:
        graph.add("Selu")


class Softplus(_FromInput):
    """``log(1 + exp(beta x)) / beta``; x itself where ``beta x`` is above the threshold.

    ONNX has no threshold: what is exported differs by ``exp(-threshold) / beta`` at most.
    """

    torch_names = ("Softplus",)
    functions = functional.softplus, functional.softplus_backward

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = check.real("beta", beta, above=0)
        self.threshold = check.real("threshold", threshold)

    def _settings(self) -> dict[str, Any]:
        return {"beta": self.beta, "threshold": self.threshold}

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.beta, module.threshold)

    def to_onnx(self, graph: Any) -> None:
        beta = np.array(self.beta, graph.model.dtype)
        if self.beta != 1:
            graph.add("Mul", graph.constant("beta", beta))
        graph.add("Softplus")
        if self.beta != 1:
            graph.add("Div", graph.constant("beta", beta))


class ReLU6(_FromInput):
    """x between 0 and 6, and the nearer of them outside."""

    torch_names = ("ReLU6",)
    functions = functional.relu6, functional.relu6_backward

    def to_onnx(self, graph: Any) -> None:
        ends = (graph.constant(name, np.array(end, graph.model.dtype)) for name, end in (("min", 0), ("max", 6)))
        graph.add("Clip", *ends)


class Hardswish(_FromInput):
    """``x relu6(x + 3) / 6``."""

    torch_names = ("Hardswish",)
    functions = functional.hardswish, functional.hardswish_backward

    def to_onnx(self, graph: Any) -> None:
        graph.add("HardSwish")
