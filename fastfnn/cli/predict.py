"""``fastfnn predict``: what a model takes data for."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastfnn as ff
from fastfnn import tables
from fastfnn._paths import as_path
from fastfnn._text import count, few
from fastfnn.cli import arrays, classes, common, images, options, sources, trained
from fastfnn.cli.options import Reading
from fastfnn.cli.trained import Trained
from fastfnn.errors import DataError, InvalidValueError
from fastfnn.tables.formats import is_number
from fastfnn.training import finite
from fastfnn.training.outputs import as_labels, as_probabilities
from fastfnn_kernels._files import write_in_one_step

Array = NDArray[Any]

#: Rows of a .csv file that are written at once.
_BLOCK = 1000


class _Samples(NamedTuple):
    """What ``--data`` names: for images with their names, and where each row is."""

    x: Array
    names: list[str] | None = None
    at: Callable[[int], str] = "row {}".format


def add_command(commands: Any) -> None:
    """Add ``predict`` to the parser's commands."""
    parser = trained.add_command(commands, "predict", _predict, "say what a model takes data for")
    add = parser.add_argument
    add(
        "--data",
        metavar="FILE|FOLDER",
        required=True,
        help="a .npy file, a .npz file (its x, x_test or only array), a .csv file or another table, an image, or a "
        "folder of them",
    )
    add("--label", metavar="COLUMN", help="a table's column of classes, which is left out")
    options.add_reading(parser)
    add("--proba", action="store_true", help="give the probabilities of all classes, too")
    add(
        "--out",
        metavar="FILE",
        help="a .csv file of row (from 0) or image, and class (none where the model's outputs are NaN) or number; or a "
        ".npy file of the classes' numbers, or with --proba of the probabilities (default: .csv to stdout)",
    )
    trained.add_threads(parser)


def _predict(args: argparse.Namespace) -> None:
    model = Trained.read(args.model)
    out = None if args.out is None else trained.target("--out", args.out, (".csv", ".npy"))
    regresses = model.task == classes.REGRESSION
    if args.proba and regresses:
        raise InvalidValueError("--proba is given; expected only with a model of classes, and MODEL predicts numbers")
    samples = _inputs(args, model)
    x = samples.x
    may_hold_label = tables.is_table(Path(args.data)) and args.label is None
    trained.check_fit(model, x, args.data, " (--label COLUMN leaves one out)" if may_hold_label else "")
    predictor = ff.Predictor(model.model, x.shape[1:], x.dtype, args.threads)
    raw, last = predictor(x), predictor.model.last_layer
    shares = None
    if regresses:
        found = raw[:, 0]
    else:
        found = as_labels(last, raw, multilabel=False)
        shares = as_probabilities(last, raw, multilabel=False) if args.proba else None
        if shares is not None and model.is_binary:
            shares = np.hstack([1 - shares, shares])
    missing = _without_outputs(raw, samples)
    if missing.any():  # as `ff.predict` has it
        found = found.astype(np.result_type(found, np.float32 if regresses else np.float64))
        found[missing] = np.nan
    if out is not None and out.suffix.lower() == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, found if shares is None else shares)
        payload = buffer.getvalue()
    else:
        blocks = _table(found, shares, samples.names, model)
        if out is None:
            for block in blocks:
                common.say(block, exact=True)
            return
        payload = "".join(f"{block}\n" for block in blocks).encode("utf-8", "backslashreplace")
    try:
        write_in_one_step(out, payload)
    except OSError as error:
        raise InvalidValueError(f"--out is {args.out!r}; cannot write there: {error.strerror or error}") from None
    common.say(f"written: {args.out}, {count(len(found), 'row')}")


def _without_outputs(raw: Array, samples: _Samples) -> NDArray[np.bool_]:
    """Which rows have outputs that are NaN; it is said where they are."""
    if not finite.has_nan(raw):
        return np.zeros(len(raw), bool)
    missing = np.asarray(np.isnan(raw).any(axis=1))
    places = [samples.at(int(row)) for row in np.flatnonzero(missing)[:9]]
    common.note(
        f"the outputs for {missing.sum():,} of {count(len(raw), 'row')} are NaN, and so is what is predicted there: "
        f"{few(places)}. --data holds numbers there that are too large for {raw.dtype}, or the parameters of MODEL are "
        "NaN"
    )
    return missing


def _inputs(args: argparse.Namespace, model: Trained) -> _Samples:
    """The samples that ``--data`` names."""
    name, path = args.data, as_path(args.data, "--data")
    if not path.exists():
        raise DataError(f"--data is {name!r}; there is no such file or folder")
    reading = Reading.given(args)
    options.check(path, reading)
    kind = path.suffix.lower()
    if path.is_dir() or images.is_image(path):
        found = images.images_below(path, name) if path.is_dir() else [path]
        sides = options.sides(args.size or model.size)
        read = images.read_images(found, name, sides, model.fits, strict=reading.strict)
        if args.size is None:
            sources.say_resized(read, sides)
        kept = [found[i] for i in read.kept]
        names = [file.relative_to(path).as_posix() if path.is_dir() else file.name for file in kept]
        return _Samples(read.pixels, names, names.__getitem__)
    if tables.is_table(path):
        taker = model.taker()
        x, columns, _ = sources.read_table(
            path, name, lambda header: _unused_column(header, args, model), reading, taker
        )
        if isinstance(x, tables.Frame):
            return _Samples(sources.prepared(x, columns, taker.dtype), at=x.at)
        return _Samples(x)
    if kind == ".npy":
        return _Samples(arrays.inputs(arrays.read_npy(path, name), f"--data {name}"))
    if kind == ".npz":
        held = arrays.read_npz(path, name, lambda held: [_only(held, name)])
        key, array = next(iter(held.items()))
        return _Samples(arrays.inputs(array, key))
    raise DataError(
        f"--data is {name!r}; expected a .npy, .npz or .csv file, another table, an image, or a folder of images"
    )


def _only(held: list[str], name: str) -> str:
    """The array of a .npz file that holds the samples."""
    for key in ("x", "x_test", *(held if len(held) == 1 else ())):
        if key in held:
            return key
    raise DataError(
        f"--data is {name!r}; it holds {', '.join(held) or 'nothing'}; expected x, x_test or one array only"
    )


def _unused_column(columns: list[str], args: argparse.Namespace, model: Trained) -> int | None:
    """Where a table's column of classes is, which no model takes; None where it has none."""
    if args.label is not None:
        return tables.label_place(columns, args.data, args.label)
    if model.columns is not None:
        return None  # they are found by their names, whatever lies beside them
    taken = [shape for layer in model.model.layers if (shape := layer.taken_shape()) is not None]
    if taken and len(taken[0]) == 1 and len(columns) == (taken[0][0] or 0) + 1:
        label = model.settings.get("label")
        with contextlib.suppress(DataError):
            return tables.label_place(columns, args.data, label if label in columns else None)
    return None


def _table(found: Array, shares: Array | None, names: list[str] | None, model: Trained) -> Iterator[str]:
    """Lines of a .csv file, block by block."""
    class_names: Sequence[str] = model.class_names or [str(i) for i in range(model.classes)]
    regresses = model.task == classes.REGRESSION
    header = ["row" if names is None else "file", "prediction" if regresses else "label"]
    if shares is not None:
        header += [f"p_{name}" for name in class_names]
    shown = [as_text(name) for name in class_names]
    for start in range(0, max(1, len(found)), _BLOCK):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if start == 0:
            writer.writerow(header)
        for i, value in enumerate(found[start : start + _BLOCK], start):
            called = str(value) if regresses else "" if np.isnan(value) else shown[int(value)]
            row = [i if names is None else as_text(names[i]), called]
            writer.writerow(row if shares is None else [*row, *map(str, shares[i])])
        yield text.getvalue()[:-1]


def as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: names of classes and files are other people's."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number(cell) else cell
