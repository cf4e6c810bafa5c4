"""fastfnn: `fit` as documented, on float32 and on the raw images; `train_step`; the fused loss; `predict_raw`."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastfnn as ff
from contenders import common
from fastfnn_kernels.softmax import softmax_cross_entropy
from fastfnn_kernels.team import Team


def variants(task: str, batch: int, n_threads: int, quick: bool) -> list[str]:
    if task == "step":
        return ["fit", "fit, uint8 images", "train_step", "fit, 1 thread", f"fit, {n_threads} threads"]
    return ["kernel", "CrossEntropyLoss"] if task == "loss" else ["predict_raw"]


def _network(images: bool) -> ff.Sequential:
    prepare = [ff.Flatten(), ff.Normalize(mean=common.MEAN, std=common.STD, scale=1 / 255)] if images else []
    hidden, out = ff.Linear(784, common.HIDDEN), ff.Linear(common.HIDDEN, common.CLASSES)
    model = ff.Sequential(*prepare, hidden, ff.ReLU(), out, seed=0)
    arrays = (hidden.params["weight"], hidden.params["bias"], out.params["weight"], out.params["bias"])
    for array, start in zip(arrays, common.first_weights(), strict=True):
        array[...] = start
    return model


class _Step:
    def __init__(self, variant: str, data: common.Data, batch: int, n_threads: int) -> None:
        self.data, self.batch, self.full = data, batch, batch == len(data.x)
        images = variant == "fit, uint8 images"
        self.model, self.x = _network(images), data.images if images else data.x
        self.loss, self.optimizer = ff.CrossEntropyLoss(), ff.SGD(lr=common.learning_rate(batch))
        self.by_hand = variant == "train_step"
        self.n_threads = {"fit, 1 thread": 1, f"fit, {n_threads} threads": n_threads}.get(variant)

    def run(self, count: int) -> None:
        if self.by_hand:
            self._by_hand(count)
            return
        rows = len(self.x) if self.full else count * self.batch
        ff.fit(
            self.model,
            self.x[:rows],
            self.data.y[:rows],
            loss=self.loss,
            optimizer=self.optimizer,
            epochs=count if self.full else 1,
            batch_size=None if self.full else self.batch,
            seed=common.SEED,
            n_threads=self.n_threads,
            progress=False,
        )

    def _by_hand(self, count: int) -> None:
        x, y, model, loss, optimizer = self.x, self.data.y, self.model, self.loss, self.optimizer
        if self.full:
            for _ in range(count):
                ff.train_step(model, x, y, loss=loss, optimizer=optimizer)
            return
        order = common.order(count * self.batch)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            ff.train_step(model, x[rows], y[rows], loss=loss, optimizer=optimizer)

    def check(self) -> dict[str, float]:
        hidden, out = (layer.params for layer in self.model.layers if isinstance(layer, ff.Linear))
        return common.loss_after(
            common.Weights(hidden["weight"], hidden["bias"], out["weight"], out["bias"]), self.data
        )


class _Kernel:
    """The fused kernel as `fit` calls it: losses and gradient in one pass, into buffers that are there already."""

    def __init__(self, rows: int, n_threads: int) -> None:
        self.logits, self.labels = common.random_logits(rows)
        self.losses, self.grad, self.n_threads = np.empty(rows), np.empty_like(self.logits), n_threads
        self.loss = 0.0

    def run(self, count: int) -> None:
        scale, smoothing = np.float32(1 / len(self.losses)), np.float32(0)
        with Team(self.n_threads) as team:
            for _ in range(count):
                softmax_cross_entropy(self.losses, self.grad, self.logits, self.labels, scale, smoothing, team=team)
                self.loss = float(self.losses.mean())

    def check(self) -> dict[str, float]:
        return common.loss_figures(self.loss, self.grad)


class _Loss:
    """The layer API: `forward`, then `backward`, each a checked call that allocates its result."""

    def __init__(self, rows: int) -> None:
        self.logits, self.labels = common.random_logits(rows)
        self.criterion = ff.CrossEntropyLoss()

    def run(self, count: int) -> None:
        for _ in range(count):
            self.loss = self.criterion.forward(self.logits, self.labels)
            self.grad = self.criterion.backward()

    def check(self) -> dict[str, float]:
        return common.loss_figures(self.loss, self.grad)


class _Inference:
    def __init__(self, data: common.Data, batch: int) -> None:
        self.model, self.x = _network(images=False), np.ascontiguousarray(data.x[:batch])

    def run(self, count: int) -> None:
        for _ in range(count):
            self.out = ff.predict_raw(self.model, self.x)

    def check(self) -> dict[str, float]:
        return common.inference_figures(self.out)


def make(task: str, variant: str, data: common.Data, batch: int, n_threads: int) -> Any:
    if task == "step":
        return _Step(variant, data, batch, n_threads)
    if task == "loss":
        return _Kernel(batch, n_threads) if variant == "kernel" else _Loss(batch)
    return _Inference(data, batch)
