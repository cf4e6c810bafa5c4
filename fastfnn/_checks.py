"""Checks of arguments: each names the argument, what came and what was expected."""

from __future__ import annotations

import inspect
import math
import numbers as numeric
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.errors import InvalidTypeError, InvalidValueError

Array = NDArray[Any]
REDUCTIONS = ("mean", "sum", "none")
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Frozen:
    """An object whose attributes are set once, for what follows from them is kept elsewhere."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise AttributeError(f"{name} cannot be changed; make a new layer with the {name} that you want")
        super().__setattr__(name, value)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """`dtype` as one of float32 and float64."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        raise InvalidTypeError(f"dtype is {dtype!r}; expected 'float32' or 'float64'") from None
    if result not in DTYPES:
        raise InvalidTypeError(f"dtype is {result}; expected 'float32' or 'float64'")
    return result


def positive_int(name: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int of at least `least` that fits an int64."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InvalidTypeError(f"{name} is {value!r}; expected an integer of at least {least}") from None
    if number < least or number >= 2**63:
        # Python refuses to print thousands of digits.
        shown = number if number.bit_length() < 1000 else f"an integer of {number.bit_length()} bits"
        wanted = f"an integer of at least {least}" if number < least else "less than 2**63"
        raise InvalidValueError(f"{name} is {shown}; expected {wanted}")
    return number


def pair(name: str, value: Any, *, least: int = 1) -> tuple[int, int]:
    """`value`, a number or a (height, width) pair of them, as two ints of at least `least`."""
    if not isinstance(value, (tuple, list)):
        number = positive_int(name, value, least=least)
        return number, number
    if len(value) != 2:
        raise InvalidValueError(f"{name} is {value!r}; expected an integer, or a pair of them")
    return positive_int(f"{name}[0]", value[0], least=least), positive_int(f"{name}[1]", value[1], least=least)


def sizes(name: str, value: Any) -> tuple[int, ...]:
    """`value` as the sizes of some axes: an integer, or several of them."""
    if isinstance(value, (tuple, list)):
        if not value:
            raise InvalidValueError(f"{name} is {value!r}; expected an integer, or several of them")
        return tuple(positive_int(f"{name}[{i}]", size) for i, size in enumerate(value))
    return (positive_int(name, value),)


def counter(name: str, value: Any) -> int:
    """`value` as an int that fits an int64 and is not negative."""
    return positive_int(name, value, least=0)


def real(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    above: float = -math.inf,
) -> float:
    """`value` as a finite float with ``least <= value <= most`` and ``above < value < below``."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidTypeError(f"{name} is {value!r}; expected a number") from None
    if not math.isfinite(number):
        raise InvalidValueError(f"{name} is {number}; expected a finite number")
    if number < least:
        raise InvalidValueError(f"{name} is {number:g}; expected at least {least:g}")
    if number > most:
        raise InvalidValueError(f"{name} is {number:g}; expected at most {most:g}")
    if number <= above:
        raise InvalidValueError(f"{name} is {number:g}; expected more than {above:g}")
    if number >= below:
        raise InvalidValueError(f"{name} is {number:g}; expected less than {below:g}")
    return number


def instance(name: str, value: Any) -> None:
    """Refuse a class where an object of it belongs."""
    if isinstance(value, type):
        try:
            asked = inspect.signature(value).parameters.values()
        except (TypeError, ValueError):
            asked = []
        needs = any(each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in asked)
        made = f"{value.__name__}({'…' if needs else ''})"
        raise InvalidTypeError(f"{name}: {value.__name__} is a class; write {made}")


def one_of(name: str, value: Any, options: tuple[str, ...]) -> str:
    if value not in options:
        raise InvalidValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, options))}")
    return value


def as_array(name: str, x: Any) -> Array:
    """`x` as an array of whatever dtype but objects: those of a frame's mixed columns are numbers all the same."""
    try:
        array = np.asarray(x)
    except ValueError as error:  # lists of different lengths
        raise InvalidValueError(f"{name} is no array: {error}") from None
    return _from_objects(name, x, array) if array.dtype.kind == "O" else array


def _from_objects(name: str, x: Any, array: Array) -> Array:
    """The numbers in an array of objects, as pandas gives them for columns of several dtypes; booleans are 0 and 1."""
    dtypes = list(np.atleast_1d(np.asarray(getattr(x, "dtypes", []), object)))  # of a frame's columns, or a series
    kinds = [getattr(dtype, "kind", "O") for dtype in dtypes]
    if dtypes and hasattr(x, "to_numpy") and set(kinds) <= set("fiub"):
        plain_dtypes = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
        try:
            return x.to_numpy(np.result_type(np.uint8, *plain_dtypes), na_value=np.nan)
        except ValueError:  # gaps among integers
            return x.to_numpy(np.float64, na_value=np.nan)
    flat = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    for j in range(flat.shape[1]):
        if len(kinds) == flat.shape[1] and kinds[j] in "fiub":
            continue
        for i, value in enumerate(flat[:, j]):
            if not isinstance(value, (numeric.Real, np.bool_)):
                columns = getattr(x, "columns", None)
                column = f", column {columns[j]!r}" if columns is not None else f", column {j}" * (array.ndim > 1)
                raise InvalidTypeError(
                    f"{name} holds {_short(value)} in row {i}{column}; expected numbers. Words and categories become "
                    "numbers by pandas.get_dummies or OneHotEncoder, labels by np.unique(…, return_inverse=True)"
                )
    made = np.array(array.tolist())
    return made if made.dtype.kind != "O" else array.astype(np.float64)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}…"


def float_array(name: str, x: Any, *, ndim: int | None = None, dtype: Any = None) -> Array:
    """`x` as a C-contiguous array of float32 or float64 (other numbers become `dtype`, or float32)."""
    array = as_array(name, x)
    if array.dtype.kind not in "fiub":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected numbers")
    if dtype is None:
        native = array.dtype.newbyteorder("=")
        dtype = native if native in DTYPES else np.float32
    if ndim is not None and array.ndim != ndim:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected {ndim} dimension{'s' if ndim != 1 else ''}")
    return plain(array, dtype)


def plain(array: Array, dtype: Any = None) -> Array:
    """`array` C-contiguous and not marked read-only, without a copy where the memory allows it.

    numba compiles a kernel anew for read-only arrays. Kernels never write their inputs, so a read-only input
    (a memory map, a broadcast) is shown to them as an ordinary one.
    """
    array = np.ascontiguousarray(array, dtype or array.dtype.newbyteorder("=")).reshape(array.shape)
    if not array.flags.aligned:
        array = array.copy()
    return array if array.flags.writeable else np.asarray(_Writeable(array))


def numbers(name: str, array: Array, dtype: Any) -> Array:
    """`array` of any dtype that kernels read as it comes; half and extended precision, which none does, in `dtype`."""
    if array.dtype.kind not in "fiub":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected numbers")
    supported = array.dtype.kind != "f" or array.dtype.newbyteorder("=") in DTYPES
    return plain(array, None if supported else dtype)


class _Writeable:
    """The array interface of a read-only array, with the flag cleared."""

    def __init__(self, array: Array) -> None:
        self._keep_alive = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def same_shape(name: str, x: Array, other_name: str, other: Array) -> None:
    if x.shape != other.shape:
        raise InvalidValueError(f"{name} has shape {x.shape}; expected {other.shape}, the shape of {other_name}")


def labels(name: str, target: Any, rows: int, classes: int) -> NDArray[np.int64]:
    """Class labels (rows,) or (rows, 1) as int64 (rows,), each in [0, classes)."""
    array = np.asarray(target)
    if array.shape not in ((rows,), (rows, 1)):
        raise InvalidValueError(f"{name} has shape {array.shape}; expected ({rows},), a label for each row")
    array = array.reshape(rows)
    if array.dtype.kind not in "iub":
        help_with = {"f": f"{name}.astype(int)", "U": f"np.unique({name}, return_inverse=True)[1]"}
        hint = help_with.get(array.dtype.kind)
        raise InvalidTypeError(
            f"{name} has dtype {array.dtype}; expected integer labels{f', as {hint} makes them' if hint else ''}"
        )
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise InvalidValueError(f"{name} holds the label {wrong}; expected labels from 0 to {classes - 1}")
    return np.asarray(plain(array, np.int64))


def class_target(name: str, target: Any, prediction: Array) -> Array:
    """Targets of a classification: labels as int64 (n,), or rows of weights (n, classes) in the prediction's dtype."""
    array = np.asarray(target)
    rows, classes = prediction.shape
    if array.ndim <= 1 or (array.shape[1:] == (1,) and classes > 1):
        return labels(name, array, rows, classes)
    if array.shape != (rows, classes):
        raise InvalidValueError(
            f"{name} has shape {array.shape}; expected ({rows},) for labels or ({rows}, {classes}) for a row of "
            "probabilities each"
        )
    return float_array(name, array, dtype=prediction.dtype)


def n_threads(value: int | None, *, automatic: int) -> int:
    """The number of threads: `automatic` for None."""
    return automatic if value is None else positive_int("n_threads", value)
