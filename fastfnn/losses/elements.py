"""Losses of elements, which are numbers, or say yes or no."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.losses.base import Loss, as_weights

Array = NDArray[Any]


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
        self.weight = as_weights("weight", weight)
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
        self.pos_weight = as_weights("pos_weight", pos_weight)

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
