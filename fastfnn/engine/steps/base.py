"""What every step is."""

from __future__ import annotations

import math
from typing import Any

from fastfnn.engine.steps.table import Array, Data, Shape, Table
from fastfnn.functional import NANOSECONDS_PER_ELEMENT
from fastfnn.layers import Layer


class Step:
    """Base of the steps. A step is made for one program and writes its records once.

    Parameters
    ----------
    layers : tuple of Layer
        Those that the step does together.
    in_shape, out_shape : tuple of int
        Of a sample.

    Attributes
    ----------
    needs_grad_x : bool
        Whether `backward` is to make the gradient for the input; set before anything is written.
    trains : bool
        Whether there is something to train, which is not frozen; if not, `backward` makes that gradient alone.
    """

    #: Whether there are parameters, or statistics, to train.
    has_parameters = False
    #: Whether training needs the whole batch in one chunk.
    whole_batch = False
    #: Whether `backward` writes into the gradient that it gets.
    overwrites_grad = False

    def __init__(self, layers: tuple[Layer, ...], in_shape: Shape, out_shape: Shape) -> None:
        self.layers, self.in_shape, self.out_shape = layers, in_shape, out_shape
        self.needs_grad_x = True
        #: Where there are branches: what each does, see `BranchesStep`.
        self.branches: list[Any] = []
        self.trains = self.has_parameters and any(layer.learns for layer in layers)

    @classmethod
    def fits(cls, layers: tuple[Layer, ...], in_shape: Shape) -> bool:
        """Whether the step can do these layers; if not, a shorter entry of the table is tried."""
        return True

    def follow(self, before: Step) -> None:
        """Take over what of the step before is better done here."""

    @property
    def nanoseconds(self) -> float:
        """Roughly, of one thread for the forward of a row."""
        return NANOSECONDS_PER_ELEMENT * math.prod(self.out_shape)

    @property
    def widest(self) -> int:
        """Numbers of a row in the largest array that is made on the way."""
        return math.prod(self.out_shape)

    def takes_data(self, table: Table, data: Data) -> bool:
        """Whether `forward` reads the caller's rows itself where the step comes first; if not, it gets a row array."""
        return False

    def forward(self, table: Table, x: Array | Data) -> Array | Data:
        """Append the forward; returns the row array that it writes."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def backward(self, table: Table, x: Array | Data, grad: Array) -> Array | None:
        """Append the backward; returns the row array of the gradient for `x`, or None where nobody needs it.

        `grad` may be overwritten. Gradients of parameters go to ``layer.grads``, in the weight table.
        """
        raise TypeError(f"{type(self).__name__} has no backward")
