"""Where memory ends: MemoryError and the old parameters; no hang, and no end of the process that is ours."""

from __future__ import annotations

import sys

import pytest
from _helpers import run_python

from fastfnn_kernels import _config

pytestmark = [
    pytest.mark.skipif(not _config.JIT, reason="nothing is compiled"),
    pytest.mark.skipif(sys.platform != "linux", reason="address space is limited by the system's own means"),
]

LIMITED = """
import resource, sys
import numpy as np
import fastfnn as ff

rng = np.random.default_rng(0)
x, y = rng.random((400, 784), np.float32), rng.integers(0, 10, 400)
model = ff.Sequential(ff.Linear(784, WIDTH), ff.ReLU(), ff.Linear(WIDTH, 10), seed=0)
optimizer = ff.Adam(1e-3)
options = dict(loss=ff.CrossEntropyLoss(), optimizer=optimizer, batch_size=BATCH, progress=False)
ff.fit(model, x, y, **options, n_threads=1)  # all is compiled, and LLVM's memory is LLVM's
before = model.parameters.copy()
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + MORE, resource.RLIM_INFINITY))
try:
    ff.fit(model, x, y, **options, epochs=2, n_threads=2)
    ended = "trained"
except MemoryError:
    ended = "refused"
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
print(ended, ended == "trained" or model.parameters.tobytes() == before.tobytes())
"""


@pytest.mark.parametrize("batch", [64, None])
@pytest.mark.parametrize("width", [100, 1000])
@pytest.mark.parametrize("more", [0, 1 << 16, 1 << 23])
def test_a_training_is_done_or_refused_and_changes_nothing(width: int, batch: int | None, more: int) -> None:
    code = LIMITED.replace("WIDTH", str(width)).replace("BATCH", str(batch)).replace("MORE", str(more))
    done = run_python(code, timeout=60)
    assert done.stdout in ("trained True\n", "refused True\n"), done.stderr
    assert done.returncode == 0
