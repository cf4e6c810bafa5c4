"""Says on stderr what is compiled, and how long that may take: the first call of its kind then takes seconds."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numba.core import event

from fastfnn_kernels import _cache

#: What people call the kernels of a module, where it is not the module's name.
FAMILIES = {
    "batch_norm": "normalization",
    "boxes": "threads",
    "data": "dense",
    "joins": "branches",
    "layer_norm": "normalization",
    "optim": "optimizers",
    "pool": "pooling",
    "prelu": "activations",
    "products": "dense",
    "program": "threads",
    "softmax": "activations",
    "sparse": "dense",
    "team": "threads",
    "updates": "optimizers",
}


def family(module: str, name: str = "") -> str:
    """What a function of a module of ours is for: "convolution", "pooling", …"""
    if name.startswith("dropout"):  # whose operations lie beside those of normalisation
        return "dropout"
    part = module.removeprefix("fastfnn_kernels.").removeprefix("operations.").partition(".")[0].lstrip("_")
    return FAMILIES.get(part, part)


def about(seconds: float) -> str:
    """An estimate as people say it."""
    if seconds < 7.5:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    return f"about {round(seconds / 60)} minutes"


def say(families: Iterable[str], duration: str) -> None:
    """The line."""
    later = ", once; later runs load them from the cache" if _cache.can_keep() else ""
    _write(f"fastfnn: compiling kernels for this machine ({', '.join(dict.fromkeys(families))}), {duration}{later}")


def _write(line: str) -> None:
    if sys.stderr is not None:
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)  # above a bar that somebody shows


@contextlib.contextmanager
def announced(families: Iterable[str], count: int, seconds: float) -> Iterator[Callable[[], object]]:
    """Say it, and no more until the end of the block; in a terminal with a bar.

    Yields
    ------
    callable
        To be called when one of the `count` is compiled, from any thread.
    """
    say(families, about(seconds))
    bar: Any = None
    if count > 1 and sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        form = "{desc} {n_fmt}/{total_fmt}|{bar}| {elapsed}, {remaining} left"
        bar = tqdm(total=count, desc="compiling", leave=False, mininterval=0, miniters=1, bar_format=form)
    _events.quiet += 1
    try:
        yield bar.update if bar is not None else _nothing
    finally:
        _events.quiet -= 1
        if bar is not None:
            bar.close()


def _nothing() -> None:
    pass


class _Events(event.Listener):
    """Says it of whatever nobody has announced, once a process for each family."""

    def __init__(self) -> None:
        self.quiet = 0
        self._said: set[str] = set()
        self._depth = threading.local()  # functions are compiled within the compilation of those that call them

    def on_start(self, event: Any) -> None:
        depth = self._depth.value = getattr(self._depth, "value", 0) + 1
        function = event.data["dispatcher"].py_func
        if depth > 1 or self.quiet or not function.__module__.startswith("fastfnn_kernels"):
            return
        which = family(function.__module__, function.__name__)
        if which not in self._said:
            self._said.add(which)
            say([which], "a few seconds each")

    def on_end(self, event: Any) -> None:
        self._depth.value = max(0, getattr(self._depth, "value", 0) - 1)


_events = _Events()


def listen() -> None:
    """From now on nothing is compiled in silence."""
    event.register("numba:compile", _events)
