"""Compiled code on disk: a file for each function and its types, in a folder for each version of the sources.

Whatever is wrong with a file, a folder or a disk, it means "not cached". Files are pickles, which run what they say:
they are read only where nobody else can have written them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import pickle
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fastfnn_kernels._files import write_in_one_step
from fastfnn_kernels._user_cache import user_cache_dir

DIGEST_BYTES = 16
SOURCES = Path(__file__).parent


def source_hash(folder: Path) -> str:
    """Hash of every kernel source below `folder`: the name of the cache folder.

    A kernel cached before an edit in a *helper's* file would go on giving the old answer, so any edit, and any
    upgrade, moves to a new folder.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _folders() -> Iterator[Path]:
    """Where compiled kernels may be kept, best first: below NUMBA_CACHE_DIR, and in the user's cache folder."""
    version = source_hash(SOURCES)
    if configured := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(configured, "fastfnn", version)
    yield user_cache_dir() / "kernels" / version


def distrust(path: Path, status: os.stat_result) -> str | None:
    """Why others may have written a file or folder of this status, or None where only the user and root can have."""
    if not hasattr(os, "geteuid"):  # Windows keeps users' folders apart by other means
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to {path}"
    return None


def folder() -> Path:
    """The folder where compiled kernels are kept, made where it is missing.

    Raises
    ------
    OSError, RuntimeError
        There is none, and none can be made.
    """
    refused = None
    for path in _folders():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if (reason := distrust(path, path.stat())) is None:
            if refused:
                _warn_refused(refused, path)
            return path
        refused = reason
    raise PermissionError(refused)


def is_writable(path: Path) -> bool:
    """Whether a file can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


@functools.cache
def _warn_refused(reason: str, instead: Path) -> None:
    warnings.warn(f"{reason}, so compiled kernels are kept in {instead}", RuntimeWarning, stacklevel=2)


@functools.cache
def _warn_uncached(reason: str) -> None:
    warnings.warn(
        f"fastfnn compiles its kernels anew in every process: {reason}. "
        "Set NUMBA_CACHE_DIR to a folder of your own that can be written to keep them.",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def usable_folder() -> Path | None:
    """The folder, perhaps one that can only be read, or None; a warning then says so, once."""
    try:
        return folder()
    except (OSError, RuntimeError) as error:  # no home folder, unreadable sources, a file in the way
        _warn_uncached(str(error))
        return None


def can_keep() -> bool:
    """Whether what is compiled will be there for the next process."""
    path = usable_folder()
    return path is not None and is_writable(path)


def is_empty() -> bool:
    """Whether nothing at all is there from an earlier process."""
    path = usable_folder()
    return path is None or not any(path.iterdir())


class KernelCache(_Cache):
    """What numba asks for a function's compiled forms; it sees to it that nobody else asks at that time."""

    def __init__(self, function: Callable[..., Any], path: Path) -> None:
        self._function = function
        self._path = path

    @property
    def cache_path(self) -> Any:
        return str(self._path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled form for such arguments, or None."""
        target_context.refresh()
        try:
            payload = _read(self._file(sig, target_context.codegen()))
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # it is missing, damaged, another's, unreadable: compile it
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled form; where that fails, a warning says so, once."""
        try:
            if data.library.has_dynamic_globals:
                raise ValueError(f"{self._function.__qualname__} holds addresses of this process")
            payload = dumps(data._reduce())
            digest = hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()
            write_in_one_step(self._file(sig, data.codegen), digest + payload, durable=False, mode=0o600)
        except Exception as error:  # a full disk, a folder that can only be read
            if not isinstance(error, OSError):
                _warn_uncached(f"{type(error).__name__}: {error}")
            elif is_writable(self._path):
                _warn_uncached(str(error))
            else:
                _warn_uncached(f"{self._path} is not writable")

    def holds(self, sig: Any, codegen: Any) -> bool:
        """Whether there is a file for such arguments, sound or not."""
        return self._file(sig, codegen).is_file()

    def _file(self, sig: Any, codegen: Any) -> Path:
        """Where the compiled form for such arguments, this processor and these versions is."""
        function = self._function
        closure = tuple(cell.cell_contents for cell in function.__closure__ or ())
        versions = sys.version_info[:2], numba.__version__, _stamp(function)
        key = repr((sig, codegen.magic_tuple(), versions)).encode() + function.__code__.co_code + dumps(closure)
        name = re.sub(r"\W", "_", f"{function.__module__.rpartition('.')[2]}_{function.__qualname__}")[-100:]
        line = function.__code__.co_firstlineno
        return self._path / f"{name}-{line}.{hashlib.blake2b(key, digest_size=DIGEST_BYTES).hexdigest()}"

    def enable(self) -> None:
        """It is, as soon as there is one."""

    def disable(self) -> None:
        """There is no need to."""

    def flush(self) -> None:
        """Edited sources have another folder."""


def _stamp(function: Callable[..., Any]) -> tuple[int, ...]:
    """What changes with the source of a function that is none of ours; ours have a folder for each version."""
    source = Path(inspect.getfile(function))
    if SOURCES in source.parents:
        return ()
    status = source.stat()
    return status.st_mtime_ns, status.st_size


def _read(path: Path) -> bytes:
    """What was written, if nobody else can have done so and all of it is there."""
    with path.open("rb") as file:
        if reason := distrust(path, os.fstat(file.fileno())):
            raise PermissionError(reason)
        digest, payload = file.read(DIGEST_BYTES), file.read()
    if hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest() != digest:
        raise ValueError(f"{path} is damaged")
    return payload
