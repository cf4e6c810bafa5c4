"""Labels of tables and folders: what they are called becomes numbers of classes, or numbers to be predicted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn._text import few
from fastfnn.errors import DataError

CLASSIFICATION, REGRESSION = "classification", "regression"
TASKS = (CLASSIFICATION, REGRESSION)
#: More different integers than these are quantities, and more classes than these are worth a word.
MANY = 30
MOST_CLASSES = 1 << 16
#: How numbers are written; 01 is a text, such as a postcode.
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)

_At = Callable[[int], str]


def are_numbers(names: Sequence[str]) -> bool:
    return all(map(_NUMBER.fullmatch, names))


def task_of(names: Sequence[str], where: str, label: str, at: _At, asked: str | None = None) -> str:
    """Whether labels called `names` are classes or numbers to be predicted.

    Parameters
    ----------
    names : sequence of str
        Each different label.
    where, label : str
        How messages begin; the column's name.
    at : callable of (place)
        Where the file has a label, by its place in `names`.
    asked : {"classification", "regression"}, optional
        What ``--task`` says.

    Returns
    -------
    str
        Numbers that are no integers, or that are many, are a regression; few integers, and whatever is no number,
        classes.
    """
    if asked == CLASSIFICATION:
        return asked
    odd = [i for i, name in enumerate(names) if not _NUMBER.fullmatch(name)]
    if asked == REGRESSION or (len(names) > MANY and 0 < len(odd) < 0.1 * len(names)):
        if odd:
            override = "" if asked else ", or --task classification"
            raise DataError(
                f"{where} its {at(odd[0])} holds {names[odd[0]]!r} in column {label!r}, where "
                f"{len(names) - len(odd):,} of {len(names):,} different cells are numbers; expected a number in each "
                f"row{override}"
            )
        return REGRESSION
    if odd:
        return CLASSIFICATION
    return REGRESSION if len(names) > MANY or not all(float(name).is_integer() for name in names) else CLASSIFICATION


def values(names: Sequence[str], where: str, label: str, at: _At) -> NDArray[np.float64]:
    """The numbers that labels are."""
    for i, name in enumerate(names):
        if not _NUMBER.fullmatch(name) or not np.isfinite(float(name)):
            raise DataError(
                f"{where} its {at(i)} holds {name!r} in column {label!r}; expected a finite number, as MODEL predicts"
            )
    return np.array([float(name) for name in names])


def numbered(names: Sequence[str], where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The class that each name is of, and what the classes are called, by number: 1 and 1.0 are one class."""
    by_value = are_numbers(names)
    keys: list[float | str] = [float(name) if by_value else name for name in names]
    spelt: dict[float | str, str] = {}
    for key, name in zip(keys, names, strict=True):
        spelt.setdefault(key, name)
    ordered: list[Any] = sorted(spelt)  # type: ignore[type-var] (all of them numbers, or all texts)
    if len(ordered) > MOST_CLASSES:
        raise DataError(f"{where} it has {len(ordered):,} classes; expected up to {MOST_CLASSES:,}")
    places = {key: i for i, key in enumerate(ordered)}
    return np.array([places[key] for key in keys], np.int64), tuple(spelt[key] for key in ordered)


def known(
    names: Sequence[str], where: str, at: _At, classes: int, class_names: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The same where a model has the classes; one that it does not know is an error, never another class.

    Parameters
    ----------
    names, where, at
        As in `task_of`.
    classes : int
        How many there are.
    class_names : sequence of str, optional
        What they are called. Without it numbers are the classes' own, and as many other names as there are classes
        are taken in their order.
    """
    counted = [str(i) for i in range(classes)]
    ordered = list(class_names or counted)
    if class_names is None and not are_numbers(names):
        if len(names) != classes:
            raise DataError(
                f"{where} it has {len(names)} classes ({few(sorted(names))}); expected the {classes} of MODEL, whose "
                "names are known where it is the folder of train --out"
            )
        ordered = sorted(names)
    by_value = are_numbers(ordered)
    places: dict[float | str, int] = {float(name) if by_value else name: i for i, name in enumerate(ordered)}
    numbers = []
    for i, name in enumerate(names):
        place = places.get(float(name) if by_value and _NUMBER.fullmatch(name) else name)
        if place is None:
            raise DataError(f"{where} it has the class {name!r}; expected those of MODEL: {few(ordered)} ({at(i)})")
        numbers.append(place)
    return np.array(numbers, np.int64), tuple(ordered)


def is_counted(names: Sequence[str] | None) -> bool:
    """Whether classes are called by their numbers."""
    return names is None or list(names) == [str(i) for i in range(len(names))]
