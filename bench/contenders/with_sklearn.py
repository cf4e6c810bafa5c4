"""scikit-learn's MLPClassifier with the same network, rate and batch size; `partial_fit` is one epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from contenders import common
from contenders.networks import MLP, SEED, TANH, TANH_MLP, Linear

TASKS = ((MLP, 64), (TANH_MLP, 10_000))


class _Step:
    """It shuffles by its own generator: its batches are not the others'."""

    def __init__(self, task: common.Task, data: common.Data) -> None:
        self.task, self.data, self.batch = task, data, task.batch
        self.x, self.y = common.training_set(task, data)
        hidden = [layer.n_out for layer in task.description.layers if isinstance(layer, Linear)][:-1]
        self.model: Any = MLPClassifier(
            hidden,
            activation="tanh" if TANH in task.description.layers else "relu",
            solver=task.optimizer.lower(),  # type: ignore[arg-type]
            learning_rate_init=common.learning_rate(task),
            momentum=0.0,
            nesterovs_momentum=False,
            alpha=0.0,
            batch_size=task.batch,  # type: ignore[arg-type]
            random_state=SEED,
        )
        self.model.partial_fit(self.x[: self.batch], self.y[: self.batch], classes=np.unique(self.y))
        for array, start in zip(self._weights(), common.first_weights(task), strict=True):
            array[...] = start
        del self.model._optimizer  # it has seen other weights; the next call makes a new one

    def _weights(self) -> list[common.Array]:
        """Weight and bias in turn, as the others have them."""
        return [array for pair in zip(self.model.coefs_, self.model.intercepts_, strict=True) for array in pair]

    def run(self, count: int) -> None:
        epochs, rows = (count, self.batch) if self.batch == len(self.x) else (1, count * self.batch)
        for _ in range(epochs):
            self.model.partial_fit(self.x[:rows], self.y[:rows])

    def check(self) -> dict[str, float]:
        return common.loss_after(self.task, self._weights(), self.data)


def variants(task: common.Task, n_threads: int, quick: bool) -> list[str]:
    return ["MLPClassifier"] if task.kind == "step" and (task.network, task.batch) in TASKS else []


def make(task: common.Task, variant: str, data: common.Data, n_threads: int) -> Any:
    return _Step(task, data)
