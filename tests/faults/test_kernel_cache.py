"""The cache of compiled kernels: whatever is wrong with it means "not cached", and nobody else's code runs."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _helpers import run_python

from fastfnn_kernels import _cache, _config

pytestmark = [
    pytest.mark.skipif(not _config.JIT, reason="nothing is compiled"),
    pytest.mark.skipif(sys.platform == "win32", reason="folders are kept apart by other means"),
]

RELU = """
import warnings
import numpy as np

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    BEFORE
    from fastfnn_kernels.activations import relu
    out = np.empty(3)
    relu(out, np.array([-1.0, 0.0, 2.0]))
print(out.tolist(), sum(relu.jitted.stats.cache_hits.values()), len(caught))
for warning in caught:
    print(warning.message)
"""


def relu(cache: Path, before: str = "pass", **environment: str) -> tuple[int, list[str]]:
    """How often it was loaded, and the warnings; the result is right."""
    done = run_python(RELU.replace("BEFORE", before), NUMBA_CACHE_DIR=str(cache), **environment)
    assert done.returncode == 0, done.stderr
    first, *warnings = done.stdout.splitlines()
    assert first.startswith("[0.0, 0.0, 2.0]")
    return int(first.split()[-2]), warnings


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("compiled")
    assert relu(cache) == (0, [])
    return cache


@pytest.fixture
def warm(compiled: Path, tmp_path: Path) -> Path:
    """A copy of a cache that has the kernel."""
    return Path(shutil.copytree(compiled, tmp_path / "cache"))


def files(cache: Path) -> list[Path]:
    found = [path for path in cache.rglob("*") if path.is_file()]
    assert found
    return found


class Planted:
    """A pickle that would run what it says."""

    def __reduce__(self) -> Any:
        return os.system, ("echo planted",)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda payload: b"",
    "cut": lambda payload: payload[: len(payload) // 2],
    "zeroed": lambda payload: bytes(len(payload)),
    "a bit": lambda payload: payload[:-1000] + bytes([payload[-1000] ^ 1]) + payload[-999:],
    "foreign": lambda payload: pickle.dumps(Planted()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_compiled_anew_and_mended(warm: Path, damage: Callable[[bytes], bytes]) -> None:
    assert relu(warm) == (1, [])
    for path in files(warm):
        path.write_bytes(damage(path.read_bytes()))
    assert relu(warm) == (0, [])
    assert relu(warm) == (1, [])


def test_a_folder_in_a_files_place_is_in_nobodys_way(warm: Path) -> None:
    for path in files(warm):
        path.unlink()
        path.mkdir()
    hits, warnings = relu(warm)
    assert hits == 0
    assert len(warnings) == 1
    assert "compiles its kernels anew in every process" in warnings[0]


def test_a_full_disk_costs_a_warning(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    hits, warnings = relu(tmp_path, limit)
    assert hits == 0
    assert len(warnings) == 1
    assert "File too large" in warnings[0]
    assert str(tmp_path) in warnings[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


READ_ONLY = """
    import os, tempfile
    from fastfnn_kernels import _files

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    tempfile.TemporaryFile = os.mkdir = _files._create = refuse
"""


def test_a_cache_that_can_only_be_read_is_used(warm: Path, tmp_path: Path) -> None:
    """As where it is part of a container's image."""
    assert relu(warm, READ_ONLY.strip()) == (1, [])
    for path in files(warm):
        path.unlink()
    hits, warnings = relu(warm, READ_ONLY.strip())
    assert hits == 0
    assert len(warnings) == 1
    assert warnings[0].endswith(
        "is not writable. Set NUMBA_CACHE_DIR to a folder of your own that can be written to keep them."
    )


def the_folder(cache: Path) -> Path:
    (folder,) = (cache / "fastfnn").iterdir()
    return folder


def plant(cache: Path) -> None:
    """Put a pickle, with the checksum of a whole file, in each file's place."""
    payload = pickle.dumps(Planted())
    digest = _cache.hashlib.blake2b(payload, digest_size=_cache.DIGEST_BYTES).digest()
    for path in files(cache):
        path.write_bytes(digest + payload)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o702])
def test_a_folder_that_others_may_write_is_not_read_and_a_private_one_is_used(
    warm: Path, tmp_path: Path, mode: int
) -> None:
    plant(warm)
    the_folder(warm).chmod(mode)
    home = {"XDG_CACHE_HOME": str(tmp_path / "home"), "HOME": str(tmp_path / "home")}
    hits, warnings = relu(warm, **home)
    assert hits == 0
    assert len(warnings) == 1
    assert warnings[0].startswith(f"others may write to {the_folder(warm)}, so compiled kernels are kept in ")
    assert len(files(tmp_path / "home")) == 1
    assert relu(warm, **home)[0] == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_somebody_else_is_not_read(warm: Path, tmp_path: Path, what: str) -> None:
    plant(warm)
    for path in [the_folder(warm)] if what == "folder" else files(warm):
        os.chown(path, 65534, 65534)
    hits, warnings = relu(warm, XDG_CACHE_HOME=str(tmp_path / "home"), HOME=str(tmp_path / "home"))
    assert hits == 0
    assert len(warnings) == (what == "folder")


def test_a_planted_file_that_others_may_write_is_not_read(warm: Path) -> None:
    plant(warm)
    for path in files(warm):
        path.chmod(0o666)
    assert relu(warm) == (0, [])


def test_folder_and_files_are_private_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert relu(tmp_path) == (0, [])
    finally:
        os.umask(before)
    assert the_folder(tmp_path).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files(tmp_path)} == {0o600}
    assert relu(tmp_path) == (1, [])
