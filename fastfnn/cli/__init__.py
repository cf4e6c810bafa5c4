"""The command line: ``fastfnn train``, ``evaluate``, ``predict``, ``export``, ``info`` and ``warmup``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import NoReturn

import fastfnn as ff
from fastfnn._signals import TERMINATED, Terminated, sigterm_raises
from fastfnn._text import harmless
from fastfnn.cli import choices, common, evaluate, export, info, predict, train
from fastfnn.errors import FastFNNError, InvalidValueError, NonFiniteLossError


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
        stderr; 130 after an interrupt, 143 after SIGTERM.
    """
    try:
        with sigterm_raises(Terminated()):
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
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        what = "terminated" if terminated else "interrupted"
        print(f"fastfnn: {what}" + "".join(f"; {how}" for how in interrupt.args), file=sys.stderr)
        code = TERMINATED if terminated else 130
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
    print("fastfnn: error:", harmless(" ".join(str(error).split())), file=sys.stderr)
    return code


def _drop_unwritable_stdout() -> None:
    """Where nothing can be written to stdout, keep Python from trying once more (and complaining) at its exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)


# Arguments


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as every other error does."""

    def error(self, message: str) -> NoReturn:
        raise InvalidValueError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("fastfnn", description="Train small neural networks on CPUs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastfnn {ff.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    for command in (train, evaluate, predict, export):
        command.add_command(commands)

    info = commands.add_parser("info", help="show versions, processor and folders", allow_abbrev=False)
    info.set_defaults(run=_info)

    warmup = commands.add_parser("warmup", help="compile the kernels now", allow_abbrev=False)
    warmup.set_defaults(run=_warmup)
    warmup.add_argument(
        "--model", choices=choices.CHOICES, help="compile only what training and running it needs (default: all)"
    )
    warmup.add_argument(
        "--dtype", nargs="+", choices=("float32", "float64"), default=["float32"], help="(default: float32)"
    )
    return parser


# info and warmup


def _info(args: argparse.Namespace) -> None:
    common.say("\n".join(f"{name:<14} {value}" for name, value in info.facts()))


def _warmup(args: argparse.Namespace) -> None:
    dtypes = tuple(dict.fromkeys(args.dtype))
    seconds = ff.warmup(dtypes, None if args.model is None else args.model.replace("-", "_"))
    model = "" if args.model is None else f" of {args.model}"
    common.say(f"kernels{model} for {' and '.join(dtypes)} ready after {seconds:.2f} s")
