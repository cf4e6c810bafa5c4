"""Rows that are held out for validation: shuffled, and of every class its share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.engine.sparsity import CSR
from fastfnn.engine.task import Pass
from fastfnn.errors import InvalidValueError
from fastfnn.losses import Loss
from fastfnn.model import Sequential
from fastfnn.training import finite
from fastfnn.training.weights import ClassWeight, row_weights

Array = NDArray[Any]
Rows = NDArray[np.int64]


def split(
    model: Sequential,
    loss: Loss,
    whole: Pass,
    share: Any,
    rng: np.random.Generator,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight | None,
) -> tuple[Pass, Pass]:
    """Copies of the rows that train, and of those that are held out.

    Weights are scaled to a mean of 1 in each part; those of the classes are for training.

    Raises
    ------
    InvalidValueError
        The share is none, leaves a part without rows, or the data hold NaN or infinity.
    """
    assert whole.y is not None
    finite.check(whole)
    kept, held = held_out(whole.y, check.real("validation_split", share, above=0, below=1), _strata(loss, whole.y), rng)
    output_shape, parts = model.output_shape(whole.x.shape[1:]), []
    for rows, by_class in ((kept, class_weight), (held, None)):
        y = whole.y[rows]
        weights = None if sample_weight is None else np.asarray(sample_weight)[rows]
        name = "sample_weight" if rows is kept else "sample_weight of the rows that are held out"
        x = whole.x.part(rows) if isinstance(whole.x, CSR) else whole.x[rows]
        parts.append(Pass(x, y, weights=row_weights(loss, y, output_shape, weights, by_class, name)))
    return parts[0], parts[1]


def _strata(loss: Loss, y: Array) -> Array | None:
    """The class of each row, (n,); None where rows have none, or several."""
    if loss.classifies:
        return y if y.ndim == 1 else y.argmax(axis=1)
    return y[:, 0] > 0.5 if loss.task == "binary" and y.shape[1:] == (1,) else None


def held_out(y: Array, share: float, strata: Array | None, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """The places of rows that train and of those that are held out, each in order; these are ⌈share n⌉.

    Of every class it is the same share, but for what cannot be divided, and one row at least trains.
    """
    n_held = math.ceil(share * len(y) - 1e-9)  # not one more where the product is above a whole number by rounding
    classes = np.zeros(len(y), np.int64) if strata is None else np.unique(strata, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(classes)
    most, wanted = counts - 1, share * counts
    taken = np.minimum(most, np.floor(wanted + 1e-9).astype(np.int64))
    # The rest goes to the classes whose share was cut most, of equal ones by chance.
    order = np.lexsort((rng.permutation(len(counts)), taken - wanted))
    for place in order[taken[order] < most[order]][: n_held - taken.sum()]:
        taken[place] += 1
    held = np.zeros(len(y), bool)
    for label, count in enumerate(taken):
        held[rng.permutation(np.flatnonzero(classes == label))[:count]] = True
    if not held.any() or held.all():
        wanted_rows = f"{len(counts)} classes" if len(counts) > 1 else "at least two"
        raise InvalidValueError(
            f"validation_split is {share:g} of {len(y)} row{'s' * (len(y) != 1)} ({wanted_rows}), which leaves a part "
            "without rows; expected more rows, or validation_data"
        )
    return np.flatnonzero(~held), np.flatnonzero(held)
