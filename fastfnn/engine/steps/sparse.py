"""First layers that walk the nonzeros of the input."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.dense import LinearStep
from fastfnn.engine.steps.table import Array, Data, Table


class SkippingLinearStep(LinearStep):
    """Linear, with the ReLU behind it where there is one, over what is not zero of the caller's rows.

    The rows' factor and shift, and the value that takes the place of zero, are folded into the numbers and into the
    bias, see `fastfnn_kernels.products.marked`.

    Attributes
    ----------
    nonzeros : dict of str to field
        Where the nonzeros are, as the operations take them.
    scratch : (n_threads, elements)
    """

    forward_operation: str
    backward_operation: str
    nonzeros: dict[str, Any]
    scratch: Array
    _lacking: dict[str, Array]

    def takes_data(self, table: Table, data: Data) -> bool:
        return data.sparsity is not None

    def find_nonzeros(self, table: Table, x: Data) -> None:
        """Append what finds the nonzeros; sets `nonzeros` and `scratch`."""
        raise TypeError(f"{type(self).__name__} cannot find nonzeros")

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert isinstance(x, Data)
        assert x.sparsity is not None
        layer, weight = self.layer, self.layer.params["weight"]
        self.find_nonzeros(table, x)
        self.shift, self.out = x.sparsity.zero * x.factor + x.shift, table.buffer(self.out_shape)
        bias = layer.params["bias"] if layer.bias else np.zeros(layer.out_features, table.dtype)
        self._lacking = self._lack(table, weight)
        fields = {"out": self.out, "weight": weight, "bias": bias, "relu": self.relu and not self._lacking}
        table.row(self.forward_operation, **fields, **self._fields())
        if self._lacking:
            numbers, n, k = self.nonzeros["x"], self.layer.out_features, self.layer.in_features
            fields = {"out": self.out, "x": numbers, "relu": self.relu, "shift": self.shift, "n": n, "k": k}
            table.row("add_pending", **fields, **self._lacking)
        return self.out

    def _lack(self, table: Table, weight: Array) -> dict[str, Array]:
        """What is known of what the weight lacks, see `fastfnn_kernels.products.lazy`; empty where it lacks nothing."""
        return {}

    def _fields(self) -> dict[str, Any]:
        """Fields that forward and backward have alike."""
        sizes = {"k": self.layer.in_features, "n": self.layer.out_features, "panel": self.scratch.shape[1]}
        return {**self.nonzeros, **sizes, "scratch": self.scratch, "shift": 0.0 if self._lacking else self.shift}

    def _write_weight_gradient(self, table: Table, x: Any, grad: Array) -> None:
        in_place = table.sgd_in_place
        out = (self.layer.params if in_place else self.layer.grads)["weight"]
        alpha = table.settings["step_size"] if in_place else table.one
        table.weight(self.backward_operation, out=out, grad=grad, alpha=alpha, in_place=in_place, **self._fields())
        if self._lacking:
            fields = {"grad": grad, "alpha": alpha, "shift": self.shift, "n": self.layer.out_features}
            table.weight("defer", **fields, **self._lacking)


class MarkedLinearStep(SkippingLinearStep):
    """With the rows as a dense array, and marks."""

    forward_operation, backward_operation = "marked_product", "marked_weight_gradient"

    def find_nonzeros(self, table: Table, x: Data) -> None:
        assert x.sparsity is not None
        width, sparsity = self.layer.in_features, x.sparsity
        marks = table.empty(kernels.products.marked.marks_for(table.rows, width).shape, np.int64)
        rows = table.buffer((width,))
        fields = {"out": rows, "marks": marks, "k": width, "blocks": marks.shape[1], "factor": x.factor}
        if sparsity.index_dtype is None:
            table.row("mark_rows", data=x, zero=sparsity.zero, **fields)
        else:
            table.row("mark_csr_rows", matrix=x, **fields)
        self.nonzeros = {"x": rows, "marks": marks, "blocks": marks.shape[1]}
        self.scratch = kernels.products.marked.scratch_for(table.dtype, table.rows, table.n_threads)

    def _lack(self, table: Table, weight: Array) -> dict[str, Array]:
        if not (table.lazy and self.shift and self.trains):
            return {}
        k, n = weight.shape
        row = {"pending": table.empty((n,)), "totals": table.empty((n,))}
        table.settle("settle", weight=weight, kept=table.empty((k, n)), k=k, n=n, **row)
        return {**row, "sums": table.buffer(())}


class ListedLinearStep(SkippingLinearStep):
    """With lists of nonzeros, from a CSR matrix."""

    forward_operation, backward_operation = "sparse_product", "sparse_weight_gradient"

    def find_nonzeros(self, table: Table, x: Data) -> None:
        assert x.sparsity is not None
        capacity = x.sparsity.capacity
        values, columns = table.buffer((capacity,)), table.buffer((capacity,), np.int32)
        counts = table.buffer((), np.int64)
        self.nonzeros = {"values": values, "columns": columns, "counts": counts, "capacity": capacity}
        table.row("csr_nonzeros", matrix=x, k=self.layer.in_features, factor=x.factor, **self.nonzeros)
        self.scratch = kernels.products.sparse.scratch_for(table.dtype, table.n_threads)
