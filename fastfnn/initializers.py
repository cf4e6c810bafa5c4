"""How weights start. An initializer is a callable ``(shape, rng) -> float64 array``; shape is (inputs, outputs).

The default fits the activation that follows: He for the ReLU family, LeCun for SELU, Xavier for everything else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError

Initializer = Callable[[tuple[int, ...], np.random.Generator], NDArray[np.float64]]


def he(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 2 / inputs): keeps the variance through a ReLU (He et al. 2015)."""
    return rng.normal(0.0, math.sqrt(2.0 / max(1, shape[0])), shape)


def xavier(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform with variance 2 / (inputs + outputs), for sigmoid, tanh and softmax (Glorot & Bengio 2010)."""
    bound = math.sqrt(6.0 / max(1, shape[0] + shape[-1]))
    return rng.uniform(-bound, bound, shape)


def lecun(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 1 / inputs): keeps the variance through a SELU (LeCun et al. 1998, Klambauer et al. 2017)."""
    return rng.normal(0.0, math.sqrt(1.0 / max(1, shape[0])), shape)


def normal(shape: Any, rng: Any = None) -> Any:
    """N(0, 1): the exercise's start, ten times too wide for a layer of a hundred inputs.

    ``normal(std)`` is an initializer that draws N(0, std²).
    """
    if rng is None:
        return functools.partial(_normal, std=check.real("std", shape, least=0))
    return rng.normal(0.0, 1.0, shape)


def _normal(shape: tuple[int, ...], rng: np.random.Generator, *, std: float) -> NDArray[np.float64]:
    return rng.normal(0.0, std, shape)


def constant(value: float) -> Initializer:
    """An initializer that makes all of it this value."""
    return functools.partial(_constant, value=check.real("value", value))


def _constant(shape: tuple[int, ...], rng: np.random.Generator, *, value: float) -> NDArray[np.float64]:
    return np.full(shape, value)


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Columns that are orthogonal and of length 1, or rows where these are fewer (Saxe et al. 2014)."""
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # else they are not spread alike over all directions
    return (q if rows >= columns else q.T).reshape(shape)


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """All zeros: for biases."""
    return np.zeros(shape)


BY_NAME: dict[str, Initializer] = {"he": he, "xavier": xavier, "lecun": lecun, "normal": normal, "zeros": zeros}


def ones(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """All ones."""
    return np.ones(shape)


@dataclass(frozen=True)
class VarianceScaling:
    """Mean 0 and the variance ``scale / fan``, whatever the distribution.

    Attributes
    ----------
    scale : float
    mode : {"fan_in", "fan_avg"}
        The fan is the number of inputs of an output, or the mean of this and the number of outputs of an input.
    distribution : {"uniform", "normal", "truncated_normal"}
        A truncated one has nothing beyond two deviations of what it was before.
    """

    scale: float
    mode: str
    distribution: str

    def __call__(
        self, shape: tuple[int, ...], rng: np.random.Generator, fan_out: int | None = None
    ) -> NDArray[np.float64]:
        """`fan_out` is shape[-1] by default; of a convolution it is that times the kernel's pixels."""
        fan = shape[0] if self.mode == "fan_in" else (shape[0] + (fan_out or shape[-1])) / 2
        deviation = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            bound = math.sqrt(3.0) * deviation
            return rng.uniform(-bound, bound, shape)
        drawn = rng.normal(size=shape)
        if self.distribution == "normal":
            return deviation * drawn
        while (beyond := np.abs(drawn) > 2).any():
            drawn[beyond] = rng.normal(size=np.count_nonzero(beyond))
        return deviation / TRUNCATED * drawn


#: Deviation of a normal distribution without what lies beyond two of its deviations.
TRUNCATED = 0.8796256610342398

# As Keras and PyTorch call them. Of normal ones, Keras' names are truncated, PyTorch's are not; both have variances of
# 2 / fan_in (He et al. 2015), 1 / fan_avg (Glorot & Bengio 2010) and 1 / fan_in (LeCun et al. 1998).
BY_NAME |= {
    "he_uniform": VarianceScaling(2.0, "fan_in", "uniform"),
    "he_normal": VarianceScaling(2.0, "fan_in", "truncated_normal"),
    "kaiming_uniform": VarianceScaling(2.0, "fan_in", "uniform"),
    "kaiming_normal": VarianceScaling(2.0, "fan_in", "normal"),
    "glorot_uniform": VarianceScaling(1.0, "fan_avg", "uniform"),
    "glorot_normal": VarianceScaling(1.0, "fan_avg", "truncated_normal"),
    "xavier_uniform": VarianceScaling(1.0, "fan_avg", "uniform"),
    "xavier_normal": VarianceScaling(1.0, "fan_avg", "normal"),
    "lecun_uniform": VarianceScaling(1.0, "fan_in", "uniform"),
    "lecun_normal": VarianceScaling(1.0, "fan_in", "truncated_normal"),
    "orthogonal": orthogonal,
    "ones": ones,
}


def initializer(name: str, value: Any) -> Any:
    """The initializer called `value`, or `value` itself where it is callable; `name` is the argument's, for errors."""
    if isinstance(value, str) and value in BY_NAME:
        return BY_NAME[value]
    check.instance(name, value)
    if callable(value):
        return value
    error = InvalidValueError if isinstance(value, str) else InvalidTypeError
    raise error(f"{name} is {value!r}; expected a callable or one of {', '.join(map(repr, BY_NAME))}")
