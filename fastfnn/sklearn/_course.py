"""How a training goes on and ends: scikit-learn's rules for order, weights, learning rate and convergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.engine.task import Pass
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.training.callbacks import EpochCallback, EpochEnd

Array = NDArray[Any]
#: "adaptive" divides the learning rate by this, until it is so small.
DIVISOR, LEAST_RATE = 5.0, 1e-6


class Course(EpochCallback):
    """Follows a training, ends it where it no longer gets better, and keeps what estimators tell of it.

    The rules are those of scikit-learn's `MLPClassifier`. An epoch is better where its loss, or the score of the rows
    held out, is by `tol` better than the best so far. Each epoch shuffles the order of the one before. The loss of a
    batch is the mean by its own rows' weights, and so is the L2 term: a last batch of fewer rows decays more.

    Parameters
    ----------
    tol : float
    patience : float
        Epochs without a better one that are let pass.
    rate : {"constant", "invscaling", "adaptive"}
        How the learning rate goes on.
    power : float
        Exponent of "invscaling".
    value, gradient : float
        See `Objective`.

    Attributes
    ----------
    score : callable or None
        Of the end of an epoch, on the rows held out. The best parameters are restored at the end. Set before each
        training, as are the next six.
    alpha : float
        Of the L2 term; 0 where there is none.
    rows : int
        Of an epoch.
    random : RandomState or None
        Draws the orders; None leaves the rows as they come.
    weights : (n,) array or None
    constants : (n,) array or None
        What scikit-learn's loss of the rows has more.
    verbose : bool
        Print what scikit-learn prints.
    losses, scores : list of float
        Of this training's epochs.
    best_loss, best_score : float
    seen : int
        Rows that the model has been trained on, each as often as that happened.
    waited : int
        Epochs since the last better one.
    converged : bool
    """

    def __init__(self, tol: float, patience: float, rate: str, power: float, value: float, gradient: float) -> None:
        self.tol, self.patience, self.rate, self.power = tol, patience, rate, power
        self.value, self.gradient = value, gradient
        self.alpha, self.rows, self.seen, self.verbose = 0.0, 0, 0, False
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best_loss, self.best_score = math.inf, -math.inf
        self.first_rate: float | None = None
        self.waited, self.converged = 0, False
        self.best: dict[str, Any] | None = None
        self.forget()

    def forget(self) -> None:
        """Let go of what belongs to one training: not to be dragged along by pickles."""
        self.score: Callable[[EpochEnd], float] | None = None
        self.random: np.random.RandomState | None = None
        self.weights: Array | None = None
        self.constants: Array | None = None
        self._order: Array | None = None
        self._constant = 0.0

    def follow(self, before: Course) -> None:
        """Go on from what is known of earlier trainings of the same model."""
        self.waited, self.best_loss = before.waited, before.best_loss
        self.best_score, self.best = before.best_score, before.best

    def begin(self) -> None:
        # What decides on the learning rate and the end is kept: `partial_fit` makes a training of every epoch.
        self.losses, self.scores, self.converged = [], [], False

    def arrange(self, epoch: Pass) -> Pass:
        """The epoch in scikit-learn's order, with its weights of rows and of the L2 term."""
        rows, size = self.rows, epoch.batch_size or self.rows
        if self.random is not None:
            drawn = np.arange(rows)
            self.random.shuffle(drawn)
            self._order = drawn if self._order is None else self._order[drawn]
            epoch = epoch._replace(order=self._order if size < rows else None)
        starts = np.arange(0, rows, size)
        counts = np.diff(starts, append=rows).astype(np.float64)
        sums, weights = counts, None
        if self.weights is not None:
            order = slice(None) if epoch.order is None else epoch.order
            sums, weights = np.add.reduceat(self.weights[order], starts), np.empty(rows)
            factors = np.divide(counts, sums, out=np.zeros_like(sums), where=sums > 0)
            weights[order] = self.weights[order] * np.repeat(factors, counts.astype(int))
            epoch = epoch._replace(weights=weights)
        if self.alpha:
            decays = np.divide(self.gradient * self.alpha, sums, out=np.zeros_like(sums), where=sums > 0)
            epoch = epoch._replace(decays=decays, penalty=1 / (self.gradient * self.value))
        if self.constants is not None:
            self._constant = float(np.average(self.constants, weights=weights))
        return epoch

    def __call__(self, end: EpochEnd) -> bool:
        if self.first_rate is None:
            self.first_rate = end.optimizer.lr
        self.seen += self.rows
        self._note(end)
        if self.rate == "invscaling":
            _set_rate(end.optimizer, self.first_rate / (self.seen + 1) ** self.power)
        if self.waited <= self.patience:
            return False
        self._say(
            f"{'Training loss' if self.score is None else 'Validation score'} did not improve more than "
            f"tol={self.tol:f} for {self.patience} consecutive epochs.",
            ending=False,
        )
        if self.rate == "adaptive" and end.optimizer.lr * self.gradient > LEAST_RATE:
            _set_rate(end.optimizer, end.optimizer.lr / DIVISOR)
            self._say(f" Setting learning rate to {end.optimizer.lr * self.gradient:f}")
            self.waited = 0
            return False
        self._say(" Learning rate too small. Stopping." if self.rate == "adaptive" else " Stopping.")
        self.converged = True
        return True

    def note_loss(self, loss: float) -> None:
        """Keep the loss of an epoch, in scikit-learn's unit."""
        self.losses.append(loss)
        self._say(f"Iteration {len(self.losses)}, loss = {loss:.8f}")

    def _note(self, end: EpochEnd) -> None:
        loss = self.value * end.history.loss[-1] + self._constant
        self.note_loss(loss)
        if self.score is None:
            self.waited = self.waited + 1 if loss > self.best_loss - self.tol else 0
            self.best_loss = min(self.best_loss, loss)
            return
        score = self.score(end)
        self.scores.append(score)
        self._say(f"Validation score: {score:f}")
        self.waited = 0 if score >= self.best_score + self.tol else self.waited + 1
        if score > self.best_score:
            self.best_score, self.best = score, end.model.snapshot()

    def note_divergence(self) -> None:
        """An epoch had a loss that was not finite, so it was undone."""
        self.losses.append(math.nan)
        self.scores.append(math.nan)

    def restore_best(self, model: Sequential) -> None:
        """Have the model be the best one, where rows held out tell which that was."""
        if self.score is not None and self.best is not None:
            model.restore(self.best)

    def _say(self, text: str, ending: bool = True) -> None:
        if self.verbose:
            print(text, end="\n" if ending else "")


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    """Change the learning rate, which scikit-learn keeps in the velocity: what there is keeps its old rate."""
    velocity = optimizer.state.get("velocity")
    if velocity is not None:
        velocity *= optimizer.lr / rate
    optimizer.lr = rate
