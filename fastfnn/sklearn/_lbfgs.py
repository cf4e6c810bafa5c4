"""L-BFGS: SciPy's minimiser, with loss and gradient of the compiled full batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn.engine import eager, program
from fastfnn.engine.task import Pass, Sums, Task
from fastfnn.errors import NonFiniteLossError
from fastfnn.history import History
from fastfnn.model import Sequential
from fastfnn.optim import SGD
from fastfnn.sklearn._objective import Objective
from fastfnn.training import arguments
from fastfnn.training.callbacks import EpochCallback, EpochEnd, asks_to_end
from fastfnn.training.inference import evaluate

Array = NDArray[Any]


class _Stop(Exception):  # noqa: N818 (no error)
    """A callback has asked to end the training."""


class Limits(NamedTuple):
    """When to end.

    Attributes
    ----------
    tol : float
        The largest element of the gradient at which the training has converged.
    max_iter, max_fun : int
        Iterations and evaluations of the loss at most.
    """

    tol: float
    max_iter: int
    max_fun: int


class Minimum:
    """A minimisation under way: all rows at once, in float64.

    A float32 network is trained as a float64 twin: a line search needs to see differences that float32 has not.

    Parameters
    ----------
    model : Sequential
        Has the best parameters so far after every iteration.
    objective : Objective
    x, codes : arrays
    weights : (n,) array or None
        Of the rows.
    alpha : float
        Of the L2 term.
    callbacks : sequence
        Called after each iteration.
    note : callable
        Gets the loss of each iteration, in scikit-learn's unit.

    Attributes
    ----------
    history : History
        Of the iterations.
    evaluations : int
        Of the loss.
    message : str or None
        Why it has ended without converging.
    """

    def __init__(
        self,
        model: Sequential,
        objective: Objective,
        x: Any,
        codes: Array,
        weights: Array | None,
        alpha: float,
        *,
        validation_data: tuple[Any, ...] | None = None,
        callbacks: Sequence[Any] = (),
        note: Callable[[float], None],
        n_threads: int | None = None,
    ) -> None:
        self.model, self.objective, self.note, self.n_threads = model, objective, note, n_threads
        self.twin = model if model.dtype == np.float64 else model.astype("float64")
        self.history, self.evaluations, self.message = History(), 0, None
        self._callbacks, self._validation = list(callbacks), validation_data
        x, y, row_weights = arguments.as_data(self.twin, objective.loss, x, objective.target(codes), weights)
        self._data = Pass(x, y, weights=row_weights, batch_size=len(x))
        # A step with a rate of 0 makes the loss and the gradient, and changes nothing.
        self._optimizer = SGD(lr=0.0)
        self._task = Task(self.twin, objective.loss, self._optimizer, keep_gradients=True)
        self._decay = alpha / (len(x) if weights is None else float(np.sum(weights)))
        self._constant = 0.0
        if objective.constants is not None:
            self._constant = float(np.average(objective.constants(codes), weights=weights))
        #: Loss and accuracy where the loss was last evaluated, which is where an iteration ends.
        self._seen = np.inf, np.nan
        self._train: Callable[[], Iterator[Sums]]
        self._last: Array | None = None

    def run(self, limits: Limits) -> None:
        """Minimise.

        Raises
        ------
        NonFiniteLossError
            The loss is not finite where it begins.
        """
        from scipy.optimize import minimize  # which scikit-learn brings

        for callback in self._callbacks:
            if isinstance(callback, EpochCallback):
                callback.begin()
        options = {"maxiter": limits.max_iter, "maxfun": limits.max_fun, "gtol": limits.tol}
        self.twin.gather_parameters()
        start = self.twin.parameters.copy()
        rows = len(self._data.x)
        with arguments.team_for(self.twin, self._data.x, rows, self.n_threads, training=True, lasts=True) as team:
            task, data = self._task, self._data
            if program.is_compiled(task):
                own = program.for_training(task, data, team.size)
                self._train = lambda: own.run(task, data, team, 0)
            else:
                self._train = lambda: eager.run(task, data)
            self._began = time.perf_counter()
            try:
                found = minimize(
                    self._value_and_gradient,
                    start,
                    jac=True,
                    method="L-BFGS-B",
                    callback=self._end_iteration,
                    options=options,
                )
                self.message = None if found.success else str(found.message).capitalize()
                self._keep(found.x)
            except _Stop:
                pass
            except BaseException:
                self._keep(start if self._last is None else self._last)
                raise
        for callback in self._callbacks:
            if isinstance(callback, EpochCallback):
                callback.finish(self._end())

    def _value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """What is minimised, whose gradient is scikit-learn's, and that gradient."""
        twin, rows = self.twin, len(self._data.x)
        twin.parameters[...] = theta
        total, correct, done, failed = 0.0, 0, 0, 0
        for total, correct, done, failed in self._train():  # noqa: B007
            pass
        self.evaluations += 1
        if failed or not done:
            if self.evaluations == 1:
                raise NonFiniteLossError("the loss is infinite or NaN", epoch=1, step=1)
            return np.inf, np.zeros_like(theta)
        l2, gradient = 0.0, twin.gradients / self.objective.gradient
        for part in twin.trained_weights():
            weights = theta[part.where]
            l2 += self._decay / 2 * float(weights @ weights)
            gradient[part.where] += self._decay * weights
        value = total / rows
        loss = self.objective.value * value + self._constant + l2
        self._seen = loss, correct / rows
        return value / self.objective.gradient + l2, gradient

    def _end_iteration(self, theta: Array) -> None:
        self._last = theta.copy()
        loss, accuracy = self._seen
        self._keep(theta)
        history, classifies = self.history, self.objective.loss.classifies
        history.loss.append((loss - self._constant) / self.objective.value)
        history.accuracy.append(accuracy if classifies else np.nan)
        history.lr.append(np.nan)
        now = time.perf_counter()
        history.seconds.append(now - self._began)
        if self._validation is not None:
            x, y, *weights = self._validation
            result = evaluate(
                self.model,
                x,
                y,
                loss=self.objective.loss,
                sample_weight=weights[0] if weights else None,
                n_threads=self.n_threads,
            )
            history.val_loss.append(result.loss)
            history.val_accuracy.append(result.accuracy)
        self.note(loss)
        end = self._end()
        stops = [asks_to_end(callback, callback(end)) for callback in self._callbacks]
        self._began = time.perf_counter()
        if any(stops):
            raise _Stop

    def _keep(self, theta: Array) -> None:
        """Have the model be this one."""
        self.twin.parameters[...] = theta
        if self.twin is not self.model:
            dtype = self.model.dtype
            self.model.restore({name: array.astype(dtype) for name, array in self.twin.snapshot().items()})

    def _end(self) -> EpochEnd:
        return EpochEnd(
            self.history.epochs, self.model, self._optimizer, self.history, callbacks=self._callbacks, first_lr=0.0
        )
