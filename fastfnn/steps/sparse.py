"""A first layer that walks the nonzeros of the input."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.steps.dense import LinearStep
from fastfnn.steps.table import Array, Data, Table


class SparseLinearStep(LinearStep):
    """Linear, with the ReLU behind it where there is one, over the nonzeros of the caller's rows.

    The rows' factor and shift, and the value that takes the place of zero, are folded into the nonzeros and into the
    bias, see `fastfnn_kernels.sparse`.
    """

    def takes_data(self, table: Table, data: Data) -> bool:
        return data.sparsity is not None

    def forward(self, table: Table, x: Array | Data) -> Array:
        assert isinstance(x, Data)
        assert x.sparsity is not None
        layer, sparsity, weight = self.layer, x.sparsity, self.layer.params["weight"]
        capacity, blocks = (sparsity.capacity,), (sparsity.blocks,)
        values, columns = table.buffer(capacity), table.buffer(capacity, np.int32)
        nonzeros = (values, columns, table.buffer(blocks, np.int64), *capacity, *blocks)
        if sparsity.index_dtype is None:
            dtypes: tuple[Any, ...] = (table.dtype, x.dtype)
            table.row("nonzeros", *nonzeros, x.place, x.width, sparsity.zero, x.factor, dtypes=dtypes)
        else:
            dtypes = (table.dtype, x.dtype, sparsity.index_dtype)
            table.row("csr_nonzeros", *nonzeros, x.place, x.factor, dtypes=dtypes)
        scratch = kernels.sparse.scratch_for(table.dtype, table.n_threads)
        self.operands = (*nonzeros, scratch)
        self.sizes = (layer.in_features, layer.out_features, sparsity.zero * x.factor + x.shift, scratch.shape[1])
        self.out = table.buffer(self.out_shape)
        bias = layer.params["bias"] if layer.bias else np.zeros(layer.out_features, table.dtype)
        table.row("sparse_product", *self.operands, self.out, weight, *self.sizes, bias, int(self.relu))
        return self.out

    def _write_weight_gradient(self, table: Table, x: Any, grad: Array) -> None:
        in_place = table.sgd_in_place
        out = (self.layer.params if in_place else self.layer.grads)["weight"]
        alpha = table.step_size if in_place else table.one
        operands = (*self.operands, out, grad, *self.sizes)
        table.weight("sparse_weight_gradient", *operands, alpha, int(in_place))
