"""The rows that an estimator trains on, and those that it is scored on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from fastfnn.errors import InvalidTypeError, InvalidValueError

Array = NDArray[Any]


class Rows(NamedTuple):
    """Checked rows: numbers, codes of the targets (see `FNN._read_targets`) and weights."""

    X: Any
    codes: Array
    weights: Array | None

    def take(self, places: Array) -> Rows:
        """Some of them."""
        return Rows(self.X[places], self.codes[places], None if self.weights is None else self.weights[places])


def hold_out(rows: Rows, fraction: float, strata: Array | None, random: np.random.RandomState) -> tuple[Rows, Rows]:
    """Rows to train on and rows to score, as scikit-learn draws them from the same `random`."""
    places = np.arange(rows.X.shape[0])
    kept, held = map(np.asarray, train_test_split(places, test_size=fraction, random_state=random, stratify=strata))
    if len(held) < 2:
        raise InvalidValueError(
            f"The validation set is too small. validation_fraction is {fraction:g}, {len(held)} of {len(places)} rows; "
            "expected at least two rows"
        )
    return rows.take(kept), rows.take(held)


def given_validation(validation_data: Any, X_val: Any, y_val: Any) -> tuple[Any, Any, Any] | None:
    """X, y and weights of the rows to score, in whichever way they were given; None for none."""
    if X_val is None and y_val is None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            came = f"{len(validation_data)} things" if isinstance(validation_data, (tuple, list)) else None
            raise InvalidTypeError(
                f"validation_data is {came or type(validation_data).__name__}; expected (X, y) or (X, y, sample_weight)"
            )
        X, y, *weights = validation_data
        return X, y, weights[0] if weights else None
    if validation_data is not None:
        raise InvalidValueError("validation_data and X_val, y_val are given; expected one of the two")
    if X_val is None or y_val is None:
        missing = "X_val" if X_val is None else "y_val"
        raise InvalidValueError(f"{missing} is None; expected X_val and y_val, or neither")
    return X_val, y_val, None
