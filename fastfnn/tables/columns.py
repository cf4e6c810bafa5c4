"""What a network gets of a table's column, as plain data that a settings file can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from fastfnn._text import count, few

NUMBER, BOOLEAN, DATE, TEXT, UNUSED = "number", "boolean", "date", "text", "unused"
KINDS = (NUMBER, BOOLEAN, DATE, TEXT, UNUSED)
#: How dates may be written; the first that fits is taken.
ISO_8601 = "ISO8601"
DAYS = "days since 1970-01-01"


@dataclass(frozen=True)
class Column:
    """One column of a table, and what becomes of it.

    Attributes
    ----------
    name : str
    kind : {"number", "boolean", "date", "text", "unused"}
        A number stays one, a boolean is 0 or 1, a date is a number of days since 1970-01-01, and a text has a 1 in the
        place of its value.
    fill : float, str or None
        What a gap becomes: the median, of booleans and texts the most frequent value. None: a gap is an error.
    gaps : bool
        Whether the training had gaps: then a further number says where they are.
    values : tuple of str
        Texts that have a place of their own.
    other : bool
        Whether all other texts have a place together; without it they have a 1 nowhere.
    format : str
        Of dates in text: "ISO8601", or as for `datetime.strptime`; "" where the file has dates as such.
    note : str
        What else there is to know, for people.
    """

    name: str
    kind: str = NUMBER
    fill: float | str | None = None
    gaps: bool = False
    values: tuple[str, ...] = ()
    other: bool = False
    format: str = ""
    note: str = ""

    @property
    def width(self) -> int:
        """How many numbers the network gets."""
        if self.kind == UNUSED:
            return 0
        return (len(self.values) + self.other if self.kind == TEXT else 1) + self.gaps

    @property
    def is_plain(self) -> bool:
        """Whether it is a number that nothing happens to."""
        return self.kind == NUMBER and not self.gaps and not self.note

    @property
    def scales(self) -> list[bool]:
        """Which of its numbers are to be standardised: not those that are 0 or 1."""
        return [self.kind in (NUMBER, DATE) and i == 0 for i in range(self.width)]

    def to_json(self) -> str | dict[str, Any]:
        """Plain data: of a column of numbers without any fill its name alone."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {name: value for name, value in kept.items() if value != getattr(_PLAIN, name)}
        kept = {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
        return self.name if kept.keys() <= {"name"} else {"name": self.name, **kept}

    @classmethod
    def from_json(cls, kept: Any) -> Column:
        """The column that `to_json` gave; anything else is a `ValueError`."""
        if isinstance(kept, str):
            return cls(kept)
        values = kept.get("values", [])
        column = cls(**{**kept, "values": tuple(values)})
        same_types = all(
            type(getattr(column, field.name)) is type(getattr(_PLAIN, field.name))
            for field in fields(cls)
            if field.name != "fill"
        )
        sound = same_types and isinstance(values, list) and all(isinstance(value, str) for value in values)
        sound = sound and column.kind in KINDS and len({*values}) == len(values)
        texts = column.kind == TEXT and (column.fill is None or column.fill in values or column.other)
        numbers = column.kind != TEXT and not values and (column.fill is None or _is_finite(column.fill))
        if not (sound and (texts or numbers)):
            raise ValueError(f"{asdict(column)} is no column")
        return column

    @property
    def shown_fill(self) -> str:
        """What a gap becomes, for people."""
        if not isinstance(self.fill, float):
            return repr(self.fill)
        if self.kind == BOOLEAN:
            return str(bool(self.fill)).lower()
        if self.kind == DATE:
            return str(np.datetime64(0, "D") + int(self.fill))
        return f"{self.fill:.6g}"

    def says(self) -> str:
        """What the network gets of it, in words."""
        if self.kind == UNUSED:
            return f"left out: {self.note}"
        said = {NUMBER: "as it is", BOOLEAN: "0 or 1", DATE: f"{DAYS}{self._format()}", TEXT: self._texts()}[self.kind]
        if self.gaps:
            which = "median" if self.kind in (NUMBER, DATE) else "most frequent"
            said += f"; a gap becomes {self.shown_fill} ({which}), and 1 more number says where"
        return said + (f"; {self.note}" if self.note else "")

    def _format(self) -> str:
        return f", written {'year-month-day' if self.format == ISO_8601 else self.format}" if self.format else ""

    def _texts(self) -> str:
        others = ", and 1 for all others" if self.other else ""
        return f"0 or 1 for each of {count(len(self.values), 'value')}{others}"


_PLAIN = Column("")


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def of_names(names: Sequence[str]) -> list[Column]:
    """Columns of plain numbers, without a gap."""
    return [Column(name) for name in names]


def described(columns: Sequence[Column]) -> str:
    """A table of what is made of each column; "" where all are numbers as they are."""
    if all(column.is_plain for column in columns):
        return ""
    rows = [("column", "read as", "numbers", "what the network gets")]
    plain: list[str] = []

    def flush() -> None:
        if plain:
            said = "as it is" if len(plain) == 1 else "as they are"
            rows.append((few(plain), NUMBER if len(plain) == 1 else f"{len(plain)} numbers", str(len(plain)), said))
            plain.clear()

    for column in columns:
        if column.is_plain:
            plain.append(column.name)
            continue
        flush()
        rows.append((column.name, column.kind, str(column.width), column.says()))
    flush()
    rows = [(_short(name), kind, width, said) for name, kind, width, said in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= 40 else f"{name[:39]}…"
