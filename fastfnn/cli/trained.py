"""What ``MODEL`` names on the command line: a trained model, and what its training left to be known of it."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastfnn as ff
from fastfnn import tables
from fastfnn._paths import as_path
from fastfnn.cli import choices, classes, common, datasets, options, outputs, sources
from fastfnn.errors import FOREIGN, DataError, InvalidValueError, ModelFileError
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
    columns : list of Column, or None where the training's data had no named columns, or nobody knows
    target : Target or None
        Of a regression. The model gives the numbers themselves.
    """

    model: ff.Sequential
    outputs: int
    class_names: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    columns: list[tables.Column] | None = None
    target: datasets.Target | None = None

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
        for layer in model.chain:
            shape = layer.made_shape(shape or layer.taken_shape())
        if shape is None or len(shape) != 1 or shape[0] is None:
            raise ModelFileError(f"MODEL is {name!r}; expected a model that ends with an output for each class")
        known = path.is_dir() or file.name in (outputs.MODEL, outputs.CHECKPOINT)
        settings = file.parent / outputs.SETTINGS
        if not (known and settings.is_file()):
            return cls(model, shape[0])
        kept = _kept(settings, shape[0])
        if file.name == outputs.CHECKPOINT:  # within a training the numbers are standardised ones
            model = choices.in_own_units(model, kept["target"])
        trained = cls(model, shape[0], **kept)
        if file.name == outputs.MODEL and not _is_of(file.parent / outputs.FIGURES, trained.settings):
            raise ModelFileError(
                f"MODEL is {name!r}, whose {outputs.MODEL} is older than its {outputs.SETTINGS}: a later training did "
                f"not end; expected one that did, see fastfnn train --resume, or its {outputs.CHECKPOINT}"
            )
        return trained

    @property
    def is_binary(self) -> bool:
        """Whether a single output tells two classes apart."""
        return self.outputs == 1 and self.target is None

    @property
    def task(self) -> str:
        return classes.REGRESSION if self.target else classes.CLASSIFICATION

    @property
    def classes(self) -> int:
        return _classes(self.outputs, self.target)

    @property
    def size(self) -> str | None:
        """How large images were, such as 28x28."""
        shape = self.samples.get("shape", ())[1:]
        return self.settings.get("size") or ("x".join(map(str, shape[-2:])) if len(shape) > 1 else None)

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

    def taker(self, label: str | None = None, part: str | None = None) -> sources.Taker:
        """What data are read for."""
        return sources.Taker(
            self.classes,
            self.class_names,
            self.fits,
            label,
            self.size,
            self.settings.get("encoding"),
            part,
            self.columns,
            self.task,
            self.model.dtype.name,
        )

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


def _classes(outputs: int, target: datasets.Target | None) -> int:
    """How many classes a model tells apart: two where it has a single output, none where that is a number."""
    return 1 if target is not None else max(2, outputs)


def _kept(path: Path, n_outputs: int) -> dict[str, Any]:
    """What ``train --out`` wrote down, as far as `Trained` has it. It is data, and nothing in it is run."""
    try:
        read = json.loads(path.read_text("utf-8"))
        names, settings, arrays = read.get("class_names"), read.get("settings", {}), read.get("arrays", {})
        samples = arrays["x_train"] if arrays else {}
        options.sides(settings.get("size"))
        sound = all(isinstance(size, int) for size in samples.get("shape", ()))
        sound &= isinstance(settings.get("seed", 0), int)
        sound &= all(isinstance(settings.get(name, ""), str | None) for name in ("label", "validation"))
        if settings.get("encoding") is not None:
            options.encoding(settings["encoding"])
        sound &= names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
        listed = read.get("columns")
        columns = None if listed is None else [tables.Column.from_json(each) for each in listed]
        target = None if (numbers := read.get("target")) is None else datasets.Target(**numbers)
        if target is not None:
            sound &= n_outputs == 1 and all(math.isfinite(value) for value in (target.mean, target.std))
        if not sound:
            raise ValueError
    except (*FOREIGN, argparse.ArgumentTypeError):
        raise ModelFileError(f"MODEL: {path} is not what train --out has written") from None
    count = _classes(n_outputs, target)
    if names is not None and len(names) != count:
        raise ModelFileError(f"MODEL: {path} names {len(names)} classes; expected {count}, as the model has")
    # Without names they are called by their numbers, and by nothing else.
    names = tuple(names or map(str, range(count)))
    return {
        "class_names": names,
        "settings": settings,
        "samples": samples,
        "columns": columns,
        "target": target,
    }


# What the commands share that take one


def add_command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """Add a command that takes a model."""
    parser = commands.add_parser(name, help=text, allow_abbrev=False)
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="MODEL", help="the folder of train --out, or a file that ff.save wrote")
    return parser


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=common.positive_int, metavar="N", help="(default: as many as pay)")


def check_fit(trained: Trained, x: Any, name: str, hint: str = "") -> None:
    """Refuse samples that the model does not take; `name` is what ``--data`` is."""
    try:
        trained.model.output_shape(x.shape[1:])
    except InvalidValueError as error:
        came, was = ("x".join(map(str, shape or ())) for shape in (x.shape[1:], trained.shape))
        why = f"; expected {was}, as in training" if was else f", which MODEL does not take: {error}"
        raise DataError(f"--data is {name!r}; its samples have shape {came}{why}{hint}") from None


def target(argument: str, name: str, kinds: tuple[str, ...] = ()) -> Path:
    """Where a file is to be written; what can be known to fail fails now."""
    path = as_path(name, argument)
    if kinds and path.suffix.lower() not in kinds:
        raise InvalidValueError(f"{argument} is {name!r}; expected a {' or '.join(kinds)} file")
    if path.is_dir() or not path.parent.is_dir():
        problem = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InvalidValueError(f"{argument} is {name!r}; {problem}")
    return path
