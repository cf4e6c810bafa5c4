"""Folders of images, a folder for each class; what is wrong is said with its file."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn.cli.common import note
from fastfnn.errors import DataError

#: Of an image; and of how many its header is believed, which a damaged one claims to have.
MOST_PIXELS, _FEW_PIXELS, _PIXELS_A_BYTE = 1 << 26, 1 << 22, 4096
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

# Modes of Pillow with 8 bits a channel. Others, such as 16 bits of grey, would lose what they hold.
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_WITH_ALPHA = ("LA", "PA", "RGBA")
#: Images that cannot be read are named, so many of them.
MOST_SAID = 8


class _BadImageError(Exception):
    """What is wrong with one image."""


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


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and path.is_file()


def _kinds() -> str:
    return ", ".join(IMAGES)


class Images(NamedTuple):
    """Images in an array.

    Attributes
    ----------
    pixels : uint8
        (n, height, width) where they are grey, (n, 3, height, width) in colour.
    kept : list of int
        Which of the files these are.
    resized : int
        How many of them had another size.
    """

    pixels: NDArray[np.uint8]
    kept: list[int]
    resized: int


def read_images(
    files: Sequence[Path],
    name: str,
    size: Sequence[int] | None = None,
    fits: Callable[[tuple[int, ...]], bool] | None = None,
    like: tuple[int, ...] | None = None,
    strict: bool = False,
) -> Images:
    """Read images: in colour where any of them is, else grey.

    Parameters
    ----------
    files : sequence of path
    name : str
        What ``--data`` is.
    size : (height, width), optional
        What all are resized to. Otherwise all must be of one size.
    fits : callable of (shape), optional
        Whether a model takes such images. Where it does not take them as they are, they become grey, or coloured, if
        it takes that.
    like : tuple of int, optional
        The shape that an image must have, and whether it is grey or coloured; by default that of the first.
    strict : bool
        Whether an image that cannot be read is an error; otherwise it is said, and left out.
    """
    mode = None if like is None else ("L" if len(like) == 2 else "RGB")
    out: NDArray[np.uint8] | None = None
    kept: list[int] = []
    bad: list[str] = []
    resized = 0
    for i, file in enumerate(files):
        try:
            image = _image(file, name)
        except _BadImageError as error:
            if strict:
                raise DataError(f"{error} (without --strict it is left out)") from None
            bad.append(str(error))
            continue
        if size is not None and image.size != (size[1], size[0]):
            image, resized = image.resize((size[1], size[0])), resized + 1
        if mode is None:
            mode = "RGB" if any(map(_is_coloured, files)) else "L"
            other = "L" if mode == "RGB" else "RGB"
            if fits is not None and not fits(_pixels(image.convert(mode)).shape):
                mode = other if fits(_pixels(image.convert(other)).shape) else mode
        pixels = _pixels(image.convert(mode))
        like = like or pixels.shape
        if out is None:
            out = np.empty((len(files), *like), np.uint8)
        if pixels.shape != like:
            raise DataError(
                f"--data is {name!r}; {file} is {_described(pixels.shape)}; expected {_described(like)}, as the others "
                "(--size HxW resizes them)"
            )
        out[len(kept)] = pixels
        kept.append(i)
    if out is None:
        raise DataError(bad[0] if len(bad) == 1 else f"{bad[0]}; nor can any other of its {len(bad)} images be read")
    for said in bad[:MOST_SAID]:
        note(f"{said}; it is left out")
    if len(bad) > MOST_SAID:
        note(f"{len(bad) - MOST_SAID} more images cannot be read, and are left out")
    return Images(out[: len(kept)], kept, resized)


def _is_coloured(file: Path) -> bool:
    """As far as its header tells."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            return opened.mode in _COLOUR
    except Exception:  # what is wrong with it is said when it is read
        return False


def _pixels(image: Any) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _described(shape: tuple[int, ...]) -> str:
    return f"{shape[-2]}x{shape[-1]} in {'grey' if len(shape) == 2 else 'colour'}"


def _image(file: Path, name: str) -> Any:
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
                raise _BadImageError(f"--data is {name!r}; {file} is of mode {mode}; expected 8 bits a channel")
            pixels, held = math.prod(opened.size), file.stat().st_size
            if pixels > MOST_PIXELS or pixels > max(_FEW_PIXELS, _PIXELS_A_BYTE * held):
                shown = "x".join(map(str, opened.size[::-1]))
                raise _BadImageError(
                    f"--data is {name!r}; {file} is of {shown} pixels, says its header; expected at most "
                    f"{MOST_PIXELS:,}, and no more than its {held:,} bytes can hold"
                )
            image = ImageOps.exif_transpose(opened)
            if mode in _WITH_ALPHA or "transparency" in opened.info:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            return image.convert("L" if mode in _GREY else "RGB")
    except (_BadImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers meet what is wrong in a file as many kinds of error
        what = error.strerror if isinstance(error, OSError) and error.strerror else "it is no image, or damaged"
        raise _BadImageError(f"--data is {name!r}; {file} cannot be read: {what}") from None
