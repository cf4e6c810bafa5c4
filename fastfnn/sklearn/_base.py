"""What both estimators share: the way from scikit-learn's arguments through `fit` to scikit-learn's attributes."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastfnn import training
from fastfnn.engine.context import few_outputs
from fastfnn.engine.lowering import skips_zeros
from fastfnn.errors import InvalidValueError, NonFiniteLossError
from fastfnn.history import History
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer
from fastfnn.schedules import Schedule
from fastfnn.sklearn._course import Course
from fastfnn.sklearn._network import (
    SEEDS,
    Architecture,
    architecture,
    build,
    copied,
    outputs_of,
    shaped,
    weighted_layers,
)
from fastfnn.sklearn._objective import Objective
from fastfnn.sklearn._parameters import batch_rows, check_parameters, new_optimizer, weight_decay
from fastfnn.training.arguments import WORK_WORTH_CALL, may_be_one
from fastfnn.training.inference import predict_raw

Array = NDArray[Any]
#: Numbers of an X up to which checking it the long way costs more than predicting it.
SMALL = 1 << 14


class Rows(NamedTuple):
    """Checked rows: numbers, codes of the targets (see `FNN._read_targets`) and weights."""

    X: Any
    codes: Array
    weights: Array | None

    def take(self, places: Array) -> Rows:
        """Some of them."""
        return Rows(self.X[places], self.codes[places], None if self.weights is None else self.weights[places])


class FNN(BaseEstimator):
    """Base of the estimators. Subclasses read targets, choose the objective and score."""

    model_: Sequential
    history_: History
    n_features_in_: int
    n_outputs_: int
    #: Whether targets are classes or labels.
    _classifies = False

    # The parameters: each subclass's `__init__` names them, with their defaults, for scikit-learn reads its signature.
    hidden_layer_sizes: int | Sequence[int]
    activation: str | Sequence[str]
    dropout: float | Sequence[float]
    batch_norm: bool
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str | Schedule
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: int | np.random.RandomState | None
    tol: float
    verbose: bool
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    clip_norm: float | None
    dtype: Any
    n_threads: int | None
    network: Sequential | None
    input_shape: tuple[int, ...] | None

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of `__init__` as they came: its `locals()`."""
        self.__dict__.update((name, value) for name, value in arguments.items() if name != "self")

    # What subclasses say

    def _read_targets(self, y: Any, goes_on: bool, once: bool) -> Array:
        """`y` as the objective takes it: (n,) classes from 0, or (n, …) labels or numbers."""
        raise TypeError(f"{type(self).__name__} has no targets")

    def _objective(self, codes: Array, outputs: int | None) -> Objective:
        """What to minimise; where there is a network already, it makes so many `outputs`."""
        raise TypeError(f"{type(self).__name__} has no objective")

    def _weights(self, y: Any, sample_weight: Array | None) -> Array | None:
        """The weights of the rows."""
        return sample_weight

    def _strata(self, codes: Array) -> Array | None:
        """Classes of which the rows held out are to have their share."""
        return None

    def _score(self, outputs: Array, codes: Array, weights: Array | None) -> float:
        """How good a network's outputs are; larger is better."""
        raise TypeError(f"{type(self).__name__} has no score")

    # Training

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Train a network, or with `warm_start` go on with the last one.

        Parameters
        ----------
        X : (n, features) array or sparse matrix
            Of any numeric dtype. An array or a CSR matrix is not copied; ``uint8`` stays ``uint8``.
        y : (n,) or (n, outputs) array
        sample_weight : (n,) array, optional
            A row's loss counts so many times.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter or the data do not fit.
        NonFiniteLossError
            The loss became NaN or infinite.
        """
        check_parameters(self)
        return self._train(X, y, sample_weight, goes_on=self.warm_start and hasattr(self, "model_"), once=False)

    def _partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Any:
        """An epoch; the parameters have been checked."""
        if self.early_stopping:
            raise InvalidValueError("early_stopping is True; expected False, for partial_fit does not know the end")
        if isinstance(self.learning_rate, Schedule):
            raise InvalidValueError(
                f"learning_rate is {self.learning_rate!r}; expected a name such as 'constant', for partial_fit does "
                "not know how many epochs the schedule is for"
            )
        return self._train(X, y, sample_weight, goes_on=hasattr(self, "model_"), once=True)

    def _train(self, X: Any, y: Any, sample_weight: Any, *, goes_on: bool, once: bool) -> Any:
        """Train a new network or (`goes_on`) the last one, to the end or (`once`) for an epoch."""
        random, form = check_random_state(self.random_state), architecture(self)
        if goes_on and form != self._form:
            raise InvalidValueError(f"the parameters ask for {form}; expected {self._form}, the network to go on with")
        if not goes_on:  # whatever fails from here on leaves an unfitted estimator, not one that is half new
            self.__dict__.pop("model_", None)
        rows, held = self._read(X, y, sample_weight, goes_on, once), None
        model, objective = self._network(rows, form, goes_on, random)
        if self.early_stopping:
            rows, held = self._hold_out(rows, random)
        rng = self._rng if goes_on and once else np.random.default_rng(random.randint(SEEDS))
        if goes_on and once:
            course, optimizer = self._course, self._optimizer
        else:
            course, optimizer = self._new_course(objective), new_optimizer(self, objective.gradient)
        course.seen = self.t_ if goes_on else 0
        epochs = 1 if once else self.max_iter
        history = self._run(model, objective, rows, held, course, optimizer, epochs, rng)

        self.model_, self.history_, self._input_shape = model, history, self.input_shape
        self._form, self._rng, self._course, self._optimizer = form, rng, course, optimizer
        self._tell(objective, goes_on)
        if not once and not course.converged and history.epochs == self.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _read(self, X: Any, y: Any, sample_weight: Any, goes_on: bool, once: bool) -> Rows:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype="numeric",
            multi_output=True,
            y_numeric=not self._classifies,
            reset=not goes_on,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        codes = self._read_targets(y, goes_on, once)
        return Rows(shaped(X, self.input_shape), codes, self._weights(y, sample_weight))

    def _network(
        self, rows: Rows, form: Architecture | None, goes_on: bool, random: np.random.RandomState
    ) -> tuple[Sequential, Objective]:
        if goes_on:
            return self.model_, self._objective(rows.codes, self.n_outputs_)
        features = self.n_features_in_
        if form is not None:
            objective = self._objective(rows.codes, None)
            dtype = self.dtype
            if isinstance(dtype, str) and dtype == "auto":
                dtype = "float64" if rows.X.dtype == np.float64 else "float32"
            return build(form, features, objective.outputs, dtype, random), objective
        assert self.network is not None
        model = copied(self.network, self._classifies)
        return model, self._objective(rows.codes, outputs_of(model, rows.X.shape[1:], self.input_shape is not None))

    def _hold_out(self, rows: Rows, random: np.random.RandomState) -> tuple[Rows, Rows]:
        """Rows to train on and rows to score."""
        places, strata = np.arange(rows.X.shape[0]), self._strata(rows.codes)
        kept, held = map(
            np.asarray,
            train_test_split(places, test_size=self.validation_fraction, random_state=random, stratify=strata),
        )
        if len(held) < 2:
            raise InvalidValueError(
                f"validation_fraction is {self.validation_fraction:g}, {len(held)} of {len(places)} rows; expected at "
                "least two rows"
            )
        return rows.take(kept), rows.take(held)

    def _new_course(self, objective: Objective) -> Course:
        rate = self.learning_rate if self.solver == "sgd" and isinstance(self.learning_rate, str) else "constant"
        return Course(self.tol, self.n_iter_no_change, rate, self.power_t, objective.gradient)

    def _run(
        self,
        model: Sequential,
        objective: Objective,
        rows: Rows,
        held: Rows | None,
        course: Course,
        optimizer: Optimizer,
        epochs: int,
        rng: np.random.Generator,
    ) -> History:
        """The call of `training.fit`."""
        batch = batch_rows(self.batch_size, rows.X.shape[0], model)
        batch_weight = batch * (1.0 if rows.weights is None else float(rows.weights.mean()))
        if not batch_weight:
            raise InvalidValueError(
                "sample_weight and class_weight leave no row a weight; expected at least one above 0"
            )
        optimizer.weight_decay = weight_decay(self, batch_weight, objective.gradient)
        course.value, course.rows = objective.value, rows.X.shape[0]
        course.decay = 0.0 if self.solver == "adamw" else self.alpha / batch_weight
        validation = None
        if held is not None:
            weights = () if held.weights is None else (held.weights,)
            validation = (held.X, objective.target(held.codes), *weights)
            course.score = lambda model: self._score(
                predict_raw(model, held.X, n_threads=self.n_threads), held.codes, held.weights
            )
        schedule = copy.deepcopy(self.learning_rate) if isinstance(self.learning_rate, Schedule) else None
        try:
            return training.fit(
                model,
                rows.X,
                objective.target(rows.codes),
                loss=objective.loss,
                optimizer=optimizer,
                epochs=epochs,
                batch_size=batch,
                shuffle=bool(self.shuffle),
                sample_weight=rows.weights,
                validation_data=validation,
                schedule=schedule,
                seed=rng,
                n_threads=self.n_threads,
                callbacks=[course],
                progress=bool(self.verbose),
            )
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                f"the loss became infinite or NaN in epoch {error.epoch}, step {error.step}. A smaller "
                f"learning_rate_init than {self.learning_rate_init:g} or features of about the same scale (a "
                "StandardScaler before the estimator) usually help.",
                epoch=error.epoch,
                step=error.step,
            ) from error

    def _tell(self, objective: Objective, goes_on: bool) -> None:
        """scikit-learn's attributes of a training that is over."""
        course = self._course
        self.n_iter_, self.t_ = len(course.losses), course.seen
        self.n_outputs_, self.out_activation_ = objective.outputs, objective.out_activation
        self.n_layers_ = len(weighted_layers(self.model_)) + 1
        best = min(course.losses)
        if goes_on:
            self.loss_curve_.extend(course.losses)
            best = best if self.best_loss_ is None else min(best, self.best_loss_)
        else:
            self.loss_curve_ = course.losses
        self.loss_ = course.losses[-1]
        self.best_loss_ = None if self.early_stopping else best
        self.validation_scores_ = course.scores if self.early_stopping else None
        self.best_validation_score_ = course.best_score if self.early_stopping else None

    @property
    def coefs_(self) -> list[Array]:
        """The weights of the layers that have them, (inputs, outputs) each; of a convolution as it holds them."""
        return [layer.params["weight"] for layer in weighted_layers(self.model_)]

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of the layers that have them."""
        return [layer.params["bias"] for layer in weighted_layers(self.model_) if "bias" in layer.params]

    # Prediction

    def _outputs(self, X: Any) -> Array:
        """The network's outputs (n, outputs)."""
        if self._is_plain(X):
            samples = shaped(X, self._input_shape)
            if samples.flags.c_contiguous and may_be_one(self.n_threads):
                outputs = few_outputs(self.model_, samples, WORK_WORTH_CALL)
                if outputs is not None:
                    return outputs
        else:
            check_is_fitted(self, "model_")
            X = validate_data(self, X, accept_sparse="csr", dtype="numeric", reset=False)
        return predict_raw(self.model_, shaped(X, self._input_shape), n_threads=self.n_threads)

    def _is_plain(self, X: Any) -> bool:
        """Whether X is so small and plain an array that all of `validate_data` can be seen at a glance.

        That takes longer than the prediction of a few rows. Whatever is wrong, or only unusual, goes the long way,
        which has scikit-learn's errors and warnings.
        """
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and 0 < X.size <= SMALL
            and X.dtype.kind in "fiu"
            and "model_" in self.__dict__
            and X.shape[1] == self.n_features_in_
            and "feature_names_in_" not in self.__dict__
            # Squares sum up to a number only where all are numbers; where they are too many the long way will tell.
            and (X.dtype.kind != "f" or math.isfinite(np.vdot(X, X)))
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in self.__dict__:  # an optimizer's state belongs to one model: tell it that this one is it
            self.model_.gather_parameters()
            snapshot = self._optimizer.snapshot()
            self._optimizer.prepare(self.model_.parameters)
            self._optimizer.restore(snapshot)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not isinstance(self.network, Sequential) or skips_zeros(self.network.layers)
        return tags
