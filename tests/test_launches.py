"""Compiled functions on a team, which lets go of nobody: not of signals, nor of a fork or of the interpreter's end."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _helpers import run_python
from _threads import end_idle_threads, needs_jit, no_idle_threads, threads_of_teams  # noqa: F401
from numba import types

from fastfnn_kernels import _boxes, _config
from fastfnn_kernels.simd import array_at, atomic_add, atomic_load, yield_thread
from fastfnn_kernels.team import Team


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
import test_launches, test_team
from fastfnn_kernels.team import Team, barrier_state

for size in (2, 3, 4):
    arrivals, slots, errors = np.zeros(200, np.int64), np.zeros(16 * size, np.int64), np.zeros(2, np.int64)
    with Team(size) as crew:
        crew.run(test_team.run_phases, barrier_state(), arrivals, slots, errors)
        counts = np.zeros(5, np.int64)
        for launch in range(100):
            crew.launch(test_launches.launched(test_launches.count_calls).address, counts.ctypes.data, launch % 2)
            if launch % 20 == 0:
                time.sleep(0.06)  # longer than they poll or nap
    print(arrivals.min(), arrivals.max(), errors.sum(), counts[:4].sum())
"""


@needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="there threads yield")
def test_where_the_system_has_no_wait_for_a_number_threads_look_now_and_then(tmp_path: Path) -> None:
    done = run_python(ELSEWHERE.replace("TESTS", repr(str(Path(__file__).parent))), NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.splitlines() == [f"{size} {size} 0 {100 * size}" for size in (2, 3, 4)], done.stderr
