"""A program for few rows, with arrays of its own for what goes in and comes out: a call is a copy, a run, a copy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.engine import program
from fastfnn.engine.task import Pass, Task
from fastfnn.model import Sequential

Array = NDArray[Any]


class Context:
    """Runs a compiled model on one thread, for one caller at a time.

    Parameters
    ----------
    model : Sequential
        It must not change.
    sample_shape, dtype
        Of the inputs.
    rows : int
        The most that a call has.
    """

    def __init__(self, model: Sequential, sample_shape: tuple[int, ...], dtype: np.dtype[Any], rows: int) -> None:
        self._x = np.zeros((rows, *sample_shape), dtype)
        self._out = np.zeros((rows, *model.output_shape(sample_shape)), model.dtype)
        task, data = Task(model), Pass(self._x, out=self._out)
        self._program = program.for_rows(task, data)
        self._job = self._program.job_for(task, data)
        self._address, self._run, self._rows = ctypes.addressof(self._job), kernels.program.run, 0

    def __call__(self, x: Array, rows: int) -> Array:
        """The outputs for `rows` rows, as many as `x` has."""
        if rows != self._rows:
            job = self._job
            job.data_rows = job.batch_size = rows
            job.end, self._rows = -(-rows // job.chunk), rows
        self._x[:rows] = x
        self._run(self._address, 0, 1)
        return self._out[:rows].copy()
