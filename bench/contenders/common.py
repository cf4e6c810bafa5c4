"""What all contenders share: the data, the first weights, the order of the batches, and the check of the result.

A contender's module has ``variants(task)`` and ``make(task, variant, data, batch, n_threads)``; what `make` returns
has ``run(count)``, which does its work `count` times and comes back when all of it is done, and ``check()``, figures
that must agree between contenders.

Tasks: ``step`` (a training step on `batch` rows; all rows are the full batch), ``loss`` (softmax cross-entropy of
`batch` × 10 logits with its gradient) and ``inference`` (logits of `batch` rows).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

HIDDEN, CLASSES = 100, 10
SEED = 1
MEAN, STD = 0.1307, 0.3081


class Contender(Protocol):
    """One library doing one task in one way."""

    def run(self, count: int) -> None:
        """Do the work `count` times; return when it is done."""
        ...

    def check(self) -> dict[str, float]:
        """Figures of the result that every contender must agree on."""
        ...


class Data(NamedTuple):
    """The same for everyone: prepared once by the parent."""

    x: Array  # (n, 784) float32, normalised
    y: Array  # (n,) int64
    images: Array  # (n, 28, 28) uint8, as they came

    @classmethod
    def load(cls, folder: Path) -> Data:
        return cls(*(np.load(folder / f"{name}.npy") for name in cls._fields))

    def save(self, folder: Path) -> None:
        for name, array in self._asdict().items():
            np.save(folder / f"{name}.npy", array)


class Weights(NamedTuple):
    """Of the network 784-100-10; matrices are (in, out)."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array


def first_weights() -> Weights:
    """He's, drawn once for all contenders."""
    rng = np.random.default_rng(SEED)
    w1 = rng.standard_normal((784, HIDDEN)) * np.sqrt(2 / 784)
    w2 = rng.standard_normal((HIDDEN, CLASSES)) * np.sqrt(2 / HIDDEN)
    zeros = np.zeros(HIDDEN), np.zeros(CLASSES)
    return Weights(*(array.astype(np.float32) for array in (w1, zeros[0], w2, zeros[1])))


def learning_rate(batch: int) -> float:
    """0.1, and less for small batches, where 0.1 diverges on normalised images."""
    return 0.1 * min(1.0, batch / 64)


def order(rows: int) -> Array:
    """The order of an epoch over `rows` rows; it is what `fastfnn.fit` draws from SEED."""
    return np.random.default_rng(SEED).permutation(rows)


def step_flops(batch: int) -> float:
    """Of the products of one dense training step: forward, weight gradients, the second layer's input gradient."""
    return 2.0 * batch * (2 * 784 * HIDDEN + 3 * HIDDEN * CLASSES)


def forward(weights: Weights, x: Array) -> Array:
    """Logits in float64."""
    w1, b1, w2, b2 = (np.asarray(array, np.float64) for array in weights)
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def loss_after(weights: Weights, data: Data) -> dict[str, float]:
    """Mean loss on the first 2,000 rows, in float64 NumPy whoever trained the weights."""
    logits, y = forward(weights, data.x[:2000].astype(np.float64)), data.y[:2000]
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
    return {"loss": float(losses.mean())}


def random_logits(rows: int) -> tuple[Array, Array]:
    """Logits (rows, 10) and labels for the task ``loss``."""
    rng = np.random.default_rng(SEED)
    logits = 3 * rng.standard_normal((rows, CLASSES))
    return logits.astype(np.float32), rng.integers(0, CLASSES, rows)


def loss_figures(loss: Any, grad: Array) -> dict[str, float]:
    """The check of the task ``loss``."""
    return {"loss": float(loss), "grad_norm": float(np.linalg.norm(np.asarray(grad, np.float64)))}


def inference_figures(logits: Array) -> dict[str, float]:
    """The check of the task ``inference``."""
    return {"mean_square": float(np.mean(np.asarray(logits, np.float64) ** 2)), "first": float(logits[0, 0])}
