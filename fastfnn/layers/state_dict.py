"""Parameters and buffers in PyTorch's names and layouts: behind `Sequential.state_dict` and `load_state_dict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers.base import Layer
from fastfnn.layers.normalization import COUNT

Array = NDArray[Any]


def state_dict(layers: Mapping[str, Layer]) -> dict[str, Array]:
    """Copies of all that the layers hold; the keys of `layers` are the first parts of the names."""
    return {name: view.copy() for name, view in _views(layers).items()}


class Keys(NamedTuple):
    """What `load_state_dict` has not found, and what it had no use for, as PyTorch's gives them."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_state_dict(layers: Mapping[str, Layer], state: Any, *, strict: bool) -> Keys:
    """Write `state` into the layers, or raise and write nothing: see `Sequential.load_state_dict`."""
    if not isinstance(state, Mapping):
        raise InvalidTypeError(f"state is {type(state).__name__}; expected a dict of arrays by name")
    views = _views(layers)
    found = {name: view for name, view in views.items() if name in state}
    missing = [name for name in views if name not in state and not name.endswith(f".{COUNT}")]
    keys, wrong = Keys(missing, [name for name in state if name not in views]), []
    if strict:
        wrong += [f"{name} is missing" for name in keys.missing_keys]
        wrong += [f"{name} is unexpected" for name in keys.unexpected_keys]
    converted = {}
    for name, view in found.items():
        try:
            converted[name] = _fitting(name, state[name], view)
        except (InvalidTypeError, InvalidValueError) as error:
            wrong.append(str(error))
    if wrong:
        raise InvalidValueError(f"state does not fit the model: {'; '.join(wrong)}")
    for name, array in converted.items():
        found[name][...] = array
    return keys


def _views(layers: Mapping[str, Layer]) -> dict[str, Array]:
    """What the layers hold, by PyTorch's names and in its layouts; writing into a view writes into its layer."""
    views = {}
    for place, layer in layers.items():
        views |= {f"{place}.{name}": array for name, array in layer.torch_arrays().items()}
    return views


def _fitting(name: str, value: Any, like: Array) -> Array:
    """`value` as a new array of the shape and dtype of `like`."""
    try:
        array = _as_array(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors without numbers
        raise InvalidTypeError(f"{name} is {type(value).__name__}, which is no array of numbers ({error})") from None
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected numbers")
    if array.shape != like.shape:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected {like.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(like.dtype)
    if (np.isfinite(array) & ~np.isfinite(converted)).any():
        raise InvalidValueError(f"{name} holds numbers that are too large for {like.dtype}")
    return converted


def _as_array(value: Any) -> Array:
    """`value` as an array; a tensor of PyTorch may need gradients, lie elsewhere or have a dtype that NumPy lacks."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value
    return np.asarray(value)
