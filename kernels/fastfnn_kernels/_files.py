"""Files that others may read while they are written, and that a process may die over. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: Where locks cannot tell, what is older was left by a process that died.
ABANDONED_AFTER = 24 * 60 * 60


def write_in_one_step(target: Path, payload: bytes, *, durable: bool = True, mode: int = 0o666) -> None:
    """Replace `target`: a reader sees the old file or the new; where writing fails nothing has changed.

    A file's mode stays as it was; a new one has `mode` without what the process's mask takes. What a process that was
    killed has left of an earlier try is removed. With `durable` the file outlives a power failure right afterwards.

    Raises
    ------
    OSError
        Names `target`.
    """
    write_together({target: payload}, durable=durable, mode=mode)


def write_together(payloads: Mapping[Path, bytes], *, durable: bool = True, mode: int = 0o666) -> None:
    """Replace several files as `write_in_one_step` does one: all are complete before any takes its place."""
    with contextlib.ExitStack() as stack:
        all_staged = [stack.enter_context(_Staged(target, mode)) for target in payloads]
        for one, payload in zip(all_staged, payloads.values(), strict=True):
            with _naming(one.target):
                one.file.write(payload)
            one.complete(durable)
        for one in all_staged:
            one.take_place()


@contextlib.contextmanager
def staged(target: Path) -> Iterator[IO[bytes]]:
    """A file to be written, its path the attribute ``name``; it becomes `target` where the block ends without an error.

    Raises
    ------
    OSError
        Names `target`.
    """
    with _Staged(target) as one:
        yield one.file
        one.complete(durable=False)
        one.take_place()


class _Staged:
    """A file beside `target` that may take its place; else it goes with the block."""

    def __init__(self, target: Path, mode: int = 0o666) -> None:
        self.target = target
        with _naming(target):
            real = Path(os.path.realpath(target))  # through a link, not in its place
            self._mode = real.stat().st_mode if real.exists() else None
            # Nothing takes the place of a pipe or a device: it is written itself.
            self._stays = self._mode is not None and not stat.S_ISREG(self._mode) and not stat.S_ISDIR(self._mode)
            if self._stays:
                self.file: IO[bytes] = real.open("wb")
            else:
                _remove_abandoned(real)
                self.file = _open_temporary(real, mode)
            self._real = real

    def __enter__(self) -> _Staged:
        return self

    def complete(self, durable: bool) -> None:
        """All is written."""
        with _naming(self.target):
            self.file.flush()
            if not self._stays:
                if durable:
                    os.fsync(self.file.fileno())
                if self._mode is not None:
                    os.chmod(self.file.name, stat.S_IMODE(self._mode))

    def take_place(self) -> None:
        if not self._stays:
            if fcntl is None:
                self.file.close()  # Windows moves no open file; elsewhere the lock is held until it has moved
            with _naming(self.target):
                os.replace(self.file.name, self._real)
            self._stays = True

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of what could not be written, again
            self.file.close()
        if not self._stays:
            with contextlib.suppress(OSError):
                os.unlink(self.file.name)


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Errors of the file system name `target`, not a file that nobody knows, or none."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename == str(target):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None


def _prefix(target: Path) -> str:
    return f".{target.name[:60]}."  # a name may have 255 bytes, a character four of them


def _open_temporary(target: Path, mode: int) -> IO[bytes]:
    """A new file beside `target`, locked for as long as it is open."""
    while True:
        path = target.parent / f"{_prefix(target)}{secrets.token_hex(4)}.tmp"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        file = open(path, "r+b", opener=lambda *_, descriptor=descriptor: descriptor)  # noqa: SIM115
        if _lock(descriptor) is not False and path.exists():  # another may have found it before it was locked
            return file
        file.close()


def _lock(descriptor: int) -> bool | None:
    """Lock a file: whether that went; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems have none
        return None
    return True


def _remove_abandoned(target: Path) -> None:
    """Remove what processes that died have left of earlier tries to write `target`."""
    pattern = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(target.parent):
            if pattern.fullmatch(name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(target.parent / name)


def _remove_if_abandoned(path: Path) -> None:
    with path.open("r+b") as file:
        locked = _lock(file.fileno())
        if locked or (locked is None and time.time() - path.stat().st_mtime > ABANDONED_AFTER):
            if fcntl is None:
                file.close()
            path.unlink()
