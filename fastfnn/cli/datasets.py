"""What a training learns from: training, validation and test data, and how a network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn import tables
from fastfnn.cli import classes
from fastfnn.cli.common import note
from fastfnn.cli.options import Reading
from fastfnn.cli.sources import PIXELS, SAMPLE, Part, Source, Taker, hold_out, prepared, read
from fastfnn.errors import DataError

__all__ = ["PIXELS", "SAMPLE", "DataSet", "Target", "load", "mean_and_std", "read"]

Array = NDArray[Any]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Target:
    """The numbers that a regression predicts: a network learns ``(y - mean) / std``."""

    mean: float
    std: float

    @classmethod
    def of(cls, y: Array, where: str, label: str) -> Target:
        """Those of a training; `label` is what a table's column of them is called, empty where there are arrays."""
        mean, std = (values[0] for values in mean_and_std(y[:, None]))
        what = f"column {label!r}" if label else "y_train"
        if (y == y[0]).all():
            raise DataError(f"{where} its {what} is {y[0]:g} in every row of the training; expected several")
        if not (np.isfinite([mean, std]).all() and std > 1e-30):
            raise DataError(
                f"{where} its {what} has mean {mean:g} and standard deviation {std:g}; expected numbers nearer to 1"
            )
        return cls(float(mean), float(std))

    def standardised(self, y: Array, dtype: Any) -> Array:
        return ((y - self.mean) / self.std).astype(dtype)[:, None]


@dataclass(frozen=True)
class DataSet:
    """Training, validation and test data, and how a `Normalize` layer takes them: ``(x * scale - mean) / std``.

    Samples that are rows of numbers, other than bytes, have a mean and a std for each column.

    Attributes
    ----------
    x_val, y_val : arrays or None
        What is looked at after each epoch; None: the test data are.
    test : str
        What the test data are called: "test", "held-out test" or "validation".
    target : Target or None
        Of a regression.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: int
    mean: float | list[float]
    std: float | list[float]
    scale: float
    test: str = "test"
    class_names: tuple[str, ...] | None = None
    columns: list[tables.Column] | None = None
    x_val: Array | None = None
    y_val: Array | None = None
    target: Target | None = None
    label: str = ""

    @property
    def noun(self) -> str:
        """What a row is called."""
        return "images" if self.x_train.ndim > 2 else "samples"

    @property
    def task(self) -> str:
        return classes.REGRESSION if self.target else classes.CLASSIFICATION

    @property
    def held_out(self) -> bool:
        return self.test.startswith("held-out")

    @property
    def validation(self) -> tuple[Array, Array]:
        """What is looked at after each epoch."""
        return (self.x_test, self.y_test) if self.x_val is None or self.y_val is None else (self.x_val, self.y_val)

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.x_train.shape[1:]))
        held = [f"{len(self.x_train):,} training"]
        held += [] if self.x_val is None else [f"{len(self.x_val):,} validation"]
        held.append(f"{len(self.x_test):,} {self.test}")
        parts = f"{', '.join(held[:-1])} and {held[-1]} {self.noun}"
        number = f"the number {self.label!r}" if self.label else "a number to predict"
        aim = number if self.target else f"{self.classes} classes"
        return f"{self.name}: {parts}, {shape} {self.x_train.dtype}, {aim}"


def load(
    name: str,
    root: str | None,
    seed: int,
    label: str | None = None,
    size: str | None = None,
    *,
    encoding: str | None = None,
    task: str | None = None,
    strict: bool = False,
    validation: str | None = None,
    stops_early: bool = False,
    dtype: str = "float32",
) -> DataSet:
    """Load what ``--data`` and its options name.

    `seed` draws the test set where there is none, and what decides when to stop where nothing else can: what decides
    that is no test of what came of it.
    """
    reading = Reading(root, label, size, encoding, task, strict)
    source = read(name, reading)
    train, val, test, called = _parts(source, seed, validation is not None)
    if stops_early and val is None and validation is None:
        train, val = hold_out(train, [seed, 1], name)
    where = f"--data is {name!r};"
    if source.task == classes.CLASSIFICATION and source.classes < 2:
        only = source.class_names[0] if source.class_names else "0"
        raise DataError(f"{where} all it holds is of class {only}; expected at least 2 classes")
    target = Target.of(train.y, where, source.label) if source.task == classes.REGRESSION else None
    columns = source.columns
    if isinstance(train.x, tables.Frame):
        columns = tables.fit(train.x)
        # What is odd in them has been looked at just now, and is said with what was made of the columns.
        train = Part(prepared(train.x, columns, dtype, quiet=True), train.y)
        val, test = (part and Part(prepared(part.x, columns, dtype, quiet=True), part.y) for part in (val, test))
    if validation is not None:
        val = _validation(validation, reading, source, train, columns, dtype)
    if test is None:
        test, val = val, None
    assert test is not None
    if name in PIXELS:
        (mean, std), scale = PIXELS[name], 1 / 255
    else:
        mean, std, scale = _standard(where, train.x, columns)
    x_val, y_val = val or (None, None)
    return DataSet(
        source.name,
        train.x,
        train.y,
        test.x,
        test.y,
        source.classes,
        mean,
        std,
        scale,
        called,
        source.class_names,
        columns,
        x_val,
        y_val,
        target,
        source.label,
    )


def _parts(source: Source, seed: int, has_validation: bool) -> tuple[Part, Part | None, Part | None, str]:
    """Training, validation and test data, and what the last are called, which may be the second."""
    train, val, test = (source.parts.get(kind) for kind in ("train", "val", "test"))
    assert train is not None
    if has_validation and val is not None:
        note(f"the validation images of {source.name} are left aside, as --validation names others")
        val = None
    if test is None and (has_validation or val is not None):
        return train, val, None, "validation"
    if test is not None:
        return train, val, test, "test"
    return *_held_out(train, seed, source.name), "held-out test"


def _held_out(train: Part, seed: int, name: str) -> tuple[Part, None, Part]:
    train, test = hold_out(train, seed, name)
    return train, None, test


def _validation(
    name: str,
    reading: Reading,
    source: Source,
    train: Part,
    columns: Sequence[tables.Column] | None,
    dtype: str,
) -> Part:
    """What ``--validation`` names, as the training's data are."""
    shape = train.x.shape[1:]
    counted = tuple(map(str, range(source.classes)))
    taker = Taker(
        source.classes,
        source.class_names or counted,
        lambda came: came == shape,
        source.label or reading.label,
        reading.size or ("x".join(map(str, shape[-2:])) if len(shape) > 1 else None),
        reading.encoding,
        columns=columns,
        task=source.task,
        dtype=dtype,
    )
    try:
        found = read(name, Reading(strict=reading.strict), taker)
    except DataError as error:
        said = str(error).replace("--data is", "--validation is", 1).replace("of MODEL", "of --data")
        raise DataError(said) from None
    (part,) = found.parts.values() if len(found.parts) == 1 else (found.parts["test"],)
    if part.x.shape[1:] != shape:
        came, expected = ("x".join(map(str, sizes)) for sizes in (part.x.shape[1:], shape))
        raise DataError(f"--validation is {name!r}; its samples have shape {came}; expected {expected}, as --data")
    if np.uint8 in (part.x.dtype, train.x.dtype) and part.x.dtype != train.x.dtype:
        came, expected = part.x.dtype, train.x.dtype
        raise DataError(f"--validation is {name!r}; its samples are {came}; expected {expected}, as --data")
    if source.task == classes.CLASSIFICATION and part.y.max() >= source.classes:
        raise DataError(
            f"--validation is {name!r}; it holds the label {part.y.max()}; expected 0 to {source.classes - 1}"
        )
    return part


def _standard(where: str, x: Array, columns: Sequence[tables.Column] | None) -> tuple[Any, Any, float]:
    """Mean, std and scale of a `Normalize` layer: one mean and std of bytes and of images, else one of each column.

    What is 0 or 1, as the values of a text are, stays so.
    """
    by_column = x.ndim == 2 and x.dtype != np.uint8
    names = [column.name for column in columns or () for _ in range(column.width)]
    scaled = np.ones(x.shape[1] if by_column else 1, bool)
    if columns is not None:
        scaled = np.array([scales for column in columns for scales in column.scales])
    mean, std = np.zeros(len(scaled)), np.ones(len(scaled))
    if scaled.any():
        part = x if scaled.all() else x[:, scaled]
        mean[scaled], std[scaled] = mean_and_std(part if by_column else part.reshape(-1, 1))
    odd = ~((std > 1e-30) & (std < 1e30) & (abs(mean) < 1e30 * std))
    if odd.any():
        i = int(odd.argmax())
        column = f"its column {names[i]!r}" if names else f"column {i} of x_train"
        raise DataError(
            f"{where} {column if by_column else 'x_train'} has mean {mean[i]:g} and standard deviation {std[i]:g}; "
            "expected numbers nearer to 1"
        )
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    mean, std = mean * scale, std * scale
    return (mean.tolist(), std.tolist(), scale) if by_column else (float(mean[0]), float(std[0]), scale)


def mean_and_std(x: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column, in float64, chunk by chunk; a standard deviation of 0 becomes 1."""
    count, mean, squares = 0, np.zeros(x.shape[1]), np.zeros(x.shape[1])
    rows = max(1, _CHUNK // x.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(x), rows):
            part = x[start : start + rows].astype(np.float64)
            part_mean = part.mean(axis=0)
            part -= part_mean
            # Chan's rule: the squared deviations of two sets from those of each, and the distance of their means
            difference, total = part_mean - mean, count + len(part)
            squares += np.einsum("ij,ij->j", part, part) + difference * difference * (count * len(part) / total)
            mean += difference * (len(part) / total)
            count = total
    low, constant = x[0].astype(np.float64), x.min(axis=0) == x.max(axis=0)
    return np.where(constant, low, mean), np.where(constant, 1.0, np.sqrt(squares / count))
