"""A program for one caller at a time: a call sets the addresses, runs, and that is all."""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.engine import lowering, program
from fastfnn.engine.task import Pass, Task
from fastfnn.model import Sequential

Array = NDArray[Any]
#: Bytes of samples that are sooner copied to where the program looks for them than asked for their address.
COPIED_BYTES = 8192
#: Of inputs that are read as they come.
DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8))


class Context:
    """Runs a compiled model's inference.

    Parameters
    ----------
    task : Task
        Of a model that must not change.
    sample_shape, dtype
        Of the inputs.
    rows : int
        Of a chunk, at most; a call may have any number.
    n_threads : int
        With more than one, those of a team that is formed for each call.
    """

    def __init__(
        self, task: Task, sample_shape: tuple[int, ...], dtype: np.dtype[Any], rows: int, n_threads: int = 1
    ) -> None:
        shape = task.model.output_shape(sample_shape)
        few = max(1, min(rows, COPIED_BYTES // max(1, int(np.prod(sample_shape)) * dtype.itemsize)))
        self._x, self._out = np.zeros((few, *sample_shape), dtype), np.zeros((few, *shape), task.model.dtype)
        data = Pass(np.broadcast_to(self._x[:1], (rows, *sample_shape)))
        self._program = program.for_rows(task, data, n_threads)
        self._n_threads = n_threads
        self._job = self._program.job_for(task, Pass(self._x, out=self._out))
        alone = n_threads == 1
        self._run = kernels.program.runner(ctypes.addressof(self._job)) if alone else self._run_together
        self._rows, self._few = 0, few
        self._places, self._shape = (self._job.x, self._job.out), shape

    def __call__(self, x: Array, rows: int, out: Array | None = None) -> Array | None:
        """The outputs for a C-contiguous `x` of so many rows; in `out` where it is given, of their shape and dtype.

        None where an operation has refused a row: `program.run` says why.
        """
        job = self._job
        if rows != self._rows:
            job.data_rows = job.batch_size = rows
            job.end, self._rows = -(-rows // job.chunk), rows
        if rows <= self._few:
            self._x[:rows] = x
            self._run()
            if job.bad_row:
                return self._refused()
            if out is None:
                return self._out[:rows].copy()
            out[...] = self._out[:rows]
            return out
        in_place = out is not None and out.flags.carray and not np.may_share_memory(x, out)
        made = out if out is not None and in_place else np.empty((rows, *self._shape), self._out.dtype)
        job.x, job.out = _address(x), _address(made)
        try:
            self._run()
        finally:
            job.x, job.out = self._places
        if job.bad_row:
            return self._refused()
        if out is not None and made is not out:
            out[...] = made
        return made if out is None else out

    def _refused(self) -> None:
        self._job.bad_row = 0

    def _run_together(self) -> None:
        with kernels.team.Team(self._n_threads, may_be_fewer=True) as team:
            self._program.run_job(team)


def _address(array: Array) -> int:
    """Where a C-contiguous array starts, which may be read-only: that takes four times as long."""
    if array.flags.writeable:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    return array.__array_interface__["data"][0]


# Of models that may change: what a context depends on is compared at every call

#: Rows that are few, contexts that are kept for a kind of inputs, and kinds: a model may take images of any size.
FEW_ROWS, CONTEXTS_KEPT, KINDS_KEPT = 64, 8, 8


class _Kept(NamedTuple):
    """For inputs of one kind: a row's work, and contexts that nobody uses, each behind what it was made for."""

    row_nanoseconds: float
    contexts: list[tuple[Any, Context]]


_waiting: weakref.WeakKeyDictionary[Sequential, dict[Any, _Kept]] = weakref.WeakKeyDictionary()


def few_outputs(model: Sequential, x: Array, nanoseconds: float) -> Array | None:
    """The outputs for a few rows, which are C-contiguous and fit the model, at a small price.

    Parameters and buffers are read where they lie, so whatever was written there counts. None where there is no such
    way: for more than FEW_ROWS rows or so many `nanoseconds` of work, other dtypes, a model that is not compiled.
    """
    rows = len(x)
    if not 0 < rows <= FEW_ROWS or x.dtype not in DTYPES:
        return None
    state, kind = program.inference_key(model), (x.dtype, x.shape[1:])
    kinds = _waiting.get(model)
    if kinds is None:
        kinds = _waiting.setdefault(model, {})
    kept = kinds.get(kind)
    if kept is None:
        if len(kinds) >= KINDS_KEPT:
            kinds.clear()
        kept = kinds.setdefault(kind, _Kept(max(1.0, lowering.row_nanoseconds(model, x.shape[1:])), []))
    most = min(FEW_ROWS, int(nanoseconds / kept.row_nanoseconds))
    if rows > most:
        return None
    context = _taken(kept.contexts, state)
    if context is None:
        task = Task(model)
        if not program.is_compiled(task):
            return None
        context = Context(task, x.shape[1:], x.dtype, most)
    out = context(x, rows)
    if len(kept.contexts) < CONTEXTS_KEPT:
        kept.contexts.append((state, context))
    return out


def _taken(contexts: list[tuple[Any, Context]], state: Any) -> Context | None:
    """A context for this state, now the caller's alone; those for another are dropped."""
    with contextlib.suppress(IndexError):
        while True:
            made_for, context = contexts.pop()
            if made_for == state:
                return context
    return None
