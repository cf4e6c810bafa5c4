"""Compiling in two processes: what a helper has made is in the cache, and nothing depends on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from _helpers import run_python

from fastfnn_kernels import _config
from fastfnn_kernels.operations import _ahead

pytestmark = pytest.mark.skipif(not _config.JIT, reason="nothing is compiled")

ANNOUNCEMENT = "fastfnn: compiling kernels for this machine; later runs load them from the cache\n"

# Small operations, so that it takes seconds.
PREPARE = """
import json, os, sys
from fastfnn_kernels import _config, operations
from fastfnn_kernels.operations import _ahead, _registry

if hasattr(os, "sched_getaffinity"):
    os.sched_getaffinity = lambda pid: {0, 1}
os.cpu_count = lambda: 2
BEFORE
compiled = []
compile_here = _registry._compile
_registry._compile = lambda key: compiled.append(key[0]) or compile_here(key)
WANTED = [(name, "float32") for name in ("store", "relu_backward", "sgd", "relu")] + [("store", "float64")]
operations.prepare(WANTED)
_registry._compile = compile_here
here = sorted(compiled)
loaded = sum(operations.address(*key) > 0 and _registry._compiled[key].cache_hits for key in WANTED)
print(json.dumps([here, loaded]))
"""


def prepare(cache: Path, before: str = "") -> tuple[list[str], int, str]:
    """The operations that the process compiled itself, how many it loaded, and what it wrote to stderr."""
    done = run_python(PREPARE.replace("BEFORE", before), NUMBA_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stderr
    here, loaded = json.loads(done.stdout)
    return here, loaded, done.stderr


ALL = sorted(["store", "relu_backward", "sgd", "relu", "store"])


def test_each_process_compiles_a_part_and_the_next_run_loads_all(tmp_path: Path) -> None:
    # The caller waits with its second task until the helper has one.
    before = """
import time
from collections import deque
next_task = _ahead._next
taken = []
def next_in_turn(waiting):
    import threading
    task = next_task(waiting)
    if threading.current_thread() is threading.main_thread():
        while not taken and waiting:
            time.sleep(0.01)
    elif task:
        taken.append(task)
    return task
_ahead._next = next_in_turn
"""
    here, loaded, errors = prepare(tmp_path, before)
    assert errors == ANNOUNCEMENT
    assert 0 < loaded < len(ALL)
    assert len(here) + loaded == len(ALL)
    assert prepare(tmp_path) == ([], len(ALL), "")


FAILURES: dict[str, Any] = {
    "cannot start": "sys.executable = '/nowhere/python'",
    "no interpreter": "sys.executable = None",
    "another program": "sys.executable = '/bin/echo'",
    "fails at once": "_ahead.HELPER = 'raise SystemExit(1)'",
    "says that it is ready and dies": "_ahead.HELPER = 'print()'",
    "talks nonsense": "_ahead.HELPER = 'while True: print()'",
    "one core": "os.sched_getaffinity = lambda pid: {0}; os.cpu_count = lambda: 1",
}


@pytest.mark.parametrize("before", FAILURES.values(), ids=FAILURES)
def test_without_a_helper_the_caller_compiles_all(tmp_path: Path, before: str) -> None:
    code = before + "\n_registry.run_nothing = lambda: None"
    here, loaded, errors = prepare(tmp_path, code)
    assert errors == ANNOUNCEMENT
    assert loaded == 0
    assert set(here) <= set(ALL)
    assert prepare(tmp_path)[:2] == ([], len(ALL))


def test_a_helper_ends_with_an_error_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = _ahead.subprocess.Popen

    def start(*args: Any, **options: Any) -> Any:
        started.append(popen(*args, **options))
        return started[-1]

    def interrupted(key: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_ahead.subprocess, "Popen", start)
    monkeypatch.setattr(_ahead, "HELPER", "import sys; sys.stdin.read()")
    monkeypatch.setattr(_ahead, "_cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        _ahead.compile_ahead([("store", "float32"), ("relu", "float32")], interrupted, lambda: None)
    assert len(started) == 1
    assert started[0].returncode is not None, "neither running nor a zombie"
