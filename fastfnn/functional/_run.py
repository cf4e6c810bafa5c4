"""How a function runs its kernel: on how many threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn import _checks as check

Array = NDArray[Any]

#: What one thread does in a nanosecond, roughly: enough to tell large work from small.
FLOPS_PER_NANOSECOND = 100.0
NANOSECONDS_PER_ELEMENT = 0.5
#: Nanoseconds of work below which starting threads (about 200 µs) costs more than it saves.
WORK_WORTH_THREADS = 500_000.0


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def team_for(n_threads: int | None, nanoseconds: float) -> Any:
    automatic = cores() if nanoseconds >= WORK_WORTH_THREADS else 1
    return kernels.team.Team(check.n_threads(n_threads, automatic=automatic))


def run_on_team(
    kernel: Callable[..., None], out: Array, *args: Any, n_threads: int | None, elements_each: float = 1.0
) -> Array:
    with team_for(n_threads, out.size * elements_each * NANOSECONDS_PER_ELEMENT) as team:
        kernel(out, *args, team=team)
    return out
