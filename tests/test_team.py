"""The SPMD team: fair shares, a barrier that holds, and no thread, lock or error left behind."""

from __future__ import annotations

import _thread
import functools
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _helpers import run_python
from numba import types

from fastfnn_kernels import _boxes, _config, team
from fastfnn_kernels.activations import relu
from fastfnn_kernels.simd import array_at, atomic_add, atomic_load, yield_thread
from fastfnn_kernels.team import Team, barrier_state, share

needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT there is one thread and no barrier")


def threads_of_teams() -> list[Any]:
    return [*team._alive]


# Shares ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiple", [1, 8, 16, 64])
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4, 7])
def test_the_shares_cover_the_range_once_in_order_and_about_evenly(n_threads: int, multiple: int) -> None:
    for n in (0, 1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 500, 513, 10_000):
        shares = [share(n, tid, n_threads, multiple) for tid in range(n_threads)]
        covered = [i for start, stop in shares for i in range(start, stop)]
        assert covered == list(range(n))
        assert all(start % multiple == 0 for start, stop in shares if start < stop)
        lengths = [stop - start for start, stop in shares]
        assert max(lengths) - min(lengths) <= 2 * multiple


# The barrier ----------------------------------------------------------------------------------------------------------


@_config.helper
def run_phases(state: Any, arrivals: Any, slots: Any, errors: Any, tid: int, n_threads: int) -> None:
    """Each thread counts itself in and leaves a note; behind the barrier, all must have done so."""
    for phase in range(arrivals.size):
        slots[tid * 16] = phase + tid
        atomic_add(arrivals, phase, 1)
        team.barrier(state, n_threads)
        if atomic_load(arrivals, phase) != n_threads:
            atomic_add(errors, 0, 1)
        for other in range(n_threads):
            if slots[other * 16] != phase + other:
                atomic_add(errors, 1, 1)
        team.barrier(state, n_threads)


@needs_jit
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
def test_no_thread_passes_the_barrier_before_the_last_has_come(n_threads: int) -> None:
    arrivals, errors = np.zeros(2000, np.int64), np.zeros(2, np.int64)
    slots = np.zeros(16 * n_threads, np.int64)
    with Team(n_threads) as crew:
        crew.run(run_phases, barrier_state(), arrivals, slots, errors)
    np.testing.assert_array_equal(arrivals, n_threads)
    np.testing.assert_array_equal(errors, 0)


@needs_jit
def test_a_barrier_may_be_used_again_in_the_next_launch() -> None:
    state, errors = barrier_state(), np.zeros(2, np.int64)
    with Team(2) as crew:
        for _ in range(20):
            crew.run(run_phases, state, np.zeros(11, np.int64), np.zeros(32, np.int64), errors)
    np.testing.assert_array_equal(errors, 0)


# The team -------------------------------------------------------------------------------------------------------------


@needs_jit
@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_thread_gets_the_launch_with_its_number(size: int) -> None:
    seen: list[tuple[Any, ...]] = []
    with Team(size) as crew:
        for launch in range(50):
            crew.run(lambda *args: seen.append(args), launch)
            assert sorted(seen) == [(launch, tid, size) for tid in range(size)]
            seen.clear()


@pytest.fixture(autouse=True)
def no_idle_threads() -> Iterator[None]:
    """Every test begins without threads that wait for a team, and leaves none that a team has lost."""
    end_idle_threads()
    yield
    end_idle_threads()
    assert not threads_of_teams()


def end_idle_threads() -> None:
    while team._idle:
        worker = team._idle.pop()
        worker.stop()
        worker.join()


@needs_jit
def test_the_threads_of_a_team_wait_for_the_next() -> None:
    with Team(3):
        first = threads_of_teams()
        assert len(first) == 3
    assert threads_of_teams() == first
    with Team(2) as one, Team(2) as other:  # one of them is new
        assert len(threads_of_teams()) == 4
        one.run(lambda tid, size: None)
        other.run(lambda tid, size: None)
    assert len(team._idle) == 4


@needs_jit
def test_threads_that_nobody_wants_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "IDLE_SECONDS", 0.01)
    with Team(2) as crew:
        time.sleep(0.1)  # far longer than they would wait
        assert len(threads_of_teams()) == 2
        seen: list[int] = []
        crew.run(lambda tid, size: seen.append(tid))
        assert sorted(seen) == [0, 1]
    for worker in threads_of_teams():
        worker.join()
    assert not threads_of_teams()
    assert not team._idle


@needs_jit
def test_after_an_error_no_thread_is_left() -> None:
    with pytest.raises(ZeroDivisionError), Team(3):
        raise ZeroDivisionError
    assert not threads_of_teams()


@needs_jit
@pytest.mark.parametrize("when", ["while one begins", "when one has begun"])
def test_an_interrupt_while_a_team_begins_leaves_no_thread(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for a team for many seconds: nobody knows of it."""
    started: list[Any] = []

    def start(function: Any, arguments: Any) -> int:
        number = _thread.start_new_thread(function, arguments)
        started.append(function.__self__)
        if when == "while one begins" and len(started) == 2:
            raise KeyboardInterrupt
        return number

    def take() -> Any:
        if when == "when one has begun" and len(started) == 2:
            raise KeyboardInterrupt
        return team._Worker()

    monkeypatch.setattr(team, "_take_worker", take)
    monkeypatch.setattr(team, "_thread", thread_module(start))
    with pytest.raises(KeyboardInterrupt), Team(3):
        pass
    for worker in started:
        worker.join(5.0)
    assert len(started) == 2
    assert not threads_of_teams()


def thread_module(start: Any) -> Any:
    """The module `_thread` with another way to start one."""
    return type(
        "_thread",
        (),
        {
            "allocate_lock": _thread.allocate_lock,
            "start_new_thread": staticmethod(start),
            "get_native_id": _thread.get_native_id,
        },
    )


@needs_jit
def test_a_waiting_thread_keeps_nothing_alive() -> None:
    with Team(2) as crew:
        x = np.zeros(3)
        gone = weakref.ref(x)
        crew.run(lambda x, tid, size: None, x)
    del x
    for _ in range(1000):  # the threads may be about to forget it
        if gone() is None:
            break
        time.sleep(0.01)
    assert gone() is None


def test_a_team_of_one_starts_no_thread_and_runs_in_the_caller() -> None:
    seen: list[tuple[Any, ...]] = []
    with Team(1) as crew:
        assert not threads_of_teams()
        crew.run(lambda *args: seen.append((threading.current_thread(), *args)), "x")
    assert seen == [(threading.current_thread(), "x", 0, 1)]


@needs_jit
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_any_thread_reaches_the_caller_and_the_team_goes_on(failing: int) -> None:
    def fail(tid: int, n_threads: int) -> None:
        if tid == failing:
            raise ZeroDivisionError(f"in thread {tid}")

    x, out = np.linspace(-1, 1, 1000), np.empty(1000)
    with Team(3) as crew:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError, match=f"in thread {failing}"):
                crew.run(fail)
            out[:] = np.nan
            relu(out, x, team=crew)
            np.testing.assert_array_equal(out, np.maximum(x, 0))


@needs_jit
def test_arguments_that_no_kernel_takes_are_an_error_and_not_a_hang() -> None:
    with Team(2) as crew, pytest.raises(Exception, match=r"(?i)typ|argument"):
        relu("not an array", object(), team=crew)


def no_more_threads() -> int:
    raise RuntimeError("can't start new thread")


def no_memory() -> int:
    raise MemoryError


def never_begins() -> int:
    """As where there is memory for the thread, but none for what Python keeps of it."""
    return 0


@needs_jit
@pytest.mark.parametrize("refuse", [no_more_threads, no_memory, never_begins])
def test_where_no_thread_can_be_started_one_does_the_work(refuse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = _thread.start_new_thread, []

    def refuse_the_third(function: Any, args: Any) -> int:
        started.append(function)
        return refuse() if len(started) == 3 else start(function, args)

    x, out = np.linspace(-1, 1, 1000), np.full(1000, np.nan)
    with monkeypatch.context() as patch:
        patch.setattr(team, "STARTING_SECONDS", 0.1)
        patch.setattr(_thread, "start_new_thread", refuse_the_third)
        with Team(4) as crew:
            assert (crew.size, len(started)) == (1, 3)
            assert not threads_of_teams()
            relu(out, x, team=crew)
    np.testing.assert_array_equal(out, np.maximum(x, 0))


@needs_jit
def test_several_python_threads_may_each_have_a_team() -> None:
    results: list[bool] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=5000)
        out = np.empty_like(x)
        for _ in range(20):
            with Team(2) as crew:
                for _ in range(5):
                    out[:] = np.nan
                    relu(out, x, team=crew)
                    results.append(np.array_equal(out, np.maximum(x, 0)))

    callers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [True] * 400
    assert len(team._idle) == len(threads_of_teams()) <= 8


@_config.helper
def wait_for(gate: Any, seen: Any, tid: int, n_threads: int) -> None:
    while atomic_load(gate, 0) == 0:
        yield_thread()
    atomic_add(seen, 0, 1)


@needs_jit
def test_the_interpreter_lock_is_free_while_a_kernel_runs() -> None:
    """A kernel waits for what only another Python thread can do: holding the lock it would wait for ever."""
    gate, seen = np.zeros(1, np.int64), np.zeros(1, np.int64)
    with Team(2) as crew:
        crew.run(wait_for, np.ones(1, np.int64), seen)  # compiled before the clock matters
        seen[:] = 0
        opener = threading.Thread(target=lambda: (time.sleep(0.05), gate.fill(1)))
        opener.start()
        crew.run(wait_for, gate, seen)
        opener.join()
    assert seen[0] == 2


# Compiled functions ---------------------------------------------------------------------------------------------------


def count_calls(address: int, tid: int, n_threads: int) -> None:
    counts = array_at(address, (5,), np.int64)
    atomic_add(counts, tid, 1)
    atomic_add(counts, 4, n_threads)


def wait_at_gate(address: int, tid: int, n_threads: int) -> None:
    """Thread 0 is through at once; the others wait for somebody to open the gate, in element 0."""
    gate = array_at(address, (2,), np.int64)
    if tid > 0:
        atomic_add(gate, 1, 1)
        while atomic_load(gate, 0) == 0:
            yield_thread()
        atomic_add(gate, 1, -1)


@functools.cache
def launched(function: Any) -> Any:
    return _config.addressed(function, (types.int64,) * 3)


@needs_jit
@pytest.mark.parametrize("relieves", [False, True])
@pytest.mark.parametrize("pause", [0.0, 0.0003])  # the threads poll, or sleep
@pytest.mark.parametrize("size", [1, 2, 4])
def test_each_part_of_a_compiled_function_is_done_once(size: int, pause: float, relieves: bool) -> None:
    counts = np.zeros(5, np.int64)
    with Team(size) as crew:
        for launch in range(1, 300):
            crew.launch(launched(count_calls).address, counts.ctypes.data, relieves)
            assert counts.tolist() == [launch] * size + [0] * (4 - size) + [launch * size * size]
            time.sleep(pause)
            if launch % 50 == 0:  # Python's turn in between
                seen: list[int] = []
                crew.run(lambda tid, size, seen=seen: seen.append(tid))
                assert sorted(seen) == list(range(size))


@needs_jit
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell")
@pytest.mark.parametrize("relieves", [False, True])
def test_threads_have_the_cores_that_they_were_given(relieves: bool) -> None:
    """A sleeping one is kept from its caller's core while it is woken up, and has it again when the call returns."""
    counts, cores = np.zeros(5, np.int64), os.sched_getaffinity(0)
    with Team(2) as crew:
        worker = int(crew._workers[1].box[_boxes.THREAD])
        for own in [cores, *({core} for core in cores)]:
            os.sched_setaffinity(worker, own)
            for caller in [cores, *({core} for core in cores)]:
                os.sched_setaffinity(0, caller)
                try:
                    for _ in range(30):
                        time.sleep(0.0003)
                        crew.launch(launched(count_calls).address, counts.ctypes.data, relieves)
                        assert os.sched_getaffinity(worker) == own
                        assert os.sched_getaffinity(0) == caller
                finally:
                    os.sched_setaffinity(0, cores)
        os.sched_setaffinity(worker, cores)


@needs_jit
def test_a_part_that_no_thread_has_begun_is_the_callers() -> None:
    """There is a box, and no thread at it until the end, when it finds two orders."""
    counts, box, function = np.zeros(5, np.int64), _boxes.new_box(), launched(count_calls).address
    _boxes.load()
    _boxes.launch(function, counts.ctypes.data, box.ctypes.data, 2, 1)
    assert counts.tolist() == [1, 1, 0, 0, 4]
    assert _boxes.all_ended(box.ctypes.data, 1, 1)
    _boxes.launch(function, counts.ctypes.data, box.ctypes.data, 2, 0)
    assert not _boxes.all_ended(box.ctypes.data, 1, 0)
    assert counts.tolist() == [2, 1, 0, 0, 6]
    assert not _boxes.attend(box.ctypes.data, 0, 0)
    assert counts.tolist() == [2, 2, 0, 0, 8], "the second order was done, and once"
    assert _boxes.all_ended(box.ctypes.data, 1, 1)
    assert box[_boxes.POSTED] == box[_boxes.ENDED] == 2


@needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_the_caller_leaves_a_compiled_function_when_all_have_ended_and_serves_signals_before() -> None:
    gate, handled = np.zeros(2, np.int64), []

    def interrupt(number: int, frame: Any) -> None:
        handled.append(int(gate[1]))
        raise KeyboardInterrupt

    def shoot() -> None:
        while gate[1] == 0:
            time.sleep(0.001)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.03)
        gate[0] = 1

    before = signal.signal(signal.SIGINT, interrupt)
    shooter = threading.Thread(target=shoot)
    try:
        with Team(3) as crew:
            shooter.start()
            came = at_work = 0
            try:
                crew.launch(launched(wait_at_gate).address, gate.ctypes.data)
            except KeyboardInterrupt:
                came, at_work = 1, int(gate[1])
            assert (came, at_work) == (1, 0)
        assert 1 <= handled[0] <= 2, "the first was served while they were at work"
    finally:
        shooter.join()
        signal.signal(signal.SIGINT, before)


EXIT = """
import threading
import numpy as np
from fastfnn_kernels import program
from fastfnn_kernels.team import Team

program.run_nothing()
if AT_WORK:
    def work():
        while True:
            with Team(2) as team:
                team.run(lambda tid, size: None)
    threading.Thread(target=work, daemon=True).start()
with Team(3) as team:
    team.run(lambda tid, size: None)
print("whole")
"""


@needs_jit
@pytest.mark.parametrize("at_work", [False, True])
def test_an_interpreter_ends_though_threads_wait_or_work(at_work: bool) -> None:
    for _ in range(3):
        done = run_python(EXIT.replace("AT_WORK", repr(at_work)), timeout=60)
        assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


FORK = """
import os
import numpy as np
from fastfnn_kernels.activations import relu
from fastfnn_kernels.team import Team

x, out = np.linspace(-1, 1, 1000), np.empty(1000)


def works(team):
    out[:] = np.nan
    relu(out, x, team=team)
    return np.array_equal(out, np.maximum(x, 0))


if IDLE:
    with Team(2) as team:
        assert works(team)
    child = os.fork()
    right = True
else:
    with Team(2) as team:
        assert team.size == 2 and works(team)
        child = os.fork()
        right = works(team)
if child == 0:
    with Team(2) as own:  # and it may have a team of its own
        right = right and own.size == 2 and works(own)
    os._exit(0 if right else 1)
_, status = os.waitpid(child, 0)
print(right, os.waitstatus_to_exitcode(status))
"""


@needs_jit
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("idle", [False, True])
def test_a_child_forked_while_threads_work_or_wait_has_none_of_them(idle: bool) -> None:
    done = run_python(FORK.replace("IDLE", repr(idle)))
    assert done.stdout.split() == ["True", "0"], done.stderr


ELSEWHERE = """
import sys
sys.path.insert(0, TESTS)
from fastfnn_kernels.simd import memory
memory._FUTEX = None  # as on a system that has no such wait
import time
import numpy as np
import test_team
from fastfnn_kernels.team import Team, barrier_state

for size in (2, 3, 4):
    arrivals, slots, errors = np.zeros(200, np.int64), np.zeros(16 * size, np.int64), np.zeros(2, np.int64)
    with Team(size) as crew:
        crew.run(test_team.run_phases, barrier_state(), arrivals, slots, errors)
        counts = np.zeros(5, np.int64)
        for launch in range(100):
            crew.launch(test_team.launched(test_team.count_calls).address, counts.ctypes.data, launch % 2)
            if launch % 20 == 0:
                time.sleep(0.06)  # longer than they poll or nap
    print(arrivals.min(), arrivals.max(), errors.sum(), counts[:4].sum())
"""


@needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="there threads yield")
def test_where_the_system_has_no_wait_for_a_number_threads_look_now_and_then(tmp_path: Path) -> None:
    done = run_python(ELSEWHERE.replace("TESTS", repr(str(Path(__file__).parent))), NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.splitlines() == [f"{size} {size} 0 {100 * size}" for size in (2, 3, 4)], done.stderr
