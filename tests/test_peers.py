"""The peers table: who is let into it, what is said of those who are not, and what holds a peer back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastfnn as ff

MODULES = ("peers", "_peers_judge", "_peers_report", "_peers_tasks", "_blas", "_timing", "contenders.common")


class Scripts(NamedTuple):
    """The benchmark's modules."""

    peers: Any
    judge: Any
    report: Any
    tasks: Any
    blas: Any
    timing: Any
    common: Any


@pytest.fixture(scope="module")
def scripts() -> Iterator[Scripts]:
    """The modules, with their folder on the path as when the script is run."""
    folder = str(Path(__file__).resolve().parent.parent / "bench")
    sys.path.insert(0, folder)
    try:
        yield Scripts(*map(importlib.import_module, MODULES))
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def data(scripts: Scripts) -> Any:
    (images, labels), _ = ff.data.load_mnist_sample()
    x = images[:2000].reshape(2000, -1).astype(np.float32) / 255
    return scripts.common.Data(x, labels[:2000], images[:2000])


def entry(family: str, *losses: float, late: float = 0.5) -> dict[str, Any]:
    check = {f"loss {number}": loss for number, loss in enumerate(losses, 1)}
    return {"family": family, "check": check, "late": {"loss": late}}


# Judging ----------------------------------------------------------------------------------------------------------


def test_first_losses_are_compared_by_what_they_have_changed(scripts: Scripts) -> None:
    entries = {
        "right": entry("fastfnn", 1.9, 1.5),
        "rounded": entry("JAX", 1.9, 1.50001),
        "a wrong step": entry("PyTorch", 1.9, 1.501),  # by less than a thousandth of the loss
        "right too": entry("PyTorch", 1.9, 1.5),
        "right as well": entry("PyTorch", 1.9, 1.5),
    }
    assert list(scripts.judge.judge("step", entries, before=2.0)) == ["a wrong step"]


def test_late_losses_may_differ_but_must_have_fallen(scripts: Scripts) -> None:
    entries = {
        "right": entry("fastfnn", 1.9, late=0.48),
        "chaotic": entry("JAX", 1.9, late=0.52),
        "risen": entry("PyTorch", 1.9, late=2.1),
        "nothing": entry("PyTorch", 1.9, late=float("nan")),
    }
    wrong = scripts.judge.judge("step", entries, before=2.0)
    assert list(wrong) == ["risen", "nothing"]
    assert "2.1 in the end, 2 before the first step" in wrong["risen"]


def test_each_family_has_one_voice(scripts: Scripts) -> None:
    entries = {f"wrong {number}": entry("fastfnn", 1.8) for number in range(5)}
    entries |= {"JAX": entry("JAX", 1.9), "PyTorch": entry("PyTorch", 1.9)}
    assert all(key.startswith("wrong") for key in scripts.judge.judge("step", entries, before=2.0))
    assert len(scripts.judge.judge("step", entries, before=2.0)) == 5


def test_lenient_families_have_no_say(scripts: Scripts) -> None:
    entries = {
        "fastfnn": entry("fastfnn", 1.5),
        "NumPy": entry("NumPy exercise", 1.51),
        "scikit-learn": entry("scikit-learn", 1.53),
        "wrong": entry("scikit-learn", 1.7),
    }
    assert list(scripts.judge.judge("step", entries, before=2.0)) == ["wrong"]


def test_other_figures_are_compared_by_themselves(scripts: Scripts) -> None:
    entries = {
        name: {"family": name, "check": {"first": value}, "late": {}}
        for name, value in (("fastfnn", 1.0), ("JAX", 1.0001), ("PyTorch", 1.01))
    }
    assert list(scripts.judge.judge("inference", entries)) == ["PyTorch"]


def test_a_number_that_is_none_is_wrong(scripts: Scripts) -> None:
    entries = {name: entry(name, 1.9) for name in ("fastfnn", "JAX", "PyTorch")}
    entries["PyTorch"] = entry("PyTorch", float("nan"))
    assert list(scripts.judge.judge("step", entries, before=2.0)) == ["PyTorch"]


# A row of fastfnn that falls out ----------------------------------------------------------------------------------


class Fake:
    """A worker that answers at once."""

    def __init__(self, family: str, losses: dict[str, float], error: str = "") -> None:
        self.family, self.n_threads, self.losses, self.error = family, 1, losses, error

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        if do == "variants":
            return {"variants": list(self.losses)}
        if do == "prepare":
            if self.error:
                raise importlib.import_module("_workers").WorkerError(self.error)
            loss = self.losses[request["variant"]]
            return {"first_s": 0.0, "check": {"loss 1": loss}, "late": {"loss": 0.0}}
        return {"seconds": 1e-4 * request["count"]} if do == "run" else {}


def run(scripts: Scripts, data: Any, monkeypatch: pytest.MonkeyPatch, ours: Fake) -> tuple[Any, dict[str, Any]]:
    """A step of 64 rows, by that worker and two others that are right; and the result as the report takes it."""
    monkeypatch.setattr(scripts.peers, "_peak", lambda count: 1e-4 * count)
    monkeypatch.setattr(scripts.peers, "PAUSE", 0.0)
    settings = scripts.peers.Settings(1, 1, 1e-3, 1, 1.0)
    workers = [ours, Fake("JAX", {"jit": 2.0}), Fake("PyTorch", {"SGD": 2.0})]
    runner = scripts.peers.Runner(workers, settings, True, data)
    task = scripts.common.Task("step", "784-100-10", 64)
    done = runner.task(task, scripts.tasks.effort(task, len(data.x)), lambda line: None)
    machine = {"cpu": "", "cores": 1, "system": "", "versions": {}, "commit": "", "load_before": None}
    nothing = {"warnings": [], "blas": {}, "blas_missing": "", "skipped": {}, "imports": {}, "quick": True}
    result = {"machine": machine, "data": "", "settings": settings._asdict(), "seconds": 1.0, "tasks": [done]}
    result |= nothing | {"copy_gbytes_per_s": 1.0, "problems": runner.problems, "errors": runner.errors}
    return runner, result


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        (Fake("fastfnn", {"fit": 1.9}), "loss 1 is 1.9, the others' 2"),
        (Fake("fastfnn", {"fit": 2.0}, "ValueError: no"), "ValueError: no"),
    ],
)
def test_a_row_of_ours_that_falls_out_is_an_error(
    scripts: Scripts, data: Any, monkeypatch: pytest.MonkeyPatch, ours: Fake, why: str
) -> None:
    runner, result = run(scripts, data, monkeypatch, ours)
    assert runner.errors == [f"784-100-10, training step, 64 rows, fastfnn: fit: {why}"]
    assert not runner.problems
    report = scripts.report.markdown(result)
    assert f"**Error: a row of fastfnn's own fell out. {runner.errors[0]}**" in report
    assert "| 784-100-10, training step | 64 | **fell out** |" in report


def test_a_peer_that_falls_out_is_left_out(scripts: Scripts, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Fake("fastfnn", {"fit": 2.0})
    runner, result = run(scripts, data, monkeypatch, ours)
    assert not runner.errors and not runner.problems
    assert "fell out" not in scripts.report.markdown(result)

    ours.family = "ONNX Runtime"
    ours.losses = {"session": 1.0}
    runner, result = run(scripts, data, monkeypatch, ours)
    assert not runner.errors and len(runner.problems) == 1
    assert "fell out" not in scripts.report.markdown(result)


# Tasks ------------------------------------------------------------------------------------------------------------


def test_every_task_has_a_title_a_headline_and_an_effort(scripts: Scripts) -> None:
    groups = list(scripts.tasks.GROUPS)
    tasks = scripts.tasks.tasks(groups, False, 60_000)
    assert len({(scripts.tasks.title(task), task.batch) for task in tasks}) == len(tasks)
    for task in tasks:
        assert task.kind in scripts.report.HEADLINE
        effort = scripts.tasks.effort(task, 60_000)
        assert list(effort.checks) == sorted(set(effort.checks)) and effort.checks[0] >= 1
        assert effort.late == 0 or effort.checks[-1] < effort.late <= effort.most_loops


def test_random_rows_have_something_to_learn(scripts: Scripts, data: Any) -> None:
    for name, outputs in (("100-256-256-1", 1), ("4-32-16-4 tanh", 4)):
        task = scripts.common.Task("step", name, 256, "Adam")
        x, y = scripts.common.training_set(task, data)
        assert len(x) == len(y) == task.description.rows
        if outputs == 1:
            assert y.shape == (len(x), 1) and y.dtype == np.float32
        else:
            assert set(np.unique(y)) == set(range(outputs))


# BLAS and turns ---------------------------------------------------------------------------------------------------


def test_variables_that_hold_a_peer_back_are_warned_of(scripts: Scripts) -> None:
    assert scripts.blas.held_back({"PATH": "/bin", "OPENBLAS_CORETYPE": ""}) == []
    (warning,) = scripts.blas.held_back({"OPENBLAS_CORETYPE": "Haswell"})
    assert warning == "OPENBLAS_CORETYPE=Haswell is set: it may hold back NumPy and scikit-learn"


def test_libraries_are_described_once(scripts: Scripts) -> None:
    library = {"internal_api": "openblas", "version": "0.3.30", "architecture": "SkylakeX", "num_threads": 2}
    assert scripts.blas.described([library, library]) == "OpenBLAS 0.3.30 with SkylakeX kernels, 2 threads"
    assert scripts.blas.described([]) == "no library that is known"


def test_slow_contenders_have_fewer_turns(scripts: Scripts) -> None:
    contenders = {"slow": lambda count: 1.0, "fast": lambda count: 0.1}
    timings = scripts.timing.interleave(contenders, 4, 0.01, seldom=["slow"], stride=3)
    assert {name: len(timing.samples) for name, timing in timings.items()} == {"slow": 2, "fast": 4}
