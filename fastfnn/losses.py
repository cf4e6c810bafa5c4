"""Losses: ``loss.forward(prediction, target)`` returns the number, ``loss.backward()`` the gradient of exactly it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn import functional
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.reduction == 'mean' else f'reduction={self.reduction!r}'})"


class _ClassLoss(Loss):
    """Targets are labels (n,) or (n, 1), one-hot rows or probabilities (n, classes); one loss a row."""

    task = "classification"
    classifies = True

    def forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        if np.shape(prediction)[1:] == (1,):
            raise self._one_class("prediction has")
        return super().forward(prediction, target)

    def _one_class(self, what: str) -> InvalidValueError:
        return InvalidValueError(
            f"{what} one output; expected two or more for {self!r}, which is the same over one class whatever the "
            "output says. Two classes need two outputs, or one and BCEWithLogitsLoss; numbers need MSELoss"
        )

    def check_target(self, target: ArrayLike, output_shape: tuple[int, ...], dtype: Any) -> Array:
        if len(output_shape) != 1:
            raise InvalidValueError(f"the model's outputs have shape {output_shape}; {self!r} expects (classes,)")
        if output_shape == (1,):
            raise self._one_class("the model has")
        array = np.asarray(target)
        if array.ndim == 1 or array.shape[1:] == (1,):
            return check.labels("y", array, len(array), output_shape[0])
        rows = len(array) if array.ndim else 0
        return check.class_target("y", array, np.broadcast_to(np.empty((), dtype), (rows, *output_shape)))


class CrossEntropyLoss(_ClassLoss):
    """Cross-entropy of logits: softmax, logarithm and NLL in one stable kernel.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    label_smoothing : float in [0, 1)
        Weight of the uniform distribution mixed into the target.
    """

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        self.label_smoothing = check.real("label_smoothing", label_smoothing, least=0, below=1)

    def _forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        # One kernel makes both, so the gradient is kept for backward.
        loss, self._grad = functional.cross_entropy_and_gradient(
            prediction, target, self.reduction, self.label_smoothing
        )
        return loss

    def _backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        return self._grad


class NLLLoss(_ClassLoss):
    """Negative log-likelihood of log-probabilities, as `LogSoftmax` or `Softmax` then `Log` give them."""

    def _forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        return functional.nll_loss(prediction, target, self.reduction)

    def _backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        return functional.nll_loss_backward(prediction, target, self.reduction)


class _ElementLoss(Loss):
    """Targets have the prediction's shape; one loss an element. Subclasses name their kernels and functions."""

    _name = ""

    def _function(self, suffix: str = "") -> Callable[..., Any]:
        return getattr(functional, self._name + suffix)

    def _forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        return self._function()(prediction, target, self.reduction)

    def _backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        return self._function("_backward")(prediction, target, self.reduction)


class _BinaryLoss(_ElementLoss):
    """Targets are 0 and 1, or probabilities between them."""

    task = "binary"

    def check_target(self, target: ArrayLike, output_shape: tuple[int, ...], dtype: Any) -> Array:
        array = super().check_target(target, output_shape, dtype)
        if output_shape == (1,) and array.size:  # of many outputs it would be a pass over much
            low, high = array.min(), array.max()
            if low < 0 or high > 1:  # NaN is found by who trains
                raise InvalidValueError(f"y holds {low if low < 0 else high:g}; expected 0 to 1 for {self!r}")
        return array


class BCELoss(_BinaryLoss):
    """Binary cross-entropy of probabilities; logarithms are bounded below by -100, as in PyTorch."""

    threshold = 0.5
    _name = "binary_cross_entropy"


class BCEWithLogitsLoss(_BinaryLoss):
    """Binary cross-entropy of ``sigmoid(prediction)``, stable at any logits."""

    _name = "binary_cross_entropy_with_logits"


class MSELoss(_ElementLoss):
    """Squared difference; the mean is over all elements."""

    task = "regression"
    _name = "mse_loss"
