"""Layers without parameters that act on each element, or on each row."""

from __future__ import annotations

from typing import Any, ClassVar

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
