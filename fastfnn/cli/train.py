"""``fastfnn train``: train a network, say how well it does, write what came of it."""

from __future__ import annotations

import argparse
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastfnn as ff
from fastfnn import report
from fastfnn.cli import choices, common, datasets, info, outputs
from fastfnn.engine.sparsity import LEAST_ROWS
from fastfnn.errors import InvalidValueError
from fastfnn.training import callbacks

#: What the command line holds that is no setting of a training.
NO_SETTINGS = ("command", "run", "out", "resume", "quiet")
#: What may be given beside --resume.
WITH_RESUME = ("command", "run", "resume", "epochs", "threads", "quiet")


def add_command(commands: Any) -> None:
    """Add ``train`` to the parser's commands."""
    train = commands.add_parser(
        "train", help="train a network and say how well it does on test data", allow_abbrev=False
    )
    train.set_defaults(run=lambda args: _train(args, train))
    add, default, shown = train.add_argument, choices.DEFAULTS, choices.shown
    # No defaults here: beside --resume it matters what was given.
    datasets.add_options(
        train,
        help=f"{', '.join(datasets.PIXELS)}; a .npz file that holds x_train and y_train, perhaps x_test and y_test; a "
        ".csv file; a folder of images, FOLDER/CLASS/*.png and the like, or FOLDER/train/CLASS and FOLDER/test/CLASS "
        f"(default: {default['data']}, 10,000 images that come with fastfnn)",
    )
    add("--model", choices=choices.CHOICES, help=f"(default: {default['model']})")
    sizes = "sizes of an mlp's hidden layers (default: 100)"
    add("--hidden", nargs="*", type=common.positive_int, metavar="N", help=sizes)
    add("--activation", choices=choices.ACTIVATIONS, help="of an mlp's hidden layers (default: relu)")
    rows = f"rows of a step (default: {shown('batch_size')})"
    add("--batch-size", type=common.batch_size, metavar="N|full", help=rows)
    add("--epochs", type=common.positive_int, metavar="N", help=f"(default: {shown('epochs')})")
    add(
        "--optimizer",
        choices=choices.OPTIMIZERS,
        help=f"momentum is sgd with 0.9 of it (default: {shown('optimizer')})",
    )
    add("--lr", type=common.rate, metavar="X", help="learning rate (default: what suits the model and the optimizer)")
    add(
        "--schedule",
        choices=choices.SCHEDULES,
        help=f"how the learning rate goes on from there (default: {default['schedule']})",
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
    add("--quiet", action="store_true", help="print nothing but the test accuracy")


@dataclass
class _Outcome:
    """What came of a training."""

    history: ff.History
    train: ff.Evaluation
    test: ff.Evaluation
    rows: int

    @property
    def seconds(self) -> float:
        return sum(self.history.seconds)

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows * self.history.epochs / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        results = {"train": self.train._asdict(), "test": self.test._asdict()}
        return {**results, "seconds": self.seconds, "samples_per_second": self.rate}


def _train(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    resumed = args.resume is not None
    before = _take_up(args, parser) if resumed else {}
    choices.fill_in(args)
    data = datasets.load(args.data, args.data_root, args.seed, args.label, args.size)
    model = choices.make(data, args)
    settings = {name: value for name, value in vars(args).items() if name not in NO_SETTINGS}
    kept = {"fastfnn": ff.__version__, "settings": settings, "class_names": data.class_names}
    kept["columns"] = data.columns
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
        outputs.write(out, model, outcome.history, kept, figures)  # before anything is drawn, which could fail
        pictures = report.draw(model, outcome.history, data.x_test, data.y_test, class_names=data.class_names)
        outputs.write_report(out, _page(model, data, outcome, header, settings, pictures))

    if not args.quiet:
        train, test = outcome.train, outcome.test
        common.say(
            f"\n{'':6}{'loss':>9}{'accuracy':>12}\n"
            f"{'train':6}{train.loss:9.4f}{common.percent(train.accuracy):>12}\n"
            f"{'test':6}{test.loss:9.4f}{common.percent(test.accuracy):>12}\n\n"
            f"kernels ready in {preparation:.2f} s, training {outcome.seconds:.2f} s, {outcome.rate:,.0f} {data.noun}/s"
        )
        if out is not None:
            common.say(f"written to {out}: {', '.join(outputs.FILES)}")
        if out is not None and pictures is None:
            common.say(
                f'{outputs.REPORT} has no pictures, as matplotlib is not installed: pip install "fastfnn[plot]", '
                f"then {_resume_command(out)}"
            )
    common.say(f"test accuracy {common.percent(outcome.test.accuracy)}")


def _resume_command(out: Path) -> str:
    return f"fastfnn train --resume {shlex.quote(str(out))}"


def _header(data: datasets.DataSet, model: ff.Sequential, args: argparse.Namespace, done: int) -> dict[str, str]:
    """What is about to run; `done` epochs have been."""
    from fastfnn.functional import cores

    count = common.count
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
    ff.fit(spare, data.x_train[few], data.y_train[few], progress=False, **_settings_of_fit(args))
    return time.perf_counter() - began


def _fit(model: ff.Sequential, data: datasets.DataSet, args: argparse.Namespace, out: Path | None) -> _Outcome:
    checkpoint = None if out is None else out / outputs.CHECKPOINT
    settings = _settings_of_fit(args)
    history = ff.fit(
        model,
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        validation_data=(data.x_test, data.y_test),
        callbacks=[] if checkpoint is None else [ff.Checkpoint(checkpoint)],
        resume=None if args.resume is None else checkpoint,
        progress=not args.quiet,
        **settings,
    )
    train, test = (
        ff.evaluate(model, x, y, loss=settings["loss"], n_threads=args.threads)
        for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test))
    )
    return _Outcome(history, train, test, len(data.x_train))


def _settings_of_fit(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "loss": ff.CrossEntropyLoss(),
        "optimizer": choices.OPTIMIZERS[args.optimizer](args.lr),
        "schedule": choices.SCHEDULES[args.schedule](),
        "batch_size": None if args.batch_size == "full" else args.batch_size,
        "seed": args.seed,
        "n_threads": args.threads,
    }


def _page(
    model: ff.Sequential,
    data: datasets.DataSet,
    outcome: _Outcome,
    header: dict[str, str],
    settings: dict[str, Any],
    pictures: list[report.Picture] | None,
) -> str:
    return report.page(
        model,
        outcome.history,
        data.x_test,
        data.y_test,
        title=f"{settings['model']} on {data.name}",
        subtitle=header["data"],
        highlights={
            "test accuracy": common.percent(outcome.test.accuracy),
            "test loss": f"{outcome.test.loss:.4f}",
            "parameters": f"{model.n_parameters:,}",
            "training": f"{outcome.seconds:.2f} s",
            f"{data.noun}/s": f"{outcome.rate:,.0f}",
        },
        results={"training": outcome.train, "test": outcome.test},
        class_names=data.class_names,
        facts={"Settings": _shown(settings), "Versions and machine": dict(info.machine())},
        command=shlex.join(["fastfnn", "train", *_as_options(settings)]),
        footer=f"Written by fastfnn {ff.__version__} on {time.strftime('%Y-%m-%d at %H:%M')}.",
        pictures=pictures,
    )


def _shown(settings: dict[str, Any]) -> dict[str, object]:
    """The settings as a person reads them."""
    shown = {name.replace("_", " "): value for name, value in settings.items() if value is not None}
    if "hidden" in shown:
        shown["hidden"] = ", ".join(map(str, shown["hidden"])) or "none"
    return shown


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
    settings = _settings_of_fit(args)
    found = callbacks.resume(
        folder / outputs.CHECKPOINT,
        model=choices.make(data, args),
        optimizer=settings["optimizer"],
        schedule=settings["schedule"],
        rng=np.random.default_rng(),
        callbacks=(),
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
