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
                one.open().write(payload)
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
        yield one.open()
        one.complete(durable=False)
        one.take_place()


class _Staged:
    """A file beside `target` that may take its place; else it goes with the block.

    An interrupt may strike between any two instructions: inside the block alone is a file opened, and the path by which
    it goes is known before it is there.
    """

    def __init__(self, target: Path, mode: int = 0o666) -> None:
        self.target = target
        self._real, self._new_mode = target, mode
        self._mode: int | None = None  # of the file that is there
        self._file: IO[bytes] | None = None
        self._temporary: Path | None = None  # None also where `target` itself is written

    def __enter__(self) -> _Staged:
        return self

    def open(self) -> IO[bytes]:
        """Open the file to be written; its path is its attribute ``name``."""
        with _naming(self.target):
            self._real = real = Path(os.path.realpath(self.target))  # through a link, not in its place
            self._mode = real.stat().st_mode if real.exists() else None
            # Nothing takes the place of a pipe or a device: it is written itself.
            if self._mode is not None and not stat.S_ISREG(self._mode) and not stat.S_ISDIR(self._mode):
                self._file = real.open("wb")
            else:
                _remove_abandoned(real)
                self._file = self._open_temporary(real)
        return self._file

    def _open_temporary(self, real: Path) -> IO[bytes]:
        """A new file beside `real`, locked for as long as it is open."""
        while True:
            self._temporary = real.parent / f"{_prefix(real)}{secrets.token_hex(4)}.tmp"
            try:
                file = _create(self._temporary, self._new_mode)
            except FileExistsError:
                self._temporary = None  # somebody else's
                continue
            if _lock(file.fileno()) is not False and self._temporary.exists():  # one may have found it before the lock
                return file
            file.close()

    def complete(self, durable: bool) -> None:
        """All is written."""
        assert self._file is not None
        with _naming(self.target):
            self._file.flush()
            if self._temporary is not None:
                if durable:
                    os.fsync(self._file.fileno())
                if self._mode is not None:
                    os.chmod(self._temporary, stat.S_IMODE(self._mode))

    def take_place(self) -> None:
        if self._temporary is not None:
            if fcntl is None and self._file is not None:
                self._file.close()  # Windows moves no open file; elsewhere the lock is held until it has moved
            with _naming(self.target):
                os.replace(self._temporary, self._real)
            self._temporary = None

    def __exit__(self, *_: object) -> None:
        if fcntl is not None:
            self._remove()  # first, for a second interrupt may come at once
        if self._file is not None:
            with contextlib.suppress(OSError):  # of what could not be written, again
                self._file.close()
        self._remove()

    def _remove(self) -> None:
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)


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


def _create(path: Path, mode: int) -> IO[bytes]:
    """Open a file that was not there; its bits of access are `mode`'s."""
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, mode))


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
