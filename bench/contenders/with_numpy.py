"""The course exercise in plain NumPy, as a student hands it in: float64, one operation after another.

What it does and what it wastes are the exercise's: the bias as a column of ones that is joined on at every step,
labels as one-hot rows, softmax and logarithm with their own backward passes (a Jacobian for every sample), a gradient
for the images that nobody uses, no bias in the second layer. The gradient is that of the batch *sum*, so the learning
rate is divided by the batch size to walk as the others do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from contenders import common

Array = common.Array
TINY = 1e-12


class Exercise:
    """The network 785-100-10 and its training step."""

    def __init__(self, weights: common.Weights) -> None:
        self.w1 = np.concatenate([weights.w1, weights.b1[None]]).astype(np.float64)
        self.w2 = weights.w2.astype(np.float64)

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


class _Step:
    def __init__(self, data: common.Data, batch: int) -> None:
        self.data, self.batch, self.full = data, batch, batch == len(data.x)
        self.x, self.one_hot = data.x.astype(np.float64), np.eye(common.CLASSES)[data.y]
        self.network, self.lr = Exercise(common.first_weights()), common.learning_rate(batch) / batch

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
        return common.loss_after(common.Weights(w1[:-1], w1[-1], w2, np.zeros(common.CLASSES)), self.data)


def variants(task: str, batch: int, n_threads: int, quick: bool) -> list[str]:
    return ["exercise"] if task == "step" else []


def make(task: str, variant: str, data: common.Data, batch: int, n_threads: int) -> Any:
    return _Step(data, batch)
