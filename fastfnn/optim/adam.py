"""Adam and what came of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.optim.base import Array, Limits, Optimizer, settled_eps

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of `typing` from Python 3.11 on


def as_betas(betas: Any) -> tuple[float, float]:
    """A pair of decays."""
    try:
        first, second = betas
    except (TypeError, ValueError):
        raise InvalidValueError(f"betas is {betas!r}; expected a pair of numbers in [0, 1)") from None
    return check.real("betas[0]", first, least=0, below=1), check.real("betas[1]", second, least=0, below=1)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015).

    Parameters
    ----------
    lr : float
    betas : pair of floats in [0, 1)
        Decay of the averages of the gradient and of its square.
    eps : float
        Added to the root of the second average. At 0 parameters that have never had a gradient stay as they are.
    weight_decay : float
        λ of the L2 term, added to the gradient (not decoupled).
    epsilon_hat : bool
        `eps` is added to the root of the second average before the correction of its zero start: the ε̂ of section 2
        of Kingma & Ba, as TensorFlow and scikit-learn have it. PyTorch adds it after that.
    amsgrad : bool
        Divide by the root of the largest second average so far (Reddi et al. 2018).
    """

    #: Whether weight decay leaves the gradient alone.
    decoupled = False

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        epsilon_hat: bool = False,
        amsgrad: bool = False,
        **limits: Unpack[Limits],
    ) -> None:
        super().__init__(lr, weight_decay, **limits)
        self.epsilon_hat, self.amsgrad = bool(epsilon_hat), bool(amsgrad)
        self.betas = as_betas(betas)
        self.eps = check.real("eps", eps, least=0)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("mean", "square", "largest") if self.amsgrad else ("mean", "square")

    def _update(self, params: Array, grads: Array, state: dict[str, Array], decay: Any, scalar: Any, team: Any) -> None:
        beta1, beta2 = self.betas
        correction, eps = 1 - beta2**self.steps, settled_eps(self.eps, params.dtype)
        update = kernels.optim.amsgrad if self.amsgrad else kernels.optim.adam
        update(
            params,
            *state.values(),
            grads,
            scalar(self.lr),
            scalar(beta1),
            scalar(beta2),
            scalar(eps / math.sqrt(correction) if self.epsilon_hat else eps),
            decay,
            self.decoupled,
            scalar(1 - beta1**self.steps),
            scalar(correction),
            team=team,
        )

    def _config(self) -> dict[str, Any]:
        flags = {name: True for name in ("epsilon_hat", "amsgrad") if getattr(self, name)}
        return {"betas": self.betas, "eps": self.eps, **flags}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): w ← w - lr λ w beside Adam's step.

    Parameters
    ----------
    lr, betas, eps, epsilon_hat, amsgrad
        As `Adam`'s.
    weight_decay : float
        λ.
    """

    decoupled = True

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        epsilon_hat: bool = False,
        amsgrad: bool = False,
        **limits: Unpack[Limits],
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, epsilon_hat, amsgrad, **limits)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016), as PyTorch has it.

    Parameters
    ----------
    lr, betas, eps
        As `Adam`'s.
    weight_decay : float
        λ of the L2 term, added to the gradient unless it is decoupled.
    momentum_decay : float
        ψ of the momentum of step t, β₁ (1 - 0.96^(t ψ) / 2).
    decoupled_weight_decay : bool
        w ← w - lr λ w beside the step, as `AdamW` has it.
    """

    slots = ("mean", "square")

    def __init__(
        self,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **limits: Unpack[Limits],
    ) -> None:
        super().__init__(lr, weight_decay, **limits)
        self.betas = as_betas(betas)
        self.eps = check.real("eps", eps, least=0)
        self.momentum_decay = check.real("momentum_decay", momentum_decay, least=0)
        self.decoupled_weight_decay = bool(decoupled_weight_decay)

    def _update(self, params: Array, grads: Array, state: dict[str, Array], decay: Any, scalar: Any, team: Any) -> None:
        shares = kernels.optim.nadam_shares(self.steps, self.betas[0], self.momentum_decay)
        settings = map(scalar, (self.lr, *self.betas, settled_eps(self.eps, params.dtype)))
        factors = map(scalar, (*shares, 1 - self.betas[1] ** self.steps))
        decoupled = self.decoupled_weight_decay
        kernels.optim.nadam(params, *state.values(), grads, *settings, decay, decoupled, *factors, team=team)

    def _config(self) -> dict[str, Any]:
        config = {"betas": self.betas, "eps": self.eps, "momentum_decay": self.momentum_decay}
        return {**config, "decoupled_weight_decay": True} if self.decoupled_weight_decay else config
