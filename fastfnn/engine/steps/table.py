"""The tables of a program while they are written."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.engine.sparsity import Sparsity

Array = NDArray[Any]
Shape = tuple[int, ...]
#: An array stands for its address, a float for its bits.
Field = Array | int | float
#: An operation's name and dtypes, or None for a barrier, and what follows its address.
Record = tuple[tuple[Any, ...] | None, tuple[Field, ...]]

#: Buffers start at multiples of this many bytes: a cache line, the widest vector.
ALIGNMENT = 64


@dataclass(frozen=True)
class Data:
    """Rows of the caller's array, which lie in no buffer and come in the order of the epoch.

    Attributes
    ----------
    place : int
        Which word of a thread's place holds their address: ``program.X`` or ``program.Y``.
    shape : tuple of int
        Of one sample.
    dtype : numpy.dtype
    sparsity : Sparsity or None
        How to find its nonzeros, where the first step with parameters walks only these. It is then that step which
        multiplies by `factor` and adds `shift`.
    """

    place: int
    shape: Shape
    dtype: np.dtype[Any]
    sparsity: Sparsity | None = None
    factor: float = 1.0
    shift: float = 0.0

    @property
    def width(self) -> int:
        """Numbers in a sample."""
        return math.prod(self.shape)


class Table:
    """Records and the memory that they point to.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the network.
    rows : int
        Of a chunk.
    n_threads : int
    training : bool
        Whether there will be a backward.
    in_order : bool
        Whether rows come in the order of the data.
    sgd_in_place : bool
        A step may subtract ``lr`` times a gradient from its parameter at once, without storing the gradient (plain
        SGD, a batch in one chunk), with `step_size` for a factor; it then says so in `updated`.

    Attributes
    ----------
    row_losses, hits : (rows,) float64
        Empty until there is a loss.
    settings : (8,) float64
        Of the optimizer, learning rate first. Records point to them, for they may change between calls.
    limits : (2,) float64
        Of the gradient: `fastfnn.optim.Optimizer.limits`.
    decay : (2, 2) float64
        Weight decay and the factor of L1: of parameters that these hold, and, zeros, of the others.
    step_size : (1,) float64
        Minus the learning rate.
    one : (1,) float64
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        rows: int,
        n_threads: int,
        *,
        training: bool,
        in_order: bool = True,
        sgd_in_place: bool = False,
    ) -> None:
        self.dtype, self.rows, self.n_threads = dtype, rows, n_threads
        self.training, self.in_order, self.sgd_in_place = training, in_order, sgd_in_place
        self.row_losses = self.hits = np.zeros(0)
        self.settings, self.limits, self.step_size, self.one = np.zeros(8), np.zeros(2), np.zeros(1), np.ones(1)
        self.decay = np.zeros((2, 2))
        self.updated: list[Array] = []
        self.nbytes = 0
        self._kept: list[Array] = [self.settings, self.limits, self.decay, self.step_size, self.one]
        self._records: tuple[list[Record], ...] = ([], [], [])
        self._gemm_scratch: Array | None = None

    # Memory

    def empty(self, shape: Shape, dtype: Any = None) -> Array:
        """Memory of any shape, in the network's dtype unless told otherwise."""
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        memory = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        self.nbytes += memory.nbytes
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def buffer(self, sample_shape: Shape, dtype: Any = None) -> Array:
        """A row array: room for a chunk's rows."""
        return self.empty((self.rows, *sample_shape), dtype)

    def block_buffer(self, shape: Shape, dtype: Any = None) -> Array:
        """Room for a partial result of every block of ``program.ROW_GRAIN`` rows: a block lies in one thread's rows."""
        return self.empty((-(-self.rows // kernels.program.ROW_GRAIN), *shape), dtype)

    @property
    def gemm_scratch(self) -> Array:
        """(n_threads, elements): working memory for matrix products, which all of them share."""
        if self._gemm_scratch is None:
            self._gemm_scratch = kernels.products.gemm.scratch_for(self.dtype, self.n_threads)
        return self._gemm_scratch

    # Records

    def row(self, operation: str, *fields: Field, dtypes: tuple[Any, ...] | None = None) -> None:
        """Append a row operation, compiled for `dtypes` (the network's by default)."""
        self._append(0, operation, fields, dtypes)

    def weight(self, operation: str, *fields: Field, dtypes: tuple[Any, ...] | None = None) -> None:
        """Append an operation over all rows of the chunk, after all row operations: each thread writes its share."""
        self._append(1, operation, fields, dtypes)

    def update(self, operation: str, *fields: Field, dtypes: tuple[Any, ...] | None = None) -> None:
        """Append an operation after the last chunk of a batch."""
        self._append(2, operation, fields, dtypes)

    def barrier(self) -> None:
        """What row operations have written so far, by whatever thread, is there for those that follow."""
        self._records[0].append((None, ()))

    def update_barrier(self) -> None:
        """The same between operations of the update."""
        self._records[2].append((None, ()))

    def gather(self, data: Data, factor: Array | None = None, shift: Array | None = None) -> Array:
        """Append what copies the chunk's rows of the data into a row array, which is returned.

        They become ``data * factor + shift`` in the network's dtype; labels stay int64.
        """
        if data.shape == ():
            out = self.buffer((), np.int64)
            self.row("gather_labels", out, data.place, dtypes=())
            return out
        out = self.buffer(data.shape)
        factor = np.ones(1, self.dtype) if factor is None else factor
        shift = np.zeros(1, self.dtype) if shift is None else shift
        dtypes = (self.dtype, data.dtype)
        self.row("gather", out, data.place, data.width, factor, shift, factor.size, dtypes=dtypes)
        return out

    def _append(self, table: int, operation: str, fields: tuple[Field, ...], dtypes: tuple[Any, ...] | None) -> None:
        self._records[table].append(((operation, *((self.dtype,) if dtypes is None else dtypes)), fields))

    def finished(self) -> tuple[Array, Array, Array]:
        """The row, weight and update table, (operations, RECORD_WORDS) int64 each; `self` keeps their memory alive."""
        kernels.operations.prepare(operation for records in self._records for operation, _ in records if operation)
        row, weight, update = (self._finish(records) for records in self._records)
        return row, weight, update

    def _finish(self, records: list[Record]) -> Array:
        table = np.zeros((len(records), kernels.program.RECORD_WORDS), np.int64)
        for row, (operation, fields) in zip(table, records, strict=True):
            row[0] = kernels.operations.address(*operation) if operation else kernels.program.BARRIER
            for i, value in enumerate(fields, 1):
                if isinstance(value, np.ndarray):
                    self._kept.append(value)
                    row[i] = value.ctypes.data
                else:
                    row[i] = struct.unpack("<q", struct.pack("<d", value))[0] if isinstance(value, float) else value
        return table
