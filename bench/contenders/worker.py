"""One contender's process: ``python -m contenders.worker MODULE N_THREADS DATA_FOLDER``, driven by lines of JSON.

Thread settings must be in the environment before this starts. Between two requests it blocks on its input: it takes
no time from the others. A request is ``{"do": "variants" | "prepare" | "run" | "forget" | "blas", …}``; every answer is
one line, ``{"error": …}`` where something failed. Whatever libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from contenders.common import Contender, Data, Task


class Worker:
    """Answers requests; keeps prepared contenders by their key."""

    def __init__(self, module: str, n_threads: int, folder: Path) -> None:
        self.module: Any = importlib.import_module(f"contenders.{module}")
        self.n_threads, self.data = n_threads, Data.load(folder)
        self.prepared: dict[str, Contender] = {}

    def variants(self, task: list[Any], quick: bool) -> dict[str, Any]:
        return {"variants": self.module.variants(Task(*task), self.n_threads, quick)}

    def prepare(self, key: str, task: list[Any], variant: str, checks: list[int], late: int) -> dict[str, Any]:
        """The first call, timed by itself; the figures to check after so many calls; and those after `late` calls."""
        began = time.perf_counter()
        contender: Contender = self.module.make(Task(*task), variant, self.data, self.n_threads)
        contender.run(1)
        first = time.perf_counter() - began
        done, figures = 1, []
        for calls in [*checks, *([late] if late else [])]:
            if calls > done:
                contender.run(calls - done)
                done = calls
            figures.append(contender.check())
        self.prepared[key] = contender
        check = figures[0]
        if len(checks) > 1:
            pairs = zip(checks, figures, strict=False)
            check = {f"{name} {calls}": value for calls, own in pairs for name, value in own.items()}
        return {"first_s": first, "check": check, "late": figures[-1] if late else {}}

    def run(self, key: str, count: int) -> dict[str, Any]:
        contender = self.prepared[key]
        began = time.perf_counter()
        contender.run(count)
        return {"seconds": time.perf_counter() - began}

    def blas(self) -> dict[str, Any]:
        """The libraries of linear algebra in this process, with the kernels that they chose."""
        import threadpoolctl  # optional

        return {"blas": [own for own in threadpoolctl.threadpool_info() if own["user_api"] == "blas"]}

    def forget(self) -> dict[str, Any]:
        self.prepared.clear()
        return {}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library's own output must not get between the answers
    try:
        worker = Worker(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
        print(json.dumps({"ready": True}), file=answers, flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
