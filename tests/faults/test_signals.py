"""Interrupts and kills: a process ends soon, its heap is whole, no training is lost, and no file is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _helpers import run_python

import fastfnn as ff
from fastfnn_kernels import _config, team

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
needs_jit = pytest.mark.skipif(not _config.JIT, reason="nothing is compiled")

# In a compilation -----------------------------------------------------------------------------------------------------

COMPILING = """
import ctypes, os, signal, sys, threading, weakref
from numba.core import event
from fastfnn_kernels import _config, _interrupts
from fastfnn_kernels.activations import relu
import numpy as np

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it

class Terminated(BaseException):
    pass

def terminate(number, frame):
    raise Terminated

if SIGNAL == signal.SIGTERM:
    signal.signal(signal.SIGTERM, terminate)
before = signal.getsignal(SIGNAL)

class Thing:
    pass

def dropped():
    # Where C calls Python back what is raised is printed and dropped.
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), SIGNAL))
    del thing

class Shoot(event.Listener):
    passes = 0

    def on_start(self, event):
        Shoot.passes += 1
        if Shoot.passes == 5:
            sys.stderr = open(os.devnull, "w")
            dropped()
            sys.stderr = sys.__stderr__

    def on_end(self, event):
        pass

event.register("numba:run_pass", Shoot())
try:
    relu(np.empty(3), np.ones(3))
    print("went on")
except BaseException as error:
    print(type(error).__name__, Shoot.passes < 10)
print(signal.getsignal(SIGNAL) == before)
out = np.empty(3)
relu(out, np.ones(3))
print(out.tolist())
"""


@needs_jit
@pytest.mark.parametrize(("number", "error"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "Terminated")])
def test_a_signal_that_is_dropped_within_a_compilation_ends_it_all_the_same(
    tmp_path: Path, number: str, error: str
) -> None:
    done = run_python(COMPILING.replace("SIGNAL", f"signal.{number}"), NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.splitlines() == [f"{error} True", "True", "[1.0, 1.0, 1.0]"], done.stderr


@needs_jit
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_helper_ends_with_the_process_that_compiles(tmp_path: Path, number: int) -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(os, "sched_getaffinity"):
    os.sched_getaffinity = lambda pid: {0, 1}
from fastfnn_kernels.operations import _ahead
start = _ahead._start
def told():
    helper = start()
    print(helper.pid, flush=True)
    return helper
_ahead._start = told
from fastfnn_kernels import operations
names, dtypes = ("convolution_backward", "convolution"), ("float32", "float64")
operations.prepare([(name, dtype) for name in names for dtype in dtypes])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    helper = int(process.stdout.readline())
    time.sleep(1.5)  # both are at work
    process.send_signal(number)
    process.wait(timeout=30)
    process.stdout.close()
    assert process.returncode == -number
    for _ in range(300):
        if not runs(helper):
            break
        time.sleep(0.1)
    assert not runs(helper)


def runs(process: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # there, on a system without /proc
        return True


# In a training --------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupts() -> Any:
    """Ctrl-C is served as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def train(model: ff.Sequential, **options: Any) -> ff.History:
    rng = np.random.default_rng(0)
    x, y = rng.random((3000, 30), np.float32), rng.integers(0, 4, 3000)
    settings = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.Adam(1e-3), "seed": 0, "progress": False}
    return ff.fit(model, x, y, **{**settings, **options})


def network() -> ff.Sequential:
    return ff.Sequential(ff.Linear(30, 20), ff.ReLU(), ff.Dropout(0.1), ff.Linear(20, 4), seed=0)


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_one_or_two_interrupts_leave_parameters_threads_and_heap_whole(interrupts: Any, n_threads: int) -> None:
    rng, model = random.Random(n_threads), network()
    train(model, n_threads=n_threads)
    for gap in (None, 0.0001, 0.001, 0.003, 0.01, 0.03):
        ended = threading.Event()

        def shoot(wait: float = rng.uniform(0.01, 0.1), gap: float | None = gap, ended: Any = ended) -> None:
            for pause in [wait] if gap is None else [wait, gap]:
                time.sleep(pause)
                os.kill(os.getpid(), signal.SIGINT)
            ended.set()

        came, shooter = 0, threading.Thread(target=shoot)
        while not ended.is_set() or came == 0:
            try:
                if not shooter.ident:
                    shooter.start()
                train(model, epochs=10**6, n_threads=n_threads)
            except KeyboardInterrupt:
                came += 1
        try:
            shooter.join()
            time.sleep(0.01)
        except KeyboardInterrupt:  # the second one came so late
            came += 1
        assert came <= 2
        assert np.isfinite(model.parameters).all()
    assert len(team._alive) - len(team._idle) <= 2 * n_threads, "at most those that a second interrupt kept from an end"
    expected, got = network(), network()
    assert train(expected, epochs=2, n_threads=n_threads).loss == train(got, epochs=2, n_threads=1).loss
    np.testing.assert_array_equal(expected.parameters, got.parameters)


TERMINATED = """
import os, signal, sys, threading
import numpy as np
import fastfnn as ff

model = ff.Sequential(ff.Linear(30, 4), seed=0)
x, y = np.ones((100, 30), np.float32), np.zeros(100, int)
def terminate(end):
    if end.epoch == 3:
        os.kill(os.getpid(), signal.SIGTERM)
options = dict(loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1), progress=False)
try:
    ff.fit(model, x, y, epochs=1000, callbacks=[terminate], **options)
except SystemExit as end:
    print("in order", end.code, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
# Another's handler stays, and no thread but the main one can have one.
came = []
signal.signal(signal.SIGTERM, lambda *_: came.append(1))
ff.fit(model, x, y, epochs=4, callbacks=[terminate], **options)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
thread = threading.Thread(target=ff.fit, args=(model, x, y), kwargs=options)
thread.start()
thread.join()
print(came)
"""


def test_sigterm_ends_a_training_in_order() -> None:
    done = run_python(TERMINATED)
    assert done.stdout.splitlines() == ["in order 143 True", "[1]"], done.stderr


# A process that was started in the background ignores Ctrl-C.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastfnn.cli import main
sys.exit(main())
"""


def command(folder: Path) -> list[str]:
    settings = ["--out", str(folder), "--seed", "3", "--epochs", "15", "--quiet"]
    return [sys.executable, "-c", COMMAND, "train", *settings]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing has ended."""
    folder = tmp_path_factory.mktemp("trained") / "whole"
    subprocess.run(command(folder), check=True, capture_output=True)
    return folder


@needs_jit
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_was_ended_goes_on_to_the_same_bits_and_leaves_no_file(
    whole: Path, tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "ended"
    process = subprocess.Popen(
        command(folder),
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while not (folder / "checkpoint.safetensors").exists():
        time.sleep(0.002)
    time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
        assert errors.splitlines()[-1] == f"fastfnn: {word}; to go on: fastfnn train --resume {folder}"
        assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
    resume = [sys.executable, "-m", "fastfnn", "train", "--resume", str(folder), "--quiet"]
    subprocess.run(resume, check=True, capture_output=True)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(whole))
    expected, got = (ff.load(path / "model.safetensors") for path in (whole, folder))
    np.testing.assert_array_equal(expected.parameters, got.parameters)
