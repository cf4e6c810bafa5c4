"""From a plan to a program: the table of operations that trains whole epochs inside the kernels.

A plan (`lowering`) knows the fused steps of a model and their buffers, and can run them one kernel call at a time.
This file writes the same steps down as records of addresses and sizes, which `fastfnn_kernels.program` runs for many
training steps in one call. It returns every few tens of milliseconds, so that signals and the progress bar are served.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.functional import FLOPS_PER_NANOSECOND
from fastfnn.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, NLLLoss
from fastfnn.lowering import ElementwiseStep, LinearStep, NormalizeStep, Plan, ReshapeStep
from fastfnn.optim import SGD, Adam, Optimizer

Array = NDArray[Any]
Record = list[Any]

#: Seconds between returns to Python.
SLICE_SECONDS = 0.025
#: Operation of each loss, for labels and for rows.
LOSSES: dict[type, tuple[str, str]] = {
    CrossEntropyLoss: ("cross_entropy", "cross_entropy_rows"),
    NLLLoss: ("nll", "nll_rows"),
    BCELoss: ("", "bce"),
    BCEWithLogitsLoss: ("", "bce_with_logits"),
    MSELoss: ("", "mse"),
}
STEPS = (ElementwiseStep, LinearStep, NormalizeStep, ReshapeStep)


def can_compile(plan: Plan, optimizer: Optimizer) -> bool:
    """Whether there is an operation for every step, the loss and the optimizer: always, but for a user's own."""
    return (
        kernels.team.JIT
        and all(isinstance(step, STEPS) and not _is_deep_softmax(step) for step in plan.steps)
        and type(plan.loss) in LOSSES
        and type(optimizer) in (SGD, Adam)
    )


def _is_deep_softmax(step: Any) -> bool:
    """A softmax over the last of several axes of a sample: a row of the batch is several of its rows."""
    return isinstance(step, ElementwiseStep) and step.by_rows and step.out.ndim > 2


class Program:
    """A plan, a data set and an optimizer as tables.

    Parameters
    ----------
    plan : Plan
    optimizer : Optimizer
        Its settings are read here: make a program for each epoch.
    x, y : ndarray
        All inputs and targets, contiguous.
    batch_size : int
    """

    def __init__(self, plan: Plan, optimizer: Optimizer, x: Array, y: Array, batch_size: int) -> None:
        self.plan, self.optimizer, self.batch_size = plan, optimizer, batch_size
        self.dtype = plan.model.dtype
        self._kept: list[Any] = [x, y]  # what the tables' addresses point to
        self._rows: list[Record] = []
        self._weights: list[Record] = []
        self._updates: list[Record] = []
        optimizer.prepare(plan.model.parameters)
        self._sgd_in_product = type(optimizer) is SGD and not optimizer.momentum and not optimizer.weight_decay
        self._sgd_in_product &= plan.rows >= batch_size  # a batch in pieces would be updated piece by piece
        self._row_losses, self._hits = np.zeros(plan.rows), np.zeros(plan.rows)
        self._write(x, y)
        self._tables = [_table(records) for records in (self._rows, self._weights, self._updates)]

    def run(self, order: Array | None) -> Iterator[tuple[float, int, int, int]]:
        """Train an epoch, slice by slice.

        Yields
        ------
        losses, hits, rows, failed
            So far: the sum of the losses, how many rows were right, how many are done; and the step (from 1) in which
            the loss was not finite, or 0.
        """
        plan, team = self.plan, self.plan.team
        data_rows, result = len(self._kept[0]), np.zeros(4)
        at = np.zeros((team.size, kernels.program.AT_WORDS), np.int64)
        barriers = kernels.team.barrier_state()
        steps, step = math.ceil(data_rows / self.batch_size), 0
        flops = 6.0 * max(1, plan.model.n_parameters) * self.batch_size
        slice_steps = max(1, int(SLICE_SECONDS * 1e9 * FLOPS_PER_NANOSECOND / flops))
        while step < steps:
            stop, began = min(steps, step + slice_steps), time.perf_counter()
            sizes = (data_rows, self.batch_size, plan.rows, step, stop)
            arguments = (
                *self._tables,
                at,
                barriers,
                0 if order is None else order.ctypes.data,
                sizes,
                self.optimizer.steps,
                self._row_losses,
                self._hits,
                result,
            )
            if team.size == 1:
                kernels.program.run(*arguments, 0, 1)
            else:
                team.run(kernels.program.run, *arguments)
            self.optimizer.steps += stop - step
            seconds = time.perf_counter() - began
            if stop - step == slice_steps:
                slice_steps = max(1, int(slice_steps * min(4.0, SLICE_SECONDS / max(seconds, 1e-9))))
            step = stop
            yield float(result[0]), int(result[1]), int(result[2]), int(result[3])
            if result[3]:
                return

    # The tables

    def _operation(self, name: str, *dtypes: Any) -> int:
        return kernels.operations.address(name, *(dtypes or (self.dtype,)))

    def _ones(self) -> tuple[Array, Array]:
        return np.ones(1, self.dtype), np.zeros(1, self.dtype)

    def _write(self, x: Array, y: Array) -> None:
        plan = self.plan
        current = self._write_input(x)
        inputs = []
        for step in plan.steps[self._next :]:
            inputs.append(current)
            current = self._write_forward(step, current)
        grad = self._write_loss(current, y)
        for step, step_input in zip(reversed(plan.steps[self._next :]), reversed(inputs), strict=True):
            if grad is None:
                break
            grad = self._write_backward(step, step_input, grad)
        self._write_update()

    def _write_input(self, x: Array) -> Array:
        """Gather the chunk's rows of the data, through the first step where that scales them."""
        steps = self.plan.steps
        scaling = next((i for i, step in enumerate(steps) if not isinstance(step, ReshapeStep)), len(steps))
        if scaling < len(steps) and isinstance(steps[scaling], NormalizeStep):
            step: Any = steps[scaling]
            out, scale, self._next = step.out, (step.factor, step.shift), scaling + 1
        else:
            out, scale, self._next = self.plan.inputs, self._ones(), 0
        width = math.prod(x.shape[1:])
        self._rows.append([self._operation("gather", self.dtype, x.dtype), out, x, width, *scale, scale[0].size])
        return out

    def _write_forward(self, step: Any, x: Array) -> Array:
        if isinstance(step, ReshapeStep):
            return x.reshape(len(x), *step.shape)
        width = math.prod(step.out.shape[1:])
        if isinstance(step, LinearStep):
            self._rows.append(self._product(0, step, step.out, x, step.layer.params["weight"], *_epilogue(step)))
        elif isinstance(step, NormalizeStep):
            scale = (step.factor, step.shift)
            self._rows.append([self._operation("scale"), step.out, x, width, *scale, step.factor.size])
        else:
            more = step.scalars if step.scratch is None else (step.scratch,)
            self._rows.append([self._operation(step.name), step.out, x, width, *map(_field, more)])
        return step.out

    def _write_loss(self, prediction: Array, y: Array) -> Array:
        plan, loss = self.plan, self.plan.loss
        assert loss is not None
        labels, width, mean = y.ndim == 1, math.prod(plan.output_shape), int(loss.reduction == "mean")
        target = np.empty((plan.rows, *y.shape[1:]), y.dtype)
        if labels:
            self._rows.append([kernels.operations.address("gather_labels"), target, y])
        else:
            self._rows.append([self._operation("gather", self.dtype, y.dtype), target, y, width, *self._ones(), 1])
        name = LOSSES[type(loss)][0 if labels else 1]
        last = _field(getattr(loss, "label_smoothing", 0.0)) if loss.classifies else plan.losses
        self._rows.append([self._operation(name), self._row_losses, plan.grad, prediction, target, width, mean, last])
        if loss.classifies:
            self._rows.append([self._operation("count_hits"), self._hits, prediction, target, width, int(labels)])
        return plan.grad

    def _write_backward(self, step: Any, x: Array, grad: Array) -> Array | None:
        """The step's part in the gradient; returns the gradient for its input, or None where nobody needs that."""
        width = math.prod(step.out.shape[1:])
        if isinstance(step, ReshapeStep):
            return grad
        if isinstance(step, NormalizeStep):
            if step.grad_x is not None:
                no_shift = np.zeros_like(step.shift)
                scale = (step.factor, no_shift, step.factor.size)
                self._rows.append([self._operation("scale"), step.grad_x, grad, width, *scale])
        elif isinstance(step, LinearStep):
            self._write_linear_backward(step, x, grad, width)
        elif step.grad_x is not None:
            kept = x if step.keeps_input else step.out
            more = map(_field, step.scalars)
            self._rows.append([self._operation(f"{step.name}_backward"), step.grad_x, grad, kept, width, *more])
        return step.grad_x

    def _write_linear_backward(self, step: LinearStep, x: Array, grad: Array, width: int) -> None:
        layer = step.layer
        if step.relu and not step.masked_by_next:
            self._rows.append([self._operation("relu_backward"), grad, grad, step.out, width])
        if step.grad_x is not None:
            epilogue = (x, kernels.gemm.RELU_MASK) if step.masks_input else _no_epilogue(self.dtype)
            self._rows.append(self._product(1, step, step.grad_x, grad, layer.params["weight"], *epilogue))
        if self._sgd_in_product:
            out, form, alpha = layer.params["weight"], 3, -self.optimizer.lr
        else:
            out, form, alpha = layer.grads["weight"], 2, 1.0
        self._weights.append(self._product(form, step, out, x, grad, *_no_epilogue(self.dtype), alpha))
        if layer.bias:
            self._weights.append([self._operation("column_sum"), layer.grads["bias"], grad, width])

    def _product(
        self,
        form: int,
        step: LinearStep,
        out: Array,
        a: Array,
        b: Array,
        extra: Array,
        epilogue: int,
        alpha: float = 1.0,
    ) -> Record:
        k, n = step.layer.in_features, step.layer.out_features
        sizes = (n, k) if form == 1 else (k, n)
        panel = step.scratch.shape[1]
        return [
            self._operation("product"),
            out,
            step.scratch,
            a,
            b,
            extra,
            *sizes,
            form,
            epilogue,
            panel,
            _field(alpha),
        ]

    def _write_update(self) -> None:
        optimizer: Any = self.optimizer
        model = self.plan.model
        if self._sgd_in_product:
            for layer in model.layers:
                if "bias" in layer.params:
                    bias, grad = layer.params["bias"], layer.grads["bias"]
                    settings = (_field(optimizer.lr), _field(0.0))
                    self._updates.append([self._operation("sgd"), bias.size, bias, grad, *settings])
            return
        everything = [model.parameters.size, model.parameters, model.gradients, *optimizer.state.values()]
        settings = [optimizer.lr, optimizer.weight_decay]
        if isinstance(optimizer, Adam):
            name, more = "adam", [*map(_field, (*settings, *optimizer.betas, optimizer.eps))]
        elif optimizer.momentum:
            name, more = "sgd_momentum", [*map(_field, (*settings, optimizer.momentum)), int(optimizer.nesterov)]
        else:
            name, more = "sgd", [*map(_field, settings)]
        self._updates.append([self._operation(name), *everything, *more])


def _epilogue(step: LinearStep) -> tuple[Array, int]:
    """Bias and ReLU of a layer's forward."""
    bias = step.layer.params.get("bias")
    if bias is None:
        if not step.relu:
            return _no_epilogue(step.out.dtype)
        return np.zeros(step.layer.out_features, step.out.dtype), kernels.gemm.BIAS_RELU
    return bias, kernels.gemm.BIAS_RELU if step.relu else kernels.gemm.BIAS


def _no_epilogue(dtype: Any) -> tuple[Array, int]:
    return np.empty(0, dtype), kernels.gemm.NO_EPILOGUE


def _field(value: Any) -> Any:
    """An array stays one; a number becomes the bits of its float64."""
    return value if isinstance(value, np.ndarray) else struct.unpack("<q", struct.pack("<d", float(value)))[0]


def _table(records: list[Record]) -> Array:
    words = kernels.program.RECORD_WORDS
    table = np.zeros((len(records), words), np.int64)
    for row, record in zip(table, records, strict=True):
        for i, value in enumerate(record):
            row[i] = value.ctypes.data if isinstance(value, np.ndarray) else value
    return table
