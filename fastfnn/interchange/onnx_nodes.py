"""The nodes of an ONNX graph, in a chain; where branches meet is a node, too."""

from __future__ import annotations

import collections
from collections import deque
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastfnn.errors import FOREIGN, InvalidValueError, ModelFileError
from fastfnn.interchange.branching import Join, Made, chain_between
from fastfnn.layers.base import Array, KnownShape

#: In a shape that a graph computes: the rows, as Reshape takes them, and what is not known.
ROWS, UNKNOWN = 0, np.iinfo(np.int64).min
#: In place of the operator where branches meet, and how these operators join them.
JOIN, JOINS = "branches that meet", {"Add": "add", "Sum": "add", "Concat": "concat"}
#: Axes that such a shape may have.
MOST_AXES = 8
#: Before it, batch normalisation, broadcasting and dropout were written otherwise.
OLDEST_OPSET = 9


@dataclass
class Node:
    """One node.

    Attributes
    ----------
    op : str
        The operator, with its domain where it is not ONNX's own.
    shown : str
        What errors call it.
    inputs : list of str
    attributes : dict
        Who reads one takes it out: what is left is not supported.
    doc : str
    opset : int
    place : int
        Which input is not a constant.
    branches : list of deque of Node
        What meets here, where `op` is JOIN; `join` says how.
    """

    op: str
    shown: str
    inputs: list[str]
    attributes: dict[str, Any]
    doc: str
    opset: int
    place: int = 0
    join: str = ""
    branches: list[deque[Node]] = field(default_factory=list)

    def has(self, place: int) -> bool:
        """Whether there is such an input; the last ones are optional."""
        return len(self.inputs) > place and bool(self.inputs[place])

    def take(self, name: str, default: Any) -> Any:
        value = self.attributes.pop(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def take_real(self, name: str, default: float) -> float:
        return shortest(self.take(name, default))

    def take_pair(self, name: str, default: Any) -> tuple[int, int]:
        value = self.take(name, default)
        if value is None or len(value) != 2:
            raise InvalidValueError(f"{name} is {value}; expected two numbers, for height and width")
        return value[0], value[1]

    def expect(self, name: str, default: int, wanted: int) -> None:
        value = self.take(name, default)
        if value != wanted:
            raise InvalidValueError(f"{name} is {value}; expected {wanted}")


@contextmanager
def naming(node: Node) -> Iterator[None]:
    """Errors inside name the node, unless they name one already."""
    try:
        yield
    except ModelFileError:
        raise
    except FOREIGN as error:
        raise ModelFileError(f"{node.shown}: {error}") from None


def shortest(value: float) -> float:
    """The shortest decimal number that rounds to the same float32: most likely what was meant by it."""
    return float(str(np.float32(value)))


@dataclass
class Chain:
    """What of a graph matters: its nodes in order, its constants by name, what is known of its input's shape."""

    nodes: deque[Node]
    constants: dict[str, Array]
    batch: int | None
    shape: KnownShape | None


def chain_of(onnx: Any, proto: Any) -> Chain:
    """The graph as a chain, in which branches that meet are one node, or an error that names what is neither."""
    graph, opset = proto.graph, max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise InvalidValueError(f"the file has opset {opset}; expected {OLDEST_OPSET} or newer")
    constants = {tensor.name: _array(onnx, tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    for name, values in (("input", inputs), ("output", graph.output)):
        if len(values) != 1:
            names = ", ".join(repr(value.name) for value in values) or "none"
            raise InvalidValueError(f"expected one {name} of the graph; got {names}")
    made: dict[str, Made] = {}
    for proto_node in _with_swish(onnx, graph.node):
        node = _node(onnx, proto_node, opset)
        taken = [name for name in proto_node.input if name and name not in constants]
        if node.op == "Constant":
            constants[proto_node.output[0]] = _constant(onnx, node)
        elif node.op == "Shape" and len(taken) == 1:
            constants[proto_node.output[0]] = np.array([ROWS, *[UNKNOWN] * (MOST_AXES - 1)])
        elif node.op in FOLDED and not taken:
            with naming(node):
                arrays = [constants[name] for name in proto_node.input if name]
                constants[proto_node.output[0]] = FOLDED[node.op](node, *arrays)
        else:
            made[proto_node.output[0]] = _made(node, taken, constants.keys())
    items = chain_between(inputs[0].name, graph.output[0].name, made, lambda node: node.shown)
    return Chain(_nodes(items), constants, *_input_shape(inputs[0]))


def _made(node: Node, taken: list[str], constants: Set[str]) -> Made:
    """A node of one value, or one where several meet."""
    meet = node.op in JOINS and not any(name in constants for name in node.inputs)
    if len(taken) == 1 and not meet:
        node.place = node.inputs.index(taken[0])
        if node.place and node.op not in ("Add", "Mul", "Gather"):
            raise InvalidValueError(f"{node.shown} takes {taken[0]!r} as input {node.place}; expected input 0")
        return Made(node, taken)
    if not taken or not meet:
        names = " and ".join(map(repr, node.inputs)) or "nothing"
        raise InvalidValueError(
            f"{node.shown} takes {names}; expected one value that depends on the input, or several in an operator that "
            f"joins them: {', '.join(JOINS)}"
        )
    node.join, node.op = JOINS[node.op], JOIN
    with naming(node):
        if node.join == "concat":
            node.expect("axis", 1, 1)
    return Made(node, taken, node.join)


def _nodes(items: list[Any]) -> deque[Node]:
    nodes = deque()
    for item in items:
        node = item.item if isinstance(item, Join) else item
        if isinstance(item, Join):
            node.branches = [*map(_nodes, item.branches)]
        nodes.append(node)
    return nodes


def _with_swish(onnx: Any, nodes: Any) -> Iterator[Any]:
    """The nodes, but a Sigmoid and the Mul of it by what it took are one Swish, as newer opsets have it."""
    takers = collections.Counter(name for node in nodes for name in node.input)
    sigmoids = {node.output[0]: node for node in nodes if node.op_type == "Sigmoid" and takers[node.output[0]] == 1}
    swishes: dict[str, Any] = {}
    for node in nodes:
        for taken, other in (node.input, node.input[::-1]) if node.op_type == "Mul" else ():
            if taken in sigmoids and sigmoids[taken].input[0] == other:
                swishes[taken] = node
    merged = {id(node) for node in swishes.values()}
    for node in nodes:
        if node.op_type == "Sigmoid" and node.output[0] in swishes:
            mul = swishes[node.output[0]]
            yield onnx.helper.make_node("Swish", list(node.input), list(mul.output), name=mul.name)
        elif id(node) not in merged:
            yield node


def _unsqueezed(node: Node, array: Array, axes: Any = None) -> Array:
    axes = node.take("axes", ()) if axes is None else axes
    return np.expand_dims(array, tuple(int(axis) for axis in axes))


def _squeezed(node: Node, array: Array, axes: Any = None) -> Array:
    axes = node.take("axes", None) if axes is None else axes
    return np.squeeze(array, None if axes is None else tuple(int(axis) for axis in axes))


#: What is made of constants alone, such as the shape that an exporter writes for ``x.view(x.size(0), -1)``.
FOLDED: dict[str, Callable[..., Array]] = {
    "Cast": lambda node, array: array,
    "Concat": lambda node, *arrays: np.concatenate(arrays, node.take("axis", 0)),
    "Gather": lambda node, array, places: np.take(array, places, node.take("axis", 0)),
    "Identity": lambda node, array: array,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
}


def _node(onnx: Any, proto: Any, opset: int) -> Node:
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in proto.attribute}
    return Node(
        op, f"node {proto.name or proto.output[0]!r} ({op})", list(proto.input), attributes, proto.doc_string, opset
    )


def _array(onnx: Any, tensor: Any) -> Array:
    try:
        return onnx.numpy_helper.to_array(tensor)
    except FOREIGN as error:
        raise InvalidValueError(f"constant {tensor.name!r} cannot be read: {error}") from None


def _constant(onnx: Any, node: Node) -> Array:
    ((name, value),) = node.attributes.items()
    if name == "value":
        return _array(onnx, value)
    if name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise InvalidValueError(f"{node.shown}: attribute {name} is not supported")
    return np.array(value, np.float32 if "float" in name else np.int64)


def _input_shape(x: Any) -> tuple[int | None, KnownShape | None]:
    """The input's rows and the shape of a sample; None where the file does not say."""
    tensor = x.type.tensor_type
    if not tensor.HasField("shape"):
        return None, None
    sizes = tuple(axis.dim_value or None for axis in tensor.shape.dim)
    if len(sizes) < 2:
        raise InvalidValueError(f"input {x.name!r} has {len(sizes)} axes; expected (n, …), a sample in each row")
    return sizes[0], sizes[1:]
