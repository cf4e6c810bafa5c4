"""JAX: the whole update in one `jit` with donated parameters, a step a call or a whole run of steps in a device loop.

The loop is `lax.fori_loop` with the number of steps as data, because a `lax.scan` would be compiled anew for every
length; the two took the same time a step at every batch size tried here. Convolutions are known to be slow in a loop's
body, and are run a step a call; they come in both layouts, and in the faster one with each pooling that won some task.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from contenders import common
from contenders.networks import POOL, RELU, TANH, Conv, Linear

CALLS, LOOP = "jit, a step a call", "jit, loop of steps"


class Form(NamedTuple):
    """How images are kept, and by what they are pooled."""

    nhwc: bool
    pooling: str

    @property
    def window(self) -> tuple[int, ...]:
        return (1, 2, 2, 1) if self.nhwc else (1, 1, 2, 2)

    def images(self, x: Any) -> Any:
        """From (n, channels, height, width) to this layout."""
        return x.transpose(0, 2, 3, 1) if self.nhwc and x.ndim == 4 else x

    def plain_images(self, x: Any) -> Any:
        """And back."""
        return x.transpose(0, 3, 1, 2) if self.nhwc and x.ndim == 4 else x

    def weight(self, array: Any) -> Any:
        """From (out, in, height, width) to (height, width, in, out), if that is the layout."""
        return array.transpose(2, 3, 1, 0) if self.nhwc and array.ndim == 4 else array

    def plain_weight(self, array: Any) -> Any:
        """And back."""
        return array.transpose(3, 2, 0, 1) if self.nhwc and array.ndim == 4 else array


FORMS = {
    ", NHWC": Form(True, "windows"),
    ", NHWC, pooling blocks": Form(True, "blocks"),
    ", NHWC, pooling slices": Form(True, "slices"),
    ", NCHW": Form(False, "windows"),
}
PLAIN = Form(False, "windows")


def variants(task: common.Task, n_threads: int, quick: bool) -> list[str]:
    if task.kind == "labels":
        return []  # what is timed there is estimators' own
    of_images = task.kind != "loss" and task.description.of_images
    steps = [CALLS] if of_images else [CALLS, LOOP]
    ways = steps if task.kind == "step" else ["jit"]
    forms = list(FORMS)[:2] if quick else list(FORMS)
    if of_images and POOL not in task.description.layers:
        forms = [form for form in forms if "pooling" not in form]
    return [way + form for way in ways for form in (forms if of_images else [""])]


def _split(variant: str) -> tuple[str, Form]:
    way = next(way for way in (CALLS, LOOP, "jit") if variant.startswith(way))
    return way, FORMS.get(variant.removeprefix(way), PLAIN)


def _parameters(task: common.Task, form: Form) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(form.weight(array)) for array in common.first_weights(task))


def _outputs(task: common.Task, form: Form, parameters: Any, x: Any) -> Any:
    remaining = iter(parameters)
    for layer in task.description.layers:
        if isinstance(layer, Linear):
            x = x @ next(remaining) + next(remaining)
        elif isinstance(layer, Conv):
            x = _convolution(x, next(remaining), next(remaining), layer.padding, form)
        elif layer == RELU:
            x = jnp.maximum(x, 0)
        elif layer == TANH:
            x = jnp.tanh(x)
        else:
            x = _max_pooling(x, form) if layer == POOL else form.plain_images(x).reshape(len(x), -1)
    return x


def _convolution(x: Any, weight: Any, bias: Any, padding: int, form: Form) -> Any:
    layout = ("NHWC", "HWIO", "NHWC") if form.nhwc else ("NCHW", "OIHW", "NCHW")
    out = lax.conv_general_dilated(x, weight, (1, 1), [(padding, padding)] * 2, dimension_numbers=layout)
    return out + (bias if form.nhwc else bias[:, None, None])


def _max_pooling(x: Any, form: Form) -> Any:
    if form.pooling == "windows":
        return lax.reduce_window(x, -jnp.inf, lax.max, form.window, form.window, "VALID")
    if form.pooling == "blocks":  # each window's two axes get an axis of their own
        n, height, width, channels = x.shape
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    return functools.reduce(jnp.maximum, [x[:, i::2, j::2] for i in range(2) for j in range(2)])


def _squared_error(out: Any, y: Any) -> Any:
    return ((out - y) ** 2).mean()


def _cross_entropy(logits: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()


class _Step:
    def __init__(self, task: common.Task, variant: str, data: common.Data) -> None:
        self.task, self.data = task, data
        self.way, self.form = _split(variant)
        x, y = common.training_set(task, data)
        self.x, self.y = (
            jnp.asarray(self.form.images(x)),
            jnp.asarray(y.astype(np.float32 if task.description.of_numbers else np.int32)),
        )
        self.state = common.first_state(task, _parameters(task, self.form), jnp.zeros_like, jnp.zeros(()))
        batch, form = task.batch, self.form
        full = self.full = batch == len(x)

        optimizer, lr = task.optimizer, common.learning_rate(task)
        criterion = _squared_error if task.description.of_numbers else _cross_entropy

        def losses(parameters: Any, x: Any, y: Any) -> Any:
            return criterion(_outputs(task, form, parameters, x), y)

        def update(state: Any, i: Any, x: Any, y: Any, order: Any) -> Any:
            if not full:
                rows = lax.dynamic_slice(order, (i * batch,), (batch,))
                x, y = x[rows], y[rows]
            return common.update(optimizer, lr, state, jax.grad(losses)(state[0], x, y))

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(state: Any, i: Any, x: Any, y: Any, order: Any) -> Any:
            return update(state, i, x, y, order), i + 1

        @functools.partial(jax.jit, donate_argnums=0)
        def loop(state: Any, count: Any, x: Any, y: Any, order: Any) -> Any:
            return lax.fori_loop(0, count, lambda i, s: update(s, i, x, y, order), state)

        self.step, self.loop = step, loop

    def run(self, count: int) -> None:
        order = np.zeros(len(self.x), np.int32)  # of one length: another would be compiled for
        if not self.full:
            order[: count * self.task.batch] = common.order(count * self.task.batch)
        order = jnp.asarray(order)
        if self.way == LOOP:
            self.state = self.loop(self.state, count, self.x, self.y, order)
        else:
            state, i = self.state, jnp.zeros((), jnp.int32)
            for _ in range(count):
                state, i = self.step(state, i, self.x, self.y, order)
            self.state = state
        jax.block_until_ready(self.state)

    def check(self) -> dict[str, float]:
        weights = [self.form.plain_weight(np.asarray(array)) for array in self.state[0]]
        return common.loss_after(self.task, weights, self.data)


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
    def __init__(self, task: common.Task, variant: str, data: common.Data) -> None:
        self.form = _split(variant)[1]
        self.x, self.parameters = jnp.asarray(self.form.images(common.inputs(task, data))), _parameters(task, self.form)
        self.function = jax.jit(functools.partial(_outputs, task, self.form))

    def run(self, count: int) -> None:
        for _ in range(count):
            self.out = jax.block_until_ready(self.function(self.parameters, self.x))

    def check(self) -> dict[str, float]:
        return common.inference_figures(self.form.plain_images(np.asarray(self.out)))


class _Gradients:
    def __init__(self, task: common.Task, variant: str, data: common.Data) -> None:
        form = self.form = _split(variant)[1]
        arrays = common.inputs(task, data), common.output_gradient(task)
        self.x, self.grad = (jnp.asarray(form.images(array)) for array in arrays)
        self.parameters = _parameters(task, form)

        @jax.jit
        def function(parameters: Any, x: Any, grad: Any) -> Any:
            out, backward = jax.vjp(functools.partial(_outputs, task, form), parameters, x)
            gradients, grad_x = backward(grad)  # what is not returned is not computed
            return out, gradients, grad_x if task.input_gradient else None

        self.function = function

    def run(self, count: int) -> None:
        for _ in range(count):
            self.out = jax.block_until_ready(self.function(self.parameters, self.x, self.grad))

    def check(self) -> dict[str, float]:
        out, (weight, bias), grad_x = self.out
        gradients = [self.form.plain_weight(np.asarray(weight)), np.asarray(bias)]
        if grad_x is not None:
            gradients.append(self.form.plain_images(np.asarray(grad_x)))
        return common.gradient_figures(self.form.plain_images(np.asarray(out)), gradients)


def make(task: common.Task, variant: str, data: common.Data, n_threads: int) -> Any:
    if task.kind == "loss":
        return _Loss(task.batch)
    kinds = {"step": _Step, "gradients": _Gradients}
    return kinds.get(task.kind, _Inference)(task, variant, data)
