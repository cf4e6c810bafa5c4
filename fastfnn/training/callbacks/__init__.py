"""Callbacks for ``fit(…, callbacks=…)``: called after epochs or steps, they watch, log, save and end a training.

A callback is any callable of an `EpochEnd`, an `EpochCallback`, or an `EverySteps`.
"""

from fastfnn.history import History
from fastfnn.training.callbacks.averaging import EMA
from fastfnn.training.callbacks.base import Callback, EpochCallback, EpochEnd, EverySteps, StepEnd, asks_to_end
from fastfnn.training.callbacks.checkpoints import Checkpoint, Resumed, resume
from fastfnn.training.callbacks.logs import CSVLogger, TensorBoard
from fastfnn.training.callbacks.stopping import EarlyStopping

__all__ = [
    "EMA",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochCallback",
    "EpochEnd",
    "EverySteps",
    "History",
    "Resumed",
    "StepEnd",
    "TensorBoard",
    "asks_to_end",
    "resume",
]
