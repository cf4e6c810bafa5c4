"""What is made of each column: `fit` decides it from the training's rows, `apply` does it to any rows.

scikit-learn's `SimpleImputer(add_indicator=True)` and `OneHotEncoder(min_frequency=…, max_categories=…)` do the same to
arrays of Python objects, and cannot be kept but as pickles; pandas' codes of categories do it to each different value
once, and what has been decided is a list of `Column`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn._text import count
from fastfnn.errors import DataError
from fastfnn.tables import formats
from fastfnn.tables.columns import BOOLEAN, DATE, ISO_8601, NUMBER, TEXT, UNUSED, Column
from fastfnn.tables.frames import Frame, texts

Numbers = NDArray[np.float64]
_Writer = Callable[[NDArray[Any], slice], None]

#: Of a column's cells this share must be numbers, or dates, for it to hold such; the others are gaps.
MOST = 0.9
#: Texts that have a place of their own: so many at most, seen in this share of the rows and twice at least.
MOST_VALUES, LEAST_SHARE, LEAST_ROWS = 100, 0.001, 2
#: How people write dates, beside ISO 8601. Day and month of the first two are told apart by their values.
DATES = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d.%m.%y", "%d-%m-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y")
TIMES = ("", " %H:%M", " %H:%M:%S")
_BOOLEANS = {"true": 1.0, "false": 0.0}
_SAMPLE = 50
#: Rows that are written at once, so that they stay in a cache.
_BLOCK = 2048


def fit(frame: Frame) -> list[Column]:
    """Decide what becomes of each column."""
    columns = [_fit_one(frame, name) for name in frame.data.columns]
    if not any(column.width for column in columns):
        why = "; ".join(f"{column.name!r} is {column.says()}" for column in columns[:4])
        raise DataError(f"{frame.where} no column of it is of use: {why}")
    return columns


def apply(
    frame: Frame, columns: Sequence[Column], dtype: Any = np.float64, notes: list[str] | None = None
) -> NDArray[Any]:
    """Numbers for a network, (n, width of all columns); what there is to say of them goes to `notes`."""
    notes = [] if notes is None else notes
    writers, start = [], 0
    for column in columns:
        if column.width:
            writers.append((start, _writer(frame, column, notes)))
        start += column.width
    out = np.zeros((len(frame), start), dtype)
    for first in range(0, len(out), _BLOCK):  # a column at a time would go through memory as often as there are columns
        rows = slice(first, first + _BLOCK)
        for start, write in writers:
            write(out[rows, start:], rows)
    return out


# Deciding


def _fit_one(frame: Frame, name: str) -> Column:
    series = frame.data[name]
    kind = series.dtype.kind
    if kind == "b":
        return _filled(Column(name, BOOLEAN), _values(series), frame)
    if kind in "iuf":
        return _filled(Column(name), _values(series), frame)
    if kind == "M":
        return _filled(Column(name, DATE), _days(series), frame)
    codes, values = texts(series)
    if not values:
        return Column(name, UNUSED, note="all cells are empty")
    rows = np.bincount(codes[codes >= 0], minlength=len(values))
    if all(value.casefold() in _BOOLEANS for value in values):
        booleans = [_BOOLEANS[value.casefold()] for value in values]
        return _filled(Column(name, BOOLEAN), _looked_up(codes, booleans), frame)
    numbers = np.array([_number(value) for value in values])
    if np.isfinite(numbers).any() and rows[np.isfinite(numbers)].sum() >= MOST * rows.sum():
        note = _strangers(values, rows, np.isfinite(numbers), "number")
        return replace(_filled(Column(name), _looked_up(codes, numbers), frame), note=note)
    format, days, note = _date_format(values, rows)
    if format:
        column = _filled(Column(name, DATE, format=format), _looked_up(codes, days), frame)
        note = "; ".join(filter(None, (note, _strangers(values, rows, np.isfinite(days), "date"))))
        return replace(column, note=note)
    return _fit_texts(name, codes, values, rows)


def _filled(column: Column, numbers: Numbers, frame: Frame) -> Column:
    """The column with the median of its numbers, or its most frequent boolean, for its gaps."""
    _check_finite(frame, column.name, numbers)
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        return Column(column.name, UNUSED, note="all cells are empty")
    fill = float(there.mean() > 0.5) if column.kind == BOOLEAN else float(np.median(there))
    return replace(column, fill=fill, gaps=len(there) < len(numbers))


def _fit_texts(name: str, codes: NDArray[np.int64], values: list[str], rows: NDArray[np.int64]) -> Column:
    if len(values) == 1 and rows[0] == len(codes):
        return Column(name, UNUSED, note=f"all cells are {values[0]!r}")
    least = max(LEAST_ROWS, math.ceil(LEAST_SHARE * len(codes)))
    frequent = sorted(np.flatnonzero(rows >= least), key=lambda i: (-rows[i], values[i]))[:MOST_VALUES]
    if not frequent:
        return Column(name, UNUSED, note=f"each of its {count(len(values), 'value')} is too rare")
    kept, rare = tuple(sorted(values[i] for i in frequent)), int(rows.sum() - rows[frequent].sum())
    note = f"others are {count(len(values) - len(kept), 'value')} in {count(rare, 'row')}" if rare else ""
    return Column(name, TEXT, values[frequent[0]], bool((codes < 0).any()), kept, bool(rare), note=note)


def _strangers(values: list[str], rows: NDArray[np.int64], known: NDArray[np.bool_], noun: str) -> str:
    """What is said of cells that are no numbers in a column of such."""
    odd = np.flatnonzero(~known)
    if not len(odd):
        return ""
    cells = int(rows[odd].sum())
    are = "is" if cells == 1 else "are"
    return f"{count(cells, 'cell')}, such as {values[odd[0]]!r}, {are} no {noun} and taken for a gap"


def _date_format(values: list[str], rows: NDArray[np.int64]) -> tuple[str, Numbers, str]:
    """How a column's texts are written as dates, "" where they are not; their days; and what is to be said."""
    sample = values[:_SAMPLE]
    fitting: list[tuple[str, Numbers]] = []
    for format in (ISO_8601, *(date + time for date in DATES for time in TIMES)):
        if np.isfinite(_parsed(sample, format)).sum() < MOST * len(sample):
            continue
        days = _parsed(values, format)
        if rows[np.isfinite(days)].sum() >= MOST * rows.sum():
            fitting.append((format, days))
    if not fitting:
        return "", np.empty(0), ""
    counts = [int(rows[np.isfinite(days)].sum()) for _, days in fitting]
    best = counts.index(max(counts))
    note = ""
    if counts.count(counts[best]) > 1 and "%m/%d" in fitting[best][0]:
        note = "taken as month/day/year, though day/month/year would fit too"
    return *fitting[best], note


# Doing


def _writer(frame: Frame, column: Column, notes: list[str]) -> _Writer:
    """What writes some rows' numbers of a column into zeros."""
    if column.kind == TEXT:
        at, gaps = _places(frame.data[column.name], column, notes)

        def write(out: NDArray[Any], rows: slice) -> None:
            part = at[rows]
            known = np.flatnonzero(part >= 0)
            out[known, part[known]] = 1
    else:
        numbers = _as_numbers(frame, frame.data[column.name], column, notes)
        _check_finite(frame, column.name, numbers)
        gaps = np.isnan(numbers)
        if gaps.any() and column.fill is not None:
            numbers = np.where(gaps, column.fill, numbers)

        def write(out: NDArray[Any], rows: slice) -> None:
            out[:, 0] = numbers[rows]

    if not gaps.any():
        return write
    if column.fill is None:
        raise formats.no_number(frame.where, frame.at(int(gaps.argmax())), "", column.name)
    if not column.gaps:
        notes.append(
            f"column {column.name!r} has {count(int(gaps.sum()), 'gap')}, which the training had none of; taken for "
            f"{column.shown_fill}"
        )
        return write

    def write_with_gaps(out: NDArray[Any], rows: slice) -> None:
        write(out, rows)
        out[:, column.width - 1] = gaps[rows]

    return write_with_gaps


def _places(series: Any, column: Column, notes: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of a text's numbers is 1 in each row, -1 where none is; and which rows are gaps."""
    codes, values = texts(series)
    elsewhere = len(column.values) if column.other else -1
    known = {value: i for i, value in enumerate(column.values)}
    table = np.array([known.get(value, elsewhere) for value in values] + [elsewhere], np.int64)
    gaps = codes < 0
    table[-1] = known.get(str(column.fill), elsewhere)
    at = table[codes]
    nowhere = at < 0
    if nowhere.any():
        first = values[int(codes[nowhere.argmax()])]
        notes.append(
            f"column {column.name!r} holds {first!r} or others that the training had not, in "
            f"{count(int(nowhere.sum()), 'row')}"
        )
    return at, gaps


def _as_numbers(frame: Frame, series: Any, column: Column, notes: list[str]) -> Numbers:
    """A column's cells as numbers, NaN for gaps; words in a column of numbers are gaps as long as they are few."""
    kind = series.dtype.kind
    if column.kind == DATE and kind == "M":
        return _days(series)
    if column.kind != DATE and kind in "iufb":
        return _values(series)
    codes, values = texts(series)
    convert: dict[str, Callable[[], Sequence[float] | Numbers]] = {
        NUMBER: lambda: [_number(value) for value in values],
        BOOLEAN: lambda: [_BOOLEANS.get(value.casefold(), _number(value)) for value in values],
        DATE: lambda: _parsed(values, column.format or ISO_8601),
    }
    table = np.asarray(convert[column.kind](), np.float64)
    numbers = _looked_up(codes, table)
    strange = np.isnan(numbers) & (codes >= 0)
    if strange.any():
        row = int(strange.argmax())
        cell = values[int(codes[row])]
        if column.fill is None or strange.sum() > len(codes) // 2:
            noun = {NUMBER: "finite number", BOOLEAN: "true or false", DATE: f"date written {column.format}"}
            raise DataError(
                f"{frame.where} its {frame.at(row)} holds {cell!r} in column {column.name!r}; expected a "
                f"{noun[column.kind]}"
            )
        notes.append(
            f"column {column.name!r} holds {cell!r} in {frame.at(row)}; {count(int(strange.sum()), 'cell')} of it "
            f"{'is' if strange.sum() == 1 else 'are'} no {column.kind}, and taken for a gap"
        )
    return numbers


def _looked_up(codes: NDArray[np.int64], table: Sequence[float] | Numbers) -> Numbers:
    """Each row's number by its code; NaN for a gap."""
    return np.append(np.asarray(table, np.float64), np.nan)[codes]


def _values(series: Any) -> Numbers:
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def _number(text: str) -> float:
    text = formats.ungrouped(text)
    return float(text) if formats.is_number(text) else math.nan


def _parsed(values: Sequence[str], format: str) -> Numbers:
    """Days since 1970-01-01 of texts in a format, NaN where a text is no such date."""
    import pandas as pd

    texts = pd.Series(list(values), dtype=object)
    return _days(pd.Series(pd.to_datetime(texts, format=format, errors="coerce", utc=True)))


def _days(series: Any) -> Numbers:
    """Days since 1970-01-01, in UTC where there is a time zone."""
    import pandas as pd

    if series.dt.tz is not None:
        series = series.dt.tz_convert(None)
    return ((series - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)


def _check_finite(frame: Frame, name: str, numbers: Numbers) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise DataError(
            f"{frame.where} its {frame.at(row)} holds '{numbers[row]}' in column {name!r}; expected a finite number"
        )
