"""The long form: random cases of each kind in turn for so many minutes, and a line of figures.

``python -m tests.faults --minutes 20 [--seed N]``: ends with 1 where something was found, which is said at once.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from hypothesis import given, settings  # noqa: E402
from hypothesis import seed as seeded  # noqa: E402

from faults import _interrupted, test_hostile_files  # noqa: E402  (once they can be found)

#: Cases of a kind, before the next kind has its turn.
FILES, NETWORKS, TRAININGS, ROUNDS = 300, 60, 10, 10


def hostile_files(seed: int, done: Counter[str]) -> None:
    """Damaged files for each reader."""
    with tempfile.TemporaryDirectory() as name:
        for kind in test_hostile_files.KINDS:
            try:
                payload = test_hostile_files.made(kind, Path(name))
            except BaseException as skipped:  # the package that reads it is optional
                if type(skipped).__name__ != "Skipped":
                    raise
                continue
            damage(kind, payload, Path(name, "file"), seed, done)


def damage(kind: str, payload: bytes, path: Path, seed: int, done: Counter[str]) -> None:
    """Damaged files of one kind."""
    path.write_bytes(payload)
    test_hostile_files.KINDS[kind][1](path)  # what has to be compiled, or imported, is no file's fault

    @seeded(seed)
    @settings(test_hostile_files.quick, max_examples=FILES)
    @given(test_hostile_files.strategy(kind, payload))
    def refuse(changed: bytes) -> None:
        began = time.perf_counter()
        test_hostile_files.try_to_read(kind, path, changed)
        done["files"] += 1
        done["ms for the slowest file"] = max(
            done["ms for the slowest file"], int(1000 * (time.perf_counter() - began))
        )

    refuse()


def fences(seed: int, done: Counter[str]) -> None:
    """Networks on arrays between forbidden pages, in a process that may end."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\nfrom faults import _fenced\n"
    subprocess.run([sys.executable, "-c", f"{code}_fenced.attack({seed}, {NETWORKS})"], check=True)
    done["networks between fences"] += NETWORKS


def beside_torch(seed: int, done: Counter[str]) -> None:
    """Trainings here and in PyTorch."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return
    from faults import _beside_torch

    for number in range(TRAININGS):
        assert not _beside_torch.differs(seed + number), f"the training of seed {seed + number} differs"
        done["trainings beside PyTorch"] += 1


def interrupts(seed: int, done: Counter[str]) -> None:
    """Trainings and compilations that one or two signals end, and kills."""
    for kind, count in _interrupted.some(seed, ROUNDS).items():
        done[kind] += count


KINDS: tuple[Callable[[int, Counter[str]], None], ...] = (hostile_files, fences, beside_torch, interrupts)


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    done: Counter[str] = Counter()
    found, seed, until = 0, args.seed, time.monotonic() + 60 * args.minutes
    while time.monotonic() < until:
        for kind in KINDS:
            try:
                kind(seed, done)
            except Exception:
                found += 1
                print(f"seed {seed}, {kind.__name__}:", flush=True)
                traceback.print_exc()
        seed += 1000
    print(f"{', '.join(f'{count:,} {what}' for what, count in done.items())}: {found} faults (first seed {args.seed})")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
