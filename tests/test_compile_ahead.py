"""Compiling in two processes: what a helper has made is in the cache, and nothing depends on it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from _helpers import run_python

from fastfnn_kernels import _announcing, _cache, _config
from fastfnn_kernels.operations import OPERATIONS, _ahead

pytestmark = pytest.mark.skipif(not _config.JIT, reason="nothing is compiled")

ANNOUNCEMENT = (
    "fastfnn: compiling kernels for this machine (dense, activations, optimizers), a few seconds, once; "
    "later runs load them from the cache\n"
)

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


def test_whatever_is_compiled_is_counted_once_whoever_compiles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = "import sys\nwhile True:\n    print(flush=True)\n    sys.stdin.readline() or sys.exit()"
    monkeypatch.setattr(_ahead, "HELPER", talks)
    monkeypatch.setattr(_ahead, "_cores", lambda: 2)
    counted: list[int] = []
    keys = [(name, "float32") for name in ("product", "store", "relu", "tanh", "sgd")]
    waiting = threading.Event()

    def compile_one(key: Any) -> None:
        waiting.wait(30)  # the helper, which is faster, does all the others

    def advance() -> None:
        counted.append(1)
        if len(counted) == len(keys) - 1:
            waiting.set()

    _ahead.compile_ahead(keys, compile_one, lambda: None, advance)
    assert len(counted) == len(keys)


def test_an_estimate_counts_what_takes_long_and_who_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = [("relu", "float32"), ("tanh", "float32")], [("convolution", "float32"), ("tanh", "float32")]
    for helps in (False, True):
        monkeypatch.setattr(_ahead, "_may_start", lambda helps=helps: helps)
        assert _ahead.estimate(small) == 2 * _ahead.SECONDS / (1 + helps)
        assert _ahead.estimate(large) == (_ahead.SLOW["convolution"] + _ahead.SECONDS) / (1 + helps)
        assert _ahead.estimate(small[:1]) == _ahead.SECONDS, "nobody helps with one"
        assert _ahead.estimate(small[:1], is_first=True) == _ahead.SECONDS + _ahead.RUNNER_SECONDS
    assert _ahead.SLOW.keys() <= OPERATIONS.keys()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "a few seconds"), (7.4, "a few seconds"), (7.6, "about 10 s"), (22.0, "about 20 s"), (89, "about 90 s"),
     (91, "about 2 minutes"), (400, "about 7 minutes")],
)  # fmt: skip
def test_estimates_are_round(seconds: float, said: str) -> None:
    assert _announcing.about(seconds) == said


def test_every_operation_has_a_family_that_people_know() -> None:
    assert {operation.family for operation in OPERATIONS.values()} == {
        "activations", "augmentation", "branches", "convolution", "dense", "dropout", "embedding", "losses",
        "normalization", "optimizers", "padding", "pooling",
    }  # fmt: skip


def test_a_terminal_has_a_bar_below_the_line_and_a_log_the_line_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda is_terminal=is_terminal: is_terminal, raising=False)
        with _announcing.announced(["pooling", "dense", "pooling"], 2, 20.0) as advance:
            advance()
            advance()
        line, *bar = capsys.readouterr().err.split("\n")
        assert line.startswith("fastfnn: compiling kernels for this machine (pooling, dense), about 20 s")
        assert ("2/2" in "".join(bar)) == is_terminal


def test_a_cache_is_empty_until_something_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, is_empty in ((None, True), (tmp_path, True), (tmp_path, False)):
        monkeypatch.setattr(_cache, "usable_folder", lambda folder=folder: folder)
        assert _cache.is_empty() == is_empty
        if folder is not None:
            (folder / "kernel").touch()


def test_the_cache_is_known_by_families(tmp_path: Path) -> None:
    code = """
import json, numpy as np
from fastfnn_kernels import operations
none = operations.cached_families(np.float32)
operations.prepare([("relu", np.float32), ("store", np.float32), ("relu", np.float64)])
print(json.dumps([none, operations.cached_families(np.float32), operations.cached_families(np.float64)]))
"""
    done = run_python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    none, single, double = json.loads(done.stdout)
    assert {there for there, _ in none.values()} == {0}
    assert {name: there for name, (there, _) in single.items() if there} == {"activations": 1, "dense": 1}
    assert {name: there for name, (there, _) in double.items() if there} == {"activations": 1}
    assert {name: number for name, (_, number) in single.items()} == {
        name: number for name, (_, number) in none.items()
    }


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
