"""What is to be done, for `program` and `eager` alike: with a model, and with the rows of the data."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastfnn.engine.sparsity import CSR
from fastfnn.losses import Loss
from fastfnn.model import Sequential
from fastfnn.optim import Optimizer

Array = NDArray[Any]
#: So far: the loss (times the rows, for a mean), rows that were right (of several labels each, by their share), rows,
#: and the step that failed (from 1) or 0.
Sums = tuple[float, float, int, int]
#: A layer's packed weight and the sum of its rows (`fastfnn_kernels.products.packed`), by the layer's identity.
Packed = dict[int, tuple[Array, Array]]


class Task(NamedTuple):
    """A model is trained where there is an optimizer, evaluated where there is a loss alone; else it predicts.

    Attributes
    ----------
    keep_gradients : bool
        The model's gradients are to be there after a step; else plain SGD subtracts them as they are made.
    packed : dict, optional
        The model never changes, and weights may be packed: here they are kept, by the layer's identity.
    """

    model: Sequential
    loss: Loss | None = None
    optimizer: Optimizer | None = None
    keep_gradients: bool = False
    packed: Packed | None = None


class Pass(NamedTuple):
    """Once through the rows of the data.

    Attributes
    ----------
    x, y, out : ndarray, or CSR for x
        Contiguous, with at least one row; `out` takes the predictions, in an evaluation beside the loss.
    weights : (n,) float64, optional
        What the rows' losses are multiplied by.
    order : (n,) int64, optional
        Of the rows, in training.
    batch_size : int, optional
        All rows by default.
    rates, decays : (steps,) float64, optional
        A learning rate and a weight decay for every step, instead of the optimizer's.
    penalty : float
        The loss that is told has so many times ``weight decay / 2 * Σ w²`` more, of the weights before each step. It
        needs an optimizer with a weight decay.
    """

    x: Array | CSR
    y: Array | None = None
    out: Array | None = None
    weights: Array | None = None
    order: Array | None = None
    batch_size: int | None = None
    rates: Array | None = None
    decays: Array | None = None
    penalty: float = 0.0
