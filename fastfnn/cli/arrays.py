"""Arrays in .npz and .npy files; what is wrong is said with its place."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn._text import few
from fastfnn.data.idx import DEFLATE_MAX_RATIO
from fastfnn.errors import DataError

Array = NDArray[Any]

MOST_CLASSES = 1 << 16
_CHUNK = 1 << 20


def read_npz(path: Path, name: str, choose: Callable[[list[str]], Sequence[str]]) -> dict[str, Array]:
    """The arrays of a .npz file that `choose` picks from the names of all."""
    archive = _loaded(path, name)
    if archive is None or isinstance(archive, np.ndarray):  # an array: a .npy file
        raise DataError(f"--data is {name!r}; expected a .npz file, as numpy.savez writes it")
    with archive:
        held = few(archive.files)
        arrays = {}
        for key in choose(archive.files):
            if key not in archive.files:
                raise DataError(f"--data is {name!r}; it lacks {key}: it holds {held or 'nothing'}")
            try:
                _check_member(archive, key)
                arrays[key] = np.asarray(archive[key])
            except Exception as error:  # numpy and zipfile meet what is wrong in a file as many kinds of error
                raise DataError(f"--data is {name!r}; its {key} cannot be read: {error}") from None
    return arrays


def _check_member(archive: Any, key: str) -> None:
    """Refuse a member that promises more than it can hold: NumPy takes the memory before it reads."""
    infos = {info.filename: info for info in archive.zip.infolist()}
    info = infos.get(f"{key}.npy", infos.get(key))
    if info is None:
        return
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("expected a member as numpy.savez or numpy.savez_compressed writes it")
    with archive.zip.open(info) as file:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"its format is {version}; expected one of {', '.join(map(str, readers))}")
        shape, _, dtype = readers[version](file)
    promised = math.prod(shape) * dtype.itemsize
    if promised > min(info.file_size, DEFLATE_MAX_RATIO * info.compress_size):
        raise ValueError(f"its header promises {promised:,} bytes, it holds {info.compress_size:,}")


def read_npy(path: Path, name: str) -> Array:
    loaded = _loaded(path, name)
    if not isinstance(loaded, np.ndarray):
        raise DataError(f"--data is {name!r}; expected a .npy file, as numpy.save writes it")
    return loaded


def _loaded(path: Path, name: str) -> Any:
    """What numpy makes of a file; None where it can make nothing of it."""
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataError(f"--data is {name!r}; it cannot be read: {error.strerror or error}") from None
    except Exception:
        return None


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


def labels(arrays: dict[str, Array], key: str) -> NDArray[np.int64]:
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
        other = " (train --task regression learns to predict numbers)" if y.dtype.kind == "f" else ""
        raise DataError(f"{key} has dtype {y.dtype}; expected integer labels or one-hot rows{other}")
    low, high = (int(y.min()), int(y.max())) if y.size else (0, 0)
    if low < 0 or high >= MOST_CLASSES:
        raise DataError(
            f"{key} holds the label {low if low < 0 else high}; expected labels from 0 to {MOST_CLASSES - 1}"
        )
    return y.astype(np.int64)


def numbers(arrays: dict[str, Array], key: str) -> NDArray[np.float64]:
    """The numbers that a regression predicts, one a row."""
    y = arrays[key]
    if y.ndim != 1 and y.shape[1:] != (1,):
        raise DataError(f"{key} has shape {y.shape}; expected (n,) or (n, 1), a number to predict in each row")
    if y.dtype.kind not in "fiub":
        raise DataError(f"{key} has dtype {y.dtype}; expected numbers")
    y = y.reshape(-1).astype(np.float64)
    odd = ~np.isfinite(y)
    if odd.any():
        raise DataError(f"{key} holds {y[odd][0]} in row {int(odd.argmax())}; expected finite numbers")
    return y
