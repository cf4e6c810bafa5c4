"""What the fields of a record are: each is declared once, for the step that writes it and the operation that reads it.

An operation is a function whose parameters say by their annotations what they are::

    Rows = Annotated[Array, rows("width")]

    def relu_backward(grad_x: Rows, grad_out: Rows, out: Rows, width: Count) -> None: ...

A record holds addresses and numbers, a word for each field. `Field.word_for` makes the word of what a step gives, and
refuses what does not fit; `Field.read` is the source of an expression, in `record`, `place` and dtypes, for what the
operation gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels.program import ROW_GRAIN, SOURCES, Job

Array = NDArray[Any]
#: Names of the dtypes that an operation is compiled for: of the network, of the caller's data, and of the columns of a
#: CSR matrix.
NETWORK, DATA, INDEX = "dtype", "data_dtype", "index_dtype"
DTypes = Mapping[str, np.dtype[Any]]


class Room(NamedTuple):
    """What a table has room for: rows of a chunk, threads."""

    rows: int
    n_threads: int


@dataclass(frozen=True)
class Field:
    """A word of a record: a count, which the operation gets as it is.

    Attributes
    ----------
    sizes : tuple of str or int
        Of an array's axes, but for one that `extent` adds: names of counts in the same record, and numbers.
    dtype : str or NumPy scalar class
        NETWORK, DATA or INDEX where it is not always the same.
    """

    sizes: tuple[str | int, ...] = ()
    dtype: Any = NETWORK

    #: Of the word itself.
    word = np.dtype(np.int64)

    def read(self, name: str, dtypes: DTypes) -> str:
        return f"record.{name}"

    def word_for(self, given: Any, sizes: tuple[int, ...], dtypes: DTypes, room: Room) -> float:
        """The word; a `ValueError` says what was expected. `sizes` are those of the attribute, in numbers."""
        if isinstance(given, (int, np.integer, np.bool_)):
            return int(given)
        raise ValueError("an integer")

    def dtype_in(self, dtypes: DTypes) -> np.dtype[Any]:
        return dtypes[self.dtype] if isinstance(self.dtype, str) else np.dtype(self.dtype)

    def read_sizes(self) -> list[str]:
        return [f"record.{size}" if isinstance(size, str) else str(size) for size in self.sizes]

    def read_shape(self, count: str | None, axes: int | None = None) -> str:
        """Of the sizes, behind an axis of `count`; of so many `axes` in all, for the first ones are made one."""
        shape = [*([] if count is None else [f"({count})"]), *self.read_sizes()]
        merged = len(shape) - (axes or len(shape)) + 1
        return ", ".join([" * ".join(shape[:merged]), *shape[merged:]])

    def address_of(self, given: Any, elements: int, dtypes: DTypes) -> int:
        """The address of an array that holds so many numbers."""
        dtype = self.dtype_in(dtypes)
        fits = isinstance(given, np.ndarray) and given.dtype == dtype and given.flags.c_contiguous
        if fits and given.size >= elements:
            return given.ctypes.data
        raise ValueError(f"a C-contiguous array of {elements} {dtype}")


class _Flag(Field):
    def read(self, name: str, dtypes: DTypes) -> str:
        return f"record.{name} != 0"


class _Number(Field):
    """A number; the operation gets it in the field's dtype."""

    word = np.dtype(np.float64)

    def read(self, name: str, dtypes: DTypes) -> str:
        return f"{self.dtype_in(dtypes)}(record.{name})"

    def word_for(self, given: Any, sizes: tuple[int, ...], dtypes: DTypes, room: Room) -> float:
        if isinstance(given, (float, np.floating)):
            return float(given)
        raise ValueError("a float")


class _Setting(Field):
    """The address of a float64 that may change between calls; the operation gets the number in the field's dtype."""

    def read(self, name: str, dtypes: DTypes) -> str:
        number = f"number_at(record.{name}, float64)"
        return f"{number} != 0" if self.dtype is bool else f"{self.dtype_in(dtypes)}({number})"

    def word_for(self, given: Any, sizes: tuple[int, ...], dtypes: DTypes, room: Room) -> float:
        return Field(dtype=np.float64).address_of(given, 1, dtypes)


class _Scale(_Flag):
    """Whether a loss is a mean, over the rows of the batch and the sizes; the operation gets the gradient's factor."""

    def read(self, name: str, dtypes: DTypes) -> str:
        count = self.read_shape("place.batch_rows", axes=1)
        return f"{self.dtype_in(dtypes)}(1.0 / ({count}) if record.{name} != 0 else 1.0)"


class _Source(Field):
    """Where the job holds an address of the caller's, which the operation gets; a step gives the name of that field.

    None stands for nothing: an address of 0.
    """

    def read(self, name: str, dtypes: DTypes) -> str:
        return f"number_at(place.job + record.{name}, int64)"

    def word_for(self, given: Any, sizes: tuple[int, ...], dtypes: DTypes, room: Room) -> float:
        given = "nothing" if given is None else given
        if given not in SOURCES:
            raise ValueError(f"one of {', '.join(SOURCES)}")
        return getattr(Job, given).offset


@dataclass(frozen=True)
class _SourceRows(_Source):
    """The same, but the operation gets what is there: all rows of the data."""

    axes: int | None = None

    def read(self, name: str, dtypes: DTypes) -> str:
        shape = self.read_shape("place.data_rows", self.axes)
        return f"array_at({super().read(name, dtypes)}, ({shape},), {self.dtype_in(dtypes)})"


class _Address(Field):
    """The address of an array of which the operation itself finds out the shape, or 0 for None."""

    def word_for(self, given: Any, sizes: tuple[int, ...], dtypes: DTypes, room: Room) -> float:
        return 0 if given is None else self.address_of(given, 0, dtypes)


@dataclass(frozen=True)
class _Extent:
    """Along an array's first axis: where an operation's part begins and how long it is; how long the whole must be.

    Where the part has no such axis, `count` is None.
    """

    first: str | None
    count: str | None
    whole: Callable[[Room], int]


WHOLE = _Extent(None, None, lambda room: 1)


@dataclass(frozen=True)
class _Array(Field):
    """The address of an array, of which the operation gets its extent.

    `axes`: so many are left, for the first ones are made one. `optional`: it may be None, and is then empty.
    """

    extent: _Extent = WHOLE
    axes: int | None = None
    optional: bool = False

    def read(self, name: str, dtypes: DTypes) -> str:
        dtype, address, shape = self.dtype_in(dtypes), f"record.{name}", self.read_shape(self.extent.count, self.axes)
        if self.extent.first is not None:
            address += " + " + " * ".join([f"({self.extent.first})", *self.read_sizes(), str(dtype.itemsize)])
        if self.optional:
            shape = f"(record.{name} != 0) * {shape}"
        return f"array_at({address}, ({shape},), {dtype})"

    def word_for(self, given: Any, sizes: tuple[int, ...], dtypes: DTypes, room: Room) -> float:
        if given is None and self.optional:
            return 0
        return self.address_of(given, self.extent.whole(room) * math.prod(sizes), dtypes)


def arrays(first: str | None, count: str | None, whole: Callable[[Room], int]) -> Callable[..., _Array]:
    """A kind of arrays, by the source of `first` and `count` of its extent; its arguments are those of the field."""
    extent = _Extent(first, count, whole)
    return lambda *sizes, dtype=NETWORK, axes=None, optional=False: _Array(sizes, dtype, extent, axes, optional)


def _blocks(rows: str) -> str:
    return f"({rows} + {ROW_GRAIN - 1}) // {ROW_GRAIN}"


# Of rows of a chunk: those of the operation's thread; all up to the last of those; all.
rows = arrays("place.first", "place.last - place.first", lambda room: room.rows)
rows_up_to_mine = arrays(None, "place.last", lambda room: room.rows)
all_rows = arrays(None, "place.rows", lambda room: room.rows)
# Of blocks of ROW_GRAIN rows: from the thread's first one on; all.
blocks = arrays(
    f"place.first // {ROW_GRAIN}",
    f"{_blocks('place.last')} - place.first // {ROW_GRAIN}",
    lambda room: -(-room.rows // ROW_GRAIN),
)
all_blocks = arrays(None, _blocks("place.rows"), lambda room: -(-room.rows // ROW_GRAIN))
# The whole array; of one for each thread, the own one; all of those.
array = arrays(None, None, lambda room: 1)
own = arrays("place.tid", None, lambda room: room.n_threads)
each_threads = arrays(None, "place.n_threads", lambda room: room.n_threads)


def source_rows(*sizes: str | int, dtype: Any = DATA, axes: int | None = None) -> _SourceRows:
    return _SourceRows(sizes, dtype, axes)


def scale(*sizes: str | int) -> _Scale:
    return _Scale(sizes)


@dataclass(frozen=True)
class Known:
    """What an operation gets that is no field: the source of an expression in `place`, dtypes, and `sizes`."""

    source: str
    sizes: tuple[str, ...] = ()


def counts(*names: str) -> Known:
    """Several counts of the record, as a tuple."""
    return Known(f"({', '.join(f'record.{name}' for name in names)},)", names)


#: A number of things.
COUNT = Field(dtype=np.int64)

Count = Annotated[int, COUNT]
Flag = Annotated[bool, _Flag(dtype=np.int64)]
Address = Annotated[int, _Address()]
Number = Annotated[float, _Number()]
Float64 = Annotated[float, _Number(dtype=np.float64)]
DataNumber = Annotated[float, _Number(dtype=DATA)]
Setting = Annotated[float, _Setting()]
Float64Setting = Annotated[float, _Setting(dtype=np.float64)]
FlagSetting = Annotated[bool, _Setting(dtype=bool)]
Source = Annotated[int, _Source(dtype=np.int64)]
Place = Annotated[Any, Known("place")]
DType = Annotated[Any, Known(NETWORK)]
DataDType = Annotated[Any, Known(DATA)]
IndexDType = Annotated[Any, Known(INDEX)]
#: Whether the batch has had chunks before, whose gradients stand.
Adds = Annotated[bool, Known("place.adds != 0")]
Tid = Annotated[int, Known("place.tid")]
NThreads = Annotated[int, Known("place.n_threads")]
