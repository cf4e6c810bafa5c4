"""Compiles operations in two processes: numba compiles one function at a time in each, and machines have more cores.

A helper, a Python that imports the kernels and nothing else, compiles into the cache, from which the caller loads. The
two take tasks from one queue, so neither waits long for the other. Nothing depends on the helper: what it has not
compiled, because it could not start, failed or was killed, is not in the cache, and the caller compiles it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from fastfnn_kernels import _cache

#: An operation and the names of its dtypes.
Key = tuple[str, ...]

#: What takes longest, in seconds of a server's core. It comes first: begun last, it would keep one process
#: waiting for the other.
SLOW = {
    "convolution_backward_tiled": 29.0,
    "convolution_tiled": 17.0,
    "packed_product": 16.0,
    "convolution_backward": 16.0,
    "convolution": 10.0,
    "product": 7.0,
    "convolution_backward_sparse": 5.0,
    "marked_weight_gradient": 3.5,
    "marked_product": 3.0,
    "settle": 2.0,
}
#: Any other, and what runs them.
SECONDS, RUNNER_SECONDS = 0.6, 4.0


def _seconds(key: Key) -> float:
    return SLOW.get(key[0], SECONDS)


HELPER = """
import sys
sys.path[:] = sys.argv[1:]
from fastfnn_kernels import operations
operations.serve()
"""


def compile_ahead(
    keys: list[Key],
    compile_one: Callable[[Key], object],
    meanwhile: Callable[[], object],
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Have all of `keys` compiled, or at least begun: some by ``compile_one(key)``, the others by a helper.

    Those are in the cache if all went well. `meanwhile` is called where the helper has the last task, and `advance`,
    perhaps from another thread, after each.
    """
    waiting = deque(sorted(keys, key=lambda key: -_seconds(key)))
    with _helper(waiting, advance) if len(waiting) > 1 else contextlib.nullcontext() as feeder:
        while key := _next(waiting):
            compile_one(key)
            advance()
        if feeder is not None:
            meanwhile()
            while feeder.is_alive():
                feeder.join(0.1)  # with a limit, for on Windows no interrupt ends a wait without one


def _next(waiting: deque[Key]) -> Key | None:
    try:
        return waiting.popleft()
    except IndexError:  # perhaps the helper was faster
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _helper(waiting: deque[Key], advance: Callable[[], object]) -> Iterator[threading.Thread | None]:
    """A thread that feeds a helper, which ends with the block, whatever happens; None where there cannot be one."""
    helper = _start()
    if helper is None:
        yield None
        return
    with helper:
        feeder = threading.Thread(target=_feed, args=(helper, waiting, advance), daemon=True)
        feeder.start()
        try:
            yield feeder
        finally:
            helper.kill()  # all that it has reported is in the cache
            feeder.join()


def _may_start() -> bool:
    # Where Python is part of another program, `sys.executable` may be that program, or nothing.
    is_python = Path(sys.executable or "").name.lower().startswith("python") and not getattr(sys, "frozen", False)
    return is_python and _cores() > 1 and _cache.can_keep()


def estimate(keys: list[Key], is_first: bool = False) -> float:
    """Seconds that `compile_ahead` may take: machines differ, and so does what else they do.

    The first time, when nothing is cached, what runs the operations is compiled, too.
    """
    processes = 2 if len(keys) > 1 and _may_start() else 1
    return sum(map(_seconds, keys)) / processes + is_first * RUNNER_SECONDS


def _start() -> subprocess.Popen[bytes] | None:
    if not _may_start():
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-c", HELPER, *sys.path],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the caller says that it compiles, and meets the same errors
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, ValueError):
        return None


def _feed(helper: subprocess.Popen[bytes], waiting: deque[Key], advance: Callable[[], object]) -> None:
    """Give the helper a task whenever it says, by a line, that it is ready: for the first, or with the last one."""
    given = False
    assert helper.stdin is not None
    assert helper.stdout is not None
    with contextlib.suppress(OSError, ValueError):  # it was killed, its pipes are closed
        while helper.stdout.readline():
            if given:
                advance()
            if (key := _next(waiting)) is None:
                return
            helper.stdin.write(json.dumps(key).encode() + b"\n")
            given = True


def serve(compile_one: Callable[[Key], object]) -> None:
    """Be the helper: have ``compile_one(key)`` compile what comes; end at once where the caller has ended."""
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(tasks,), daemon=True).start()
    while True:
        print(flush=True)
        compile_one(tuple(json.loads(tasks.get())))


def _receive(tasks: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        tasks.put(line)
    os._exit(0)  # the main thread may be in LLVM for seconds
