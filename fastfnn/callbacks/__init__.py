"""Callbacks for ``fit(…, callbacks=…)``: called after epochs or steps, they watch, log, save and end a training.

A callback is any callable of an `EpochEnd`, an `EpochCallback`, or an `EverySteps`.
"""

from fastfnn.callbacks.base import Callback, EpochCallback, EpochEnd, EverySteps, StepEnd
from fastfnn.callbacks.checkpoints import Checkpoint, Resumed, resume
from fastfnn.callbacks.logs import CSVLogger, TensorBoard
from fastfnn.callbacks.stopping import EarlyStopping
from fastfnn.history import History

__all__ = [
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
    "resume",
]
