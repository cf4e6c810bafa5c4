"""The SPMD team: n threads run one kernel, each on its share of what the kernel writes.

No threading layer of numba's is used: they abort on concurrent callers, die after a fork, or cost more than a
small network's whole step. A team is plain Python threads around `nogil` kernels; they are its own for one `with`
block, so that no second caller can trip over them. In between they wait for the next team, a few seconds at most; a
forked child forgets them.
"""

from __future__ import annotations

import _thread
import itertools
import os
import weakref
from collections.abc import Callable
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
    """One kernel launch. Workers start together, once every one of them has the job and all that it needs.

    Once it is made nothing asks for memory, so that there is no error that leaves one of them alone at a barrier.
    """

    def __init__(self, function: Any, args: tuple[Any, ...], size: int) -> None:
        self.function, self.size = function, size
        self.orders = [(self, tid, (*args, tid, size)) for tid in range(size)]
        self.taken = [False] * size
        self.ended: list[BaseException | str | None] = [AT_WORK] * size
        self.arrivals = itertools.count(1)
        self.starts, self.ends = ([_closed() for _ in range(size)] for _ in range(2))

    def give_out(self, workers: list[_Worker]) -> None:
        """Give each its part and wait until all have done theirs: who left before would give away what they write."""
        interrupt = None
        while True:
            try:
                for worker, order in zip(workers, self.orders, strict=True):
                    worker.order = order
                    if worker.wake.locked():  # else it has been woken, and no interrupt matters
                        worker.wake.release()
                for tid, end in enumerate(self.ends):
                    while self.ended[tid] is AT_WORK:
                        end.acquire()
                break
            except BaseException as error:  # an interrupt, and perhaps a second one; an order given twice does no harm
                interrupt = error
        self.orders.clear()  # they hold the job
        if interrupt is not None:
            raise interrupt


#: What a job has for a thread that has not ended.
AT_WORK = "at work"


def _closed() -> Any:
    """A lock that somebody else will release: nothing else wakes a thread without asking for memory."""
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


class _Worker:
    """A thread that does the orders given to it. It belongs to one team, or waits in `_idle` for the next.

    A `threading.Thread` would not do: its `start` waits for ever where the system has no memory for the new thread.
    """

    def __init__(self) -> None:
        self.order: tuple[_Job, int, tuple[Any, ...]] | None = None
        self.team: Callable[[], Team | None] = type(None)  # which gives None
        self.wake, self._begun, self._over = _closed(), _closed(), _closed()
        self._stops = False
        _thread.start_new_thread(self._live, ())
        if not self._begun.acquire(timeout=STARTING_SECONDS):
            self.stop()  # should it begin after all
            raise RuntimeError("can't start new thread")

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self._stops = True
        if self.wake.locked():
            self.wake.release()

    def join(self) -> None:
        """Wait until it has ended."""
        self._over.acquire()
        self._over.release()

    def _live(self) -> None:
        _alive.append(self)
        self._begun.release()
        lost = False
        while not self._stops:  # calls nothing that is written in Python: that asks for memory
            if not self.wake.acquire(timeout=IDLE_SECONDS):
                try:
                    _idle.remove(self)
                    break
                except ValueError:  # it has a team, or one has just taken it, or an interrupt has kept it from its end
                    was_lost, lost = lost, self.team() is None
                    if was_lost and lost:
                        break
                    continue
            lost = False
            if self.order is None:
                continue
            (job, tid, call), self.order = self.order, None
            if not job.taken[tid]:
                job.taken[tid] = True
                if next(job.arrivals) == job.size:  # the last one lets all begin
                    for start in job.starts:
                        start.release()
                job.starts[tid].acquire()
                ended = None
                try:
                    job.function(*call)
                except BaseException as error:
                    ended = error
                job.ended[tid] = ended
                job.ends[tid].release()
                ended = None
            job = call = None  # a waiting thread keeps nobody's arrays alive
        _alive.remove(self)
        self._over.release()


#: Seconds after which a thread that no team wants ends, and after which one that does not begin is given up.
IDLE_SECONDS, STARTING_SECONDS = 10.0, 5.0
# Starting a thread takes a hundred microseconds, so those of a team that has left wait for another.
_idle: list[_Worker] = []
_alive: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads.
    os.register_at_fork(after_in_child=_idle.clear)
    os.register_at_fork(after_in_child=_alive.clear)


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
                self._workers[-1].team = weakref.ref(self)
        except (RuntimeError, MemoryError):  # the system refuses another thread: one will do
            self._stop()
            self.size = 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and os.getpid() == self._process:
            workers, self._workers = self._workers, []  # first, for no interrupt may leave a thread in both lists
            _idle.extend(workers)
        else:  # some may still be at work
            self._stop()

    def run(self, function: Any, *args: Any) -> None:
        """Call ``function(*args, tid, size)`` on every thread and wait for all of them."""
        if self.size == 1 or os.getpid() != self._process:  # a forked child has none of the threads
            function(*args, 0, 1)
            return
        job = _Job(function, args, self.size)
        job.give_out(self._workers)
        for error in job.ended:
            if isinstance(error, BaseException):
                raise error

    def _stop(self) -> None:
        """End the threads, which may be at work, and wait for that."""
        if os.getpid() == self._process:
            for worker in self._workers:
                worker.stop()
            for worker in self._workers:
                worker.join()
        self._workers = []
