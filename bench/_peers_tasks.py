"""Which tasks `peers.py` runs, in groups; what each is called in tables and pictures."""

from __future__ import annotations

from typing import NamedTuple

from contenders.common import ADAM, SGD, Task
from contenders.networks import (
    BLOCKS,
    CIFAR,
    CNN,
    CONV,
    DENSE,
    LENET,
    MLP,
    TABLE,
    TANH_MLP,
    TINY,
    block_name,
)

#: Kinds of tasks, as titles end.
KINDS = {
    "step": "training step",
    "inference": "inference",
    "labels": "a classifier's predict",
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


def _dense(quick: bool) -> list[Task]:
    return [] if quick else [Task("step", DENSE, 64)]


def _small(quick: bool) -> list[Task]:
    """Where all of it is the call."""
    return [Task("inference", TINY, 1), Task("labels", MLP, 1)]


def _table(quick: bool) -> list[Task]:
    return [Task("step", TABLE, 256, ADAM), *([] if quick else [Task("inference", TABLE, 256)])]


def _cifar(quick: bool) -> list[Task]:
    return [*([] if quick else [Task("step", CIFAR, 64)]), Task("inference", CIFAR, 64)]


GROUPS = {
    "mlp": _mlp,
    "dense": _dense,
    "small": _small,
    "tanh": _tanh,
    "table": _table,
    "conv": _conv,
    "lenet": _lenet,
    "cnn": _cnn,
    "cifar": _cifar,
}


def tasks(groups: list[str], quick: bool, rows: int) -> list[Task]:
    """The tasks of some groups, for data of so many rows."""
    chosen = [task for group in GROUPS if group in groups for task in GROUPS[group](quick)]
    return [task._replace(batch=task.batch or rows) for task in chosen]


def title(task: Task) -> str:
    """What it is, without the number of rows."""
    how = f" with {task.optimizer}" if task.optimizer != SGD else ""
    return f"{task.network}, {KINDS[task.kind]}{how}" if task.network else KINDS[task.kind]


class Effort(NamedTuple):
    """How often a contender is called."""

    checks: tuple[int, ...]  # calls after which its figures are compared
    late: int  # calls after which a training must still be one; 0: not asked
    most_loops: int  # calls that a sample may have: a run of steps is one epoch at most


def effort(task: Task, rows: int) -> Effort:
    """For data of so many rows."""
    if task.kind != "step":
        return Effort((2,), 0, 10**6)
    batches = (task.description.rows or rows) // task.batch
    if batches > 1:
        return Effort((1, 2, 4), min(60, batches), batches)
    if task.description.rows:
        return Effort((1, 10, 100), 0, 10**6)  # its steps are as small as they are fast
    return Effort((1, 3), 0, 10**6)
