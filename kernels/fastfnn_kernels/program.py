"""Runs a lowered network for many steps in one call, on every thread of a team, with no Python inside.

A network is data: a table of records of RECORD_WORDS int64, one an operation. A record's first word is the address of
a compiled function ``operation(record, at)``; the others are what it works on: addresses of arrays, sizes, flags. `at`
is where the calling thread is: which rows of the data, and which of them are its own. Nothing is compiled for a
network: an operation is compiled alone, the first time that any network uses it, and loaded from the cache ever after.

A training step, on each thread::

    piece by piece of the batch
        row operations      gather, forward, loss, backward: each thread its own rows, so no thread waits
        barrier, and every thread adds up the losses: where the sum is not finite, all of them stop here
        weight operations   gradients of the parameters, or their update: each thread its share of what is written
        barrier
    update operations       the optimizer, each thread its share
    barrier

A record whose address is BARRIER lets the team meet between two row or update operations. Inference is a row table
alone: no thread waits for another. Every number is computed in one fixed order, whatever the number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels._config import driver, helper
from fastfnn_kernels.simd import (
    array_at,
    bits_of,
    call_operation,
    float_of,
    flush_subnormals,
    restore_control,
    word,
)
from fastfnn_kernels.team import barrier, barrier_state, share

RECORD_WORDS = 16
#: In place of an operation's address in the row or update table: the team meets here.
BARRIER = 0
#: Rows of a thread come in multiples of this: the tallest common tile.
ROW_GRAIN = 8

# The words of a thread's place. A chunk of ROWS rows from row START of the epoch, PIECE rows into a batch of
# BATCH_ROWS; of them the thread has FIRST to LAST. ADDS says that the batch has had chunks before, whose gradients
# stand. UPDATES is the number of updates since the optimizer started, this step's counted. The addresses of the order
# (or 0), of the inputs, of the targets, of what inference writes and of the rows' weights.
START, ROWS, BATCH_ROWS, FIRST, LAST, TID, N_THREADS, ADDS, UPDATES, PIECE, ORDER, X, Y, RESULT, WEIGHTS = range(15)
AT_WORDS = 32
# The words of a job: rows of the data, of a batch, of a chunk; first and last piece, counted over all batches;
# whether a loss that is not finite ends it; updates made before the first step of the data; addresses for the places;
# where there is a learning rate (float64) for every step, their address and those where it and its negative go; and
# the address of the weights.
DATA_ROWS, BATCH_SIZE, CHUNK, BEGIN, END, TRAINS, MADE, JOB_ORDER, JOB_X, JOB_Y, JOB_RESULT = range(11)
JOB_RATES, JOB_RATE, JOB_STEP_SIZE, JOB_WEIGHTS = range(11, 15)
JOB_WORDS = 16
# The words of the result: sums over the batches; the step (from 1) in which the loss was not finite, or 0; and the
# sums of a batch that is not finished.
LOSS, CORRECT, DONE, FAILED, PART_LOSS, PART_CORRECT = range(6)
RESULT_WORDS = 8


#: The exponent's bits of a float64: all of them are set in an infinity and in a NaN.
EXPONENT = 0x7FF0000000000000


@helper
def _is_finite(x: float) -> bool:
    """Told from the bits: `math.isfinite` is ``x - x == 0``, which "reassoc" may take for true where x is a sum."""
    return (bits_of(x) & EXPONENT) != EXPONENT


@driver
def run(
    row_table: NDArray[np.int64],
    weight_table: NDArray[np.int64],
    update_table: NDArray[np.int64],
    at: NDArray[np.int64],
    barriers: NDArray[np.int64],
    job: NDArray[np.int64],
    row_losses: NDArray[np.float64],
    hits: NDArray[np.float64],
    result: NDArray[np.float64],
    tid: int,
    n_threads: int,
) -> None:
    """Pieces ``job[BEGIN]`` to ``job[END]`` of all batches of the data; every batch has as many as the first.

    A call may end within a batch: the next goes on there.

    Parameters
    ----------
    row_table, weight_table, update_table : (operations, RECORD_WORDS)
        The latter two may be empty.
    at : (n_threads, AT_WORDS)
        Working memory.
    barriers : from `team.barrier_state`
    job : (JOB_WORDS,)
    row_losses, hits : (chunk,)
        A row's loss (summed over its elements), and 1 where its class is right. Empty where there is no loss.
    result : (RESULT_WORDS,)
        Losses, hits and rows are added; FAILED is set.
    """
    control = flush_subnormals()
    data_rows, batch_size, chunk = job[DATA_ROWS], job[BATCH_SIZE], job[CHUNK]
    place = at[tid]
    here = np.int64(place.ctypes.data)
    row_address, weight_address = np.int64(row_table.ctypes.data), np.int64(weight_table.ctypes.data)
    update_address = np.int64(update_table.ctypes.data)
    record_bytes = RECORD_WORDS * 8
    place[TID], place[N_THREADS], place[ORDER] = tid, n_threads, job[JOB_ORDER]
    place[X], place[Y], place[RESULT], place[WEIGHTS] = job[JOB_X], job[JOB_Y], job[JOB_RESULT], job[JOB_WEIGHTS]
    has_loss = row_losses.size > 0
    pieces = max(1, (batch_size + chunk - 1) // chunk)
    batch_loss, batch_hits = result[PART_LOSS], result[PART_CORRECT]
    for count in range(job[BEGIN], job[END]):
        step, piece = count // pieces, count % pieces * chunk
        batch_rows = min(batch_size, data_rows - step * batch_size)
        rows = min(chunk, batch_rows - piece)
        if rows <= 0:  # the last batch is shorter
            continue
        if piece == 0:
            batch_loss, batch_hits = 0.0, 0.0
            if tid == 0 and job[JOB_RATES] != 0:  # nobody reads it before the next barrier
                rate = float_of(word(job[JOB_RATES], step))
                array_at(job[JOB_RATE], 1, np.float64)[0] = rate
                array_at(job[JOB_STEP_SIZE], 1, np.float64)[0] = -rate
        if n_threads > 1 and rows < chunk and not has_loss:
            barrier(barriers, n_threads)  # the shares of fewer rows are others, in the same buffers
        first, last = share(rows, tid, n_threads, ROW_GRAIN)
        place[START], place[ROWS], place[BATCH_ROWS] = step * batch_size + piece, rows, batch_rows
        place[FIRST], place[LAST], place[ADDS] = first, last, piece > 0
        place[PIECE], place[UPDATES] = piece, job[MADE] + step + 1
        for k in range(row_table.shape[0]):
            record = row_address + k * record_bytes
            operation = word(record, 0)
            if operation == BARRIER:
                if n_threads > 1:
                    barrier(barriers, n_threads)
            elif last > first:
                call_operation(operation, record, here)
        if has_loss:
            if n_threads > 1:
                barrier(barriers, n_threads)
            for row in range(rows):
                batch_loss += row_losses[row]
            if job[TRAINS] and not _is_finite(batch_loss):
                if tid == 0:
                    result[FAILED] = step + 1
                break
            if tid == 0:
                for row in range(rows):
                    batch_hits += hits[row]
            for k in range(weight_table.shape[0]):
                record = weight_address + k * record_bytes
                call_operation(word(record, 0), record, here)
            if n_threads > 1:
                barrier(barriers, n_threads)
        if piece + rows == batch_rows:
            for k in range(update_table.shape[0]):
                record = update_address + k * record_bytes
                operation = word(record, 0)
                if operation != BARRIER:
                    call_operation(operation, record, here)
                elif n_threads > 1:
                    barrier(barriers, n_threads)
            if n_threads > 1 and update_table.shape[0] > 0:
                barrier(barriers, n_threads)
            if tid == 0:
                result[LOSS] += batch_loss
                result[CORRECT] += batch_hits
                result[DONE] += batch_rows
    if tid == 0:
        result[PART_LOSS], result[PART_CORRECT] = batch_loss, batch_hits
    restore_control(control)


def run_nothing() -> None:
    """Compile `run`, or load it from the cache, by a call with no steps."""
    table, at = np.zeros((0, RECORD_WORDS), np.int64), np.zeros((1, AT_WORDS), np.int64)
    job, none = np.zeros(JOB_WORDS, np.int64), np.zeros(0)
    job[CHUNK] = 1
    run(table, table, table, at, barrier_state(), job, none, none, np.zeros(RESULT_WORDS), 0, 1)
