"""Training and inference layer by layer: the slow way, for a user's own layers and losses and without the JIT.

It runs what one would write by hand: `Sequential.forward`, the loss's `forward` and `backward`, `Sequential.backward`,
the optimizer's `step`. A batch goes through as a whole in training, and in chunks in inference.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastfnn.engine import lowering
from fastfnn.engine.sparsity import CSR
from fastfnn.engine.task import Array, Pass, Sums, Task
from fastfnn.layers import Flatten, Normalize
from fastfnn.layers.chain import flattened
from fastfnn.losses import Loss
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer

# Layers hold what forward leaves for backward, and whether they train: one thread at a time may use them.
_turns = [threading.RLock()]
if hasattr(os, "register_at_fork"):  # a child does not wait for a thread of its parent's
    os.register_at_fork(after_in_child=lambda: _turns.__setitem__(0, threading.RLock()))


@contextlib.contextmanager
def mode(model: Sequential, training: bool) -> Iterator[None]:
    """The layers' `training` within a `with` block, in which nobody else uses layers."""
    with _turns[0]:
        before = [(layer, layer.training) for layer in model.named_layers().values()]
        try:
            for layer, _ in before:
                layer.training = training
            yield
        finally:
            for layer, value in before:
                layer.training = value


@contextlib.contextmanager
def _settings(optimizer: Optimizer, data: Pass, step: int) -> Iterator[None]:
    """The optimizer's learning rate and weight decay are those of a step, where there are any, in a `with` block."""
    before = optimizer.lr, optimizer.weight_decay
    try:
        optimizer.lr = before[0] if data.rates is None else float(data.rates[step])
        optimizer.weight_decay = before[1] if data.decays is None else float(data.decays[step])
        yield
    finally:
        optimizer.lr, optimizer.weight_decay = before


def run(task: Task, data: Pass) -> Iterator[Sums]:
    """Train on all rows once; yields as `program.run` does, but after each step."""
    model, loss, optimizer = task.model, task.loss, task.optimizer
    assert loss is not None
    assert optimizer is not None
    x, y, weights, order = data.x, data.y, data.weights, data.order
    assert y is not None
    batch_size = data.batch_size or len(x)
    model.gather_parameters()
    total, correct, penalty = 0.0, 0.0, 0.0
    # Said only where it matters: a user's own optimizer may know of parameters and gradients alone.
    apart: dict[str, Any] = {} if optimizer.decay_biases else {"n_weights": model.n_weights}
    for start in range(0, len(x), batch_size):
        stop = min(start + batch_size, len(x))
        rows = slice(start, stop) if order is None else order[start:stop]
        target = y[rows]
        # Not around the loop: in between callbacks are called, which may wait for another thread's prediction.
        with mode(model, training=True):
            prediction = _forward(model, x[rows])
            value = _value(loss, prediction, target, None if weights is None else weights[rows])
            if math.isfinite(value):
                grad = loss.backward()
                if weights is not None:
                    grad = grad * weights[rows].reshape(-1, *[1] * (grad.ndim - 1)).astype(grad.dtype)
                model.backward_to_trainable(grad)
                with _settings(optimizer, data, start // batch_size):
                    if data.penalty:
                        penalty = data.penalty * _l2_term(model, optimizer.weight_decay)
                    optimizer.step(model.parameters, model.gradients, **apart)
        if not math.isfinite(value):
            yield total, correct, start, start // batch_size + 1
            return
        total += (value * (stop - start) if loss.reduction == "mean" else value) + penalty * (stop - start)
        correct += _hits(loss, prediction, target)
        yield total, correct, stop, 0


def evaluate(task: Task, data: Pass) -> Sums:
    """Loss, of weighted rows where there are weights, and hits of all rows; and the outputs, where they are wanted."""
    loss, y, weights = task.loss, data.y, data.weights
    assert loss is not None
    assert y is not None
    total, correct = 0.0, 0.0
    for rows, prediction in _chunks(task.model, data.x):
        value = _value(loss, prediction, y[rows], None if weights is None else weights[rows])
        total += value * loss.mean_over(y[rows]) if loss.reduction == "mean" else value
        correct += _hits(loss, prediction, y[rows])
        if data.out is not None:
            data.out[rows] = prediction
    if loss.reduction == "mean":
        total *= len(y) / loss.mean_over(y)
    return total, correct, len(data.x), 0


def predict(task: Task, data: Pass) -> None:
    """Write the model's outputs for all rows."""
    assert data.out is not None
    for rows, prediction in _chunks(task.model, data.x):
        data.out[rows] = prediction


def n_correct(prediction: Array, target: Array) -> int:
    """How many rows have their largest output where the target says."""
    expected = target if target.ndim == 1 else target.argmax(axis=1)
    return int(np.count_nonzero(prediction.argmax(axis=1) == expected))


def _hits(loss: Loss, prediction: Array, target: Array) -> float:
    """How many rows are right; each by the share of its outputs, where these say yes or no."""
    if loss.task == "binary":
        right = (prediction > loss.threshold) == (target > 0.5)
        return np.count_nonzero(right) / math.prod(right.shape[1:])
    return n_correct(prediction, target) if loss.classifies else 0


def _chunks(model: Sequential, x: Array | CSR) -> Iterator[tuple[slice, Array]]:
    model.gather_parameters()
    for start in range(0, len(x), lowering.CHUNK_ROWS):
        rows = slice(start, min(start + lowering.CHUNK_ROWS, len(x)))
        with mode(model, training=False):
            prediction = _forward(model, x[rows])
        yield rows, prediction


def _forward(model: Sequential, x: Array) -> Array:
    """The outputs in the model's dtype; a first `Normalize` gets the inputs as they come."""
    first = next((layer for layer in flattened(model.layers) if not isinstance(layer, Flatten)), None)
    if not isinstance(first, Normalize):
        x = np.ascontiguousarray(x, model.dtype)
    return np.ascontiguousarray(model.forward(x), model.dtype)


def _l2_term(model: Sequential, decay: float) -> float:
    """λ/2 Σ w² of the weights that are trained; `decay` is λ where layers have none of their own."""
    total = 0.0
    for part in model.trained_weights():
        weights = model.parameters[part.where].astype(np.float64)
        total += part.decay(decay) / 2 * float(weights @ weights)
    return total


def _value(loss: Loss, prediction: Array, target: Array, weights: Array | None) -> float:
    """The loss of rows, each times its weight. `loss.backward` gives the gradient without weights afterwards."""
    value = float(loss.forward(prediction, target))
    if weights is None:
        return value
    losses = loss.row_losses(prediction, target) * weights
    return float(losses.sum()) / ((loss.mean_over(target) or 1.0) if loss.reduction == "mean" else 1.0)
