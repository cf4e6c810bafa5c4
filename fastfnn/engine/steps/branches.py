"""Steps of networks that are no plain chain: branches, and where they meet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.dense import ReshapeStep
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.functional import NANOSECONDS_PER_ELEMENT
from fastfnn.layers import Layer, ReLU


class StepChain:
    """Steps one behind the other, with what each got."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self._inputs: list[Array | Data] = []

    def forward(self, table: Table, x: Array | Data) -> Array | Data:
        """Append the forward of all steps."""
        for step in self.steps:
            if isinstance(x, Data) and not step.takes_data(table, x):
                x = table.gather(x)
            self._inputs.append(x)
            x = step.forward(table, x)
        return x

    def backward(self, table: Table, grad: Array) -> Array | None:
        """Append the backward, back to the first step that trains, or to the input where that is wanted."""
        made: Array | None = grad
        for step, x in zip(reversed(self.steps), reversed(self._inputs), strict=True):
            if made is not None:
                made = step.backward(table, x, made) if step.trains or step.needs_grad_x else None
        return made

    @property
    def overwrites_grad(self) -> bool:
        """Whether the backward writes into the gradient that it gets."""
        for step in reversed(self.steps):
            if step.overwrites_grad or not isinstance(step, ReshapeStep):  # which hands on the same memory
                return step.overwrites_grad
        return False

    def need_grad_x(self, needed: bool) -> bool:
        """Tell each step whether it must make the gradient for its input; returns that for what follows the chain."""
        for step in self.steps:
            step.needs_grad_x = needed
            for branch in step.branches:
                branch.need_grad_x(needed)
            needed = needed or step.trains
        return needed


class BranchesStep(Step):
    """Branches that get the same rows, their sum or one behind the other, and the ReLU behind a sum.

    The gradient for the input is the sum of theirs. Branches of a sum share the gradient for it, but for those that
    write into what they get.
    """

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        layer: Any = layers[0]
        self.layer = layer
        self.adds, self.relu = layer.join == "add", len(layers) > 1
        self.shapes: list[Shape] = [branch.output_shape(in_shape) for branch in layer.branches]

    @classmethod
    def fits(cls, layers: tuple[Layer, ...], in_shape: Shape) -> bool:
        layer: Any = layers[0]
        return layer.join == "add" and len(layer.branches) > 1 and isinstance(layers[1], ReLU)

    def branch_inputs(self) -> list[Shape]:
        """Of a sample that each branch gets."""
        return [self.in_shape] * len(self.layer.branches)

    def take_branches(self, branches: list[StepChain]) -> None:
        """What each branch does."""
        self.branches = branches
        self.has_parameters = any(step.has_parameters for step in self._steps())
        self.trains = any(step.trains for step in self._steps())
        self.whole_batch = any(step.whole_batch for step in self._steps())

    @property
    def overwrites_grad(self) -> bool:  # type: ignore[override]
        return self.relu or (len(self.branches) == 1 and self.branches[0].overwrites_grad)

    @property
    def widest(self) -> int:
        return max([super().widest, *(step.widest for step in self._steps())])

    @property
    def nanoseconds(self) -> float:
        return NANOSECONDS_PER_ELEMENT * self.width + sum(step.nanoseconds for step in self._steps())

    @property
    def width(self) -> int:
        return math.prod(self.out_shape)

    def _steps(self) -> Iterator[Step]:
        return (step for branch in self.branches for step in branch.steps)

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        outs: list[Any] = [branch.forward(table, x) for branch in self.branches]
        self.out = outs[0] if len(outs) == 1 else table.buffer(self.out_shape)
        if self.adds:
            self._add(table, outs)
        elif len(outs) > 1:
            for out, first, width in zip(outs, self._firsts(), self._widths(), strict=True):
                table.row("put_columns", out=self.out, x=out, first=first, width=width, columns=self.width)
        return self.out

    def _add(self, table: Table, outs: list[Array]) -> None:
        total = outs[0]
        for i, out in enumerate(outs[1:], 2):
            table.row("add", out=self.out, a=total, b=out, width=self.width, relu=self.relu and i == len(outs))
            total = self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        if self.relu:
            table.row("relu_backward", grad_x=grad, grad_out=grad, out=self.out, width=self.width)
        parts = self._parts(table, grad)
        grads = [branch.backward(table, part) for branch, part in zip(self.branches, parts, strict=True)]
        if not self.needs_grad_x:
            return None
        total, *rest = grads
        for one in rest:
            made = table.buffer(self.in_shape)
            table.row("add", out=made, a=total, b=one, width=math.prod(self.in_shape), relu=False)
            total = made
        return total

    def _parts(self, table: Table, grad: Array) -> list[Array]:
        """The gradients for the branches' outputs."""
        if len(self.branches) == 1:
            return [grad]
        parts = [grad] * len(self.branches)
        for i, (first, width) in enumerate(zip(self._firsts(), self._widths(), strict=True)):
            if not self.adds or self.branches[i].overwrites_grad:
                parts[i] = table.buffer(self.shapes[i])
                table.row("take_columns", out=parts[i], x=grad, first=first, width=width, columns=self.width)
        return parts

    def _widths(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    def _firsts(self) -> list[int]:
        """Where each branch's part begins in a row."""
        widths = self._widths()
        return [0 if self.adds else sum(widths[:i]) for i in range(len(widths))]


class ColumnsStep(BranchesStep):
    """Branches that get columns of their own, one output behind the other; lookups need no copies of either."""

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        Step.__init__(self, layers, in_shape, out_shape)
        self.layer: Any = layers[0]
        self.adds = self.relu = False
        self.shapes = self.layer.branch_shapes()

    def branch_inputs(self) -> list[Shape]:
        return [(len(columns),) for columns in self.layer.columns]

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        self.out = table.buffer(self.out_shape)
        for i, (branch, columns, first) in enumerate(self._parts_of_rows()):
            if (step := _lookup(branch, columns)) is not None:
                step.look_up(table, x, self.out, columns[0], first)
                continue
            made: Any = branch.forward(table, self._taken(table, x, columns))
            table.row("put_columns", out=self.out, x=made, first=first, width=self._widths()[i], columns=self.width)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        total = self._zeros(table) if self.needs_grad_x else None
        for i, (branch, columns, first) in enumerate(self._parts_of_rows()):
            if (step := _lookup(branch, columns)) is not None:
                if step.trains:
                    step.write_gradient(table, x, grad, columns[0], first)
                continue
            part = table.buffer(self.shapes[i])
            table.row("take_columns", out=part, x=grad, first=first, width=self._widths()[i], columns=self.width)
            made = branch.backward(table, part)
            if total is not None and made is not None:
                total = self._with(table, total, made, columns)
        return total

    def _parts_of_rows(self) -> Iterator[tuple[StepChain, list[int], int]]:
        """The branches, their columns, and where what they make begins in a row."""
        return zip(self.branches, self.layer.columns, self._firsts(), strict=True)

    def _taken(self, table: Table, x: Array, columns: list[int]) -> Array:
        """Append what copies columns into a row array of their own."""
        taken, whole = table.buffer((len(columns),)), self.in_shape[0]
        for at, first, width in _runs(columns):
            run = taken if width == len(columns) else table.buffer((width,))
            table.row("take_columns", out=run, x=x, first=first, width=width, columns=whole)
            if run is not taken:
                table.row("put_columns", out=taken, x=run, first=at, width=width, columns=len(columns))
        return taken

    def _with(self, table: Table, total: Array, made: Array, columns: list[int]) -> Array:
        """Append what adds a branch's gradient for its columns."""
        spread, whole = self._zeros(table), self.in_shape[0]  # whose other columns nobody writes
        for at, first, width in _runs(columns):
            run = table.buffer((width,))
            table.row("take_columns", out=run, x=made, first=at, width=width, columns=len(columns))
            table.row("put_columns", out=spread, x=run, first=first, width=width, columns=whole)
        out = table.buffer(self.in_shape)
        table.row("add", out=out, a=total, b=spread, width=whole, relu=False)
        return out

    def _zeros(self, table: Table) -> Array:
        zeros = table.buffer(self.in_shape)
        zeros[...] = 0
        return zeros


def _lookup(branch: StepChain, columns: list[int]) -> EmbeddingStep | None:
    """The only step of a branch that looks up neighbouring columns."""
    step = branch.steps[0] if len(branch.steps) == 1 else None
    return step if isinstance(step, EmbeddingStep) and len(list(_runs(columns))) == 1 else None


def _runs(columns: list[int]) -> Iterator[tuple[int, int, int]]:
    """Neighbours among columns: where they are in the list, the first of them, and how many."""
    start = 0
    for end in range(1, len(columns) + 1):
        if end == len(columns) or columns[end] != columns[end - 1] + 1:
            yield start, columns[start], end - start
            start = end


class EmbeddingStep(Step):
    """Lookups in a table."""

    has_parameters = True

    @property
    def layer(self) -> Any:
        return self.layers[0]

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert not isinstance(x, Data)
        out = table.buffer(self.out_shape)
        self.look_up(table, x, out, 0, 0)
        return out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        assert not isinstance(x, Data)
        if self.trains:
            self.write_gradient(table, x, grad, 0, 0)
        return np.zeros_like(x) if self.needs_grad_x else None  # which nobody writes

    def look_up(self, table: Table, x: Array, out: Array, column: int, first: int) -> None:
        """Append the lookups by the numbers from `column` of `x` on, into `out` from its column `first` on."""
        table.row("look_up", out=out, x=x, weight=self.layer.params["weight"], **self._places(x, out, column, first))

    def write_gradient(self, table: Table, x: Array, grad: Array, column: int, first: int) -> None:
        """Append the table's gradient, or the step of those of its rows that occur."""
        places, kept = self._places(x, grad, column, first), table.sgd_in_place
        arrays = self.layer.params if kept else self.layer.grads
        alpha = table.settings["step_size"] if kept else table.one
        table.weight(
            "look_up_backward", out=arrays["weight"], grad_out=grad, x=x, alpha=alpha, keeps=int(kept), **places
        )  # fmt: skip
        if kept:
            table.updated.append(arrays["weight"])

    def _places(self, x: Array, out: Array, column: int, first: int) -> dict[str, int]:
        """Fields that both have alike: what is read of a row of `x`, and where in a row of `out` it lies."""
        layer = self.layer
        table = {"entries": layer.num_embeddings, "dim": layer.embedding_dim, "lookups": math.prod(self.in_shape)}
        return {**table, "features": x[0].size, "columns": out[0].size, "column": column, "first": first}
