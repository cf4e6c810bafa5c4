"""How good predictions are, in the figures that people compare: of classes and of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn.metrics import confusion_matrix

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassScores:
    """Of a classification, class by class.

    Attributes
    ----------
    rows, right : (classes,) int64
        Rows of each class, and how many of them were taken for it.
    precision, recall, f1 : (classes,) float64
        Of the rows taken for a class, the share that are of it; of its rows, the share that were taken for it; and
        the harmonic mean of both. NaN where there is nothing to divide by; a class that has rows, but that nothing was
        taken for, has an F1 of 0.
    """

    rows: NDArray[np.int64]
    right: NDArray[np.int64]
    precision: Floats
    recall: Floats
    f1: Floats

    @classmethod
    def of(cls, guess: ArrayLike, truth: ArrayLike, classes: int) -> ClassScores:
        matrix = confusion_matrix(guess, truth, classes)
        rows, taken, right = matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix).copy()
        return cls(rows, right, _share(right, taken), _share(right, rows), _share(2 * right, rows + taken))

    def mean(self, name: str) -> float:
        """Mean over the classes that are there: the "macro" average, in which all count alike."""
        values = getattr(self, name)[self.rows > 0]
        return float(np.nan_to_num(values).mean()) if len(values) else math.nan


def baseline(train: NDArray[Any], test: NDArray[Any]) -> tuple[int, float]:
    """The training's most frequent class, and the accuracy of always saying it."""
    most = int(np.bincount(train).argmax())
    return most, float(np.mean(test == most)) if len(test) else math.nan


@dataclass(frozen=True)
class NumberScores:
    """Of a regression.

    Attributes
    ----------
    r2 : float
        1 - Σ(y - ŷ)² / Σ(y - ȳ)²; 0 is as good as always saying the mean. NaN where all y are one number.
    mean_absolute_error, root_mean_squared_error : float
        In the numbers' own units.
    baseline : float
        The mean absolute error of always saying the training's median, which is the least that one number has there.
    """

    r2: float
    mean_absolute_error: float
    root_mean_squared_error: float
    baseline: float = math.nan

    @classmethod
    def of(cls, guess: NDArray[Any], truth: NDArray[Any], median: float = math.nan) -> NumberScores:
        wide = np.asarray(truth, np.float64)
        error = np.asarray(guess, np.float64) - wide
        spread = float(((wide - wide.mean()) ** 2).sum())
        squares = float((error**2).sum())
        r2 = 1 - squares / spread if spread else math.nan
        least = float(np.abs(wide - median).mean())
        return cls(r2, float(np.abs(error).mean()), math.sqrt(squares / len(wide)), least)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), math.nan), where=whole > 0)


def figure(value: float) -> str:
    """A number of any size, in four digits or to its last whole one."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"
