"""The SPMD team: n threads run one kernel, each on its share of what the kernel writes.

No threading layer of numba's is used: they abort on concurrent callers, die after a fork, or cost more than a
small network's whole step. A team is plain Python threads around `nogil` kernels; they are its own for one `with`
block, so that no second caller can trip over them. In between they wait for the next team, a few seconds at most; a
forked child forgets them.
"""

from __future__ import annotations

import _thread
import atexit
import os
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import _boxes
from fastfnn_kernels._boxes import LOOK_NANOSECONDS, POLLING_NANOSECONDS, polled
from fastfnn_kernels._config import JIT, helper
from fastfnn_kernels.simd import atomic_add, atomic_load, atomic_store, sleep_while, sleeps_in_kernel, wake_all

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
    elif not polled(state, GENERATION, generation, POLLING_NANOSECONDS):
        atomic_add(state, SLEEPERS, 1)
        while atomic_load(state, GENERATION) == generation:
            sleep_while(state, GENERATION, generation, LOOK_NANOSECONDS)
        atomic_add(state, SLEEPERS, -1)


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
        #: A Python function to call, its arguments, and where its end is noted, at which place.
        self.order: tuple[Any, tuple[Any, ...], list[BaseException | None], int] | None = None
        self.team: Callable[[], Team | None] = type(None)  # which gives None
        self.box = _boxes.new_box()
        self.address = int(self.box.ctypes.data)
        self._wake, self._begun, self._over = _closed(), _closed(), _closed()
        self._stops = False
        has_begun = False
        try:
            _thread.start_new_thread(self._live, ())
            has_begun = self._begun.acquire(timeout=STARTING_SECONDS)
        finally:
            if not has_begun:  # an interrupt, or no memory
                self.stop()  # should it begin after all
        if not has_begun:
            raise RuntimeError("can't start new thread")

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self._stops = True
        _boxes.launch(0, 0, self.address, 1, 0)
        self.rouse()

    def rouse(self) -> None:
        """Have it look for an order, where it cannot sleep at its box."""
        if self._wake.locked():
            self._wake.release()

    def join(self, timeout: float = -1) -> None:
        """Wait until it has ended."""
        if self._over.acquire(timeout=timeout):
            self._over.release()

    def _live(self) -> None:
        idle, ends, naps, lost = int(IDLE_SECONDS * 1e9) if sleeps_in_kernel() else 0, 0, 0, False
        most_naps = int(IDLE_SECONDS / NAP_SECONDS)
        self.box[_boxes.THREAD] = _thread.get_native_id()
        _alive.append(self)
        self._begun.release()
        while True:  # calls nothing that is written in Python: that asks for memory
            try:
                has_order = _boxes.attend(self.address, ends, idle)
            except MemoryError:  # before it has begun
                continue
            if self._stops:
                break
            ends = 0
            if has_order:
                ends, naps, lost = 1, 0, False
                if self.order is not None:
                    (function, arguments, ended, place), self.order = self.order, None
                    error = None
                    try:
                        function(*arguments)
                    except BaseException as raised:
                        error = raised
                    ended[place] = error
                    function = arguments = ended = error = None  # a waiting thread keeps nobody's arrays alive
            elif idle == 0 and naps < most_naps:
                naps = 0 if self._wake.acquire(timeout=NAP_SECONDS) else naps + 1
            else:
                naps = 0
                try:
                    _idle.remove(self)
                    break
                except ValueError:  # it has a team, or one has just taken it, or an interrupt has kept it from its end
                    was_lost, lost = lost, self.team() is None
                    if was_lost and lost:
                        break
        _alive.remove(self)
        self._over.release()


#: Seconds after which a thread that no team wants ends, and after which one that does not begin is given up.
IDLE_SECONDS, STARTING_SECONDS = 10.0, 5.0
#: Where threads cannot sleep at their boxes they look for themselves after so long, should nobody have roused them; and
#: how long the end of the interpreter waits for the end of a thread.
NAP_SECONDS, ENDING_SECONDS = 0.05, 1.0
# Starting a thread takes a hundred microseconds, so those of a team that has left wait for another.
_idle: list[_Worker] = []
_alive: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads.
    os.register_at_fork(after_in_child=_idle.clear)
    os.register_at_fork(after_in_child=_alive.clear)


@atexit.register
def _end_idle() -> None:
    """No thread that waits is left to an interpreter that ends."""
    while _idle:
        worker = _idle.pop()
        worker.stop()
        worker.join(ENDING_SECONDS)


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
    Of a compiled function the calling thread does its part, in one call with giving the order, so that no interrupt
    leaves a worker alone at a barrier. Where Python has to do with it, it only waits. Either way it leaves when all
    have ended: what they write would else be given away.
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
            _boxes.load()
            reference = weakref.ref(self)
            while len(self._workers) < self.size:
                worker = _take_worker()
                self._workers.append(worker)
                worker.team = reference
                if len(self._workers) > 1:
                    self._workers[-2].box[_boxes.NEXT] = worker.address
        except (RuntimeError, MemoryError):  # the system refuses another thread: one will do
            self._stop()
            self.size = 1
        except BaseException:  # an interrupt; nobody calls __exit__
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and os.getpid() == self._process:
            workers, self._workers = self._workers, []  # first, for no interrupt may leave a thread in both lists
            _idle.extend(workers[::-1])  # in such an order that the next has the same number and is still awake
        else:  # some may still be at work
            self._stop()

    def run(self, function: Any, *args: Any) -> None:
        """Call ``function(*args, tid, size)`` on every thread and wait for all of them."""
        if self._is_alone():
            function(*args, 0, 1)
            return
        ended: list[BaseException | None] = [None] * self.size
        for tid, worker in enumerate(self._workers):
            worker.order = function, (*args, tid, self.size), ended, tid
        self._launch(0, 0, self._workers, False)
        for error in ended:
            if error is not None:
                raise error

    def launch(self, function: int, argument: int, relieves: bool = False) -> None:
        """The same for a compiled ``function(argument, tid, size)`` at an address; see `addressed`.

        With `relieves` the calling thread also does the parts that no other has begun when it is through with its own,
        so the team is never much slower than one thread; no part may then wait for another.
        """
        if self._is_alone():
            _boxes.launch(function, argument, 0, 1, 0)
        else:
            self._launch(function, argument, self._workers[1:], relieves)

    def _is_alone(self) -> bool:
        return self.size == 1 or os.getpid() != self._process  # a forked child has none of the threads

    def _launch(self, function: int, argument: int, workers: list[_Worker], relieves: bool) -> None:
        first, count = workers[0].address, len(workers)
        if not sleeps_in_kernel():
            for worker in workers:
                worker.rouse()
        try:
            _boxes.launch(function, argument, first, self.size, int(relieves))
            while not _boxes.all_ended(first, count, 0):  # a few milliseconds each: signals are served in between
                pass
        except BaseException:
            # An interrupt. Of a second one Python knows nothing before this call has come back.
            _boxes.all_ended(first, count, 1)
            raise

    def _stop(self) -> None:
        """End the threads, which may be at work, and wait for that."""
        if os.getpid() == self._process:
            for worker in self._workers:
                worker.stop()
            for worker in self._workers:
                worker.join()
        self._workers = []
