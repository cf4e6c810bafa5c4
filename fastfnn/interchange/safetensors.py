"""Models on disk: a safetensors file with the architecture in its metadata. Loading never runs code from the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn import layers as layer_module
from fastfnn._paths import StrPath, as_path
from fastfnn.errors import FOREIGN, InvalidValueError, ModelFileError
from fastfnn.layers import Layer
from fastfnn.layers.base import UPDATE_SETTINGS
from fastfnn.model import Sequential, as_sequential
from fastfnn_kernels._files import write_in_one_step

Array = NDArray[Any]
KEY, FORMAT = "fastfnn", 1
#: What a checkpoint has besides a model: an entry of the metadata, and tensors whose names begin like this.
TRAINING, PREFIX = "fastfnn.training", "training."
#: Numbers that a file may lack: `restore` says best which. For more no memory is taken.
SOME_MORE = 1_000_000
LAYERS: dict[str, type[Layer]] = {name: getattr(layer_module, name) for name in layer_module.__all__ if name != "Layer"}
LAYERS[Sequential.__name__] = Sequential
#: What describes the layers that a layer holds, by their names.
CHILDREN = "children"
#: Layers within layers that a file may have.
DEEPEST = 50


def architecture(model: Sequential) -> dict[str, Any]:
    """The model without its parameters and buffers, as JSON has it."""
    described = [_described(layer, f"layers[{i}]") for i, layer in enumerate(model.layers)]
    return {"format": FORMAT, "dtype": str(model.dtype), "layers": described, **model.purpose()}


def _described(layer: Layer, place: str) -> dict[str, Any]:
    """A layer as JSON has it, with those that it holds; what is chained is a list."""
    if LAYERS.get(type(layer).__name__) is not type(layer):
        raise InvalidValueError(f"{place} is {layer!r}; only fastfnn's own layers can be saved")
    children = {name: _described(child, f"{place}.{name}") for name, child in layer.children().items()}
    more = {CHILDREN: children} if layer.holds_others else {}
    return {"layer": type(layer).__name__, **layer.config(), **layer.update_settings(), **more}


def save(model: Sequential, path: StrPath) -> None:
    """Write `model` to `path`, replacing it in one step: a reader sees the old file or the new, never half of one.

    Parameters
    ----------
    model : Sequential
        Of fastfnn's own layers.
    path : str or path
        By custom ``*.safetensors``.

    Raises
    ------
    InvalidValueError
        A layer is not one of fastfnn's.
    OSError
        The file cannot be written; nothing has changed.
    """
    as_sequential(model)
    write_in_one_step(as_path(path, "path"), to_bytes(model))


def to_bytes(
    model: Sequential,
    training: str | None = None,
    tensors: Mapping[str, Array] | None = None,
    entries: Mapping[str, str] | None = None,
) -> bytes:
    """The model's file; with `training`, that of a checkpoint, which has that entry and `tensors`, too.

    `entries` go into the metadata.
    """
    from safetensors.numpy import save as serialized

    metadata, arrays = {KEY: json.dumps(architecture(model)), **(entries or {})}, model.snapshot()
    if training is not None:
        metadata[TRAINING] = training
        arrays |= {PREFIX + name: np.asarray(array, order="C") for name, array in (tensors or {}).items()}
    return serialized(arrays, metadata)


def load(path: StrPath) -> Sequential:
    """Read a model that `save` or a `Checkpoint` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModelFileError
        The file is truncated, foreign, or its parameters and buffers do not fit its architecture.
    """
    return read(path).model


@dataclass
class Contents:
    """What is in a file: a model and, in a checkpoint, the rest of its training."""

    source: Path
    model: Sequential
    tensors: dict[str, Array]
    metadata: dict[str, str]

    @property
    def training(self) -> str | None:
        """The entry of a checkpoint."""
        return self.metadata.get(TRAINING)


def read(path: StrPath, argument: str = "path") -> Contents:
    """Read a file of `to_bytes`; raises as `load` does."""
    from safetensors import SafetensorError, safe_open

    source = as_path(path, argument)
    if not source.is_file():
        raise FileNotFoundError(f"{argument} is {str(source)!r}; there is no such file")
    try:
        with safe_open(source, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, *FOREIGN) as error:
        raise ModelFileError(f"{source} is no readable safetensors file: {error}") from None
    if KEY not in metadata:
        raise ModelFileError(f"{source} was not written by fastfnn: its metadata has no {KEY!r} entry")
    model, more = _from_architecture(source, metadata[KEY], tensors), {}
    if TRAINING in metadata:
        more = {name.removeprefix(PREFIX): tensors.pop(name) for name in [*tensors] if name.startswith(PREFIX)}
    try:
        model.restore(tensors)
    except InvalidValueError as error:
        raise ModelFileError(f"{source}: {error}") from None
    return Contents(source, model, more, metadata)


def _from_architecture(source: Path, text: str, tensors: Mapping[str, Array]) -> Sequential:
    """The model that `text` describes, its parameters at their start; it asks for no more memory than `tensors`."""
    try:
        described = json.loads(text)
        if described["format"] != FORMAT:
            raise ModelFileError(f"{source} has format {described['format']!r}; this version of fastfnn reads {FORMAT}")
        making = _Making(source, sum(array.size for array in tensors.values()))
        layers = [making.layer(entry) for entry in described["layers"]]
        model = Sequential(*layers, seed=0, dtype=described["dtype"])
        model.take_purpose(described)
        return model
    except ModelFileError:
        raise
    except FOREIGN as error:
        raise ModelFileError(f"{source} holds no architecture that fits this version of fastfnn: {error}") from None


@dataclass
class _Making:
    """Layers from their descriptions, for no more numbers than a file has."""

    source: Path
    held: int
    asked: int = 0

    def layer(self, entry: Mapping[str, Any], depth: int = 0) -> Layer:
        kind = LAYERS.get(entry["layer"])
        if kind is None or depth > DEEPEST:
            expected = f"one of {', '.join(LAYERS)}" if kind is None else f"at most {DEEPEST} layers within each other"
            raise ModelFileError(f"{self.source} holds the layer {entry['layer']!r}; expected {expected}")
        arguments = {name: value for name, value in entry.items() if name not in ("layer", CHILDREN, *UPDATE_SETTINGS)}
        children = {name: self.layer(child, depth + 1) for name, child in entry.get(CHILDREN, {}).items()}
        layer = kind.of_children(children, **arguments) if kind.holds_others else kind(**arguments)
        for name in UPDATE_SETTINGS & entry.keys():
            layer.take_setting(name, entry[name])
        self.asked += math.prod(layer.weight_shape)
        if self.asked > self.held + SOME_MORE:
            raise ModelFileError(
                f"{self.source} describes layers of {self.asked:,} numbers up to {layer!r}; it has {self.held:,}"
            )
        return layer
