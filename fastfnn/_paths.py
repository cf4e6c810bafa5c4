"""Where fastfnn keeps files for a user, and how it takes paths from one."""

import os
import sys
from pathlib import Path

from fastfnn.errors import InvalidTypeError, InvalidValueError

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
    r"""Give the folder for files that fastfnn can make again, the user's own; it need not exist yet.

    Returns
    -------
    pathlib.Path
        ``$XDG_CACHE_HOME/fastfnn`` or ``~/.cache/fastfnn``; on macOS ``~/Library/Caches/fastfnn``, on Windows
        ``%LOCALAPPDATA%\fastfnn``.

    Raises
    ------
    InvalidValueError
        The user has no home folder and none of the variables above is set.
    """
    if sys.platform == "win32":
        variable, below_home = "LOCALAPPDATA", ("AppData", "Local")
    elif sys.platform == "darwin":
        variable, below_home = None, ("Library", "Caches")
    else:
        variable, below_home = "XDG_CACHE_HOME", (".cache",)
    configured = os.environ.get(variable, "") if variable else ""
    # A relative folder would move with the current one; the XDG rules say to ignore it.
    if os.path.isabs(configured):
        return Path(configured, "fastfnn")
    try:
        return Path.home().joinpath(*below_home, "fastfnn")
    except RuntimeError:
        remedy = f"; set {variable}" if variable else ""
        raise InvalidValueError(f"no cache folder: the user has no home folder{remedy}") from None


def data_dir() -> Path:
    """Give the folder that downloaded data sets go to: ``$FASTFNN_DATA_DIR``, or ``data`` in `user_cache_dir`."""
    configured = os.environ.get("FASTFNN_DATA_DIR")
    return as_path(configured, "FASTFNN_DATA_DIR").absolute() if configured else user_cache_dir() / "data"
