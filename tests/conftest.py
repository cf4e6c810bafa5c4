"""Fixtures that several test files use."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from _cli import NAMES, WriteNpz, blobs, train, write_csv, write_npz


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run, whatever ran before."""
    return np.random.default_rng(20240229)


@pytest.fixture
def npz(tmp_path: Path) -> WriteNpz:
    """Writes a data file for the command line, see `write_npz`."""
    return functools.partial(write_npz, tmp_path / "data.npz")


@pytest.fixture
def named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The folder of a training on a table with named classes, and the table."""
    x, y = blobs(48)
    table = write_csv(tmp_path / "table.csv", x, [NAMES[k] for k in y], "kind")
    folder = str(tmp_path / "trained")
    assert train(table, "--label", "kind", "--epochs", "30", "--seed", "5", "--quiet", "--out", folder) == 0
    capsys.readouterr()
    return folder, table
