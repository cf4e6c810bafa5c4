"""What the tests of the command line share: a small data set, a quick training, what it printed."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import cli

WriteNpz = Callable[..., str]
#: Names of the blobs' classes.
NAMES = ["red", "blue", "green"]
LAST_LINE = re.compile(r"test accuracy (\d+\.\d\d) %")


def blobs(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that any working network tells apart: float32 (rows, 6), int64 (rows,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(rows) % 3)
    x = rng.normal(size=(rows, 6)) + 8 * np.eye(3, 6)[y]
    return x.astype(np.float32), y.astype(np.int64)


def write_npz(path: Path, **members: Any) -> str:
    """Write a data file: the blobs, with members replaced, or left out where None."""
    x_train, y_train = blobs(48)
    x_test, y_test = blobs(30, seed=1)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test} | members
    kept: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
    np.savez(path, **kept)
    return str(path)


def write_csv(path: Path, x: np.ndarray, labels: Sequence[object] | None, label: str = "label") -> str:
    """Write a table with the columns a, b, …, and the classes in the second of them."""
    columns = [chr(ord("a") + i) for i in range(x.shape[1])]
    rows: list[list[object]] = [[float(value) for value in row] for row in x]
    if labels is not None:
        columns.insert(1, label)
        for row, name in zip(rows, labels, strict=True):
            row.insert(1, name)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return str(path)


def write_image(path: Path, pixels: np.ndarray, mode: str = "L") -> str:
    """Write an image from (height, width) or (3, height, width) bytes."""
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)).convert(mode).save(path)
    return str(path)


def rows(text: str) -> list[list[str]]:
    """The cells of a .csv file."""
    return list(csv.reader(io.StringIO(text)))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert "error" not in captured.err
    return captured.out


def mlp(outputs: int = 3, *last: ff.Layer, features: int = 6, **options: Any) -> ff.Sequential:
    """A model that has learnt nothing, and gives every class to some."""
    return ff.Sequential(ff.Linear(features, 5), ff.Tanh(), ff.Linear(5, outputs), *last, seed=2, **options)


def saved(path: Path, model: ff.Sequential) -> str:
    ff.save(model, path)
    return str(path)


def train(data: str, *options: str) -> int:
    return cli.main(["train", "--data", data, "--hidden", "8", "--batch-size", "8", "--epochs", "3", *options])


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands in the one line on stderr."""
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("fastfnn: error: ")
    assert "test accuracy" not in captured.out
    return captured.err


def table(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith(("train ", "test "))]


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 300} | options
    return subprocess.run([sys.executable, *command], check=False, **options)


def interrupted(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt
