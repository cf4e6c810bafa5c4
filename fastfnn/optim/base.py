"""What optimizers have in common, and what of a model they update."""

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
    pass  # of `typing` from Python 3.11 on

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
