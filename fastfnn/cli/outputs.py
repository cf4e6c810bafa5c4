"""The folder of ``train --out``: what a training writes there, and what ``train --resume`` reads."""

from __future__ import annotations

import json
import math
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import fastfnn as ff
from fastfnn import _paths
from fastfnn.cli.datasets import DataSet
from fastfnn.errors import FOREIGN, InvalidValueError, ModelFileError
from fastfnn.history import History
from fastfnn.interchange.safetensors import to_bytes
from fastfnn.training.callbacks.logs import as_csv
from fastfnn_kernels._files import write_in_one_step, write_together

MODEL, FIGURES, CURVES, REPORT = "model.safetensors", "history.json", "history.csv", "report.html"
#: These two are there from the beginning.
SETTINGS, CHECKPOINT = "settings.json", "checkpoint.safetensors"
FILES = (REPORT, MODEL, CURVES, FIGURES, SETTINGS, CHECKPOINT)


def writable(argument: str, name: str) -> Path:
    """The folder that `argument` names, made where it is missing; found out now rather than after the training."""
    folder = _paths.as_path(name, argument)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for file in FILES:
            if (folder / file).is_dir():
                raise InvalidValueError(f"{argument} is {name!r}; its {file} is a folder")
    except OSError as error:
        raise InvalidValueError(f"{argument} is {name!r}; cannot write there: {error.strerror or error}") from None
    return folder


def check_unfinished(name: str, overwrite: bool | None) -> None:
    """Refuse to replace a finished training that nobody said may go; `name` is the folder's."""
    if not overwrite and (_paths.as_path(name, "--out") / MODEL).exists():
        raise InvalidValueError(
            f"--out is {name!r}, which holds a finished training; expected another folder, or --overwrite to replace "
            "it (--resume goes on with it)"
        )


def begin(folder: Path, settings: dict[str, Any], resumed: bool) -> None:
    """Write the settings; what was trained with others cannot go on from here."""
    payload = _json(settings).encode()
    if not resumed:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    write_in_one_step(folder / SETTINGS, payload)


def write(
    folder: Path, model: ff.Sequential, history: History, settings: dict[str, Any], figures: dict[str, Any]
) -> None:
    """Write what came of the training: all files are complete before any takes its place. An older report goes."""
    texts = {
        CURVES: as_csv(history),
        FIGURES: _json({**figures, "history": history.columns()}),
        SETTINGS: _json(settings),
    }
    files = {MODEL: to_bytes(model), **{name: _encoded(text) for name, text in texts.items()}}
    write_together({folder / name: payload for name, payload in files.items()})
    (folder / REPORT).unlink(missing_ok=True)


def write_report(folder: Path, page: str) -> None:
    write_in_one_step(folder / REPORT, _encoded(page))


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def arrays(data: DataSet) -> dict[str, Any]:
    """What tells the training and test data from any others."""
    names = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
    held = {name: np.ascontiguousarray(array) for name in names if (array := getattr(data, name)) is not None}
    return {
        name: {"dtype": str(array.dtype), "shape": list(array.shape), "crc32": zlib.crc32(array.data)}
        for name, array in held.items()
    }


def check_unchanged(name: str, was: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other data; `name` is the folder's."""
    for key, array in now.items():
        if array == was.get(key):
            continue
        if key not in was:
            raise InvalidValueError(f"--resume is {name!r}, and its training had no {key}")
        came, before = (f"{each['dtype']} {tuple(each['shape'])}" for each in (array, was[key]))
        what = f"{key} is {came}, and was {before}" if came != before else f"{key} holds other numbers"
        raise InvalidValueError(f"--resume is {name!r}, and the data are not those of its training: {what}")


def read_settings(name: str) -> dict[str, Any]:
    """Read the settings of a training that has a checkpoint; `name` is the folder's."""
    folder = _paths.as_path(name, "--resume")
    if not folder.is_dir():
        raise InvalidValueError(f"--resume is {name!r}; expected a folder that train --out has made")
    for file in (SETTINGS, CHECKPOINT):
        if not (folder / file).is_file():
            raise InvalidValueError(
                f"--resume is {name!r}, which holds no {file}; expected the folder of a train --out that has finished "
                "an epoch"
            )
    try:
        read = json.loads((folder / SETTINGS).read_text("utf-8"))
        if not (isinstance(read["settings"], dict) and all(_is_array(one) for one in read["arrays"].values())):
            raise ValueError
    except FOREIGN:
        raise damaged(name, "it is not what train --out has written") from None
    return read


def damaged(name: str, why: object) -> ModelFileError:
    return ModelFileError(f"--resume is {name!r}; its {SETTINGS} is damaged: {why}")


def _is_array(described: Any) -> bool:
    return described.keys() == {"dtype", "shape", "crc32"} and isinstance(described["shape"], list)


def _json(value: Any) -> str:
    return json.dumps(_finite(value), indent=2) + "\n"


def _finite(value: Any) -> Any:
    """`value` with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
