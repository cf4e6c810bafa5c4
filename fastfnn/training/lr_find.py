"""Which learning rate to begin with: a short training in which it grows from step to step (Smith 2017)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn._warnings import warn
from fastfnn.errors import InvalidTypeError, InvalidValueError, NonFiniteDataError, NonFiniteLossError
from fastfnn.losses import Loss
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.schedules import Schedule
from fastfnn.training.arguments import Inputs, as_data
from fastfnn.training.callbacks import EverySteps, StepEnd
from fastfnn.training.fit import fit

Array = NDArray[np.float64]

#: Weight of what came before in the smoothed losses.
SMOOTHING = 0.9
#: How far below the rate of the least loss to stay: there, it is about to rise.
MARGIN = 10.0
#: The sweep ends where the smoothed loss is so many times its least.
DIVERGED = 4.0


@dataclass(frozen=True)
class LRSweep:
    """What `lr_find` saw. `fastfnn.plot.lr_find` draws it.

    Attributes
    ----------
    lr : (steps,) float64
        The learning rate of each step; fewer than asked for where the loss blew up.
    loss : (steps,) float64
        Of its batch, before the step.
    smoothed : (steps,) float64
        The losses' exponential average, without the bias of its beginning.
    suggestion : float
        A good one to begin with: the geometric mean of the rate at which the smoothed loss had fallen half its way and
        a tenth of that at which it was least, but within the sweep. (The first alone is too careful where a start is
        hot, the second too bold.)
    """

    lr: Array
    loss: Array
    smoothed: Array
    suggestion: float

    def __repr__(self) -> str:
        return f"LRSweep(suggestion={self.suggestion:.3g}, {len(self.lr)} steps from {self.lr[0]:g} to {self.lr[-1]:g})"


class _Sweep(Schedule):
    """Times the same factor at every step, up to `last` over `steps`, and on from there."""

    def __init__(self, last: float, steps: int) -> None:
        self.growth = math.log(last) / (steps - 1)

    def factors(self, epoch: int, epochs: int, steps: int) -> Array:
        return np.exp(self.growth * ((epoch - 1) * steps + np.arange(steps)))


def lr_find(
    model: Sequential,
    x: Inputs,
    y: ArrayLike,
    *,
    loss: Loss,
    optimizer: Optimizer,
    batch_size: int = 64,
    first: float = 1e-6,
    last: float = 10.0,
    steps: int = 100,
    seed: int | np.random.Generator | None = None,
    n_threads: int | None = None,
) -> LRSweep:
    """Train copies of model and optimizer for a few steps with a learning rate that grows from `first` to `last`.

    Model and optimizer stay as they are. The copies start from there: a model that is trained already gets a suggestion
    for going on, and a warning that says so.

    Parameters
    ----------
    model, x, y, loss, optimizer, seed, n_threads
        As in `fit`; the optimizer's own `lr` does not matter.
    batch_size : int
        Rows of a step.
    first, last : float
        Learning rates at the ends, 0 < first < last.
    steps : int
        At least 10. The data may be gone through more than once for them.

    Returns
    -------
    LRSweep

    References
    ----------
    Smith 2017, "Cyclical Learning Rates for Training Neural Networks".
    """
    first, last = check.real("first", first, above=0), check.real("last", last, above=0)
    if first >= last:
        raise InvalidValueError(f"first is {first:g}; expected less than last, which is {last:g}")
    steps, batch_size = check.positive_int("steps", steps, least=10), check.positive_int("batch_size", batch_size)
    x, y, _ = as_data(model, loss, x, y)
    check.instance("optimizer", optimizer)
    if not isinstance(optimizer, Optimizer):
        raise InvalidTypeError(f"optimizer is {optimizer!r}; expected an optimizer such as SGD(lr=0.1)")
    if model.task is not None or optimizer.steps:
        warn(
            "lr_find: the model or the optimizer has been trained already, so the suggestion is for going on from "
            "there; for a training from the start give it a new model and a new optimizer"
        )
    model.gather_parameters()
    spare = copy.deepcopy(model)
    sweeper = optimizer.copy_for(model.parameters, spare.parameters)
    sweeper.lr = first
    batch_size = min(batch_size, len(x))
    losses: list[float] = []
    smoothed: list[float] = []
    before = {"epoch": 0, "total": 0.0, "rows": 0}

    def note(end: StepEnd) -> bool:
        if end.epoch != before["epoch"]:
            before.update(epoch=end.epoch, total=0.0, rows=0)
        rows = min(end.step * batch_size, len(x))
        total = end.loss * rows if loss.reduction == "mean" else end.loss
        losses.append((total - before["total"]) / (rows - before["rows"] if loss.reduction == "mean" else 1))
        before.update(total=total, rows=rows)
        average = (smoothed[-1] * (1 - SMOOTHING ** len(smoothed)) if smoothed else 0.0) * SMOOTHING
        smoothed.append((average + (1 - SMOOTHING) * losses[-1]) / (1 - SMOOTHING ** len(losses)))
        return len(losses) == steps or smoothed[-1] > DIVERGED * max(min(smoothed), 0.0) + 1e-12

    settings: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "n_threads": n_threads}
    settings |= {"callbacks": [EverySteps(1, note)], "progress": False}
    schedule, epochs = _Sweep(last / first, steps), math.ceil(steps / math.ceil(len(x) / batch_size))
    try:
        fit(spare, x, y, loss=loss, optimizer=sweeper, epochs=epochs, schedule=schedule, **settings)
    except NonFiniteDataError:
        raise
    except NonFiniteLossError:  # far enough
        pass
    if len(losses) < 2:
        raise InvalidValueError(
            f"first is {first:g}; expected a learning rate at which the loss does not blow up at once"
        )
    rates = first * np.exp(schedule.growth * np.arange(len(losses)))
    curve = np.array(smoothed)
    return LRSweep(rates, np.array(losses), curve, _suggestion(rates, curve))


def _suggestion(rates: Array, curve: Array) -> float:
    lowest = int(curve.argmin())
    highest = int(curve[: lowest + 1].argmax())
    half_way = highest + int((curve[highest:] <= (curve[highest] + curve[lowest]) / 2).argmax())
    return float(np.clip(math.sqrt(rates[half_way] * rates[lowest] / MARGIN), rates[0], rates[-1]))
