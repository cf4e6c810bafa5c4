"""``fastfnn export``: a model for other runtimes."""

from __future__ import annotations

import argparse
from typing import Any

import fastfnn as ff
from fastfnn.cli import common, options, trained
from fastfnn.cli.trained import Trained
from fastfnn.errors import InvalidValueError
from fastfnn.tables.onnx import export_table


def add_command(commands: Any) -> None:
    """Add ``export`` to the parser's commands."""
    parser = trained.add_command(commands, "export", _export, "write a model for other runtimes")
    add = parser.add_argument
    add("--onnx", metavar="FILE", required=True, help="the ONNX file to write")
    add(
        "--input-shape",
        type=options.shape,
        metavar="HxW",
        help="of one sample, such as 28x28, 3x32x32 or 4 (default: what the model tells)",
    )
    add(
        "--input-dtype",
        choices=("uint8", "float32", "float64"),
        help="(default: uint8 where the model was made for bytes, else the model's own)",
    )


def _export(args: argparse.Namespace) -> None:
    model = Trained.read(args.model)
    target = trained.target("--onnx", args.onnx)
    shape = args.input_shape or model.shape
    dtype = args.input_dtype or ("uint8" if model.takes_bytes else model.model.dtype.name)
    if shape is None and model.flattens_first:
        raise InvalidValueError(
            "--input-shape is not given; expected the shape of one sample, such as 28x28, which MODEL does not tell"
        )
    by_column = model.columns is not None and not all(column.is_plain for column in model.columns)
    asked = args.input_shape is not None or args.input_dtype is not None
    if by_column and asked:
        given = "--input-shape" if args.input_shape is not None else "--input-dtype"
        raise InvalidValueError(f"{given} is given; expected nothing of it for a model of a table's columns")
    outputs = f"y (n, {model.outputs}) {model.model.dtype}"
    try:
        if by_column:
            inputs = export_table(model.model, model.columns or (), target)
            listed = "".join(f"\n  {name}: {said}" for name, said in inputs.items())
            common.say(f"written: {args.onnx}, to {outputs} from an input (n, 1) for each column:{listed}")
            return
        ff.export_onnx(model.model, target, input_shape=shape, input_dtype=dtype)
    except ImportError as error:
        raise InvalidValueError(f"--onnx: {error}") from None
    except InvalidValueError as error:
        raise InvalidValueError(str(error).replace("input_shape is", "--input-shape is", 1)) from None
    except OSError as error:
        raise InvalidValueError(f"--onnx is {args.onnx!r}; cannot write there: {error.strerror or error}") from None
    x = "" if shape is None else f"x ({', '.join(['n', *map(str, shape)])}) "
    common.say(f"written: {args.onnx}, {x}{dtype} to {outputs}")
