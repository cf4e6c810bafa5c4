"""`EMA`: an average of the weights over the steps of a training."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.model import Sequential
from fastfnn.training.callbacks.base import Array, EpochCallback, EpochEnd, EverySteps, StepEnd


class EMA(EpochCallback):
    """Averages the parameters over the steps, a ← δ a + (1 - δ) w (Polyak & Juditsky 1992), from those after the first.

    The training itself goes on with the parameters as they are; running statistics are no part of the average. Each
    update is a return to Python and a pass over the parameters: with small networks that is more than a step costs, and
    a larger `every`, with a smaller decay, averages over as many steps.

    Parameters
    ----------
    decay : float in [0, 1)
        δ, of each update.
    every : int
        Steps from one update to the next, counted from each epoch's beginning.
    validate : bool
        Whether the validation data are evaluated with the average, so that callbacks watch its figures.
    apply : bool
        Whether the model has the average at the end of a training, unless an error ends it. Where `EarlyStopping` has
        the last word, as it has behind this one, give it ``restore_best=False``.

    Attributes
    ----------
    average : dict of str to ndarray
        By the parameters' names; empty before the first update. Checkpoints keep it, beside the parameters themselves.
    updates : int
    """

    def __init__(self, decay: float = 0.999, every: int = 1, validate: bool = False, apply: bool = True) -> None:
        self.decay = check.real("decay", decay, least=0, below=1)
        self.every = check.positive_int("every", every)
        self.validate, self.apply = bool(validate), bool(apply)
        self.within = EverySteps(self.every, self._update)
        self.begin()

    def begin(self) -> None:
        self.average: dict[str, Array] = {}
        self.updates = 0

    def _update(self, end: StepEnd) -> None:
        for name, array in end.model.named_parameters().items():
            if name not in self.average:
                self.average[name] = array.copy()
            else:
                mean = self.average[name]
                mean += mean.dtype.type(1 - self.decay) * (array - mean)
        self.updates += 1

    def averaged(self, model: Sequential) -> Sequential:
        """A copy of the model with the average for its parameters.

        Raises
        ------
        InvalidValueError
            There is no average yet, or it is of another model.
        """
        twin = copy.deepcopy(model)
        self._write(twin)
        return twin

    def _write(self, model: Sequential) -> None:
        shapes = {name: array.shape for name, array in model.named_parameters().items()}
        if shapes != {name: array.shape for name, array in self.average.items()}:
            raise InvalidValueError(
                f"the average has {', '.join(self.average) or 'nothing'}; expected parameters of the model's names and "
                f"shapes, {shapes}"
            )
        for name, array in model.named_parameters().items():
            array[...] = self.average[name]

    @contextlib.contextmanager
    def evaluating(self, model: Sequential) -> Iterator[None]:
        if not (self.validate and self.average):
            yield
            return
        before = model.snapshot()
        try:
            self._write(model)
            yield
        finally:
            model.restore(before)

    def finish(self, end: EpochEnd) -> None:
        if self.apply and self.average:
            self._write(end.model)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        return {"updates": self.updates}, dict(self.average)

    def restore(self, values: dict[str, Any], arrays: dict[str, Array]) -> None:
        self.updates = check.counter("updates", values["updates"])
        self.average = {name: array.copy() for name, array in arrays.items()}

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("decay", "every", "validate", "apply")}
