"""SIGTERM, by which systems end a process, as an exception: what is under way is left in order, as after Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: What a shell shows of a process that SIGTERM has ended.
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


@contextlib.contextmanager
def sigterm_raises(error: BaseException) -> Iterator[None]:
    """Within the block SIGTERM raises `error`; where somebody else serves it, or not in the main thread, all stays."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise error

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
