"""Inputs that are mostly zeros: dense arrays in which most elements are one value, and CSR matrices."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError

Array = NDArray[Any]

#: Rows that are looked at to tell how many elements are zero; with fewer there is nothing to win by looking.
SAMPLE_ROWS, LEAST_ROWS = 32, 128
#: Elements that are looked at to tell which value is the most frequent.
SAMPLE_ELEMENTS = 63
#: Share of nonzeros below which a list of them is shorter to walk than a row and its marks.
LEAST_MARKED = 1 / 32


@dataclass(frozen=True)
class Sparsity:
    """How the nonzeros of a sample's numbers are found.

    Attributes
    ----------
    zero : float
        The value that is left out. A network's first layer sees the difference from it, and makes up for that.
    index_dtype : numpy.dtype or None
        Of a CSR matrix's columns; None where the data are a dense array.
    capacity : int
        Nonzeros of a row at most, where they are to be listed; 0 where they are marked (`products.marked`).
    """

    zero: float = 0.0
    index_dtype: np.dtype[Any] | None = None
    capacity: int = 0


class CSR:
    """A sparse matrix by rows, as SciPy's ``csr_matrix`` and ``csr_array`` hold it, checked.

    It stands where an array of rows would: it has their shape and dtype, and some of its rows are a dense array.

    Parameters
    ----------
    name : str
        For errors.
    matrix
        Has `indptr`, `indices`, `data` and `shape`. Columns need not be in order; where one comes twice in a row the
        values are summed.
    dtype : numpy.dtype
        Of the network, for data that no kernel reads.
    """

    ndim = 2

    def __init__(self, name: str, matrix: Any, dtype: np.dtype[Any]) -> None:
        form = getattr(matrix, "format", "csr")
        if form != "csr":
            raise InvalidTypeError(f"{name} is a sparse matrix in the format {form!r}; expected CSR, as from tocsr()")
        self.shape: tuple[int, int] = (int(matrix.shape[0]), int(matrix.shape[1]))
        self.starts = check.plain(np.asarray(matrix.indptr), np.int64)
        indices, data = np.asarray(matrix.indices), np.asarray(matrix.data)
        self.data = check.numbers(name, data, dtype)
        self.indices = check.plain(indices, None if indices.dtype in (np.int32, np.int64) else np.int64)
        self._check(name)
        self.dtype = self.data.dtype

    @functools.cached_property
    def matrix(self) -> Any:
        """The arrays' addresses, as operations read them."""
        starts, columns, values = (array.ctypes.data for array in (self.starts, self.indices, self.data))
        nonzeros = min(len(self.indices), len(self.data))
        return kernels.program.Matrix(starts=starts, columns=columns, values=values, nonzeros=nonzeros)

    def _check(self, name: str) -> None:
        """Kernels check nothing: a column beyond the last would be read from foreign memory."""
        rows, width = self.shape
        starts, indices = self.starts, self.indices
        if starts.shape != (rows + 1,) or starts[0] < 0 or (np.diff(starts) < 0).any():
            raise InvalidValueError(f"{name}.indptr is no list of {rows + 1} ascending places, one more than rows")
        if starts[-1] > min(len(indices), len(self.data)):
            raise InvalidValueError(
                f"{name}.indptr ends at {starts[-1]}; expected at most {min(len(indices), len(self.data))}, the length "
                "of indices and data"
            )
        used = indices[starts[0] : starts[-1]]
        if used.size and (used.min() < 0 or used.max() >= width):
            raise InvalidValueError(
                f"{name}.indices go from {used.min()} to {used.max()}; expected columns from 0 to {width - 1}"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Array) -> Array:
        """Some rows as a dense array."""
        numbers = np.arange(len(self))[rows]
        lengths = np.diff(self.starts)[numbers]
        row = np.repeat(np.arange(len(numbers)), lengths)
        # Nonzero number p of a row is the p-th behind the row's start.
        within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        place = self.starts[numbers][row] + within
        dense = np.zeros((len(numbers), self.shape[1]), self.dtype)
        np.add.at(dense, (row, self.indices[place]), self.data[place])
        return dense

    def part(self, rows: Array) -> CSR:
        """A copy of the rows at these places, as sparse as they are here."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        place = np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        twin = object.__new__(CSR)
        twin.shape, twin.dtype, twin.starts = (len(rows), self.shape[1]), self.dtype, starts.astype(np.int64)
        twin.indices, twin.data = self.indices[place], self.data[place]
        return twin

    @property
    def sparsity(self) -> Sparsity:
        lengths = np.diff(self.starts)
        marked = lengths.sum() >= LEAST_MARKED * math.prod(self.shape)
        capacity = 0 if marked else max(1, int(lengths.max(initial=0)))
        return Sparsity(0.0, self.indices.dtype, capacity)


def is_sparse_matrix(x: Any) -> bool:
    """Whether `x` is one of SciPy's sparse matrices or the like, which `numpy.asarray` makes no rows of."""
    return hasattr(x, "shape") and (hasattr(x, "indptr") or (hasattr(x, "format") and hasattr(x, "tocsr")))


def look(x: Array, most: float) -> Sparsity | None:
    """How to skip the zeros of a dense array, or None where two rows have them together in too few places.

    That is where a share of more than `most` of the columns is no zero in one row or the other, judged by a few rows,
    spread over all of them. Its zero may be any value: pixels whose mean was subtracted have another where there is no
    ink.
    """
    if len(x) < LEAST_ROWS:
        return None
    rows = x[:: len(x) // SAMPLE_ROWS][:SAMPLE_ROWS].reshape(SAMPLE_ROWS, -1)
    sample = rows.reshape(-1)
    if not sample.size:
        return None
    # A value that more than half of all have is the median of a few of them.
    few = np.sort(sample[:: -(-sample.size // SAMPLE_ELEMENTS)])
    zero = few[len(few) // 2]
    differs = rows != zero
    return Sparsity(float(zero)) if (differs[::2] | differs[1::2]).mean() <= most else None
