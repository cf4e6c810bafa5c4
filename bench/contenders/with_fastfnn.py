"""fastfnn: `fit`, also on raw images; `train_step`; the fused kernels; `predict_raw`, `Predictor`, `FNNClassifier`."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

import fastfnn as ff
from contenders import common
from contenders.networks import FLATTEN, POOL, RELU, TANH, Conv, Linear
from fastfnn_kernels import convolution
from fastfnn_kernels.softmax import softmax_cross_entropy
from fastfnn_kernels.team import Team

Array = common.Array


def variants(task: common.Task, n_threads: int, quick: bool) -> list[str]:
    if task.kind == "step":
        raw = ["fit, uint8 images"] if task.description.of_digits else []
        return ["fit", *raw, "train_step", "fit, 1 thread", f"fit, {n_threads} threads"]
    if task.kind == "loss":
        return ["kernel", "CrossEntropyLoss"]
    if task.kind == "gradients":
        return ["kernels", "forward, backward"]
    if task.kind == "labels":
        return [*(["FNNClassifier.predict"] if importlib.util.find_spec("sklearn") else []), "Predictor.predict"]
    return ["predict_raw", "Predictor", "Predictor, out=", "Predictor, 1 thread", f"Predictor, {n_threads} threads"]


def _network(task: common.Task, raw: bool = False) -> ff.Sequential:
    """The network with its first weights; for raw images it begins with their normalisation."""
    layers: list[ff.Layer] = []
    if raw:
        flat = [] if task.description.of_images else [ff.Flatten()]
        layers += [*flat, ff.Normalize(mean=common.MEAN, std=common.STD, scale=1 / 255)]
    plain = {RELU: ff.ReLU, TANH: ff.Tanh, POOL: lambda: ff.MaxPool2d(2), FLATTEN: ff.Flatten}
    for layer in task.description.layers:
        if isinstance(layer, Linear):
            layers.append(ff.Linear(layer.n_in, layer.n_out))
        elif isinstance(layer, Conv):
            layers.append(ff.Conv2d(layer.c_in, layer.c_out, layer.kernel, padding=layer.padding))
        else:
            layers.append(plain[layer]())
    model = ff.Sequential(*layers, seed=0)
    for array, start in zip(_weights(model), common.first_weights(task), strict=True):
        array[...] = start
    return model


def _weights(model: ff.Sequential) -> list[Array]:
    return [layer.params[name] for layer in model.layers if layer.params for name in ("weight", "bias")]


class _Step:
    def __init__(self, task: common.Task, variant: str, data: common.Data, n_threads: int) -> None:
        self.task, self.data, self.batch = task, data, task.batch
        raw = variant == "fit, uint8 images"
        self.x, self.y = common.training_set(task, data)
        if raw:
            self.x = data.images
        self.full, self.model = task.batch == len(self.x), _network(task, raw)
        optimizers = {common.SGD: ff.SGD, common.ADAM: ff.Adam}
        self.loss = ff.MSELoss() if task.description.of_numbers else ff.CrossEntropyLoss()
        self.optimizer = optimizers[task.optimizer](lr=common.learning_rate(task))
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
            self.y[:rows],
            loss=self.loss,
            optimizer=self.optimizer,
            epochs=count if self.full else 1,
            batch_size=None if self.full else self.batch,
            seed=common.SEED,
            n_threads=self.n_threads,
            progress=False,
        )

    def _by_hand(self, count: int) -> None:
        x, y, model, loss, optimizer = self.x, self.y, self.model, self.loss, self.optimizer
        if self.full:
            for _ in range(count):
                ff.train_step(model, x, y, loss=loss, optimizer=optimizer)
            return
        order = common.order(count * self.batch)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            ff.train_step(model, x[rows], y[rows], loss=loss, optimizer=optimizer)

    def check(self) -> dict[str, float]:
        return common.loss_after(self.task, _weights(self.model), self.data)


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
    def __init__(self, task: common.Task, variant: str, data: common.Data, n_threads: int) -> None:
        self.model, self.x, self.call = _network(task), common.inputs(task, data), self._predict_raw
        if variant != "predict_raw":
            limit = {"Predictor, 1 thread": 1, f"Predictor, {n_threads} threads": n_threads}.get(variant)
            self.call: Any = ff.Predictor(self.model, self.x.shape[1:], self.x.dtype, limit)
        self.into = np.empty_like(self.call(self.x)) if variant == "Predictor, out=" else None

    def _predict_raw(self, x: Array) -> Array:
        return ff.predict_raw(self.model, x)

    def run(self, count: int) -> None:
        if self.into is not None:
            for _ in range(count):
                self.out = self.call(self.x, out=self.into)
            return
        for _ in range(count):
            self.out = self.call(self.x)

    def check(self) -> dict[str, float]:
        return common.inference_figures(self.out)


class _Labels:
    """`predict` of an estimator beside scikit-learn's, or of the deployed model alone."""

    def __init__(self, task: common.Task, variant: str, data: common.Data) -> None:
        self.x, self.data = common.inputs(task, data), data
        if variant == "Predictor.predict":
            self.predict: Any = ff.Predictor(_network(task), self.x.shape[1:], self.x.dtype).predict
            return
        from fastfnn.sklearn import FNNClassifier  # scikit-learn is optional

        hidden = [layer.n_out for layer in task.description.layers if isinstance(layer, Linear)][:-1]
        model = FNNClassifier(hidden, max_iter=1, tol=0.0, random_state=common.SEED)
        model.fit(data.x[: common.LABELLED], data.y[: common.LABELLED])
        for array, start in zip(_weights(model.model_), common.first_weights(task), strict=True):
            array[...] = start
        self.predict = model.predict

    def run(self, count: int) -> None:
        for _ in range(count):
            self.predict(self.x)

    def check(self) -> dict[str, float]:
        return common.labels_figures(self.predict, self.x, self.data)


class _BlockKernels:
    """Forward and backward of a conv block by the fused kernels, as a training step calls them: into buffers."""

    def __init__(self, task: common.Task, data: common.Data, n_threads: int) -> None:
        (layer, weights), self.n_threads = (_network(task).layers[0], common.first_weights(task)), n_threads
        self.x, self.grad, (self.weight, self.bias) = common.inputs(task, data), common.output_gradient(task), weights
        filters: Any = layer.filters  # type: ignore[attr-defined]
        self.settings, geometry, rows = filters.settings, filters.geometry(self.x.shape), len(self.x)
        self.scratch = [geometry.scratch(rows, backward, np.float32, n_threads) for backward in (False, True)]
        self.partials, self.out = geometry.partials(rows, np.float32), np.empty_like(self.grad)
        self.index = np.empty(self.out.shape, np.int32)
        self.grad_x = np.empty(self.x.shape if task.input_gradient else (0,), np.float32)
        self.gradients = [np.empty_like(self.weight), np.empty_like(self.bias)]

    def run(self, count: int) -> None:
        x, weight, out, index, after = self.x, self.weight, self.out, self.index, convolution.RELU_POOL
        stride, padding, dilation, groups = self.settings
        options: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "after": after,
        }
        grad_weight, grad_bias = self.gradients
        forward, backward = self.scratch
        with Team(self.n_threads) as team:
            options["team"] = team
            for _ in range(count):
                convolution.conv2d(out, index, forward, x, weight, self.bias, **options)
                convolution.conv2d_backward(
                    self.grad_x, grad_weight, grad_bias, backward, self.partials, self.grad, x, weight, out, index,
                    **options,
                )  # fmt: skip

    def check(self) -> dict[str, float]:
        grads = [*self.gradients, *([self.grad_x] if self.grad_x.size else [])]
        return common.gradient_figures(self.out, grads)


class _Gradients:
    """Layer by layer, as the layer API does it."""

    def __init__(self, task: common.Task, data: common.Data) -> None:
        self.task, self.model = task, _network(task)
        self.x, self.grad = common.inputs(task, data), common.output_gradient(task)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.out = self.model.forward(self.x)
            grad_x = self.model.backward(self.grad)
            grads = self.model.layers[0].grads
            self.gradients = [grads["weight"], grads["bias"], *([grad_x] if self.task.input_gradient else [])]

    def check(self) -> dict[str, float]:
        return common.gradient_figures(self.out, self.gradients)


def make(task: common.Task, variant: str, data: common.Data, n_threads: int) -> Any:
    if task.kind == "step":
        return _Step(task, variant, data, n_threads)
    if task.kind == "loss":
        return _Kernel(task.batch, n_threads) if variant == "kernel" else _Loss(task.batch)
    if task.kind == "gradients":
        return _BlockKernels(task, data, n_threads) if variant == "kernels" else _Gradients(task, data)
    return _Labels(task, variant, data) if task.kind == "labels" else _Inference(task, variant, data, n_threads)
