"""Readers of what ``--data`` may name: .npz and .csv files, folders of images. What is wrong is said with its place."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from array import array
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn.cli.common import few
from fastfnn.data.idx import DEFLATE_MAX_RATIO
from fastfnn.errors import DataError

Array = NDArray[Any]

#: What the column of the classes is called where ``--label`` does not say; the first of them counts.
LABELS = ("label", "class", "target", "y")
#: Of a table; a file with more is none, or was written the wrong way round.
MOST_COLUMNS = 100_000
#: Of an image; and of how many its header is believed, which a damaged one claims to have.
MOST_PIXELS, _FEW_PIXELS, _PIXELS_A_BYTE = 1 << 26, 1 << 22, 4096
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

# Modes of Pillow with 8 bits a channel. Others, such as 16 bits of grey, would lose what they hold.
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_WITH_ALPHA = ("LA", "PA", "RGBA")


# Arrays


def read_npz(path: Path, name: str, choose: Callable[[list[str]], Sequence[str]]) -> dict[str, Array]:
    """The arrays of a .npz file that `choose` picks from the names of all."""
    archive = _loaded(path, name)
    if archive is None or isinstance(archive, np.ndarray):  # an array: a .npy file
        raise DataError(f"--data is {name!r}; expected a .npz file, as numpy.savez writes it")
    with archive:
        held = few(archive.files)
        arrays = {}
        for key in choose(archive.files):
            if key not in archive.files:
                raise DataError(f"--data is {name!r}; it lacks {key}: it holds {held or 'nothing'}")
            try:
                _check_member(archive, key)
                arrays[key] = np.asarray(archive[key])
            except Exception as error:  # numpy and zipfile meet what is wrong in a file as many kinds of error
                raise DataError(f"--data is {name!r}; its {key} cannot be read: {error}") from None
    return arrays


def _check_member(archive: Any, key: str) -> None:
    """Refuse a member that promises more than it can hold: NumPy takes the memory before it reads."""
    infos = {info.filename: info for info in archive.zip.infolist()}
    info = infos.get(f"{key}.npy", infos.get(key))
    if info is None:
        return
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("expected a member as numpy.savez or numpy.savez_compressed writes it")
    with archive.zip.open(info) as file:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"its format is {version}; expected one of {', '.join(map(str, readers))}")
        shape, _, dtype = readers[version](file)
    promised = math.prod(shape) * dtype.itemsize
    if promised > min(info.file_size, DEFLATE_MAX_RATIO * info.compress_size):
        raise ValueError(f"its header promises {promised:,} bytes, it holds {info.compress_size:,}")


def read_npy(path: Path, name: str) -> Array:
    loaded = _loaded(path, name)
    if not isinstance(loaded, np.ndarray):
        raise DataError(f"--data is {name!r}; expected a .npy file, as numpy.save writes it")
    return loaded


def _loaded(path: Path, name: str) -> Any:
    """What numpy makes of a file; None where it can make nothing of it."""
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataError(f"--data is {name!r}; it cannot be read: {error.strerror or error}") from None
    except Exception:
        return None


# Tables


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


def read_csv(
    path: Path, name: str, choose: Callable[[list[str]], int | None], wanted: Sequence[str] | None = None
) -> Table:
    """Read a table with a header; `choose` finds the column of the classes among the names of all.

    The others are all taken, or, by their names, those that are `wanted`.
    """
    where = f"--data is {name!r};"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, skipinitialspace=True)
            header = _header(next(rows, []), where)
            place, start = choose(header), rows.line_num
            names, codes = _classes(rows, header, place, where)
        if not codes:
            raise DataError(f"{where} expected rows below its header")
        features = [i for i in range(len(header)) if i != place] if wanted is None else _places(header, wanted, where)
        if not features:
            raise DataError(f"{where} expected columns of numbers beside {header[0]!r}")
        x = _quick_numbers(path, start, features)
        if x is None or len(x) != len(codes) or not np.isfinite(x).all():
            x = _numbers(path, header, features, where)
    except OSError as error:
        raise DataError(f"{where} it cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{where} expected text in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{where} expected a table with commas between its columns: {error}") from None
    classes = None if place is None else np.array(codes, np.int64)
    return Table(x, [header[i] for i in features], classes, names)


def _places(header: list[str], wanted: Sequence[str], where: str) -> list[int]:
    places = {column: i for i, column in enumerate(header)}
    lacking = [column for column in wanted if column not in places]
    if lacking:
        raise DataError(f"{where} it has no column {lacking[0]!r}; expected those of the training: {few(wanted)}")
    return [places[column] for column in wanted]


def label_place(columns: list[str], name: str, label: str | None) -> int:
    """Where the column of the classes is: the one called `label`, else the first that is called as one of `LABELS`."""
    wanted = LABELS if label is None else (label,)
    called = [column.casefold() for column in columns] if label is None else columns
    for want in wanted:
        if want in called:
            return called.index(want)
    shown = few(columns)
    if label is None:
        raise DataError(
            f"--data is {name!r}; expected --label COLUMN, the one of its columns that is the class: {shown}"
        )
    raise DataError(f"--label is {label!r}; expected one of the columns of {name}: {shown}")


def _header(cells: list[str], where: str) -> list[str]:
    columns = [cell.strip() for cell in cells]
    if not columns:
        raise DataError(f"{where} expected a header: a first row that names the columns")
    if len(columns) > MOST_COLUMNS:
        raise DataError(f"{where} it has {len(columns):,} columns; expected at most {MOST_COLUMNS:,}")
    known: set[str] = set()
    for i, column in enumerate(columns):
        if not column:
            raise DataError(f"{where} its column {i + 1} has no name; expected a header that names all columns")
        if column in known:
            raise DataError(f"{where} two columns are called {column!r}; expected a header that names each differently")
        known.add(column)
    counted = [[str(i) for i in range(start, start + len(columns))] for start in (0, 1)]
    if columns not in counted and all(map(is_number, columns)):
        raise DataError(f"{where} its first row holds numbers; expected a header that names the columns")
    if len(columns) == 1 and {";", "\t"} & set(columns[0]):
        raise DataError(f"{where} its header is {columns[0]!r}; expected commas between the columns")
    return columns


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
            raise DataError(f"{where} its line {rows.line_num} has no {header[place]}; expected a class in each row")
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
                    came = f"holds {row[i]!r}" if row[i].strip() else "is empty"
                    raise DataError(
                        f"{where} its line {rows.line_num} {came} in column {header[i]!r}; expected a finite number"
                    )
                numbers.append(float(row[i]))
    return np.array(numbers).reshape(-1, len(features))


def is_number(text: str) -> bool:
    """Whether `text` is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# Images


def image_classes(folder: Path, name: str) -> dict[str, list[Path]]:
    """The images of each class, a folder of them for each."""
    classes = {}
    for path in visible(folder):
        if path.is_dir():
            files = [file for file in visible(path) if is_image(file)]
            if not files:
                raise DataError(f"--data is {name!r}; its folder {path.name!r} holds no images ({_kinds()})")
            classes[path.name] = files
    if not classes:
        below = "" if folder == Path(name) else f" in its {folder.name}"
        raise DataError(f"--data is {name!r}; expected folders of images{below}, one for each class")
    return classes


def images_below(folder: Path, name: str) -> list[Path]:
    """All images of a folder and of those below it."""
    found = sorted(path for path in folder.rglob("*") if is_image(path) and not hidden(path.relative_to(folder)))
    if not found:
        raise DataError(f"--data is {name!r}; it holds no images ({_kinds()})")
    return found


def visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and path.is_file()


def _kinds() -> str:
    return ", ".join(IMAGES)


def read_images(
    files: Collection[Path],
    name: str,
    size: Sequence[int] | None = None,
    fits: Callable[[tuple[int, ...]], bool] | None = None,
    like: tuple[int, ...] | None = None,
) -> NDArray[np.uint8]:
    """Images as uint8 arrays: (n, height, width) of grey ones, (n, 3, height, width) of those in colour.

    Parameters
    ----------
    files : collection of path
    name : str
        What ``--data`` is.
    size : (height, width), optional
        What all are resized to. Otherwise all must be of one size.
    fits : callable of (shape), optional
        Whether a model takes such images. Where it does not take them as they are, they become grey, or coloured, if
        it takes that.
    like : tuple of int, optional
        The shape that an image must have; by default that of the first.
    """
    out: NDArray[np.uint8] | None = None
    convert = None
    for i, file in enumerate(files):
        image = _image(file, name, size)
        if out is None:
            if fits is not None and not fits(_pixels(image).shape):
                other = "RGB" if image.mode == "L" else "L"
                convert = other if fits(_pixels(image.convert(other)).shape) else None
            first = _pixels(image.convert(convert) if convert else image)
            like = like or first.shape
            out = np.empty((len(files), *like), np.uint8)
        pixels = _pixels(image.convert(convert) if convert else image)
        if pixels.shape != like:
            assert like is not None
            hint = "" if pixels.shape[-2:] == like[-2:] else " (--size HxW resizes them)"
            raise DataError(
                f"--data is {name!r}; {file} is {_described(pixels.shape)}; expected {_described(like)}, as the others"
                + hint
            )
        out[i] = pixels
    assert out is not None
    return out


def _pixels(image: Any) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _described(shape: tuple[int, ...]) -> str:
    return f"{shape[-2]}x{shape[-1]} in {'grey' if len(shape) == 2 else 'colour'}"


def _image(file: Path, name: str, size: Sequence[int] | None) -> Any:
    """An image of mode L or RGB, as a viewer shows it: turned as its camera was, transparency over white."""
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise DataError(
            f'--data is {name!r}; reading images needs the package Pillow (pip install "fastfnn[images]")'
        ) from None
    try:
        # From memory: there a length that the file only claims to have reserves nothing.
        with Image.open(io.BytesIO(file.read_bytes())) as opened:
            mode = opened.mode
            if mode not in _GREY + _COLOUR:
                raise DataError(f"--data is {name!r}; {file} is of mode {mode}; expected 8 bits a channel")
            pixels, held = math.prod(opened.size), file.stat().st_size
            if pixels > MOST_PIXELS or pixels > max(_FEW_PIXELS, _PIXELS_A_BYTE * held):
                shown = "x".join(map(str, opened.size[::-1]))
                raise DataError(
                    f"--data is {name!r}; {file} is of {shown} pixels, says its header; expected at most "
                    f"{MOST_PIXELS:,}, and no more than its {held:,} bytes can hold"
                )
            image = ImageOps.exif_transpose(opened)
            if mode in _WITH_ALPHA or "transparency" in opened.info:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            image = image.convert("L" if mode in _GREY else "RGB")
    except DataError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers meet what is wrong in a file as many kinds of error
        what = error.strerror if isinstance(error, OSError) and error.strerror else "it is no image, or damaged"
        raise DataError(f"--data is {name!r}; {file} cannot be read: {what}") from None
    return image if size is None else image.resize((size[1], size[0]))
