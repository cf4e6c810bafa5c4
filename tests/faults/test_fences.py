"""No kernel reads or writes outside of its arrays: their neighbours are pages that nobody may touch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from _helpers import run_python

from fastfnn_kernels import _config

pytestmark = [
    pytest.mark.skipif(not _config.JIT, reason="NumPy keeps to its arrays"),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no mprotect"),
]

CODE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from faults import _fenced
"""


def test_a_touch_outside_ends_the_process() -> None:
    """Else the tests below would prove nothing."""
    touch = "from fastfnn_kernels.simd import array_at\nimport numba\n"
    touch += "peek = numba.njit(lambda address: array_at(address, (1,), numba.float64)[0])\n"
    touch += "import numpy as np\nfence = _fenced.Fence(np.ones(5), at_end=True)\n"
    touch += "print(fence.array.sum(), flush=True)\npeek(fence.array.ctypes.data + 40)\n"
    done = run_python(CODE + touch)
    assert done.stdout == "5.0\n", done.stderr
    assert done.returncode < 0


@pytest.mark.parametrize("seed", range(4))
def test_training_and_prediction_stay_inside(seed: int) -> None:
    done = run_python(CODE + f"_fenced.attack({seed}, 40)\nprint('whole')")
    assert done.stdout == "whole\n", done.stderr
