"""Arrays whose neighbours are forbidden pages: who reads or writes a byte outside them ends the process."""

from __future__ import annotations

import ctypes
import mmap
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn as ff

PAGE = mmap.PAGESIZE
PROT_NONE = 0


class Fence:
    """A copy of an array between two forbidden pages: it ends where one begins, or begins where one ends."""

    def __init__(self, array: NDArray[Any], at_end: bool) -> None:
        pages = -(-max(array.nbytes, 1) // PAGE)
        self.memory = mmap.mmap(-1, (pages + 2) * PAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        start = PAGE + (pages * PAGE - array.nbytes if at_end else 0)
        self.array = np.frombuffer(self.memory, array.dtype, array.size, start).reshape(array.shape)
        self.array[...] = array
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (first, first + (pages + 1) * PAGE):
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")


def attack(seed: int, tries: int) -> None:
    """Train and run random networks on fenced data."""
    rng, draw = np.random.default_rng(seed), random.Random(seed)
    kept = []  # a mapping that goes before its array would be found, too
    for _ in range(tries):

        def fenced(array: NDArray[Any]) -> NDArray[Any]:
            kept.append(Fence(array, draw.random() < 0.7))
            return kept[-1].array

        dtype = draw.choice(["float32", "float64"])
        rows, classes = draw.choice([1, 2, 7, 16, 33, 100]), draw.choice([2, 3, 10, 17])
        model, shape = a_network(draw, classes, dtype)
        x = rng.integers(0, 256, (rows, *shape)).astype(draw.choice(["uint8", "float32", "float64", "int16"]))
        if draw.random() < 0.5:
            x[rng.random(x.shape) < 0.8] = 0
        inputs = fenced(np.ascontiguousarray(x))
        labels = fenced(rng.integers(0, classes, rows).astype(draw.choice(["int64", "int32", "uint8"])))
        weights = fenced(rng.random(rows)) if draw.random() < 0.5 else None
        n_threads, loss = draw.choice([1, 2, 3]), ff.CrossEntropyLoss(label_smoothing=draw.choice([0.0, 0.1]))
        batch = draw.choice([None, 1, 5, 16, 64])
        has_variance = any(isinstance(layer, (ff.BatchNorm1d, ff.BatchNorm2d)) for layer in model.layers)
        if has_variance and (rows < 2 or batch == 1 or (batch and rows % batch == 1)):
            rows = 0
        optimizer = draw.choice([ff.SGD(1e-4), ff.SGD(1e-4, momentum=0.9), ff.Adam(1e-4)])
        try:
            if rows:
                options = {"sample_weight": weights, "n_threads": n_threads, "validation_data": (inputs, labels)}
                options |= {"loss": loss, "optimizer": optimizer, "batch_size": batch, "progress": False}
                ff.fit(model, inputs, labels, **options)
            ff.predict_proba(model, inputs, n_threads=n_threads)
            ff.evaluate(model, inputs, labels, loss=loss, n_threads=n_threads)
        except ff.NonFiniteLossError:
            pass
        del kept[:-20]


def a_network(draw: random.Random, classes: int, dtype: str) -> tuple[ff.Sequential, tuple[int, ...]]:
    activation = draw.choice([ff.ReLU, ff.Tanh, ff.Sigmoid, ff.LeakyReLU])
    layers: list[Any] = [ff.Normalize(0.5, 0.3, scale=1 / 255)] if draw.random() < 0.5 else []
    if draw.random() < 0.5:
        width = draw.choice([1, 3, 8, 17, 64, 100])
        shape: tuple[int, ...] = (width,)
        hidden = draw.choice([1, 5, 16, 33])
        layers += [ff.Linear(width, hidden)]
        layers += [ff.BatchNorm1d(hidden)] if draw.random() < 0.3 else []
        layers += [activation(), ff.Linear(hidden, classes)]
    else:
        channels, side, filters = draw.choice([1, 2, 3, 8]), draw.choice([5, 8, 13]), draw.choice([1, 4, 16, 17])
        shape = (channels, side, side)
        layers += [ff.Conv2d(channels, filters, draw.choice([1, 3, 5]), stride=draw.choice([1, 2]), padding=1)]
        layers += [ff.BatchNorm2d(filters)] if draw.random() < 0.3 else []
        layers += [activation()]
        layers += [draw.choice([ff.MaxPool2d, ff.AvgPool2d])(2)] if draw.random() < 0.5 else []
        layers += [ff.Flatten()]
        made = shape
        for layer in layers:
            made = layer.output_shape(made)
        layers += [ff.Linear(made[0], classes)]
    return ff.Sequential(*layers, seed=draw.randrange(100), dtype=dtype), shape
