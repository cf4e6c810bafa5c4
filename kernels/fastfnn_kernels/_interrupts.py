"""Ctrl-C, and SIGTERM where it is served, end a compilation wherever they come.

An exception that rises where C has called Python back (LLVM does, and weak references) is printed and dropped there.
So a signal is noted, too, and served again at the next step of the compilation.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from numba.core import event
from numba.core.compiler_lock import global_compiler_lock

Handler = Callable[[int, FrameType | None], Any]


class _Interrupts:
    def __init__(self) -> None:
        self._depth = 0
        self._came: int | None = None
        self._before: dict[int, Handler] = {}

    def enter(self) -> None:
        """The lock of the compiler is about to be taken, perhaps once more."""
        if threading.current_thread() is not threading.main_thread():  # signals are served by the main thread
            return
        if not global_compiler_lock.is_locked():
            self._depth, self._came = 0, None  # an exception while it was waited for leaves them as they were
        self._depth += 1
        if self._depth == 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler) and handler != self._note:
                    self._before[number] = handler
                    signal.signal(number, self._note)

    def leave(self) -> None:
        """The lock was let go."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._before.items():
                if signal.getsignal(number) == self._note:
                    signal.signal(number, handler)
            self.check()

    def check(self) -> None:
        """Serve a signal whose exception was dropped."""
        if self._came is not None and threading.current_thread() is threading.main_thread():
            number, self._came = self._came, None
            on_its_way = sys.exc_info()[1]
            if on_its_way is None or isinstance(on_its_way, Exception):
                self._before[number](number, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = number
        self._before[number](number, frame)


class _Calls(event.Listener):
    def __init__(self, on_start: Callable[[], None], on_end: Callable[[], None]) -> None:
        self._calls = on_start, on_end

    def on_start(self, event: Any) -> None:
        self._calls[0]()

    def on_end(self, event: Any) -> None:
        self._calls[1]()


def watch() -> None:
    """From now on no interrupt of a compilation is lost."""
    interrupts = _Interrupts()
    event.register("numba:compiler_lock", _Calls(interrupts.enter, interrupts.leave))
    event.register("numba:run_pass", _Calls(interrupts.check, interrupts.check))
