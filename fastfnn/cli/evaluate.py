"""``fastfnn evaluate``: how well a model does on data with known classes, or known numbers."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn as ff
from fastfnn._text import count, harmless
from fastfnn.cli import classes, common, options, sources, trained
from fastfnn.cli.options import Reading
from fastfnn.cli.trained import Trained
from fastfnn.errors import DataError, InvalidValueError
from fastfnn.report.scores import ClassScores, NumberScores, baseline, figure

Array = NDArray[Any]

#: With more classes the table of them is left out.
MOST_SHOWN = 20


def add_command(commands: Any) -> None:
    """Add ``evaluate`` to the parser's commands."""
    parser = trained.add_command(
        commands, "evaluate", _evaluate, "say how well a model does on data with known classes or numbers"
    )
    add = parser.add_argument
    options.add(
        parser,
        required=True,
        help=f"{', '.join(sources.PIXELS)}, a .npz file of x_test and y_test or x_train and y_train, a .csv file or "
        "another table, or a folder of images by class",
    )
    add("--part", choices=("train", "test"), help="(default: test where there is such a set, else everything)")
    add(
        "--seed",
        type=common.seed,
        metavar="N",
        help="draws what --part means where there is no test set, as in training (default: the training's, else 0)",
    )
    trained.add_threads(parser)
    add("--json", action="store_true", help="print everything as JSON")


@dataclass(frozen=True)
class _Asked:
    """A model and data that it is to be compared with."""

    args: argparse.Namespace
    model: Trained
    source: sources.Source
    x: Array
    y: Array
    part: str

    @property
    def header(self) -> str:
        model, x = self.model.model, self.x
        noun = "image" if x.ndim > 2 else "sample"
        shape = " x ".join(map(str, x.shape[1:]))
        return (
            f"model  {self.args.model}, {model.n_parameters:,} parameters, {model.dtype}\n"
            f"data   {self.source.name}, {self.part}: {count(len(self.y), noun)}, {shape} {x.dtype}\n"
        )

    def say_json(self, figures: dict[str, Any]) -> None:
        args = self.args
        first = {"model": args.model, "data": args.data, "part": self.part, "rows": len(self.y)}
        common.say(json.dumps({**first, **figures}, indent=2))


def _evaluate(args: argparse.Namespace) -> None:
    model = Trained.read(args.model)
    taker = model.taker(model.settings.get("label"), args.part)
    source = sources.read(args.data, Reading.given(args), taker)
    (x, y), part = _part(source, args, model)
    trained.check_fit(model, x, args.data)
    say = _say_numbers if model.task == classes.REGRESSION else _say_classes
    say(_Asked(args, model, source, x, y, part))


def _say_numbers(asked: _Asked) -> None:
    target = asked.model.target
    assert target is not None
    guess = ff.predict_raw(asked.model.model, asked.x, n_threads=asked.args.threads)[:, 0]
    scores = NumberScores.of(guess, asked.y, target.mean)
    if asked.args.json:
        asked.say_json({name: _or_none(value) for name, value in asdict(scores).items()})
        return
    common.say(
        f"{asked.header}\n"
        f"R²                       {scores.r2:.4f}\n"
        f"mean absolute error      {figure(scores.mean_absolute_error)}\n"
        f"root mean squared error  {figure(scores.root_mean_squared_error)}\n"
        f"baseline                 {figure(scores.baseline)} (mean absolute error of always saying "
        f"{figure(target.mean)}, the training's mean)"
    )


def _say_classes(asked: _Asked) -> None:
    model, y, n_threads = asked.model, asked.y, asked.args.threads
    if int(y.max()) >= model.classes:
        raise DataError(
            f"--data is {asked.args.data!r}; it holds the label {y.max()}; expected 0 to {model.classes - 1}, as MODEL "
            "has"
        )
    loss = _loss(model, asked.x, y, n_threads)
    task = "binary" if model.is_binary else "classification"
    guess = ff.predict(model.model, asked.x, task=task, n_threads=n_threads)
    scores, right = ClassScores.of(guess, y, model.classes), guess == y
    most, least = baseline(y, y)
    names = asked.source.class_names or model.class_names or [str(i) for i in range(model.classes)]
    means = {name: scores.mean(name) for name in ("precision", "recall", "f1")}
    if asked.args.json:
        columns = {"accuracy": scores.recall, "precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
        by_class = [
            {"class": name, "rows": int(rows), **{key: _or_none(column[i]) for key, column in columns.items()}}
            for i, (name, rows) in enumerate(zip(names, scores.rows, strict=True))
        ]
        figures = {"loss": _or_none(loss), "accuracy": float(right.mean()), **means}
        asked.say_json({**figures, "baseline": least, "most_frequent": names[most], "classes": by_class})
        return
    common.say(
        f"{asked.header}\n"
        f"loss      {loss:.4f}\n"
        f"accuracy  {common.percent(right.mean())} ({right.sum():,} of {len(y):,})\n"
        f"F1        {means['f1']:.4f} (mean of the classes; precision {means['precision']:.4f}, recall "
        f"{means['recall']:.4f})\n"
        f"baseline  {common.percent(least)} (accuracy of always saying {names[most]})"
    )
    if model.classes <= MOST_SHOWN:
        common.say("\n" + _table(scores, [harmless(name) for name in names]))


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


def _table(scores: ClassScores, names: list[str]) -> str:
    width = max(5, *map(len, names))
    lines = [f"{'class':{width}}  {'rows':>7}  {'accuracy':>9}  {'precision':>9}  {'recall':>6}  {'F1':>6}"]
    for i, name in enumerate(names):
        accuracy = common.percent(scores.recall[i]) if scores.rows[i] else "-"
        precision, recall, f1 = (
            f"{values[i]:.4f}" if math.isfinite(values[i]) else "-"
            for values in (scores.precision, scores.recall, scores.f1)
        )
        lines.append(f"{name:{width}}  {scores.rows[i]:7,}  {accuracy:>9}  {precision:>9}  {recall:>6}  {f1:>6}")
    return "\n".join(lines)


def _part(source: sources.Source, args: argparse.Namespace, model: Trained) -> tuple[sources.Part, str]:
    """The part that is asked for, and what it is called."""
    asked = args.part
    if source.has_test:
        (kind,) = source.parts
        return source.parts[kind], {"train": "training set", "val": "validation set", "test": "test set"}[kind]
    if asked is None:
        return source.parts["train"], "everything"
    if (validation := model.settings.get("validation")) is not None and args.seed is None:
        raise InvalidValueError(
            f"--part is {asked!r}, and MODEL's training held nothing of its data out; expected --data {validation} for "
            "what it was validated with"
        )
    seed = model.settings.get("seed", 0) if args.seed is None else args.seed
    train, test = sources.hold_out(source.parts["train"], seed, source.name)
    if asked == "test":
        return test, f"the tenth that seed {seed} holds out"
    return train, f"all but the tenth that seed {seed} holds out"


def _loss(trained: Trained, x: Array, y: NDArray[np.int64], n_threads: int | None) -> float:
    """The cross-entropy of what the model's last layer gives: logits, probabilities, or their logarithms."""
    model, loss, target = trained.model, ff.CrossEntropyLoss(), y
    last = model.last_layer
    if trained.is_binary or isinstance(last, ff.Sigmoid):
        loss = ff.BCELoss() if isinstance(last, ff.Sigmoid) else ff.BCEWithLogitsLoss()
        target = y[:, None] if trained.is_binary else ff.data.one_hot(y, trained.classes)
        target = target.astype(model.dtype)
    elif isinstance(last, (ff.LogSoftmax, ff.Log)):
        loss = ff.NLLLoss()
    elif isinstance(last, ff.Softmax):
        model, loss = ff.Sequential(*model.layers, ff.Log(), dtype=model.dtype), ff.NLLLoss()
    return ff.evaluate(model, x, target, loss=loss, n_threads=n_threads).loss
