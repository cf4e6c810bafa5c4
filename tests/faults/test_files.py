"""Files take their places in one step, whatever happens, and what the dead have left goes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from _helpers import run_python

import fastfnn as ff
from fastfnn_kernels import _files
from fastfnn_kernels._files import staged, write_in_one_step, write_together

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and locks are POSIX's")


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    for payload in (b"one", b"", b"two" * 100_000):
        write_in_one_step(tmp_path / "f", payload)
        assert (tmp_path / "f").read_bytes() == payload
    assert names(tmp_path) == ["f"]


@posix
def test_a_new_files_mode_is_the_umasks_and_an_old_ones_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            # Reading the mask sets it, for a moment in which other threads make files.
            patch.setattr(os, "umask", lambda mask: pytest.fail("the mask is the process's"))
            write_in_one_step(tmp_path / "new", b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    for mode in (0o600, 0o664, 0o444):
        (tmp_path / "new").chmod(mode)
        write_in_one_step(tmp_path / "new", b"2")
        assert (tmp_path / "new").stat().st_mode & 0o777 == mode


@posix
def test_links_pipes_and_devices_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_in_one_step(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    write_in_one_step(Path(os.devnull), b"gone")
    assert Path(os.devnull).is_char_device()


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ä" * 127):
        write_in_one_step(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"


FAILURES: dict[str, Any] = {
    "no folder": ("nowhere/f", FileNotFoundError),
    "a folder": ("taken", IsADirectoryError if os.name != "nt" else PermissionError),
    "too long": ("x" * 256, OSError),
}


@pytest.mark.parametrize(("name", "error"), FAILURES.values(), ids=FAILURES)
def test_errors_name_what_was_to_be_written(tmp_path: Path, name: str, error: type[OSError]) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(error) as caught:
        write_in_one_step(tmp_path / name, b"1")
    assert caught.value.filename == str(tmp_path / name)
    assert names(tmp_path) == ["taken"]


LIMITED = """
import resource
import numpy as np
import fastfnn as ff

model = ff.Sequential(ff.Linear(300, 300), seed=0)
ff.save(model, PATH)
with open(PATH, "rb") as file:
    before = file.read()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as on a disk that is nearly full
model.parameters[...] = 0
for write in (lambda: ff.save(model, PATH), lambda: ff.Checkpoint(PATH)(ff.EpochEnd(1, model, ff.SGD(), ff.History()))):
    try:
        write()
    except OSError as error:
        print(error.filename == PATH, open(PATH, "rb").read() == before)
"""


@posix
def test_on_a_full_disk_the_old_file_stays_and_the_error_names_it(tmp_path: Path) -> None:
    done = run_python(LIMITED.replace("PATH", repr(str(tmp_path / "model"))), NUMBA_DISABLE_JIT="1")
    assert done.stdout == "True True\n" * 2, done.stderr
    assert names(tmp_path) == ["model"]


def test_several_files_are_all_complete_before_any_takes_its_place(tmp_path: Path) -> None:
    files = {tmp_path / name: name.encode() for name in ("a", "b", "c")}
    write_together(files)
    assert {path: path.read_bytes() for path in files} == files
    with pytest.raises(FileNotFoundError):
        write_together({**dict.fromkeys(files, b"new"), tmp_path / "nowhere" / "d": b"new"})
    assert {path: path.read_bytes() for path in files} == files
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_staged_file_takes_its_place_only_without_an_error(tmp_path: Path) -> None:
    with staged(tmp_path / "f") as file:
        file.write(b"1")
        assert not (tmp_path / "f").exists()
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "f") as file:
        file.write(b"2")
        raise ZeroDivisionError
    assert (tmp_path / "f").read_bytes() == b"1"
    assert names(tmp_path) == ["f"]


KILLED = """
import os, signal
import fastfnn as ff
from fastfnn_kernels import _files

_files.os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
ff.save(ff.Sequential(ff.Linear(3, 2)), PATH)
"""


@posix
def test_what_a_killed_process_has_left_goes_with_the_next_save_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for _ in range(3):
        died = run_python(KILLED.replace("PATH", repr(str(path))), NUMBA_DISABLE_JIT="1")
        assert died.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1, "each removes what the one before has left"
    ff.save(ff.Sequential(ff.Linear(3, 2)), tmp_path / "other")
    assert len(names(tmp_path)) == 2, "another name's"
    ff.save(ff.Sequential(ff.Linear(3, 2)), path)
    assert names(tmp_path) == ["model.safetensors", "other"]


def interrupted(write: Callable[[], object], line: int) -> bool:
    """Whether `write` was interrupted before the so manieth line of `_files` that it runs, cleaning up not counted."""
    left = line

    def at_every_line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != _files.__file__ or frame.f_code.co_name in ("__exit__", "_remove"):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return at_every_line

    traced = sys.gettrace()
    sys.settrace(at_every_line)
    try:
        write()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(traced)
    return False


def test_wherever_an_interrupt_strikes_a_file_is_the_old_or_the_new_and_no_other_is_left(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    line, was = 0, True
    while was:
        one.write_bytes(b"old")
        was = interrupted(lambda: write_together({one: b"new", other: b"new"}), line)
        assert one.read_bytes() in (b"old", b"new")
        assert names(tmp_path) == (["one", "other"] if other.exists() else ["one"])
        other.unlink(missing_ok=True)
        line += 1
    assert line > 50


def test_what_another_is_writing_stays(tmp_path: Path) -> None:
    with staged(tmp_path / "f") as mine:
        mine.write(b"mine")
        write_in_one_step(tmp_path / "f", b"theirs")
        assert len(names(tmp_path)) == 2
    assert (tmp_path / "f").read_bytes() == b"mine"


@pytest.mark.parametrize("age", [0, 2 * _files.ABANDONED_AFTER])
def test_where_there_are_no_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int) -> None:
    left = tmp_path / ".f.01234567.tmp"
    left.write_bytes(b"left")
    os.utime(left, (left.stat().st_atime - age, left.stat().st_mtime - age))
    if _files.fcntl is not None:

        def unsupported(*_: Any) -> None:
            raise OSError(errno.ENOTSUP, "no locks here")

        monkeypatch.setattr(_files.fcntl, "flock", unsupported)
    write_in_one_step(tmp_path / "f", b"1")
    assert left.exists() == (age == 0)


def test_other_files_with_dots_stay(tmp_path: Path) -> None:
    kept = [".f.tmp", ".f.0123456.tmp", ".f.01234567", "f.01234567.tmp", ".f.g.01234567.tmp", ".f.0123456x.tmp"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    write_in_one_step(tmp_path / "f", b"1")
    assert names(tmp_path) == sorted([*kept, "f"])
