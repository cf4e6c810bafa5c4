"""The folder for files that can be made again: compiled kernels, downloaded data. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_cache_dir() -> Path:
    r"""The user's own cache folder of fastfnn; it need not exist yet.

    Returns
    -------
    pathlib.Path
        ``$XDG_CACHE_HOME/fastfnn`` or ``~/.cache/fastfnn``; on macOS ``~/Library/Caches/fastfnn``, on Windows
        ``%LOCALAPPDATA%\fastfnn``.

    Raises
    ------
    RuntimeError
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
        raise RuntimeError(f"no cache folder: the user has no home folder{remedy}") from None
