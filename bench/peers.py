"""fastfnn beside its peers, each in its best form: MNIST networks, their steps and inference, conv blocks, imports.

    python bench/peers.py [--quick] [--only NAME ...] [--tasks GROUP ...] [--data-root DIR] [--out bench/results]

Every contender lives in a process of its own with its own thread settings (`contenders/`), gets the same data, weights
and order of batches, and must reach the same loss before it is timed. The parent then lets them take turns: while one
works, the others block on a pipe, and a short pause lets threads go to sleep that a library leaves spinning. A
register-only FMA loop takes its turn like everybody else: shares of the peak are of the same seconds.

First all variants of a peer run a few rounds; its two fastest, and everything of fastfnn, go on to the rounds that
count. Written are ``peers.json`` (all figures), ``peers.md`` (the tables) and ``peers.png`` (the ratios, where
matplotlib is installed); absent peers are skipped by name. The tasks are listed in `_peers_tasks.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _machine import ROOT, cores, describe, measure_copy, peak_flops, peak_seconds
from _peers_plot import plot
from _peers_report import markdown
from _peers_tasks import GROUPS, effort, tasks, title
from _timing import Sampler, Timing, interleave, start
from _workers import FAMILIES, Worker, WorkerError, absent, environment
from contenders.common import MEAN, STD, Data, Task

import fastfnn as ff

PEAK_TURNS = 100_000  # of the FMA loop: about a millisecond
#: Seconds that a library's threads may go on spinning behind a call: seen for OpenBLAS 35 ms, for the others below 10.
PAUSE, LONG_PAUSE = 0.01, {"NumPy exercise": 0.04, "scikit-learn": 0.04}
#: Relative difference from the median of all contenders that a result may have. The exercise's second layer has no
#: bias, and scikit-learn's batches are its own.
TOLERANCE = {"step": 0.02, "loss": 1e-4, "inference": 1e-3, "forward": 1e-3, "gradients": 1e-3}
LENIENT = {"NumPy exercise": 0.10, "scikit-learn": 0.25}


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
    """Runs tasks on all workers."""

    def __init__(self, workers: list[Worker], settings: Settings, quick: bool) -> None:
        self.workers, self.settings, self.quick = workers, settings, quick
        self.problems: list[str] = []

    def task(self, task: Task, most_loops: int, check_steps: int, show: Callable[[str], None]) -> dict[str, Any]:
        """All contenders on one task: their checks, heats and rounds."""
        name = f"{title(task)}, {task.batch:,} rows"
        show(f"\n{name}")
        samplers: dict[str, Sampler] = {}
        entries: dict[str, dict[str, Any]] = {}
        for worker in self.workers:
            for variant in self._variants(worker, task):
                threads = "" if worker.family == "fastfnn" else f", {worker.n_threads}t"
                key = f"{worker.family}: {variant}{threads}"
                request = {"key": key, "task": task, "variant": variant, "steps": check_steps}
                try:
                    answer = worker.ask("prepare", timeout=self.settings.patience, **request)
                except WorkerError as error:
                    self.problems.append(f"{name}, {key}: {error}")
                    continue
                family = "PyTorch by hand" if variant == "by hand" else worker.family
                entries[key] = {"family": family, "variant": variant, "threads": worker.n_threads, **answer}
                samplers[key] = _sampler(worker, key)
        self._drop_wrong(task.kind, name, entries)

        started: dict[str, Timing] = {}
        for key in entries:
            started[key] = start(samplers[key], self.settings.sample_seconds, most_loops)
            started[key].first = entries[key]["first_s"]  # the very first; its check has run since
        contenders = {key: samplers[key] for key in entries}
        heats = interleave(contenders, self.settings.heats, started=started)
        for key, timing in heats.items():
            entries[key]["heat"] = timing.to_dict()
        kept = _finalists(entries, heats)
        final = {key: contenders[key] for key in kept} | {"peak": _peak}
        known = {**started, "peak": start(_peak, 2e-3)}
        timings = interleave(final, self.settings.rounds, started=known)
        for key in kept:
            entries[key] |= timings[key].to_dict()
        for worker in self.workers:
            worker.ask("forget")
        peak = peak_flops("float32", PEAK_TURNS) / timings["peak"].median
        for key in kept:
            first, check = entries[key]["first_s"], entries[key]["check"]
            figures = ", ".join(f"{name} {value:.5g}" for name, value in check.items())
            show(f"  {key:<52} {entries[key]['median_s'] * 1e6:>11.1f} µs   first {first:6.2f} s   {figures}")
        about = {"task": task.kind, "network": task.network, "batch": task.batch, "title": title(task)}
        return {**about, "flops": task.flops, "peak_gflops_per_core": peak / 1e9, "contenders": entries}

    def _variants(self, worker: Worker, task: Task) -> list[str]:
        try:
            return worker.ask("variants", task=task, quick=self.quick)["variants"]
        except WorkerError as error:
            self.problems.append(f"{worker.family}, {worker.n_threads} threads: {error}")
            return []

    def _drop_wrong(self, kind: str, name: str, entries: dict[str, dict[str, Any]]) -> None:
        """Fast and wrong is nothing: who does not come to the others' figures is not timed."""
        for figure in {name for entry in entries.values() for name in entry["check"]}:
            middle = statistics.median(entry["check"][figure] for entry in entries.values())
            for key, entry in list(entries.items()):
                allowed = LENIENT.get(entry["family"], TOLERANCE[kind]) if kind == "step" else TOLERANCE[kind]
                value = entry["check"][figure]
                if not abs(value - middle) <= allowed * abs(middle):
                    self.problems.append(f"{name}, {key}: {figure} is {value:.5g}, others' {middle:.5g}")
                    del entries[key]


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
        kept += own if family == "fastfnn" else own[:2]
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
    parser.add_argument("--tasks", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="only these groups")
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
            for n in ([cores()] if family == "fastfnn" else counts)  # it takes n_threads as an argument
        ]
        runner, rows = Runner(workers, settings, args.quick), len(data.x)
        result["tasks"] = []
        try:
            for task in tasks(args.tasks, args.quick, rows):
                check_steps, most_loops = effort(task, rows)
                result["tasks"].append(runner.task(task, most_loops, check_steps, _show))
        finally:
            for worker in workers:
                worker.close()
    packages = ["fastfnn", "numpy", "numba", "torch", "jax", "sklearn.neural_network"]
    result["imports"] = import_times(settings.imports, packages)
    result["copy_gbytes_per_s"] = statistics.median(measure_copy() for _ in range(9)) / 1e9
    result["problems"], result["seconds"] = runner.problems, time.perf_counter() - began

    report = markdown(result)
    (args.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "peers.md").write_text(report)
    written = ["peers.md", "peers.json"] + (["peers.png"] if plot(result, args.out / "peers.png") else [])
    print(f"\n{report}\nwritten to {args.out}: {', '.join(written)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
