"""Programs: a model, perhaps a loss and an optimizer, as tables that `fastfnn_kernels.program` runs.

A program serves any data of its shape and dtype. Those that are not running are kept, so that a small call in a loop
does not write its tables anew; a program that runs belongs to its caller alone. It returns to Python every few tens
of milliseconds, so that signals and the progress bar are served.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine import lowering
from fastfnn.engine.pace import Pace
from fastfnn.engine.sparsity import CSR, Sparsity
from fastfnn.engine.steps import (
    LOSSES,
    OPTIMIZERS,
    Data,
    Step,
    StepChain,
    Table,
    operation_of,
    write_loss,
    write_penalty,
    write_settings,
    write_update,
)
from fastfnn.engine.task import Array, Pass, Sums, Task
from fastfnn.errors import InvalidValueError
from fastfnn.layers import Embedding, Layer
from fastfnn.losses import CrossEntropyLoss, NLLLoss
from fastfnn.model import Sequential
from fastfnn.optim import SGD, Optimizer

#: Seconds between returns to Python.
SLICE_SECONDS = 0.025
#: Of so many rows a batch is at most, and so many steps there are at least, where updates are put off: settling them
#: takes as long as a few steps.
MOST_ROWS_LAZY, LEAST_STEPS_LAZY = 32, 16
#: The share of inference's calls that may take long for what they found: another library's threads that still spin.
MISHAPS = 0.5
#: Programs that a model keeps, and bytes of their buffers.
PROGRAMS_KEPT, BYTES_KEPT = 8, 64 << 20


def uncompiled(task: Task) -> list[Any]:
    """What has no compiled form, a user's own; if this is empty and there is a JIT, a `Program` can be made."""
    found: list[Any] = [*lowering.uncompiled(task.model)]
    if task.loss is not None and type(task.loss) not in LOSSES:
        found.append(task.loss)
    if task.optimizer is not None and type(task.optimizer) not in OPTIMIZERS:
        found.append(task.optimizer)
    return found


def is_compiled(task: Task) -> bool:
    """Whether a `Program` can be made."""
    return kernels.team.JIT and not uncompiled(task)


class Form(NamedTuple):
    """What of data and threads a program depends on.

    Attributes
    ----------
    rows : int
        In training, of a batch; else the most that will ever go through together.
    n_threads : int
    in_order : bool
        Rows come in the order of the data.
    sparsity : Sparsity or None
        How to find the nonzeros of the inputs, where the first layer is to walk only these.
    lazy : bool
        There are steps enough for what they have in common to be put off.
    inputs : Data
    targets, weights : Data or None
    ignores : bool
        Some labels are one beyond the last class, which means none.
    penalised : bool
        The loss has the L2 term.
    stores : bool
        The outputs are wanted beside the loss.
    """

    rows: int
    n_threads: int
    in_order: bool
    sparsity: Sparsity | None
    lazy: bool
    inputs: Data
    targets: Data | None
    weights: Data | None
    ignores: bool
    penalised: bool
    stores: bool


class Program:
    """A task as tables.

    Parameters
    ----------
    task : Task
        With no part that is `uncompiled`; an optimizer is prepared for the model's parameters.
    form : Form
    key
        What it is made for, see `_key`.
    """

    def __init__(self, task: Task, form: Form, key: Any) -> None:
        self.key, model, optimizer = key, task.model, task.optimizer
        training, shape, sparsity = optimizer is not None, form.inputs.shape, form.sparsity
        steps = lowering.lower(model, shape, training=training, sparsity=sparsity, packed=task.packed)
        first = next((i for i, step in enumerate(steps) if step.has_parameters), len(steps))
        held = (steps, shape)
        if sparsity is not None and sparsity.capacity:  # lists are all that there is of the rows
            held = (steps[first:], (sparsity.capacity,))
        self.chunk = lowering.chunk_rows(*held, model.dtype, form.rows, training)
        self._nanoseconds = max(1.0, lowering.nanoseconds(steps, training) * self.chunk)
        self.table = Table(
            model.dtype,
            self.chunk,
            form.n_threads,
            training=training,
            in_order=form.in_order,
            sgd_in_place=_updates_in_place(task) and form.rows <= self.chunk,
            lazy=form.lazy,
        )
        self._losses_a_row, self._hits_a_row = self._write(task, form, steps)
        self._pace = Pace(form.n_threads, mishaps=0.0 if training else MISHAPS)
        self._job = self._new_job(form.n_threads)
        # The tables hold addresses: what they point to must not go away.
        layers = list(model.all_layers())
        buffers = [array for layer in layers for array in layer.buffers.values()]
        state = _state(optimizer)
        self._kept += (layers, model.parameters, model.gradients, buffers, state)

    def _write(self, task: Task, form: Form, steps: list[Step]) -> tuple[int, int]:
        """Write the records. Returns a row's losses and hits."""
        table, chain = self.table, StepChain(steps)
        current = chain.forward(table, form.inputs)
        out = table.gather(current) if isinstance(current, Data) else current
        width = math.prod(out.shape[1:])
        targets = form.targets.shape if form.targets is not None else out.shape[1:]
        if targets and math.prod(targets) != width:
            raise InvalidValueError(f"the model makes samples of shape {out.shape[1:]} now; {targets} were expected")
        if form.stores:
            table.row("store", out="out", x=out, width=width)
        if task.loss is None or form.targets is None:
            return 1, 1
        grad = write_loss(table, task.loss, out, form.targets, form.weights, form.ignores)
        if task.optimizer is not None:
            assert grad is not None
            chain.backward(table, grad)
            if form.penalised:
                write_penalty(table, task.model)
            write_update(table, task.model, task.optimizer)
        losses = width if task.loss.reduction == "mean" and not task.loss.classifies else 1
        return losses, width if task.loss.task == "binary" else 1

    def _new_job(self, n_threads: int) -> Any:
        """A job with all that is the same in every run."""
        table, program = self.table, kernels.program
        row, weight, update, settle = table.finished()
        places, barriers = np.zeros(n_threads, program.PLACE), kernels.team.barrier_state()
        self._kept: tuple[Any, ...] = (row, weight, update, settle, places, barriers)
        self._rows_are_independent = not table.row_losses.size and kernels.program.BARRIER not in row["operation"]
        return program.Job(
            row_table=row.ctypes.data,
            row_records=len(row),
            weight_table=weight.ctypes.data,
            weight_records=len(weight),
            update_table=update.ctypes.data,
            update_records=len(update),
            settle_table=settle.ctypes.data,
            settle_records=len(settle),
            places=places.ctypes.data,
            barriers=barriers.ctypes.data,
            row_losses=_address(table.row_losses),
            row_hits=_address(table.hits),
            chunk=self.chunk,
            rate=table.settings["lr"].ctypes.data,
            step_size=table.settings["step_size"].ctypes.data,
            decay=table.settings["weight_decay"].ctypes.data,
        )

    def job_for(self, task: Task, data: Pass) -> Any:
        """The job, for all pieces of the data."""
        job, optimizer, rows, batch_size = self._job, task.optimizer, len(data.x), data.batch_size or len(data.x)
        job.begin, job.end = 0, -(-rows // batch_size) * -(-batch_size // self.chunk)
        job.data_rows, job.batch_size, job.trains, job.made = rows, batch_size, optimizer is not None, 0
        job.x = ctypes.addressof(data.x.matrix) if isinstance(data.x, CSR) else _address(data.x)
        job.y, job.weights, job.out = _address(data.y), _address(data.weights), _address(data.out)
        job.order, job.rates, job.decays = _address(data.order), _address(data.rates), _address(data.decays)
        job.losses = job.hits = job.done = job.failed = job.bad_row = job.part_losses = job.part_hits = 0
        return job

    def run_job(self, team: Any) -> None:
        """Do all pieces of the job, which last some milliseconds at most; on one thread where that is faster."""
        job, threads = self._job, self._pace.choose()[0] if team.size > 1 else 1
        began, relieves = time.perf_counter(), job.end == 1 and self._rows_are_independent
        kernels.program.run(ctypes.addressof(job), team if threads > 1 else None, relieves)
        self._pace.note(threads, (time.perf_counter() - began) / job.data_rows)

    def run(self, task: Task, data: Pass, team: Any, pause: int) -> Iterator[Sums]:
        """Go through the data once, slice by slice: see the function `run`."""
        job, optimizer, rows = self.job_for(task, data), task.optimizer, len(data.x)
        pieces = -(-job.batch_size // self.chunk)
        begin, end = 0, job.end
        if optimizer is not None:
            job.made = optimizer.steps
            write_settings(self.table, optimizer)
            self.table.settings["penalty"][0] = data.penalty * self._losses_a_row
        address, made = ctypes.addressof(job), job.made
        slice_pieces = max(1, int(SLICE_SECONDS * 1e9 / self._nanoseconds))
        adapts = team.size > 1 and team.may_be_fewer
        while begin < end:
            threads, part = self._pace.choose() if adapts else (team.size, 1.0)
            wanted = max(1, int(slice_pieces * part))
            stop, began = min(end, begin + wanted), time.perf_counter()
            if pause:
                stop = min(stop, (begin // (pause * pieces) + 1) * pause * pieces)
            job.begin, job.end = begin, stop
            # One piece of independent rows: no thread waits for another.
            relieves = stop - begin == 1 and self._rows_are_independent
            kernels.program.run(address, team if threads > 1 else None, relieves)
            seconds = time.perf_counter() - began
            if adapts:
                self._pace.note(threads, seconds * end / ((stop - begin) * rows))  # for a row
            if optimizer is not None and not job.failed:
                optimizer.steps = made + stop // pieces
            if stop - begin == wanted:
                slice_pieces = max(1, int(wanted * min(4.0, SLICE_SECONDS / max(seconds, 1e-9))))
            begin = stop
            if job.bad_row:
                raise _bad_row(task.model, data, job.bad_row - 1)
            yield job.losses / self._losses_a_row, job.hits / self._hits_a_row, int(job.done), job.failed
            if job.failed:
                return
            if begin < end and not (task.model.is_linked() and self.key == (self.key[0], *_key(task))):
                raise InvalidValueError(
                    "the model or the optimizer was given other layers, arrays or settings within an epoch; expected "
                    "such changes between epochs"
                )


def _bad_row(model: Sequential, data: Pass, row: int) -> InvalidValueError:
    """What to say of a row that an operation has refused: a lookup, or one of what was right when the call began."""
    if any(isinstance(layer, Embedding) for layer in model.all_layers()):
        try:
            model.forward(np.ascontiguousarray(data.x[row : row + 1], model.dtype))
        except InvalidValueError as error:
            return InvalidValueError(f"row {row} of x: {error}")
    held = "a row of x with other columns than it had"
    if data.y is not None and data.y.ndim == 1 and data.y.dtype.kind == "i":
        held = f"the label {data.y[row]}" if not isinstance(data.x, CSR) else f"{held}, or the label {data.y[row]}"
    return InvalidValueError(
        f"row {row} of the data holds {held}, which does not fit the model: somebody wrote into the data while they "
        "were read"
    )


def _is_plain(optimizer: Optimizer | None) -> bool:
    """Whether a step is ``parameter -= lr * gradient`` and nothing else."""
    if type(optimizer) is not SGD:
        return False
    return not (optimizer.momentum or optimizer.weight_decay or optimizer.limits or optimizer.maximize)


def _updates_in_place(task: Task) -> bool:
    """Whether a step may change the parameters without storing a gradient."""
    plain = task.optimizer is not None and not task.keep_gradients and _is_plain(task.optimizer)
    return plain and task.model.is_updated_plainly


def _address(array: Array | None) -> int:
    """Where a writeable array starts; `array.ctypes.data` takes four times as long."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array.data)) if array is not None and array.size else 0


# Programs that wait for the next call
_waiting: weakref.WeakKeyDictionary[Sequential, list[Program]] = weakref.WeakKeyDictionary()


def run(task: Task, data: Pass, team: Any, pause: int = 0) -> Iterator[Sums]:
    """Make a program, for which much may have to be compiled; its iterator then goes through the data once.

    Parameters
    ----------
    task : Task
        With no part that is `uncompiled`.
    data : Pass
    team : fastfnn_kernels.team.Team
    pause : int
        Yield whenever so many steps of the epoch are done, too; 0: only slice by slice.

    Yields
    ------
    Sums
        After every slice. One may end within a batch; the parameters are then those before the batch.
    """
    model = task.model
    model.gather_parameters()
    if task.optimizer is not None:
        task.optimizer.prepare(model.parameters)
    data, ignores = _weighed(task, data)
    form = _form(task, data, team.size, ignores)
    key = (form, *_key(task))
    waiting = _waiting.get(model)
    if waiting is None:
        waiting = _waiting.setdefault(model, [])
    kept = _taken(waiting, key)
    program = kept or Program(task, form, key)

    def go() -> Iterator[Sums]:
        yield from program.run(task, data, team, pause)
        # Not after an error or an interrupt: threads may still be at work on it.
        waiting.append(program)
        if kept is None:
            _make_room(waiting)

    return go()


def for_rows(task: Task, data: Pass, n_threads: int = 1) -> Program:
    """A program that goes through these data, or fewer of their rows, again and again."""
    task.model.gather_parameters()
    sparsity = lowering.sparsity_of_a_row(task.model) if task.packed is None else None
    inputs = Data("x", data.x.shape[1:], data.x.dtype, sparsity)
    form = _form(task, data, n_threads)._replace(sparsity=sparsity, inputs=inputs)
    return Program(task, form, None)


def for_training(task: Task, data: Pass, n_threads: int) -> Program:
    """A program for a caller who goes through the same data again and again, with the same arrays of the model."""
    assert task.optimizer is not None
    task.model.gather_parameters()
    task.optimizer.prepare(task.model.parameters)
    form = _form(task, data, n_threads)
    return Program(task, form, (form, *_key(task)))


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


def _weighed(task: Task, data: Pass) -> tuple[Pass, bool]:
    """The data with what its loss makes of labels: rows count so that each batch's mean is ``Σ w l / Σ w``.

    Labels that are to be ignored become one beyond the last class; whether there are any is told, too.
    """
    loss, y = task.loss, data.y
    if not isinstance(loss, (CrossEntropyLoss, NLLLoss)) or y is None or y.ndim != 1 or not loss.weighs(y):
        return data, False
    ignored = y == loss.ignore_index
    ignores, beyond = bool(ignored.any()), np.where(ignored, task.model.output_shape(data.x.shape[1:])[0], y)
    if loss.reduction == "sum":
        return data._replace(y=beyond), ignores
    starts, order = np.arange(0, len(y), data.batch_size or len(y)), slice(None) if data.order is None else data.order
    sums, rows = np.add.reduceat(loss.label_weights(y)[order], starts), np.diff(starts, append=len(y))
    factors = np.empty(len(y))
    factors[order] = np.repeat(np.divide(rows, sums, out=np.zeros(len(sums)), where=sums > 0), rows)
    return data._replace(y=beyond, weights=factors if data.weights is None else factors * data.weights), ignores


def _form(task: Task, data: Pass, n_threads: int, ignores: bool = False) -> Form:
    x, y, rows = data.x, data.y, data.batch_size or len(data.x)
    if task.optimizer is None:  # in training a program is for one batch size; else a few serve all numbers of rows
        rows = min(1 << (len(x) - 1).bit_length(), lowering.CHUNK_ROWS)
    is_small = rows <= MOST_ROWS_LAZY and len(x) >= rows * LEAST_STEPS_LAZY
    lazy = is_small and _updates_in_place(task) and not data.penalty
    # A packed product finds the zeros of dense rows itself.
    dense = task.packed is not None and not isinstance(x, CSR)
    sparsity = None if dense else lowering.sparsity(task.model, x, min(rows, len(x)), lazy)
    inputs = Data("x", x.shape[1:], x.dtype, sparsity)
    targets = None if y is None else Data("y", y.shape[1:], y.dtype)
    weights = None if data.weights is None else Data("weights", (1,), data.weights.dtype)
    in_order, penalised, stores = data.order is None, bool(data.penalty), task.loss is None or data.out is not None
    return Form(rows, n_threads, in_order, sparsity, lazy, inputs, targets, weights, ignores, penalised, stores)


_known_configs: weakref.WeakKeyDictionary[Sequential, tuple[Any, list[Any]]] = weakref.WeakKeyDictionary()


def _configs(model: Sequential) -> list[Any]:
    """The layers and their settings, looked up anew only after a setting has been written."""
    key = (Layer.changes, *model.layer_ids())
    known = _known_configs.get(model)
    if known is None or known[0] != key:
        layers = model.named_layers().items()
        described = [(place, id(layer), layer.config(), layer.update_settings()) for place, layer in layers]
        known = _known_configs[model] = key, described
    return known[1]


def _key(task: Task) -> tuple[Any, ...]:
    """What a program depends on. An identity stands for an object that the program keeps alive."""
    model, loss, optimizer = task.model, task.loss, task.optimizer
    buffers = [id(array) for layer in model.all_layers() for array in layer.buffers.values()]
    key = (task.keep_gradients, task.packed is None, id(model.parameters), _configs(model), buffers)
    if loss is None:
        return key
    weights = [(name, values.tobytes()) for name, values in loss.weights().items()]
    settings = getattr(loss, "label_smoothing", 0.0), getattr(loss, "delta", 0.0), weights
    key = (*key, type(loss), loss.reduction, settings)
    if optimizer is None:
        return key
    settings = operation_of(optimizer), _is_plain(optimizer), optimizer.limits is None, optimizer.decay_biases
    settings = *settings, optimizer.maximize
    return (*key, *settings, *map(id, _state(optimizer)))


def inference_key(model: Sequential) -> tuple[Any, ...]:
    """What a program `for_rows` depends on besides the inputs: it may be kept while this stays the same."""
    model.gather_parameters()
    return model.links, _configs(model)


def _state(optimizer: Optimizer | None) -> list[Array]:
    return [] if optimizer is None else [optimizer.state[name] for name in optimizer.slots]
