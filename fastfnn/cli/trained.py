"""What ``MODEL`` names on the command line: a trained model, and what its training left to be known of it."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastfnn as ff
from fastfnn._paths import as_path
from fastfnn.cli import datasets, outputs
from fastfnn.errors import FOREIGN, InvalidValueError, ModelFileError
from fastfnn.layers.base import KnownShape


@dataclass(frozen=True)
class Trained:
    """A model of a known number of classes.

    Attributes
    ----------
    model : Sequential
    outputs : int
    class_names : tuple of str, or None where they are not known
    settings : dict
        Options of the training; empty where they are not known.
    samples : dict
        What the training's samples were: "dtype" and "shape", which counts them first; empty where it is not known.
    columns : list of str, or None where the training's data had no named columns, or nobody knows
    """

    model: ff.Sequential
    outputs: int
    class_names: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    columns: list[str] | None = None

    @classmethod
    def read(cls, name: str) -> Trained:
        """Read a model's file, or the folder of ``train --out``."""
        path = as_path(name, "MODEL")
        file = path / outputs.MODEL if path.is_dir() else path
        if not file.is_file():
            lacks = f"it holds no {file.name}" if path.is_dir() else "there is no such file"
            raise ModelFileError(
                f"MODEL is {name!r}; {lacks}; expected the folder of train --out, or a file that ff.save wrote"
            )
        try:
            model = ff.load(file)
        except ModelFileError as error:
            raise ModelFileError(f"MODEL: {error}") from None
        shape: KnownShape | None = None
        for layer in model.layers:
            shape = layer.made_shape(shape or layer.taken_shape())
        if shape is None or len(shape) != 1 or shape[0] is None:
            raise ModelFileError(f"MODEL is {name!r}; expected a model that ends with an output for each class")
        known = path.is_dir() or file.name in (outputs.MODEL, outputs.CHECKPOINT)
        settings = file.parent / outputs.SETTINGS
        if not (known and settings.is_file()):
            return cls(model, shape[0])
        trained = cls(model, shape[0], *_kept(settings, max(2, shape[0])))
        if file.name == outputs.MODEL and not _is_of(file.parent / outputs.FIGURES, trained.settings):
            raise ModelFileError(
                f"MODEL is {name!r}, whose {outputs.MODEL} is older than its {outputs.SETTINGS}: a later training did "
                f"not end; expected one that did, see fastfnn train --resume, or its {outputs.CHECKPOINT}"
            )
        return trained

    @property
    def is_binary(self) -> bool:
        """Whether a single output tells two classes apart."""
        return self.outputs == 1

    @property
    def classes(self) -> int:
        return max(2, self.outputs)

    @property
    def size(self) -> str | None:
        """What images were resized to."""
        return self.settings.get("size")

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of a sample, as far as it is known."""
        if self.samples:
            return tuple(self.samples["shape"][1:])
        linear = next((layer for layer in self.model.layers if isinstance(layer, ff.Linear)), None)
        columns = {len(layer.mean) for layer in self._before_numbers() if isinstance(layer, ff.Normalize)}
        # A mean for each feature is one of a table's columns.
        return (linear.in_features,) if linear is not None and columns == {linear.in_features} != {1} else None

    @property
    def takes_bytes(self) -> bool:
        if self.samples:
            return self.samples["dtype"] == "uint8"
        return any(isinstance(layer, ff.Normalize) and layer.scale == 1 / 255 for layer in self._before_numbers())

    @property
    def flattens_first(self) -> bool:
        """Whether samples of many shapes fit, as the first layer that tells one comes after a `Flatten`."""
        return any(isinstance(layer, ff.Flatten) for layer in self._before_numbers())

    def _before_numbers(self) -> list[ff.Layer]:
        """The layers before the first that tells what samples it takes."""
        known = [layer.taken_shape() is not None for layer in self.model.layers]
        return self.model.layers[: known.index(True)] if True in known else self.model.layers

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the model takes samples of a shape."""
        try:
            self.model.output_shape(shape)
        except InvalidValueError:
            return False
        return True


def _is_of(figures: Path, settings: dict[str, Any]) -> bool:
    """Whether a model's figures are those of a training with these settings; how long it was does not matter."""
    try:
        came = json.loads(figures.read_text("utf-8"))["settings"]
        return all(came.get(name) == value for name, value in settings.items() if name not in ("epochs", "threads"))
    except (OSError, *FOREIGN):
        return True  # nothing is known


def _kept(path: Path, classes: int) -> tuple[tuple[str, ...] | None, dict[str, Any], dict[str, Any], list[str] | None]:
    """Names of the classes, options, what is known of the samples, and the columns, as ``train --out`` wrote them."""
    try:
        read = json.loads(path.read_text("utf-8"))
        names, settings, arrays = read.get("class_names"), read.get("settings", {}), read.get("arrays", {})
        samples = arrays["x_train"] if arrays else {}
        datasets.sides(settings.get("size"))
        sound = all(isinstance(size, int) for size in samples.get("shape", ()))
        sound &= isinstance(settings.get("label", ""), str | None) and isinstance(settings.get("seed", 0), int)
        columns = read.get("columns")
        for listed in (names, columns):
            sound &= listed is None or (isinstance(listed, list) and all(isinstance(name, str) for name in listed))
        if not sound:
            raise ValueError
    except (*FOREIGN, argparse.ArgumentTypeError):
        raise ModelFileError(f"MODEL: {path} is not what train --out has written") from None
    if names is not None and len(names) != classes:
        raise ModelFileError(f"MODEL: {path} names {len(names)} classes; expected {classes}, as the model has")
    return None if names is None else tuple(names), settings, samples, columns
