"""The tables of a program while they are written."""

from __future__ import annotations

import collections
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.engine.sparsity import Sparsity

Array = NDArray[Any]
Shape = tuple[int, ...]
#: An operation's name and dtypes, and the words behind its address; None for a barrier.
Record = tuple[tuple[Any, ...], tuple[float, ...]] | None

#: Buffers start at multiples of this many bytes: a cache line, the widest vector.
ALIGNMENT = 64


class Data(NamedTuple):
    """Rows of the caller's array, which lie in no buffer and come in the order of the epoch.

    Attributes
    ----------
    source : str
        Which field of a `fastfnn_kernels.program.Job` holds their address.
    shape : tuple of int
        Of one sample.
    dtype : numpy.dtype
    sparsity : Sparsity or None
        How to find its nonzeros, where the first step with parameters walks only these. It is then that step which
        multiplies by `factor` and adds `shift`.
    """

    source: str
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
    lazy : bool
        And may put off what it subtracts from all rows of the parameter alike.

    Attributes
    ----------
    row_losses, hits : (rows,) float64
        Empty until there is a loss.
    settings : dict of str to (1,) float64
        Of the optimizer, by the names that its operation has for them. Records point to them, for they may change
        between calls. `step_size` is minus the learning rate.
    one, zero : (1,) float64
        In place of settings.
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
        lazy: bool = False,
    ) -> None:
        self.dtype, self.rows, self.n_threads = dtype, rows, n_threads
        self.training, self.in_order, self.sgd_in_place, self.lazy = training, in_order, sgd_in_place, lazy
        self.row_losses = self.hits = np.zeros(0)
        self.settings: dict[str, Array] = collections.defaultdict(lambda: np.zeros(1))
        self.one, self.zero = np.ones(1), np.zeros(1)
        self.updated: list[Array] = []
        self.nbytes = 0
        self._kept: list[Any] = []
        self._rows: list[Record] = []
        self._weights: list[Record] = []
        self._updates: list[Record] = []
        self._settling: list[Record] = []
        self._room = kernels.operations.Room(rows, n_threads)
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

    def row(self, operation: str, **fields: Any) -> None:
        """Append a row operation, with all its fields by their names (see `fastfnn_kernels.operations`).

        `Data` stands for the source that it is, and for the dtypes of what is there.

        Raises
        ------
        TypeError
            A field is missing, unknown, or not what the operation has declared.
        """
        self._append(self._rows, operation, fields)

    def weight(self, operation: str, **fields: Any) -> None:
        """Append an operation over all rows of the chunk, after all row operations: each thread writes its share."""
        self._append(self._weights, operation, fields)

    def update(self, operation: str, **fields: Any) -> None:
        """Append an operation after the last chunk of a batch."""
        self._append(self._updates, operation, fields)

    def settle(self, operation: str, **fields: Any) -> None:
        """Append an operation for every few steps and for where a call begins and ends."""
        self._append(self._settling, operation, fields)

    def barrier(self) -> None:
        """What row operations have written so far, by whatever thread, is there for those that follow."""
        self._rows.append(None)

    def update_barrier(self) -> None:
        """The same between operations of the update."""
        self._updates.append(None)

    def gather_labels(self, data: Data, classes: int) -> Array:
        """Append what copies the chunk's labels into a row array, which is returned."""
        out = self.buffer((), np.int64)
        self.row("gather_labels", out=out, data=data, classes=classes)
        return out

    def gather(self, data: Data, factor: Array | None = None, shift: Array | None = None) -> Array:
        """Append what copies the chunk's rows of the data into a row array, which is returned.

        They become ``data * factor + shift`` in the network's dtype.
        """
        out = self.buffer(data.shape)
        factor = np.ones(1, self.dtype) if factor is None else factor
        shift = np.zeros(1, self.dtype) if shift is None else shift
        scaling = {"factor": factor, "shift": shift, "channels": factor.size}
        self.row("gather", out=out, data=data, width=data.width, **scaling)
        return out

    def _append(self, records: list[Record], name: str, fields: dict[str, Any]) -> None:
        known, operations = {kernels.operations.NETWORK: self.dtype}, kernels.operations
        for field, value in fields.items():
            if isinstance(value, Data):
                fields[field] = value.source
                known[operations.DATA] = value.dtype
                if value.sparsity is not None and value.sparsity.index_dtype is not None:
                    known[operations.INDEX] = value.sparsity.index_dtype
        if name not in operations.OPERATIONS:
            raise TypeError(f"there is no operation {name}; expected one of {', '.join(operations.OPERATIONS)}")
        operation = operations.OPERATIONS[name]
        words = operation.words(fields, known, self._room)
        records.append(((name, *(known[dtype] for dtype in operation.dtypes)), words))
        self._kept.append(fields)

    def finished(self) -> tuple[Array, Array, Array, Array]:
        """The row, weight, update and settling table; `self` keeps alive what they point to."""
        tables = self._rows, self._weights, self._updates, self._settling
        kernels.operations.prepare(record[0] for records in tables for record in records if record)
        row, weight, update, settle = (self._finish(records) for records in tables)
        return row, weight, update, settle

    def _finish(self, records: list[Record]) -> Array:
        operations = kernels.operations
        table = np.zeros(len(records), kernels.program.HEAD)  # BARRIER, until something else is written
        for number, record in enumerate(records):
            if record is not None:
                (name, *dtypes), words = record
                operations.OPERATIONS[name].write(table, number, operations.address(name, *dtypes), words)
        return table
