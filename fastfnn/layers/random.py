"""What layers that draw random numbers in training have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn.layers.base import Array, Layer


class RandomLayer(Layer):
    """Base of layers that change what comes at random in training, and do nothing in inference.

    What is drawn is a function of `seed`, `step` and a place in the batch, so it is never stored, and does not depend
    on the number of threads.

    Attributes
    ----------
    seed : int
        Drawn from the model's generator where none was given.
    step : int
        Forwards in training so far. Each draws anew; put the number back to see the same again.
    """

    precedes_activation = True
    #: Forward and backward, of an array, `arguments`, seed and step.
    functions: ClassVar[tuple[Callable[..., Array], Callable[..., Array]]]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self.seed = None if seed is None else check.counter("seed", seed)
        #: (1,) int64: `step`, where compiled programs find it.
        self.counter = np.zeros(1, np.int64)

    def settings(self) -> dict[str, Any]:
        """`config` without the seed."""
        raise TypeError(f"{type(self).__name__} has no settings")

    def arguments(self) -> tuple[Any, ...]:
        """What `functions` take between the array and the seed."""
        return tuple(self.settings().values())

    @property
    def step(self) -> int:
        return int(self.counter[0])

    @step.setter
    def step(self, value: int) -> None:
        self.counter[0] = check.counter("step", value)

    def build(self, rng: np.random.Generator, dtype: Any = "float32", activation: str | None = None) -> None:
        super().build(rng, dtype, activation)
        if self.seed is None:
            self.seed = int(rng.integers(2**31))

    def forward(self, x: ArrayLike) -> Array:
        x = check.float_array("x", x, dtype=self.dtype)
        self.output_shape(x.shape[1:])
        if self.seed is None:
            self.build(np.random.default_rng(), self.dtype)
        self._saved = (self.training, self.step)
        if not self.training:
            return x
        self.step += 1
        return self.functions[0](x, *self.arguments(), self.seed, self.step - 1)

    def backward(self, grad_out: ArrayLike) -> Array:
        drawn, step = self.saved
        grad = check.float_array("grad_out", grad_out, dtype=self.dtype)
        return self.functions[1](grad, *self.arguments(), self.seed, step) if drawn else grad

    def config(self) -> dict[str, Any]:
        return self.settings() if self.seed is None else {**self.settings(), "seed": self.seed}

    def to_onnx(self, graph: Any) -> None:
        """Nothing: the graph is for inference."""
