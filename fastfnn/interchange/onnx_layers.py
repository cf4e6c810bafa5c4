"""How the nodes of an ONNX chain are read: each becomes a layer, a few become one, some none."""

from __future__ import annotations

import itertools
import json
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn.errors import FOREIGN, InvalidValueError, ModelFileError
from fastfnn.interchange.branching import joined
from fastfnn.interchange.onnx_activations import ACTIVATIONS
from fastfnn.interchange.onnx_common import shape_after
from fastfnn.interchange.onnx_nodes import JOIN, UNKNOWN, Node, naming, shortest
from fastfnn.layers import (
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Columns,
    Conv1d,
    Conv2d,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    Linear,
    LogSoftmax,
    MaxPool1d,
    MaxPool2d,
    Normalize,
    PReLU,
    Softmax,
    ZeroPad2d,
)
from fastfnn.layers.base import Array, KnownShape
from fastfnn.model import Sequential

Arrays = dict[str, Array]
#: TensorProto.FLOAT and DOUBLE.
FLOATS = (1, 11)
#: INT32 and INT64.
INTEGERS = (6, 7)


class Reader:
    """Makes layers of nodes.

    Attributes
    ----------
    constants : dict of str to ndarray
    shape
        What is known of the samples that the next node gets; None for nothing.
    batch : int, optional
        How many samples the graph takes, if it is made for one number of them.
    dtype : numpy.dtype
        Of the model.
    rest : deque of Node
        What is not read yet.
    """

    def __init__(self, constants: Arrays, shape: KnownShape | None, batch: int | None, dtype: np.dtype[Any]) -> None:
        self.constants, self.shape, self.batch, self.dtype = constants, shape, batch, dtype
        self.rest: deque[Node] = deque()
        self._made: list[tuple[Node, Layer, Arrays]] = []

    def model(self, nodes: deque[Node]) -> Sequential:
        """All of them."""
        model = Sequential(*self.chain(nodes), seed=0, dtype=self.dtype)
        for node, layer, arrays in self._made:
            for name, array in arrays.items():
                own = (layer.params if name in layer.params else layer.buffers)[name]
                if array.shape != own.shape:
                    raise ModelFileError(f"{node.shown}: {name} has shape {array.shape}; expected {own.shape}")
                own[...] = array
        return model

    def chain(self, nodes: deque[Node]) -> list[Layer]:
        """The layers of nodes that follow each other."""
        around, self.rest, layers = self.rest, nodes, []
        while self.rest:
            node = self.rest.popleft()
            with naming(node):
                layer, arrays = self.read(node)
                if layer is not None:
                    self.shape = shape_after(layer, self.shape)
                    self._made.append((node, layer, arrays))
                    layers.append(layer)
        self.rest = around
        return layers

    def joined(self, node: Node) -> Layer:
        """Branches that meet."""
        shape, branches, columns = self.shape, [], []
        for branch in node.branches:
            self.shape = shape
            if node.join == "concat" and branch and branch[0].op == "Gather" and branch[0].place == 0:
                first = branch.popleft()
                columns.append(tuple(self.constant(first, 1).ravel().tolist()))
                first.expect("axis", 0, 1)
                self.shape = (len(columns[-1]),)
            branches.append(self.chain(branch))
        self.shape = shape
        if columns:
            if len(columns) < len(branches) or len(set(columns)) < len(columns):
                raise InvalidValueError(
                    "some of its branches take columns of their own; expected all, and no two alike"
                )
            flat = [layers[:-1] if layers and type(layers[-1]) is Flatten else layers for layers in branches]
            return Columns(dict(zip(columns, flat, strict=True)))
        return joined(branches, node.join)

    def read(self, node: Node) -> tuple[Layer | None, Arrays]:
        """The layer that a node, perhaps with some that follow, becomes; and its parameters and buffers."""
        if node.op == JOIN:
            return self.joined(node), {}
        if node.op not in READERS:
            raise InvalidValueError(f"the operator is not supported; expected one of {', '.join(READERS)}")
        made = READERS[node.op](self, node)
        if node.attributes:
            raise InvalidValueError(f"not supported: {', '.join(f'{k}={v!r}' for k, v in node.attributes.items())}")
        return made if isinstance(made, tuple) else (made, {})

    # Constants

    def constant(self, node: Node, place: int) -> Array:
        if not node.has(place):
            raise InvalidValueError(f"input {place} is missing")
        return self.constants[node.inputs[place]]

    def floats(self, node: Node, place: int, ndim: int | None = None) -> Array:
        """A constant input of floats."""
        array = self.constant(node, place)
        if array.dtype.kind != "f":
            raise InvalidValueError(f"input {place} is {array.dtype}; expected floats")
        if ndim is not None and array.ndim != ndim:
            raise InvalidValueError(f"input {place} has shape {array.shape}; expected {ndim} dimensions")
        return array

    def axes(self, node: Node, ndim: int) -> list[int]:
        """What axes of so many a node is about; older opsets have them as an attribute."""
        axes = self.constant(node, 1).ravel().tolist() if node.has(1) else node.take("axes", ())
        return sorted(axis % ndim for axis in axes)

    def per_channel(self, node: Node) -> Array:
        """The constant of an elementwise operator, flat: one number, or one for each channel."""
        constant = self.floats(node, 1 - node.place)
        rank = 0 if self.shape is None else len(self.shape)
        form = constant.shape
        while form[:1] == (1,):
            form = form[1:]
        fits = not form or (len(form) == rank and form[0] == constant.size)
        if not fits or constant.ndim > rank + 1:
            raise InvalidValueError(
                f"the constant has shape {constant.shape}; expected one number, or one for each channel"
            )
        return constant.ravel()

    # Operators

    def elementwise(self, node: Node) -> Normalize:
        """A run of Mul, Add, Sub and Div by constants, as ``(x * scale - mean) / std``."""
        run = [(node.op, self.per_channel(node))]
        while self.rest and self.rest[0].op in ELEMENTWISE and noted_settings(self.rest[0]) is None:
            following = self.rest.popleft()
            with naming(following):
                run.append((following.op, self.per_channel(following)))
        noted = as_noted(noted_settings(node), run)
        if noted is not None:
            return noted
        scale, mean, std = np.float64(1), np.zeros(1), np.ones(1)
        with np.errstate(all="ignore"):  # Normalize refuses what comes of zeros
            for op, constant in run:
                value = constant.astype(np.float64)
                if op in ("Add", "Sub"):
                    mean = mean + (value if op == "Sub" else -value) * std
                elif value.size == 1 and not mean.any() and (std == 1).all():
                    scale = scale * value[0] if op == "Mul" else scale / value[0]
                else:
                    std = std / value if op == "Mul" else std * value
            if (std < 0).all():
                scale, mean, std = -scale, -mean, -std
        return Normalize(mean.tolist(), std.tolist(), float(scale))

    def gemm(self, node: Node) -> tuple[Linear, Arrays]:
        node.expect("transA", 0, 0)
        weight = self.floats(node, 1, ndim=2) * node.take("alpha", 1.0)
        if node.take("transB", 0):
            weight = weight.T
        beta = node.take("beta", 1.0)
        if not node.has(2):
            return linear(weight, None)
        bias = self.floats(node, 2)
        if not fits_rows(bias, weight.shape[1]):
            raise InvalidValueError(f"input 2 has shape {bias.shape}; expected ({weight.shape[1]},)")
        return linear(weight, bias * beta)

    def matmul(self, node: Node) -> tuple[Linear, Arrays]:
        weight = self.floats(node, 1, ndim=2)
        if self.shape is not None and len(self.shape) != 1:
            raise InvalidValueError(f"it gets samples of {len(self.shape)} axes; expected rows")
        casts = itertools.takewhile(lambda following: following.op in ("Cast", "Identity"), self.rest)
        place = len(list(casts))
        if len(self.rest) > place and self.rest[place].op == "Add":
            bias = self.floats(self.rest[place], 1 - self.rest[place].place)
            if fits_rows(bias, weight.shape[1]):
                del self.rest[place]
                return linear(weight, bias)
        return linear(weight, None)

    def gather(self, node: Node) -> tuple[Embedding, Arrays]:
        weight = self.floats(node, 0, ndim=2)
        node.expect("axis", 0, 0)
        return Embedding(*weight.shape), {"weight": weight}

    def conv1d(self, node: Node, weight: Array) -> tuple[Conv1d, Arrays]:
        kernel, pads = node.take("kernel_shape", weight.shape[2:]), node.take("pads", [0, 0])
        steps = (node.take(name, [1]) for name in ("strides", "dilations"))
        (stride,), (dilation,) = steps
        auto, groups = node.take("auto_pad", "NOTSET"), node.take("group", 1)
        if auto not in ("NOTSET", "VALID") or tuple(kernel) != weight.shape[2:] or len(set(pads)) != 1:
            raise InvalidValueError(f"auto_pad is {auto}, pads is {pads}; expected the same number in front and behind")
        arrays = {"weight": weight, **({"bias": self.floats(node, 2, ndim=1)} if node.has(2) else {})}
        sizes = kernel[0], stride, pads[0], dilation, groups
        return Conv1d(weight.shape[1] * groups, len(weight), *sizes, "bias" in arrays), arrays

    def conv(self, node: Node) -> tuple[Conv1d | Conv2d, Arrays]:
        if self.floats(node, 1).ndim == 3:
            return self.conv1d(node, self.floats(node, 1))
        weight = self.floats(node, 1, ndim=4)
        kernel = node.take_pair("kernel_shape", weight.shape[2:])
        if kernel != weight.shape[2:]:
            raise InvalidValueError(f"kernel_shape is {kernel}; expected {weight.shape[2:]}, as of the weight")
        stride, dilation = node.take_pair("strides", (1, 1)), node.take_pair("dilations", (1, 1))
        padding, groups = self.padding(node, kernel, stride, dilation), node.take("group", 1)
        arrays = {"weight": weight}
        if node.has(2):
            arrays["bias"] = self.floats(node, 2, ndim=1)
        channels = weight.shape[1] * groups
        return Conv2d(channels, len(weight), kernel, stride, padding, dilation, groups, "bias" in arrays), arrays

    def padding(
        self, node: Node, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
    ) -> tuple[int, int]:
        """`pads` and `auto_pad` as (height, width)."""
        auto, pads = node.take("auto_pad", "NOTSET"), node.take("pads", None) or [0, 0, 0, 0]
        if auto == "NOTSET":
            if len(pads) != 4 or pads[:2] != pads[2:]:
                raise InvalidValueError(f"pads is {pads}; expected four numbers, the same in front and behind")
            return pads[0], pads[1]
        if auto == "VALID":
            return 0, 0
        sizes = self.shape[-2:] if self.shape is not None and len(self.shape) > 1 else (None, None)
        halves = []
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            if size is None and s > 1:
                raise InvalidValueError(f"auto_pad is {auto}; expected an input of known size, as strides is {stride}")
            over = 0 if size is None else (size - 1) % s  # how far the last window starts in front of the end
            total = max(d * (k - 1) - over, 0)
            if total % 2:
                raise InvalidValueError(f"auto_pad is {auto}; it pads by {total}, which fastfnn cannot halve")
            halves.append(total // 2)
        return halves[0], halves[1]

    def window(self, node: Node) -> dict[str, Any]:
        """Arguments that both poolings have."""
        kernel, stride = node.take_pair("kernel_shape", None), node.take_pair("strides", (1, 1))
        dilation = node.take_pair("dilations", (1, 1))
        arguments = {"kernel_size": kernel, "stride": stride, "padding": self.padding(node, kernel, stride, dilation)}
        if dilation != (1, 1):
            arguments["dilation"] = dilation
        return {**arguments, "ceil_mode": bool(node.take("ceil_mode", 0))}

    def line_window(self, node: Node) -> dict[str, Any] | None:
        """The same of lines, as images of one row; None where it is about images."""
        if len(node.attributes.get("kernel_shape", ())) != 1:
            return None
        for name in ("kernel_shape", "strides", "dilations"):
            node.attributes[name] = [1, *node.attributes.get(name, [1])]
        pads = node.attributes.get("pads") or [0, 0]
        if len(pads) != 2 or pads[0] != pads[1]:
            raise InvalidValueError(f"pads is {pads}; expected two numbers, the same in front and behind")
        node.attributes["pads"] = [0, pads[0], 0, pads[1]]
        arguments = self.window(node)
        return {name: value[1] if isinstance(value, tuple) else value for name, value in arguments.items()}

    def max_pool(self, node: Node) -> MaxPool1d | MaxPool2d:
        node.take("storage_order", 0)  # of indices, which nothing in a chain takes
        of_lines = self.line_window(node)
        return MaxPool2d(**self.window(node)) if of_lines is None else MaxPool1d(**of_lines)

    def avg_pool(self, node: Node) -> AvgPool1d | AvgPool2d:
        of_lines = self.line_window(node)
        arguments = self.window(node) if of_lines is None else of_lines
        if "dilation" in arguments:
            raise InvalidValueError(f"dilations is {arguments['dilation']}; expected 1")
        kind = AvgPool2d if of_lines is None else AvgPool1d
        return kind(**arguments, count_include_pad=bool(node.take("count_include_pad", 0)))

    def global_max_pool(self, node: Node) -> GlobalMaxPool2d:
        self.global_avg_pool(node)
        return GlobalMaxPool2d()

    def pad(self, node: Node) -> ZeroPad2d:
        mode, value = node.take("mode", "constant"), node.take("value", 0.0)
        pads = self.constant(node, 1).tolist() if node.has(1) else node.take("pads", [])
        value = self.constant(node, 2).item() if node.has(2) else value
        if mode != "constant" or value or len(pads) != 8 or any(pads[:2] + pads[4:6]) or node.has(3):
            raise InvalidValueError(
                f"it pads by {pads} in mode {mode}; expected zeros around (n, c, h, w), all axes told"
            )
        return ZeroPad2d((pads[3], pads[7], pads[2], pads[6]))

    def global_avg_pool(self, node: Node) -> GlobalAvgPool2d:
        """With what takes away the two axes of size 1 that ONNX leaves."""
        if not self.rest or self.rest[0].op not in ("Flatten", "Reshape", "Squeeze"):
            raise InvalidValueError("expected a Flatten behind it")
        channels = self.shape[0] if self.shape is not None else None
        self.shape, following = (channels, 1, 1), self.rest.popleft()
        with naming(following):
            self.read(following)
        return GlobalAvgPool2d()

    def reduce_mean(self, node: Node) -> GlobalAvgPool2d:
        """Of the pixels of images; perhaps with what takes away the two axes of size 1."""
        keeps, axes = node.take("keepdims", 1), self.axes(node, 4)
        node.take("noop_with_empty_axes", 0)
        if self.shape is None or len(self.shape) != 3 or axes != [2, 3]:
            raise InvalidValueError(f"it is the mean over axes {axes}; expected [2, 3] of images")
        return self.global_avg_pool(node) if keeps else GlobalAvgPool2d()

    def batch_norm(self, node: Node) -> tuple[BatchNorm1d | BatchNorm2d, Arrays]:
        node.expect("training_mode", 0, 0)
        names = ("weight", "bias", "running_mean", "running_var")
        arrays = {name: self.floats(node, place, ndim=1) for place, name in enumerate(names, 1)}
        eps = node.take_real("epsilon", 1e-5)
        # ONNX's momentum is what the old statistics keep.
        momentum = shortest(1 - node.take_real("momentum", 0.9))
        rank = None if self.shape is None else len(self.shape)
        if rank not in (1, 3):
            came = "samples of unknown shape" if rank is None else f"samples of {rank} axes"
            raise InvalidValueError(f"it gets {came}; expected rows or images")
        kind = BatchNorm1d if rank == 1 else BatchNorm2d
        return kind(len(arrays["weight"]), eps, momentum), arrays

    def layer_norm(self, node: Node) -> tuple[LayerNorm, Arrays]:
        arrays = {"weight": self.floats(node, 1)}
        if node.has(2):
            arrays["bias"] = self.floats(node, 2)
        axis, shape, rank = node.take("axis", -1), arrays["weight"].shape, len(self.shape or ()) + 1
        if axis != -len(shape) and (self.shape is None or axis != rank - len(shape)):
            raise InvalidValueError(
                f"axis is {axis}; expected {-len(shape)}, as of the weight, which has shape {shape}"
            )
        node.take("stash_type", 1)  # the precision of the statistics
        return LayerNorm(shape, node.take_real("epsilon", 1e-5), bias="bias" in arrays), arrays

    def prelu(self, node: Node) -> tuple[PReLU, Arrays]:
        slopes = self.per_channel(node)
        return PReLU(slopes.size), {"weight": slopes}

    def last_axis(self, node: Node, layer: Layer) -> Layer:
        """Softmaxes."""
        axis, last = node.take("axis", -1 if node.opset >= 13 else 1), None if self.shape is None else len(self.shape)
        if axis not in (-1, last):
            raise InvalidValueError(f"axis is {axis}; expected the last")
        return layer

    def flatten(self, node: Node) -> Flatten:
        axis, rank = node.take("axis", 1), None if self.shape is None else len(self.shape)
        if axis != 1 and (rank is None or axis != -rank):
            raise InvalidValueError(f"axis is {axis}; expected 1, which keeps samples apart")
        return Flatten()

    def reshape(self, node: Node) -> Flatten:
        wanted = self.constant(node, 1).ravel().tolist()
        known = self.shape is not None and None not in self.shape
        features = math.prod(size or 0 for size in self.shape or ()) if known else None
        keeps = () if node.take("allowzero", 0) else (0,)
        if len(wanted) == 2:
            rows_stay = wanted[0] in (*keeps, self.batch) and wanted[1] in (-1, features)
            if rows_stay or (wanted[0] == -1 and wanted[1] == features):
                return Flatten()
        shown = ", ".join("?" if size == UNKNOWN else str(size) for size in wanted)
        raise InvalidValueError(f"it reshapes to [{shown}]; expected [0, -1], a row for each sample")

    def squeeze(self, node: Node) -> Flatten:
        if self.shape is None or self.shape[1:] != (1, 1) or self.axes(node, 4) != [2, 3]:
            raise InvalidValueError("expected the last two axes of images of one pixel")
        return Flatten()

    def unsqueeze(self, node: Node) -> None:
        """A channel axis in front of a convolution, which does without."""
        images = self.shape is not None and len(self.shape) == 2 and self.rest and self.rest[0].op == "Conv"
        if not images or self.axes(node, 4) != [1]:
            raise InvalidValueError("expected axis 1 of images without channels, and a Conv behind it")

    def dropout(self, node: Node) -> None:
        for name in ("ratio", "seed"):
            node.take(name, None)
        if node.has(2) and self.constant(node, 2).any():
            raise InvalidValueError("training_mode is true; expected false")

    def cast(self, node: Node) -> None:
        node.take("saturate", 1)
        numbers = self.rest and self.rest[0].op == "Gather" and self.rest[0].place == 1
        if node.take("to", 0) not in (*FLOATS, *(INTEGERS if numbers else ())):
            raise InvalidValueError("expected a cast to float32 or float64")


def noted_settings(node: Node) -> dict[str, Any] | None:
    """What `export_onnx` notes at the Mul of a `Normalize`."""
    try:
        settings = json.loads(node.doc) if node.op == "Mul" else None
    except FOREIGN:  # a text of somebody's
        return None
    return settings if isinstance(settings, dict) else None


def as_noted(settings: dict[str, Any] | None, run: list[tuple[str, Array]]) -> Normalize | None:
    """The layer that `export_onnx` wrote as this run, if the settings that it noted give these constants."""
    if settings is None or [op for op, _ in run] != ["Mul", "Add"]:
        return None
    try:
        layer = Normalize(**settings)
    except FOREIGN:
        return None
    layer.dtype = run[0][1].dtype
    pairs = zip(layer.factor_and_shift(), (constant for _, constant in run), strict=True)
    same = (np.array_equal(noted.repeat(found.size // noted.size), found) for noted, found in pairs)
    return layer if all(same) else None


def fits_rows(bias: Array, features: int) -> bool:
    """Whether `bias` is one number, or one for each feature."""
    return bias.size == 1 or (bias.size == features and bias.shape[-1] == features)


def linear(weight: Array, bias: Array | None) -> tuple[Linear, Arrays]:
    layer = Linear(*weight.shape, bias=bias is not None)
    if bias is None:
        return layer, {"weight": weight}
    return layer, {"weight": weight, "bias": np.broadcast_to(bias.ravel(), weight.shape[1:])}


ELEMENTWISE = ("Add", "Div", "Mul", "Sub")
READERS: dict[str, Callable[[Reader, Node], Any]] = {
    **dict.fromkeys(ELEMENTWISE, Reader.elementwise),
    **ACTIVATIONS,
    "AveragePool": Reader.avg_pool,
    "BatchNormalization": Reader.batch_norm,
    "Cast": Reader.cast,
    "Conv": Reader.conv,
    "Dropout": Reader.dropout,
    "Flatten": Reader.flatten,
    "Gather": Reader.gather,
    "Gemm": Reader.gemm,
    "GlobalAveragePool": Reader.global_avg_pool,
    "GlobalMaxPool": Reader.global_max_pool,
    "Identity": lambda reader, node: None,
    "LayerNormalization": Reader.layer_norm,
    "LogSoftmax": lambda reader, node: reader.last_axis(node, LogSoftmax()),
    "MatMul": Reader.matmul,
    "MaxPool": Reader.max_pool,
    "PRelu": Reader.prelu,
    "Pad": Reader.pad,
    "ReduceMean": Reader.reduce_mean,
    "Reshape": Reader.reshape,
    "Softmax": lambda reader, node: reader.last_axis(node, Softmax()),
    "Squeeze": Reader.squeeze,
    "Unsqueeze": Reader.unsqueeze,
}
