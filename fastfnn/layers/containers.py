"""Layers made of layers side by side: branches, around a shortcut, and of columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers.base import Array, KnownShape, Layer, Shape
from fastfnn.layers.chain import Chain, check_appears_once, check_layers

JOINS = ("concat", "add")


class Parallel(Layer):
    """Branches that all get the same input; their outputs are joined.

    Parameters
    ----------
    *branches : Layer or sequence of Layer
        A layer, layers one behind the other, or none of them, ``[]``, which hands the input on.
    join : {"concat", "add"}
        One behind the other along the first axis of a sample, its features or channels; or summed.

    Attributes
    ----------
    branches : list of Layer

    Examples
    --------
    >>> import fastfnn as ff
    >>> wide_and_deep = ff.Parallel([], [ff.Linear(8, 16), ff.ReLU()])
    >>> wide_and_deep.output_shape((8,))
    (24,)
    """

    holds_others = True

    def __init__(self, *branches: Layer | Sequence[Layer], join: str = "concat") -> None:
        super().__init__()
        if not branches:
            raise InvalidValueError("branches is empty; expected at least one layer, or list of layers")
        self.join = check.one_of("join", join, JOINS)
        self.branches = [_as_layer(branch, f"branches[{i}]") for i, branch in enumerate(branches)]
        check_appears_once(self.branches, "branches")

    def children(self) -> dict[str, Layer]:
        return {str(i): branch for i, branch in enumerate(self.branches)}

    def config(self) -> dict[str, Any]:
        return {"join": self.join}

    def build_children(self, rng: np.random.Generator, activation: str | None) -> None:
        for branch in self.branches:
            branch.build(rng, self.dtype, activation)

    def forward(self, x: ArrayLike) -> Array:
        """Every branch's output, joined: (n, …)."""
        x = check.float_array("x", x, dtype=self.dtype)
        outs = [branch.forward(x) for branch in self.branches]
        self.joined_shape([out.shape[1:] for out in outs])
        self._saved = [out.shape[1] for out in outs]
        if self.join == "concat":
            return np.concatenate(outs, axis=1)
        return sum(outs[1:], outs[0])

    def backward(self, grad_out: ArrayLike) -> Array:
        grad_out = check.float_array("grad_out", grad_out, dtype=self.dtype)
        parts = [grad_out] * len(self.branches)
        if self.join == "concat":
            parts = [*map(np.ascontiguousarray, np.split(grad_out, np.cumsum(self.saved)[:-1], axis=1))]
        grads = [branch.backward(part) for branch, part in zip(self.branches, parts, strict=True)]
        return sum(grads[1:], grads[0])

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.joined_shape([branch.output_shape(input_shape) for branch in self.branches])

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        """What samples of these shapes, one of each branch, are together."""
        first, rest = shapes[0], slice(1 if self.join == "concat" else 0, None)
        for i, shape in enumerate(shapes):
            if len(shape) != len(first) or shape[rest] != first[rest] or not shape:
                raise InvalidValueError(
                    f"{self._named(0)} makes samples of shape {first}, {self._named(i)} of {shape}; expected "
                    + ("the same shape" if self.join == "add" else "shapes that differ in their first axis only")
                    + f" for join={self.join!r}"
                )
        return (sum(shape[0] for shape in shapes), *first[1:]) if self.join == "concat" else first

    def taken_shape(self) -> KnownShape | None:
        return next((shape for branch in self.branches if (shape := branch.taken_shape()) is not None), None)

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        made = [branch.made_shape(came or branch.taken_shape()) for branch in self.branches]
        known = [shape for shape in made if shape is not None]
        if not known or len(known) < len(made) or len({len(shape) for shape in known}) > 1:
            return None
        if self.join == "add":
            return tuple(next((size for size in sizes if size is not None), None) for sizes in zip(*known, strict=True))
        firsts = [shape[0] for shape in known]
        return (None if None in firsts else sum(size or 0 for size in firsts), *known[0][1:])

    def to_onnx(self, graph: Any) -> None:
        graph.write_branches(self.children(), self.join)

    def _named(self, i: int) -> str:
        """What errors call a branch."""
        return f"branches[{i}], {_shown(self.branches[i])},"

    def __repr__(self) -> str:
        return f"Parallel({', '.join(map(_shown, self.branches))}, join={self.join!r})"


class Residual(Parallel):
    """``y = layers(x) + shortcut(x)`` [1]_.

    Parameters
    ----------
    *layers : Layer
        One behind the other.
    shortcut : Layer or sequence of Layer, optional
        What the input goes through on its way around them, such as a 1×1 convolution where the layers change the
        number of channels. None: nothing.

    References
    ----------
    .. [1] He, Zhang, Ren, Sun: "Deep residual learning for image recognition", CVPR 2016, equations 1 and 2.

    Examples
    --------
    >>> import fastfnn as ff
    >>> block = ff.Residual(ff.Linear(16, 16), ff.ReLU(), ff.Linear(16, 16))
    >>> model = ff.Sequential(ff.Linear(8, 16), ff.ReLU(), block, ff.ReLU(), ff.Linear(16, 3), seed=0)
    >>> model.output_shape((8,))
    (3,)
    """

    def __init__(self, *layers: Layer, shortcut: Layer | Sequence[Layer] | None = None) -> None:
        if not layers:
            raise InvalidValueError("layers is empty; expected at least one layer")
        super().__init__(_only(layers), [] if shortcut is None else shortcut, join="add")

    def children(self) -> dict[str, Layer]:
        return dict(zip(("layers", "shortcut"), self.branches, strict=True))

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def of_children(cls, children: Mapping[str, Layer], **config: Any) -> Layer:
        return cls(children["layers"], shortcut=children["shortcut"], **config)

    def _named(self, i: int) -> str:
        return f"{('layers', 'shortcut')[i]}, {_shown(self.branches[i])},"

    def __repr__(self) -> str:
        layers, shortcut = self.branches
        shown = [repr(layer) for layer in (layers.layers if type(layers) is Chain else [layers])]
        return f"Residual({', '.join([*shown, *([] if is_nothing(shortcut) else [f'shortcut={_shown(shortcut)}'])])})"


class Columns(Parallel):
    """Columns of a table to branches, whose outputs lie one behind the other: categories to an `Embedding`, say.

    Parameters
    ----------
    branches : dict
        Of columns, by their numbers: one, or a tuple, list or range of them; to a layer, a list of layers, or ``[]``,
        which hands them on. A branch gets rows of its columns alone; what it makes is flattened.

    Attributes
    ----------
    columns : list of list of int
    branches : list of Layer

    Examples
    --------
    >>> import fastfnn as ff
    >>> table = ff.Columns({0: ff.Embedding(7, 3), 1: ff.Embedding(24, 5), (2, 3): ff.BatchNorm1d(2)})
    >>> ff.Sequential(table, ff.Linear(10, 1), seed=0).forward([[6, 23, 0.5, 1.5]]).shape
    (1, 1)
    """

    fixed_settings = ("columns",)

    def __init__(self, branches: Mapping[Any, Layer | Sequence[Layer]]) -> None:
        if not isinstance(branches, Mapping):
            raise InvalidTypeError(
                f"branches is {branches!r}; expected a dict of columns to layers, such as "
                "{0: Embedding(7, 3), (1, 2): []}"
            )
        super().__init__(*branches.values())
        self.columns = [_column_numbers(key) for key in branches]

    def config(self) -> dict[str, Any]:
        return {"columns": self.columns}

    @classmethod
    def of_children(cls, children: Mapping[str, Layer], **config: Any) -> Layer:
        return cls(dict(zip(map(tuple, config["columns"]), children.values(), strict=True)))

    def forward(self, x: ArrayLike) -> Array:
        """(n, columns) to (n, features)."""
        x = check.float_array("x", x, ndim=2, dtype=self.dtype)
        self.output_shape(x.shape[1:])
        outs = [branch.forward(x[:, own]) for branch, own in zip(self.branches, self.columns, strict=True)]
        self._saved = x.shape, [out.shape for out in outs]
        return np.concatenate([_rows(out) for out in outs], axis=1)

    def backward(self, grad_out: ArrayLike) -> Array:
        grad_out, (x_shape, shapes) = check.float_array("grad_out", grad_out, dtype=self.dtype), self.saved
        ends = np.cumsum([math.prod(shape[1:]) for shape in shapes])
        parts, grad_x = np.split(grad_out, ends[:-1], axis=1), np.zeros(x_shape, self.dtype)
        for branch, own, part, shape in zip(self.branches, self.columns, parts, shapes, strict=True):
            grad_x[:, own] += branch.backward(np.ascontiguousarray(part).reshape(shape))
        return grad_x

    def output_shape(self, input_shape: Shape) -> Shape:
        most = max(map(max, self.columns))
        if len(input_shape) != 1 or input_shape[0] <= most:
            raise InvalidValueError(
                f"Columns got samples of shape {input_shape}; expected (features,) with column {most} among them"
            )
        return (sum(math.prod(shape) for shape in self.branch_shapes()),)

    def branch_shapes(self) -> list[Shape]:
        """Of a sample of each branch's output."""
        return [branch.output_shape((len(own),)) for branch, own in zip(self.branches, self.columns, strict=True)]

    def taken_shape(self) -> KnownShape:
        return (None,)

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return (sum(math.prod(shape) for shape in self.branch_shapes()),)

    def to_onnx(self, graph: Any) -> None:
        graph.write_branches(self.children(), "concat", self.columns)

    def __repr__(self) -> str:
        keys = (own[0] if len(own) == 1 else tuple(own) for own in self.columns)
        shown = (f"{key}: {_shown(branch)}" for key, branch in zip(keys, self.branches, strict=True))
        return f"Columns({{{', '.join(shown)}}})"


def _column_numbers(key: Any) -> list[int]:
    """The columns that a key of `Columns` stands for."""
    given = list(key) if isinstance(key, (tuple, list, range)) else [key]
    columns = [check.counter("a column", column) for column in given]
    if not columns or len(set(columns)) < len(columns):
        raise InvalidValueError(f"columns are {key!r}; expected at least one, and none of them twice")
    return columns


def _rows(array: Array) -> Array:
    return array.reshape(len(array), -1)


def is_nothing(layer: Layer) -> bool:
    """Whether it is a chain of no layers."""
    return type(layer) is Chain and not layer.layers


def with_shapes(layers: Mapping[str, Layer], shape: Shape, place: str = "") -> Iterator[tuple[str, Layer, Shape]]:
    """Layers that follow each other, and those that they hold: their places and the shapes of the samples they get."""
    for name, layer in layers.items():
        yield place + name, layer, shape
        for branch, inner, prefix in branches_of(layer, f"{place}{name}."):
            yield from with_shapes(inner, branch or shape, prefix)
        shape = layer.output_shape(shape)


def branches_of(layer: Layer, place: str) -> Iterator[tuple[Shape | None, Mapping[str, Layer], str]]:
    """The chains within a container: the shape of the samples each gets, where it is not the container's; its layers by
    names, and what comes before these in their places.
    """
    if isinstance(layer, Chain):
        yield None, layer.children(), place
    elif isinstance(layer, Parallel):
        for i, (name, branch) in enumerate(layer.children().items()):
            own = (len(layer.columns[i]),) if isinstance(layer, Columns) else None
            is_chain = isinstance(branch, Chain)
            yield own, branch.children() if is_chain else {name: branch}, f"{place}{name}." if is_chain else place


def _as_layer(branch: Any, name: str) -> Layer:
    """A branch as a layer: itself, or a chain."""
    if isinstance(branch, (list, tuple)):
        return _only(check_layers(branch, name))
    check_layers([branch], name)
    return branch


def _only(layers: Sequence[Layer]) -> Layer:
    """A chain of the layers; of one, itself."""
    return layers[0] if len(layers) == 1 and isinstance(layers[0], Chain) else Chain(*layers)


def _shown(branch: Layer) -> str:
    """A branch as it may be written."""
    layers = branch.layers if isinstance(branch, Chain) and type(branch) is Chain else [branch]
    return repr(layers[0]) if len(layers) == 1 else repr(layers)
