"""What operations are made with: their registry, and how they read a record and the thread's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastfnn_kernels import _config
from fastfnn_kernels._config import helper
from fastfnn_kernels.operations._ahead import Key, compile_ahead
from fastfnn_kernels.program import BATCH_ROWS, FIRST, LAST, ORDER, START, run_nothing
from fastfnn_kernels.simd import array_at, float_of, prefetch, word

CACHE_LINE = 64

Make = Callable[..., Callable[[int, int], None]]
MAKERS: dict[str, Make] = {}


def operation(make: Make) -> Make:
    MAKERS[make.__name__.removesuffix("_forward")] = make  # a name of its own where a module is called so
    return make


_compiled: dict[Key, Any] = {}


def _key(name: str, *dtypes: Any) -> Key:
    return (name, *(np.dtype(dtype).name for dtype in dtypes))


def _function(name: str, *dtypes: str) -> Callable[[int, int], None]:
    return MAKERS[name](*(np.dtype(dtype).type for dtype in dtypes))


def _compile(key: Key) -> Any:
    if key not in _compiled:
        _compiled[key] = _config.operation(_function(*key))
    return _compiled[key]


def address(name: str, *dtypes: Any) -> int:
    """The address of an operation for these dtypes, compiled or loaded from the cache on first use."""
    return _compile(_key(name, *dtypes)).address


def prepare(operations: Iterable[tuple[Any, ...]]) -> None:
    """Load operations, each a name and dtypes, and compile together what the cache lacks: sooner than one by one."""
    missing = []
    for key in dict.fromkeys(_key(*operation) for operation in operations):
        if key not in _compiled:
            loaded = _config.operation(_function(*key), only_load=True)
            if loaded is None:
                missing.append(key)
            else:
                _compiled[key] = loaded
    if missing:
        compile_ahead(missing, _compile, meanwhile=run_nothing)


@helper
def my_flat(record: int, index: int, at: int, width: int, dtype: Any) -> Any:
    """This thread's rows of a row array, each `width` numbers, flat."""
    return array_at(word(record, index), word(at, LAST) * width, dtype)[word(at, FIRST) * width :]


@helper
def my_rows(record: int, index: int, at: int, width: int, dtype: Any) -> Any:
    """The same as (rows, width)."""
    return my_flat(record, index, at, width, dtype).reshape(word(at, LAST) - word(at, FIRST), width)


@helper
def my_blocks(record: int, index: int, at: int, blocks: int, width: int, dtype: Any) -> Any:
    """This thread's rows of a row array, each `blocks` blocks of `width` numbers: (rows * blocks, width)."""
    rows = word(at, LAST) - word(at, FIRST)
    return my_flat(record, index, at, blocks * width, dtype).reshape(rows * blocks, width)


@helper
def real(record: int, index: int) -> Any:
    """A float64 field."""
    return float_of(word(record, index))


@helper
def setting(record: int, index: int) -> Any:
    """The float64 that a field points to: it may change between calls."""
    return float_of(word(word(record, index), 0))


@helper
def loss_scale(record: int, index: int, at: int, width: int) -> Any:
    """What losses' gradients are scaled by: 1 over the batch's count of losses where field `index` says mean."""
    return 1.0 / (word(at, BATCH_ROWS) * width) if word(record, index) else 1.0


@helper
def data_row(at: int, row: int) -> int:
    """The place in the data of a row of the chunk."""
    place = word(at, START) + row
    return word(word(at, ORDER), place) if word(at, ORDER) else place


@helper
def prefetch_row(at: int, data: int, width: int, dtype: Any, ahead: int) -> None:
    """Ask for what this thread's row `ahead` is in the data: rows in random order are no pattern to a processor."""
    first = data_row(at, word(at, FIRST) + ahead) * width
    itemsize = array_at(data, first, dtype).itemsize
    for byte in range(0, width * itemsize, CACHE_LINE):
        prefetch(data + first * itemsize + byte)
