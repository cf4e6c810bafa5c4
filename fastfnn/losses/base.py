"""What all losses have in common, and the weights that some of them take."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError

Array = NDArray[Any]
#: What a model can be for.
TASKS = ("classification", "binary", "regression")


class Loss:
    """Base of the losses.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What becomes of the losses. Training takes "mean" or "sum".
    """

    #: What a model trained with it is for: "classification", "binary" (of each output: yes or no) or "regression".
    #: None, as of a loss of your own that does not say it: nobody knows.
    task: str | None = None
    #: Whether targets are classes.
    classifies = False
    #: From where on an output means yes, where the task is binary.
    threshold = 0.0

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check.one_of("reduction", reduction, check.REDUCTIONS)
        self._saved: tuple[ArrayLike, ArrayLike] | None = None

    @property
    def has_accuracy(self) -> bool:
        """Whether outputs can be right or wrong: a row's class, or of a binary task each output's yes or no."""
        return self.classifies or self.task == "binary"

    def forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        """The loss: a float, or with ``reduction="none"`` an array."""
        self._saved = (prediction, target)
        return self._forward(prediction, target)

    def backward(self) -> Array:
        """The gradient of what `forward` returned (for "none", of the sum) for the prediction."""
        if self._saved is None:
            raise InvalidValueError(f"{type(self).__name__}.backward was called before forward")
        return self._backward(*self._saved)

    def __call__(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        return self.forward(prediction, target)

    def row_losses(self, prediction: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
        """(n,): the loss of each row; the mean (or sum) of them is what `forward` returns."""
        each = copy.copy(self)
        each.reduction = "none"
        losses = np.asarray(each.forward(prediction, target), np.float64)
        if losses.shape[:1] != np.shape(prediction)[:1]:
            raise InvalidTypeError(
                f'{self!r} gives losses of shape {losses.shape} with reduction "none"; expected one a row, which '
                "weights of the rows need"
            )
        rows = losses.reshape(len(losses), -1)
        return rows.mean(axis=1) if self.reduction == "mean" else rows.sum(axis=1)

    def _forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward")

    def _backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        raise TypeError(f"{type(self).__name__} has no backward")

    def mean_over(self, target: Array) -> float:
        """What the mean over rows with these targets, as `check_target` gives them, divides by."""
        return float(len(target))

    def kept_share(self, target: Array) -> float:
        """Which share of the rows counts in the accuracy."""
        return 1.0

    def check_target(self, target: ArrayLike, output_shape: tuple[int, ...], dtype: Any) -> Array:
        """All targets of a data set, checked against outputs (n, *output_shape), as the kernels take them.

        One output may have its targets in (n,).
        """
        array = np.asarray(target)
        if array.ndim == 1 and output_shape == (1,):
            array = array[:, None]
        if array.shape != (len(array), *output_shape):
            raise InvalidValueError(
                f"y has shape {array.shape}; expected (n, {', '.join(map(str, output_shape))}) for {self!r}"
            )
        if array.dtype.kind == "U":
            raise InvalidTypeError(
                f"y has dtype {array.dtype}; expected numbers, as np.unique(y, return_inverse=True)[1] makes of words"
            )
        return check.float_array("y", array, dtype=dtype)

    def weights(self) -> dict[str, Array]:
        """Weights of classes or outputs, by their names; those that are not given are missing."""
        names = ("weight", "pos_weight")
        return {name: getattr(self, name) for name in names if getattr(self, name, None) is not None}

    def __repr__(self) -> str:
        shown = [] if self.reduction == "mean" else [f"reduction={self.reduction!r}"]
        shown += [f"{name}={values.tolist()}" for name, values in self.weights().items()]
        return f"{type(self).__name__}({', '.join(shown)})"


def as_weights(name: str, values: ArrayLike | None) -> Array | None:
    """Weights as float64, a number or a row of them, each finite and at least 0; None for None."""
    if values is None:
        return None
    array = check.float_array(name, values, dtype=np.float64)
    if array.ndim > 1 or not array.size or not (np.isfinite(array) & (array >= 0)).all():
        raise InvalidValueError(f"{name} is {values!r}; expected finite weights of at least 0, one for each")
    return array
