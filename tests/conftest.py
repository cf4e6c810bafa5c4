"""Fixtures that several test files use."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from _cli import NAMES, WriteNpz, blobs, train, write_csv, write_npz

from fastfnn.engine import program
from fastfnn.functional import _run


class AllThreads:
    """In place of `fastfnn.engine.pace.Pace`: whatever is faster, all threads that were asked for do their part."""

    def __init__(self, team_size: int, mishaps: float) -> None:
        self.team_size = team_size

    def choose(self) -> tuple[int, float]:
        return self.team_size, 1.0

    def note(self, size: int, seconds: float) -> None:
        pass


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads are at work on any machine, for results must not depend on them."""
    monkeypatch.setattr(program, "Pace", AllThreads)
    monkeypatch.setattr(_run, "cores", lambda: 4)


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
