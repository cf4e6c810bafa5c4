"""`FNNClassifier`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from fastfnn.engine.sparsity import is_sparse_matrix
from fastfnn.errors import InvalidValueError
from fastfnn.functional import log_softmax, sigmoid, softmax
from fastfnn.model import Sequential
from fastfnn.schedules import Schedule
from fastfnn.sklearn._base import FNN, Array
from fastfnn.sklearn._objective import Objective, classification
from fastfnn.sklearn._parameters import LearningRate, Solver, check_parameters, for_stochastic_solvers
from fastfnn.training.callbacks import Callback

if TYPE_CHECKING:
    from typing_extensions import Self

ClassWeight = str | Mapping[Any, float] | Sequence[Any]


class FNNClassifier(ClassifierMixin, FNN):
    """A neural network that tells classes, or labels of which a row may have several.

    It minimises the cross-entropy. What `MLPClassifier` of scikit-learn has under the same name means the same here.
    Features should have about the same scale: put a `StandardScaler` before it.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Sizes of the hidden layers; an empty one leaves a linear classifier.
    activation : str or sequence of str
        "relu", "leaky_relu", "logistic" or "sigmoid", "tanh", "identity"; one for all hidden layers or one for each.
    dropout : float or sequence of float
        Probability in [0, 1) that an output of the hidden layers, or of each, is dropped in training.
    batch_norm : bool
        Whether hidden layers are normalised before their activation.
    solver : {"adam", "adamw", "sgd", "rmsprop", "adagrad", "lbfgs"}
        "lbfgs" is SciPy's L-BFGS over all rows at once: often the fastest for a few thousand rows or less.
    alpha : float
        Strength of the L2 term ``alpha / 2 * sum of squared weights``, which is divided by the rows of a batch (or by
        their weights), also of a last batch with fewer. For "adamw" the decay beside the gradient.
    batch_size : int, "auto" or "full"
        Rows of a batch; more than there are becomes all, with a warning. "auto" is 200, "full" all rows. With
        batch normalisation it is lowered a little where a batch of one row would be left.
    learning_rate : {"constant", "invscaling", "adaptive"} or Schedule
        For "sgd": "invscaling" divides by (rows seen so far + 1) to the power of `power_t`, "adaptive" by 5 whenever
        the training would else be over. With any solver a schedule of `fastfnn.schedules`, over `max_iter` epochs.
    learning_rate_init : float
    power_t : float
    max_iter : int
        Epochs at most, or iterations of "lbfgs".
    shuffle : bool
        Draw a new order each epoch.
    random_state : int, RandomState instance or None
        Decides the start of the weights, the order and the rows held out.
    tol : float
        Training ends when for more than `n_iter_no_change` epochs the loss, or with `early_stopping` the score, is not
        by `tol` better than the best; by "lbfgs" when no element of the gradient is larger.
    verbose : bool
        Print each epoch's loss, as scikit-learn does.
    warm_start : bool
        Let `fit` go on with the last network.
    momentum : float in [0, 1)
        For "sgd".
    nesterovs_momentum : bool
        For "sgd".
    early_stopping : bool
        Hold out `validation_fraction` of the rows, and end by their accuracy. The best weights are restored.
    validation_fraction : float in (0, 1)
    beta_1, beta_2 : float in [0, 1)
        For "adam" and "adamw".
    epsilon : float
        Added to roots, where a solver has such.
    n_iter_no_change : int
    class_weight : "balanced", dict or None
        Weights of the classes, as everywhere in scikit-learn.
    label_smoothing : float in [0, 1)
        Weight of the uniform distribution mixed into the targets.
    clip_norm : float, optional
        Longest gradient of all parameters together.
    dtype : "auto", "float32" or "float64"
        Of the network. "auto" is float64 for an X of float64, else float32.
    n_threads : int, optional
        Default: one for small steps, else one or every core. Set 1 inside of what runs in parallel itself.
    network : Sequential, optional
        Instead of the parameters above up to `batch_norm`: `fit` trains a copy of it, which starts with its weights.
        It makes a logit for each class (or one, for two classes), or one for each label.
    input_shape : tuple of int, optional
        Shape of a sample as `network` takes it, such as (1, 28, 28); rows of X are reshaped to it. An X of more than
        two axes needs it only where its samples have another shape.
    max_fun : int
        For "lbfgs": evaluations of the loss at most.
    callbacks : list of callables, optional
        As those of `fastfnn.fit`: called after each epoch, or after each iteration of "lbfgs".
    monitor : {"score", "val_loss"}
        What `early_stopping` goes by: the accuracy, or the loss of the rows held out.

    Attributes
    ----------
    classes_ : (classes,) array
    model_ : Sequential
        The trained network, for all that fastfnn does with one.
    history_ : History
        Of the last call.
    loss_, best_loss_ : float
        Last and smallest loss, with the L2 term; `best_loss_` is None with `early_stopping`.
    loss_curve_ : list of float
        Of each epoch.
    validation_scores_ : list of float or None
        With `early_stopping`, the score after each epoch.
    best_validation_score_ : float or None
    n_iter_ : int
        Epochs of the last call.
    t_ : int
        Rows trained on, each as often as that happened.
    coefs_, intercepts_ : list of array
        Weights and biases of the network's layers; views, not copies. They may be written, in place or as lists.
    n_layers_, n_outputs_, out_activation_
        As in scikit-learn.
    n_features_in_ : int
    feature_names_in_ : (features,) array
        Where the X of `fit` had names.

    Examples
    --------
    >>> from fastfnn.sklearn import FNNClassifier
    >>> model = make_pipeline(StandardScaler(), FNNClassifier((100,), random_state=0)).fit(X, y)
    >>> cnn = FNNClassifier(network=ff.models.small_cnn(), input_shape=(1, 28, 28), max_iter=5)
    """

    classes_: NDArray[Any]
    class_weight: ClassWeight | None
    label_smoothing: float
    _classifies = True
    _multilabel = False

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
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
        class_weight: ClassWeight | None = None,
        label_smoothing: float = 0.0,
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
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch, from where the last call or `fit` ended; the optimizer goes on, too.

        As in scikit-learn, an integer `random_state` draws the same order in every call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : (classes,) array
            All classes that will ever come; for y of several labels, their numbers from 0. The first call needs them,
            if there was no `fit`.

        Returns
        -------
        self
        """
        check_parameters(self)
        if isinstance(self.class_weight, str):
            raise InvalidValueError("class_weight is 'balanced', which partial_fit cannot know; expected a dictionary")
        if hasattr(self, "model_"):
            if classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
                raise InvalidValueError(f"classes is {classes!r}; expected {self.classes_}, the same as before")
        elif classes is None:
            third = "" if sample_weight is None else " The third argument is sample_weight, as in MLPClassifier."
            raise InvalidValueError(f"classes must be passed on the first call to partial_fit.{third}")
        else:
            self._check_label_names(y, unique_labels(classes))
            self.classes_ = unique_labels(classes)
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most likely class of each row, or the labels that are more likely than not.

        Parameters
        ----------
        X : (n, features) array or sparse matrix

        Returns
        -------
        (n,) array of elements of `classes_`, or (n, labels) int64 array of 0 and 1
        """
        outputs = self._outputs(X)
        codes = self._codes_of(outputs)
        return codes if self._multilabel else self.classes_[codes]

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, in the order of `classes_`, or of the labels.

        Parameters
        ----------
        X : (n, features) array or sparse matrix

        Returns
        -------
        (n, classes) or (n, labels) array of the network's dtype
        """
        outputs = self._outputs(X)
        if self._multilabel:
            return sigmoid(outputs)
        if len(self.classes_) == 1:
            return np.ones_like(outputs)
        if outputs.shape[1] == 1:  # the smaller of the two is not rounded to 0, as 1 - p would be
            return sigmoid(np.hstack([-outputs, outputs]))
        return softmax(outputs)

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithms of `predict_proba`, finite where a probability itself is too small for its dtype."""
        outputs = self._outputs(X)
        if self._multilabel:
            return -np.logaddexp(0, -outputs)
        if len(self.classes_) == 1:
            return np.zeros_like(outputs)
        if outputs.shape[1] == 1:
            return -np.logaddexp(0, np.hstack([outputs, -outputs]))
        return log_softmax(outputs)

    def decision_function(self, X: ArrayLike) -> Array:
        """The logits.

        Parameters
        ----------
        X : (n, features) array or sparse matrix

        Returns
        -------
        (n,) array for two classes, positive for the second, or (n, classes) or (n, labels) array
        """
        outputs = self._outputs(X)
        if self._multilabel or len(self.classes_) > 2:
            return outputs
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]

    def _codes_of(self, outputs: Array) -> NDArray[np.int64]:
        if self._multilabel:
            return (outputs > 0).astype(np.int64)
        if outputs.shape[1] > 1:
            return outputs.argmax(axis=1)
        positive = (outputs[:, 0] > 0).astype(np.int64)
        return positive if len(self.classes_) > 1 else np.zeros_like(positive)

    def _read_targets(self, y: Any, goes_on: bool, once: bool) -> Array:
        kind = type_of_target(y, input_name="y")
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            check_classification_targets(y)
            raise InvalidValueError(
                "y has several columns of classes; expected one, or columns of 0 and 1 for labels (scikit-learn's "
                "MultiOutputClassifier takes them column by column)"
            )
        multilabel = kind == "multilabel-indicator"
        if goes_on and multilabel != self._multilabel:
            raise InvalidValueError(f"y is {kind}; expected {'labels' if self._multilabel else 'classes'} as before")
        self._multilabel = multilabel
        if not multilabel:
            return self._read_classes(y, goes_on, once)
        labels = y.toarray() if is_sparse_matrix(y) else y
        if (goes_on or once) and labels.shape[1] != len(self.classes_):
            raise InvalidValueError(f"y has {labels.shape[1]} labels; expected {len(self.classes_)}")
        self.classes_ = np.arange(labels.shape[1])
        return labels

    def _read_classes(self, y: Array, goes_on: bool, once: bool) -> NDArray[np.int64]:
        """The places of `y` in `classes_`, which are those of `y`, or (`once`) known before."""
        if not (goes_on or once):
            self.classes_, codes = np.unique(y, return_inverse=True)
            return codes
        came = unique_labels(y)
        if once and len(np.setdiff1d(came, self.classes_)):
            raise InvalidValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {came}."
            )
        if not once and not np.array_equal(came, self.classes_):
            raise InvalidValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {came}"
            )
        return np.searchsorted(self.classes_, y)

    def _objective(self, codes: Array, outputs: int | None) -> Objective:
        return classification(len(self.classes_), self._multilabel, self.label_smoothing, outputs)

    def _check_label_names(self, y: Any, classes: NDArray[Any]) -> None:
        """Refuse names for labels: each is a column of 0 and 1, and later calls would not know which."""
        if type_of_target(y) == "multilabel-indicator" and not np.array_equal(classes, np.arange(len(classes))):
            columns = np.shape(y)[1]
            raise InvalidValueError(
                f"classes is {classes} for y of {columns} columns of labels; expected np.arange({columns}), as labels "
                "are told apart by their columns"
            )

    def _weights(self, y: Any, codes: Array, sample_weight: Array | None) -> Array | None:
        given = self.class_weight
        if given is None:
            return sample_weight
        if isinstance(given, str):
            weights = compute_sample_weight(given, y)
        elif not self._multilabel:  # which need not all be there
            weights = compute_class_weight(given, classes=self.classes_, y=y)[codes]
        else:
            each = given if isinstance(given, (list, tuple)) else [given] * codes.shape[1]
            if len(each) != codes.shape[1]:
                raise InvalidValueError(
                    f"class_weight has {len(each)} entries; expected {codes.shape[1]}, one a column of labels"
                )
            parts = [
                compute_sample_weight(weight, column)
                if isinstance(weight, str)
                else compute_class_weight(weight, classes=np.arange(2), y=column)[column]
                for weight, column in zip(each, codes.T.astype(np.int64), strict=True)
            ]
            weights = np.prod(parts, axis=0)
        return weights if sample_weight is None else weights * sample_weight

    def _strata(self, codes: Array) -> Array | None:
        return None if self._multilabel or len(self.classes_) > 2 else codes.astype(bool)[:, None]  # as scikit-learn

    def _score(self, outputs: Array, codes: Array, weights: Array | None) -> float:
        right = self._codes_of(outputs) == codes
        return float(np.average(right.all(axis=1) if self._multilabel else right, weights=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
