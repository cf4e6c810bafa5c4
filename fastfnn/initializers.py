"""How weights start. An initializer is a callable ``(shape, rng) -> float64 array``; shape is (inputs, outputs).

The default fits the activation that follows: He for the ReLU family, LeCun for SELU, Xavier for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 1): the exercise's start, ten times too wide for a layer of a hundred inputs."""
    return rng.normal(0.0, 1.0, shape)


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """All zeros: for biases."""
    return np.zeros(shape)


BY_NAME: dict[str, Initializer] = {"he": he, "xavier": xavier, "lecun": lecun, "normal": normal, "zeros": zeros}


def initializer(name: str, value: Any) -> Any:
    """The initializer called `value`, or `value` itself where it is callable; `name` is the argument's, for errors."""
    if isinstance(value, str) and value in BY_NAME:
        return BY_NAME[value]
    if callable(value):
        return value
    error = InvalidValueError if isinstance(value, str) else InvalidTypeError
    raise error(f"{name} is {value!r}; expected a callable or one of {', '.join(map(repr, BY_NAME))}")
