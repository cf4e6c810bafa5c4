"""What all contenders share: the tasks, the data, the order of the batches, and the checks of the results.

A contender's module has ``variants(task, n_threads, quick)`` and ``make(task, variant, data, n_threads)``; what `make`
returns has ``run(count)``, which does its work `count` times and comes back when all of it is done, and ``check()``,
figures that must agree between contenders. The networks themselves are in `networks`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from contenders import networks
from contenders.networks import CLASSES, SEED, Array, Linear, Network

MEAN, STD = 0.1307, 0.3081

#: Optimizers; Adam has the usual settings, which all libraries have by default.
SGD, ADAM = "SGD", "Adam"
BETAS, EPSILON = (0.9, 0.999), 1e-8

#: Kinds of tasks that are a network's forward pass.
INFERENCE = ("inference", "forward")


class Task(NamedTuple):
    """One line of the table.

    Kinds: ``step`` (a training step on `batch` rows; all rows are the full batch), ``inference`` and ``forward`` (the
    outputs for `batch` rows), ``labels`` (their most likely classes, by a classifier), ``gradients`` (forward, and from
    a gradient of the outputs those of weights, bias and, where the network has several input channels, of the inputs),
    and ``loss`` (softmax cross-entropy of `batch` × 10 logits with its gradient).
    """

    kind: str
    network: str  # a name in `networks.NETWORKS`; for ``loss`` it is not used
    batch: int
    optimizer: str = SGD  # of a ``step``

    @property
    def description(self) -> Network:
        return networks.NETWORKS[self.network]

    @property
    def input_gradient(self) -> bool:
        """Whether ``gradients`` has one for the inputs: those with one channel are images, which need none."""
        return self.description.shape[0] > 1

    @property
    def flops(self) -> float:
        """Of the products, done densely; 0 for the loss, which has none."""
        if self.kind == "loss":
            return 0.0
        counts = self.description.multiplications()
        if self.kind in (*INFERENCE, "labels"):
            return 2.0 * self.batch * sum(counts)
        without = counts[0] if self.kind == "step" or not self.input_gradient else 0
        return 2.0 * self.batch * (3 * sum(counts) - without)


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

    def samples(self, network: Network) -> Array:
        """All rows in the shape that the network takes."""
        return self.x.reshape(-1, *network.shape)


def first_weights(task: Task) -> list[Array]:
    """Weight and bias of each layer of the task's network."""
    return networks.first_weights(task.description)


def learning_rate(task: Task) -> float:
    """Adam's 0.001; for SGD 0.1, and less for small batches, where 0.1 diverges on normalised images.

    With convolutions it is 0.05, for at 0.1 the first steps of LeNet-5 are unstable; on three channels of noise 0.001:
    at 0.05 the units die in the first step, and a library that skips zeros has little left to do; at 0.005 rounding in
    float32 makes 0.2 % of the loss in eight steps.
    """
    if task.optimizer == ADAM:
        return 1e-3
    network = task.description
    rate = 0.1 if not network.of_images else 0.05 if network.of_digits else 0.001
    return rate * min(1.0, task.batch / 64)


def training_set(task: Task, data: Data) -> tuple[Array, Array]:
    """Rows in the shape that the network takes, and labels or numbers; nobody may write into them."""
    network = task.description
    return (data.samples(network), data.y) if network.of_digits else _random_set(network)


@functools.lru_cache(maxsize=1)
def _random_set(network: Network) -> tuple[Array, Array]:
    """Random rows, and what a random linear map makes of them: there is something to learn, and the loss falls.

    The map is float64, so that no library's order of summation decides a label.
    """
    (outputs,) = (layer.n_out for layer in network.layers[-1:] if isinstance(layer, Linear))
    x = _random(network.rows, *network.shape)
    flat = x.reshape(len(x), -1).astype(np.float64)
    made = flat @ np.random.default_rng(SEED + 1).standard_normal((flat.shape[1], outputs)) / np.sqrt(flat.shape[1])
    return x, made.astype(np.float32) if network.of_numbers else made.argmax(axis=1)


def order(rows: int) -> Array:
    """The order of an epoch over `rows` rows; it is what `fastfnn.fit` draws from SEED."""
    return np.random.default_rng(SEED).permutation(rows)


def inputs(task: Task, data: Data) -> Array:
    """The rows of a task without training: of the data where the network takes images, else random numbers."""
    if task.description.of_digits:
        return data.samples(task.description)[: task.batch].copy()
    return _random(task.batch, *task.description.shape)


def output_gradient(task: Task) -> Array:
    """Of the task ``gradients``: random numbers (batch, channels, height, width)."""
    _, side, _ = task.description.shape
    (channels,) = (layer.c_out for layer in task.description.layers if isinstance(layer, networks.Conv))
    return _random(task.batch, channels, side // 2, side // 2)


def _random(*shape: int) -> Array:
    return np.random.default_rng(SEED).standard_normal(shape, np.float32)


def random_logits(rows: int) -> tuple[Array, Array]:
    """Logits (rows, 10) and labels for the task ``loss``."""
    rng = np.random.default_rng(SEED)
    logits = 3 * rng.standard_normal((rows, CLASSES))
    return logits.astype(np.float32), rng.integers(0, CLASSES, rows)


def first_state(task: Task, parameters: Any, zeros: Any, count: Any) -> tuple[Any, ...]:
    """What `update` takes and gives back: parameters and, for Adam, its two averages and the number of updates.

    Written for any library's arrays: `zeros` makes an array like another, `count` is its number 0.
    """
    if task.optimizer == SGD:
        return (tuple(parameters),)
    return tuple(parameters), tuple(map(zeros, parameters)), tuple(map(zeros, parameters)), count


def update(optimizer: str, lr: float, state: tuple[Any, ...], gradients: Any) -> tuple[Any, ...]:
    """The state after one update, by any library's arithmetic: for libraries that compile the whole step."""
    if optimizer == SGD:
        return (tuple(p - lr * g for p, g in zip(state[0], gradients, strict=True)),)
    parameters, means, squares, count = state
    beta1, beta2 = BETAS
    means = tuple(beta1 * m + (1 - beta1) * g for m, g in zip(means, gradients, strict=True))
    squares = tuple(beta2 * s + (1 - beta2) * g * g for s, g in zip(squares, gradients, strict=True))
    count = count + 1
    rate, root = lr / (1 - beta1**count), (1 - beta2**count) ** 0.5
    changes = (rate * m / (s**0.5 / root + EPSILON) for m, s in zip(means, squares, strict=True))
    return tuple(p - change for p, change in zip(parameters, changes, strict=True)), means, squares, count


def loss_after(task: Task, weights: list[Array], data: Data) -> dict[str, float]:
    """The check of a training: the mean loss on the first rows, in float64 NumPy whoever trained the weights."""
    network = task.description
    rows = 2000 if not network.of_images else 200 if network.of_digits else 16  # convolutions cost more
    x, y = (array[:rows] for array in training_set(task, data))
    logits = networks.forward(network, weights, x)
    if network.of_numbers:
        return {"loss": float(np.mean((logits - y) ** 2))}
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
    return {"loss": float(losses.mean())}


#: Rows of the task ``labels`` that a classifier is fitted to, before it gets the first weights, and checked on.
LABELLED = 2000


def labels_figures(predict: Any, row: Array, data: Data) -> dict[str, float]:
    """The check of the task ``labels``: that of the timed rows, and each class's share of more of them."""
    labels = np.asarray(predict(data.x[:LABELLED]))
    shares = {f"share_{label}": float(np.mean(labels == label)) for label in (1, 7)}
    return {"label": float(np.mean(predict(row))), "mean_label": float(labels.mean()), **shares}


def loss_figures(loss: Any, grad: Array) -> dict[str, float]:
    """The check of the task ``loss``."""
    return {"loss": float(loss), "grad_norm": float(np.linalg.norm(np.asarray(grad, np.float64)))}


def inference_figures(out: Array) -> dict[str, float]:
    """The check of a forward pass, (n, classes) or (n, channels, height, width); the second figure is of one number
    or of one corner, so that no other order of the axes passes."""
    out = np.asarray(out, np.float64)
    first = out[0, 0] if out.ndim == 2 else np.mean(out[: len(out) // 2, 0, 0] ** 2)
    return {"mean_square": float(np.mean(out**2)), "first": float(first)}


def gradient_figures(out: Array, gradients: list[Array]) -> dict[str, float]:
    """The check of ``gradients``: the outputs, and weight, bias and perhaps inputs, whole and the first of them."""
    figures = inference_figures(out)
    for name, array in zip(("weight", "bias", "x"), gradients, strict=False):
        array = np.asarray(array, np.float64)
        figures |= {f"grad_{name}": float(np.linalg.norm(array)), f"first_{name}": float(np.linalg.norm(array[0]))}
    return figures
