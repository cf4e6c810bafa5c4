"""What ``--data`` names on the command line: a known data set, or a user's files, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn import tables
from fastfnn._paths import as_path
from fastfnn._text import count, few
from fastfnn.cli import arrays, classes, images, options
from fastfnn.cli.classes import CLASSIFICATION, MANY, REGRESSION
from fastfnn.cli.common import note
from fastfnn.cli.options import Reading
from fastfnn.data import DataNotFoundError, load_fashion_mnist, load_mnist, load_mnist_sample
from fastfnn.errors import DataError, InvalidValueError

Array = NDArray[Any]

SAMPLE = "mnist-sample"
LOADERS = {"mnist": load_mnist, "fashion-mnist": load_fashion_mnist}
#: Mean and standard deviation of the pixels, in [0, 1], of the official training images.
PIXELS = {SAMPLE: (0.1307, 0.3081), "mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}
#: What the folders of the parts are called.
FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class Part(NamedTuple):
    """Samples, and the numbers of their classes, or the numbers that they are to be predicted as."""

    x: Any
    y: Array

    def take(self, rows: NDArray[np.int64]) -> Part:
        x = self.x.take(rows) if isinstance(self.x, tables.Frame) else self.x[rows]
        return Part(x, self.y[rows])


@dataclass(frozen=True)
class Source:
    """What ``--data`` holds.

    Attributes
    ----------
    parts : dict of str to Part
        "train" and, where there are such, "val" and "test"; for a `Taker` the one that it asks for. A training's table
        is a `Frame` here, for its rows are still to be parted.
    kinds : tuple of str
        All the parts that there are.
    classes : int
        How many; 1 of a regression.
    class_names : tuple of str, or None where classes are called by their numbers
    columns : list of Column, or None where the data have no named columns
    label : str
        What the column of the classes, or of the numbers, is called, where there are columns.
    """

    name: str
    parts: dict[str, Part]
    kinds: tuple[str, ...]
    classes: int
    class_names: tuple[str, ...] | None = None
    columns: list[tables.Column] | None = None
    task: str = CLASSIFICATION
    label: str = ""

    @property
    def has_test(self) -> bool:
        """Whether there is a part that a training does not learn from."""
        return self.kinds != ("train",)


@dataclass(frozen=True)
class Taker:
    """The trained model that data are read for, or the training that they are to validate.

    Attributes
    ----------
    classes : int
    class_names : tuple of str, or None where they are not known
    fits : callable of (shape)
        Whether it takes samples of a shape.
    label, size, encoding : str, optional
        What ``--label``, ``--size`` and ``--encoding`` were in its training, which they are by default again.
    part : {"train", "test"}, optional
        What it asks for; by default the test set where there is one, else all there is.
    columns : list of Column, optional
        What its training has made of its columns.
    task : str
    dtype : str
        The model's.
    """

    classes: int
    class_names: tuple[str, ...] | None
    fits: Callable[[tuple[int, ...]], bool]
    label: str | None = None
    size: str | None = None
    encoding: str | None = None
    part: str | None = None
    columns: Sequence[tables.Column] | None = None
    task: str = CLASSIFICATION
    dtype: str = "float32"

    def kind(self, held: Sequence[str]) -> str:
        """The part that it asks for, of those that there are."""
        return "train" if self.part == "train" else next(kind for kind in ("test", "val", "train") if kind in held)


def read(name: str, reading: Reading = Reading(), taker: Taker | None = None) -> Source:  # noqa: B008 (it is frozen)
    """Read what ``--data`` and its options name: all of it, or what `taker` asks for."""
    if reading.root is not None and name not in LOADERS:
        raise InvalidValueError(f"--data-root is {reading.root!r}; expected only with --data {' or '.join(LOADERS)}")
    path = None if name in PIXELS else as_path(name, "--data")
    options.check(path, reading)
    if path is None:
        return Source(name, _known_set(name, reading.root), ("train", "test"), 10)
    if not path.exists():
        expected = f"expected {', '.join(PIXELS)}, a .npz or .csv file or another table, or a folder of images"
        raise DataError(f"--data is {name!r}; {'there is no such file' if path.suffix else expected}")
    if path.is_dir():
        return _folder(path, name, reading, taker)
    if tables.is_table(path):
        return _table(path, name, reading, taker)
    return _archive(path, name, reading, taker)


def _known_set(name: str, root: str | None) -> dict[str, Part]:
    if name == SAMPLE:
        train, test = load_mnist_sample()
    else:
        try:
            train, test = LOADERS[name](root)
        except DataNotFoundError as error:
            text = str(error).replace("pass root= a folder", "give --data-root a folder")
            raise DataError(text.replace("root lacks", "--data-root lacks")) from None
    for part, (x, _) in (("training", train), ("test", test)):
        if not len(x):
            raise DataError(f"--data-root is {root!r}; its {part} set is empty")
    return {"train": Part(*train), "test": Part(*test)}


def _archive(path: Path, name: str, reading: Reading, taker: Taker | None) -> Source:
    held_kinds: tuple[str, ...] = ("train",)
    task = (reading.task or CLASSIFICATION) if taker is None else taker.task
    targets = arrays.numbers if task == REGRESSION else arrays.labels

    def wanted(held: list[str]) -> list[str]:
        nonlocal held_kinds
        held_kinds = ("train", "test") if {"x_test", "y_test"} & set(held) else ("train",)
        kinds = held_kinds if taker is None else [taker.kind(held_kinds)]
        return [f"{axis}_{kind}" for kind in kinds for axis in "xy"]

    found = arrays.read_npz(path, name, wanted)
    parts = {}
    for kind in [key[2:] for key in found if key.startswith("x_")]:
        x, y = arrays.inputs(found[f"x_{kind}"], f"x_{kind}"), targets(found, f"y_{kind}")
        if len(x) != len(y):
            raise DataError(f"y_{kind} has {len(y)} rows; expected {len(x)}, as many as x_{kind}")
        parts[kind] = Part(x, y)
    if len(parts) == 2:
        x_train, x_test = parts["train"].x, parts["test"].x
        if x_test.shape[1:] != x_train.shape[1:]:
            shape = ", ".join(map(str, x_train.shape[1:]))
            raise DataError(f"x_test has shape {x_test.shape}; expected (n, {shape}), as x_train")
        if np.uint8 in (x_train.dtype, x_test.dtype) and x_train.dtype != x_test.dtype:
            raise DataError(f"x_test has dtype {x_test.dtype}; expected {x_train.dtype}, as x_train")
    if task == REGRESSION:
        return Source(path.name, parts, held_kinds, 1, task=task)
    counts = [int(part.y.max()) + 1 for part in parts.values()]
    counts += [y.shape[1] for key, y in found.items() if key.startswith("y_") and y.ndim == 2]
    if taker is None and max(counts) > MANY:
        note(f"the labels of {path.name} go up to {max(counts) - 1:,}, and each number up to it is a class")
    return Source(path.name, parts, held_kinds, max(counts))


# Tables


@dataclass(frozen=True)
class _Labels:
    """The labels of a table: what each is called, its rows, and where they are."""

    names: Sequence[str]
    codes: NDArray[np.int64]
    where: str
    column: str
    frame: tables.Frame | None = field(default=None, repr=False)

    def at(self, place: int) -> str:
        """Where the first row is that has the label."""
        row = int((self.codes == place).argmax())
        return f"row {row + 1}" if self.frame is None else self.frame.at(row)


def _table(path: Path, name: str, reading: Reading, taker: Taker | None) -> Source:
    where, label = f"--data is {name!r};", reading.label or (taker and taker.label)
    column = ""

    def choose(columns: list[str]) -> int:
        nonlocal column
        place = tables.label_place(columns, name, label)
        column = columns[place]
        return place

    x, columns, labels = read_table(path, name, choose, reading, taker)
    assert labels is not None
    found = _Labels(*labels, where, column, x if isinstance(x, tables.Frame) else None)
    if isinstance(x, tables.Frame) and taker is not None:
        x = prepared(x, columns, taker.dtype)
    task = classes.task_of(found.names, where, column, found.at, reading.task) if taker is None else taker.task
    if task == REGRESSION:
        y = classes.values(found.names, where, column, found.at)[found.codes]
        return Source(path.name, {"train": Part(x, y)}, ("train",), 1, None, columns, task, column)
    if taker is None:
        numbers, names = classes.numbered(found.names, where)
        if len(names) > MANY:
            other = "; --task regression predicts a number" if classes.are_numbers(names) else ""
            rows = f"{len(names):,} different values in {len(found.codes):,} rows"
            note(f"--label {column} has {rows}, and each is a class{other}")
    else:
        numbers, names = classes.known(found.names, where, found.at, taker.classes, taker.class_names)
    shown = None if classes.is_counted(names) else names
    part = Part(x, numbers[found.codes])
    return Source(path.name, {"train": part}, ("train",), len(names), shown, columns, task, column)


def read_table(
    path: Path, name: str, choose: Callable[[list[str]], int | None], reading: Reading, taker: Taker | None
) -> tuple[Any, list[tables.Column], tuple[Sequence[str], NDArray[np.int64]] | None]:
    """A table as pandas reads it, or without pandas its numbers; its columns; names and codes of its labels."""
    wanted = None if taker is None or taker.columns is None else list(taker.columns)
    if tables.has_pandas():
        encodings = [reading.encoding or ""]
        if not reading.encoding and taker is not None and taker.encoding:
            encodings.append(taker.encoding)
        frame = tables.read(path, name, choose, wanted, encodings)
        labels = None if frame.codes is None else (frame.names, frame.codes)
        return frame, wanted or tables.of_names(list(frame.data.columns)), labels
    if odd := next((column for column in wanted or () if not column.is_plain), None):
        raise DataError(
            f"MODEL was trained with the column {odd.name!r} as {odd.kind}, which needs the package pandas "
            '(pip install "fastfnn[tables]")'
        )
    if path.suffix.lower() != ".csv":
        raise DataError(f"--data is {name!r}; expected a .csv file{tables.NEEDS_PANDAS}")
    if reading.encoding is not None:
        raise InvalidValueError(
            f'--encoding is {reading.encoding!r}, which needs the package pandas (pip install "fastfnn[tables]")'
        )
    names = None if wanted is None else [column.name for column in wanted]
    table = tables.read_plain(path, name, choose, names)
    labels = None if table.codes is None else (table.names, table.codes)
    return table.x, wanted or tables.of_names(table.columns), labels


def prepared(frame: tables.Frame, columns: Sequence[tables.Column], dtype: str, quiet: bool = False) -> Array:
    """A table's numbers. Numbers as they are stay in double precision, as they are without pandas."""
    notes: list[str] = []
    x = tables.apply(frame, columns, np.float64 if all(column.is_plain for column in columns) else dtype, notes)
    for text in [] if quiet else notes:
        note(text)
    return x


# Folders of images


def _folder(path: Path, name: str, reading: Reading, taker: Taker | None) -> Source:
    folders = _parts_of(path)
    held = tuple(folders)
    wanted = held if taker is None else [taker.kind(held)]
    by_kind = {kind: images.image_classes(folders[kind], name) for kind in wanted}
    names = list(next(iter(by_kind.values())))
    for kind, found in by_kind.items():
        if surplus := sorted(set(found) - set(names)):
            raise DataError(
                f"--data is {name!r}; its {folders[kind].name} folder has the class {surplus[0]!r}, which its train "
                "folder lacks"
            )
    where = f"--data is {name!r};"
    if taker is None:
        numbers, ordered = classes.numbered(names, where)
    else:
        numbers, ordered = classes.known(names, where, lambda i: f"folder {names[i]}", taker.classes, taker.class_names)
    parts: dict[str, Part] = {}
    for kind, by_class in by_kind.items():
        y = np.repeat(numbers[[names.index(key) for key in by_class]], [len(found) for found in by_class.values()])
        every = [file for found in by_class.values() for file in found]
        like = parts["train"].x.shape[1:] if "train" in parts else None
        sides = options.sides(reading.size or (taker and taker.size))
        read = images.read_images(every, name, sides, taker and taker.fits, like, reading.strict)
        if reading.size is None:
            say_resized(read, sides)
        parts[kind] = Part(read.pixels, y[read.kept])
    shown = None if classes.is_counted(ordered) else ordered
    return Source(path.name or name, parts, held, len(ordered), shown)


def _parts_of(path: Path) -> dict[str, Path]:
    """The folders of training, validation and test images; what lies beside them is named."""
    train = path / "train"
    # A class may be called train, too; but then there are images in it.
    if not (train.is_dir() and any(inner.is_dir() for inner in images.visible(train))):
        return {"train": path}
    found = {}
    for kind, names in FOLDERS.items():
        for called in names:
            if (path / called).is_dir():
                found.setdefault(kind, path / called)
    if others := [inner.name for inner in images.visible(path) if inner.is_dir() and inner not in found.values()]:
        note(f"{path} holds {few(others)}, too, which {'is' if len(others) == 1 else 'are'} left aside")
    return found


def say_resized(read: images.Images, sides: tuple[int, ...] | None) -> None:
    """Say that images were not as large as those of the training."""
    if sides is not None and read.resized:
        size = "x".join(map(str, sides))
        were = "was" if read.resized == 1 else "were"
        note(f"{read.resized:,} of {count(len(read.kept), 'image')} {were} resized to {size}, as in training")


# Parts


def hold_out(part: Part, seed: Any, name: str) -> tuple[Part, Part]:
    """The data without a tenth that `seed` draws, and that tenth."""
    rows = len(part.y)
    if rows < 2:
        raise DataError(
            f"--data is {name!r}; it has 1 row and no test set; expected at least 2, to hold out one for testing"
        )
    order = np.random.default_rng(seed).permutation(rows)
    test, train = np.split(order, [max(1, round(rows / 10))])
    return part.take(train), part.take(test)
