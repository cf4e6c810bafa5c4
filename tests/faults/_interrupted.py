"""Trainings and first compilations that signals end at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import fastfnn as ff
from fastfnn.interchange import safetensors

#: Seconds after which a process must have ended, and those that a loaded machine may add.
SOON, GRACE = 1.0, 4.0

TRAINING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
import numpy as np
import fastfnn as ff

path, epochs, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
rng = np.random.default_rng(0)
x, y = rng.random((2000, 50), np.float32), rng.integers(0, 4, 2000)
layers = ff.Linear(50, 40), ff.ReLU(), ff.Dropout(0.1), ff.Linear(40, 4)
model = ff.Sequential(*layers, seed=0)
print("begun", flush=True)
ff.fit(
    model, x, y, loss=ff.CrossEntropyLoss(), optimizer=ff.Adam(1e-3), seed=1, epochs=epochs, progress=False,
    n_threads=2, callbacks=[ff.Checkpoint(path)], resume=path if resume else None,
)
"""


def some(seed: int, rounds: int) -> Counter[str]:
    """End so many trainings, one of them while it compiles for the first time; each goes on to the same bits."""
    draw, done = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(rounds):
            cold = number == 0
            cache = str(folder / "cache") if cold else os.environ.get("NUMBA_CACHE_DIR")
            kind = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
            twice = kind == signal.SIGINT and draw.random() < 0.5
            path = folder / f"{number}"
            process = _start(path, 100_000, "begin", cache)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.uniform(0.1, 6.0) if cold else draw.uniform(0.0, 4.0))
            began = time.perf_counter()
            process.send_signal(kind)
            if twice:
                time.sleep(draw.uniform(0.0001, 0.03))
                process.send_signal(kind)
            _, errors = process.communicate(timeout=60)
            seconds = time.perf_counter() - began
            assert seconds < SOON + GRACE, f"it took {seconds:.1f} s after {kind!r}"
            allowed = {signal.SIGINT: {-2, 1, 130}, signal.SIGTERM: {143, -15}, signal.SIGKILL: {-9}}[kind]
            assert process.returncode in allowed, f"{process.returncode} after {kind!r}: {errors}"
            done["kills"] += 1
            done["ms to the slowest end"] = max(done["ms to the slowest end"], int(1000 * seconds))
            if path.exists():
                _check_goes_on(path)
                done["resumed to the same bits"] += 1
            left = [file for file in os.listdir(folder) if file.endswith(".tmp")]
            assert kind == signal.SIGKILL or not left, left
    return done


def _start(path: Path, epochs: int, how: str, cache: str | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(path), str(epochs), how],
        env={**os.environ, **({"NUMBA_CACHE_DIR": cache} if cache else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def _parameters(path: Path, epochs: int, how: str) -> bytes:
    """The parameters after a training to the end of so many epochs."""
    process = _start(path, epochs, how)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return ff.load(path).parameters.tobytes()


def _check_goes_on(path: Path) -> None:
    """What was ended goes on to the bits of a training that was not."""
    training = safetensors.read(path).training
    assert training is not None
    epochs = json.loads(training)["epoch"] + 3
    assert _parameters(path, epochs, "resume") == _parameters(path.with_suffix(".whole"), epochs, "begin")
