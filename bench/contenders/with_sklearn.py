"""scikit-learn's MLPClassifier and MLPRegressor: same network, rate and batch size; `partial_fit` is one epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from contenders import common
from contenders.networks import DENSE, MLP, SEED, TABLE, TANH, TANH_MLP, Linear

STEPS = ((MLP, 64), (DENSE, 64), (TANH_MLP, 10_000), (TABLE, 256))


def _model(task: common.Task, **how: Any) -> Any:
    hidden = [layer.n_out for layer in task.description.layers if isinstance(layer, Linear)][:-1]
    kind: Any = MLPRegressor if task.description.of_numbers else MLPClassifier
    activation = "tanh" if TANH in task.description.layers else "relu"
    return kind(hidden_layer_sizes=hidden, activation=activation, alpha=0.0, random_state=SEED, **how)


def _start(model: Any, task: common.Task) -> None:
    """Give a model that was fitted the first weights, in place."""
    for array, start in zip(_weights(model), common.first_weights(task), strict=True):
        array[...] = start


def _weights(model: Any) -> list[common.Array]:
    """Weight and bias in turn, as the others have them."""
    return [array for pair in zip(model.coefs_, model.intercepts_, strict=True) for array in pair]


class _Step:
    """It shuffles by its own generator: from the second batch on, its batches are not the others'.

    Its squared error is halved; Adam's steps are the same for it.
    """

    def __init__(self, task: common.Task, data: common.Data) -> None:
        self.task, self.data, self.batch = task, data, task.batch
        self.x, y = common.training_set(task, data)
        self.y, solver = y.ravel(), {"solver": task.optimizer.lower(), "learning_rate_init": common.learning_rate(task)}
        self.model = _model(task, momentum=0.0, nesterovs_momentum=False, batch_size=task.batch, **solver)
        classes = {} if task.description.of_numbers else {"classes": np.unique(y)}
        self.model.partial_fit(self.x[: self.batch], self.y[: self.batch], **classes)
        _start(self.model, task)
        del self.model._optimizer  # it has seen other weights; the next call makes a new one

    def run(self, count: int) -> None:
        epochs, rows = (count, self.batch) if self.batch == len(self.x) else (1, count * self.batch)
        for _ in range(epochs):
            self.model.partial_fit(self.x[:rows], self.y[:rows])

    def check(self) -> dict[str, float]:
        return common.loss_after(self.task, _weights(self.model), self.data)


class _Labels:
    def __init__(self, task: common.Task, data: common.Data) -> None:
        self.x, self.data, self.model = common.inputs(task, data), data, _model(task)
        some = slice(common.LABELLED)
        self.model.partial_fit(data.x[some], data.y[some], classes=np.unique(data.y))
        _start(self.model, task)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.model.predict(self.x)

    def check(self) -> dict[str, float]:
        return common.labels_figures(self.model.predict, self.x, self.data)


def variants(task: common.Task, n_threads: int, quick: bool) -> list[str]:
    if task.kind == "labels":
        return ["MLPClassifier.predict"]
    kind = "MLPRegressor" if task.kind == "step" and task.description.of_numbers else "MLPClassifier"
    return [kind] if task.kind == "step" and (task.network, task.batch) in STEPS else []


def make(task: common.Task, variant: str, data: common.Data, n_threads: int) -> Any:
    return (_Labels if task.kind == "labels" else _Step)(task, data)
