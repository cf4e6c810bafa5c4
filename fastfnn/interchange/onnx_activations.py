"""How the nodes of an ONNX chain that act on each element are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn.errors import InvalidValueError
from fastfnn.interchange.onnx_nodes import Node
from fastfnn.layers import (
    ELU,
    GELU,
    SELU,
    Hardswish,
    Layer,
    LeakyReLU,
    Log,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from fastfnn_kernels import reference


def _clip(reader: Any, node: Node) -> ReLU | ReLU6:
    """Older opsets have the ends as attributes."""
    attributes = node.take("min", None), node.take("max", None)
    ends = [reader.constant(node, i).item() if node.has(i) else value for i, value in enumerate(attributes, 1)]
    if ends not in ([0, 6], [0, None]):
        raise InvalidValueError(f"it clips to {ends}; expected [0, 6], or [0, None]")
    return ReLU6() if ends[1] else ReLU()


def _selu(reader: Any, node: Node) -> SELU:
    ours = reference.SELU_ALPHA, reference.SELU_SCALE
    settings = node.take("alpha", ours[0]), node.take("gamma", ours[1])
    if not np.allclose(settings, ours, rtol=1e-6):
        raise InvalidValueError(f"alpha and gamma are {settings}; expected {ours}")
    return SELU()


def _swish(reader: Any, node: Node) -> SiLU:
    alpha = node.take("alpha", 1.0)
    if alpha != 1:
        raise InvalidValueError(f"alpha is {alpha}; expected 1")
    return SiLU()


#: By the operator; each takes the `Reader`, too, for constants.
ACTIVATIONS: dict[str, Callable[[Any, Node], Layer]] = {
    "Clip": _clip,
    "Elu": lambda reader, node: ELU(node.take_real("alpha", 1.0)),
    "Gelu": lambda reader, node: GELU(node.take("approximate", "none")),
    "HardSwish": lambda reader, node: Hardswish(),
    "LeakyRelu": lambda reader, node: LeakyReLU(node.take_real("alpha", 0.01)),
    "Log": lambda reader, node: Log(),
    "Relu": lambda reader, node: ReLU(),
    "Selu": _selu,
    "Sigmoid": lambda reader, node: Sigmoid(),
    "Softplus": lambda reader, node: Softplus(),
    "Swish": _swish,
    "Tanh": lambda reader, node: Tanh(),
}
