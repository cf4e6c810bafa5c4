"""The options that say what data there are and how to read them."""

from __future__ import annotations

import argparse
import codecs
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastfnn import tables
from fastfnn.cli import images
from fastfnn.errors import InvalidValueError


@dataclass(frozen=True)
class Reading:
    """What was given beside ``--data``: its options, by their names."""

    root: str | None = None
    label: str | None = None
    size: str | None = None
    encoding: str | None = None
    task: str | None = None
    strict: bool = False

    @classmethod
    def given(cls, args: argparse.Namespace) -> Reading:
        names = ("label", "size", "encoding", "task")
        given = {name: getattr(args, name, None) for name in names}
        return cls(root=getattr(args, "data_root", None), strict=bool(args.strict), **given)


def add(parser: argparse.ArgumentParser, **data: Any) -> None:
    """Add ``--data``, with `data` as further arguments of it, and the options that say how to read it."""
    add = parser.add_argument
    add("--data", metavar="NAME|FILE|FOLDER", **data)
    add("--data-root", metavar="DIR", help="folder that holds MNIST's or Fashion-MNIST's four files")
    columns = ", ".join(tables.LABELS[:-1])
    add(
        "--label",
        metavar="COLUMN",
        help=f"a table's column of classes, or of the numbers to predict (default: {columns} or {tables.LABELS[-1]})",
    )
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--encoding",
        type=encoding,
        metavar="NAME",
        help="of a text table, such as latin-1, cp1252 or utf-16 (default: UTF-8, or UTF-16 where the file says so)",
    )
    add("--size", type=size, metavar="HxW", help="resize images, such as to 28x28 (default: as in training)")
    # A constant, not "store_true": what was not given is None.
    strict = "stop at an image that cannot be read (default: say it, and do the others)"
    add("--strict", action="store_const", const=True, help=strict)


def size(text: str) -> str:
    """Height and width, checked; the text is kept, which settings are written down as."""
    if len(shape(text)) != 2:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected height and width, such as 28x28")
    if math.prod(shape(text)) > images.MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected at most {images.MOST_PIXELS:,} pixels")
    return text


def shape(text: str) -> tuple[int, ...]:
    """Sizes of at least 1, with an x between them."""
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected integers of at least 1, such as 28x28")
    return tuple(map(int, parts))


def sides(size: str | None) -> tuple[int, ...] | None:
    """Height and width as numbers."""
    return None if size is None else shape(size)


def encoding(text: str) -> str:
    """The name of a text encoding."""
    try:
        "".encode(text)  # refuses codecs of other than text, too
        info = codecs.lookup(text)
    except (LookupError, ValueError):
        raise argparse.ArgumentTypeError(
            f"got {text!r}; expected the name of an encoding, such as utf-16, latin-1 or cp1252"
        ) from None
    return "utf-8-sig" if info.name == "utf-8" else info.name


def check(path: Path | None, reading: Reading) -> None:
    """Refuse options that do not belong to the kind of data."""
    is_table = path is not None and tables.is_table(path)
    has_images = path is not None and (path.is_dir() or images.is_image(path))
    has_labels = is_table or (path is not None and path.suffix.lower() == ".npz")
    for given, shown, fits, expected in (
        ("label", repr(reading.label), is_table, "a .csv file or another table"),
        ("encoding", repr(reading.encoding), is_table, "a .csv file or another table"),
        ("task", repr(reading.task), has_labels, "a .csv file or another table, or a .npz file"),
        ("size", reading.size, has_images, "a folder of images"),
    ):
        if getattr(reading, given) is not None and not fits:
            raise InvalidValueError(f"--{given} is {shown}; expected only where --data is {expected}")
