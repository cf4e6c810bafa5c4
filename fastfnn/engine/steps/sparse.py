"""First layers that walk the nonzeros of the input."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.dense import LinearStep
from fastfnn.engine.steps.table import Array, Data, Field, Table


class SkippingLinearStep(LinearStep):
    """Linear, with the ReLU behind it where there is one, over what is not zero of the caller's rows.

    The rows' factor and shift, and the value that takes the place of zero, are folded into the numbers and into the
    bias, see `fastfnn_kernels.products.marked`.

    Attributes
    ----------
    nonzeros : tuple of fields
        Where the nonzeros are, as the operations take them.
    scratch : (n_threads, elements)
    """

    forward_operation: str
    backward_operation: str
    nonzeros: tuple[Field, ...]
    scratch: Array

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
        sizes = (*self.sizes, self.shift)
        scratch = (self.scratch, self.scratch.shape[1])
        table.row(self.forward_operation, *self.nonzeros, *scratch, self.out, weight, bias, *sizes, int(self.relu))
        return self.out

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of the weight that are not among `nonzeros`."""
        return self.layer.in_features, self.layer.out_features

    def _write_weight_gradient(self, table: Table, x: Any, grad: Array) -> None:
        in_place = table.sgd_in_place
        out = (self.layer.params if in_place else self.layer.grads)["weight"]
        alpha = table.step_size if in_place else table.one
        operands = (*self.nonzeros, self.scratch, self.scratch.shape[1], out, grad, *self.sizes, self.shift)
        table.weight(self.backward_operation, *operands, alpha, int(in_place))


class MarkedLinearStep(SkippingLinearStep):
    """With the rows as a dense array, and marks."""

    forward_operation, backward_operation = "marked_product", "marked_weight_gradient"

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.layer.out_features,)

    def find_nonzeros(self, table: Table, x: Data) -> None:
        assert x.sparsity is not None
        width, sparsity = self.layer.in_features, x.sparsity
        marks = table.empty(kernels.products.marked.marks_for(table.rows, width).shape, np.int64)
        numbers, blocks = table.buffer((width,)), marks.shape[1]
        if sparsity.index_dtype is None:
            fields: tuple[Field, ...] = (numbers, marks, width, blocks, x.place, sparsity.zero, x.factor)
            table.row("mark_rows", *fields, dtypes=(table.dtype, x.dtype))
        else:
            dtypes = (table.dtype, x.dtype, sparsity.index_dtype)
            table.row("mark_csr_rows", numbers, marks, width, blocks, x.place, x.factor, dtypes=dtypes)
        self.nonzeros = (numbers, marks, width, blocks)
        self.scratch = kernels.products.marked.scratch_for(table.dtype, table.rows, table.n_threads)


class ListedLinearStep(SkippingLinearStep):
    """With lists of nonzeros, from a CSR matrix."""

    forward_operation, backward_operation = "sparse_product", "sparse_weight_gradient"

    def find_nonzeros(self, table: Table, x: Data) -> None:
        assert x.sparsity is not None
        assert x.sparsity.index_dtype is not None
        capacity = x.sparsity.capacity
        values, columns = table.buffer((capacity,)), table.buffer((capacity,), np.int32)
        self.nonzeros = (values, columns, table.buffer((), np.int64), capacity)
        dtypes = (table.dtype, x.dtype, x.sparsity.index_dtype)
        table.row("csr_nonzeros", *self.nonzeros, x.place, x.factor, dtypes=dtypes)
        self.scratch = kernels.products.sparse.scratch_for(table.dtype, table.n_threads)
