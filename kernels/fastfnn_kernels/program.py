"""Runs a lowered network for many steps in one call, on every thread of a team, with no Python inside.

A network is data: a table of records, one an operation. A record says the address of a compiled function
``operation(record, place)`` and what it works on: addresses of arrays, sizes, flags (`operations` declares their
names). `place` is where the calling thread is: which rows of the data, and which of them are its own. Nothing is
compiled for a network: an operation is compiled alone, the first time that any network uses it, and loaded from the
cache ever after.

A training step, on each thread::

    piece by piece of the batch
        row operations      gather, forward, loss, backward: each thread its own rows, so no thread waits
        barrier, and every thread adds up the losses: where the sum is not finite, all of them stop here
        weight operations   gradients of the parameters, or their update: each thread its share of what is written
        barrier
    update operations       the optimizer, each thread its share
    barrier

Every few steps, and where the call begins and ends, come the settling operations: of weights whose updates are lazy
(`products.lazy`). A record whose address is BARRIER lets the team meet between two row or update operations. Inference
is a row table alone: no thread waits for another. Every number is computed in one fixed order, whatever the number of
threads.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from fastfnn_kernels import _boxes
from fastfnn_kernels._config import addressed, helper
from fastfnn_kernels.reference.lazy import BEGIN, LEAVE, RENEW, RESUME
from fastfnn_kernels.simd import array_at, bits_of, call_operation, flush_subnormals, record_at, restore_control
from fastfnn_kernels.team import BARRIER_WORDS, Team, barrier, barrier_state, share

#: In place of an operation's address in the row or update table: the team meets here.
BARRIER = 0
#: Steps of an epoch after which the settling operations come.
STEPS_TO_SETTLE = 64
#: Rows of a thread come in multiples of this: the tallest common tile.
ROW_GRAIN = 8

_Integer, _Real = ctypes.c_int64, ctypes.c_double

# Structures that Python and the compiled code share: Python sets their fields, numba reads them by name. An address is
# an integer, and 0 where there is none.


class Head(ctypes.Structure):
    """The beginning of every record; a table's records are equally long."""

    _fields_ = (("operation", _Integer), ("fields", _Integer * 31))


class Place(ctypes.Structure):
    """Where a thread is.

    A chunk of `rows` rows from row `start` of the epoch, `piece` rows into a batch of `batch_rows`; of them the thread
    `tid` of `n_threads` has `first` to `last`. `adds`: the batch has had chunks before, whose gradients stand.
    `updates` since the optimizer started, this step's counted. The address of the `order` of all `data_rows` in the
    epoch, or 0; and of the `job`, where operations look for the caller's arrays. `when` the settling operations come:
    an event of `products.lazy.settle`.
    """

    _fields_ = (
        *((name, _Integer) for name in ("start", "rows", "batch_rows", "first", "last", "tid", "n_threads", "adds")),
        *((name, _Integer) for name in ("updates", "piece", "order", "data_rows", "job", "when")),
        ("unused", _Integer * 18),  # two threads' places are not in neighbouring cache lines
    )


class Job(ctypes.Structure):
    """All that a call of `run` works on, and what came of it.

    **Tables**: the address and number of the row, weight, update and settling records. **Memory**: the places of the
    threads, the barrier's state, and for each row of a chunk its loss (summed over its elements) and whether its class
    is right, or 0 where there is no loss.

    **To do**: rows of the data, of a batch, of a chunk; the pieces from `begin` to `end`, counted over all batches;
    whether a loss that is not finite ends it; updates `made` before the first step of the data. **Data**: order,
    inputs, targets, weights of the rows, and where the predictions go: operations look for them here, or for `nothing`.
    Where there is a learning rate (float64) for every step, `rates`; and where it goes, and its negative. The same of a
    weight decay: `decays`, and where it goes.

    **What came of it**: sums of losses, right rows and rows over the finished batches; the step (from 1) that failed
    for a loss that was not finite, or 0; a row of the data (from 1) that holds what it must not, or 0; losses and right
    rows of a batch that is not finished.
    """

    _fields_ = (
        *((name, _Integer) for name in ("row_table", "row_records", "weight_table", "weight_records", "update_table")),
        *((name, _Integer) for name in ("update_records", "settle_table", "settle_records")),
        *((name, _Integer) for name in ("places", "barriers", "row_losses", "row_hits")),
        *((name, _Integer) for name in ("data_rows", "batch_size", "chunk", "begin", "end", "trains", "made")),
        *((name, _Integer) for name in ("order", "x", "y", "weights", "out", "nothing", "rates", "rate", "step_size")),
        *((name, _Integer) for name in ("decays", "decay")),
        *((name, _Real) for name in ("losses", "hits", "done")),
        *((name, _Integer) for name in ("failed", "bad_row")),
        *((name, _Real) for name in ("part_losses", "part_hits")),
    )


class Matrix(ctypes.Structure):
    """The arrays of a CSR matrix: where rows start (int64), the columns and the values of so many `nonzeros`."""

    _fields_ = tuple((name, _Integer) for name in ("starts", "columns", "values", "nonzeros"))


#: Fields of a job where operations look for the caller's arrays.
SOURCES = ("x", "y", "weights", "out", "nothing")
HEAD, PLACE, JOB, MATRIX = np.dtype(Head), np.dtype(Place), np.dtype(Job), np.dtype(Matrix)
#: Bytes from one record, or place, to the next.
HEAD_BYTES, PLACE_BYTES = HEAD.itemsize, PLACE.itemsize


#: The exponent's bits of a float64: all of them are set in an infinity and in a NaN.
EXPONENT = 0x7FF0000000000000


@helper
def _is_finite(x: float) -> bool:
    """Told from the bits: `math.isfinite` is ``x - x == 0``, which "reassoc" may take for true where x is a sum."""
    return (bits_of(x) & EXPONENT) != EXPONENT


@helper
def _run_operations(table: int, count: int, place: Any, barriers: NDArray[np.int64], has_rows: bool) -> None:
    """The records of a table, one after the other; a thread without rows has nothing to do but to meet the others."""
    for k in range(count):
        record = record_at(table + k * HEAD_BYTES, HEAD)
        if record.operation == BARRIER:
            if place.n_threads > 1:
                barrier(barriers, place.n_threads)
        elif has_rows:
            call_operation(record.operation, record, place)


def _run(address: int, tid: int, n_threads: int) -> None:
    """Do the pieces of the `Job` at `address`, as thread `tid`; every batch has as many as the first.

    A call may end within a batch: the next goes on there.
    """
    control = flush_subnormals()
    job = record_at(address, JOB)
    place, barriers = (
        record_at(job.places + tid * PLACE_BYTES, PLACE),
        array_at(job.barriers, (BARRIER_WORDS,), np.int64),
    )
    data_rows, batch_size, chunk, has_loss = job.data_rows, job.batch_size, job.chunk, job.row_losses != 0
    row_losses = array_at(job.row_losses, (chunk,), np.float64)
    row_hits = array_at(job.row_hits, (chunk,), np.float64)
    place.tid, place.n_threads, place.order, place.data_rows, place.job = tid, n_threads, job.order, data_rows, address
    pieces = max(1, (batch_size + chunk - 1) // chunk)
    batch_loss, batch_hits = job.part_losses, job.part_hits
    for count in range(job.begin, job.end):
        step, piece = count // pieces, count % pieces * chunk
        batch_rows = min(batch_size, data_rows - step * batch_size)
        rows = min(chunk, batch_rows - piece)
        if rows <= 0:  # the last batch is shorter
            continue
        if piece == 0:
            batch_loss, batch_hits = 0.0, 0.0
            if job.settle_records > 0 and (count == job.begin or step % STEPS_TO_SETTLE == 0):
                if step % STEPS_TO_SETTLE != 0:
                    place.when = RESUME
                else:
                    place.when = BEGIN if count == job.begin else RENEW
                _run_operations(job.settle_table, job.settle_records, place, barriers, True)
                if n_threads > 1:
                    barrier(barriers, n_threads)
            if tid == 0 and job.rates != 0:  # nobody reads it before the next barrier
                rate = array_at(job.rates, (step + 1,), np.float64)[step]
                array_at(job.rate, (1,), np.float64)[0] = rate
                array_at(job.step_size, (1,), np.float64)[0] = -rate
            if tid == 0 and job.decays != 0:
                decay = array_at(job.decays, (step + 1,), np.float64)[step]
                array_at(job.decay, (1,), np.float64)[0] = decay
        if n_threads > 1 and rows < chunk and not has_loss and count > job.begin:
            barrier(barriers, n_threads)  # the shares of fewer rows are others, in the same buffers
        first, last = share(rows, tid, n_threads, ROW_GRAIN)
        place.start, place.rows, place.batch_rows = step * batch_size + piece, rows, batch_rows
        place.first, place.last, place.adds = first, last, piece > 0
        place.piece, place.updates = piece, job.made + step + 1
        _run_operations(job.row_table, job.row_records, place, barriers, last > first)
        if has_loss:
            if n_threads > 1:
                barrier(barriers, n_threads)
            if job.bad_row != 0:
                break
            for row in range(rows):
                batch_loss += row_losses[row]
            if job.trains and not _is_finite(batch_loss):
                if tid == 0:
                    job.failed = step + 1
                break
            if tid == 0:
                for row in range(rows):
                    batch_hits += row_hits[row]
            _run_operations(job.weight_table, job.weight_records, place, barriers, True)
            if n_threads > 1:
                barrier(barriers, n_threads)
        if piece + rows == batch_rows:
            _run_operations(job.update_table, job.update_records, place, barriers, True)
            if n_threads > 1 and job.update_records > 0:
                barrier(barriers, n_threads)
            if tid == 0:
                job.losses += batch_loss
                job.hits += batch_hits
                job.done += batch_rows
    if job.settle_records > 0 and job.end > job.begin:  # all have met since anybody read the weights
        place.when = LEAVE
        _run_operations(job.settle_table, job.settle_records, place, barriers, True)
    if tid == 0:
        job.part_losses, job.part_hits = batch_loss, batch_hits
    restore_control(control)


@functools.cache
def _compiled() -> Any:
    _boxes.load()
    return addressed(_run, (types.int64,) * 3)


def run(address: int, team: Team | None = None, relieves: bool = False) -> None:
    """Do the pieces of the `Job` at `address`, on the calling thread or on every thread of a team.

    With `relieves`, for a job in which no thread waits for another, see `Team.launch`.
    """
    if team is None:
        _boxes.launch(_compiled().address, address, 0, 1, 0)
    else:
        team.launch(_compiled().address, address, relieves)


def runner(address: int) -> Callable[[], None]:
    """What does ``run(address)`` and no more: for calls that take microseconds."""
    return functools.partial(_boxes.launch, _compiled().address, address, 0, 1, 0)


def run_nothing() -> None:
    """Compile all that runs programs, or load it from the cache, by a call with no steps."""
    place, barriers = Place(), barrier_state()
    job = Job(places=ctypes.addressof(place), barriers=barriers.ctypes.data, chunk=1)
    run(ctypes.addressof(job))
