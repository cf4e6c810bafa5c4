"""The arrays of a network as scikit-learn's attributes: lists that may be written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn.errors import InvalidValueError

Array = NDArray[Any]


class Arrays(list[Array]):
    """Views of a network's weights or biases. What is assigned to an element is written into the network.

    Raises
    ------
    InvalidValueError
        What is assigned has another shape, or is no array of numbers; nothing has changed.
    """

    def __init__(self, name: str, arrays: Iterable[Array]) -> None:
        super().__init__(arrays)
        self._name = name

    def __setitem__(self, place: SupportsIndex | slice, value: Any) -> None:
        write(self._name, self, place, value)

    def __reduce__(self) -> Any:  # copies are lists of arrays of their own, and have no network
        return list, (list(self),)


def write(name: str, arrays: list[Array], place: SupportsIndex | slice, value: Any) -> None:
    """Write one array, or as many as a slice has, into those that there are."""
    places = range(len(arrays))[place]
    if isinstance(places, int):
        places, value = (places,), [value]
    values = list(value)
    if len(values) != len(places):
        raise InvalidValueError(f"{name} gets {len(values)} arrays; expected {len(places)}, one a layer")
    checked = [_fitting(f"{name}[{i}]", each, arrays[i]) for i, each in zip(places, values, strict=True)]
    for i, each in zip(places, checked, strict=True):
        arrays[i][...] = each


def _fitting(name: str, value: ArrayLike, like: Array) -> Array:
    try:
        array = np.asarray(value).astype(like.dtype)  # a copy: it may be a view of what is written first
    except (TypeError, ValueError):
        raise InvalidValueError(f"{name} gets {value!r}; expected an array of numbers {like.shape}") from None
    if array.shape != like.shape:
        raise InvalidValueError(f"{name} gets an array of shape {array.shape}; expected {like.shape}")
    return array
