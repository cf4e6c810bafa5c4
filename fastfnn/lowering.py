"""From a `Sequential` to a plan: kernels bound to preallocated buffers, with neighbours fused.

A plan walks a batch in chunks of at most CHUNK_ROWS rows, so memory does not grow with the batch, and a step
allocates nothing. What is fused is looked up in a table, never asked of the user:

==================  ===================================================================
Linear, ReLU        bias and ReLU while the product is in cache
ReLU, then Linear   the ReLU's backward is a mask in the Linear's product for its input
last layer, loss    softmax, logarithm and NLL in one kernel (`CrossEntropyLoss`)
==================  ===================================================================

The gradient for the input of the first layer with parameters is not computed: nobody asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.functional import FLOPS_PER_NANOSECOND, NANOSECONDS_PER_ELEMENT
from fastfnn.layers import Flatten, Layer, LeakyReLU, Linear, Log, LogSoftmax, Normalize, ReLU, Sigmoid, Softmax, Tanh
from fastfnn.losses import Loss
from fastfnn.model import Sequential

Array = NDArray[Any]

#: Rows of a batch that go through the network together: as many as keep their inputs in a second-level cache, within
#: bounds.
CHUNK_BYTES, CHUNK_ROWS = 3 << 19, 2048
#: Nanoseconds of one thread's work below which waking the team (about 30 µs, more on a busy machine) does not pay.
WORK_WORTH_TEAM = 150_000.0


class Step:
    """One operation of a plan. `backward` returns the gradient for the input, or None where nobody needs it."""

    needs_input_grad = True

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: Any, team: Any) -> None:
        self.out = np.empty((rows, *shape), dtype)
        self.grad_x: Array | None = None
        self.team = team

    def allocate_backward(self, rows: int, input_shape: tuple[int, ...]) -> None:
        """Make room for the gradients, once it is known that there will be a backward."""
        if self.needs_input_grad:
            self.grad_x = np.empty((rows, *input_shape), self.out.dtype)

    def team_for(self, nanoseconds: float) -> Any:
        return self.team if nanoseconds >= WORK_WORTH_TEAM else None

    def forward(self, x: Array) -> Array:
        raise TypeError(f"{type(self).__name__} has no forward")

    def backward(self, grad_out: Array, accumulate: bool) -> Array | None:
        raise TypeError(f"{type(self).__name__} has no backward")


class ReshapeStep(Step):
    """Flatten: another view of the same memory."""

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: Any, team: Any) -> None:
        super().__init__(0, shape, dtype, team)
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.input_shape = x.shape
        return x.reshape(len(x), *self.shape)

    def backward(self, grad_out: Array, accumulate: bool) -> Array | None:
        return grad_out.reshape(self.input_shape)


class NormalizeStep(Step):
    """Any numeric input to the network's dtype, scaled; without a `Normalize` layer, a cast."""

    def __init__(
        self, rows: int, shape: tuple[int, ...], dtype: Any, team: Any, factor_and_shift: tuple[Array, Array]
    ) -> None:
        super().__init__(rows, shape, dtype, team)
        self.factor, self.shift = factor_and_shift

    def forward(self, x: Array) -> Array:
        out = self.out[: len(x)]
        kernels.normalization.normalize(
            out.reshape(len(x), -1),
            x.reshape(len(x), -1),
            self.factor,
            self.shift,
            team=self.team_for(out.size * NANOSECONDS_PER_ELEMENT),
        )
        return out

    def backward(self, grad_out: Array, accumulate: bool) -> Array | None:
        if self.grad_x is None:
            return None
        blocks = grad_out.reshape(len(grad_out), self.factor.size, -1)
        return (blocks * self.factor[:, None]).reshape(grad_out.shape)


class LinearStep(Step):
    """Linear, with the ReLU behind it where `relu`, and the backward of the ReLU before it where `masks_input`."""

    def __init__(self, layer: Linear, rows: int, dtype: Any, team: Any, relu: bool) -> None:
        super().__init__(rows, (layer.out_features,), dtype, team)
        self.layer, self.relu = layer, relu
        self.masks_input = self.masked_by_next = False
        self.scratch = kernels.gemm.scratch_for(dtype, team.size)

    def team_here(self, rows: int) -> Any:
        return self.team_for(2.0 * rows * self.layer.in_features * self.layer.out_features / FLOPS_PER_NANOSECOND)

    def forward(self, x: Array) -> Array:
        self.x, out, params = x, self.out[: len(x)], self.layer.params
        kernels.linear.linear(
            out, self.scratch, x, params["weight"], params.get("bias"), self.relu, team=self.team_here(len(x))
        )
        return out

    def backward(self, grad_out: Array, accumulate: bool) -> Array | None:
        x, team, grads = self.x, self.team_here(len(self.x)), self.layer.grads
        if self.relu and not self.masked_by_next:
            flat = grad_out.reshape(-1)
            kernels.activations.relu_backward(flat, flat, self.out[: len(x)].reshape(-1))
        kernels.linear.linear_backward_weight(
            grads["weight"], self.scratch, grad_out, x, accumulate=accumulate, team=team
        )
        if self.layer.bias:
            kernels.linear.column_sum(grads["bias"], grad_out, accumulate)
        if self.grad_x is None:
            return None
        grad_x = self.grad_x[: len(x)]
        mask = x if self.masks_input else None
        kernels.linear.linear_backward_input(
            grad_x, self.scratch, grad_out, self.layer.params["weight"], mask, team=team
        )
        return grad_x


class ElementwiseStep(Step):
    """An activation: a forward and a backward kernel, flat or by rows, and what the backward keeps."""

    def __init__(
        self,
        rows: int,
        shape: tuple[int, ...],
        dtype: Any,
        team: Any,
        name: str,
        kernel_pair: tuple[Callable[..., None], Callable[..., None]],
        *,
        keeps_input: bool = False,
        by_rows: bool = False,
        scratch: bool = False,
        scalars: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(rows, shape, dtype, team)
        self.name = name
        self.forward_kernel, self.backward_kernel = kernel_pair
        self.keeps_input, self.by_rows, self.scalars = keeps_input, by_rows, scalars
        self.scratch = np.empty_like(self.out) if scratch else None

    def view(self, array: Array) -> Array:
        return array.reshape(-1, array.shape[-1]) if self.by_rows else array.reshape(-1)

    def forward(self, x: Array) -> Array:
        out = self.out[: len(x)]
        self.kept = x if self.keeps_input else out
        work = () if self.scratch is None else (self.view(self.scratch[: len(x)]),)
        team = self.team_for(out.size * NANOSECONDS_PER_ELEMENT)
        self.forward_kernel(self.view(out), *work, self.view(x), *self.scalars, team=team)
        return out

    def backward(self, grad_out: Array, accumulate: bool) -> Array | None:
        if self.grad_x is None:
            return None
        grad_x = self.grad_x[: len(grad_out)]
        team = self.team_for(grad_x.size * NANOSECONDS_PER_ELEMENT)
        self.backward_kernel(self.view(grad_x), self.view(grad_out), self.view(self.kept), *self.scalars, team=team)
        return grad_x


class EagerStep(Step):
    """A layer that no table knows, a user's own: its forward and backward, which allocate."""

    def __init__(self, layer: Layer, shape: tuple[int, ...], dtype: Any, team: Any) -> None:
        super().__init__(0, shape, dtype, team)
        self.layer = layer

    def forward(self, x: Array) -> Array:
        return np.ascontiguousarray(self.layer.forward(x), self.out.dtype)

    def backward(self, grad_out: Array, accumulate: bool) -> Array | None:
        before = {name: grad.copy() for name, grad in self.layer.grads.items()} if accumulate else {}
        grad_x = np.ascontiguousarray(self.layer.backward(grad_out), self.out.dtype)
        for name, grad in before.items():
            self.layer.grads[name] += grad
        return grad_x


def _activation_step(layer: Layer, rows: int, shape: tuple[int, ...], dtype: Any, team: Any) -> Step | None:
    """The step of an activation layer, or None."""
    a, s = kernels.activations, kernels.softmax
    arguments: dict[type, Any] = {
        ReLU: lambda: {"kernel_pair": (a.relu, a.relu_backward)},
        Sigmoid: lambda: {"kernel_pair": (a.sigmoid, a.sigmoid_backward)},
        Tanh: lambda: {"kernel_pair": (a.tanh, a.tanh_backward)},
        LeakyReLU: lambda: {
            "kernel_pair": (a.leaky_relu, a.leaky_relu_backward),
            "keeps_input": True,
            "scalars": (dtype.type(layer.negative_slope),),  # type: ignore[attr-defined]
        },
        Log: lambda: {"kernel_pair": (a.log, a.log_backward), "keeps_input": True},
        Softmax: lambda: {"kernel_pair": (s.softmax, s.softmax_backward), "by_rows": True},
        LogSoftmax: lambda: {
            "kernel_pair": (s.log_softmax, s.log_softmax_backward),
            "by_rows": True,
            "scratch": True,
        },
    }
    make = arguments.get(type(layer))
    if make is None:
        return None
    name = "leaky_relu" if type(layer) is LeakyReLU else type(layer).__name__.lower().replace("logs", "log_s")
    return ElementwiseStep(rows, shape, dtype, team, name, **make())


def _steps(model: Sequential, shape: tuple[int, ...], x_dtype: Any, rows: int, team: Any) -> list[Step]:
    """The model's steps, neighbours fused."""
    steps: list[Step] = []
    dtype, in_dtype = model.dtype, np.dtype(x_dtype)
    layers = list(model.layers)
    while layers:
        layer = layers.pop(0)
        out_shape = layer.output_shape(shape)
        if isinstance(layer, Normalize):
            steps.append(NormalizeStep(rows, shape, dtype, team, layer.factor_and_shift()))
            in_dtype = dtype
        elif isinstance(layer, Flatten):
            steps.append(ReshapeStep(rows, out_shape, dtype, team))
        else:
            if in_dtype != dtype:
                steps.append(NormalizeStep(rows, shape, dtype, team, (np.ones(1, dtype), np.zeros(1, dtype))))
                in_dtype = dtype
            if type(layer) is Linear:
                relu = bool(layers) and type(layers[0]) is ReLU
                if relu:
                    layers.pop(0)
                step = LinearStep(layer, rows, dtype, team, relu)
                before = steps[-1] if steps else None
                if isinstance(before, LinearStep) and before.relu:
                    step.masks_input = before.masked_by_next = True
                steps.append(step)
            else:
                steps.append(
                    _activation_step(layer, rows, out_shape, dtype, team) or EagerStep(layer, out_shape, dtype, team)
                )
        shape = out_shape
    return steps


def chunk_rows(sample_shape: tuple[int, ...], dtype: Any, batch_rows: int) -> int:
    """Rows that go through the network together; it does not depend on the number of threads, so results do not."""
    row_bytes = max(1, math.prod(sample_shape)) * np.dtype(dtype).itemsize
    fitting = CHUNK_BYTES // row_bytes // 64 * 64
    return min(CHUNK_ROWS, max(64, fitting), batch_rows)


class Plan:
    """Runs a model on chunks of rows, forward and backward, without allocating.

    Parameters
    ----------
    model : Sequential
    loss : Loss
    sample_shape, x_dtype
        Of one input sample.
    batch_rows : int
        Rows of the largest batch.
    team : fastfnn_kernels.team.Team
    """

    def __init__(
        self,
        model: Sequential,
        loss: Loss | None,
        sample_shape: tuple[int, ...],
        x_dtype: Any,
        batch_rows: int,
        team: Any,
    ) -> None:
        model.gather_parameters()
        self.model, self.loss, self.team = model, loss, team
        self.sample_shape, self.x_dtype = sample_shape, np.dtype(x_dtype)
        # Without a loss each kernel is a call of its own, so pieces are larger: there are fewer calls.
        fitting = CHUNK_ROWS if loss is None else chunk_rows(sample_shape, model.dtype, batch_rows)
        self.rows = max(1, min(fitting, batch_rows))
        self.steps = _steps(model, sample_shape, x_dtype, self.rows, team)
        self.output_shape = model.output_shape(sample_shape)
        self.inputs = np.empty((self.rows, *sample_shape), x_dtype)
        prediction = np.empty((self.rows, *self.output_shape), model.dtype)
        self.losses = loss.losses_buffer(prediction) if loss is not None else prediction
        self.grad = np.empty_like(prediction)
        self.first_trained = next(
            (i for i, step in enumerate(self.steps) if isinstance(step, (LinearStep, EagerStep))), len(self.steps)
        )
        for i, step in enumerate(self.steps[self.first_trained :], self.first_trained):
            step.needs_input_grad = i > self.first_trained
            shape = self.steps[i - 1].out.shape[1:] if i else sample_shape
            step.allocate_backward(self.rows, shape)

    def forward(self, x: Array) -> Array:
        """Outputs for at most `rows` rows, in a buffer that the next call overwrites."""
        out = x
        for step in self.steps:
            out = step.forward(out)
        return out

    def take(self, x: Array, index: Array | slice) -> Array:
        """Rows of the data: a view for a slice, gathered into a buffer for an index."""
        if isinstance(index, slice):
            return x[index]
        return np.take(x, index, axis=0, out=self.inputs[: len(index)], mode="clip")

    def batch(self, x: Array, y: Array, index: Array | slice, rows: int) -> tuple[float, int]:
        """Forward, loss and backward of one batch of `rows` rows: its reduced loss, and how many it got right.

        The model's gradients are then those of the loss.
        """
        loss = self.loss
        assert loss is not None
        total, correct, count = 0.0, 0, rows * self.losses[:1].size
        mean = loss.reduction == "mean"
        for start in range(0, rows, self.rows):
            stop = min(start + self.rows, rows)
            part = _part(index, start, stop)
            prediction, target = self.forward(self.take(x, part)), y[part]
            losses, grad = self.losses[: stop - start], self.grad[: stop - start]
            work = prediction.size * 5 * NANOSECONDS_PER_ELEMENT
            team = self.team if work >= WORK_WORTH_TEAM else None
            loss.compute(losses, grad, prediction, target, 1.0 / count if mean else 1.0, team)
            total += float(losses.sum(dtype=np.float64))
            correct += n_correct(prediction, target) if loss.classifies else 0
            out_grad: Array | None = grad
            for step in reversed(self.steps[self.first_trained :]):
                assert out_grad is not None
                out_grad = step.backward(out_grad, start > 0)
        return (total / count if mean else total), correct


def _part(index: Array | slice, start: int, stop: int) -> Array | slice:
    if isinstance(index, slice):
        return slice(index.start + start, index.start + stop)
    return index[start:stop]


def n_correct(prediction: Array, target: Array) -> int:
    """How many rows have their largest output where the target says."""
    expected = target if target.ndim == 1 else target.argmax(axis=1)
    return int(np.count_nonzero(prediction.argmax(axis=1) == expected))
