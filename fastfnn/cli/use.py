"""``fastfnn evaluate``, ``fastfnn predict``, ``fastfnn export``: what a trained model is good for."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn as ff
from fastfnn._paths import as_path
from fastfnn._text import harmless
from fastfnn.cli import common, datasets, files
from fastfnn.cli.trained import Trained
from fastfnn.errors import DataError, InvalidValueError
from fastfnn.training.inference import as_labels, as_probabilities
from fastfnn_kernels._files import write_in_one_step

Array = NDArray[Any]

#: With more classes the table of them is left out.
MOST_SHOWN = 20
#: Rows of a .csv file that are written at once.
_BLOCK = 1000


def add_commands(commands: Any) -> None:
    """Add ``evaluate``, ``predict`` and ``export`` to the parser's commands."""
    evaluate = _command(commands, "evaluate", _evaluate, "say how well a model does on data with known classes")
    known = ", ".join(datasets.PIXELS)
    datasets.add_options(
        evaluate,
        required=True,
        help=f"{known}, a .npz file of x_test and y_test or x_train and y_train, a .csv file, or a folder of images by "
        "class",
    )
    add = evaluate.add_argument
    add("--part", choices=("train", "test"), help="(default: test where there is such a set, else everything)")
    add(
        "--seed",
        type=common.seed,
        metavar="N",
        help="draws what --part means where there is no test set, as in training (default: the training's, else 0)",
    )
    _add_threads(evaluate)
    add("--json", action="store_true", help="print everything as JSON")

    predict = _command(commands, "predict", _predict, "say what a model takes data for")
    add = predict.add_argument
    add(
        "--data",
        metavar="FILE|FOLDER",
        required=True,
        help="a .npy file, a .npz file (its x, x_test or only array), a .csv file, an image, or a folder of them",
    )
    add("--label", metavar="COLUMN", help="a .csv file's column of classes, which is left out")
    add("--size", type=datasets.size, metavar="HxW", help="resize images, such as 28x28 (default: as in training)")
    add("--proba", action="store_true", help="give the probabilities of all classes, too")
    add(
        "--out",
        metavar="FILE",
        help="a .csv file of row (from 0) or image, and class; or a .npy file of the classes' numbers, or with --proba "
        "of the probabilities (default: .csv to stdout)",
    )
    _add_threads(predict)

    export = _command(commands, "export", _export, "write a model for other runtimes")
    add = export.add_argument
    add("--onnx", metavar="FILE", required=True, help="the ONNX file to write")
    add(
        "--input-shape",
        type=datasets.shape,
        metavar="HxW",
        help="of one sample, such as 28x28, 3x32x32 or 4 (default: what the model tells)",
    )
    add(
        "--input-dtype",
        choices=("uint8", "float32", "float64"),
        help="(default: uint8 where the model was made for bytes, else the model's own)",
    )


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, allow_abbrev=False)
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="MODEL", help="the folder of train --out, or a file that ff.save wrote")
    return parser


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=common.positive_int, metavar="N", help="(default: as many as pay)")


# evaluate


def _evaluate(args: argparse.Namespace) -> None:
    trained = Trained.read(args.model)
    taker = datasets.Taker(
        trained.classes,
        trained.class_names,
        trained.fits,
        trained.settings.get("label"),
        trained.size,
        args.part,
        trained.columns,
    )
    source = datasets.read(args.data, args.data_root, args.label, args.size, taker)
    seed = trained.settings.get("seed", 0) if args.seed is None else args.seed
    (x, y), part = _part(source, args.part, seed)
    _check_fit(trained, x, args.data)
    if int(y.max()) >= trained.classes:
        raise DataError(
            f"--data is {args.data!r}; it holds the label {y.max()}; expected 0 to {trained.classes - 1}, as MODEL has"
        )
    loss = _loss(trained, x, y, args.threads)
    right = ff.predict(trained.model, x, n_threads=args.threads) == y
    names = source.class_names or trained.class_names or [str(i) for i in range(trained.classes)]
    rows = np.bincount(y, minlength=trained.classes)
    hits = np.bincount(y[right], minlength=trained.classes)
    by_class = [
        {"class": name, "rows": int(n), "accuracy": int(k) / int(n) if n else None}
        for name, n, k in zip(names, rows, hits, strict=True)
    ]
    if args.json:
        figures = {"model": args.model, "data": args.data, "part": part, "rows": len(y)}
        figures |= {"loss": loss if math.isfinite(loss) else None, "accuracy": float(right.mean()), "classes": by_class}
        common.say(json.dumps(figures, indent=2))
        return
    noun = "image" if x.ndim > 2 else "sample"
    shape = " x ".join(map(str, x.shape[1:]))
    common.say(
        f"model  {args.model}, {trained.model.n_parameters:,} parameters, {trained.model.dtype}\n"
        f"data   {source.name}, {part}: {common.count(len(y), noun)}, {shape} {x.dtype}\n\n"
        f"loss      {loss:.4f}\n"
        f"accuracy  {common.percent(right.mean())} ({right.sum():,} of {len(y):,})"
    )
    if trained.classes <= MOST_SHOWN:
        shown_names = [harmless(name) for name in names]
        width = max(5, *map(len, shown_names))
        lines = [f"{'class':{width}}  {'rows':>7}  {'accuracy':>9}"]
        for name, each in zip(shown_names, by_class, strict=True):
            shown = "-" if each["accuracy"] is None else common.percent(each["accuracy"])
            lines.append(f"{name:{width}}  {each['rows']:7,}  {shown:>9}")
        common.say("\n" + "\n".join(lines))


def _part(source: datasets.Source, asked: str | None, seed: int) -> tuple[datasets.Part, str]:
    """The part that is asked for, and what it is called."""
    if source.has_test:
        return (source.parts["train"], "training set") if asked == "train" else (source.parts["test"], "test set")
    if asked is None:
        return source.parts["train"], "everything"
    train, test = datasets.hold_out(source, seed)
    if asked == "test":
        return test, f"the tenth that seed {seed} holds out"
    return train, f"all but the tenth that seed {seed} holds out"


def _loss(trained: Trained, x: Array, y: NDArray[np.int64], n_threads: int | None) -> float:
    """The cross-entropy of what the model's last layer gives: logits, probabilities, or their logarithms."""
    model, loss, target = trained.model, ff.CrossEntropyLoss(), y
    last = model.layers[-1]
    if trained.is_binary or isinstance(last, ff.Sigmoid):
        loss = ff.BCELoss() if isinstance(last, ff.Sigmoid) else ff.BCEWithLogitsLoss()
        target = y[:, None] if trained.is_binary else ff.data.one_hot(y, trained.classes)
        target = target.astype(model.dtype)
    elif isinstance(last, (ff.LogSoftmax, ff.Log)):
        loss = ff.NLLLoss()
    elif isinstance(last, ff.Softmax):
        model, loss = ff.Sequential(*model.layers, ff.Log(), dtype=model.dtype), ff.NLLLoss()
    return ff.evaluate(model, x, target, loss=loss, n_threads=n_threads).loss


def _check_fit(trained: Trained, x: Array, name: str, hint: str = "") -> None:
    try:
        trained.model.output_shape(x.shape[1:])
    except InvalidValueError as error:
        came, was = ("x".join(map(str, shape or ())) for shape in (x.shape[1:], trained.shape))
        why = f"; expected {was}, as in training" if was else f", which MODEL does not take: {error}"
        raise DataError(f"--data is {name!r}; its samples have shape {came}{why}{hint}") from None


# predict


def _predict(args: argparse.Namespace) -> None:
    trained = Trained.read(args.model)
    out = None if args.out is None else _target("--out", args.out, (".csv", ".npy"))
    x, names = _inputs(args, trained)
    is_table = files.is_csv(args.data) and args.label is None
    _check_fit(trained, x, args.data, " (--label COLUMN leaves one out)" if is_table else "")
    predictor = ff.Predictor(trained.model, x.shape[1:], x.dtype, args.threads)
    raw, last = predictor(x), predictor.model.layers[-1]
    labels = as_labels(last, raw, multilabel=False)
    shares = as_probabilities(last, raw, multilabel=False) if args.proba else None
    if shares is not None and trained.is_binary:
        shares = np.hstack([1 - shares, shares])
    if out is not None and out.suffix.lower() == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, labels if shares is None else shares)
        payload = buffer.getvalue()
    else:
        blocks = _table(labels, shares, names, trained)
        if out is None:
            for block in blocks:
                common.say(block, exact=True)
            return
        payload = "".join(f"{block}\n" for block in blocks).encode("utf-8", "backslashreplace")
    try:
        write_in_one_step(out, payload)
    except OSError as error:
        raise InvalidValueError(f"--out is {args.out!r}; cannot write there: {error.strerror or error}") from None
    common.say(f"written: {args.out}, {common.count(len(labels), 'row')}")


def _inputs(args: argparse.Namespace, trained: Trained) -> tuple[Array, list[str] | None]:
    """The samples that ``--data`` names; for images their names, too."""
    name, path = args.data, as_path(args.data, "--data")
    if not path.exists():
        raise DataError(f"--data is {name!r}; there is no such file or folder")
    datasets.check_options(path, args.label, args.size)
    kind = path.suffix.lower()
    if path.is_dir() or files.is_image(path):
        found = files.images_below(path, name) if path.is_dir() else [path]
        x = files.read_images(found, name, datasets.sides(args.size or trained.size), trained.fits)
        return x, [file.relative_to(path).as_posix() if path.is_dir() else file.name for file in found]
    if kind == ".csv":
        table = files.read_csv(path, name, lambda header: _unused_column(header, args, trained), trained.columns)
        return table.x, None
    if kind == ".npy":
        return datasets.inputs(files.read_npy(path, name), f"--data {name}"), None
    if kind == ".npz":
        arrays = files.read_npz(path, name, lambda held: [_only(held, name)])
        key, array = next(iter(arrays.items()))
        return datasets.inputs(array, key), None
    raise DataError(f"--data is {name!r}; expected a .npy, .npz or .csv file, an image, or a folder of images")


def _only(held: list[str], name: str) -> str:
    """The array of a .npz file that holds the samples."""
    for key in ("x", "x_test", *(held if len(held) == 1 else ())):
        if key in held:
            return key
    raise DataError(
        f"--data is {name!r}; it holds {', '.join(held) or 'nothing'}; expected x, x_test or one array only"
    )


def _unused_column(columns: list[str], args: argparse.Namespace, trained: Trained) -> int | None:
    """Where a table's column of classes is, which no model takes; None where it has none."""
    if args.label is not None:
        return files.label_place(columns, args.data, args.label)
    taken = [shape for layer in trained.model.layers if (shape := layer.taken_shape()) is not None]
    if taken and len(taken[0]) == 1 and len(columns) == (taken[0][0] or 0) + 1:
        label = trained.settings.get("label")
        with contextlib.suppress(DataError):
            return files.label_place(columns, args.data, label if label in columns else None)
    return None


def _table(labels: NDArray[np.int64], shares: Array | None, names: list[str] | None, trained: Trained) -> Iterator[str]:
    """Lines of a .csv file, block by block."""
    classes = trained.class_names or [str(i) for i in range(trained.classes)]
    header = ["row" if names is None else "file", "label"]
    if shares is not None:
        header += [f"p_{name}" for name in classes]
    shown = [as_text(name) for name in classes]
    for start in range(0, len(labels), _BLOCK):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if start == 0:
            writer.writerow(header)
        for i, label in enumerate(labels[start : start + _BLOCK], start):
            row = [i if names is None else as_text(names[i]), shown[label]]
            writer.writerow(row if shares is None else [*row, *map(str, shares[i])])
        yield text.getvalue()[:-1]


def as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: names of classes and files are other people's."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not files.is_number(cell) else cell


# export


def _export(args: argparse.Namespace) -> None:
    trained = Trained.read(args.model)
    target = _target("--onnx", args.onnx)
    shape = args.input_shape or trained.shape
    dtype = args.input_dtype or ("uint8" if trained.takes_bytes else trained.model.dtype.name)
    if shape is None and trained.flattens_first:
        raise InvalidValueError(
            "--input-shape is not given; expected the shape of one sample, such as 28x28, which MODEL does not tell"
        )
    try:
        ff.export_onnx(trained.model, target, input_shape=shape, input_dtype=dtype)
    except ImportError as error:
        raise InvalidValueError(f"--onnx: {error}") from None
    except InvalidValueError as error:
        raise InvalidValueError(str(error).replace("input_shape is", "--input-shape is", 1)) from None
    except OSError as error:
        raise InvalidValueError(f"--onnx is {args.onnx!r}; cannot write there: {error.strerror or error}") from None
    x = "" if shape is None else f"x ({', '.join(['n', *map(str, shape)])}) "
    common.say(f"written: {args.onnx}, {x}{dtype} to y (n, {trained.outputs}) {trained.model.dtype}")


# Files


def _target(argument: str, name: str, kinds: tuple[str, ...] = ()) -> Path:
    """Where a file is to be written; what can be known to fail fails now."""
    path = as_path(name, argument)
    if kinds and path.suffix.lower() not in kinds:
        raise InvalidValueError(f"{argument} is {name!r}; expected a {' or '.join(kinds)} file")
    if path.is_dir() or not path.parent.is_dir():
        problem = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InvalidValueError(f"{argument} is {name!r}; {problem}")
    return path
