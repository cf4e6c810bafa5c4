"""How a training goes on and ends: scikit-learn's rules for convergence and for the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn.model import Sequential
from fastfnn.training.callbacks import EpochCallback, EpochEnd

#: "adaptive" divides the learning rate by this, until it is so small.
DIVISOR, LEAST_RATE = 5.0, 1e-6


class Course(EpochCallback):
    """Follows a training, ends it where it no longer gets better, and keeps what estimators tell of it.

    The rules are those of scikit-learn's `MLPClassifier`: an epoch is better where its loss, or the score of the rows
    held out, is by `tol` better than the best so far.

    Parameters
    ----------
    tol : float
    patience : float
        Epochs without a better one that are let pass.
    rate : {"constant", "invscaling", "adaptive"}
        How the learning rate goes on.
    power : float
        Exponent of "invscaling".
    unit : float
        The optimizer's learning rates are to be multiplied by this to be the user's.

    Attributes
    ----------
    score : callable or None
        Of the model, on the rows held out. The best parameters are restored at the end. Set before each training, as
        are the next three.
    value, decay : float
        The loss is `value` times the one of the history, and `decay` / 2 Σ w² of the weights.
    rows : int
        Of an epoch.
    losses, scores : list of float
        Of this training's epochs.
    best_loss, best_score : float
    seen : int
        Rows that the model has been trained on, each as often as that happened.
    converged : bool
    """

    def __init__(self, tol: float, patience: float, rate: str, power: float, unit: float) -> None:
        self.tol, self.patience, self.rate, self.power, self.unit = tol, patience, rate, power, unit
        self.score: Callable[[Sequential], float] | None = None
        self.value, self.decay, self.rows, self.seen = 1.0, 0.0, 0, 0
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best_loss, self.best_score = math.inf, -math.inf
        self.first_rate: float | None = None
        self.waited, self.converged = 0, False
        self._best: dict[str, Any] | None = None

    def begin(self) -> None:
        # What decides on the learning rate and the end is kept: `partial_fit` makes a training of every epoch.
        self.losses, self.scores, self.converged = [], [], False

    def __call__(self, end: EpochEnd) -> bool:
        if self.first_rate is None:
            self.first_rate = end.optimizer.lr
        self.seen += self.rows
        self._note(end)
        if self.rate == "invscaling":
            end.optimizer.lr = self.first_rate / (self.seen + 1) ** self.power
        if self.waited <= self.patience:
            return False
        if self.rate == "adaptive" and end.optimizer.lr * self.unit > LEAST_RATE:
            end.optimizer.lr /= DIVISOR
            self.waited = 0
            return False
        self.converged = True
        return True

    def _note(self, end: EpochEnd) -> None:
        weights = end.model.parameters[: end.model.n_weights]
        loss = self.value * end.history.loss[-1] + self.decay / 2 * float(np.vdot(weights, weights))
        self.losses.append(loss)
        if self.score is None:
            self.waited = self.waited + 1 if loss > self.best_loss - self.tol else 0
            self.best_loss = min(self.best_loss, loss)
            return
        score = self.score(end.model)
        self.scores.append(score)
        self.waited = 0 if score >= self.best_score + self.tol else self.waited + 1
        if score > self.best_score:
            self.best_score, self._best = score, end.model.snapshot()

    def finish(self, end: EpochEnd) -> None:
        if self._best is not None:
            end.model.restore(self._best)
        self.score = self._best = None  # not to be dragged along by pickles
