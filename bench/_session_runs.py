"""What `session.py` measures, each in a process of its own: ``python _session_runs.py NAME JSON`` prints JSON.

Imports stay those of a plain training script: the time of such a process is itself one of the figures.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastfnn as ff

GOAL, MOST_EPOCHS = 0.97, 10
#: The fastest that reached the goal within three epochs from each of five seeds; batches of 32 to 256, learning rates
#: of 0.1 to 0.25, momentum and Adam were tried.
GOAL_LR, GOAL_BATCH = 0.2, 96
BARRIERS = 10  # in a table
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def load(root: str | None, tiles: int) -> tuple[Any, Any]:
    """MNIST from a folder, or the embedded sample so many times; (images, labels) for training and test."""
    if root is not None:
        return ff.data.load_mnist(root)
    (images, labels), test = ff.data.load_mnist_sample()
    return (np.tile(images, (tiles, 1, 1)), np.tile(labels, tiles)), test


def network(name: str = "mlp") -> ff.Sequential:
    """784-100-10, or LeNet-5, for images as they come."""
    return ff.models.mlp(seed=0) if name == "mlp" else ff.models.lenet5(seed=0)


def seconds(model: ff.Sequential, x: Any, y: Any, batch_size: int | None, n_threads: int | None = None) -> float:
    """Of a call of `fit` for one epoch."""
    options: dict[str, Any] = {"batch_size": batch_size, "n_threads": n_threads, "seed": 0, "progress": False}
    began = time.perf_counter()
    ff.fit(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.05), **options)
    return time.perf_counter() - began


def whole(root: str | None, tiles: int) -> dict[str, Any]:
    """Train on MNIST until the test accuracy is the goal; it is looked at after every epoch, and that time counts."""
    (x, y), test = load(root, tiles)
    model = network()

    def reached(end: ff.EpochEnd) -> bool:
        return end.history.val_accuracy[-1] >= GOAL

    began = time.perf_counter()
    history = ff.fit(
        model,
        x,
        y,
        loss=ff.CrossEntropyLoss(),
        optimizer=ff.SGD(GOAL_LR),
        epochs=MOST_EPOCHS,
        batch_size=GOAL_BATCH,
        validation_data=test,
        seed=0,
        callbacks=[reached],
        progress=False,
    )
    training = time.perf_counter() - began
    return {"training_s": training, "accuracy": history.val_accuracy[-1], "epochs": history.epochs}


def linearity(root: str | None, tiles: int, rounds: int) -> dict[str, Any]:
    """An epoch of ten times as many images against ten times an epoch, in turn."""
    (x, y), _ = load(root, tiles)
    many_x, many_y = np.tile(x, (10, 1, 1)), np.tile(y, 10)
    model = network()
    seconds(model, x, y, 256)
    pairs = [(seconds(model, x, y, 256), seconds(model, many_x, many_y, 256)) for _ in range(rounds)]
    few, many = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(large / small / 10 for small, large in pairs)
    return {"images": len(x), "epoch_s": few, "ten_times_epoch_s": many, "ratio": ratio}


def threads(rows: int, rounds: int) -> dict[str, Any]:
    """An epoch of batches of 256 by one thread against two, on numbers of which none is zero."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, 784), np.float32), rng.integers(0, 10, rows)
    model = ff.models.mlp(mean=0.0, std=1.0, scale=1.0, seed=0)
    for n_threads in (1, 2):
        seconds(model, x, y, 256, n_threads)
    pairs = [(seconds(model, x, y, 256, 1), seconds(model, x, y, 256, 2)) for _ in range(rounds)]
    one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"one_s": one, "two_s": two, "ratio": statistics.median(a / b for a, b in pairs)}


def busy(root: str | None, tiles: int, rounds: int) -> dict[str, Any]:
    """An epoch of batches of 64 beside two processes that never rest, against one with the machine to itself."""
    (x, y), _ = load(root, tiles)
    model = network()
    seconds(model, x, y, 64)
    alone = statistics.median(seconds(model, x, y, 64) for _ in range(rounds))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.3)
        beside = statistics.median(seconds(model, x, y, 64) for _ in range(rounds))
    finally:
        for other in others:
            other.kill()
            other.wait()
    return {"alone_s": alone, "beside_s": beside, "ratio": beside / alone}


def memory(root: str | None, tiles: int) -> dict[str, Any]:
    """Growth of the memory over a full-batch epoch; code and data are there already. Only Linux tells."""
    (x, y), _ = load(root, tiles)
    seconds(network(), x[:64], y[:64], None)
    if not os.access(CLEAR, os.W_OK):
        return {"images": len(x), "megabytes": None}
    CLEAR.write_text("5")  # the peak starts anew from here
    before = _kilobytes("VmRSS")
    seconds(network(), x, y, None)
    return {"images": len(x), "megabytes": (_kilobytes("VmHWM") - before) / 1024}


def _kilobytes(field: str) -> int:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def barrier(steps: int, rounds: int) -> dict[str, Any]:
    """A program whose row table holds barriers only, on two threads."""
    from fastfnn_kernels import program
    from fastfnn_kernels.team import Team, barrier_state

    def nanoseconds(team: Team) -> float:
        table, places = np.zeros(BARRIERS, program.HEAD), np.zeros(team.size, program.PLACE)
        state, addresses = barrier_state(), {"row_table": table.ctypes.data, "places": places.ctypes.data}
        job = program.Job(**addresses, barriers=state.ctypes.data, row_records=BARRIERS)
        job.data_rows = job.end = steps
        job.batch_size = job.chunk = 1
        began = time.perf_counter()
        program.run(ctypes.addressof(job), team)
        return (time.perf_counter() - began) / (steps * BARRIERS) * 1e9

    program.run_nothing()
    with Team(2) as team:
        return {"nanoseconds": statistics.median(nanoseconds(team) for _ in range(rounds))}


def first(name: str) -> dict[str, Any]:
    """The first training of a network on 256 images: its kernels are compiled."""
    (x, y), _ = ff.data.load_mnist_sample()
    return {"training_s": seconds(network(name), x[:256], y[:256], 64)}


RUNS = {run.__name__: run for run in (whole, linearity, threads, busy, memory, barrier, first)}

if __name__ == "__main__":
    print(json.dumps(RUNS[sys.argv[1]](**json.loads(sys.argv[2]))))
