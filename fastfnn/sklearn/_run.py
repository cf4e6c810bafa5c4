"""A training of an estimator: one call of `training.fit`, or of SciPy's minimiser."""

from __future__ import annotations

import copy
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastfnn import training
from fastfnn.errors import DivergenceError, InvalidValueError, NonFiniteLossError
from fastfnn.history import History
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.schedules import Schedule
from fastfnn.sklearn._course import Course
from fastfnn.sklearn._lbfgs import Limits, Minimum
from fastfnn.sklearn._objective import Objective
from fastfnn.sklearn._parameters import batch_rows, weight_decay
from fastfnn.sklearn._rows import Rows
from fastfnn.training.callbacks import EpochEnd
from fastfnn.training.inference import predict_raw

Array = NDArray[Any]
INTERRUPTED = "Training interrupted by user."  # scikit-learn's words


class Run(NamedTuple):
    """All that a training is of.

    Attributes
    ----------
    estimator : FNN
        Has the parameters.
    held : Rows or None
        Rows to score.
    epochs : int
    random : RandomState
        Draws the orders.
    """

    estimator: Any
    model: Sequential
    objective: Objective
    rows: Rows
    held: Rows | None
    course: Course
    epochs: int
    random: np.random.RandomState

    @property
    def validation(self) -> tuple[Any, ...] | None:
        """The rows to score, as `training.fit` takes them."""
        if self.held is None:
            return None
        weights = () if self.held.weights is None else (self.held.weights,)
        return self.held.X, self.objective.target(self.held.codes), *weights

    @property
    def callbacks(self) -> list[Any]:
        """The user's."""
        return list(self.estimator.callbacks or ())

    def score(self, end: EpochEnd) -> float:
        """How good the model is on the rows held out; NaN where it makes numbers that are not finite."""
        estimator, held = self.estimator, self.held
        assert held is not None
        if estimator.monitor == "val_loss":
            return -end.history.val_loss[-1]
        outputs = predict_raw(end.model, held.X, n_threads=estimator.n_threads)
        if self.objective.link is not None:
            outputs = self.objective.link(outputs)
        return estimator._score(outputs, held.codes, held.weights) if np.isfinite(outputs).all() else np.nan


def train(run: Run, optimizer: Optimizer) -> History:
    """Train in batches.

    Raises
    ------
    DivergenceError
        The loss became infinite or NaN.
    """
    estimator, model, objective, rows, course = run.estimator, run.model, run.objective, run.rows, run.course
    n, weights = rows.X.shape[0], rows.weights
    batch = batch_rows(estimator.batch_size, n, model)
    batch_weight = batch * _mean_weight(weights)
    optimizer.weight_decay = weight_decay(estimator, batch_weight, objective.gradient)
    course.alpha = 0.0 if estimator.solver == "adamw" else float(estimator.alpha)
    course.rows, course.weights, course.verbose = n, weights, bool(estimator.verbose)
    course.random = run.random if estimator.shuffle else None
    course.constants = None if objective.constants is None else objective.constants(rows.codes)
    course.score = run.score if estimator.early_stopping else None
    schedule = copy.deepcopy(estimator.learning_rate) if isinstance(estimator.learning_rate, Schedule) else None
    try:
        history = training.fit(
            model,
            rows.X,
            objective.target(rows.codes),
            loss=objective.loss,
            optimizer=optimizer,
            epochs=run.epochs,
            batch_size=batch,
            shuffle=False,  # the course does that
            sample_weight=weights,
            validation_data=run.validation,
            schedule=schedule,
            n_threads=estimator.n_threads,
            callbacks=[course, *run.callbacks],
            progress=False,
        )
        course.restore_best(model)
    except KeyboardInterrupt as interrupt:
        history = getattr(interrupt, "history", None) or History()
        warnings.warn(INTERRUPTED, stacklevel=4)
        course.restore_best(model)
    except NonFiniteLossError as error:
        if course.score is None or course.best is None:
            raise _diverged(estimator, error) from error
        history = error.history or History()
        course.note_divergence()
        course.restore_best(model)
        warnings.warn(f"{_what_helps(estimator, error)} The best weights before that are kept.", ConvergenceWarning, 4)
    finally:
        course.forget()
    return history


def minimise(run: Run) -> History:
    """Train by L-BFGS.

    Raises
    ------
    DivergenceError
        The loss is infinite or NaN where it begins.
    """
    estimator, rows, course = run.estimator, run.rows, run.course
    _mean_weight(rows.weights)
    course.begin()
    course.verbose = bool(estimator.verbose)
    minimum = Minimum(
        run.model,
        run.objective,
        rows.X,
        rows.codes,
        rows.weights,
        estimator.alpha,
        validation_data=run.validation,
        callbacks=run.callbacks,
        note=course.note_loss,
        n_threads=estimator.n_threads,
    )
    try:
        minimum.run(Limits(estimator.tol, estimator.max_iter, estimator.max_fun))
    except KeyboardInterrupt:
        warnings.warn(INTERRUPTED, stacklevel=4)
    except NonFiniteLossError as error:
        raise _diverged(estimator, error) from error
    course.best_loss = min([course.best_loss, *course.losses])
    course.converged = minimum.message is None
    if minimum.message is not None:
        warnings.warn(
            f"lbfgs failed to converge after {minimum.history.epochs} iterations: {minimum.message}. Increase max_iter "
            f"({estimator.max_iter}) or max_fun ({estimator.max_fun}), or scale the data (a StandardScaler before the "
            "estimator).",
            ConvergenceWarning,
            stacklevel=4,
        )
    return minimum.history


def _mean_weight(weights: Array | None) -> float:
    mean = 1.0 if weights is None else float(weights.mean())
    if not mean:
        raise InvalidValueError("sample_weight and class_weight leave no row a weight; expected at least one above 0")
    return mean


def _diverged(estimator: Any, error: NonFiniteLossError) -> DivergenceError:
    return DivergenceError(
        "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
        f"preprocessed. {_what_helps(estimator, error)}",  # as scikit-learn has it, and then what it lacks
        epoch=error.epoch,
        step=error.step,
    )


def _what_helps(estimator: Any, error: NonFiniteLossError) -> str:
    where = f"The loss became infinite or NaN in epoch {error.epoch}, step {error.step}."
    scale = "eatures of about the same scale (a StandardScaler before the estimator) usually help."
    if estimator.solver == "lbfgs":
        return f"{where} F{scale}"
    return f"{where} A smaller learning_rate_init than {estimator.learning_rate_init:g} or f{scale}"
