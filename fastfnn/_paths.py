"""Where fastfnn keeps files for a user, and how it takes paths from one."""

import os
from pathlib import Path

from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import _user_cache

StrPath = str | os.PathLike[str]


def as_path(value: StrPath, argument: str) -> Path:
    """Turn a path argument into a `Path` with ``~`` expanded; anything but a path is an `InvalidTypeError`."""
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise InvalidTypeError(f"{argument} must be a path, got {type(value).__name__}") from None
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidValueError(f"{argument}: cannot expand {text!r} ({error})") from None


def user_cache_dir() -> Path:
    """The user's own cache folder of fastfnn; without a home folder an `InvalidValueError` says what to set."""
    try:
        return _user_cache.user_cache_dir()
    except RuntimeError as error:
        raise InvalidValueError(str(error)) from None


def data_dir() -> Path:
    """Give the folder that downloaded data sets go to: ``$FASTFNN_DATA_DIR``, or ``data`` in `user_cache_dir`."""
    configured = os.environ.get("FASTFNN_DATA_DIR")
    return as_path(configured, "FASTFNN_DATA_DIR").absolute() if configured else user_cache_dir() / "data"
