"""Weights of the rows of a data set: each row's loss is multiplied by its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.losses import Loss

Weights = NDArray[np.float64]
ClassWeight = str | Mapping[int, float] | Sequence[float]


def row_weights(
    loss: Loss,
    y: NDArray[Any],
    output_shape: tuple[int, ...],
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None = None,
    name: str = "sample_weight",
) -> Weights | None:
    """What the rows' losses are multiplied by, (n,), or None for all alike.

    They are scaled to a mean of 1 where the loss is a mean: only their ratios count then, and the learning rate that
    was right without them still is.
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(y)) if sample_weight is None else _checked(name, sample_weight, (len(y),))
    if class_weight is not None:
        if loss.task == "binary" and output_shape == (1,):  # classes 0 and 1
            y, output_shape = np.column_stack([1 - y, y]), (2,)
        elif loss.weights() or loss.kept_share(y) < 1:
            raise InvalidValueError(
                f"class_weight is {class_weight!r} for {loss!r} and its targets; expected a loss without weights, and "
                "no label that it ignores"
            )
        elif not loss.classifies:
            raise InvalidValueError(
                f"class_weight is {class_weight!r} for {loss!r}; expected a loss whose targets are classes"
            )
        weights = weights * _by_class(class_weight, y, output_shape[0])
    total = weights.sum()
    if not total > 0:
        raise InvalidValueError(f"{name} leaves no row a weight; expected at least one above 0")
    return weights * (len(weights) / total) if loss.reduction == "mean" else weights


def _checked(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Weights:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; expected numbers")
    if array.shape != shape:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected {shape}")
    array = array.astype(np.float64)
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        place = int(wrong.argmax())
        raise InvalidValueError(f"{name}[{place}] is {array[place]:g}; expected finite weights of at least 0")
    return array


def _by_class(class_weight: ClassWeight, y: NDArray[Any], classes: int) -> Weights:
    """The rows' weights by their classes: for rows of probabilities, the mean of the classes' weights under them."""
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise InvalidValueError(f"class_weight is {class_weight!r}; expected 'balanced', a mapping or a sequence")
        shares = np.bincount(y, minlength=classes) if y.ndim == 1 else y.sum(axis=0, dtype=np.float64)
        there = shares > 0
        each = np.divide(len(y), there.sum() * shares, out=np.zeros(classes), where=there)
    elif isinstance(class_weight, Mapping):
        unknown = [label for label in class_weight if label not in range(classes)]
        if unknown:
            raise InvalidValueError(
                f"class_weight holds the label {unknown[0]!r}; expected labels from 0 to {classes - 1}"
            )
        each = _checked("class_weight", [class_weight.get(label, 1.0) for label in range(classes)], (classes,))
    else:
        each = _checked("class_weight", class_weight, (classes,))
    return each[y] if y.ndim == 1 else y.astype(np.float64) @ each
