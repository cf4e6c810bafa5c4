"""What every layer is: a forward, a backward, and dictionaries of parameters and gradients."""

from __future__ import annotations

from collections.abc import Mapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError

Array = NDArray[Any]
Shape = tuple[int, ...]
#: What is known of a sample's shape: (features,), or (channels, None, None) for images; None for what is unknown.
KnownShape = tuple[int | None, ...]
#: How the names of modules begin whose layers are ours.
OURS = ("fastfnn.layers.", "fastfnn.model")
#: Settings that say how training updates a layer, and what they are unless they are set.
UPDATE_SETTINGS: dict[str, Any] = {"trainable": True, "lr_scale": 1.0, "weight_decay": None, "max_norm": None}
#: What a class has in any case.
SAID_WITHOUT_WORDS = {"__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"}
SAID_WITHOUT_WORDS |= {"_is_own", "holds_others"}

#: Attributes that `Layer.__init__` makes.
MADE_AT_FIRST = {"_params", "_grads", "_buffers", "_shapes", "training", "_saved", "dtype"}


def short_pairs(pairs: dict[str, tuple[int, int]], defaults: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Settings of height and width as JSON has them: numbers where both are the same, and no defaults."""
    return {
        name: pair[0] if pair[0] == pair[1] else list(pair)
        for name, pair in pairs.items()
        if pair != defaults.get(name)
    }


def _among_attributes(layer: Layer) -> dict[str, Layer]:
    """What of a layer's attributes are layers, also in lists."""
    found = {}
    for name, value in vars(layer).items():
        entries = value if isinstance(value, (list, tuple)) else [value]
        for i, entry in enumerate(entries):
            if isinstance(entry, Layer):
                found[name if entries[0] is value else f"{name}.{i}"] = entry
    return found


def _collect(layer: Layer, place: str, found: dict[int, tuple[str, Layer]]) -> None:
    if id(layer) in found:
        return
    if not isinstance(layer, Layer):
        raise InvalidTypeError(f"{place} is {layer!r}; expected a layer with one input, such as Linear or ReLU")
    found[id(layer)] = place, layer
    for name, child in layer.children().items():
        _collect(child, f"{place}.{name}" if place else name, found)


class Layer:
    """Base of the layers.

    A layer of your own may hold others, models among them, in its attributes: their parameters are trained, counted and
    saved with it.

    ``y = layer.forward(x)`` keeps what ``grad_x = layer.backward(grad_y)`` needs. `backward` fills `grads` with the
    gradients of the parameters, overwriting those of the last call.

    Attributes
    ----------
    params, grads : dict of str to ndarray
        Parameters and their gradients by name; the arrays may be written in place.
    buffers : dict of str to ndarray
        What is no parameter but belongs to a trained layer: running statistics. Empty for most layers.
    training : bool
        Whether `forward` trains: whether `Dropout` drops, `RandomFlip` flips and `BatchNorm1d` takes the batch's
        statistics. True at first; `Sequential.train` and `Sequential.eval` set it. `fit` and `evaluate` know what they
        do without it.
    trainable : bool
        False freezes the layer, and those that it holds: training leaves its parameters and buffers alone, and makes
        no gradients for them. Batch normalisation then does in training what it does in inference, as Keras has it (in
        PyTorch frozen parameters leave the statistics moving). Unfrozen within a training by `Adam`, it takes a few
        steps that are too long, as its averages start at zero and are corrected for all of the optimizer's steps: a new
        optimizer does not.
    lr_scale : float
        What the optimizer's learning rate is multiplied by for this layer's parameters, and those of layers that it
        holds: 1 at first.
    weight_decay : float or None
        Instead of the optimizer's, for these parameters; None: the optimizer's.
    max_norm : float or None
        At most so large is the norm of the weights that belong to an output, after every update (Srivastava et al.
        2014, Keras' ``MaxNorm``). Files and copies keep these four.
    """

    #: How often a setting of any layer has been written: what is known of layers holds until it changes.
    changes: ClassVar[int] = 0
    #: Settings that decide the shapes of parameters: they cannot be changed.
    fixed_settings: ClassVar[tuple[str, ...]] = ()
    #: Whether a weight starts as if this layer did not stand between it and the activation that follows.
    precedes_activation: ClassVar[bool] = False
    #: Names of PyTorch's classes that `from_torch` makes such a layer of, and the values that settings of theirs must
    #: have which ours have not.
    torch_names: ClassVar[tuple[str, ...]] = ()
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {}

    #: Whether it may hold other layers, as containers and a user's own do.
    holds_others: ClassVar[bool] = False
    #: See `trainable`, `lr_scale`, `weight_decay` and `max_norm`.
    _trainable: bool = True
    _lr_scale: float = 1.0
    _weight_decay: float | None = None
    _max_norm: float | None = None
    #: Whether it is a user's own, which may hold other layers.
    _is_own: ClassVar[bool] = False
    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls._is_own = not cls.__module__.startswith(OURS)
        cls.holds_others = cls.holds_others or cls._is_own

    def __init__(self) -> None:
        self._params: dict[str, Array] | None = None
        self._grads: dict[str, Array] = {}
        self._buffers: dict[str, Array] = {}
        self._shapes: dict[str, Shape] = {}
        self.training = True
        self._saved: Any = None

    # What a layer says about itself

    def forward(self, x: ArrayLike) -> Array:
        raise TypeError(f"{type(self).__name__} has no forward")

    def backward(self, grad_out: ArrayLike) -> Array:
        raise TypeError(f"{type(self).__name__} has no backward")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one sample's output from that of one sample's input."""
        return input_shape

    def config(self) -> dict[str, Any]:
        """Arguments that make such a layer again, as JSON has them."""
        return {}

    @property
    def weight_shape(self) -> Shape:
        """Of the largest array that the layer is going to hold, known from the settings; () where it holds none."""
        return ()

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        """Fresh parameters in float64; `activation` is the class name of the layer that follows, if any."""
        return {}

    def initial_buffers(self) -> dict[str, Array]:
        """Buffers as they are before any training, in float64."""
        return {}

    def taken_shape(self) -> KnownShape | None:
        """What samples it takes; None where it takes any, or nobody knows."""
        return None

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        """What samples it makes of those that came, as far as that is known without their shape."""
        return came if type(self).output_shape is Layer.output_shape else None

    def children(self) -> dict[str, Layer]:
        """The layers that it holds, by names: they are trained, counted and saved with it.

        Of a layer of your own these are the layers among its attributes, or in lists there.
        """
        return _among_attributes(self) if self._is_own else {}

    @classmethod
    def of_children(cls, children: Mapping[str, Layer], **config: Any) -> Layer:
        """The layer with these `children` and settings, as `config` gives them."""
        return cls(*children.values(), **config)

    # What others call it. A layer of your own may say so, too; one that inherits from ours and changes anything must,
    # for what it inherits may then no longer be true (see `has_counterpart`).

    def to_torch(self, nn: Any) -> Any:
        """The module of ``torch.nn`` that it is, without parameters."""
        raise TypeError(f"{type(self).__name__} has no to_torch")

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        """The layer that a module of one of `torch_names`, classes of ``torch.nn``, is, without parameters."""
        return cls()

    def torch_arrays(self) -> dict[str, Array]:
        """Views of its parameters and buffers, by PyTorch's names and in its layouts."""
        return {**self.params, **self.buffers}

    def to_onnx(self, graph: Any) -> None:
        """Append its nodes to a `fastfnn.interchange.onnx_export.Graph`."""
        raise TypeError(f"{type(self).__name__} has no to_onnx")

    def has_counterpart(self, method: str) -> bool:
        """Whether it says by this method what others call it, and no class that inherits that has added anything."""
        kinds = type(self).__mro__
        owner = next(place for place, kind in enumerate(kinds) if method in vars(kind))
        users = [kind for kind in kinds[:owner] if not kind.__module__.startswith(OURS)]
        says = kinds[owner] is not Layer and not any(set(vars(kind)) - SAID_WITHOUT_WORDS for kind in users)
        return says and (self._is_own or all(child.has_counterpart(method) for child in self.children().values()))

    # What follows from it

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, (bool, np.bool_)):
            raise InvalidTypeError(f"trainable of {self!r} is {value!r}; expected True or False")
        for _, layer in self.family():
            layer._trainable = bool(value)
            for grad in [] if value else layer._grads.values():
                grad[...] = 0  # nobody is going to write it

    @property
    def lr_scale(self) -> float:
        return self._lr_scale

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        number = check.real("lr_scale", value, least=0)
        for _, layer in self.family():
            layer._lr_scale = number

    @property
    def weight_decay(self) -> float | None:
        return self._weight_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        number = None if value is None else check.real("weight_decay", value, least=0)
        for _, layer in self.family():
            layer._weight_decay = number

    @property
    def max_norm(self) -> float | None:
        return self._max_norm

    @max_norm.setter
    def max_norm(self, value: float | None) -> None:
        number = None if value is None else check.real("max_norm", value, above=0)
        for _, layer in self.family():
            layer._max_norm = number

    def take_setting(self, name: str, value: Any) -> None:
        """Take one of `UPDATE_SETTINGS` for itself, not for what it holds."""
        checked = Layer()
        setattr(checked, name, value)
        setattr(self, f"_{name}", getattr(checked, name))

    def update_settings(self) -> dict[str, Any]:
        """What of `UPDATE_SETTINGS` has been set, by name."""
        values = {name: getattr(self, name) for name in UPDATE_SETTINGS}
        return {name: value for name, value in values.items() if value != UPDATE_SETTINGS[name]}

    @property
    def learns(self) -> bool:
        """Whether training changes anything of it, or of what it holds."""
        return any(layer.trainable and bool(layer.params or layer.buffers) for _, layer in self.family())

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own, which may hold what others hold, too."""
        return self._is_own

    @property
    def is_built(self) -> bool:
        """Whether the parameters have been drawn."""
        return self._params is not None

    def build(self, rng: np.random.Generator, dtype: Any = "float32", activation: str | None = None) -> None:
        """Draw the parameters, unless that has happened; and give them and the buffers `dtype`."""
        self._take_dtype(check.as_dtype(dtype))
        Layer.changes += 1  # the dictionaries are going to be others
        buffers = self._buffers if self.is_built else self.initial_buffers()
        self._buffers = {name: np.ascontiguousarray(array, self.dtype) for name, array in buffers.items()}
        params = self._params if self._params is not None else self.initial_params(rng, activation)
        self._params = {name: np.ascontiguousarray(array, self.dtype) for name, array in params.items()}
        self._grads = {name: np.zeros_like(array) for name, array in self._params.items()}
        self._shapes = {name: array.shape for name, array in {**self._params, **self._buffers}.items()}
        self.build_children(rng, activation)

    def build_children(self, rng: np.random.Generator, activation: str | None) -> None:
        """Draw the parameters of the layers that it holds, or give them its dtype."""
        for child in self.children().values():
            child.build(rng, self.dtype)

    def _take_dtype(self, dtype: np.dtype[Any]) -> None:
        if self.dtype != dtype:
            self.dtype = dtype

    def family(self, place: str = "") -> list[tuple[str, Layer]]:
        """The layer, its `children`, and theirs.

        Each comes once, with its place: ``inner.0`` is the first layer of the model ``self.inner``.
        """
        found: dict[int, tuple[str, Layer]] = {}
        _collect(self, place, found)
        return list(found.values())

    def check_arrays(self, place: str) -> None:
        """Refuse arrays that were put in the place of others and do not fit there; `place` is what errors call it."""
        fitting = self._shapes
        for kind, arrays in (("params", self.params), ("buffers", self.buffers)):
            for name, array in arrays.items():
                came, expected = np.shape(array), fitting.get(name)
                if expected is not None and came != expected:
                    raise InvalidValueError(
                        f"{kind}[{name!r}] of {place} {self!r} has shape {came}; expected {expected}"
                    )
                if np.asarray(array).dtype.kind not in "fiub":
                    raise InvalidTypeError(f"{kind}[{name!r}] of {place} {self!r} is {array!r}; expected numbers")

    def array_views(self) -> list[ValuesView[Array]]:
        """Of parameters, gradients and buffers, whatever they are; until a setting is written (see `changes`).

        Of a layer with `children`, until it has others.
        """
        return [held.values() for _, layer in self.family() for held in (layer.params, layer.grads, layer.buffers)]

    def follow_dtype(self, dtype: np.dtype[Any]) -> None:
        """Be of a model's dtype, buffers and all; its parameters are views of the model's already."""
        self._take_dtype(dtype)
        for name, array in self._buffers.items():
            self._buffers[name] = np.ascontiguousarray(array, dtype)

    @property
    def params(self) -> dict[str, Array]:
        if self._params is None:
            self.build(np.random.default_rng(), self.dtype)
        assert self._params is not None
        return self._params

    @property
    def grads(self) -> dict[str, Array]:
        if self._params is None:
            self.build(np.random.default_rng(), self.dtype)
        return self._grads

    @property
    def buffers(self) -> dict[str, Array]:
        if self._params is None:
            self.build(np.random.default_rng(), self.dtype)
        return self._buffers

    @property
    def saved(self) -> Any:
        """What `forward` kept for `backward`."""
        if self._saved is None:
            raise InvalidValueError(f"{type(self).__name__}.backward was called before forward")
        return self._saved

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.fixed_settings and name in self.__dict__:
            kind = type(self).__name__
            raise AttributeError(f"{name} of a {kind} cannot be changed; make a new {kind} with {name}={value!r}")
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            Layer.changes += 1

    if not TYPE_CHECKING:  # which would then take any attribute to be there

        def __getattr__(self, name: str) -> Any:
            """What is not there: all that `__init__` makes, where a layer of your own has forgotten it."""
            kind = type(self).__name__
            if "_params" not in self.__dict__ and name in MADE_AT_FIRST:
                raise InvalidTypeError(
                    f"__init__ of {kind} has not called super().__init__(); expected it in the first line"
                )
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def __call__(self, x: ArrayLike) -> Array:
        return self.forward(x)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_saved": None, "_grads": {}}  # a pickle or a copy does not drag the last batch along

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._grads = {name: np.zeros_like(array) for name, array in (self._params or {}).items()}
