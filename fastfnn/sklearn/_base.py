"""What both estimators share: the way from scikit-learn's arguments through `fit` to scikit-learn's attributes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastfnn.engine.context import few_outputs
from fastfnn.engine.lowering import skips_zeros
from fastfnn.errors import InvalidValueError
from fastfnn.history import History
from fastfnn.model import Sequential
from fastfnn.schedules import Schedule
from fastfnn.sklearn._arrays import Arrays, write
from fastfnn.sklearn._network import Architecture, architecture, build, copied, outputs_of, shaped, weighted_layers
from fastfnn.sklearn._objective import Objective
from fastfnn.sklearn._parameters import STOCHASTIC, check_parameters, new_course, new_optimizer
from fastfnn.sklearn._rows import Rows, given_validation, hold_out
from fastfnn.sklearn._run import Run, minimise, train
from fastfnn.training.arguments import WORK_WORTH_CALL, may_be_one
from fastfnn.training.callbacks import Callback
from fastfnn.training.inference import predict_raw

if TYPE_CHECKING:
    from typing_extensions import Self

Array = NDArray[Any]
#: Numbers of an X up to which checking it the long way costs more than predicting it.
SMALL = 1 << 14


def _axes(X: Any) -> int:
    """How many axes X has, as far as that can be seen without making an array of it."""
    return np.ndim(X) if isinstance(X, (list, tuple)) else getattr(X, "ndim", 2)


class FNN(BaseEstimator):
    """Base of the estimators. Subclasses read targets, choose the objective and score."""

    model_: Sequential
    history_: History
    n_features_in_: int
    n_outputs_: int
    n_layers_: int
    n_iter_: int
    t_: int
    out_activation_: str
    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
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
    max_fun: int
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
    callbacks: Iterable[Callback] | None
    monitor: str

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

    def _weights(self, y: Any, codes: Array, sample_weight: Array | None) -> Array | None:
        """The weights of the rows."""
        return sample_weight

    def _strata(self, codes: Array) -> Array | None:
        """Classes of which the rows held out are to have their share."""
        return None

    def _score(self, outputs: Array, codes: Array, weights: Array | None) -> float:
        """How good a network's outputs are; larger is better."""
        raise TypeError(f"{type(self).__name__} has no score")

    # Training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation_data: tuple[Any, ...] | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Train a network, or with `warm_start` go on with the last one.

        An interrupt (Ctrl-C) ends the training with a warning; the estimator is then fitted as far as that went.

        Parameters
        ----------
        X : (n, features) array or sparse matrix, or (n, …) array
            Of any numeric dtype. An array or a CSR matrix is not copied; ``uint8`` stays ``uint8``. More than two axes
            are for a `network` that takes such samples, or with an `input_shape`.
        y : (n,) or (n, outputs) array
        sample_weight : (n,) array, optional
            A row's loss counts so many times.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch, for `history_`; with `early_stopping` they decide instead of rows held out.
        X_val, y_val : arrays, optional
            The same by other names, which a `Pipeline` with ``transform_input=["X_val"]`` transforms as X.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter or the data do not fit.
        DivergenceError
            The loss became NaN or infinite. With `early_stopping`, if there was a score before, there is a warning
            instead, and the best weights are kept.
        """
        check_parameters(self)
        validation = given_validation(validation_data, X_val, y_val)
        goes_on = self.warm_start and hasattr(self, "model_")
        return self._train(X, y, sample_weight, validation, goes_on=goes_on, once=False)

    def _partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Self:
        """An epoch; the parameters have been checked."""
        if self.early_stopping:
            raise InvalidValueError(
                "partial_fit does not support early_stopping=True: it does not know where the training ends"
            )
        if isinstance(self.learning_rate, Schedule):
            raise InvalidValueError(
                f"learning_rate is {self.learning_rate!r}; expected a name such as 'constant', for partial_fit does "
                "not know how many epochs the schedule is for"
            )
        return self._train(X, y, sample_weight, None, goes_on=hasattr(self, "model_"), once=True)

    def _train(self, X: Any, y: Any, sample_weight: Any, validation: Any, *, goes_on: bool, once: bool) -> Self:
        """Train a new network or (`goes_on`) the last one, to the end or (`once`) for an epoch."""
        random, form = check_random_state(self.random_state), architecture(self)
        if goes_on and form != self._form:
            raise InvalidValueError(f"the parameters ask for {form}; expected {self._form}, the network to go on with")
        if not goes_on:  # whatever fails from here on leaves an unfitted estimator, not one that is half new
            self.__dict__.pop("model_", None)
        rows, shape = self._read(X, y, sample_weight, goes_on, once)
        held = None if validation is None else self._read_validation(validation, shape)
        model, objective = self._network(rows, form, goes_on, random)
        stochastic = self.solver in STOCHASTIC
        if self.early_stopping and stochastic and held is None:
            rows, held = hold_out(rows, self.validation_fraction, self._strata(rows.codes), random)
        if goes_on and once:
            course, optimizer = self._course, self._optimizer
        else:
            course, optimizer = new_course(self, objective), new_optimizer(self, objective.gradient)
            if goes_on:
                course.follow(self._course)
        course.seen = self.t_ if goes_on else 0
        run = Run(self, model, objective, rows, held, course, 1 if once else self.max_iter, random)
        history = train(run, optimizer) if stochastic else minimise(run)
        self.model_, self.history_, self._input_shape = model, history, shape
        self._form, self._course, self._optimizer, self._link = form, course, optimizer, objective.link
        self._tell(objective, goes_on)
        if stochastic and not once and not course.converged and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _read(
        self, X: Any, y: Any, sample_weight: Any, goes_on: bool, once: bool
    ) -> tuple[Rows, tuple[int, ...] | None]:
        """Checked rows, and the shape that samples of the network have where rows of X have another."""
        X, shape = self._flat(X)
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
        rows = self._rows(X, y, sample_weight, shape, lambda y: self._read_targets(y, goes_on, once))
        return rows, shape

    def _read_validation(self, validation: Any, shape: tuple[int, ...] | None) -> Rows:
        X, y, sample_weight = validation
        try:
            X, y = validate_data(
                self,
                self._flat(X)[0],
                y,
                accept_sparse="csr",
                dtype="numeric",
                multi_output=True,
                y_numeric=not self._classifies,
                reset=False,
            )
            return self._rows(X, y, sample_weight, shape, lambda y: self._read_targets(y, True, True))
        except ValueError as error:
            raise InvalidValueError(f"validation data: {error}") from error

    def _rows(self, X: Any, y: Any, sample_weight: Any, shape: Any, read: Any) -> Rows:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        codes = read(y)
        return Rows(shaped(X, shape), codes, self._weights(y, codes, sample_weight))

    def _flat(self, X: Any) -> tuple[Any, tuple[int, ...] | None]:
        """X of two axes, and the shape that samples of the network have where rows of X have another."""
        if self.network is None or _axes(X) <= 2:
            return X, self.input_shape
        X = np.asarray(X)
        return X.reshape(len(X), -1), X.shape[1:] if self.input_shape is None else self.input_shape

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
        reshaped = len(rows.X.shape) > 2
        return model, self._objective(rows.codes, outputs_of(model, rows.X.shape[1:], reshaped))

    def _tell(self, objective: Objective, goes_on: bool) -> None:
        """scikit-learn's attributes of a training that is over."""
        course, losses = self._course, self._course.losses
        self.n_iter_, self.t_ = len(losses), course.seen
        self.n_outputs_, self.out_activation_ = objective.outputs, objective.out_activation
        self.n_layers_ = len(weighted_layers(self.model_)) + 1
        scored = self.early_stopping and self.solver in STOCHASTIC
        scores = course.scores if scored else None
        if goes_on:
            losses = self.loss_curve_ + losses
            scores = None if scores is None else (self.validation_scores_ or []) + scores
        self.loss_curve_, self.validation_scores_ = losses, scores
        self.loss_ = losses[-1] if losses else math.inf
        self.best_loss_ = None if scored else course.best_loss
        self.best_validation_score_ = course.best_score if scored else None

    @property
    def coefs_(self) -> list[Array]:
        """The weights of the layers that have them, (inputs, outputs) each; of a convolution as it holds them.

        They are views. What is assigned, to an element or as a list of arrays, is written into the network.
        """
        check_is_fitted(self, "model_")
        return Arrays("coefs_", [layer.params["weight"] for layer in weighted_layers(self.model_)])

    @coefs_.setter
    def coefs_(self, values: Sequence[ArrayLike]) -> None:
        write("coefs_", self.coefs_, slice(None), values)

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of the layers that have them, likewise."""
        check_is_fitted(self, "model_")
        layers = [layer for layer in weighted_layers(self.model_) if "bias" in layer.params]
        return Arrays("intercepts_", [layer.params["bias"] for layer in layers])

    @intercepts_.setter
    def intercepts_(self, values: Sequence[ArrayLike]) -> None:
        write("intercepts_", self.intercepts_, slice(None), values)

    # Prediction

    def _outputs(self, X: Any) -> Array:
        """The network's outputs (n, outputs)."""
        if _axes(X) > 2 and "model_" in self.__dict__:
            X, _ = self._flat(X)
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
