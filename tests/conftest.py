"""Fixtures that several test files use."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from _cli import WriteNpz, write_npz


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run, whatever ran before."""
    return np.random.default_rng(20240229)


@pytest.fixture
def npz(tmp_path: Path) -> WriteNpz:
    """Writes a data file for the command line, see `write_npz`."""
    return functools.partial(write_npz, tmp_path / "data.npz")
