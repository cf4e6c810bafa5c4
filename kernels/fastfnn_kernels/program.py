"""Runs a lowered network for many steps in one call, on every thread of a team, with no Python inside.

A network is data: a table of records of RECORD_WORDS int64, one an operation. A record's first word is the address of
a compiled function ``operation(record, at)``; the others are what it works on: addresses of arrays, sizes, flags. `at`
is where the calling thread is: which rows of the data, and which of them are its own. Nothing is compiled for a
network: an operation is compiled alone, the first time that any network uses it, and loaded from the cache ever after.

A training step, on each thread::

    chunk by chunk of the batch
        row operations      gather, forward, loss, backward: each thread its own rows, so no thread waits
        barrier
        weight operations   gradients of the parameters: each thread its share of what is written
        barrier
    update operations       the optimizer, each thread its share
    barrier

Every number is computed in one fixed order, whatever the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels._config import driver
from fastfnn_kernels.simd import call_operation, word
from fastfnn_kernels.team import barrier, barrier_state, share

RECORD_WORDS = 16
#: Rows of a thread come in multiples of this: the tallest common tile.
ROW_GRAIN = 8

# The words of a thread's place.
START, ROWS, BATCH_ROWS, FIRST, LAST, TID, N_THREADS, ADDS, ORDER, UPDATES = range(10)
AT_WORDS = 16
# The words of the result: sums over the steps, and the step (from 1) in which the loss was not finite, or 0.
LOSS, CORRECT, DONE, FAILED = range(4)


@driver
def run(
    row_table: NDArray[np.int64],
    weight_table: NDArray[np.int64],
    update_table: NDArray[np.int64],
    at: NDArray[np.int64],
    barriers: NDArray[np.int64],
    order: int,
    sizes: tuple[int, int, int, int, int],
    updates: int,
    row_losses: NDArray[np.float64],
    hits: NDArray[np.float64],
    result: NDArray[np.float64],
    tid: int,
    n_threads: int,
) -> None:
    """Steps ``sizes[3]`` to ``sizes[4]`` of an epoch.

    Parameters
    ----------
    row_table, weight_table, update_table : (operations, RECORD_WORDS)
    at : (n_threads, AT_WORDS)
        Working memory.
    barriers : from `team.barrier_state`
    order : address of the epoch's order (int64 a row), or 0 for the order of the data
    sizes : rows of the data, of a batch, of a chunk; first step, last step
    updates : updates made before the first step
    row_losses, hits : (chunk,)
        A row's loss (summed over its elements), and 1 where its class is right.
    result : (4,)
        Losses, hits and rows are added; FAILED is set.
    """
    data_rows, batch_size, chunk, first_step, last_step = sizes
    place = at[tid]
    here = np.int64(place.ctypes.data)
    row_address, weight_address = np.int64(row_table.ctypes.data), np.int64(weight_table.ctypes.data)
    update_address = np.int64(update_table.ctypes.data)
    record_bytes = RECORD_WORDS * 8
    place[TID], place[N_THREADS], place[ORDER] = tid, n_threads, order
    for step in range(first_step, last_step):
        batch_start = step * batch_size
        batch_rows = min(batch_size, data_rows - batch_start)
        batch_loss = 0.0
        for piece in range(0, batch_rows, chunk):
            rows = min(chunk, batch_rows - piece)
            first, last = share(rows, tid, n_threads, ROW_GRAIN)
            place[START], place[ROWS], place[BATCH_ROWS] = batch_start + piece, rows, batch_rows
            place[FIRST], place[LAST], place[ADDS] = first, last, piece > 0
            if last > first:
                for k in range(row_table.shape[0]):
                    record = row_address + k * record_bytes
                    call_operation(word(record, 0), record, here)
            if n_threads > 1:
                barrier(barriers, n_threads)
            if tid == 0:
                for row in range(rows):
                    batch_loss += row_losses[row]
                    result[CORRECT] += hits[row]
                if not math.isfinite(batch_loss):
                    result[FAILED] = step + 1
            for k in range(weight_table.shape[0]):
                record = weight_address + k * record_bytes
                call_operation(word(record, 0), record, here)
            if n_threads > 1:
                barrier(barriers, n_threads)
        if result[FAILED] > 0:
            return
        place[UPDATES] = updates + step - first_step + 1
        for k in range(update_table.shape[0]):
            record = update_address + k * record_bytes
            call_operation(word(record, 0), record, here)
        if tid == 0:
            result[LOSS] += batch_loss
            result[DONE] += batch_rows
        if n_threads > 1:
            barrier(barriers, n_threads)


def run_nothing() -> None:
    """Compile `run`, or load it from the cache, by a call with no steps."""
    table, at = np.zeros((0, RECORD_WORDS), np.int64), np.zeros((1, AT_WORDS), np.int64)
    run(table, table, table, at, barrier_state(), 0, (0, 1, 1, 0, 0), 0, np.zeros(1), np.zeros(1), np.zeros(4), 0, 1)
