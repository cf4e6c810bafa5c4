"""Losses of classes: one a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.losses.base import Loss, as_weights

Array = NDArray[Any]


class _ClassLoss(Loss):
    """Targets are labels (n,) or (n, 1), one-hot rows or probabilities (n, classes); one loss a row."""

    task = "classification"
    classifies = True
    label_smoothing = 0.0

    def __init__(self, reduction: str = "mean", *, weight: ArrayLike | None = None, ignore_index: int = -100) -> None:
        super().__init__(reduction)
        self.weight = as_weights("weight", weight)
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
