"""What a session with fastfnn takes: processes, training to 97 %, threads, memory, the barrier, the first compilation.

    python bench/session.py [--data-root DIR] [--quick] [--cold] [--out DIR]

Each figure is measured in a process of its own (`_session_runs.py`) and stands beside its aim. ``--cold`` adds the
first training ever, with no compiled kernel in the cache. Written are ``session.json`` and ``session.md``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import _figures
from _figures import Figure
from _session_runs import GOAL, GOAL_BATCH, GOAL_LR

RUNS = Path(__file__).resolve().with_name("_session_runs.py")


class Settings(NamedTuple):
    """How long everything takes."""

    processes: int
    rounds: int
    rows: int  # of random numbers
    barriers: int  # steps
    tiles: int  # of the embedded sample, where it stands in for MNIST


FULL = Settings(processes=5, rounds=9, rows=60_000, barriers=20_000, tiles=6)
QUICK = Settings(processes=1, rounds=3, rows=10_000, barriers=2_000, tiles=1)


def child(run: str, cache: str | None = None, **arguments: Any) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole process that does `run`, and what it found; `cache` is a folder for compiled kernels."""
    environment = dict(os.environ) if cache is None else {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, str(RUNS), run, json.dumps(arguments)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    taken = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{run} failed:\n{done.stderr}")
    return taken, json.loads(done.stdout)


class Session:
    """The measurements. Each gives figures; what the processes answered is kept in `answers`."""

    def __init__(self, root: Path | None, settings: Settings) -> None:
        self.settings = settings
        self.data = {"root": None if root is None else str(root), "tiles": settings.tiles}
        self.answers: dict[str, Any] = {}

    def whole(self) -> list[Figure]:
        child("whole", **self.data)  # compiles, and reads the files for the first time
        runs = [child("whole", **self.data) for _ in range(self.settings.processes)]
        self.answers["whole"] = [{"process_s": taken, **answer} for taken, answer in runs]
        process, training = (
            statistics.median(run[key] for run in self.answers["whole"]) for key in ("process_s", "training_s")
        )
        epochs, accuracy = runs[0][1]["epochs"], runs[0][1]["accuracy"]
        remark = f"{epochs} epochs to {accuracy:.2%}, looked at after each; SGD {GOAL_LR:g}, batches of {GOAL_BATCH}"
        missed = "" if accuracy >= GOAL else f"; {GOAL:.0%} was not reached"
        return [
            Figure(f"training 784-100-10 to {GOAL:.0%}", training, " s", 0.5, remark=remark + missed),
            Figure("the whole process", process, " s", 2.5, remark="start, imports, reading MNIST, training"),
        ]

    def linearity(self) -> list[Figure]:
        answer = self._ask("linearity", **self.data, rounds=self.settings.rounds)
        few, many = answer["images"], 10 * answer["images"]
        remark = f"{answer['epoch_s']:.3f} s and {answer['ten_times_epoch_s']:.3f} s, uint8, batches of 256"
        return [Figure(f"epoch of {many:,} images / ten of {few:,}", answer["ratio"], "×", 1.1, remark=remark)]

    def threads(self) -> list[Figure]:
        answer = self._ask("threads", rows=self.settings.rows, rounds=self.settings.rounds)
        remark = f"epoch {answer['one_s']:.3f} s by one, {answer['two_s']:.3f} s by two; dense, batches of 256"
        return [Figure("two threads against one", answer["ratio"], "×", 1.7, True, remark)]

    def busy(self) -> list[Figure]:
        answer = self._ask("busy", **self.data, rounds=self.settings.rounds)
        remark = f"epoch {answer['alone_s']:.3f} s alone, {answer['beside_s']:.3f} s beside them; batches of 64"
        return [Figure("beside two busy processes", answer["ratio"], "×", 3, remark=remark)]

    def memory(self) -> list[Figure]:
        answer = self._ask("memory", **self.data)
        remark = f"peak beyond the data and the interpreter, {answer['images']:,} images"
        return [Figure("memory of a full-batch epoch", answer["megabytes"], " MB", 32, remark=remark)]

    def barrier(self) -> list[Figure]:
        answer = self._ask("barrier", steps=self.settings.barriers, rounds=self.settings.rounds)
        return [Figure("a barrier of two threads", answer["nanoseconds"], " ns", 200)]

    def cold(self) -> list[Figure]:
        figures = []
        for name, title, aim in (("mlp", "784-100-10", 12), ("lenet5", "LeNet-5", 20)):
            with tempfile.TemporaryDirectory() as cache:
                taken, answer = child("first", cache, name=name)
            self.answers[f"first {name}"] = {"process_s": taken, **answer}
            remark = "the whole process; 256 images, no compiled kernel"
            figures.append(Figure(f"first training ever, {title}", taken, " s", aim, remark=remark))
        return figures

    def _ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        self.answers[name] = child(name, **arguments)[1]
        return self.answers[name]


def main() -> int:
    parser = _figures.options(__doc__ or "", "session", "half a minute")
    parser.add_argument("--cold", action="store_true", help="also compile everything anew: a minute more")
    args = parser.parse_args()
    settings, root = (QUICK if args.quick else FULL), _figures.mnist_root(args)
    times = f", {settings.tiles} times" if settings.tiles > 1 else ""
    data = "MNIST, 60,000 training images" if root else f"No full MNIST: the embedded sample of 10,000 images{times}"
    session = Session(root, settings)
    parts = [session.whole, session.linearity, session.threads, session.busy, session.memory, session.barrier]
    parts += [session.cold] if args.cold else []
    how = f"Medians of {settings.processes} processes or {settings.rounds} rounds."
    _figures.run("session", "Figures of a session", how, parts, session.answers, args, settings, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
