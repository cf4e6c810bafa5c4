"""The course exercise in plain NumPy, as a student hands it in: float64, one operation after another.

What it does and what it wastes are the exercise's: the bias as a column of ones that is joined on at every step,
labels as one-hot rows, softmax and logarithm with their own backward passes (a Jacobian for every sample), a gradient
for the images that nobody uses, no bias in the second layer. The gradient is that of the batch *sum*, so the learning
rate is divided by the batch size to walk as the others do. Its convolution and its pooling are loops over the places
of the output, and over the kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from contenders import common
from contenders.networks import CLASSES, DENSE, MLP, RELU, Conv

Array = common.Array
TINY = 1e-12


class Exercise:
    """The network 785-100-10 and its training step."""

    def __init__(self, weights: list[Array]) -> None:
        w1, b1, w2, _ = weights
        self.w1 = np.concatenate([w1, b1[None]]).astype(np.float64)
        self.w2 = w2.astype(np.float64)

    def train_step(self, images: Array, one_hot: Array, lr: float) -> tuple[float, float]:
        x = np.concatenate([images, np.ones((len(images), 1))], axis=1)
        hidden = x @ self.w1
        active = np.where(hidden > 0, hidden, 0.0)
        logits = active @ self.w2
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = exponentials / exponentials.sum(axis=1, keepdims=True)
        log_p = np.log(p + TINY)

        grad_p = -one_hot / (p + TINY)
        outer = p[:, :, None] @ p[:, None, :]  # the Jacobian's second part, (n, classes, classes)
        grad_logits = grad_p * p - (grad_p[:, None, :] @ outer)[:, 0, :]
        grad_w2, grad_active = active.T @ grad_logits, grad_logits @ self.w2.T
        grad_hidden = grad_active * (hidden > 0)
        grad_w1, _grad_x = x.T @ grad_hidden, grad_hidden @ self.w1.T

        self.w1 -= lr * grad_w1
        self.w2 -= lr * grad_w2
        loss = -(one_hot * log_p).sum(axis=1).mean()
        accuracy = (log_p.argmax(axis=1) == one_hot.argmax(axis=1)).mean()
        return float(loss), float(accuracy)


def convolution(x: Array, weight: Array, bias: Array, padding: int) -> Array:
    """A window of the whole batch for each place of the output, multiplied by one kernel after another."""
    images = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kernels, _, height, width = weight.shape
    rows, columns = images.shape[2] - height + 1, images.shape[3] - width + 1
    out = np.zeros((len(x), kernels, rows, columns))
    for row in range(rows):
        for column in range(columns):
            window = images[:, :, row : row + height, column : column + width]
            for kernel in range(kernels):
                out[:, kernel, row, column] = (window * weight[kernel]).sum(axis=(1, 2, 3))
    return out + bias[None, :, None, None]


def max_pooling(x: Array, size: int) -> Array:
    """The largest number of each window, a place of the output at a time."""
    n, channels, height, width = x.shape
    out = np.zeros((n, channels, height // size, width // size))
    for row in range(height // size):
        for column in range(width // size):
            top, left = row * size, column * size
            out[:, :, row, column] = x[:, :, top : top + size, left : left + size].max(axis=(2, 3))
    return out


class _Step:
    def __init__(self, task: common.Task, data: common.Data) -> None:
        x, y = common.training_set(task, data)
        self.task, self.data, self.batch, self.full = task, data, task.batch, task.batch == len(x)
        self.x, self.one_hot = x.astype(np.float64), np.eye(CLASSES)[y]
        self.network, self.lr = Exercise(common.first_weights(task)), common.learning_rate(task) / task.batch

    def run(self, count: int) -> None:
        if self.full:
            for _ in range(count):
                self.network.train_step(self.x, self.one_hot, self.lr)
            return
        order = common.order(count * self.batch)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            self.network.train_step(self.x[rows], self.one_hot[rows], self.lr)

    def check(self) -> dict[str, float]:
        w1, w2 = self.network.w1, self.network.w2
        return common.loss_after(self.task, [w1[:-1], w1[-1], w2, np.zeros(CLASSES)], self.data)


class _Forward:
    """Convolution, ReLU and pooling by the exercise's loops."""

    def __init__(self, task: common.Task, data: common.Data) -> None:
        self.layers = task.description.layers
        self.x = common.inputs(task, data).astype(np.float64)
        self.weight, self.bias = (array.astype(np.float64) for array in common.first_weights(task))

    def run(self, count: int) -> None:
        for _ in range(count):
            out = self.x
            for layer in self.layers:
                if isinstance(layer, Conv):
                    out = convolution(out, self.weight, self.bias, layer.padding)
                else:
                    out = np.where(out > 0, out, 0.0) if layer == RELU else max_pooling(out, 2)
            self.out = out

    def check(self) -> dict[str, float]:
        return common.inference_figures(self.out)


def variants(task: common.Task, n_threads: int, quick: bool) -> list[str]:
    if task.kind == "forward":
        return ["loops"] if n_threads == 1 else []  # nothing in them uses a second thread
    return ["exercise"] if task.kind == "step" and task.network in (MLP, DENSE) else []


def make(task: common.Task, variant: str, data: common.Data, n_threads: int) -> Any:
    return _Forward(task, data) if task.kind == "forward" else _Step(task, data)
