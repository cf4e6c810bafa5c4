"""Which tasks `peers.py` runs, in groups; what each is called in tables and pictures."""

from __future__ import annotations

from contenders.common import ADAM, SGD, Task
from contenders.networks import BLOCKS, CNN, CONV, LENET, MLP, TANH_MLP, block_name

#: Kinds of tasks, as titles end.
KINDS = {
    "step": "training step",
    "inference": "inference",
    "forward": "forward",
    "gradients": "forward + backward",
    "loss": "softmax cross-entropy + gradient",
}
ALL_ROWS = 0  # as a batch: replaced by the number of rows


def _mlp(quick: bool) -> list[Task]:
    steps, inference = ((1, 64, ALL_ROWS), (64,)) if quick else ((1, 16, 64, 256, ALL_ROWS), (1, 64, 10_000))
    return [
        *(Task("step", MLP, batch) for batch in steps),
        Task("loss", "", 60_000),
        *(Task("inference", MLP, batch) for batch in inference),
    ]


def _tanh(quick: bool) -> list[Task]:
    return [Task("step", TANH_MLP, 10_000, ADAM)]


def _conv(quick: bool) -> list[Task]:
    names = [block_name(*block) for block in (BLOCKS[1:2] if quick else BLOCKS)]
    tasks = [Task(kind, name, 64) for kind in ("forward", "gradients") for name in names]
    return tasks if quick else [*tasks, Task("forward", CONV, 64)]


def _lenet(quick: bool) -> list[Task]:
    steps, inference = ((64,), (64,)) if quick else ((64, 128), (1, 64, 1024))
    return [
        *(Task("step", LENET, batch) for batch in steps),
        *(Task("inference", LENET, batch) for batch in inference),
    ]


def _cnn(quick: bool) -> list[Task]:
    return [] if quick else [Task("step", CNN, 64)]


GROUPS = {"mlp": _mlp, "tanh": _tanh, "conv": _conv, "lenet": _lenet, "cnn": _cnn}


def tasks(groups: list[str], quick: bool, rows: int) -> list[Task]:
    """The tasks of some groups, for data of so many rows."""
    chosen = [task for group in GROUPS if group in groups for task in GROUPS[group](quick)]
    return [task._replace(batch=task.batch or rows) for task in chosen]


def title(task: Task) -> str:
    """What it is, without the number of rows."""
    how = f" with {task.optimizer}" if task.optimizer != SGD else ""
    return f"{task.network}, {KINDS[task.kind]}{how}" if task.network else KINDS[task.kind]


def effort(task: Task, rows: int) -> tuple[int, int]:
    """Calls before the check, and the most calls that a sample may have: a run of steps is one epoch at most."""
    if task.kind == "step" and not task.description.of_digits:
        return 200, 10**6  # all its rows in each of many small steps, or a wrong update would not show
    if task.kind == "step" and task.batch < rows:
        return min(60, rows // task.batch), rows // task.batch
    return 2, 10**6
