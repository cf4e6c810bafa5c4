"""Steps of inputs and matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.engine.task import Packed
from fastfnn.functional import FLOPS_PER_NANOSECOND
from fastfnn.layers import Layer


class ReshapeStep(Step):
    """Flatten: another view of the same memory."""

    @property
    def nanoseconds(self) -> float:
        return 0.0

    def takes_data(self, table: Table, data: Data) -> bool:
        return True

    def forward(self, table: Table, x: Array | Data) -> Array | Data:
        if isinstance(x, Data):
            return x._replace(shape=self.out_shape)
        return x.reshape(len(x), *self.out_shape)

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        return grad.reshape(len(grad), *self.in_shape)


class NormalizeStep(Step):
    """Normalize: as the first step it reads the caller's rows, of any dtype."""

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        layer: Any = layers[0]
        self.factor, self.shift = layer.factor_and_shift()

    def takes_data(self, table: Table, data: Data) -> bool:
        return True

    def forward(self, table: Table, x: Array | Data) -> Array | Data:
        if isinstance(x, Data):
            if x.sparsity is not None:  # zeros would not stay zeros
                return x._replace(factor=float(self.factor[0]), shift=float(self.shift[0]))
            return table.gather(x, self.factor, self.shift)
        return self._scale(table, x, self.shift)

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        return self._scale(table, grad, np.zeros_like(self.shift)) if self.needs_grad_x else None

    def _scale(self, table: Table, x: Array, shift: Array) -> Array:
        out = table.buffer(self.out_shape)
        scaling = {"factor": self.factor, "shift": shift, "channels": self.factor.size}
        table.row("normalize", out=out, x=x, width=x[0].size, **scaling)
        return out


class LinearStep(Step):
    """Linear, with the ReLU behind it where there is one.

    Attributes
    ----------
    masks_input : bool
        The input is the output of such a ReLU, whose backward is done here: a mask in the product for the input.
    masked_by_next : bool
        The same, seen from the step with the ReLU.
    """

    has_parameters = True

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        layer: Any = layers[0]
        self.layer, self.relu = layer, len(layers) > 1
        self.masks_input = self.masked_by_next = False

    @property
    def overwrites_grad(self) -> bool:  # type: ignore[override]
        return self.relu and not self.masked_by_next

    def follow(self, before: Step) -> None:
        if isinstance(before, LinearStep) and before.relu:
            self.masks_input = before.masked_by_next = True

    @property
    def nanoseconds(self) -> float:
        return 2.0 * self.layer.in_features * self.layer.out_features / FLOPS_PER_NANOSECOND

    def takes_data(self, table: Table, data: Data) -> bool:
        return table.in_order and data.dtype == table.dtype

    def forward(self, table: Table, x: Array | Data) -> Array:
        self.out, params, gemm = table.buffer(self.out_shape), self.layer.params, kernels.products.gemm
        bias, epilogue = params.get("bias"), gemm.BIAS_RELU if self.relu else gemm.BIAS
        if bias is None:
            bias = np.zeros(self.layer.out_features, table.dtype)
            epilogue = epilogue if self.relu else gemm.NO_EPILOGUE
        fields = {"b": params["weight"], "extra": bias, "epilogue": epilogue, "alpha": table.one}
        self._product(table, table.row, x, form=kernels.operations.dense.FORWARD, out=self.out, **fields)
        return self.out

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        params, grads, width = self.layer.params, self.layer.grads, self.layer.out_features
        if self.relu and not self.masked_by_next:
            table.row("relu_backward", grad_x=grad, grad_out=grad, out=self.out, width=width)
        grad_x = None
        if self.needs_grad_x:
            assert not isinstance(x, Data)
            grad_x = table.buffer(self.in_shape)
            gemm, form = kernels.products.gemm, kernels.operations.dense.INPUT_GRADIENT
            mask, epilogue = (x, gemm.RELU_MASK) if self.masks_input else (None, gemm.NO_EPILOGUE)
            fields = {"b": params["weight"], "extra": mask, "epilogue": epilogue, "alpha": table.one}
            self._product(table, table.row, grad, form=form, out=grad_x, **fields)
        if not self.trains:
            return grad_x
        self._write_weight_gradient(table, x, grad)
        if table.sgd_in_place:
            table.updated.append(params["weight"])
        if self.layer.bias and table.sgd_in_place:
            step = {"param": params["bias"], "lr": table.settings["lr"]}
            table.weight("column_sum_sgd", out=grads["bias"], x=grad, width=width, **step)
            table.updated.append(params["bias"])
        elif self.layer.bias:
            table.weight("column_sum", out=grads["bias"], x=grad, width=width)
        return grad_x

    def _write_weight_gradient(self, table: Table, x: Any, grad: Array) -> None:
        dense, weight = kernels.operations.dense, "weight"
        if table.sgd_in_place:
            fields = {"form": dense.SGD_STEP, "out": self.layer.params[weight], "alpha": table.settings["step_size"]}
        else:
            fields = {"form": dense.WEIGHT_GRADIENT, "out": self.layer.grads[weight], "alpha": table.one}
        self._product(table, table.weight, x, b=grad, extra=None, epilogue=kernels.products.gemm.NO_EPILOGUE, **fields)

    def _product(self, table: Table, append: Callable[..., None], a: Array | Data, *, form: int, **fields: Any) -> None:
        """Append a product of rows `a` and the weight."""
        k, n = self.layer.in_features, self.layer.out_features
        if form == kernels.operations.dense.INPUT_GRADIENT:
            k, n = n, k
        rows = {"a": None, "data": a} if isinstance(a, Data) else {"a": a, "data": None}
        scratch = table.gemm_scratch
        append("product", **rows, form=form, k=k, n=n, scratch=scratch, panel=scratch.shape[1], **fields)


class PackedLinearStep(LinearStep):
    """The same for inference with a weight that never changes again: it is packed when the program is written.

    Attributes
    ----------
    kept : dict
        What programs of the same model have packed, see `Task.packed`.
    most, reach : float
        Up to what share of other values a row's most frequent one is skipped, and how large that may be.
    """

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        super().__init__(layers, in_shape, out_shape)
        self.kept: Packed = {}
        self.most = self.reach = 0.0

    def forward(self, table: Table, x: Array | Data) -> Array:
        layer, packed, (k,) = self.layer, kernels.products.packed, self.in_shape
        self.out, weight = table.buffer(self.out_shape), layer.params["weight"]
        if id(layer) not in self.kept:
            self.kept[id(layer)] = packed.pack(weight)
        strips, sums = self.kept[id(layer)]
        marks, zeros = packed.marks_for(k, table.n_threads)
        rows = {"a": None, "data": x} if isinstance(x, Data) else {"a": x, "data": None}
        table.row(
            "packed_product",
            out=self.out,
            marks=marks,
            words=marks.shape[1],
            zeros=zeros,
            block=zeros.shape[1],
            **rows,
            strips=strips,
            strips_count=strips.shape[0],
            width=strips.shape[2],
            bias=layer.params["bias"] if layer.bias else np.zeros(layer.out_features, table.dtype),
            sums=sums,
            n=layer.out_features,
            k=k,
            most=self.most,
            reach=self.reach,
            relu=self.relu,
        )
        return self.out
