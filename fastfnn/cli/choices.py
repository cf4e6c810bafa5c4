"""What ``--model`` names on the command line: a ready-made network, made for the data, and what suits its training."""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import fastfnn as ff
from fastfnn.cli.datasets import SAMPLE, DataSet, Target
from fastfnn.errors import DataError, InvalidValueError

ACTIVATIONS = tuple(name.replace("_", "-") for name in ff.models.ACTIVATIONS)
OPTIMIZERS: dict[str, Callable[[float], ff.Optimizer]] = {
    "sgd": ff.SGD,
    "momentum": lambda lr: ff.SGD(lr, momentum=0.9),
    "adam": ff.Adam,
    "adamw": ff.AdamW,
    "rmsprop": ff.RMSprop,
    "adagrad": ff.Adagrad,
}
NO_SCHEDULE = "none"
SCHEDULES: dict[str, Callable[[], ff.schedules.Schedule | None]] = {
    NO_SCHEDULE: lambda: None,
    "cosine": ff.schedules.Cosine,
    "one-cycle": ff.schedules.OneCycle,
}


@dataclass(frozen=True)
class Choice:
    """A model's defaults.

    Attributes
    ----------
    batch_size, epochs, optimizer
    lr : dict of str to float
        The learning rate for each optimizer.
    """

    batch_size: int
    epochs: int
    optimizer: str
    lr: dict[str, float]


MLP, LENET5, SMALL_CNN = "mlp", "lenet5", "small-cnn"
_SAME_RATES = {"adamw": 0.002, "adagrad": 0.02}
CHOICES = {
    MLP: Choice(64, 20, "sgd", {"sgd": 0.15, "momentum": 0.02, "adam": 0.001, "rmsprop": 0.0005, **_SAME_RATES}),
    LENET5: Choice(64, 10, "adam", {"sgd": 0.02, "momentum": 0.01, "adam": 0.002, "rmsprop": 0.001, **_SAME_RATES}),
    SMALL_CNN: Choice(
        64, 10, "momentum", {"sgd": 0.03, "momentum": 0.01, "adam": 0.002, "rmsprop": 0.001, **_SAME_RATES}
    ),
}
#: Of an mlp that predicts numbers. Errors of numbers, unlike those of probabilities, have no bound, so rates are lower.
NUMBERS = Choice(
    64, 40, "adam", {"sgd": 0.01, "momentum": 0.002, "adam": 0.003, "rmsprop": 0.001, "adamw": 0.003, "adagrad": 0.02}
)
#: What is the same for every model.
DEFAULTS = {"data": SAMPLE, "model": MLP, "schedule": NO_SCHEDULE, "seed": 0, "dtype": "float32"}
#: Of an mlp that ``--hidden`` asks for; Adam takes 16 GiB for them.
MOST_PARAMETERS = 1 << 30
#: Options of `MLP` alone, and their defaults.
MLP_ONLY = {"hidden": [100], "activation": "relu", "dropout": 0.0}
#: The least side of an image that a small convolutional network takes.
_LEAST_SIDE = 4


def shown(name: str) -> str:
    """A default as the help shows it: once where it is the same for all models."""
    values = {model: getattr(choice, name) for model, choice in CHOICES.items()}
    if len(set(values.values())) == 1:
        return str(values[MLP])
    return ", ".join(f"{value} for {model}" for model, value in values.items())


def fill_in_data(args: argparse.Namespace) -> None:
    """Set what was not given on the command line, as far as it says what data there are."""
    for name in ("data", "seed", "dtype"):
        if getattr(args, name) is None:
            setattr(args, name, DEFAULTS[name])


def fill_in(args: argparse.Namespace, data: DataSet) -> None:
    """Set what was not given on the command line to what suits the data and the model."""
    if args.model is None:
        args.model = _suiting(args, data.x_train.shape[1:])
    for name, default in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    for name, default in MLP_ONLY.items():
        value = getattr(args, name)
        if args.model != MLP and value is not None:
            came = " ".join(map(str, value)) if isinstance(value, list) else value
            raise InvalidValueError(f"--{name} is {came!r}; expected only with --model {MLP}")
        setattr(args, name, default if value is None and args.model == MLP else value)
    choice = NUMBERS if data.target is not None else CHOICES[args.model]
    for name in ("batch_size", "epochs", "optimizer"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(choice, name))
    if args.lr is None:
        args.lr = choice.lr[args.optimizer]


def _suiting(args: argparse.Namespace, shape: tuple[int, ...]) -> str:
    """The model of images in colour is a convolutional one, unless an option speaks of an mlp."""
    in_colour = len(shape) == 3 and shape[0] == 3 and min(shape[1:]) >= _LEAST_SIDE
    return SMALL_CNN if in_colour and all(getattr(args, name) is None for name in MLP_ONLY) else MLP


def make(data: DataSet, args: argparse.Namespace) -> ff.Sequential:
    """The model, made for samples as the data's."""
    shape = data.x_train.shape[1:]
    common: dict[str, Any] = {"mean": data.mean, "std": data.std, "scale": data.scale}
    common |= {"seed": args.seed, "dtype": args.dtype}
    if args.model == MLP:
        activation = args.activation.replace("-", "_")
        sizes = [math.prod(shape), *args.hidden, data.classes]
        parameters = sum((a + 1) * b for a, b in pairwise(sizes))
        if parameters > MOST_PARAMETERS:
            raise InvalidValueError(
                f"--hidden is {' '.join(map(str, args.hidden))}, a model of {parameters:,} parameters; expected at "
                f"most {MOST_PARAMETERS:,}"
            )
        return ff.models.mlp(math.prod(shape), args.hidden, data.classes, activation, args.dropout, **common)
    images = (1, *shape) if len(shape) == 2 else shape
    if args.model == LENET5:
        if images != (1, 28, 28):
            raise _unfit(data, args.model, "(n, 28, 28) or (n, 1, 28, 28)")
        return ff.models.lenet5(data.classes, **common)
    if len(images) != 3 or min(images[1:]) < _LEAST_SIDE:
        raise _unfit(
            data, args.model, "(n, height, width) or (n, channels, height, width), 4 pixels high and wide or more"
        )
    return ff.models.small_cnn(data.classes, images[0], images[1:], **common)


def _unfit(data: DataSet, model: str, expected: str) -> DataError:
    return DataError(f"x_train has shape {data.x_train.shape}; --model {model} expects {expected}")


def described(data: DataSet, args: argparse.Namespace) -> str:
    """The model in a few words: the sizes of an mlp, the name of any other."""
    if args.model != MLP:
        return args.model
    sizes = "-".join(map(str, [math.prod(data.x_train.shape[1:]), *args.hidden, data.classes]))
    if not args.hidden:
        return sizes
    return f"{sizes} {args.activation}" + (f", dropout {args.dropout:g}" if args.dropout else "")


def loss(data: DataSet) -> ff.Loss:
    return ff.MSELoss() if data.target else ff.CrossEntropyLoss()


def in_own_units(model: ff.Sequential, target: Target | None) -> ff.Sequential:
    """The model of a regression whose outputs are the numbers themselves, not standardised ones; others as they are.

    Its last layer is a `Linear`: weight and bias take the numbers' deviation and mean.
    """
    if target is None:
        return model
    model = copy.deepcopy(model)
    last = model.last_layer.params
    last["weight"][...] = last["weight"] * target.std
    last["bias"][...] = last["bias"] * target.std + target.mean
    return model
