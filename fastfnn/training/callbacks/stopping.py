"""`EarlyStopping`: end a training that no longer becomes better, and keep the best epoch's model."""

from __future__ import annotations

from typing import Any

from fastfnn import _checks as check
from fastfnn.monitor import Figures, Monitor
from fastfnn.training.callbacks.base import Array, EpochCallback, EpochEnd


class EarlyStopping(EpochCallback):
    """Ends the training when a figure has not become better for some epochs (Prechelt 1998).

    NaN is never better.

    Parameters
    ----------
    monitor : str, optional
        "loss", "accuracy", "val_loss", "val_accuracy" or that of a metric, such as "val_f1". None: the loss of the
        validation data, or of the training where there are none.
    patience : int
        So many epochs in a row without a better figure end the training.
    min_delta : float
        By how much more than nothing a figure must be better than the best to count.
    restore_best : bool
        Give the model the parameters and buffers of the best epoch at the end, however the training ends; only an
        error leaves them.
    mode : {"min", "max"}, optional
        Whether a smaller or a greater figure is better. Needed only for a function of your own: of losses and of
        fastfnn's metrics it is known.

    Attributes
    ----------
    best : float or None
        The best figure; None where there has been none but NaN.
    best_epoch, stopped_epoch : int or None
        The epoch of `best`, and the one after which this callback has ended the training.

    Raises
    ------
    InvalidValueError
        When a training begins: it has no such figure.
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: str | None = None,
    ) -> None:
        self._monitor = Monitor(monitor, mode)
        self.monitor, self.mode = monitor, mode
        self.patience = check.positive_int("patience", patience)
        self.min_delta = check.real("min_delta", min_delta, least=0)
        self.restore_best = bool(restore_best)
        self.begin()

    def begin(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._snapshot: dict[str, Array] = {}

    def expect(self, figures: Figures) -> None:
        self._monitor.expect(figures)

    def __call__(self, end: EpochEnd) -> bool:
        name, values = self._monitor.watched(end.history)
        if self._monitor.gain(name, values[-1], self.best) > (self.min_delta if self.best is not None else 0):
            self.best, self.best_epoch = values[-1], end.epoch
            if self.restore_best:
                self._snapshot = end.model.snapshot()
        elif end.epoch - (self.best_epoch or 0) >= self.patience:
            self.stopped_epoch = end.epoch
            return True
        return False

    def finish(self, end: EpochEnd) -> None:
        if self._snapshot:
            end.model.restore(self._snapshot)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        values = {"best": self.best, "best_epoch": self.best_epoch, "stopped_epoch": self.stopped_epoch}
        return values, dict(self._snapshot)

    def restore(self, values: dict[str, Any], arrays: dict[str, Array]) -> None:
        self.best, self.best_epoch = values["best"], values["best_epoch"]
        self.stopped_epoch, self._snapshot = values["stopped_epoch"], dict(arrays)

    def config(self) -> dict[str, Any]:
        names = ("monitor", "patience", "min_delta", "restore_best", *(["mode"] if self.mode else []))
        return {name: getattr(self, name) for name in names}
