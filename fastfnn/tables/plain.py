"""Tables of plain numbers, read without any other package: commas, UTF-8, a number in every cell."""

from __future__ import annotations

import csv
import importlib.util
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn.errors import DataError
from fastfnn.tables import formats
from fastfnn.tables.formats import is_number

NEEDS_PANDAS = '; tables of other than plain numbers need the package pandas (pip install "fastfnn[tables]")'


def has_pandas() -> bool:
    """Whether tables other than plain ones can be read."""
    try:
        return importlib.util.find_spec("pandas") is not None
    except ValueError:  # what a test has put in its place
        return False


class Table(NamedTuple):
    """Numbers in columns.

    Attributes
    ----------
    x : (n, k) float64
    columns : list of str
        The k columns' names.
    codes : (n,) int64, or None where no column holds classes
        Each row's class, as a place in `names`.
    names : list of str
        The classes as they came, in the order in which they came.
    """

    x: NDArray[np.float64]
    columns: list[str]
    codes: NDArray[np.int64] | None
    names: list[str]


def read_plain(
    path: Path, name: str, choose: Callable[[list[str]], int | None], wanted: Sequence[str] | None = None
) -> Table:
    """Read a table with a header; `choose` finds the column of the classes among the names of all.

    The others are all taken, or, by their names, those that are `wanted`.
    """
    where = f"--data is {name!r};"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, skipinitialspace=True)
            header = formats.checked_header(next(rows, []), where)
            if len(header) == 1 and {";", "\t"} & set(header[0]):
                raise DataError(f"{where} its header is {header[0]!r}; expected commas between columns{NEEDS_PANDAS}")
            place, start = choose(header), rows.line_num
            names, codes = _classes(rows, header, place, where)
        if not codes:
            raise formats.no_rows(where)
        if wanted is None:
            features = [i for i in range(len(header)) if i != place]
        else:
            features = formats.places(header, wanted, where)
        if not features:
            raise DataError(f"{where} expected columns of numbers beside {header[0]!r}")
        x = _quick_numbers(path, start, features)
        if x is None or len(x) != len(codes) or not np.isfinite(x).all():
            x = _numbers(path, header, features, where)
    except OSError as error:
        raise DataError(f"{where} it cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{where} expected text in UTF-8{NEEDS_PANDAS}") from None
    except csv.Error as error:
        raise DataError(f"{where} expected a table with commas between its columns: {error}") from None
    classes = None if place is None else np.array(codes, np.int64)
    return Table(x, [header[i] for i in features], classes, names)


def _classes(rows: Any, header: list[str], place: int | None, where: str) -> tuple[list[str], array[int]]:
    """The classes' names and each row's place among them; without a column of classes all rows have place 0."""
    known: dict[str, int] = {}
    codes = array("q")
    for row in rows:
        if len(row) != len(header):
            if not row:  # an empty line
                continue
            raise DataError(f"{where} its line {rows.line_num} has {len(row)} cells; expected {len(header)}")
        if place is None:
            codes.append(0)
            continue
        label = row[place].strip()
        if not label:
            raise formats.empty_label(where, f"line {rows.line_num}", header[place])
        codes.append(known.setdefault(label, len(known)))
    return list(known), codes


def _quick_numbers(path: Path, skipped: int, features: list[int]) -> NDArray[np.float64] | None:
    """The numbers as NumPy's own parser reads them, which is several times faster; None where it cannot."""
    with path.open(encoding="utf-8-sig") as file:
        try:
            return np.loadtxt(
                file, delimiter=",", skiprows=skipped, usecols=features, comments=None, quotechar='"', ndmin=2
            )
        except ValueError:
            return None


def _numbers(path: Path, header: list[str], features: list[int], where: str) -> NDArray[np.float64]:
    """The same cell by cell: what is wrong is found, or it was NumPy's parser that did not understand it."""
    numbers = array("d")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, skipinitialspace=True)
        next(rows)
        for row in filter(None, rows):
            for i in features:
                if not is_number(row[i]):
                    error = formats.no_number(where, f"line {rows.line_num}", row[i], header[i])
                    raise DataError(f"{error}{NEEDS_PANDAS}")
                numbers.append(float(row[i]))
    return np.array(numbers).reshape(-1, len(features))
