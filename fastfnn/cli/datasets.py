"""What ``--data`` names on the command line: a known data set, or a user's files, checked before anything runs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn._paths import as_path
from fastfnn.cli import files
from fastfnn.cli.common import few
from fastfnn.data import DataNotFoundError, load_fashion_mnist, load_mnist, load_mnist_sample
from fastfnn.errors import DataError, InvalidValueError

Array = NDArray[Any]

SAMPLE = "mnist-sample"
LOADERS = {"mnist": load_mnist, "fashion-mnist": load_fashion_mnist}
#: Mean and standard deviation of the pixels, in [0, 1], of the official training images.
PIXELS = {SAMPLE: (0.1307, 0.3081), "mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}

_MAX_CLASSES = 1 << 16
_CHUNK = 1 << 20


class Part(NamedTuple):
    """Samples, and the numbers of their classes."""

    x: Array
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """What ``--data`` holds.

    Attributes
    ----------
    parts : dict of str to Part
        "train" and, where there is one, "test"; for a `Taker` the one that it asks for.
    has_test : bool
        Whether there is a test set.
    classes : int
    class_names : tuple of str, or None where classes are called by their numbers
    columns : list of str, or None where the data have no named columns
    """

    name: str
    parts: dict[str, Part]
    has_test: bool
    classes: int
    class_names: tuple[str, ...] | None = None
    columns: list[str] | None = None


@dataclass(frozen=True)
class Taker:
    """The trained model that data are read for.

    Attributes
    ----------
    classes : int
    class_names : tuple of str, or None where they are not known
    fits : callable of (shape)
        Whether it takes samples of a shape.
    label, size : str, optional
        What ``--label`` and ``--size`` were in its training, which they are by default again.
    part : {"train", "test"}, optional
        What it asks for; by default the test set where there is one, else all there is.
    columns : list of str, optional
        The names that the columns of its training had.
    """

    classes: int
    class_names: tuple[str, ...] | None
    fits: Callable[[tuple[int, ...]], bool]
    label: str | None = None
    size: str | None = None
    part: str | None = None
    columns: list[str] | None = None

    def kinds(self, has_test: bool) -> list[str]:
        return ["test"] if has_test and self.part != "train" else ["train"]


@dataclass(frozen=True)
class DataSet:
    """Training and test data, and how a `Normalize` layer takes them: ``(x * scale - mean) / std``.

    Samples that are rows of numbers, other than bytes, have a mean and a std for each column.
    """

    name: str
    x_train: Array
    y_train: NDArray[np.int64]
    x_test: Array
    y_test: NDArray[np.int64]
    classes: int
    mean: float | list[float]
    std: float | list[float]
    scale: float
    held_out: bool = False
    class_names: tuple[str, ...] | None = None
    columns: list[str] | None = None

    @property
    def noun(self) -> str:
        """What a row is called."""
        return "images" if self.x_train.ndim > 2 else "samples"

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.x_train.shape[1:]))
        test = "held-out test" if self.held_out else "test"
        return (
            f"{self.name}: {len(self.x_train):,} training and {len(self.x_test):,} {test} {self.noun}, "
            f"{shape} {self.x_train.dtype}, {self.classes} classes"
        )


def add_options(parser: argparse.ArgumentParser, **data: Any) -> None:
    """Add ``--data``, with `data` as further arguments of it, and the options that say how to read it."""
    add = parser.add_argument
    add("--data", metavar="NAME|FILE|FOLDER", **data)
    add("--data-root", metavar="DIR", help="folder that holds MNIST's or Fashion-MNIST's four files")
    add("--label", metavar="COLUMN", help=f"a .csv file's column of classes (default: {_either(files.LABELS)})")
    add("--size", type=size, metavar="HxW", help="resize the images of a folder, such as 28x28")


def size(text: str) -> str:
    """Height and width, checked; the text is kept, which settings are written down as."""
    if len(shape(text)) != 2:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected height and width, such as 28x28")
    if math.prod(shape(text)) > files.MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected at most {files.MOST_PIXELS:,} pixels")
    return text


def shape(text: str) -> tuple[int, ...]:
    """Sizes of at least 1, with an x between them."""
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected integers of at least 1, such as 28x28")
    return tuple(map(int, parts))


def sides(size: str | None) -> tuple[int, ...] | None:
    """Height and width as numbers."""
    return None if size is None else shape(size)


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def load(name: str, root: str | None, seed: int, label: str | None = None, size: str | None = None) -> DataSet:
    """Load what ``--data`` and its options name; `seed` draws the test set where there is none."""
    source = read(name, root, label, size)
    held_out = "test" not in source.parts
    train, test = hold_out(source, seed) if held_out else (source.parts["train"], source.parts["test"])
    if source.classes < 2:
        only = source.class_names[0] if source.class_names else "0"
        raise DataError(f"--data is {name!r}; all it holds is of class {only}; expected at least 2 classes")
    if name in PIXELS:
        (mean, std), scale = PIXELS[name], 1 / 255
    else:
        mean, std, scale = _standard(source, train.x)
    names = source.class_names, source.columns
    return DataSet(source.name, *train, *test, source.classes, mean, std, scale, held_out, *names)


def read(
    name: str,
    root: str | None = None,
    label: str | None = None,
    size: str | None = None,
    taker: Taker | None = None,
) -> Source:
    """Read what ``--data``, ``--data-root``, ``--label`` and ``--size`` name: all of it, or what `taker` asks for."""
    if root is not None and name not in LOADERS:
        raise InvalidValueError(f"--data-root is {root!r}; expected only with --data {' or '.join(LOADERS)}")
    path = None if name in PIXELS else as_path(name, "--data")
    check_options(path, label, size)
    if path is None:
        return Source(name, _known_set(name, root), True, 10)
    if not path.exists():
        expected = f"expected {', '.join(PIXELS)}, a .npz or .csv file, or a folder of images"
        raise DataError(f"--data is {name!r}; {'there is no such file' if path.suffix else expected}")
    if path.is_dir():
        return _folder(path, name, size or (taker and taker.size), taker)
    if path.suffix.lower() == ".csv":
        return _table(path, name, label or (taker and taker.label), taker)
    return _archive(path, name, taker)


def check_options(path: Path | None, label: str | None, size: str | None) -> None:
    """Refuse options that do not belong to the kind of data."""
    if label is not None and (path is None or path.suffix.lower() != ".csv"):
        raise InvalidValueError(f"--label is {label!r}; expected only where --data is a .csv file")
    if size is not None and (path is None or not (path.is_dir() or files.is_image(path))):
        raise InvalidValueError(f"--size is {size}; expected only where --data is a folder of images")


def hold_out(source: Source, seed: int) -> tuple[Part, Part]:
    """The training data without a tenth that `seed` draws, and that tenth."""
    x, y = source.parts["train"]
    if len(x) < 2:
        raise DataError(
            f"--data is {source.name!r}; it has 1 row and no test set; expected at least 2, to hold out one for testing"
        )
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = np.split(order, [max(1, round(len(order) / 10))])
    return Part(x[train], y[train]), Part(x[test], y[test])


# Sources


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


def _archive(path: Path, name: str, taker: Taker | None) -> Source:
    has_test = False

    def wanted(held: list[str]) -> list[str]:
        nonlocal has_test
        has_test = bool({"x_test", "y_test"} & set(held))
        kinds = ["train", "test"][: 1 + has_test] if taker is None else taker.kinds(has_test)
        return [f"{axis}_{kind}" for kind in kinds for axis in "xy"]

    arrays = files.read_npz(path, name, wanted)
    parts = {}
    for kind in [key[2:] for key in arrays if key.startswith("x_")]:
        x, y = inputs(arrays[f"x_{kind}"], f"x_{kind}"), _labels(arrays, f"y_{kind}")
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
    counts = [int(part.y.max()) + 1 for part in parts.values()]
    counts += [y.shape[1] for key, y in arrays.items() if key.startswith("y_") and y.ndim == 2]
    return Source(path.name, parts, has_test, max(counts))


def _table(path: Path, name: str, label: str | None, taker: Taker | None) -> Source:
    wanted = None if taker is None else taker.columns
    table = files.read_csv(path, name, lambda columns: files.label_place(columns, name, label), wanted)
    assert table.codes is not None
    for text in table.names if all(map(files.is_number, table.names)) else ():
        if not float(text).is_integer():
            raise DataError(f"--data is {name!r}; a class is {text}; expected text or integers for classes")
    if len(table.names) > _MAX_CLASSES:
        raise DataError(f"--data is {name!r}; it has {len(table.names)} classes; expected up to {_MAX_CLASSES}")
    numbers, class_names = _numbered(table.names, name, taker)
    part = Part(table.x, numbers[table.codes])
    return Source(path.name, {"train": part}, False, len(table.names), class_names, table.columns)


def _folder(path: Path, name: str, size: str | None, taker: Taker | None) -> Source:
    folders = {"train": path}
    # A class may be called train, too; but then there are images in it.
    if (path / "train").is_dir() and any(inner.is_dir() for inner in files.visible(path / "train")):
        folders = {kind: path / kind for kind in ("train", "test") if (path / kind).is_dir()}
    has_test = "test" in folders
    classes = {
        kind: files.image_classes(folders[kind], name) for kind in (folders if taker is None else taker.kinds(has_test))
    }
    names = list(next(iter(classes.values())))
    for surplus in set(classes.get("test", names)) - set(names):
        raise DataError(f"--data is {name!r}; its test folder has the class {surplus!r}, which its train folder lacks")
    numbers, class_names = _numbered(names, name, taker)
    parts: dict[str, Part] = {}
    for kind, by_class in classes.items():
        y = np.repeat(numbers[[names.index(key) for key in by_class]], [len(found) for found in by_class.values()])
        every = [file for found in by_class.values() for file in found]
        like = parts["train"].x.shape[1:] if "train" in parts else None
        parts[kind] = Part(files.read_images(every, name, sides(size), taker and taker.fits, like), y)
    return Source(path.name or name, parts, has_test, len(names), class_names)


# Classes and numbers


def _numbered(names: list[str], name: str, taker: Taker | None) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """The numbers of the classes called `names`, and the names of all classes, by number."""
    ordered = sorted(names, key=lambda text: (float(text), text)) if all(map(files.is_number, names)) else sorted(names)
    if taker is not None and taker.class_names is not None:
        ordered = list(taker.class_names)
    elif taker is not None and {*names} <= {*map(str, range(taker.classes))}:
        ordered = [str(i) for i in range(taker.classes)]
    elif taker is not None and len(names) != taker.classes:
        raise DataError(
            f"--data is {name!r}; it has {len(names)} classes ({few(ordered)}); expected the "
            f"{taker.classes} of MODEL, whose names are known where it is the folder of train --out"
        )
    places = {text: i for i, text in enumerate(ordered)}
    for text in names:
        if text not in places:
            raise DataError(f"--data is {name!r}; it has the class {text!r}; expected those of MODEL: {few(ordered)}")
    counted = ordered == [str(i) for i in range(len(ordered))]
    return np.array([places[text] for text in names], np.int64), None if counted else tuple(ordered)


def inputs(x: Array, key: str) -> Array:
    """Samples in rows, of a dtype that there are kernels for: uint8, float32 or float64."""
    if x.dtype.kind not in "fiub":
        raise DataError(f"{key} has dtype {x.dtype}; expected numbers")
    if x.ndim < 2 or not x.size:
        raise DataError(f"{key} has shape {x.shape}; expected (n, ...), a sample in each of at least one row")
    if x.dtype not in (np.uint8, np.float32, np.float64):
        x = x.astype(np.float64)
    x = np.ascontiguousarray(x)
    flat = x.reshape(-1)
    for start in range(0, flat.size if x.dtype.kind == "f" else 0, _CHUNK):
        finite = np.isfinite(flat[start : start + _CHUNK])
        if not finite.all():
            place = start + int(finite.argmin())
            row = place // math.prod(x.shape[1:])
            raise DataError(f"{key} holds {flat[place]} in row {row}; expected finite numbers")
    return x


def _labels(arrays: dict[str, Array], key: str) -> NDArray[np.int64]:
    """Class labels, from labels or one-hot rows."""
    y = arrays[key]
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "fiub":
        wrong = ((y != 0) & (y != 1)).any(axis=1) | (np.count_nonzero(y, axis=1) != 1)
        if wrong.any():
            raise DataError(
                f"{key} has the row {int(wrong.argmax())} with other than a single 1; expected one-hot rows"
            )
        return y.argmax(axis=1).astype(np.int64)
    if y.ndim != 1:
        raise DataError(f"{key} has shape {y.shape}; expected (n,) for labels or (n, classes) for one-hot rows")
    if y.dtype.kind not in "iub":
        raise DataError(f"{key} has dtype {y.dtype}; expected integer labels or one-hot rows")
    low, high = (int(y.min()), int(y.max())) if y.size else (0, 0)
    if low < 0 or high >= _MAX_CLASSES:
        raise DataError(
            f"{key} holds the label {low if low < 0 else high}; expected labels from 0 to {_MAX_CLASSES - 1}"
        )
    return y.astype(np.int64)


def _standard(source: Source, x: Array) -> tuple[Any, Any, float]:
    """Mean, std and scale of a `Normalize` layer: one mean and std of bytes and of images, else one of each column."""
    by_column = x.ndim == 2 and x.dtype != np.uint8
    mean, std = mean_and_std(x if by_column else x.reshape(-1, 1))
    odd = ~((std > 1e-30) & (std < 1e30) & (abs(mean) < 1e30 * std))
    if odd.any():
        i = int(odd.argmax())
        column = f"its column {source.columns[i]!r}" if source.columns else f"column {i} of x_train"
        raise DataError(
            f"--data is {source.name!r}; {column if by_column else 'x_train'} has mean {mean[i]:g} and standard "
            f"deviation {std[i]:g}; expected numbers nearer to 1"
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
