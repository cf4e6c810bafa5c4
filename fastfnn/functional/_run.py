"""How a function runs its kernel: on how many threads."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
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
    """Cores that this process may use: by its affinity, by its control group's quota, and by OMP_NUM_THREADS."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, min([allowed, *_quota(), *([int(asked)] if asked.isdecimal() and int(asked) else [])]))


@functools.cache
def _quota(root: Path = Path("/")) -> list[int]:
    """Whole cores of processor time that Linux' control groups grant; nothing where they do not say."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
        base = root / "sys/fs/cgroup"
        for _, names, path in (line.split(":", 2) for line in lines):
            # Version 2 has no names, and one hierarchy; a container sees its own group as the root.
            below = base if not names else base / "cpu" if "cpu" in names.split(",") else None
            if below is None:
                continue
            group = below / path.lstrip("/")
            for folder in (group, *group.parents):
                found += _quota_of(folder)
                if folder == below:
                    break
    return found


def _quota_of(folder: Path) -> list[int]:
    """Of one group: `cpu.max` of version 2, or the two files of version 1."""
    with contextlib.suppress(OSError, ValueError):
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text("utf-8").split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text("utf-8") for name in ("quota", "period"))
        if quota.strip() != "max" and int(quota) > 0:
            return [math.ceil(int(quota) / int(period))]
    return []


def team_size(n_threads: int | None, *, automatic_many: bool) -> int:
    """As many as were asked for, else all cores or one; never more than there are cores: they would only take turns."""
    if n_threads is None and not automatic_many:
        return 1
    most = cores()
    return min(check.n_threads(n_threads, automatic=most), most)


def team_for(n_threads: int | None, nanoseconds: float) -> Any:
    return kernels.team.Team(team_size(n_threads, automatic_many=nanoseconds >= WORK_WORTH_THREADS))


def run_on_team(
    kernel: Callable[..., None], out: Array, *args: Any, n_threads: int | None, elements_each: float = 1.0
) -> Array:
    nanoseconds = out.size * elements_each * NANOSECONDS_PER_ELEMENT
    if n_threads is None and nanoseconds < WORK_WORTH_THREADS:  # a team of one costs more than a few numbers
        kernel(out, *args)
        return out
    with team_for(n_threads, nanoseconds) as team:
        kernel(out, *args, team=team)
    return out
