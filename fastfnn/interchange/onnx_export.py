"""Models for other runtimes: a `Sequential` becomes an ONNX graph for inference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastfnn import _checks as check
from fastfnn._paths import StrPath, as_path
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.interchange.onnx_common import PURPOSE, onnx_package, shape_after
from fastfnn.layers import AvgPool1d, AvgPool2d, Flatten, Layer, MaxPool1d, MaxPool2d
from fastfnn.layers.base import Array, KnownShape, Shape
from fastfnn.model import Sequential, as_sequential
from fastfnn_kernels._files import write_in_one_step

#: Opsets, each with the file format that belongs to it. That of ONNX 1.12, of 2022, suits most runtimes.
VERSIONS = {17: 8, 20: 9, 22: 10}
#: Not before this, of ONNX 1.17, is a pooling's last window that starts in the padding left out, as `ceil_mode` has it
#: here.
CEIL_MODE_OPSET = 22
INPUT_DTYPES = ("uint8", "float32", "float64")
#: Names of the axes of images whose sizes are left open.
IMAGE_AXES = ("channels", "height", "width")


def export_onnx(
    model: Sequential, path: StrPath, *, input_shape: Shape | None = None, input_dtype: Any = "float32"
) -> None:
    """Write `model` to `path` as an ONNX graph for inference, replacing the file in one step.

    The graph takes ``x`` (n, …) and gives ``y`` (n, …), for any n: what `predict_raw` gives. `Normalize` and `Flatten`
    are in it, `Dropout` and augmentation are left out. Parameters and activations have the model's dtype; some
    runtimes, ONNX Runtime among them, have no float64 convolution. The opset is 17, 20 where there is a `GELU`, or 22
    where a pooling has `ceil_mode`.
    ``fastfnn[onnx]`` brings the packages.

    Parameters
    ----------
    model : Sequential
        Of fastfnn's own layers, and of such as have a method `to_onnx`.
    path : str or path
        By custom ``*.onnx``.
    input_shape : tuple of int, optional
        Of one sample. By default what the first layer with a say in it takes: (in_features,) for `Linear`,
        (in_channels, height, width) for `Conv2d`, of any height and width. It is needed where a `Flatten` comes first.
    input_dtype : {"float32", "float64", "uint8"}
        Of ``x``; where it is not the model's, the graph begins with a cast.

    Raises
    ------
    ImportError
        The package onnx is missing.
    InvalidValueError
        A layer is neither; `input_shape` is needed, or does not fit.
    OSError
        The file cannot be written; nothing has changed.
    """
    onnx = onnx_package("export_onnx")
    as_sequential(model)
    target, dtype = as_path(path, "path"), _input_dtype(input_dtype)
    for i, layer in enumerate(model.layers):
        if not layer.has_counterpart("to_onnx"):
            raise InvalidValueError(
                f"layers[{i}] is {layer!r}; only fastfnn's layers can be exported, and such as have a method to_onnx"
            )
    shape = _told_shape(model) if input_shape is None else _given_shape(model, input_shape)
    proto = Graph(onnx, model).write(shape, dtype)
    onnx.checker.check_model(proto, full_check=True)
    write_in_one_step(target, proto.SerializeToString())


def _input_dtype(value: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise InvalidTypeError(f"input_dtype is {value!r}; expected one of {', '.join(INPUT_DTYPES)}") from None
    if dtype.name not in INPUT_DTYPES:
        raise InvalidTypeError(f"input_dtype is {dtype}; expected one of {', '.join(INPUT_DTYPES)}")
    return dtype


def _told_shape(model: Sequential) -> KnownShape:
    """What samples the model takes, as far as its layers tell."""
    for layer in model.chain:
        if (shape := layer.taken_shape()) is not None:
            return shape
        if isinstance(layer, Flatten):
            break
    raise InvalidValueError(
        "input_shape is None; expected the shape of one sample, such as (28, 28), as no Linear or Conv2d tells it "
        "before a Flatten"
    )


def _given_shape(model: Sequential, input_shape: Any) -> Shape:
    try:
        shape = tuple(check.positive_int(f"input_shape[{i}]", size) for i, size in enumerate(input_shape))
    except TypeError:
        raise InvalidTypeError(f"input_shape is {input_shape!r}; expected integers, such as (28, 28)") from None
    if not shape:
        raise InvalidValueError("input_shape is (); expected the shape of one sample, such as (28, 28)")
    try:
        model.output_shape(shape)
    except InvalidValueError as error:
        raise InvalidValueError(f"input_shape is {shape}: {error}") from None
    return shape


class Graph:
    """A graph that grows at its end: `Layer.to_onnx` adds to it, by `add`, `constant` and `own`.

    Attributes
    ----------
    at : str
        The place of the layer that is being written, such as ``"2.shortcut.0"``. Names of nodes and constants begin
        with it.
    value : str
        What the next node takes.
    shape
        What is known of its samples.
    opset : int
        What the nodes so far need.
    """

    def __init__(self, onnx: Any, model: Sequential) -> None:
        self.onnx, self.model = onnx, model
        self.arrays = {**model.named_parameters(), **model.named_buffers()}
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.at, self.value = "", "x"
        self.shape: KnownShape = ()
        self.opset = min(VERSIONS)

    def write(self, shape: KnownShape, dtype: np.dtype[Any]) -> Any:
        """The whole model, for samples of `shape` and `dtype`."""
        helper, own_type = self.onnx.helper, self._type(self.model.dtype)
        axes = [name if size is None else size for name, size in zip(IMAGE_AXES, shape, strict=False)]
        x = helper.make_tensor_value_info("x", self._type(dtype), ["n", *axes, *shape[len(axes) :]])
        if dtype != self.model.dtype:
            self.nodes.append(helper.make_node("Cast", ["x"], ["Cast"], name="Cast", to=own_type))
            self.value = "Cast"
        self.shape = shape
        for name, layer in self.model.children().items():
            self.write_layer(name, layer)
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = "y"
        y = helper.make_tensor_value_info("y", own_type, ["n", *self.shape])
        kinds = MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d
        pools = [layer for layer in self.model.all_layers() if isinstance(layer, kinds)]
        if any(pool.windows.ceil_mode for pool in pools):
            self.needs_opset(CEIL_MODE_OPSET)
        proto = helper.make_model(
            helper.make_graph(self.nodes, "fastfnn", [x], [y], self.initializers),
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=VERSIONS[self.opset],
            producer_name="fastfnn",
        )
        purpose = self.model.purpose()
        helper.set_model_props(proto, {PURPOSE: json.dumps(purpose)} if purpose else {})
        return proto

    def write_layer(self, name: str, layer: Layer) -> None:
        """A layer of the model, or of the layer that is being written, which calls it so."""
        around, came = self.at, self.shape
        self.at = f"{around}.{name}" if around else name
        layer.to_onnx(self)
        self.at, self.shape = around, shape_after(layer, came) or ()

    def write_branches(
        self, branches: Mapping[str, Layer], join: str, columns: Sequence[list[int]] | None = None
    ) -> None:
        """Layers that all take the last node's output, and a node where theirs meet: ``"add"`` or ``"concat"``.

        With `columns` each takes its own, and what it makes is flattened.
        """
        value, shape, made = self.value, self.shape, []
        for i, (name, layer) in enumerate(branches.items()):
            self.value, self.shape = value, shape
            if columns is not None:
                self.add("Gather", self.constant("columns", np.array(columns[i])), axis=1)
                self.shape = (len(columns[i]),)
            self.write_layer(name, layer)
            if columns is not None and len(self.shape) > 1:
                self.add("Flatten", axis=1)
            made.append(self.value)
        self.value, self.shape, rest = made[0], shape, made[1:]
        if join == "concat":
            self.add("Concat", *rest, axis=1)
        else:
            self.add("Add" if len(made) == 2 else "Sum", *rest)

    @property
    def place(self) -> str:
        """Which layer is being written, for errors."""
        first, dot, inner = self.at.partition(".")
        return f"layers[{first}]{dot}{inner}"

    def _type(self, dtype: np.dtype[Any]) -> int:
        return self.onnx.helper.np_dtype_to_tensor_dtype(dtype)

    def add(self, op: str, *constants: str, doc: str | None = None, of: str | None = None, **attributes: Any) -> None:
        """A node that takes the last one's output, and constants; the constant `of` comes before."""
        name = self._unused(op)
        inputs = [*([] if of is None else [of]), self.value, *constants]
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [name], name=name, doc_string=doc, **attributes))
        self.value = name

    def needs_opset(self, opset: int) -> None:
        """There is a node that older opsets than this do not have."""
        self.opset = max(self.opset, next(known for known in sorted(VERSIONS) if known >= opset))

    def _unused(self, name: str) -> str:
        """A name that begins with the layer's place."""
        taken = {node.name for node in self.nodes} | {tensor.name for tensor in self.initializers}
        names = (f"{self.at}.{name}{suffix}" for suffix in ("", *(f".{n}" for n in range(2, len(taken) + 3))))
        return next(name for name in names if name not in taken)

    def constant(self, name: str, array: Array) -> str:
        """A constant for nodes to take; returns what it is called in the graph."""
        name = self._unused(name)
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def own(self, *names: str) -> list[str]:
        """The layer's parameters and buffers of these names, as far as it has them."""
        arrays = {name: self.arrays.get(f"{self.at}.{name}") for name in names}
        return [self.constant(name, array) for name, array in arrays.items() if array is not None]
