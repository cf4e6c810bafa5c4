"""The command line: ``fastfnn train``, ``fastfnn info``, ``fastfnn warmup``."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import fastfnn as ff
from fastfnn import _cli_data, _cli_info, _cli_models, _paths
from fastfnn.errors import FastFNNError, InvalidValueError, NonFiniteLossError
from fastfnn.sparsity import LEAST_ROWS

#: What the command line holds that is no setting of a training.
NO_SETTINGS = ("command", "run", "out", "quiet")
MODEL_FILE, HISTORY_FILE = "model.safetensors", "history.json"


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments, by default those of the process.

    Returns
    -------
    int
        The exit code: 0; 1 where the loss became NaN or infinite; 2 for wrong usage or bad input, said in one line on
        stderr; 130 after an interrupt.
    """
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has had enough
        code = 1
    except NonFiniteLossError as error:
        code = _complain(error, 1)
    except (FastFNNError, OSError) as error:
        code = _complain(error, 2)
    except MemoryError as error:
        code = _complain(f"not enough memory: {error}" if str(error) else "not enough memory", 2)
    except KeyboardInterrupt:
        print("fastfnn: interrupted", file=sys.stderr)
        code = 130
    _drop_unwritable_stdout()
    return code


def _run(argv: list[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as done:  # after --help and --version
        return int(done.code or 0)
    args.run(args)
    return 0


def _complain(error: object, code: int) -> int:
    """Say what is wrong in one line."""
    print("fastfnn: error:", " ".join(str(error).split()), file=sys.stderr)
    return code


def _drop_unwritable_stdout() -> None:
    """Where nothing can be written to stdout, keep Python from trying once more (and complaining) at its exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)


def _say(text: str) -> None:
    """Print, with what stdout cannot encode as backslash escapes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


# Arguments


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as every other error does."""

    def error(self, message: str) -> NoReturn:
        raise InvalidValueError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("fastfnn", description="Train small neural networks on CPUs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastfnn {ff.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train", help="train a network and say how well it does on test data", allow_abbrev=False
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add(
        "--data",
        default=_cli_data.SAMPLE,
        metavar="NAME|FILE.npz",
        help=f"{', '.join(_cli_data.PIXELS)}, or a file that holds x_train and y_train, perhaps x_test and y_test "
        "(default: %(default)s, 10,000 images that come with fastfnn)",
    )
    add("--data-root", metavar="DIR", help="folder that holds MNIST's or Fashion-MNIST's four files")
    add("--model", choices=_cli_models.CHOICES, default=_cli_models.MLP, help="(default: %(default)s)")
    add("--hidden", nargs="*", type=_positive_int, metavar="N", help="sizes of an mlp's hidden layers (default: 100)")
    add("--activation", choices=_cli_models.ACTIVATIONS, help="of an mlp's hidden layers (default: relu)")
    shown = _cli_models.shown
    add("--batch-size", type=_batch_size, metavar="N|full", help=f"rows of a step (default: {shown('batch_size')})")
    add("--epochs", type=_positive_int, metavar="N", help=f"(default: {shown('epochs')})")
    add(
        "--optimizer",
        choices=_cli_models.OPTIMIZERS,
        help=f"momentum is sgd with 0.9 of it (default: {shown('optimizer')})",
    )
    add("--lr", type=_rate, metavar="X", help="learning rate (default: what suits the model and the optimizer)")
    add("--seed", type=_seed, default=0, metavar="N", help="of the weights and of the order (default: %(default)s)")
    add("--threads", type=_positive_int, metavar="N", help="(default: every core where a step is worth it, else 1)")
    add("--dtype", choices=("float32", "float64"), default="float32", help="(default: %(default)s)")
    add("--out", metavar="DIR", help=f"folder for {MODEL_FILE} and {HISTORY_FILE}")
    add("--quiet", action="store_true", help="print nothing but the test accuracy")

    info = commands.add_parser("info", help="show versions, processor and folders", allow_abbrev=False)
    info.set_defaults(run=_info)

    warmup = commands.add_parser("warmup", help="compile the kernels now", allow_abbrev=False)
    warmup.set_defaults(run=_warmup)
    warmup.add_argument(
        "--model", choices=_cli_models.CHOICES, help="compile only what training and running it needs (default: all)"
    )
    warmup.add_argument(
        "--dtype", nargs="+", choices=("float32", "float64"), default=["float32"], help="(default: float32)"
    )
    return parser


def _positive_int(text: str) -> int:
    return _integer(text, 1)


def _seed(text: str) -> int:
    return _integer(text, 0)


def _integer(text: str, least: int, otherwise: str = "") -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= least:
            return number
    raise argparse.ArgumentTypeError(f"got {text!r}; expected an integer of at least {least}{otherwise}")


def _batch_size(text: str) -> int | str:
    return text if text == "full" else _integer(text, 1, " or full")


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"got {text!r}; expected a finite number above 0")


# train


def _train(args: argparse.Namespace) -> None:
    _cli_models.fill_in(args)
    data = _cli_data.load(args.data, args.data_root, args.seed)
    make_optimizer = _cli_models.OPTIMIZERS[args.optimizer]
    loss, model = ff.CrossEntropyLoss(), _cli_models.make(data, args)
    out = None if args.out is None else _writable_folder(args.out)
    if not args.quiet:
        _say(_header(data, model, args))

    # One step of a model to throw away, so that compiling is not taken for training.
    began = time.perf_counter()
    few = slice(0, LEAST_ROWS)  # with fewer no first layer skips zeros, which the training may
    batch_size = None if args.batch_size == "full" else args.batch_size
    fit: dict[str, Any] = {"loss": loss, "batch_size": batch_size, "seed": args.seed, "n_threads": args.threads}
    spare = _cli_models.make(data, args)
    ff.fit(spare, data.x_train[few], data.y_train[few], optimizer=make_optimizer(args.lr), progress=False, **fit)
    preparation = time.perf_counter() - began

    history = ff.fit(
        model,
        data.x_train,
        data.y_train,
        optimizer=make_optimizer(args.lr),
        epochs=args.epochs,
        validation_data=(data.x_test, data.y_test),
        progress=not args.quiet,
        **fit,
    )
    train = ff.evaluate(model, data.x_train, data.y_train, loss=loss, n_threads=args.threads)
    test = ff.evaluate(model, data.x_test, data.y_test, loss=loss, n_threads=args.threads)
    seconds = sum(history.seconds)
    rate = len(data.x_train) * history.epochs / seconds if seconds else 0.0
    if out is not None:
        settings = {name: value for name, value in vars(args).items() if name not in NO_SETTINGS}
        report = {
            "fastfnn": ff.__version__,
            "settings": settings,
            "results": {
                "train": train._asdict(),
                "test": test._asdict(),
                "seconds": seconds,
                "samples_per_second": rate,
            },
            "history": history.to_dict(),
        }
        _write(out, model, report)
    if not args.quiet:
        _say(
            f"\n{'':6}{'loss':>9}{'accuracy':>12}\n"
            f"{'train':6}{train.loss:9.4f}{_percent(train.accuracy):>12}\n"
            f"{'test':6}{test.loss:9.4f}{_percent(test.accuracy):>12}\n\n"
            f"kernels ready in {preparation:.2f} s, training {seconds:.2f} s, {rate:,.0f} {data.noun}/s"
        )
        if out is not None:
            _say(f"written: {out / MODEL_FILE}, {out / HISTORY_FILE}")
    _say(f"test accuracy {_percent(test.accuracy)}")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _header(data: _cli_data.DataSet, model: ff.Sequential, args: argparse.Namespace) -> str:
    threads = f"up to {_cores()} threads" if args.threads is None else _count(args.threads, "thread")
    batch = "full batch" if args.batch_size == "full" else f"batch {args.batch_size}"
    return (
        f"data   {data}\n"
        f"model  {_cli_models.described(data, args)}, {model.n_parameters:,} parameters, {model.dtype}\n"
        f"run    {args.optimizer}, lr {args.lr:g}, {batch}, {_count(args.epochs, 'epoch')}, seed {args.seed}, {threads}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cores() -> int:
    from fastfnn.functional import cores

    return cores()


def _writable_folder(name: str) -> Path:
    """The folder of --out, made where it is missing; found out now rather than after the training."""
    folder = _paths.as_path(name, "--out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for file in (MODEL_FILE, HISTORY_FILE):
            if (folder / file).is_dir():
                raise InvalidValueError(f"--out is {name!r}; its {file} is a folder")
    except OSError as error:
        raise InvalidValueError(f"--out is {name!r}; cannot write there: {error.strerror or error}") from None
    return folder


def _write(folder: Path, model: ff.Sequential, report: dict[str, Any]) -> None:
    """Write model and history: both are complete before either takes its place."""
    with tempfile.TemporaryDirectory(prefix=".fastfnn-", dir=folder) as temporary:
        ff.save(model, Path(temporary, MODEL_FILE))
        Path(temporary, HISTORY_FILE).write_text(json.dumps(_finite(report), indent=2) + "\n", encoding="utf-8")
        for name in (MODEL_FILE, HISTORY_FILE):
            os.replace(Path(temporary, name), folder / name)


def _finite(value: Any) -> Any:
    """`value` with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# info and warmup


def _info(args: argparse.Namespace) -> None:
    _say("\n".join(f"{name:<14} {value}" for name, value in _cli_info.facts()))


def _warmup(args: argparse.Namespace) -> None:
    dtypes = tuple(dict.fromkeys(args.dtype))
    seconds = ff.warmup(dtypes, None if args.model is None else args.model.replace("-", "_"))
    model = "" if args.model is None else f" of {args.model}"
    _say(f"kernels{model} for {' and '.join(dtypes)} ready after {seconds:.2f} s")
