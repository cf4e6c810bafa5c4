"""``fastfnn train``: train a network, say how well it does, write what came of it."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastfnn as ff
from fastfnn import report, tables
from fastfnn._text import count
from fastfnn.cli import choices, classes, common, datasets, options, outputs, results
from fastfnn.engine.sparsity import LEAST_ROWS
from fastfnn.errors import InvalidValueError
from fastfnn.training import callbacks

#: What the command line holds that is no setting of a training.
NO_SETTINGS = ("command", "run", "out", "resume", "quiet", "overwrite", "strict")
#: What may be given beside --resume.
WITH_RESUME = ("command", "run", "resume", "epochs", "threads", "quiet", "strict")
#: Epochs without a better validation loss that end a training with --early-stopping.
PATIENCE = 10


def add_command(commands: Any) -> None:
    """Add ``train`` to the parser's commands."""
    train = commands.add_parser(
        "train", help="train a network and say how well it does on test data", allow_abbrev=False
    )
    train.set_defaults(run=lambda args: _train(args, train))
    add, default, shown = train.add_argument, choices.DEFAULTS, choices.shown
    # No defaults here: beside --resume it matters what was given.
    options.add(
        train,
        help=f"{', '.join(datasets.PIXELS)}; a .npz file that holds x_train and y_train, perhaps x_test and y_test; a "
        "table: .csv or .tsv, perhaps .gz, .parquet, .xlsx; a folder of images, FOLDER/CLASS/*.png and the like, or "
        "FOLDER/train/CLASS beside FOLDER/val/CLASS or FOLDER/test/CLASS or both (default: "
        f"{default['data']}, 10,000 images that come with fastfnn)",
    )
    add(
        "--validation",
        metavar="FILE|FOLDER",
        help="data of the same kind to validate with (default: what --data has for that, else a tenth of it)",
    )
    add(
        "--task",
        choices=classes.TASKS,
        help="what a table's label, or y_train of a .npz file, is (default: regression where a table's holds "
        f"fractions, or more than {classes.MANY} different integers)",
    )
    suits = f"(default: {default['model']}, or {choices.SMALL_CNN} for images in colour)"
    add("--model", choices=choices.CHOICES, help=suits)
    sizes = "sizes of an mlp's hidden layers (default: 100)"
    add("--hidden", nargs="*", type=common.positive_int, metavar="N", help=sizes)
    add("--activation", choices=choices.ACTIVATIONS, help="of an mlp's hidden layers (default: relu)")
    dropped = "share of an mlp's hidden outputs that a step of the training leaves out (default: 0)"
    add("--dropout", type=common.share, metavar="P", help=dropped)
    rows = f"rows of a step (default: {shown('batch_size')})"
    add("--batch-size", type=common.batch_size, metavar="N|full", help=rows)
    epochs = f"(default: {shown('epochs')}; {choices.NUMBERS.epochs} where it learns to predict numbers)"
    add("--epochs", type=common.positive_int, metavar="N", help=epochs)
    add(
        "--optimizer",
        choices=choices.OPTIMIZERS,
        help=f"momentum is sgd with 0.9 of it (default: {shown('optimizer')}; {choices.NUMBERS.optimizer} for numbers)",
    )
    add("--lr", type=common.rate, metavar="X", help="learning rate (default: what suits the model and the optimizer)")
    add(
        "--schedule",
        choices=choices.SCHEDULES,
        help=f"how the learning rate goes on from there (default: {default['schedule']})",
    )
    balanced = "let every class count alike, however many rows it has"
    add("--class-weight", choices=("balanced",), help=balanced)
    add(
        "--early-stopping",
        nargs="?",
        const=PATIENCE,
        type=common.positive_int,
        metavar="N",
        help=f"end after N epochs (default: {PATIENCE}) without a better validation loss, and keep the best; without "
        "validation data, a tenth of the training's rows is held out for it",
    )
    draws = f"of the weights and of the order (default: {default['seed']})"
    add("--seed", type=common.seed, metavar="N", help=draws)
    threads = "(default: every core where a step is worth it, else 1)"
    add("--threads", type=common.positive_int, metavar="N", help=threads)
    add("--dtype", choices=("float32", "float64"), help=f"(default: {default['dtype']})")
    add("--out", metavar="DIR", help=f"folder for {', '.join(outputs.FILES[:-1])} and {outputs.FILES[-1]}")
    add(
        "--resume",
        metavar="DIR",
        help="go on with a training that --out DIR began, as if it had not ended; beside it --epochs N (in all), "
        "--threads and --quiet only",
    )
    add("--overwrite", action="store_const", const=True, help="let --out replace a finished training")
    add("--quiet", action="store_true", help="print nothing but the test accuracy")


def _train(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    resumed = args.resume is not None
    before = _take_up(args, parser) if resumed else {}
    choices.fill_in_data(args)
    if args.out is not None and not resumed:
        outputs.check_unfinished(args.out, args.overwrite)
    data = datasets.load(
        args.data,
        args.data_root,
        args.seed,
        args.label,
        args.size,
        encoding=args.encoding,
        task=args.task,
        strict=bool(args.strict),
        validation=args.validation,
        stops_early=args.early_stopping is not None,
        dtype=args.dtype,
    )
    if data.columns is not None or data.target is not None:
        _settle_task(args, data)
    choices.fill_in(args, data)
    model = choices.make(data, args)
    settings = {name: value for name, value in vars(args).items() if name not in NO_SETTINGS}
    kept = {"fastfnn": ff.__version__, "settings": settings, "class_names": data.class_names}
    kept["columns"] = data.columns and [column.to_json() for column in data.columns]
    if data.target is not None:
        kept["target"] = {"mean": data.target.mean, "std": data.target.std}
    out, done = None, 0
    if args.out is not None:
        out = outputs.writable("--resume" if resumed else "--out", args.out)
        kept["arrays"] = outputs.arrays(data)
        if resumed:
            outputs.check_unchanged(args.resume, before, kept["arrays"])
            done = _checked_epochs(out, data, args)
    header = _header(data, model, args, done)
    if not args.quiet:
        common.say("\n".join(f"{name:<6} {line}" for name, line in header.items()))
        if made := tables.described(data.columns or ()):
            common.say(f"\n{made}\n")

    preparation = _prepare(data, args)
    if out is not None:
        outputs.begin(out, kept, resumed)
    try:
        outcome = _fit(model, data, args, out)
    except KeyboardInterrupt as interrupt:
        if out is None or not (out / outputs.CHECKPOINT).is_file():
            raise
        raise type(interrupt)(f"to go on: {_resume_command(out)}") from None
    pictures = None
    if out is not None:
        figures = {"fastfnn": ff.__version__, "settings": settings, "results": outcome.as_dict()}
        final = outcome.model
        outputs.write(out, final, outcome.history, kept, figures)  # before anything is drawn, which could fail
        names: dict[str, Any] = {"class_names": data.class_names, "validation": outcome.validation_name}
        pictures = report.draw(final, outcome.history, data.x_test, data.y_test, **names)
        command = shlex.join(["fastfnn", "train", *_as_options(settings)])
        outputs.write_report(out, results.page(data, outcome, header, settings, pictures, command))

    if not args.quiet:
        if outcome.history.epochs < args.epochs:
            ended = f"ended after epoch {outcome.history.epochs}"
            common.say(f"\n{ended}: the validation loss was best in epoch {outcome.best}, which is kept")
        common.say(
            f"\n{outcome.table()}\n\nkernels ready in {preparation:.2f} s, training {outcome.seconds:.2f} s, "
            f"{outcome.rate:,.0f} {data.noun}/s"
        )
        if out is not None:
            common.say(f"written to {out}: {', '.join(outputs.FILES)}")
        if out is not None and pictures is None:
            common.say(
                f'{outputs.REPORT} has no pictures, as matplotlib is not installed: pip install "fastfnn[plot]", '
                f"then {_resume_command(out)}"
            )
    common.say(outcome.last_line())


def _settle_task(args: argparse.Namespace, data: datasets.DataSet) -> None:
    """Set what a label is taken for, and say it where nobody asked for it."""
    if args.task is None and data.target is not None:
        common.note(
            f"--label {data.label} holds many numbers, so the network learns to predict a number; --task "
            "classification takes each for a class"
        )
    args.task = data.task
    if data.target is not None and args.class_weight is not None:
        raise InvalidValueError(
            f"--class-weight is {args.class_weight!r}; expected only with classes, not with numbers"
        )


def _resume_command(out: Path) -> str:
    return f"fastfnn train --resume {shlex.quote(str(out))}"


def _header(data: datasets.DataSet, model: ff.Sequential, args: argparse.Namespace, done: int) -> dict[str, str]:
    """What is about to run; `done` epochs have been."""
    from fastfnn.functional import cores

    schedule = "" if args.schedule == choices.NO_SCHEDULE else f", {args.schedule}"
    resumed = f" ({done:,} done)" if done else ""
    batch = "full batch" if args.batch_size == "full" else f"batch {args.batch_size}"
    most = min(args.threads or cores(), cores())
    threads = "1 thread" if most == 1 else f"up to {most} threads"
    return {
        "data": str(data),
        "model": f"{choices.described(data, args)}, {model.n_parameters:,} parameters, {model.dtype}",
        "run": f"{args.optimizer}, lr {args.lr:g}{schedule}, {batch}, {count(args.epochs, 'epoch')}{resumed}, "
        f"seed {args.seed}, {threads}",
    }


def _prepare(data: datasets.DataSet, args: argparse.Namespace) -> float:
    """Train a model to throw away for a step, so that compiling is not taken for training; the seconds it took."""
    began = time.perf_counter()
    few = slice(0, LEAST_ROWS)  # with fewer no first layer skips zeros, which the training may
    spare = choices.make(data, args)
    y = _targets(data, data.y_train[few], spare.dtype)
    ff.fit(spare, data.x_train[few], y, progress=False, **_settings_of_fit(args, data))
    return time.perf_counter() - began


def _fit(model: ff.Sequential, data: datasets.DataSet, args: argparse.Namespace, out: Path | None) -> results.Outcome:
    checkpoint = None if out is None else out / outputs.CHECKPOINT
    settings, x_val, y_val = _settings_of_fit(args, data), *data.validation
    own = _callbacks(args)
    history = ff.fit(
        model,
        data.x_train,
        _targets(data, data.y_train, model.dtype),
        epochs=args.epochs,
        validation_data=(x_val, _targets(data, y_val, model.dtype)),
        callbacks=[*own, *([] if checkpoint is None else [ff.Checkpoint(checkpoint)])],
        resume=None if args.resume is None else checkpoint,
        progress=not args.quiet,
        **settings,
    )
    train, test = (
        ff.evaluate(model, x, _targets(data, y, model.dtype), loss=settings["loss"], n_threads=args.threads)
        for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test))
    )
    best = own[0].best_epoch if own else None
    final = choices.in_own_units(model, data.target)
    return results.Outcome.of(final, data, history, (train, test), best, args.threads)


def _targets(data: datasets.DataSet, y: Any, dtype: Any) -> Any:
    """What a network learns: labels as they are, numbers standardised."""
    return y if data.target is None else data.target.standardised(y, dtype)


def _callbacks(args: argparse.Namespace) -> list[ff.EarlyStopping]:
    return [] if args.early_stopping is None else [ff.EarlyStopping(patience=args.early_stopping)]


def _settings_of_fit(args: argparse.Namespace, data: datasets.DataSet) -> dict[str, Any]:
    return {
        "loss": choices.loss(data),
        "optimizer": choices.OPTIMIZERS[args.optimizer](args.lr),
        "schedule": choices.SCHEDULES[args.schedule](),
        "batch_size": None if args.batch_size == "full" else args.batch_size,
        "class_weight": args.class_weight,
        "seed": args.seed,
        "n_threads": args.threads,
    }


# Resuming


def _take_up(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Set `args` to the settings of the training that --resume names; what describes its data."""
    for name, value in vars(args).items():
        if name not in WITH_RESUME and value is not None:
            option = f"--{name.replace('_', '-')}"
            raise InvalidValueError(
                f"{option} comes with --resume; expected only --epochs, --threads and --quiet there"
            )
    read = outputs.read_settings(args.resume)
    known = vars(parser.parse_args([])).keys() - NO_SETTINGS
    try:
        if unknown := sorted(read["settings"].keys() - known):
            raise InvalidValueError(f"it holds {', '.join(unknown)}, which this version of fastfnn does not know")
        settings = vars(parser.parse_args(_as_options(read["settings"])))
    except InvalidValueError as error:
        raise outputs.damaged(args.resume, error) from None
    for name in known:
        if getattr(args, name) is None:
            setattr(args, name, settings[name])
    args.out = args.resume
    return read["arrays"]


def _checked_epochs(folder: Path, data: datasets.DataSet, args: argparse.Namespace) -> int:
    """Epochs of the checkpoint; one that does not fit or is too far on is refused before anything is changed."""
    settings = _settings_of_fit(args, data)
    found = callbacks.resume(
        folder / outputs.CHECKPOINT,
        model=choices.make(data, args),
        optimizer=settings["optimizer"],
        schedule=settings["schedule"],
        rng=np.random.default_rng(),
        callbacks=_callbacks(args),
    )
    if args.epochs < found.epoch:
        raise InvalidValueError(
            f"--epochs is {args.epochs}, and {args.resume!r} has finished {found.epoch}; expected at least as many"
        )
    return found.epoch


def _as_options(settings: dict[str, Any]) -> list[str]:
    """Settings as one would type them."""
    options = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            options += [flag, *map(str, value)]
        elif value is not None:
            options += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
    return options
