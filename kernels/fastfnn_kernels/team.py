"""The SPMD team: n threads run one kernel, each on its share of what the kernel writes.

No threading layer of numba's is used: they abort on concurrent callers, die after a fork, or cost more than a
small network's whole step. A team is plain Python threads around `nogil` kernels; they are its own for one `with`
block, so that no second caller can trip over them. In between they wait for the next team, a few seconds at most; a
forked child forgets them.
"""

from __future__ import annotations

import os
import threading
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels._config import JIT, helper
from fastfnn_kernels.simd import (
    atomic_add,
    atomic_load,
    atomic_store,
    monotonic_nanoseconds,
    pause,
    sleep_while,
    wake_all,
)

#: How long a thread polls at a barrier before it sleeps, and after how many polls it looks at the clock. Longer, and a
#: thread that waits for one that has no core keeps its own from it; shorter, and each step would pay for waking up.
POLLING_NANOSECONDS, POLLS = 15_000, 64
#: Where a barrier's state has its numbers, on cache lines of their own, and how long it is.
ARRIVALS, GENERATION, SLEEPERS, BARRIER_WORDS = 0, 16, 32, 48


@helper
def share(n: int, tid: int, n_threads: int, multiple: int) -> tuple[int, int]:
    """The half-open range of ``range(n)`` that thread `tid` writes; inner ends are multiples of `multiple`.

    Slice arrays with it and loop from zero: an index that starts elsewhere could be negative for all numba knows, and
    its test for wrapping round keeps the loop from being vectorised.
    """
    blocks = (n + multiple - 1) // multiple
    return min(n, blocks * tid // n_threads * multiple), min(n, blocks * (tid + 1) // n_threads * multiple)


def barrier_state() -> NDArray[np.int64]:
    """State for `barrier`: the count of arrivals, the generation, and how many sleep."""
    return np.zeros(BARRIER_WORDS, np.int64)


@helper
def barrier(state: NDArray[np.int64], n_threads: int) -> None:
    """Wait until all `n_threads` threads of the team have called this; what they wrote before is then visible."""
    generation = atomic_load(state, GENERATION)
    if atomic_add(state, ARRIVALS, 1) == n_threads - 1:
        atomic_store(state, ARRIVALS, 0)
        # Indivisible, so that either the next line sees a thread that goes to sleep, or that sees the new generation.
        atomic_add(state, GENERATION, 1)
        if atomic_load(state, SLEEPERS) > 0:
            wake_all(state, GENERATION)
    elif not _polled(state, generation):
        atomic_add(state, SLEEPERS, 1)
        while atomic_load(state, GENERATION) == generation:
            sleep_while(state, GENERATION, generation)
        atomic_add(state, SLEEPERS, -1)


@helper
def _polled(state: NDArray[np.int64], generation: int) -> bool:
    """Poll for a while; whether the barrier opened."""
    began = np.int64(0)
    while True:
        for _ in range(POLLS):
            if atomic_load(state, GENERATION) != generation:
                return True
            pause()
        now = monotonic_nanoseconds()
        began = now if began == 0 else began
        if now - began >= POLLING_NANOSECONDS or now == 0:
            return False


class _Job:
    """One kernel launch. Workers start together, once every one of them has the job, or not at all."""

    def __init__(self, function: Any, args: tuple[Any, ...], size: int) -> None:
        self.function, self.args, self.size = function, args, size
        self.ended: list[BaseException | None] = []
        self.announced: SimpleQueue[None] = SimpleQueue()
        self.gate = threading.Event()
        self.cancelled = False

    def work(self, tid: int) -> None:
        """Do the part of thread `tid`."""
        self.gate.wait()
        error = None
        try:
            if not self.cancelled:
                self.function(*self.args, tid, self.size)
        except BaseException as raised:
            error = raised
        self.ended.append(error)
        self.announced.put(None)

    def wait(self) -> None:
        """Wait until all have done their parts, whatever comes: who left before would give away what they write."""
        try:
            while len(self.ended) < self.size:
                self.announced.get()
        except BaseException:  # an interrupt, and perhaps a second one
            self.wait()
            raise


class _Worker:
    """A thread that does the jobs that come to its inbox. It belongs to one team, or waits in `_idle` for the next."""

    def __init__(self) -> None:
        self.inbox: SimpleQueue[tuple[_Job, int] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="fastfnn", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while True:
            try:
                order = self.inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:  # it is at work, or a team has just taken it
                    continue
                return
            if order is None:
                return
            job, tid = order
            job.work(tid)
            del order, job  # a waiting thread keeps nobody's arrays alive


#: Seconds after which a thread that no team wants ends.
IDLE_SECONDS = 10.0
# Starting a thread takes a hundred microseconds, so those of a team that has left wait for another.
_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child has none of its parent's threads


def _take_worker() -> _Worker:
    try:
        return _idle.pop()
    except IndexError:
        return _Worker()


class Team:
    """A team of threads for the length of a `with` block.

    Parameters
    ----------
    size : int
        How many threads; with 1 kernels run on the calling thread and none is started.
    may_be_fewer : bool
        Nobody asked for this size: whoever has the team may leave it idle where one thread is faster.

    Notes
    -----
    The calling thread only waits: an interrupt that reaches it can then never leave a worker alone at a barrier.
    """

    def __init__(self, size: int = 1, may_be_fewer: bool = False) -> None:
        self.size = size if JIT else 1
        self.may_be_fewer = may_be_fewer
        self._process = os.getpid()
        self._workers: list[_Worker] = []

    def __enter__(self) -> Team:
        if self.size == 1:
            return self
        try:
            while len(self._workers) < self.size:
                self._workers.append(_take_worker())
        except RuntimeError:  # the system refuses another thread: one will do
            self._stop()
            self.size = 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and os.getpid() == self._process:
            _idle.extend(self._workers)
            self._workers = []
        else:  # some may still be at work
            self._stop()

    def run(self, function: Any, *args: Any) -> None:
        """Call ``function(*args, tid, size)`` on every thread and wait for all of them."""
        if self.size == 1 or os.getpid() != self._process:  # a forked child has none of the threads
            function(*args, 0, 1)
            return
        job = _Job(function, args, self.size)
        try:
            for tid, worker in enumerate(self._workers):
                worker.inbox.put((job, tid))
        except BaseException:
            job.cancelled = True
            raise
        finally:
            job.gate.set()
        job.wait()
        for error in job.ended:
            if error is not None:
                raise error

    def _stop(self) -> None:
        """End the threads, which may be at work, and wait for that."""
        if os.getpid() == self._process:
            for worker in self._workers:
                worker.inbox.put(None)
            for worker in self._workers:
                worker.thread.join()
        self._workers = []
