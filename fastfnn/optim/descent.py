"""Steps along the gradient, and those scaled by what gradients have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.optim.base import Array, Limits, Optimizer, settled_eps

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of `typing` from Python 3.11 on


class SGD(Optimizer):
    """Stochastic gradient descent.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        Share of the last step's velocity that is kept (PyTorch's form: v ← μ v + g, w ← w - lr v), usually below 1.
    nesterov : bool
        Look ahead along the velocity; needs a momentum.
    weight_decay : float
        λ of the L2 term λ/2 |w|², added to the gradient.
    """

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        **limits: Unpack[Limits],
    ) -> None:
        super().__init__(lr, weight_decay, **limits)
        self.momentum = check.real("momentum", momentum, least=0)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise InvalidValueError("nesterov is True with momentum 0; expected a momentum above 0")

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("velocity",) if self.momentum else ()

    def _update(self, params: Array, grads: Array, state: dict[str, Array], decay: Any, scalar: Any, team: Any) -> None:
        lr = scalar(self.lr)
        if self.momentum:
            velocity = state["velocity"]
            momentum = scalar(self.momentum)
            kernels.optim.sgd_momentum(params, velocity, grads, lr, momentum, self.nesterov, decay, team=team)
        else:
            kernels.optim.sgd(params, grads, lr, decay, team=team)

    def _config(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012): s ← α s + (1 - α) g², w ← w - lr g / (√s + ε).

    Parameters
    ----------
    lr : float
    alpha : float
        Decay of the average of the squared gradient, usually below 1.
    eps : float
        Added to its root.
    weight_decay : float
        λ of the L2 term, added to the gradient.
    centered : bool
        Divide by the root of the gradient's variance s - m² instead, m its average (Graves 2013).
    momentum : float in [0, 1)
        Share of the last step that is kept: v ← μ v + g / (√s + ε), w ← w - lr v.
    """

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.centered:
            return ("square", "mean", "velocity")
        return ("square", "velocity") if self.momentum else ("square",)

    def __init__(
        self,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        centered: bool = False,
        momentum: float = 0.0,
        **limits: Unpack[Limits],
    ) -> None:
        super().__init__(lr, weight_decay, **limits)
        self.centered, self.momentum = bool(centered), check.real("momentum", momentum, least=0, below=1)
        self.alpha = check.real("alpha", alpha, least=0)
        self.eps = check.real("eps", eps, least=0)

    def _update(self, params: Array, grads: Array, state: dict[str, Array], decay: Any, scalar: Any, team: Any) -> None:
        settings = map(scalar, (self.lr, self.alpha, settled_eps(self.eps, params.dtype), decay))
        if not self.centered and not self.momentum:
            kernels.optim.rmsprop(params, state["square"], grads, *settings, team=team)
            return
        update = kernels.optim.rmsprop_centered if self.centered else kernels.optim.rmsprop_momentum
        update(params, *state.values(), grads, *settings, scalar(self.momentum), team=team)

    def _config(self) -> dict[str, Any]:
        more = {name: getattr(self, name) for name in ("centered", "momentum") if getattr(self, name)}
        return {"alpha": self.alpha, "eps": self.eps, **more}


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): s ← s + g², w ← w - lr g / (√s + ε).

    Parameters
    ----------
    lr : float
    eps : float
        Added to the root of the sum.
    weight_decay : float
        λ of the L2 term, added to the gradient.
    lr_decay : float
        The rate of step t is lr / (1 + (t - 1) lr_decay).
    initial_accumulator_value : float
        What s is at first.
    """

    slots = ("total",)

    def __init__(
        self,
        lr: float = 0.01,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        lr_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        **limits: Unpack[Limits],
    ) -> None:
        super().__init__(lr, weight_decay, **limits)
        self.lr_decay = check.real("lr_decay", lr_decay, least=0)
        self.initial_state = check.real("initial_accumulator_value", initial_accumulator_value, least=0)
        self.eps = check.real("eps", eps, least=0)

    def _update(self, params: Array, grads: Array, state: dict[str, Array], decay: Any, scalar: Any, team: Any) -> None:
        settings = map(
            scalar, (self.lr / (1 + (self.steps - 1) * self.lr_decay), settled_eps(self.eps, params.dtype), decay)
        )
        kernels.optim.adagrad(params, state["total"], grads, *settings, team=team)

    def _config(self) -> dict[str, Any]:
        more = {"lr_decay": self.lr_decay, "initial_accumulator_value": self.initial_state}
        return {"eps": self.eps, **{name: value for name, value in more.items() if value}}
