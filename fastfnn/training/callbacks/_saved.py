"""How a checkpoint holds a training: numbers as JSON in the metadata, arrays as tensors beside those of the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from fastfnn import _checks as check
from fastfnn.errors import FOREIGN, InvalidTypeError, InvalidValueError, ModelFileError
from fastfnn.history import History
from fastfnn.interchange import safetensors
from fastfnn.layers.random import RandomLayer
from fastfnn.model import Sequential
from fastfnn.training.callbacks.base import Array, EpochCallback, EpochEnd

FORMAT = 1
#: What the states of NumPy's bit generators are arrays of.
GENERATORS = "uint32", "uint64"


@dataclass
class Part:
    """Something of a training that has a state: the name of its class, values as JSON has them, arrays by name."""

    kind: str
    values: dict[str, Any]
    arrays: dict[str, Array]


@dataclass
class Saved:
    """A training as a checkpoint holds it."""

    model: Sequential
    epoch: int
    stopped: bool
    history: History
    steps: int
    #: The optimizer's learning rate, and the one that the training began with.
    lr: float
    first_lr: float | None
    #: The optimizer's state, by slot and parameter.
    slots: dict[str, dict[str, Array]]
    #: Of the layers that draw random numbers.
    random_steps: list[int]
    optimizer: Part
    schedule: Part
    generator: Part
    callbacks: list[Part]


def has_state(callback: Any) -> TypeGuard[EpochCallback]:
    """Whether it keeps something from one epoch to the next."""
    return isinstance(callback, EpochCallback) and type(callback).state is not EpochCallback.state


def random_layers(model: Sequential) -> list[RandomLayer]:
    return [layer for layer in model.all_layers() if isinstance(layer, RandomLayer)]


def by_name(model: Sequential, flat: Array) -> dict[str, Array]:
    """Views of `flat`, which lies as the model's parameters do, by their names: a file should know no layout."""
    views, arrays = {}, model.named_parameters()
    for name, array in arrays.items():
        place = (array.ctypes.data - model.parameters.ctypes.data) // array.itemsize
        views[name] = flat[place : place + array.size].reshape(array.shape)
    return views


def to_bytes(end: EpochEnd) -> bytes:
    """The file of a checkpoint after an epoch."""
    optimizer, bits = end.optimizer, None if end.rng is None else end.rng.bit_generator
    tensors: dict[str, Array] = {}
    for slot, flat in optimizer.state.items():
        tensors |= {f"optimizer.{slot}.{name}": view for name, view in by_name(end.model, flat).items()}
    callbacks = []
    for i, callback in enumerate(filter(has_state, end.callbacks)):
        values, arrays = callback.state()
        callbacks.append(_part(callback, values))
        tensors |= {f"callbacks.{i}.{name}": array for name, array in arrays.items()}
    training = {
        "format": FORMAT,
        "epoch": end.epoch,
        "stopped": bool(end.stops),
        "history": end.history.columns(),
        "dropout_steps": [layer.step for layer in random_layers(end.model)],  # as files of old call it
        "optimizer": _part(optimizer, _of_optimizer(end)),
        "schedule": _part(end.schedule, {} if end.schedule is None else end.schedule.state()),
        "generator": _part(bits, {} if bits is None else _encoded(bits.state)),
        "callbacks": callbacks,
    }
    return safetensors.to_bytes(end.model, json.dumps(training), tensors)


def _of_optimizer(end: EpochEnd) -> dict[str, Any]:
    optimizer = end.optimizer
    return {"steps": optimizer.steps, "slots": [*optimizer.state], "lr": optimizer.lr, "first_lr": end.first_lr}


def _part(thing: Any, values: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(values)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"the state of {thing!r} is {values!r}, which JSON cannot hold: {error}") from None
    return {"kind": type(thing).__name__, "values": values}


def _encoded(value: Any) -> Any:
    """The state of a bit generator, which may hold arrays, as JSON has it."""
    if isinstance(value, dict):
        return {name: _encoded(entry) for name, entry in value.items()}
    return {"dtype": str(value.dtype), "array": value.tolist()} if isinstance(value, np.ndarray) else value


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() == {"dtype", "array"}:
        if value["dtype"] not in GENERATORS:  # a file must not ask for strings of a gigabyte each
            raise InvalidValueError(f"a generator's state has the dtype {value['dtype']!r}; expected {GENERATORS}")
        return np.array(value["array"], value["dtype"])
    return {name: _decoded(entry) for name, entry in value.items()}


def read(contents: safetensors.Contents) -> Saved:
    """The training in a checkpoint; `ModelFileError` where there is none, or none that can be understood."""
    source = contents.source
    if contents.training is None:
        raise ModelFileError(f"{source} holds a model without its training; expected a file that Checkpoint wrote")
    try:
        training = json.loads(contents.training)
        if training["format"] != FORMAT:
            raise ModelFileError(
                f"{source} has a training of format {training['format']!r}; this version of fastfnn reads {FORMAT}"
            )
        return _understood(training, contents.model, contents.tensors)
    except ModelFileError:
        raise
    except FOREIGN as error:
        raise ModelFileError(f"{source} holds no training that fits this version of fastfnn: {error!r}") from None


def _understood(training: dict[str, Any], model: Sequential, tensors: dict[str, Array]) -> Saved:
    def part(entry: dict[str, Any], prefix: str) -> Part:
        arrays = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        return Part(str(entry["kind"]), dict(entry["values"]), arrays)

    epoch = check.positive_int("epoch", training["epoch"])
    history = History.from_dict(training["history"])
    if history.epochs != epoch:
        raise InvalidValueError(f"the history has {history.epochs} epochs; expected {epoch}")
    optimizer, generator = part(training["optimizer"], "optimizer."), part(training["generator"], "generator.")
    generator.values = _decoded(generator.values)
    slots: dict[str, dict[str, Array]] = {slot: {} for slot in optimizer.values["slots"]}
    for name, like in model.named_parameters().items():
        for slot, arrays in slots.items():
            arrays[name] = optimizer.arrays[f"{slot}.{name}"]
            if arrays[name].shape != like.shape or arrays[name].dtype != like.dtype:
                raise InvalidValueError(f"the optimizer's {slot}.{name} does not have the parameter's shape and dtype")
    lr, first_lr = optimizer.values["lr"], optimizer.values["first_lr"]
    steps = [check.counter("dropout_steps", step) for step in training["dropout_steps"]]
    if len(steps) != len(random_layers(model)):
        raise InvalidValueError(f"dropout_steps is {steps}; expected one for each Dropout and other layer that draws")
    return Saved(
        model=model,
        epoch=epoch,
        stopped=bool(training["stopped"]),
        history=history,
        steps=check.counter("steps", optimizer.values["steps"]),
        lr=check.real("lr", lr, least=0),
        first_lr=None if first_lr is None else check.real("first_lr", first_lr, least=0),
        slots=slots,
        random_steps=steps,
        optimizer=optimizer,
        schedule=part(training["schedule"], "schedule."),
        generator=generator,
        callbacks=[part(entry, f"callbacks.{i}.") for i, entry in enumerate(training["callbacks"])],
    )
