"""JAX: the whole update in one `jit` with donated parameters, a step a call or a whole run of steps in a device loop.

The loop is `lax.fori_loop` with the number of steps as data, because a `lax.scan` would be compiled anew for every
length; the two took the same time a step at every batch size tried here.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from contenders import common


def variants(task: str, batch: int, n_threads: int, quick: bool) -> list[str]:
    return ["jit, a step a call", "jit, loop of steps"] if task == "step" else ["jit"]


def _logits(parameters: Any, x: Any) -> Any:
    w1, b1, w2, b2 = parameters
    return jnp.maximum(x @ w1 + b1, 0) @ w2 + b2


def _cross_entropy(logits: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()


def _update(parameters: Any, x: Any, y: Any, lr: float) -> Any:
    gradients = jax.grad(lambda parameters: _cross_entropy(_logits(parameters, x), y))(parameters)
    return tuple(p - lr * g for p, g in zip(parameters, gradients, strict=True))


class _Step:
    def __init__(self, variant: str, data: common.Data, batch: int) -> None:
        self.batch, self.full, self.data = batch, batch == len(data.x), data
        self.x, self.y = jnp.asarray(data.x), jnp.asarray(data.y.astype(np.int32))
        self.parameters: Any = tuple(map(jnp.asarray, common.first_weights()))
        self.loops = variant == "jit, loop of steps"
        lr, full = common.learning_rate(batch), self.full

        def update(parameters: Any, i: Any, x: Any, y: Any, order: Any) -> Any:
            if full:
                return _update(parameters, x, y, lr)
            rows = lax.dynamic_slice(order, (i * batch,), (batch,))
            return _update(parameters, x[rows], y[rows], lr)

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(parameters: Any, i: Any, x: Any, y: Any, order: Any) -> Any:
            return update(parameters, i, x, y, order), i + 1

        @functools.partial(jax.jit, donate_argnums=0)
        def loop(parameters: Any, count: Any, x: Any, y: Any, order: Any) -> Any:
            return lax.fori_loop(0, count, lambda i, p: update(p, i, x, y, order), parameters)

        self.step, self.loop = step, loop

    def run(self, count: int) -> None:
        order = np.zeros(len(self.data.x), np.int32)  # of one length: another would be compiled for
        if not self.full:
            order[: count * self.batch] = common.order(count * self.batch)
        order = jnp.asarray(order)
        if self.loops:
            self.parameters = self.loop(self.parameters, count, self.x, self.y, order)
        else:
            parameters, i = self.parameters, jnp.zeros((), jnp.int32)
            for _ in range(count):
                parameters, i = self.step(parameters, i, self.x, self.y, order)
            self.parameters = parameters
        jax.block_until_ready(self.parameters)

    def check(self) -> dict[str, float]:
        return common.loss_after(common.Weights(*map(np.asarray, self.parameters)), self.data)


class _Loss:
    def __init__(self, rows: int) -> None:
        logits, labels = common.random_logits(rows)
        self.logits, self.labels = jnp.asarray(logits), jnp.asarray(labels.astype(np.int32))
        self.function = jax.jit(jax.value_and_grad(_cross_entropy))

    def run(self, count: int) -> None:
        for _ in range(count):
            self.out = jax.block_until_ready(self.function(self.logits, self.labels))

    def check(self) -> dict[str, float]:
        return common.loss_figures(self.out[0], np.asarray(self.out[1]))


class _Inference:
    def __init__(self, data: common.Data, batch: int) -> None:
        self.x, self.parameters = jnp.asarray(data.x[:batch]), tuple(map(jnp.asarray, common.first_weights()))
        self.function = jax.jit(_logits)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.out = jax.block_until_ready(self.function(self.parameters, self.x))

    def check(self) -> dict[str, float]:
        return common.inference_figures(np.asarray(self.out))


def make(task: str, variant: str, data: common.Data, batch: int, n_threads: int) -> Any:
    if task == "step":
        return _Step(variant, data, batch)
    return _Loss(batch) if task == "loss" else _Inference(data, batch)
