"""The SPMD team: fair shares, a barrier that holds, and no thread, lock or error left behind."""

from __future__ import annotations

import _thread
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from _threads import end_idle_threads, needs_jit, no_idle_threads, threads_of_teams  # noqa: F401

from fastfnn_kernels import _config, team
from fastfnn_kernels.activations import relu
from fastfnn_kernels.simd import atomic_add, atomic_load, yield_thread
from fastfnn_kernels.team import Team, barrier_state, share

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


@_config.driver
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


@_config.driver
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
