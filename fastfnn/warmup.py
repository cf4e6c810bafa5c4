"""Compile ahead of time, so that the first training does not wait."""

from __future__ import annotations

import time

import numpy as np

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn import models
from fastfnn.engine.sparsity import LEAST_ROWS
from fastfnn.losses import CrossEntropyLoss
from fastfnn.optim import SGD, Adam
from fastfnn.training.fit import fit, train_step
from fastfnn.training.inference import evaluate, predict_proba


def warmup(dtypes: tuple[str, ...] = ("float32",), model: str | None = None) -> float:
    """Compile every kernel, or those of one model, or load them from the cache.

    Parameters
    ----------
    dtypes : tuple of {"float32", "float64"}
    model : {"mlp", "lenet5", "small_cnn"}, optional
        One of `fastfnn.models`: compile only what it takes to train it on ``uint8`` images with labels and to run it.
        By default everything, which takes minutes.

    Returns
    -------
    float
        Seconds that it took.
    """
    checked = [check.as_dtype(dtype) for dtype in dtypes]
    if model is not None:
        check.one_of("model", model, tuple(models.BY_NAME))
    began = time.perf_counter()
    for dtype in checked:
        if model is None:
            kernels.registry.compile_all(dtype)
        else:
            _use(model, dtype)
    return time.perf_counter() - began


def _use(name: str, dtype: np.dtype) -> None:
    """Train and run a model on a few images, random and blank: a step with each optimizer, by both ways to train."""
    rng, loss = np.random.default_rng(0), CrossEntropyLoss()
    noise, blank = rng.integers(0, 256, (8, 28, 28), np.uint8), np.zeros((LEAST_ROWS, 28, 28), np.uint8)
    for x in (noise, blank):  # of the latter a first Linear skips the zeros
        y = rng.integers(0, 10, len(x))
        for optimizer in (SGD(lr=1e-3), SGD(lr=1e-3, momentum=0.9), Adam(lr=1e-3)):
            model = models.BY_NAME[name](seed=0, dtype=dtype)
            fit(model, x, y, loss=loss, optimizer=optimizer, progress=False)
            train_step(model, x, y, loss=loss, optimizer=optimizer)
            evaluate(model, x, y, loss=loss)
            predict_proba(model, x)
