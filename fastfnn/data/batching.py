"""Labels as one-hot rows, and data in batches."""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastfnn.errors import InvalidTypeError, InvalidValueError


def one_hot(labels: ArrayLike, num_classes: int | None = None, dtype: DTypeLike = "float32") -> NDArray[Any]:
    """Turn class indices into rows that are 1 at the class and 0 elsewhere.

    Parameters
    ----------
    labels : array-like of int, shape (n,)
        Class indices from 0 to ``num_classes - 1``.
    num_classes : int, optional
        The number of classes; by default the greatest label plus one.
    dtype : data-type, optional
        A bool, integer or float dtype.

    Returns
    -------
    numpy.ndarray, shape (n, num_classes)
        Of the given dtype.

    Raises
    ------
    InvalidTypeError
        `labels` or `num_classes` are not integers, or `dtype` is not a real number's.
    InvalidValueError
        `labels` is not 1-D or out of range, `num_classes` is below 1 or cannot be told from empty labels.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise InvalidValueError(f"labels must be 1-D, got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise InvalidTypeError(f"labels must be integers, got dtype {array.dtype}")
    try:
        row_dtype = np.dtype(dtype)
    except TypeError:
        raise InvalidTypeError(f"dtype must be a bool, integer or float dtype, got {dtype!r}") from None
    if row_dtype.kind not in "biuf":
        raise InvalidTypeError(f"dtype must be a bool, integer or float dtype, got {row_dtype}")
    if num_classes is not None:
        num_classes = _positive_int(num_classes, "num_classes")
    elif array.size:
        num_classes = int(array.max()) + 1
    else:
        raise InvalidValueError("num_classes must be given when labels is empty")
    if array.size and (array.min() < 0 or array.max() >= num_classes):
        place = int(np.argmax((array < 0) | (array >= num_classes)))
        raise InvalidValueError(f"labels must be from 0 to {num_classes - 1}, got {array[place]} at index {place}")
    rows = np.zeros((array.size, num_classes), row_dtype)
    rows[np.arange(array.size), array] = 1
    return rows


def batches(
    x: ArrayLike,
    y: ArrayLike,
    batch_size: int | None,
    shuffle: bool = True,
    rng: int | np.random.Generator | None = None,
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Iterate once over the rows of `x` and `y`, batch by batch.

    The arguments are checked, and the order is drawn, when this is called, not when the first batch is asked for.

    Parameters
    ----------
    x, y : array-like, shape (n, ...)
        Samples and targets; rows with the same index belong together.
    batch_size : int or None
        Rows in a batch; None takes all rows at once. The last batch is shorter where `n` is not a multiple.
    shuffle : bool, optional
        Whether to go through the rows in random order.
    rng : int, numpy.random.Generator or None, optional
        A seed or a generator for the order; None draws a new order from the operating system's randomness.

    Yields
    ------
    x_batch, y_batch : numpy.ndarray
        Copies with `shuffle`, views into `x` and `y` without. Nothing is yielded for 0 rows.

    Raises
    ------
    InvalidTypeError
        `batch_size` is neither an integer nor None, or `rng` is none of the above.
    InvalidValueError
        `x` or `y` is a scalar, their row counts differ, `batch_size` is below 1, or `rng` is negative.
    """
    x, y = np.asarray(x), np.asarray(y)
    for name, array in (("x", x), ("y", y)):
        if array.ndim == 0:
            raise InvalidValueError(f"{name} must have rows, got a scalar (dtype {array.dtype})")
    if x.shape[0] != y.shape[0]:
        raise InvalidValueError(f"x and y must have the same number of rows, got {x.shape[0]} and {y.shape[0]}")
    size = max(x.shape[0], 1) if batch_size is None else _positive_int(batch_size, "batch_size")
    generator = _as_generator(rng)
    order = generator.permutation(x.shape[0]) if shuffle else None
    return _iterate(x, y, size, order)


def _iterate(
    x: NDArray[Any], y: NDArray[Any], size: int, order: NDArray[np.int64] | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for start in range(0, x.shape[0], size):
        rows = slice(start, start + size) if order is None else order[start : start + size]
        yield x[rows], y[rows]


def _as_int(value: object) -> int | None:
    """Give an integer of any kind as an int, anything else, bools included, as None."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _positive_int(value: object, argument: str) -> int:
    number = _as_int(value)
    if number is None:
        raise InvalidTypeError(f"{argument} must be an integer or None, got {type(value).__name__} {value!r}")
    if number < 1:
        raise InvalidValueError(f"{argument} must be at least 1, got {number}")
    return number


def _as_generator(rng: object) -> np.random.Generator:
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    seed = _as_int(rng)
    if seed is None:
        raise InvalidTypeError(f"rng must be an integer seed, a numpy.random.Generator or None, got {rng!r}")
    if seed < 0:
        raise InvalidValueError(f"rng must be a seed of 0 or more, got {seed}")
    return np.random.default_rng(seed)
