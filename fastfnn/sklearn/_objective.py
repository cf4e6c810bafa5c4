"""What an estimator minimises, and how fastfnn's losses compare with scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn.errors import InvalidValueError
from fastfnn.losses import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, Loss, MSELoss, PoissonNLLLoss

Array = NDArray[Any]


class Objective(NamedTuple):
    """A loss, for one kind of target.

    Attributes
    ----------
    loss : Loss
    outputs : int
        Of the network.
    value, gradient : float
        scikit-learn's loss is `value` times fastfnn's; fastfnn's gradient is `gradient` times scikit-learn's. There the
        loss of several labels is their sum, and the squared error is halved. The gradient of several outputs is that of
        their sum, although their mean is what is shown as the loss.
    out_activation : str
        scikit-learn's name for what makes predictions of the outputs.
    smoothing : float
        Of labels that stand in the target as 0 and 1.
    link : callable or None
        Makes predictions of the outputs, where these are not predictions already.
    constants : callable or None
        What scikit-learn's loss of each row has more than fastfnn's, by its target.
    """

    loss: Loss
    outputs: int
    value: float
    gradient: float
    out_activation: str
    smoothing: float = 0.0
    link: Callable[[Array], Array] | None = None
    constants: Callable[[Array], Array] | None = None

    def target(self, codes: Array) -> Array:
        """What the loss takes: `codes` are classes (n,) from 0, labels (n, labels) of 0 and 1, or numbers."""
        if isinstance(self.loss, BCEWithLogitsLoss):
            labels = codes.reshape(len(codes), -1)
            return labels * (1 - self.smoothing) + self.smoothing / 2 if self.smoothing else labels
        return codes


def classification(classes: int, multilabel: bool, label_smoothing: float, outputs: int | None) -> Objective:
    """For so many classes, or labels. A network of `outputs` is given, or (None) is to have as many as are needed.

    Two classes need one logit; a network may as well have one for each.
    """
    if multilabel:
        _check_outputs(outputs, (classes,), f"{classes} labels")
        loss = BCEWithLogitsLoss()
        return Objective(loss, classes, classes, 1 / classes, "logistic", label_smoothing)
    if classes > 2 or (classes == 2 and outputs == 2):
        _check_outputs(outputs, (classes,), f"{classes} classes")
        return Objective(CrossEntropyLoss(label_smoothing=label_smoothing), classes, 1, 1, "softmax")
    _check_outputs(outputs, (1, 2) if classes == 2 else (1,), f"{classes} class{'es' if classes > 1 else ''}")
    return Objective(BCEWithLogitsLoss(), 1, 1, 1, "logistic", label_smoothing)


REGRESSIONS = ("squared_error", "poisson", "absolute_error", "huber")
#: Names of losses of a regression, with fastfnn's, `value`, and `gradient` of a single target.
REGRESSION_LOSSES: dict[str, tuple[type[Loss], float, float]] = {
    "squared_error": (MSELoss, 0.5, 2.0),
    "absolute_error": (L1Loss, 1.0, 1.0),
    "huber": (HuberLoss, 1.0, 1.0),
}


def regression(loss: str, targets: int, out_activation: str, outputs: int | None) -> Objective:
    """For so many numbers a row."""
    _check_outputs(outputs, (targets,), f"{targets} target{'s' if targets > 1 else ''}")
    if loss == "poisson":  # scikit-learn's is the deviance, and of several targets their sum
        return Objective(PoissonNLLLoss(), targets, targets, 1 / targets, "exp", link=np.exp, constants=_saturated)
    kind, value, gradient = REGRESSION_LOSSES[loss]
    return Objective(kind(), targets, value, gradient / targets, out_activation)


def _saturated(targets: Array) -> Array:
    """y log y - y of counts, summed over the targets of a row."""
    counts = targets.astype(np.float64)
    return (counts * np.log(np.where(counts > 0, counts, 1)) - counts).sum(axis=1)


def _check_outputs(outputs: int | None, fitting: tuple[int, ...], what: str) -> None:
    if outputs is not None and outputs not in fitting:
        raise InvalidValueError(
            f"network makes {outputs} number{'s' if outputs > 1 else ''} of a sample; expected "
            f"{' or '.join(map(str, fitting))} for {what}"
        )
