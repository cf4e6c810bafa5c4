"""The parameters of an estimator: their checks, and the optimizer and batch size that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from sklearn.utils.metaestimators import available_if

from fastfnn import _checks as check
from fastfnn._warnings import warn
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers import BatchNorm1d, BatchNorm2d
from fastfnn.model import Sequential
from fastfnn.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from fastfnn.schedules import Schedule
from fastfnn.sklearn._course import Course
from fastfnn.sklearn._network import architecture
from fastfnn.sklearn._objective import REGRESSIONS, Objective
from fastfnn.training.callbacks import EverySteps

Solver = Literal["adam", "adamw", "sgd", "rmsprop", "adagrad", "lbfgs"]
LearningRate = Literal["constant", "invscaling", "adaptive"]
STOCHASTIC = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
SOLVERS = ("lbfgs", *STOCHASTIC)
#: What `early_stopping` may go by.
MONITORS = ("score", "val_loss")
LEARNING_RATES = ("constant", "invscaling", "adaptive")
#: Rows of a batch at most, where it is "auto": scikit-learn's number.
AUTO_BATCH = 200

Method = TypeVar("Method", bound=Callable[..., Any])
#: Bounds of the parameters that are numbers.
REALS: dict[str, dict[str, float]] = {
    "alpha": {"least": 0},
    "learning_rate_init": {"above": 0},
    "power_t": {"least": 0},
    "tol": {"least": 0},
    "momentum": {"least": 0, "most": 1},
    "validation_fraction": {"least": 0, "below": 1},
    "beta_1": {"least": 0, "below": 1},
    "beta_2": {"least": 0, "below": 1},
    "epsilon": {"above": 0},
    "label_smoothing": {"least": 0, "below": 1},
}
FLAGS = ("batch_norm", "shuffle", "warm_start", "nesterovs_momentum", "early_stopping")


def _is_stochastic(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only for solvers that train in batches; solver is 'lbfgs'")
    return True


def for_stochastic_solvers(method: Method) -> Method:
    """A method that an estimator has only where its solver trains in batches."""
    made: Any = available_if(_is_stochastic)(method)
    return made


def check_parameters(estimator: Any) -> None:
    """Refuse what does not fit before anything is changed.

    Raises
    ------
    InvalidValueError
        Also for a wrong type: scikit-learn's users expect a ValueError.
    """
    try:
        _check(estimator)
    except InvalidTypeError as error:
        raise InvalidValueError(str(error)) from None


def _check(estimator: Any) -> None:
    given = estimator.get_params(deep=False)
    for name, bounds in REALS.items():
        if name in given:
            check.real(name, given[name], **bounds)
    for name in FLAGS:
        if not isinstance(given[name], (bool, np.bool_)):
            raise InvalidTypeError(f"{name} is {given[name]!r}; expected True or False")
    check.positive_int("max_iter", given["max_iter"])
    check.positive_int("max_fun", given["max_fun"])
    check.one_of("monitor", given["monitor"], MONITORS)
    if given["n_iter_no_change"] != math.inf:
        check.positive_int("n_iter_no_change", given["n_iter_no_change"])
    if given["n_threads"] is not None:
        check.positive_int("n_threads", given["n_threads"])
    _check_callbacks(given["callbacks"], given["solver"])
    if given["clip_norm"] is not None:
        check.real("clip_norm", given["clip_norm"], above=0)
    _check_choices(given)
    _check_class_weight(given.get("class_weight"))
    _check_network(given)
    architecture(estimator)


def _check_choices(given: dict[str, Any]) -> None:
    solver, rate, batch_size = given["solver"], given["learning_rate"], given["batch_size"]
    if not isinstance(solver, str) or solver not in SOLVERS:
        raise InvalidValueError(f"solver is {solver!r}; expected one of {_quoted(SOLVERS)}")
    if not isinstance(rate, Schedule) and not (isinstance(rate, str) and rate in LEARNING_RATES):
        raise InvalidValueError(
            f"learning_rate is {rate!r}; expected one of {_quoted(LEARNING_RATES)}, or a schedule such as "
            "ff.schedules.Cosine() (the number is learning_rate_init)"
        )
    if solver == "lbfgs" and np.any(np.asarray(given["dropout"], dtype=object)):
        raise InvalidValueError(
            f"dropout is {given['dropout']!r} with solver 'lbfgs', which needs the same loss for the same weights; "
            "expected 0, or another solver"
        )
    if "loss" in given:
        _check_loss(given["loss"])
        if given["loss"] == "poisson" and given["out_activation"] is not None:
            raise InvalidValueError(
                f"out_activation is {given['out_activation']!r} with loss 'poisson', whose predictions are the exp of "
                "the outputs; expected None"
            )
    if isinstance(batch_size, str):
        check.one_of("batch_size", batch_size, ("auto", "full"))
    else:
        check.positive_int("batch_size", batch_size)
    if not (isinstance(given["dtype"], str) and given["dtype"] == "auto"):
        check.as_dtype(given["dtype"])


def _check_loss(loss: Any) -> None:
    if isinstance(loss, str) and loss in REGRESSIONS:
        return
    sizes = "" if isinstance(loss, str) else " (the sizes of the layers are hidden_layer_sizes, the second argument)"
    raise InvalidValueError(f"loss is {loss!r}; expected one of {_quoted(REGRESSIONS)}{sizes}")


def _check_callbacks(callbacks: Any, solver: Any) -> None:
    if callbacks is None:
        return
    if not isinstance(callbacks, (list, tuple)):
        raise InvalidTypeError(f"callbacks is {callbacks!r}; expected a list of callables")
    for callback in callbacks:
        check.instance("callbacks", callback)
        if not isinstance(callback, EverySteps) and not callable(callback):
            raise InvalidTypeError(f"callbacks holds {callback!r}; expected callables")
        steps = isinstance(callback, EverySteps) or getattr(callback, "within", None) is not None
        if steps and solver == "lbfgs":
            raise InvalidValueError(f"callbacks holds {callback!r} with solver 'lbfgs', which has no steps of an epoch")


def _check_class_weight(weight: Any) -> None:
    listed = isinstance(weight, (list, tuple)) and all(isinstance(each, (str, Mapping)) for each in weight)
    balanced = isinstance(weight, str) and weight == "balanced"
    if not (weight is None or isinstance(weight, Mapping) or listed or balanced):
        raise InvalidValueError(
            f"class_weight is {weight!r}; expected None, 'balanced', or a dictionary of weights by class (for "
            "multilabel targets a list of them)"
        )


def _check_network(given: dict[str, Any]) -> None:
    network, shape = given["network"], given["input_shape"]
    if network is None:
        if shape is not None:
            raise InvalidValueError(f"input_shape is {shape!r} without a network; expected None")
        return
    if not isinstance(network, Sequential):
        raise InvalidTypeError(f"network is {type(network).__name__}; expected a Sequential")
    if shape is not None:
        if not isinstance(shape, (tuple, list)) or not shape:
            raise InvalidTypeError(f"input_shape is {shape!r}; expected the shape of a sample, such as (1, 28, 28)")
        for place, size in enumerate(shape):
            check.positive_int(f"input_shape[{place}]", size)
    if given.get("out_activation") is not None:
        raise InvalidValueError(
            f"out_activation is {given['out_activation']!r} beside a network, which says itself how it ends; expected "
            "None"
        )
    dtype = given["dtype"]
    if not (isinstance(dtype, str) and dtype == "auto") and check.as_dtype(dtype) != network.dtype:
        raise InvalidValueError(f"dtype is {dtype!r} for a network in {network.dtype}; expected 'auto'")


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def batch_rows(batch_size: int | str, rows: int, model: Sequential) -> int:
    """Rows of a batch out of so many."""
    if batch_size == "full":
        return rows
    if not isinstance(batch_size, str) and batch_size > rows:  # scikit-learn's words
        warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped.")
    size = min(rows, AUTO_BATCH if batch_size == "auto" else int(batch_size))
    # The folds of a cross-validation have any number of rows; batch normalisation needs two in the last batch, too.
    if any(isinstance(layer, (BatchNorm1d, BatchNorm2d)) for layer in model.all_layers()):
        while size > 2 and rows % size == 1:
            size -= 1
    return size


def weight_decay(estimator: Any, batch_weight: float, gradient: float) -> float:
    """What `alpha` means to an optimizer, where the rows of a batch weigh `batch_weight` together.

    scikit-learn's L2 term is alpha / 2 |w|² by that weight. `gradient`: so many times its gradient is ours. AdamW's
    decay is beside the gradient, and is alpha itself.
    """
    return estimator.alpha if estimator.solver == "adamw" else gradient * estimator.alpha / batch_weight


def new_course(estimator: Any, objective: Objective) -> Course:
    """How a training is to go on and end."""
    named = estimator.solver == "sgd" and isinstance(estimator.learning_rate, str)
    rate = estimator.learning_rate if named else "constant"
    patience, power = estimator.n_iter_no_change, estimator.power_t
    return Course(estimator.tol, patience, rate, power, objective.value, objective.gradient)


def new_optimizer(estimator: Any, gradient: float) -> Optimizer:
    """The optimizer, without its weight decay, for gradients that are `gradient` times scikit-learn's.

    Its settings make up for that factor, so that the same parameters mean the same steps.
    """
    clip = None if estimator.clip_norm is None else estimator.clip_norm * gradient
    limits: dict[str, Any] = {"clip_norm": clip, "decay_biases": False}
    rate, eps = estimator.learning_rate_init, estimator.epsilon * gradient
    if estimator.solver in ("sgd", "lbfgs"):  # which has an optimizer of its own
        nesterov = bool(estimator.nesterovs_momentum and estimator.momentum > 0)
        return SGD(rate / gradient, momentum=estimator.momentum, nesterov=nesterov, **limits)
    if estimator.solver in ("adam", "adamw"):
        kind = Adam if estimator.solver == "adam" else AdamW
        return kind(rate, (estimator.beta_1, estimator.beta_2), eps, epsilon_hat=True, **limits)
    return (RMSprop if estimator.solver == "rmsprop" else Adagrad)(rate, eps=eps, **limits)
