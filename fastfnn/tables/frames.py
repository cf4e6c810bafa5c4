"""Tables read by pandas: text of any separator and encoding, compressed or not, Parquet, Excel."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.errors import DataError
from fastfnn.tables import formats
from fastfnn.tables.columns import NUMBER, Column
from fastfnn.tables.formats import Layout

#: Cells that are gaps: what pandas takes for one, and what the UCI repository writes. In the column of the classes only
#: an empty cell is one: a class may be called None.
GAPS = ("", "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "NaN", "-NaN", "nan", "-nan", "NULL", "null", "None", "?")
#: Rows that tell which columns hold text, so that pandas reads those as categories at once.
_SAMPLE = 1000

_Place = Callable[[int], str]


@dataclass(frozen=True)
class Frame:
    """Columns as pandas has read them.

    Attributes
    ----------
    data : DataFrame
        The columns beside that of the classes.
    where : str
        How messages begin: which file it is.
    place : callable of (row)
        How messages name a row of the file.
    rows : (n,) int64
        The file's row that each row is.
    label : str or None
        The name of the column of the classes.
    codes : (n,) int64 or None
        Each row's class, as a place in `names`.
    names : list of str
        The classes as they came, in the order in which they came.
    """

    data: Any
    where: str
    place: _Place
    rows: NDArray[np.int64]
    label: str | None = None
    codes: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: NDArray[np.int64]) -> Frame:
        """Some of the rows."""
        codes = None if self.codes is None else self.codes[rows]
        return replace(self, data=self.data.take(rows), rows=self.rows[rows], codes=codes)

    def at(self, row: int) -> str:
        """Where in the file a row is."""
        return self.place(int(self.rows[row]))


def read(
    path: Path,
    name: str,
    choose: Callable[[list[str]], int | None],
    wanted: Sequence[Column] | None = None,
    encodings: Sequence[str] = ("",),
) -> Frame:
    """Read a table.

    Parameters
    ----------
    path : path
    name : str
        What ``--data`` is.
    choose : callable of (names)
        Finds the column of the classes, or None, among the names of all columns.
    wanted : sequence of Column, optional
        What a training has made of its columns; by default all columns are taken.
    encodings : sequence of str
        Of a text; the first that reads it counts. "" is what its first bytes tell, UTF-16 or else UTF-8.

    Raises
    ------
    DataError
        The file is no such table, or lacks a column; its line and column are named where they are known.
    """
    where = f"--data is {name!r};"
    kind = formats.suffix(path)
    if encodings[0] and kind not in formats.TEXT:
        raise DataError(f"{where} a {kind} file tells its encoding itself; expected --encoding with text only")
    if kind in formats.TEXT:
        return _text(path, where, choose, wanted, encodings)
    data = _parquet(path, where) if kind in formats.PARQUET else _excel(path, where)
    header = [str(column) for column in data.columns]
    # What pandas calls a column without a name.
    header = formats.checked_header(["" if name == "Unnamed: 0" else name for name in header], where, index=True)
    data.columns = header
    first = 2 if kind in formats.EXCEL else 1
    return _frame(data, where, lambda row: f"row {row + first}", header, choose, wanted)


def _frame(
    data: Any,
    where: str,
    place: _Place,
    header: list[str],
    choose: Callable[[list[str]], int | None],
    wanted: Sequence[Column] | None,
) -> Frame:
    label = choose(header)
    if not len(data):
        raise formats.no_rows(where)
    if wanted is None:
        kept = [i for i in range(len(header)) if i != label and header[i]]
    else:
        kept = formats.places(header, [column.name for column in wanted if column.width], where)
    if not kept:
        raise DataError(f"{where} expected columns of numbers beside {header[0]!r}")
    frame = Frame(data.iloc[:, kept], where, place, np.arange(len(data), dtype=np.int64))
    if label is None:
        return frame
    codes, names = texts(data.iloc[:, label])
    if (codes < 0).any():
        raise formats.empty_label(where, frame.at(int((codes < 0).argmax())), header[label])
    ungrouped = list(map(formats.ungrouped, names))
    names = ungrouped if all(map(formats.is_number, ungrouped)) else names
    return replace(frame, label=header[label], codes=codes, names=tuple(names))


def texts(series: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Each row's place among the different texts of a column, -1 for a gap, and these texts, stripped."""
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        codes, uniques = series.cat.codes.to_numpy(), list(series.cat.categories)
    else:
        try:
            codes, uniques = pd.factorize(series)
        except TypeError:  # such as lists, which Parquet may hold
            codes, uniques = pd.factorize(series.map(str, na_action="ignore"))
    stripped = [_as_text(value) for value in uniques]
    places: dict[str, int] = {}
    for text in stripped:
        if text:
            places.setdefault(text, len(places))
    table = np.array([places[text] if text else -1 for text in stripped] + [-1], np.int64)
    codes = table[codes]  # -1 is the last
    if isinstance(series.dtype, pd.CategoricalDtype) and len(places) > len(series) >> 4:
        return _only_those_there(codes, list(places))  # categories outlive the rows that were taken away
    return codes, list(places)


def _only_those_there(codes: NDArray[np.int64], values: list[str]) -> tuple[NDArray[np.int64], list[str]]:
    there = np.bincount(codes[codes >= 0], minlength=len(values)) > 0
    table = np.append(np.cumsum(there) - 1, -1)
    return table[codes], [value for value, kept in zip(values, there, strict=True) if kept]


def _as_text(value: Any) -> str:
    """A cell as one would type it: 1.0, which a column of integers with a gap holds, is 1."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


# Text


def _text(
    path: Path,
    where: str,
    choose: Callable[[list[str]], int | None],
    wanted: Sequence[Column] | None,
    encodings: Sequence[str],
) -> Frame:
    import pandas as pd

    encoding = ""
    try:
        trials = [encoding or formats.marked_encoding(path) for encoding in encodings]
        for encoding in trials:
            with contextlib.suppress(*([] if encoding == trials[-1] else [UnicodeError])):
                layout = formats.layout(path, where, encoding)
                label = choose(layout.header)
                kinds = None if wanted is None else {column.name: column.kind for column in wanted}
                data = _parsed(layout, None if label is None else layout.header[label], kinds)
                return _frame(data, where, layout.place, layout.header, choose, wanted)
        raise AssertionError  # the last of them has returned or raised
    except DataError:
        raise
    except UnicodeError:
        raise formats.undecodable(path, where, encoding) from None
    except formats.UNREADABLE as error:
        raise DataError(f"{where} it cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except pd.errors.EmptyDataError:
        raise formats.no_rows(where) from None
    except MemoryError:
        raise
    except Exception as error:  # pandas, zlib and csv meet what is wrong in a file as many kinds of error
        raise DataError(f"{where} expected a table: {error}") from None


def _parsed(layout: Layout, label: str | None, kinds: Mapping[str, str] | None) -> Any:
    import pandas as pd

    header = layout.header
    options: dict[str, Any] = {
        "sep": layout.separator,
        "encoding": layout.encoding,
        "decimal": layout.decimal,
        "header": 0,
        "names": header,
        "skipinitialspace": True,
        "keep_default_na": False,
        "na_values": {column: list(GAPS[:1] if column == label else GAPS) for column in header},
        "compression": "gzip" if layout.path.name.lower().endswith(".gz") else None,
        "low_memory": False,
    }
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):  # newer ones read the nearest number by themselves
        options["float_precision"] = "round_trip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if kinds is None:
                sample = pd.read_csv(layout.path, nrows=_SAMPLE, **options)
                # Strings become categories while they are read: each is made once.
                dtypes: dict[str, Any] = {
                    column: "category" for column in header if sample[column].dtype.kind not in "iufb"
                }
            else:
                # Categories that all look like numbers would become some, and 01 the same as 1.
                dtypes = {column: str for column in header if kinds.get(column) != NUMBER}
            if label is not None:
                dtypes[label] = str
            data = pd.read_csv(layout.path, dtype=dtypes, **options)
        except pd.errors.ParserError:
            layout.check_widths()
            raise
    if layout.decimal == ",":  # pandas minds it in columns of nothing but numbers
        for column in header:
            if data[column].dtype.kind not in "iufb":
                data[column] = data[column].map(formats.with_point, na_action="ignore")
    if not isinstance(data.index, pd.RangeIndex):  # pandas takes cells too many for names of rows
        layout.check_widths()
    if len(header) > 1 and len(data) and data[header[-1]].isna().any() and _may_be_short(layout):
        layout.check_widths()
    return data


def _may_be_short(layout: Layout) -> bool:
    """Whether a line has fewer separators than it needs: pandas takes missing cells for gaps."""
    least = len(layout.header) - 1
    with formats.text_file(layout.path, layout.encoding) as file:
        return any(line.count(layout.separator) < least for line in file if not line.isspace())


# Other kinds


def _parquet(path: Path, where: str) -> Any:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError:
        raise DataError(f"{where} reading Parquet needs the package pyarrow (pip install pyarrow)") from None
    except Exception as error:  # the engines have errors of their own
        raise DataError(f"{where} it cannot be read as Parquet: {error}") from None


def _excel(path: Path, where: str) -> Any:
    import pandas as pd

    engines = {".xls": ("xlrd", "xlrd"), ".ods": ("odf", "odfpy")}
    engine, package = engines.get(formats.suffix(path), ("openpyxl", "openpyxl"))
    try:
        return pd.read_excel(path, engine=engine, keep_default_na=False, na_values=list(GAPS))  # type: ignore[arg-type]
    except ImportError:
        raise DataError(
            f"{where} reading {path.suffix} files needs the package {package} (pip install {package})"
        ) from None
    except Exception as error:  # the engines have errors of their own
        raise DataError(f"{where} it cannot be read as a workbook: {error}") from None
