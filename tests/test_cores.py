"""How many cores a process may use: what its affinity, its control groups and the environment say."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastfnn.functional import _run

CORES = _run.cores


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    _run._quota.cache_clear()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(_run.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def group(root: Path, own: str, files: dict[str, str]) -> list[int]:
    """The quotas of a process whose line in /proc/self/cgroup is `own`."""
    for name, text in {"proc/self/cgroup": own, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return _run._quota(root)


def test_version_2_in_a_container_and_below_a_slice(tmp_path: Path) -> None:
    assert group(tmp_path / "a", "0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}) == [2]
    nested = {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/user/job/cpu.max": "100000 100000\n"}
    assert group(tmp_path / "b", "0::/user/job\n", {**nested, "sys/fs/cgroup/user/cpu.max": "300000 100000"}) == [1, 3]


def test_version_1(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/cpu/box/"
    files = {f"{folder}cpu.cfs_quota_us": "250000\n", f"{folder}cpu.cfs_period_us": "100000\n"}
    assert group(tmp_path / "a", "5:memory:/box\n4:cpu,cpuacct:/box\n", files) == [3]
    files[f"{folder}cpu.cfs_quota_us"] = "-1\n"
    assert group(tmp_path / "b", "4:cpu,cpuacct:/box\n", files) == []


@pytest.mark.parametrize("own", ["", "nonsense", "0::/", "x:y"])
def test_what_cannot_be_read_grants_all(tmp_path: Path, own: str) -> None:
    assert group(tmp_path, own, {"sys/fs/cgroup/cpu.max": "what is this"}) == []
    assert _run._quota(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "value, expected", [("3", 3), ("2,1", 2), ("99", 8), ("0", 8), ("many", 8), ("", 8), ("-1", 8), ("1", 1)]
)
def test_the_environment_may_ask_for_fewer(monkeypatch: pytest.MonkeyPatch, value: str, expected: int) -> None:
    monkeypatch.setattr(_run, "_quota", lambda: [])
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert CORES() == expected


def test_the_least_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "_quota", lambda: [5, 2])
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert CORES() == 2
