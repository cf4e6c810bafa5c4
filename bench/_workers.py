"""The parent's side of `contenders.worker`: processes with their thread settings, driven a request at a time."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
#: Family, as the table names it: its module in `contenders`, and the packages that it needs.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "fastfnn": ("with_fastfnn", ("fastfnn",)),
    "NumPy exercise": ("with_numpy", ("numpy",)),
    "PyTorch": ("with_torch", ("torch",)),
    "JAX": ("with_jax", ("jax",)),
    "scikit-learn": ("with_sklearn", ("sklearn",)),
    "ONNX Runtime": ("with_onnxruntime", ("onnxruntime", "onnx")),
}
THREAD_VARIABLES = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR")


class WorkerError(RuntimeError):
    """The worker could not do what was asked, or not within the time."""


def absent(family: str) -> list[str]:
    """The family's packages that are not installed."""
    return [name for name in FAMILIES[family][1] if importlib.util.find_spec(name) is None]


def environment(n_threads: int) -> dict[str, str]:
    """Thread settings that libraries read while they are imported."""
    settings = {f"{name}_NUM_THREADS": str(n_threads) for name in THREAD_VARIABLES}
    if n_threads == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {**os.environ, **settings, "TORCHINDUCTOR_COMPILE_THREADS": "1", "JAX_PLATFORMS": "cpu"}


class Worker:
    """One family in a process of its own, with one number of threads; started when first asked."""

    def __init__(self, family: str, n_threads: int, folder: Path, log: Path) -> None:
        self.family, self.n_threads = family, n_threads
        self._command = [sys.executable, "-m", "contenders.worker", FAMILIES[family][0], str(n_threads), str(folder)]
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(self, do: str, timeout: float = 300.0, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; a worker that takes too long is ended, and started anew next time."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            process.stdin.flush()
        except OSError as error:
            self.close()
            raise WorkerError(f"the process has ended ({error})") from None
        return self._answer(timeout)

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=BENCH,
                env=environment(self.n_threads),
                text=True,
            )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()
        self._answer(120.0)
        return self._process

    def _answer(self, timeout: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            self.close()
            raise WorkerError(f"no answer within {timeout:.0f} s") from None
        if not line:
            self.close()
            raise WorkerError(f"the process has ended; see {self._log}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _listen(lines: Any, answers: queue.SimpleQueue[str]) -> None:
    for line in lines:
        answers.put(line)
    answers.put("")
