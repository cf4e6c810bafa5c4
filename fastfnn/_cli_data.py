"""What ``--data`` names on the command line: a known data set, or a user's .npz file, checked before anything runs."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn._paths import as_path
from fastfnn.data import DataNotFoundError, load_fashion_mnist, load_mnist, load_mnist_sample
from fastfnn.errors import DataError, InvalidValueError

Array = NDArray[Any]

SAMPLE = "mnist-sample"
LOADERS = {"mnist": load_mnist, "fashion-mnist": load_fashion_mnist}
#: Mean and standard deviation of the pixels, in [0, 1], of the official training images.
PIXELS = {SAMPLE: (0.1307, 0.3081), "mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}

# What numpy and zipfile raise for damaged, foreign or encrypted archives and for pickled members.
_UNREADABLE = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, MemoryError)
_MAX_CLASSES = 1 << 16
_CHUNK = 1 << 20


@dataclass(frozen=True)
class DataSet:
    """Training and test data, and how a `Normalize` layer takes them: ``(x * scale - mean) / std``."""

    name: str
    x_train: Array
    y_train: NDArray[np.int64]
    x_test: Array
    y_test: NDArray[np.int64]
    classes: int
    mean: float
    std: float
    scale: float
    held_out: bool = False

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


def load(name: str, root: str | None, seed: int) -> DataSet:
    """Load what ``--data`` and ``--data-root`` name; `seed` draws the test set where a file has none."""
    if root is not None and name not in LOADERS:
        raise InvalidValueError(f"--data-root is {root!r}; expected only with --data {' or '.join(LOADERS)}")
    if name not in PIXELS:
        return _load_file(name, seed)
    if name == SAMPLE:
        (x_train, y_train), (x_test, y_test) = load_mnist_sample()
    else:
        try:
            (x_train, y_train), (x_test, y_test) = LOADERS[name](root)
        except DataNotFoundError as error:
            text = str(error).replace("pass root= a folder", "give --data-root a folder")
            raise DataError(text.replace("root lacks", "--data-root lacks")) from None
    for part, x in (("training", x_train), ("test", x_test)):
        if not len(x):
            raise DataError(f"--data-root is {root!r}; its {part} set is empty")
    mean, std = PIXELS[name]
    return DataSet(name, x_train, y_train, x_test, y_test, 10, mean, std, 1 / 255)


def _load_file(name: str, seed: int) -> DataSet:
    path = as_path(name, "--data")
    arrays = _read_npz(path, name)
    x_train, y_train = _inputs(arrays, "x_train"), _labels(arrays, "y_train")
    _same_rows(x_train, y_train, "train")
    if held_out := "x_test" not in arrays:
        if len(x_train) < 2:
            raise DataError(
                "x_train has 1 row and there is no x_test; expected at least 2, to hold out one for testing"
            )
        order = np.random.default_rng(seed).permutation(len(x_train))
        test, train = np.split(order, [max(1, round(len(order) / 10))])
        x_train, y_train, x_test, y_test = x_train[train], y_train[train], x_train[test], y_train[test]
    else:
        x_test, y_test = _inputs(arrays, "x_test"), _labels(arrays, "y_test")
        _same_rows(x_test, y_test, "test")
        if x_test.shape[1:] != x_train.shape[1:]:
            shape = ", ".join(map(str, x_train.shape[1:]))
            raise DataError(f"x_test has shape {x_test.shape}; expected (n, {shape}), as x_train")
        if np.uint8 in (x_train.dtype, x_test.dtype) and x_train.dtype != x_test.dtype:
            raise DataError(f"x_test has dtype {x_test.dtype}; expected {x_train.dtype}, as x_train")
    widths = [arrays[key].shape[1] for key in ("y_train", "y_test") if key in arrays and arrays[key].ndim == 2]
    classes = max(int(y_train.max()) + 1, int(y_test.max()) + 1, *widths)
    if classes < 2:
        raise DataError("y_train holds the label 0 only; expected at least 2 classes")
    scale = 1 / 255 if x_train.dtype == np.uint8 else 1.0
    mean, std = mean_and_std(x_train)
    if not (1e-30 < std < 1e30 and abs(mean) < 1e30 * std):
        raise DataError(f"x_train has mean {mean:g} and standard deviation {std:g}; expected numbers nearer to 1")
    return DataSet(
        path.name, x_train, y_train, x_test, y_test, classes, mean * scale, std * scale, scale, held_out=held_out
    )


def _read_npz(path: Path, name: str) -> dict[str, Array]:
    """The arrays of the file that count here; without x_test and y_test where it has neither."""
    if not path.exists():
        known = f"expected {', '.join(PIXELS)} or a .npz file"
        raise DataError(f"--data is {name!r}; {'there is no such file' if path.suffix == '.npz' else known}")
    try:
        archive = np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataError(f"--data is {name!r}; it cannot be read: {error.strerror or error}") from None
    except _UNREADABLE:
        archive = None
    if archive is None or isinstance(archive, np.ndarray):  # an array: a .npy file
        raise DataError(f"--data is {name!r}; expected a .npz file, as numpy.savez writes it")
    with archive:
        held = ", ".join(archive.files[:8]) + (", ..." if len(archive.files) > 8 else "")
        wanted = ["x_train", "y_train", *(("x_test", "y_test") if {"x_test", "y_test"} & set(archive.files) else ())]
        arrays = {}
        for key in wanted:
            if key not in archive.files:
                raise DataError(f"--data is {name!r}; it lacks {key}: it holds {held or 'nothing'}")
            try:
                arrays[key] = np.asarray(archive[key])
            except (*_UNREADABLE, OSError) as error:
                raise DataError(f"--data is {name!r}; its {key} cannot be read: {error}") from None
    return arrays


def _inputs(arrays: dict[str, Array], key: str) -> Array:
    """Samples in rows, of a dtype that there are kernels for: uint8, float32 or float64."""
    x = arrays[key]
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


def _same_rows(x: Array, y: Array, part: str) -> None:
    if len(x) != len(y):
        raise DataError(f"y_{part} has {len(y)} rows; expected {len(x)}, as many as x_{part}")


def mean_and_std(x: Array) -> tuple[float, float]:
    """Mean and standard deviation of all numbers, in float64, chunk by chunk; a standard deviation of 0 becomes 1."""
    flat = x.reshape(-1)
    if flat.min() == flat.max():
        return float(flat[0]), 1.0
    count, mean, squares = 0, 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK].astype(np.float64)
            part_mean = float(part.mean())
            part -= part_mean
            # Chan's rule: the squared deviations of two sets from those of each, and the distance of their means
            difference, total = part_mean - mean, count + part.size
            squares += float(part @ part) + difference * difference * count * part.size / total
            mean += difference * part.size / total
            count = total
    return mean, math.sqrt(squares / count)
