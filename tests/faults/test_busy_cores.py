"""Beside other processes that want the cores: a training takes its share of them, and never waits for its slice's end.

Bounds are generous, for the machine of a test is anybody's; `bench/session.py` measures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from _helpers import run_python

from fastfnn.functional import cores
from fastfnn_kernels import _config

pytestmark = [
    pytest.mark.skipif(not _config.JIT, reason="without the JIT there is one thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="only there threads wait in the kernel"),
]

STEPS = """
import json, time
import numpy as np
import fastfnn as ff

rng = np.random.default_rng(0)
x, y = rng.random((6400, 784), np.float32), rng.integers(0, 10, 6400)
x[rng.random(x.shape) < 0.8] = 0
options = dict(loss=ff.CrossEntropyLoss(), batch_size=64, progress=False)
seconds = {1: [], 2: []}
for _ in range(5):
    for n_threads in seconds:
        model = ff.Sequential(ff.Linear(784, 100), ff.ReLU(), ff.Linear(100, 10), seed=0)
        history = ff.fit(model, x, y, optimizer=ff.SGD(0.01), epochs=3, n_threads=n_threads, **options)
        seconds[n_threads].append(min(history.seconds))
print(json.dumps(sorted(seconds[2])[2] / sorted(seconds[1])[2]))
"""


@pytest.fixture(params=[2, 4])
def busy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Other processes that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(request.param)]
    yield
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.usefixtures("busy")
def test_two_threads_beside_busy_processes_do_not_wait_for_the_ends_of_slices() -> None:
    """It once was 80 times one thread's time."""
    if cores() < 2:
        pytest.skip("one core")
    done = run_python(STEPS, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) < 8
