"""Losses: ``loss.forward(prediction, target)`` returns the number, ``loss.backward()`` the gradient of exactly it."""

from __future__ import annotations

import copy
import functools
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


def _weights(name: str, values: ArrayLike | None) -> Array | None:
    """Weights as float64, a number or a row of them, each finite and at least 0; None for None."""
    if values is None:
        return None
    array = check.float_array(name, values, dtype=np.float64)
    if array.ndim > 1 or not array.size or not (np.isfinite(array) & (array >= 0)).all():
        raise InvalidValueError(f"{name} is {values!r}; expected finite weights of at least 0, one for each")
    return array


class _ClassLoss(Loss):
    """Targets are labels (n,) or (n, 1), one-hot rows or probabilities (n, classes); one loss a row."""

    task = "classification"
    classifies = True
    label_smoothing = 0.0

    def __init__(self, reduction: str = "mean", *, weight: ArrayLike | None = None, ignore_index: int = -100) -> None:
        super().__init__(reduction)
        self.weight = _weights("weight", weight)
        self.ignore_index = int(check.real("ignore_index", ignore_index))

    def class_weights(self, classes: int) -> Array:
        """(classes,) float64, ones where there is no `weight`."""
        if self.weight is not None and self.weight.shape != (classes,):
            raise InvalidValueError(
                f"weight of {self!r} has shape {self.weight.shape}; expected ({classes},), one for each class"
            )
        return np.ones(classes) if self.weight is None else self.weight

    def weighs(self, target: Array) -> bool:
        """Whether not all rows, or classes, with these targets count alike."""
        return self.weight is not None or self._n_ignored(target) > 0

    def _n_ignored(self, target: Array) -> int:
        return int(np.count_nonzero(target == self.ignore_index)) if target.ndim == 1 else 0

    def label_weights(self, target: Array) -> Array:
        """(n,) float64: what each label counts."""
        kept = target != self.ignore_index
        return kept * (1.0 if self.weight is None else self.weight[np.where(kept, target, 0)])

    def mean_over(self, target: Array) -> float:
        return float(self.label_weights(target).sum()) if target.ndim == 1 else float(len(target))

    def kept_share(self, target: Array) -> float:
        return 1.0 - self._n_ignored(target) / len(target)

    def _labels(self, name: str, target: Array, rows: int, classes: int) -> Array:
        """Checked labels, of which some may be `ignore_index`."""
        if target.dtype.kind != "i" or target.size != rows or not self._n_ignored(target.reshape(-1)):
            return check.labels(name, target, rows, classes)
        ignored = target.reshape(-1) == self.ignore_index
        found = check.labels(name, np.where(ignored, 0, target.reshape(-1)), rows, classes)
        return np.where(ignored, self.ignore_index, found)

    def _forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        p, t = check.float_array("prediction", prediction, ndim=2), np.asarray(target)
        rows, classes = p.shape
        is_labels = t.ndim <= 1 or (t.shape[1:] == (1,) and classes > 1)
        if is_labels and t.ndim:
            t = self._labels("target", t, rows, classes)
        self._weighed = self._rows(p, t) if self.weighs(t) else None
        if self._weighed is None:
            return self._plain_forward(prediction, target)
        meant, over = self._weighed
        losses = self._plain("none")._plain_forward(p, meant)
        if self.reduction == "none":
            return losses
        total = float(np.sum(losses))
        return total if self.reduction == "sum" else total / over if over else 0.0

    def _backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        if self._weighed is None:
            return self._plain_backward(prediction, target)
        (meant, over), plain = self._weighed, self._plain("sum")
        plain._plain_forward(prediction, meant)
        grad = plain._plain_backward(prediction, meant)
        return grad / grad.dtype.type(over or 1) if self.reduction == "mean" else grad

    def _plain(self, reduction: str) -> _ClassLoss:
        """The same without weights and smoothing."""
        return type(self)(reduction)

    def _rows(self, p: Array, target: Array) -> tuple[Array, float]:
        """Rows that mean the same to the loss without weights and smoothing, and what its mean divides by."""
        weight, smoothing = self.class_weights(p.shape[1]), self.label_smoothing
        rows, kept = np.zeros(p.shape), np.ones(len(p), bool)
        if target.ndim == 1:
            kept = target != self.ignore_index
            rows[kept, target[kept]] = 1
        else:
            rows[...] = check.class_target("target", target, p)
        rows = (rows * (1 - smoothing) + smoothing / p.shape[1]) * weight * kept[:, None]
        return rows.astype(p.dtype), self.mean_over(target)

    def _plain_forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward")

    def _plain_backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        raise TypeError(f"{type(self).__name__} has no backward")

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
        self.class_weights(output_shape[0])
        array = np.asarray(target)
        if array.ndim == 1 or array.shape[1:] == (1,):
            labels = self._labels("y", array, len(array), output_shape[0])
            if len(labels) and not self.kept_share(labels):
                raise InvalidValueError(f"y holds nothing but {self.ignore_index}, the ignore_index; expected labels")
            return labels
        rows = len(array) if array.ndim else 0
        return check.class_target("y", array, np.broadcast_to(np.empty((), dtype), (rows, *output_shape)))


class CrossEntropyLoss(_ClassLoss):
    """Cross-entropy of logits: softmax, logarithm and NLL in one stable kernel.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    label_smoothing : float in [0, 1)
        Weight of the uniform distribution mixed into the target.
    weight, ignore_index
        As in `NLLLoss`.
    """

    def __init__(
        self,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index)
        self.label_smoothing = check.real("label_smoothing", label_smoothing, least=0, below=1)

    def _plain_forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        # One kernel makes both, so the gradient is kept for backward.
        loss, self._grad = functional.cross_entropy_and_gradient(
            prediction, target, self.reduction, self.label_smoothing
        )
        return loss

    def _plain_backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        return self._grad


class NLLLoss(_ClassLoss):
    """Negative log-likelihood of log-probabilities, as `LogSoftmax` or `Softmax` then `Log` give them.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    weight : (classes,) array, optional
        What the losses of each class are multiplied by. The mean of labels' losses is ``Σ w l / Σ w``, that over rows
        of probabilities divides by their number.
    ignore_index : int
        A label that stands for none: such rows count nothing, neither in the mean nor in the accuracy. (A batch of
        nothing else has the loss 0, where PyTorch's is NaN.)
    """

    def _plain_forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        return functional.nll_loss(prediction, target, self.reduction)

    def _plain_backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        return functional.nll_loss_backward(prediction, target, self.reduction)


class _ElementLoss(Loss):
    """Targets have the prediction's shape; one loss an element. Subclasses name their kernels and functions."""

    task = "regression"
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

    def __init__(self, reduction: str = "mean", *, weight: ArrayLike | None = None) -> None:
        super().__init__(reduction)
        self.weight = _weights("weight", weight)
        self.pos_weight: Array | None = None

    def row_of_weights(self, name: str, sample_shape: tuple[int, ...], dtype: Any) -> Array:
        """The weights of a sample's outputs, in one flat array; ones where they are not given."""
        values = self.weights().get(name, np.ones(1))
        try:
            return np.broadcast_to(values, sample_shape).astype(dtype).reshape(-1)
        except ValueError:
            raise InvalidValueError(
                f"{name} of {self!r} has shape {values.shape}; expected one number, or one for each of {sample_shape}"
            ) from None

    def _weighed(self, prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
        """Targets and factors by which this loss is one without weights.

        With w and p, ``c = 1 + (p - 1) t`` and ``t' = p t / c``: the loss is ``w c`` times the plain one of t'.
        """
        p = check.float_array("prediction", prediction)
        t = check.float_array("target", target, dtype=p.dtype).reshape(p.shape)
        weight, pos = (
            self.row_of_weights(k, p.shape[1:], p.dtype).reshape(p.shape[1:]) for k in ("weight", "pos_weight")
        )
        kept = 1 + (pos - 1) * t
        return np.divide(pos * t, kept, out=np.zeros_like(t), where=kept > 0), weight * kept

    def _forward(self, prediction: ArrayLike, target: ArrayLike) -> Any:
        if not self.weights():
            return super()._forward(prediction, target)
        shifted, factor = self._weighed(prediction, target)
        losses = self._function()(prediction, shifted, "none") * factor
        if self.reduction == "none":
            return losses
        total = float(losses.sum(dtype=np.float64))
        return total / losses.size if self.reduction == "mean" and losses.size else total

    def _backward(self, prediction: ArrayLike, target: ArrayLike) -> Array:
        if not self.weights():
            return super()._backward(prediction, target)
        shifted, factor = self._weighed(prediction, target)
        return self._function("_backward")(prediction, shifted, self.reduction) * factor

    def check_target(self, target: ArrayLike, output_shape: tuple[int, ...], dtype: Any) -> Array:
        array = super().check_target(target, output_shape, dtype)
        for name in self.weights():
            self.row_of_weights(name, output_shape, dtype)
        if output_shape == (1,) and array.size:  # of many outputs it would be a pass over much
            low, high = array.min(), array.max()
            if low < 0 or high > 1:  # NaN is found by who trains
                raise InvalidValueError(f"y holds {low if low < 0 else high:g}; expected 0 to 1 for {self!r}")
        return array


class BCELoss(_BinaryLoss):
    """Binary cross-entropy of probabilities; logarithms are bounded below by -100, as in PyTorch.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    weight : number or (outputs,) array, optional
        What the losses of each output are multiplied by. The mean is over all of them, whatever their weights.
    """

    threshold = 0.5
    _name = "binary_cross_entropy"


class BCEWithLogitsLoss(_BinaryLoss):
    """Binary cross-entropy of ``sigmoid(prediction)``, stable at any logits.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    weight : number or (outputs,) array, optional
        As in `BCELoss`.
    pos_weight : number or (outputs,) array, optional
        p in ``-(p t log σ(z) + (1 - t) log(1 - σ(z)))``: above 1, a missed yes costs more than a wrong one.
    """

    def __init__(
        self, reduction: str = "mean", *, weight: ArrayLike | None = None, pos_weight: ArrayLike | None = None
    ) -> None:
        super().__init__(reduction, weight=weight)
        self.pos_weight = _weights("pos_weight", pos_weight)

    _name = "binary_cross_entropy_with_logits"


class MSELoss(_ElementLoss):
    """Squared difference; the mean is over all elements."""

    _name = "mse_loss"


class L1Loss(_ElementLoss):
    """Absolute difference, whose best prediction is the median; the mean is over all elements."""

    _name = "l1_loss"


class HuberLoss(_ElementLoss):
    """Half the squared difference up to `delta`, and straight beyond it: outliers weigh less (Huber 1964).

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    delta : float
        Where the one becomes the other.
    """

    _name = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = check.real("delta", delta, above=0)

    def _function(self, suffix: str = "") -> Callable[..., Any]:
        return functools.partial(super()._function(suffix), delta=self.delta)

    def __repr__(self) -> str:
        reduction = "" if self.reduction == "mean" else f"reduction={self.reduction!r}, "
        return f"HuberLoss({reduction}delta={self.delta!r})"


class PoissonNLLLoss(_ElementLoss):
    """Negative log-likelihood of counts, whose mean is ``exp(prediction)``; without what depends on the counts alone.

    PyTorch's with its defaults, ``log_input=True, full=False``.
    """

    _name = "poisson_nll_loss"
