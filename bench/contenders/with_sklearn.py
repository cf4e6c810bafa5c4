"""scikit-learn's MLPClassifier with the same network, rate and batch size; `partial_fit` is one epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from contenders import common


class _Step:
    """It shuffles by its own generator: its batches are not the others'."""

    def __init__(self, data: common.Data, batch: int) -> None:
        self.data, self.batch = data, batch
        self.model: Any = MLPClassifier(
            (common.HIDDEN,),
            solver="sgd",
            learning_rate_init=common.learning_rate(batch),
            momentum=0.0,
            nesterovs_momentum=False,
            alpha=0.0,
            batch_size=batch,  # type: ignore[arg-type]
            random_state=common.SEED,
        )
        self.model.partial_fit(data.x[:batch], data.y[:batch], classes=np.arange(common.CLASSES))
        start = common.first_weights()
        arrays = (*self.model.coefs_, *self.model.intercepts_)
        for array, value in zip(arrays, (start.w1, start.w2, start.b1, start.b2), strict=True):
            array[...] = value

    def run(self, count: int) -> None:
        rows = count * self.batch
        self.model.partial_fit(self.data.x[:rows], self.data.y[:rows])

    def check(self) -> dict[str, float]:
        (w1, w2), (b1, b2) = self.model.coefs_, self.model.intercepts_
        return common.loss_after(common.Weights(w1, b1, w2, b2), self.data)


def variants(task: str, batch: int, n_threads: int, quick: bool) -> list[str]:
    return ["MLPClassifier"] if task == "step" and batch == 64 else []


def make(task: str, variant: str, data: common.Data, batch: int, n_threads: int) -> Any:
    return _Step(data, batch)
