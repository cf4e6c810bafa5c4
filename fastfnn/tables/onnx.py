"""A table's columns as inputs of an ONNX graph: what `apply` does to them comes before the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastfnn._paths import StrPath, as_path
from fastfnn.interchange.onnx_common import onnx_package
from fastfnn.interchange.onnx_export import Graph
from fastfnn.model import Sequential
from fastfnn.tables.columns import DATE, DAYS, TEXT, UNUSED, Column
from fastfnn_kernels._files import write_in_one_step

#: Whose operator looks texts up; its second version has names of several types.
_ML_DOMAIN, _ML_VERSION = "ai.onnx.ml", 2


def export_table(model: Sequential, columns: Sequence[Column], path: StrPath) -> dict[str, str]:
    """Write `model` as an ONNX graph that takes a table's columns as they are, and gives what the model gives.

    Each column is an input (n, 1): texts are strings, of which "" is a gap; numbers, booleans (0 and 1) and dates (days
    since 1970-01-01: the formats of dates are nothing that ONNX can read) are doubles, of which NaN is one.

    Parameters
    ----------
    model : Sequential
    columns : sequence of Column
        What its training made of its table.
    path : str or path

    Returns
    -------
    dict of str to str
        What the inputs are called, and what each is, in words.

    Raises
    ------
    ImportError
        The package onnx is missing.
    OSError
        The file cannot be written; nothing has changed.
    """
    onnx = onnx_package("export")
    width = sum(column.width for column in columns)
    proto = Graph(onnx, model).write((width,), model.dtype)
    graph = proto.graph
    nodes = _Columns(onnx, {"x", *(name for node in graph.node for name in node.output)})
    for column in columns:
        if column.kind != UNUSED:
            nodes.add(column)
    table = nodes.joined(onnx.helper.np_dtype_to_tensor_dtype(model.dtype))
    for node in graph.node:
        node.input[:] = [table if name == "x" else name for name in node.input]
    behind = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes.nodes, *behind])
    graph.input.extend(nodes.inputs)
    graph.initializer.extend(nodes.initializers)
    proto.opset_import.append(onnx.helper.make_opsetid(_ML_DOMAIN, _ML_VERSION))
    onnx.checker.check_model(proto, full_check=True)
    write_in_one_step(as_path(path, "path"), proto.SerializeToString())
    return nodes.said


class _Columns:
    """Nodes that make a row of numbers from a column each."""

    def __init__(self, onnx: Any, taken: set[str]) -> None:
        self.onnx, self.taken = onnx, taken
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.initializers: list[Any] = []
        self.parts: list[str] = []
        self.said: dict[str, str] = {}

    def add(self, column: Column) -> None:
        """What `fitting` does to a column."""
        types = self.onnx.TensorProto
        name = self._unused(column.name)
        kind = types.STRING if column.kind == TEXT else types.DOUBLE
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, kind, ["n", 1]))
        if column.kind == TEXT:
            self.said[name] = 'string, "" for a gap'
            self._texts(name, column)
            return
        unit = f", {DAYS}" if column.kind == DATE else ""
        self.said[name] = f"double{unit}" + ("" if column.fill is None else ", NaN for a gap")
        if column.fill is None:
            self.parts.append(name)
            return
        gap = self._node("IsNaN", name)
        self.parts.append(self._node("Where", gap, self._constant(np.float64(column.fill)), name))
        if column.gaps:
            self.parts.append(self._node("Cast", gap, to=types.DOUBLE))

    def _texts(self, name: str, column: Column) -> None:
        """Each text is looked up for the row of a table that it becomes."""
        rows = np.zeros((len(column.values) + 2, column.width))
        place = {value: i for i, value in enumerate(column.values)}
        elsewhere = len(place) if column.other else None
        rows[np.arange(len(place)), np.arange(len(place))] = 1
        unseen, gap = len(place), len(place) + 1
        if elsewhere is not None:
            rows[unseen, elsewhere] = 1
        filled = place.get(str(column.fill), elsewhere)
        if filled is not None:
            rows[gap, filled] = 1
        if column.gaps:
            rows[gap, -1] = 1
        found = self._node(
            "LabelEncoder",
            name,
            domain=_ML_DOMAIN,
            keys_strings=[*column.values, ""],
            values_int64s=[*range(len(place)), gap],
            default_int64=unseen,
        )
        flat = self._node("Reshape", found, self._constant(np.array([-1])))
        self.parts.append(self._node("Gather", self._constant(rows), flat, axis=0))

    def joined(self, dtype: int) -> str:
        """All columns side by side, in the network's type."""
        return self._node("Cast", self._node("Concat", *self.parts, axis=1), to=dtype)

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self._unused(f"table.{op}")
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def _constant(self, array: Any) -> str:
        name = self._unused("table.constant")
        self.initializers.append(self.onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def _unused(self, name: str) -> str:
        """`name`, with a number where something is called so."""
        free, number = name, 2
        while free in self.taken:
            free, number = f"{name}.{number}", number + 1
        self.taken.add(free)
        return free
