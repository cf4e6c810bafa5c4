"""fastfnn beside its peers, each in its best form: MNIST networks, their steps and inference, conv blocks, imports.

    python bench/peers.py [--quick] [--only NAME ...] [--tasks GROUP ...] [--data-root DIR] [--out bench/results]

Every contender lives in a process of its own with its own thread settings (`contenders/`), gets the same data, weights
and order of batches, and must come to the same losses or outputs before it is timed (`_peers_judge.py`). The parent
then lets them take turns: while one works, the others block on a pipe, and a short pause lets threads go to sleep that
a library leaves spinning. A register-only FMA loop takes its turn like everybody else: shares of the peak are of the
same seconds.

First all variants of a peer run a few rounds; its two fastest, and everything of fastfnn, go on to the rounds that
count. Written are ``peers.json`` (all figures), ``peers.md`` (the tables) and ``peers.png`` (the ratios, where
matplotlib is installed); absent peers are skipped by name. The tasks are listed in `_peers_tasks.py`. The exit status
is 1 where a contender of fastfnn could not be timed, or was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import _blas
import numpy as np
from _machine import ROOT, cores, describe, measure_copy, peak_flops, peak_seconds
from _peers_judge import OURS, judge
from _peers_plot import plot
from _peers_report import HEADLINE, blas_lines, markdown
from _peers_tasks import GROUPS, Effort, effort, tasks, title
from _timing import Sampler, Timing, interleave, start
from _workers import FAMILIES, Worker, WorkerError, absent, environment
from contenders.common import MEAN, STD, Data, Task, first_weights, loss_after

import fastfnn as ff

PEAK_TURNS = 100_000  # of the FMA loop: about a millisecond
#: Seconds that a library's threads may go on spinning behind a call: seen for OpenBLAS 35 ms, for the others below 10.
PAUSE, LONG_PAUSE = 0.01, {"NumPy exercise": 0.04, "scikit-learn": 0.04}
IMPORTS = "imports"  # a group that is no task
EVERYTHING = [*GROUPS, IMPORTS]
SLOW, SELDOM = 0.4, 3  # who takes more seconds a call has a turn in every third round only


class Settings(NamedTuple):
    """How long everything takes."""

    rounds: int
    heats: int  # rounds of all variants
    sample_seconds: float
    imports: int
    patience: float  # seconds for a first call, compilers included


FULL = Settings(9, 2, 0.08, 5, 120.0)
QUICK = Settings(2, 1, 0.02, 1, 60.0)


def load(data_root: Path | None, quick: bool) -> tuple[Data, str]:
    """MNIST, all of it where it is found; else, or when it must be quick, the embedded sample."""
    root = data_root or ROOT.parent / "shared" / "data" / "mnist"
    if root.is_dir() and not quick:
        (images, labels), _ = ff.data.load_mnist(root)
        origin = "MNIST, 60,000 training images"
    else:
        (images, labels), _ = ff.data.load_mnist_sample()
        tiles = 1 if quick else 6
        images, labels = np.tile(images, (tiles, 1, 1)), np.tile(labels, tiles)
        origin = f"the embedded sample, {'once' if quick else 'six times'}: {len(images):,} images"
    x = images.reshape(len(images), -1) * np.float32(1 / (255 * STD)) - np.float32(MEAN / STD)
    return Data(x.astype(np.float32), labels, images), origin


class Runner:
    """Runs tasks on all workers; `errors` says what of fastfnn itself fell out, `problems` what of its peers."""

    def __init__(self, workers: list[Worker], settings: Settings, quick: bool, data: Data) -> None:
        self.workers, self.settings, self.quick, self.data = workers, settings, quick, data
        self.problems: list[str] = []
        self.errors: list[str] = []
        self._fallen: list[str] = []  # of fastfnn's contenders, in the task at hand

    def task(self, task: Task, effort: Effort, show: Callable[[str], None]) -> dict[str, Any]:
        """All contenders on one task: their checks, heats and rounds."""
        name = f"{title(task)}, {task.batch:,} rows"
        show(f"\n{name}")
        self._fallen = []
        entries, samplers = self._prepared(task, effort, name)
        before = loss_after(task, first_weights(task), self.data)["loss"] if task.kind == "step" else None
        for key, reason in judge(task.kind, entries, before).items():
            self._tell(entries.pop(key)["family"], name, key, reason)
        about = {"task": task.kind, "network": task.network, "batch": task.batch, "title": title(task)}
        about |= {"loss_before": before, "flops": task.flops, "peak_gflops_per_core": 0.0, "contenders": entries}
        try:
            if entries:
                about["peak_gflops_per_core"] = self._timed(entries, samplers, effort.most_loops) / 1e9
        except WorkerError as error:  # whoever it was, this task has no figures
            for key in [key for key in entries if entries[key]["family"] == OURS]:
                self._tell(OURS, name, key, f"not timed, for a process failed: {error}")
            about["contenders"] = {}
        for worker in self.workers:
            worker.ask("forget")
        about["fallen"] = self._fallen
        for key, entry in about["contenders"].items():
            if "median_s" in entry:
                figures = ", ".join(f"{name} {value:.5g}" for name, value in entry["check"].items())
                first = f"first {entry['first_s']:6.2f} s"
                show(f"  {key:<52} {entry['median_s'] * 1e6:>11.1f} µs   {first}   {figures}")
        return about

    def _prepared(self, task: Task, effort: Effort, name: str) -> tuple[dict[str, Any], dict[str, Sampler]]:
        """Everybody's first calls and figures; a family's processes at once, since compilers take their time."""
        entries: dict[str, dict[str, Any]] = {}
        samplers: dict[str, Sampler] = {}

        def prepare(worker: Worker) -> list[tuple[str, str, dict[str, Any] | WorkerError]]:
            answers = []
            for variant in self._variants(worker, task, name):
                threads = "" if worker.family == OURS else f", {worker.n_threads}t"
                key = f"{worker.family}: {variant}{threads}"
                request = {"key": key, "task": task, "variant": variant, "checks": effort.checks, "late": effort.late}
                try:
                    answers.append((key, variant, worker.ask("prepare", timeout=self.settings.patience, **request)))
                except WorkerError as error:
                    answers.append((key, variant, error))
            return answers

        for family in dict.fromkeys(worker.family for worker in self.workers):
            own = [worker for worker in self.workers if worker.family == family]
            with ThreadPoolExecutor(len(own)) as pool:
                everybody = list(pool.map(prepare, own))
            for worker, answers in zip(own, everybody, strict=True):
                for key, variant, answer in answers:
                    if isinstance(answer, WorkerError):
                        self._tell(family, name, key, str(answer))
                        continue
                    listed = "PyTorch by hand" if variant == "by hand" else family
                    entries[key] = {"family": listed, "variant": variant, "threads": worker.n_threads, **answer}
                    samplers[key] = _sampler(worker, key)
        return entries, samplers

    def _timed(self, entries: dict[str, dict[str, Any]], samplers: dict[str, Sampler], most_loops: int) -> float:
        """Heats and rounds: their figures go into the entries, the peak in FLOP/s comes back."""
        started: dict[str, Timing] = {}
        for key in entries:
            started[key] = start(samplers[key], self.settings.sample_seconds, most_loops)
        slow = [key for key in entries if started[key].first > SLOW]
        for key in entries:
            started[key].first = entries[key]["first_s"]  # the very first; its check has run since
        contenders = {key: samplers[key] for key in entries}
        heats = interleave(contenders, self.settings.heats, started=started, seldom=slow, stride=SELDOM)
        for key, timing in heats.items():
            entries[key]["heat"] = timing.to_dict()
        kept = _finalists(entries, heats)
        final = {key: contenders[key] for key in kept} | {"peak": _peak}
        known = {**started, "peak": start(_peak, 2e-3)}
        timings = interleave(final, self.settings.rounds, started=known, seldom=slow, stride=SELDOM)
        for key in kept:
            entries[key] |= timings[key].to_dict()
        return peak_flops("float32", PEAK_TURNS) / timings["peak"].median

    def _variants(self, worker: Worker, task: Task, name: str) -> list[str]:
        try:
            return worker.ask("variants", task=task, quick=self.quick)["variants"]
        except WorkerError as error:
            headline = f": {HEADLINE[task.kind]}" if worker.family == OURS else f", {worker.n_threads}t"
            self._tell(worker.family, name, worker.family + headline, str(error))
            return []

    def _tell(self, family: str, name: str, key: str, why: str) -> None:
        """Note who fell out: a peer is left out, but with fastfnn something is wrong."""
        (self.errors if family == OURS else self.problems).append(f"{name}, {key}: {why}")
        if family == OURS:
            self._fallen.append(key)

    def blas(self) -> dict[str, str]:
        """What NumPy multiplies matrices by, in each process that uses it."""
        found = {}
        for worker in self.workers:
            if worker.family in _blas.USERS and not _blas.missing():
                name = f"{worker.family}, {worker.n_threads} thread{'s' * (worker.n_threads > 1)}"
                try:
                    found[name] = _blas.described(worker.ask("blas")["blas"])
                except WorkerError as error:
                    self.problems.append(f"{name}: {error}")
        return found


def _sampler(worker: Worker, key: str) -> Sampler:
    def sample(count: int) -> float:
        seconds = worker.ask("run", key=key, count=count)["seconds"]
        time.sleep(LONG_PAUSE.get(worker.family, PAUSE) if worker.n_threads > 1 else PAUSE)
        return seconds

    return sample


def _peak(count: int) -> float:
    return peak_seconds("float32", PEAK_TURNS * count)


def _finalists(entries: dict[str, dict[str, Any]], heats: dict[str, Timing]) -> list[str]:
    """All of fastfnn, and the two fastest of every other family."""
    kept = []
    for family in dict.fromkeys(entry["family"] for entry in entries.values()):
        own = sorted((key for key in entries if entries[key]["family"] == family), key=lambda key: heats[key].minimum)
        kept += own if family == OURS else own[:2]
    return [key for key in entries if key in kept]


def import_times(rounds: int, packages: list[str]) -> dict[str, dict[str, float]]:
    """Seconds of one import in a fresh process, the packages in turn."""
    code = "import sys, time; began = time.perf_counter(); import {0}; print(time.perf_counter() - began)"
    samples: dict[str, list[float]] = {name: [] for name in packages}
    for _ in range(rounds):
        for name in packages:
            command = [sys.executable, "-c", code.format(name)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(cores()))
            if done.returncode == 0:
                samples[name].append(float(done.stdout.split()[-1]))
    return {name: {"median_s": statistics.median(s), "minimum_s": min(s)} for name, s in samples.items() if s}


def _show(line: str) -> None:
    print(line, flush=True)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace(" ", "")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="about a minute, to see that it works; figures mean little"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of: {', '.join(FAMILIES)} (parts of names do)")
    parser.add_argument("--tasks", nargs="+", choices=EVERYTHING, default=EVERYTHING, help="only these groups")
    parser.add_argument("--data-root", type=Path, help="folder with MNIST's four files (default: ../shared/data/mnist)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "bench" / "results", help="folder for peers.json, .md and .png"
    )
    args = parser.parse_args()
    if args.data_root is not None and not args.data_root.is_dir():
        parser.error(f"--data-root {args.data_root} is not a folder")
    chosen = args.only or list(FAMILIES)
    args.families = [family for family in FAMILIES if any(_plain(name) in _plain(family) for name in chosen)]
    if not args.families:
        parser.error(f"--only {' '.join(chosen)}: no such contender; known are {', '.join(FAMILIES)}")
    return args


def main() -> int:
    args, began = arguments(), time.perf_counter()
    settings = QUICK if args.quick else FULL
    data, origin = load(args.data_root, args.quick)
    result: dict[str, Any] = {
        "machine": describe(),
        "data": origin,
        "quick": args.quick,
        "settings": settings._asdict(),
    }
    print(f"{result['machine']['cpu']}, {cores()} cores; {origin}")
    result["skipped"] = {family: absent(family) for family in args.families if absent(family)}
    for family, missing in result["skipped"].items():
        print(f"skipped: {family} ({', '.join(missing)} not installed)")
    present = [family for family in args.families if family not in result["skipped"]]
    result["warnings"] = _blas.held_back(os.environ)
    for warning in result["warnings"]:
        print(f"warning: {warning}")

    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.save(folder)
        log = args.out / "peers.log"
        log.unlink(missing_ok=True)
        counts = [1] if args.quick else sorted({1, cores()})
        workers = [
            Worker(family, n, folder, log)
            for family in present
            for n in ([cores()] if family == OURS else counts)  # it takes n_threads as an argument
        ]
        runner, rows = Runner(workers, settings, args.quick, data), len(data.x)
        result["tasks"] = []
        try:
            result["blas"], result["blas_missing"] = runner.blas(), _blas.missing()
            for line in blas_lines(result):
                print(line)
            for task in tasks(args.tasks, args.quick, rows):
                result["tasks"].append(runner.task(task, effort(task, rows), _show))
        finally:
            for worker in workers:
                worker.close()
    packages = ["fastfnn", "numpy", "numba", "torch", "jax", "sklearn.neural_network"]
    result["imports"] = import_times(settings.imports, packages) if IMPORTS in args.tasks else {}
    result["copy_gbytes_per_s"] = statistics.median(measure_copy() for _ in range(9)) / 1e9
    result |= {"problems": runner.problems, "errors": runner.errors, "seconds": time.perf_counter() - began}

    report = markdown(result)
    (args.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "peers.md").write_text(report)
    written = ["peers.md", "peers.json"] + (["peers.png"] if plot(result, args.out / "peers.png") else [])
    print(f"\n{report}\nwritten to {args.out}: {', '.join(written)}")
    for warning in result["warnings"]:
        print(f"warning: {warning}")
    if runner.errors:
        print(f"\nERROR: {len(runner.errors)} of fastfnn's own rows fell out of the table, which is a fault:")
        print("\n".join(f"- {error}" for error in runner.errors))
    return 1 if runner.errors else 0


if __name__ == "__main__":
    sys.exit(main())
