"""What fastfnn raises: each error names the argument, what came and what was expected."""

from __future__ import annotations

import functools
from typing import Any


class FastFNNError(Exception):
    """Base of every error that fastfnn raises on purpose."""


class InvalidValueError(FastFNNError, ValueError):
    """An argument of the right type has a value, shape or size that does not fit."""


class InvalidTypeError(FastFNNError, TypeError):
    """An argument has a type or dtype that does not fit."""


class DataError(InvalidValueError):
    """A data file is missing, truncated, foreign or does not match its checksum."""


class ModelFileError(InvalidValueError):
    """A saved model is truncated, foreign or of another architecture."""


class NonFiniteLossError(FastFNNError, ArithmeticError):
    """The loss became NaN or infinite; the parameters are those of the last finished epoch.

    Attributes
    ----------
    epoch, step : int
        Where it happened, both counted from 1.
    history : History or None
        Of the epochs before, from `fit`.
    """

    def __init__(self, message: str, *, epoch: int, step: int, history: Any = None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.history = history

    def __reduce__(self) -> Any:  # pickle would call it without its keywords
        keywords = {"epoch": self.epoch, "step": self.step, "history": self.history}
        return functools.partial(type(self), str(self), **keywords), ()


class DivergenceError(NonFiniteLossError, ValueError):
    """An estimator's training diverged; scikit-learn's users expect a ValueError."""


class NonFiniteDataError(NonFiniteLossError, InvalidValueError):
    """The loss became NaN or infinite, for the data hold such a number, which is named with its row."""


#: What contents that somebody else has made up may raise where they are understood.
FOREIGN = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError, FastFNNError)
