"""How a table lies in its file: encodings, separators, headers, and in which line a row is."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fastfnn._text import few
from fastfnn.errors import DataError

#: What the column of the classes is called where ``--label`` does not say; the first of them counts.
LABELS = ("label", "class", "target", "y")
#: Of a table; a file with more is none, or was written the wrong way round.
MOST_COLUMNS = 100_000
TEXT, PARQUET, EXCEL = (".csv", ".tsv"), (".parquet",), (".xlsx", ".xlsm", ".xls", ".ods")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
#: Lines that tell which separator a table has.
_SNIFFED = 30
#: What is wrong with bytes that were compressed, as gzip and zlib say it.
UNREADABLE = (OSError, EOFError)


def suffix(path: Path) -> str:
    """What kind of file a path is, without the ``.gz`` of one that is compressed."""
    name = path.name.lower().removesuffix(".gz")
    return f".{name.rpartition('.')[2]}" if "." in name else ""


def is_table(path: Path) -> bool:
    """Whether a path is called as a table is."""
    compressed = path.name.lower().endswith(".gz")
    return suffix(path) in (TEXT if compressed else TEXT + PARQUET + EXCEL)


_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", re.ASCII)
_GROUPED_WITH_POINTS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?", re.ASCII)


def ungrouped(text: str) -> str:
    """A number such as 1,234,567.8 without the commas; whatever else as it is."""
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


def with_point(text: str) -> str:
    """A number with a decimal comma, such as 1.234,5, as one with a point; whatever else as it is."""
    if _GROUPED_WITH_POINTS.fullmatch(text):
        text = text.replace(".", "")
    pointed = text.replace(",", ".", 1)
    return pointed if is_number(pointed) else text


def is_number(text: str) -> bool:
    """Whether `text` is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class Layout:
    """How a text table is written.

    Attributes
    ----------
    encoding, separator, decimal : str
    header : list of str
        The columns' names.
    where : str
        How messages begin: which file it is.
    """

    path: Path
    encoding: str
    separator: str
    decimal: str
    header: list[str]
    where: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line, counted from 1, and cells of each row below the header. It is slow: it finds what is wrong."""
        with text_file(self.path, self.encoding) as file:
            rows = csv.reader(file, delimiter=self.separator, skipinitialspace=True)
            next(rows, None)
            for row in rows:
                if row:
                    yield rows.line_num, row

    def place(self, row: int) -> str:
        """Where a row is, as messages name it."""
        with contextlib.suppress(csv.Error):
            for i, (line, _) in enumerate(self.rows()):
                if i == row:
                    return f"line {line}"
        return f"row {row + 1}"

    def check_widths(self) -> None:
        """Refuse a row that has other than one cell for each column."""
        for line, row in self.rows():
            if len(row) != len(self.header):
                raise DataError(f"{self.where} its line {line} has {len(row)} cells; expected {len(self.header)}")


def text_file(path: Path, encoding: str) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


def layout(path: Path, where: str, encoding: str | None = None) -> Layout:
    """How the table in a text file is written; by default in UTF-16 where it begins with its mark, else in UTF-8."""
    encoding = encoding or marked_encoding(path)
    with text_file(path, encoding) as file:
        lines = [line for line, _ in zip(file, range(_SNIFFED), strict=False)]
    if "\0" in "".join(lines):
        raise DataError(f"{where} it holds NUL characters; expected text, or --encoding utf-16-le where it is UTF-16")
    separator = "\t" if suffix(path) == ".tsv" else _separator(lines)
    cells = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    header = checked_header(cells[0] if cells else [], where, index=True)
    decimal = "," if separator != "," and _has_decimal_commas(cells[1:]) else "."
    return Layout(path, encoding, separator, decimal, header, where)


def _byte_file(path: Path) -> Any:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def marked_encoding(path: Path) -> str:
    """The encoding that the first bytes tell."""
    with _byte_file(path) as file:
        start = file.read(4)
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def undecodable(path: Path, where: str, encoding: str) -> DataError:
    """The error of a file that is not in an encoding, with the first line that is not."""
    place = ""
    with _byte_file(path) as file, contextlib.suppress(*UNREADABLE):
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8" if encoding == "utf-8-sig" else encoding)
            except UnicodeDecodeError as error:
                place = f" (its line {number} holds the byte 0x{line[error.start]:02x})"
                break
    if encoding != (marked := marked_encoding(path)) and marked != "utf-8-sig":
        return DataError(f"{where} it is no text in {encoding}; its first bytes are those of --encoding {marked}")
    if encoding == "utf-8-sig":
        return DataError(f"{where} expected text in UTF-8, or --encoding latin-1 where it is Latin-1{place}")
    return DataError(f"{where} it is no text in {encoding}{place if 'utf-16' not in encoding else ''}")


def _separator(lines: list[str]) -> str:
    """What parts most columns, in all lines alike if there is such."""

    def score(separator: str) -> tuple[bool, int]:
        with contextlib.suppress(csv.Error):
            widths = [len(row) for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
            whole = widths[:-1] if len(lines) == _SNIFFED else widths  # a quoted cell may go on after the last
            return len(set(whole)) == 1 and whole[0] > 1, widths[0] if widths else 0
        return False, 0

    return max(_SEPARATORS, key=score)


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    cells = [cell.strip() for row in rows for cell in row]
    return any("," in cell and is_number(with_point(cell)) for cell in cells) and not any(
        "." in cell and is_number(cell) and not _GROUPED_WITH_POINTS.fullmatch(cell) for cell in cells
    )


def checked_header(cells: Sequence[str], where: str, index: bool = False) -> list[str]:
    """The columns' names, each a different one.

    With `index` the first may be "": pandas writes the numbers of the rows so.
    """
    columns = [cell.strip() for cell in cells]
    if not columns:
        raise DataError(f"{where} expected a header: a first row that names the columns")
    if len(columns) > MOST_COLUMNS:
        raise DataError(f"{where} it has {len(columns):,} columns; expected at most {MOST_COLUMNS:,}")
    known: set[str] = set()
    for i, column in enumerate(columns):
        if not (column or (index and i == 0 and len(columns) > 1)):
            raise DataError(f"{where} its column {i + 1} has no name; expected a header that names all columns")
        if column in known:
            raise DataError(f"{where} two columns are called {column!r}; expected a header that names each differently")
        known.add(column)
    counted = [[str(i) for i in range(start, start + len(columns))] for start in (0, 1)]
    if columns not in counted and all(map(is_number, columns)):
        raise DataError(f"{where} its first row holds numbers; expected a header that names the columns")
    return columns


def places(header: Sequence[str], wanted: Sequence[str], where: str) -> list[int]:
    """Where the columns called `wanted` are."""
    known = {column: i for i, column in enumerate(header)}
    lacking = [column for column in wanted if column not in known]
    if lacking:
        raise DataError(
            f"{where} it has no column {lacking[0]!r}; expected those of the training: {few(wanted)}; its own are "
            f"{few(header)}"
        )
    return [known[column] for column in wanted]


def label_place(columns: Sequence[str], name: str, label: str | None) -> int:
    """Where the column of the classes is: the one called `label`, else the first that is called as one of `LABELS`."""
    wanted = LABELS if label is None else (label,)
    called = [column.casefold() for column in columns] if label is None else list(columns)
    for want in wanted:
        if want in called:
            return called.index(want)
    shown = few(columns)
    if label is None:
        raise DataError(
            f"--data is {name!r}; expected --label COLUMN, the one of its columns that is the class: {shown}"
        )
    raise DataError(f"--label is {label!r}; expected one of the columns of {name}: {shown}")


def empty_label(where: str, place: str, column: str) -> DataError:
    return DataError(f"{where} its {place} has no {column}; expected a class in each row")


def no_rows(where: str) -> DataError:
    return DataError(f"{where} expected rows below its header")


def no_number(where: str, place: str, cell: Any, column: str) -> DataError:
    came = f"holds {cell!r}" if str(cell).strip() else "is empty"
    return DataError(f"{where} its {place} {came} in column {column!r}; expected a finite number")
