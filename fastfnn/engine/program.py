"""Programs: a model, perhaps a loss and an optimizer, as tables that `fastfnn_kernels.program` runs.

A program serves any data of its shape and dtype. Those that are not running are kept, so that a small call in a loop
does not write its tables anew; a program that runs belongs to its caller alone. It returns to Python every few tens
of milliseconds, so that signals and the progress bar are served.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import struct
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn.engine import lowering
from fastfnn.engine.pace import Pace
from fastfnn.engine.sparsity import CSR, Sparsity
from fastfnn.engine.steps import LOSSES, OPTIMIZERS, Data, Table, settings_of, write_loss, write_update
from fastfnn.layers import Layer
from fastfnn.losses import Loss
from fastfnn.model import Sequential
from fastfnn.optim import SGD, Optimizer

Array = NDArray[Any]
#: So far: the loss (times the rows, for a mean), rows that were right, rows, and the step that failed (from 1) or 0.
Sums = tuple[float, int, int, int]

#: Seconds between returns to Python.
SLICE_SECONDS = 0.025
#: Programs that a model keeps, and bytes of their buffers.
PROGRAMS_KEPT, BYTES_KEPT = 8, 64 << 20

#: Of the rows' weights.
WEIGHTS_DTYPE = np.dtype(np.float64)
#: The words of a job, as `fastfnn_kernels.program` has them.
JOB = struct.Struct("=15q")


def uncompiled(model: Sequential, loss: Loss | None = None, optimizer: Optimizer | None = None) -> list[Any]:
    """What has no compiled form, a user's own; if this is empty and there is a JIT, a `Program` can be made."""
    found: list[Any] = [*lowering.uncompiled(model)]
    if loss is not None and type(loss) not in LOSSES:
        found.append(loss)
    if optimizer is not None and type(optimizer) not in OPTIMIZERS:
        found.append(optimizer)
    return found


def is_compiled(model: Sequential, loss: Loss | None = None, optimizer: Optimizer | None = None) -> bool:
    """Whether a `Program` can be made."""
    return kernels.team.JIT and not uncompiled(model, loss, optimizer)


class Program:
    """A model, a loss and an optimizer as tables. Without an optimizer it evaluates, without a loss it predicts.

    Parameters
    ----------
    key
        What it is made for, see `_key`.
    model : Sequential
    x, y : ndarray, or CSR for x
        Data of the shapes and dtypes that it is for; `y` is None where there is no loss.
    loss : Loss or None
    optimizer : Optimizer or None
        Prepared for the model's parameters.
    rows : int
        In training, of a batch; else the most that will ever go through together.
    n_threads : int
    keep_gradients : bool
    in_order : bool
        Rows come in the order of the data.
    sparsity : Sparsity or None
        How to find the nonzeros of `x`, where the first layer is to walk only these.
    weighted : bool
        Whether rows have weights.
    """

    def __init__(
        self,
        key: Any,
        model: Sequential,
        x: Array | CSR,
        y: Array | None,
        loss: Loss | None,
        optimizer: Optimizer | None,
        rows: int,
        n_threads: int,
        keep_gradients: bool,
        in_order: bool,
        sparsity: Sparsity | None,
        weighted: bool,
    ) -> None:
        self.key, shape, training = key, x.shape[1:], optimizer is not None
        steps = lowering.lower(model, shape, training=training, sparsity=sparsity)
        first = next((i for i, step in enumerate(steps) if step.has_parameters), len(steps))
        held = (steps, shape)
        if sparsity is not None and sparsity.capacity:  # lists are all that there is of the rows
            held = (steps[first:], (sparsity.capacity,))
        self.chunk = lowering.chunk_rows(*held, model.dtype, rows, training)
        self._nanoseconds = max(1.0, lowering.nanoseconds(steps, training) * self.chunk)
        in_place = training and not keep_gradients and _is_plain(optimizer) and rows <= self.chunk
        self.table = Table(
            model.dtype, self.chunk, n_threads, training=training, in_order=in_order, sgd_in_place=in_place
        )
        data = Data(kernels.program.X, shape, x.dtype, sparsity)
        self._write(model, steps, first, data, y, weighted, loss, optimizer)
        places = np.zeros((n_threads, kernels.program.AT_WORDS), np.int64)
        self._run, self._job = kernels.program.run, np.zeros(kernels.program.JOB_WORDS, np.int64)
        self._result, self._pace = np.zeros(kernels.program.RESULT_WORDS), Pace(n_threads)
        self._arguments = (
            *self.table.finished(),
            places,
            kernels.team.barrier_state(),
            self._job,
            self.table.row_losses,
            self.table.hits,
            self._result,
        )
        # The tables hold addresses: what they point to must not go away.
        buffers = [array for layer in model.layers for array in layer.buffers.values()]
        state = [] if optimizer is None else [*optimizer.state.values()]
        self._kept = (list(model.layers), model.parameters, model.gradients, buffers, state)

    def _write(
        self,
        model: Sequential,
        steps: list[Any],
        first: int,
        data: Data,
        y: Array | None,
        weighted: bool,
        loss: Loss | None,
        optimizer: Optimizer | None,
    ) -> None:
        """Write the records; the step `first` is the first that has parameters."""
        table, current, inputs = self.table, data, []
        for step in steps:
            if isinstance(current, Data) and not step.takes_data(table, current):
                current = table.gather(current)
            inputs.append(current)
            current = step.forward(table, current)
        out = table.gather(current) if isinstance(current, Data) else current
        self._losses_a_row = 1
        if loss is None or y is None:
            table.row("store", out, math.prod(out.shape[1:]))
            return
        if loss.reduction == "mean" and not loss.classifies:
            self._losses_a_row = math.prod(out.shape[1:])
        weights = Data(kernels.program.WEIGHTS, (1,), WEIGHTS_DTYPE) if weighted else None
        grad = write_loss(table, loss, out, Data(kernels.program.Y, y.shape[1:], y.dtype), weights)
        if optimizer is None:
            return
        for step, step_input in zip(reversed(steps[first:]), reversed(inputs[first:]), strict=True):
            grad = step.backward(table, step_input, grad)
        write_update(table, model, optimizer)

    def run(
        self,
        team: Any,
        x: Array | CSR,
        y: Array | None,
        weights: Array | None,
        out: Array | None,
        optimizer: Optimizer | None,
        order: Array | None,
        batch_size: int,
        pause: int,
        rates: Array | None,
    ) -> Iterator[Sums]:
        """Go through the data once, slice by slice: see the function `run`."""
        rows, result, made = len(x), self._result, 0
        pieces = -(-batch_size // self.chunk)
        begin, end = 0, -(-rows // batch_size) * pieces
        if optimizer is not None:
            made = optimizer.steps
            _, settings = settings_of(optimizer)
            self.table.settings[: len(settings)] = settings
            self.table.limits[:] = optimizer.limits or 0.0
            self.table.decay[0] = optimizer.weight_decay, optimizer.l1
            self.table.step_size[0] = -settings[0]
        inputs = x.words if isinstance(x, CSR) else x
        addresses = _address(order), _address(inputs), _address(y), _address(out)
        addresses += _address(rates), self.table.settings.ctypes.data, self.table.step_size.ctypes.data
        addresses += (_address(weights),)
        result.fill(0)
        slice_pieces = max(1, int(SLICE_SECONDS * 1e9 / self._nanoseconds))
        adapts = team.size > 1 and team.may_be_fewer
        while begin < end:
            threads, part = self._pace.choose() if adapts else (team.size, 1.0)
            wanted = max(1, int(slice_pieces * part))
            stop, began = min(end, begin + wanted), time.perf_counter()
            if pause:
                stop = min(stop, (begin // (pause * pieces) + 1) * pause * pieces)
            sizes = rows, batch_size, self.chunk, begin, stop, optimizer is not None, made
            JOB.pack_into(self._job.data, 0, *sizes, *addresses)
            if threads == 1:
                self._run(*self._arguments, 0, 1)
            else:
                team.run(self._run, *self._arguments)
            seconds = time.perf_counter() - began
            if adapts:
                self._pace.note(threads, seconds * end / ((stop - begin) * rows))  # for a row
            loss, correct, done, failed = result[:4].tolist()
            if optimizer is not None and not failed:
                optimizer.steps = made + stop // pieces
            if stop - begin == wanted:
                slice_pieces = max(1, int(wanted * min(4.0, SLICE_SECONDS / max(seconds, 1e-9))))
            begin = stop
            yield loss / self._losses_a_row, int(correct), int(done), int(failed)
            if failed:
                return


def _is_plain(optimizer: Optimizer | None) -> bool:
    """Whether a step is ``parameter -= lr * gradient`` and nothing else."""
    return type(optimizer) is SGD and not (optimizer.momentum or optimizer.weight_decay or optimizer.limits)


def _address(array: Array | None) -> int:
    """Where a writeable array starts; `array.ctypes.data` takes four times as long."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array.data)) if array is not None and array.size else 0


# Programs that wait for the next call
_waiting: weakref.WeakKeyDictionary[Sequential, list[Program]] = weakref.WeakKeyDictionary()


def run(
    model: Sequential,
    team: Any,
    x: Array | CSR,
    y: Array | None = None,
    out: Array | None = None,
    *,
    weights: Array | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    order: Array | None = None,
    batch_size: int | None = None,
    pause: int = 0,
    rates: Array | None = None,
    keep_gradients: bool = False,
) -> Iterator[Sums]:
    """Go through the data once: with an optimizer train, with a loss evaluate, with neither predict.

    Parameters
    ----------
    model : Sequential
        With no part that is `uncompiled`; nor is there one in the loss and the optimizer.
    team : fastfnn_kernels.team.Team
    x, y, out : ndarray, or CSR for x
        Contiguous, with at least one row; `out` takes the predictions.
    weights : (n,) float64, optional
        What the rows' losses are multiplied by.
    order : (n,) int64, optional
        Of the rows, in training.
    batch_size : int, optional
        All rows by default.
    pause : int
        Yield whenever so many steps of the epoch are done, too; 0: only slice by slice.
    rates : (steps,) float64, optional
        A learning rate for every step, instead of the optimizer's.
    keep_gradients : bool
        The model's gradients are to be there after a step; else plain SGD subtracts them as they are made.

    Yields
    ------
    Sums
        After every slice. One may end within a batch; the parameters are then those before the batch.
    """
    batch_size = batch_size or len(x)
    # In training a program is for one batch size. Else a few serve all numbers of rows.
    rows = batch_size if optimizer is not None else min(1 << (len(x) - 1).bit_length(), lowering.CHUNK_ROWS)
    model.gather_parameters()
    if optimizer is not None:
        optimizer.prepare(model.parameters)
    sparse = lowering.sparsity(model, x, min(rows, len(x)))
    options = (rows, team.size, keep_gradients, order is None, sparse, weights is not None)
    key = (*options, *_key(model, x, y, loss, optimizer))
    waiting = _waiting.get(model)
    if waiting is None:
        waiting = _waiting.setdefault(model, [])
    kept = _taken(waiting, key)
    program = kept or Program(key, model, x, y, loss, optimizer, *options)
    yield from program.run(team, x, y, weights, out, optimizer, order, batch_size, pause, rates)
    # Not after an error or an interrupt: threads may still be at work on it.
    waiting.append(program)
    if kept is None:
        _make_room(waiting)


def _taken(waiting: list[Program], key: Any) -> Program | None:
    """The program for `key`, now the caller's alone."""
    for program in waiting[::-1]:
        if program.key == key:
            with contextlib.suppress(ValueError):  # another thread was faster
                waiting.remove(program)
                return program
    return None


def _make_room(waiting: list[Program]) -> None:
    with contextlib.suppress(IndexError):  # another thread was faster
        while len(waiting) > PROGRAMS_KEPT or sum(program.table.nbytes for program in waiting) > BYTES_KEPT:
            waiting.pop(0)


_known_configs: weakref.WeakKeyDictionary[Sequential, tuple[Any, list[Any]]] = weakref.WeakKeyDictionary()


def _configs(model: Sequential) -> list[Any]:
    """The layers and their settings, looked up anew only after a setting has been written."""
    key = (Layer.changes, *map(id, model.layers))
    known = _known_configs.get(model)
    if known is None or known[0] != key:
        known = _known_configs[model] = key, [(id(layer), layer.config()) for layer in model.layers]
    return known[1]


def _key(
    model: Sequential, x: Array | CSR, y: Array | None, loss: Loss | None, optimizer: Optimizer | None
) -> tuple[Any, ...]:
    """What a program depends on. An identity stands for an object that the program keeps alive."""
    buffers = [id(array) for layer in model.layers for array in layer.buffers.values()]
    key = (x.shape[1:], x.dtype, id(model.parameters), _configs(model), buffers)
    if loss is None or y is None:
        return key
    key = (*key, y.shape[1:], y.dtype, type(loss), loss.reduction, getattr(loss, "label_smoothing", 0.0))
    if optimizer is None:
        return key
    operation, _ = settings_of(optimizer)
    settings = operation, _is_plain(optimizer), optimizer.limits is None, optimizer.decay_biases
    return (*key, *settings, *map(id, optimizer.state.values()))
