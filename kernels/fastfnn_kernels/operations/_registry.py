"""The operations by name: what each gets, what its record holds, and how it is compiled.

What runs is ``operation(record, place)``. It is written here for each operation and dtypes, and does nothing but read
the fields: for `relu_backward` and float32 it is, an argument a line ::

    def relu_backward_float32(record, place):
        function(
            array_at(record.grad_x + (place.first) * record.width * 4, ((place.last - …) * record.width,), float32),
            …,
        )

numba makes one function of it and what it calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import _announcing, _cache, _config
from fastfnn_kernels.operations import _ahead
from fastfnn_kernels.operations._ahead import Key
from fastfnn_kernels.operations._fields import COUNT, DATA, INDEX, NETWORK, DTypes, Field, Known, Room
from fastfnn_kernels.program import HEAD_BYTES, PLACE, run_nothing
from fastfnn_kernels.simd import array_at, number_at

Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(frozen=True)
class Operation:
    """A function, and what it gets.

    Attributes
    ----------
    name : str
    function
        Compiled or to be inlined.
    arguments : dict of str to Field or Known
        Of the function, in order.
    fields : dict of str to Field
        The words of a record, in order: the arguments that are fields, and the sizes that are no arguments.
    """

    name: str
    function: Any
    arguments: dict[str, Field | Known]
    fields: dict[str, Field]

    @property
    def family(self) -> str:
        """What it is for, see `_announcing`."""
        return _announcing.family(inspect.unwrap(self.function.py_func).__module__, self.name)

    @property
    def layout(self) -> np.dtype[Any]:
        """The dtype of a record."""
        return np.dtype([("operation", np.int64), *((name, field.word) for name, field in self.fields.items())])

    @property
    def dtypes(self) -> tuple[str, ...]:
        """What it is compiled for: NETWORK, DATA and INDEX, as far as it depends on them."""
        kinds = self.arguments.values()
        used = {kind.source if isinstance(kind, Known) else kind.dtype for kind in kinds}
        return tuple(name for name in (NETWORK, DATA, INDEX) if name in used)

    def words(self, given: Mapping[str, Any], dtypes: DTypes, room: Room) -> tuple[float, ...]:
        """The words of a record behind the operation's address. A `TypeError` names the field that is wrong."""
        lacking, surplus = self.fields.keys() - given.keys(), given.keys() - self.fields.keys()
        if lacking or surplus:
            wrong = f"lacks {', '.join(sorted(lacking))}" if lacking else f"has no {', '.join(sorted(surplus))}"
            raise TypeError(f"a record of {self.name} {wrong}")
        words: dict[str, float] = {}
        for name, field in sorted(self.fields.items(), key=lambda item: bool(item[1].sizes)):  # counts first
            sizes = tuple(int(words[size]) if isinstance(size, str) else size for size in field.sizes)
            try:
                words[name] = field.word_for(given[name], sizes, dtypes, room)
            except ValueError as expected:
                value = given[name]
                came = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
                raise TypeError(f"{name} in a record of {self.name} is {came}; expected {expected}") from None
        return tuple(words[name] for name in self.fields)

    def write(self, table: NDArray[Any], number: int, address: int, words: tuple[float, ...]) -> None:
        """Record `number` of a table."""
        np.ndarray((), self.layout, table.data, number * HEAD_BYTES)[()] = (address, *words)

    def bind(self, dtypes: DTypes) -> Callable[[Any, Any], None]:
        """The function of a record and a place, to be compiled."""
        read = [
            argument.source if isinstance(argument, Known) else argument.read(name, dtypes)
            for name, argument in self.arguments.items()
        ]
        # numba's cache goes by a function's file, line and name, so each operation has a name for each of its dtypes.
        named = "_".join([self.name, *(dtype.name for dtype in dtypes.values())])
        plain = inspect.unwrap(getattr(self.function, "py_func", self.function))
        kinds = *dtypes.values(), *(np.dtype(name) for name in ("int32", "int64", "float64"))
        scalars = {kind.name: kind.type for kind in kinds}
        namespace: dict[str, Any] = {
            "__name__": plain.__module__,
            "function": self.function,
            "array_at": array_at,
            "number_at": number_at,
            **scalars,
            **{name: dtype.type for name, dtype in dtypes.items()},
        }
        source = f"def {named}(record, place):\n    function({', '.join(read)})\n"
        line = "\n" * (plain.__code__.co_firstlineno - 1)
        exec(compile(line + source, inspect.getfile(plain), "exec"), namespace)
        return namespace[named]


OPERATIONS: dict[str, Operation] = {}


def _register(name: str, function: Any, arguments: dict[str, Field | Known]) -> None:
    fields = {name: argument for name, argument in arguments.items() if isinstance(argument, Field)}
    sizes = [size for argument in arguments.values() for size in argument.sizes if isinstance(size, str)]
    fields |= {size: COUNT for size in sizes if size not in fields}
    assert 8 * (1 + len(fields)) <= HEAD_BYTES, name
    OPERATIONS[name] = Operation(name, function, arguments, fields)


def operation(function: Function, name: str | None = None) -> Function:
    """Make an operation of a function whose parameters are annotated with what they are, see `_fields`."""
    hints = get_type_hints(function, include_extras=True)
    arguments = {parameter: hints[parameter].__metadata__[0] for parameter in inspect.signature(function).parameters}
    # A name of its own where a module is called so.
    _register(name or function.__name__.removesuffix("_forward"), _config.inlined(function), arguments)
    return function


def by_rows(kernel: Any, **fields: Any) -> None:
    """Make an operation of a kernel: each thread does its rows, which are all that the kernel sees."""
    _of_kernel(kernel, fields, Known("0"), Known("1"))


def by_shares(kernel: Any, **fields: Any) -> None:
    """Make an operation of a kernel: each thread does its share of the arrays."""
    _of_kernel(kernel, fields, Known("place.tid"), Known("place.n_threads"))


def _of_kernel(kernel: Any, fields: Mapping[str, Any], tid: Known, n_threads: Known) -> None:
    kinds, parameters = {**fields, "tid": tid, "n_threads": n_threads}, list(inspect.signature(kernel).parameters)
    assert kinds.keys() == set(parameters), f"{kernel.__name__} takes {parameters}"
    # Annotations say what a field is, too.
    arguments = {name: getattr(kinds[name], "__metadata__", (kinds[name],))[0] for name in parameters}
    _register(kernel.__name__, kernel.inlined, arguments)


# Compiled operations

_compiled: dict[Key, Any] = {}


def _key(name: str, *dtypes: Any) -> Key:
    return (name, *(np.dtype(dtype).name for dtype in dtypes))


def _function(key: Key) -> tuple[Callable[[Any, Any], None], np.dtype[Any], np.dtype[Any]]:
    """A function of a record and a place, and what these are."""
    name, *dtypes = key
    made = OPERATIONS[name]
    return made.bind(dict(zip(made.dtypes, map(np.dtype, dtypes), strict=True))), made.layout, PLACE


def _make(key: Key, *, only_load: bool) -> Any:
    return _config.operation(*_function(key), only_load=only_load)


def _is_loaded(key: Key) -> bool:
    if key not in _compiled and (loaded := _make(key, only_load=True)) is not None:
        _compiled[key] = loaded
    return key in _compiled


def _compile(key: Key) -> Any:
    if key not in _compiled:
        _compiled[key] = _make(key, only_load=False)
    return _compiled[key]


def is_cached(name: str, *dtypes: Any) -> bool:
    """Whether the cache has a file for an operation; it may still turn out to be damaged."""
    return _config.is_cached(*_function(_key(name, *dtypes)))


def address(name: str, *dtypes: Any) -> int:
    """The address of an operation for these dtypes, compiled or loaded from the cache on first use."""
    if _key(name, *dtypes) not in _compiled:
        prepare([(name, *dtypes)])
    return _compile(_key(name, *dtypes)).address


def prepare(operations: Iterable[tuple[Any, ...]]) -> None:
    """Load operations, each a name and dtypes, and compile together what the cache lacks: sooner than one by one."""
    keys = dict.fromkeys(_key(*operation) for operation in operations)
    missing = [key for key in keys if not _is_loaded(key)]
    if missing:
        families = [OPERATIONS[name].family for name, *_ in missing]
        seconds = _ahead.estimate(missing, is_first=_cache.is_empty())
        with _announcing.announced(families, len(missing), seconds) as advance:
            _ahead.compile_ahead(missing, _compile, run_nothing, advance)
            run_nothing()
            for key in missing:
                if not _is_loaded(key):  # the helper has begun, but not finished it
                    _compile(key)
