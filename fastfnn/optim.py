"""Optimizers: one kernel call over all parameters of a model, which lie in one flat array."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of `typing` from Python 3.11 on

Array = NDArray[Any]


#: What arguments are called elsewhere.
OTHER_NAMES = {
    "learning_rate": "lr",
    "learning_rate_init": "lr",
    "rho": "alpha",
    "epsilon": "eps",
    "clipnorm": "clip_norm",
    "global_clipnorm": "clip_norm",
    "clipvalue": "clip_value",
    "lambd": "weight_decay",
}


def settled_eps(eps: float, dtype: Any) -> float:
    """`eps` as updates take it: never 0 in `dtype`, for a gradient of 0 is then to change nothing, and 0 / 0 is NaN.

    The least is so small that it vanishes beside the root of any square but 0.
    """
    return max(eps, float(np.finfo(dtype).tiny) * 2**20)


#: Models by the identity of their flat parameters: which of these are trained.
owners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Part(NamedTuple):
    """Parameters, one behind the other in the flat array, that are updated alike.

    Attributes
    ----------
    start, stop : int
    lr_scale : float
        What the optimizer's learning rate is multiplied by.
    weight_decay : float or None
        Instead of the optimizer's.
    """

    start: int
    stop: int
    lr_scale: float = 1.0
    weight_decay: float | None = None

    @property
    def where(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def is_plain(self) -> bool:
        """Whether they are updated as the optimizer says."""
        return self.lr_scale == 1 and self.weight_decay is None

    def decay(self, otherwise: float) -> float:
        """Their weight decay, where the optimizer's is `otherwise`."""
        return otherwise if self.weight_decay is None else self.weight_decay


def _trained_parts(params: Array) -> list[Part]:
    """What of a model's flat parameters is to be updated; all of any other array."""
    model = owners.get(id(params))
    return [Part(0, params.size)] if model is None or model.parameters is not params else model.trained_parts()


class Limits(TypedDict, total=False):
    """Keywords that every optimizer takes, see `Optimizer`."""

    clip_norm: float | None
    clip_value: float | None
    l1: float
    decay_biases: bool
    maximize: bool


LIMITS = tuple(Limits.__annotations__)


def block_sums(parts: Sequence[Part]) -> tuple[Array, list[slice]]:
    """Room for the `square_sums` of parts of the gradient, and the place of each part's."""
    counts = [kernels.optim.norm_blocks(part.stop - part.start) for part in parts]
    stops = list(itertools.accumulate(counts))
    places = [slice(stop - count, stop) for count, stop in zip(counts, stops, strict=True)]
    return np.zeros(sum(counts)), places


class Optimizer:
    """Base of the optimizers.

    Every optimizer takes these keywords, too. They change the gradient before anything else does, in place.

    Parameters
    ----------
    clip_norm : float, optional
        Scale the gradient of all parameters together to this Euclidean norm where it is longer.
    clip_value : float, optional
        Then bound every element by ± this value.
    l1 : float
        λ₁ of the term λ₁ Σ |w| of the loss: λ₁ sign(w) is added to the gradient.
    decay_biases : bool
        Whether weight decay and `l1` hold all parameters, as in PyTorch, or the weights alone: not biases, nor the
        scales and shifts of batch normalisation.
    maximize : bool
        Go up instead of down: the gradient is negated, in place and before anything else.

    Attributes
    ----------
    lr : float
        Learning rate; may be changed between steps.
    state : dict of str to ndarray
        Running averages, of the shape of the parameters. They belong to one model; with another the optimizer
        starts afresh.
    steps : int
        Updates made so far.
    """

    #: Names of the state arrays, and what they are filled with at first.
    slots: tuple[str, ...] = ()
    initial_state = 0.0

    if not TYPE_CHECKING:  # which knows the arguments of `__init__`

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            first = args[0] if args else kwargs.get("params")
            if np.ndim(first) or hasattr(first, "__next__"):
                raise InvalidTypeError(
                    f"{cls.__name__} was given parameters; expected {cls.__name__}(lr=…) alone: an optimizer gets them "
                    "from fit, or from step"
                )
            return object.__new__(cls)

    @classmethod
    def _unknown(cls, name: str, value: Any) -> InvalidTypeError:
        """What to say of an argument that is none."""
        if name in OTHER_NAMES:
            return InvalidTypeError(f"{name} is no argument of {cls.__name__}; write {OTHER_NAMES[name]}={value!r}")
        own = [each for each in inspect.signature(cls).parameters if each != "limits"]
        return InvalidTypeError(f"{name} is no argument of {cls.__name__}; expected {', '.join([*own, *LIMITS])}")

    def __init__(
        self,
        lr: float,
        weight_decay: float,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        l1: float = 0.0,
        decay_biases: bool = True,
        maximize: bool = False,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise self._unknown(*next(iter(unknown.items())))
        self.lr = check.real("lr", lr, least=0)
        self.weight_decay = check.real("weight_decay", weight_decay, least=0)
        self.clip_norm = None if clip_norm is None else check.real("clip_norm", clip_norm, above=0)
        self.clip_value = None if clip_value is None else check.real("clip_value", clip_value, above=0)
        self.l1 = check.real("l1", l1, least=0)
        self.decay_biases, self.maximize = bool(decay_biases), bool(maximize)
        self.state: dict[str, Array] = {}
        self.steps = 0
        self._params: weakref.ref[Array] | None = None
        #: The arrays of the state that are known to fit.
        self._kept: list[Array] = []
        self._known: list[int] = []

    def step(self, params: Array, grads: Array, team: Any = None, *, n_weights: int | None = None) -> None:
        """Update `params` in place from `grads`, both flat.

        Where they are a model's `parameters`, those of layers that are not `trainable` stay, whatever their gradients,
        the weight decay and the state; and each layer's `lr_scale` and `weight_decay` count.

        Parameters
        ----------
        params, grads : (n,) arrays
        team : fastfnn_kernels.team.Team, optional
        n_weights : int, optional
            How many of them, from the first on, are weights (`Sequential.n_weights`); by default all.
        """
        if params.shape != grads.shape:
            raise InvalidValueError(f"grads has shape {grads.shape}; expected {params.shape}, the shape of params")
        self.prepare(params)
        self.steps += 1
        scalar, limits, parts = params.dtype.type, self.limits, _trained_parts(params)
        squares, blocks = block_sums(parts)
        if limits is not None:
            for part, block in zip(parts, blocks, strict=True):
                kernels.optim.square_sums(squares[block], grads[part.where], team=team)
        lr = self.lr
        for part, decays in self.parts(parts, n_weights):
            where, decay = part.where, part.decay(self.weight_decay) if decays else 0.0
            mine, grad = params[where], grads[where]
            if self.maximize:
                kernels.optim.negate(grad, team=team)
            if limits is not None:
                norm, value = limits
                l1 = self.l1 if decays else 0.0
                kernels.optim.clip_step(grad, squares, mine, norm, scalar(value), scalar(l1), team=team)
            state = {name: array[where] for name, array in self.state.items()}
            try:
                self.lr = part.lr_scale * lr
                self._update(mine, grad, state, scalar(decay), scalar, team)
            finally:
                self.lr = lr

    def parts(self, parts: Sequence[Part], n_weights: int | None) -> list[tuple[Part, bool]]:
        """Parts cut where weight decay and `l1` end, and whether these hold them."""
        if self.decay_biases or n_weights is None:
            return [(part, True) for part in parts]
        weights = [(part._replace(stop=min(part.stop, n_weights)), True) for part in parts]
        others = [(part._replace(start=max(part.start, n_weights)), False) for part in parts]
        return [(part, decays) for part, decays in weights + others if part.start < part.stop]

    def prepare(self, params: Array) -> None:
        """Have a state for `params`; that of other parameters is dropped.

        Raises
        ------
        InvalidValueError
            An array of the state is missing, or is no array like the parameters.
        """
        if self._params is None or self._params() is not params:
            self._params = weakref.ref(params)
            self.state = {name: np.full_like(params, self.initial_state) for name in self.slots}
            self.steps = 0
        if self._known == [id(self.state.get(name)) for name in self.slots]:
            return
        missing = [name for name in self.slots if name not in self.state]
        if 0 < len(missing) < len(self.slots):
            raise InvalidValueError(
                f"state of {self!r} lacks {', '.join(missing)}; expected {', '.join(self.slots)}, or none of them to "
                "start afresh"
            )
        if missing:
            self.state |= {name: np.full_like(params, self.initial_state) for name in missing}
            self.steps = 0
        for name in self.slots:
            array: Any = self.state[name]
            fits = isinstance(array, np.ndarray) and array.dtype == params.dtype and array.flags.c_contiguous
            if not fits or array.shape != params.shape or not array.flags.writeable:
                came = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else repr(array)
                raise InvalidValueError(
                    f"state[{name!r}] of {self!r} is {came}; expected a writeable, contiguous array, {params.dtype} "
                    f"{params.shape}"
                )
        self._kept = [self.state[name] for name in self.slots]
        self._known = list(map(id, self._kept))

    def _update(self, params: Array, grads: Array, state: dict[str, Array], decay: Any, scalar: Any, team: Any) -> None:
        """`state` and `decay` are those of `params`; `scalar` makes numbers of their dtype."""
        raise TypeError(f"{type(self).__name__} has no update")

    @property
    def limits(self) -> tuple[float, float] | None:
        """Longest norm and largest value of the gradient; None where it stays as it is, for want of an `l1`, too."""
        if self.clip_norm is None and self.clip_value is None and not self.l1:
            return None
        norm = math.inf if self.clip_norm is None else self.clip_norm
        return norm, math.inf if self.clip_value is None else self.clip_value

    def config(self) -> dict[str, Any]:
        """Arguments that make such an optimizer again; those of the gradient where they are set."""
        limits: dict[str, Any] = {"clip_norm": self.clip_norm, "clip_value": self.clip_value, "l1": self.l1 or None}
        limits["decay_biases"] = None if self.decay_biases else False
        limits["maximize"] = self.maximize or None
        set_limits = {name: value for name, value in limits.items() if value is not None}
        return {"lr": self.lr, **self._config(), "weight_decay": self.weight_decay, **set_limits}

    def _config(self) -> dict[str, Any]:
        """The arguments that others have not."""
        return {}

    def snapshot(self) -> tuple[dict[str, Array], int]:
        """A copy of the state, for `restore`."""
        return {name: array.copy() for name, array in self.state.items()}, self.steps

    def restore(self, snapshot: tuple[dict[str, Array], int]) -> None:
        """Go back to a `snapshot`; arrays that it has not seen yet become what they are at first."""
        saved, self.steps = snapshot
        for name, array in self.state.items():
            array[...] = saved.get(name, self.initial_state)

    def copy_for(self, params: Array, twin: Array) -> Optimizer:
        """A copy that goes on with `twin`, a copy of the parameters `params`, from the state that it has for these."""
        other = copy.deepcopy(self)
        if self._params is not None and self._params() is params:
            other._params = weakref.ref(twin)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_params": None, "_kept": [], "_known": []}  # a weak reference cannot be pickled

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


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
