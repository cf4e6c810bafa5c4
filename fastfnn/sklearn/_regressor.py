"""`FNNRegressor`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastfnn.errors import InvalidValueError
from fastfnn.model import Sequential
from fastfnn.schedules import Schedule
from fastfnn.sklearn._base import FNN, Array
from fastfnn.sklearn._network import architecture
from fastfnn.sklearn._objective import Objective, regression
from fastfnn.sklearn._parameters import LearningRate, Solver, check_parameters, for_stochastic_solvers
from fastfnn.training.callbacks import Callback

if TYPE_CHECKING:
    from typing_extensions import Self

RegressionLoss = Literal["squared_error", "poisson", "absolute_error", "huber"]


class FNNRegressor(RegressorMixin, FNN):
    """A neural network that predicts numbers, for one target or several.

    What `MLPRegressor` of scikit-learn has under the same name means the same here.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber"}
        "poisson" is for counts: the deviance, by a network that makes the logarithm of what is predicted.
        "absolute_error" and "huber", which is straight beyond a distance of 1, mind outliers less.
    hidden_layer_sizes, activation
        As `FNNClassifier`'s.
    out_activation : str, optional
        What the outputs go through, a name as for `activation`: "logistic" for targets in (0, 1), "relu" for such as
        are not negative. None is "identity".
    dropout, batch_norm, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, shuffle
        As `FNNClassifier`'s.
    random_state, tol, verbose, warm_start, momentum, nesterovs_momentum
        As `FNNClassifier`'s.
    early_stopping : bool
        As `FNNClassifier`'s; the score is R².
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, clip_norm, dtype, n_threads, network, input_shape
        As `FNNClassifier`'s.
    max_fun, callbacks, monitor
        As `FNNClassifier`'s.

    Attributes
    ----------
    loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_
        As `FNNClassifier`'s; losses are half the mean squared error (`history_` has it whole), and the L2 term.
    model_, history_, n_iter_, t_, coefs_, intercepts_, n_layers_, n_outputs_, out_activation_, n_features_in_
        As `FNNClassifier`'s.
    feature_names_in_
        As `FNNClassifier`'s.

    Examples
    --------
    >>> from fastfnn.sklearn import FNNRegressor
    >>> model = make_pipeline(StandardScaler(), FNNRegressor(hidden_layer_sizes=(50,), random_state=0)).fit(X, y)
    """

    loss: str

    def __init__(
        self,
        loss: RegressionLoss = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        out_activation: str | None = None,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        solver: Solver = "adam",
        alpha: float = 1e-4,
        batch_size: int | Literal["auto", "full"] = "auto",
        learning_rate: LearningRate | Schedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        clip_norm: float | None = None,
        dtype: Any = "auto",
        n_threads: int | None = None,
        network: Sequential | None = None,
        input_shape: tuple[int, ...] | None = None,
        max_fun: int = 15000,
        callbacks: Iterable[Callback] | None = None,
        monitor: Literal["score", "val_loss"] = "score",
    ) -> None:
        self._keep(locals())

    @for_stochastic_solvers
    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch, from where the last call or `fit` ended; the optimizer goes on, too.

        As in scikit-learn, an integer `random_state` draws the same order in every call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self
        """
        check_parameters(self)
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: ArrayLike) -> Array:
        """The predicted numbers.

        Parameters
        ----------
        X : (n, features) array or sparse matrix

        Returns
        -------
        (n,) array, or (n, targets) for several, of the network's dtype
        """
        outputs = self._outputs(X)
        outputs = outputs if self._link is None else self._link(outputs)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _read_targets(self, y: Array, goes_on: bool, once: bool) -> Array:
        y = y.reshape(len(y), -1)
        if self.loss == "poisson" and (y < 0).any():
            row = int((y < 0).any(axis=1).argmax())
            raise InvalidValueError(f"y has {y[row].min():g} in row {row}; expected at least 0 for loss 'poisson'")
        return y

    def _objective(self, codes: Array, outputs: int | None) -> Objective:
        form = architecture(self)
        return regression(self.loss, codes.shape[1], "identity" if form is None else form.out_activation, outputs)

    def _score(self, outputs: Array, codes: Array, weights: Array | None) -> float:
        return float(r2_score(codes, outputs, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
