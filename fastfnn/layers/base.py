"""What every layer is: a forward, a backward, and dictionaries of parameters and gradients."""

from __future__ import annotations

from collections.abc import ValuesView
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError

Array = NDArray[Any]
Shape = tuple[int, ...]
#: What is known of a sample's shape: (features,), or (channels, None, None) for images; None for what is unknown.
KnownShape = tuple[int | None, ...]
#: What a class has in any case.
SAID_WITHOUT_WORDS = {"__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__", "_is_own"}

#: Attributes that `Layer.__init__` makes.
MADE_AT_FIRST = {"_params", "_grads", "_buffers", "_shapes", "training", "_saved", "dtype"}


def short_pairs(pairs: dict[str, tuple[int, int]], defaults: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Settings of height and width as JSON has them: numbers where both are the same, and no defaults."""
    return {
        name: pair[0] if pair[0] == pair[1] else list(pair)
        for name, pair in pairs.items()
        if pair != defaults.get(name)
    }


def _held(layer: Layer) -> dict[str, Any]:
    """What of a user's own layer's attributes are layers, or models, which are lists of layers."""
    found = {}
    for name, value in vars(layer).items() if layer._is_own else ():
        entries = value if isinstance(value, (list, tuple)) else [value]
        for i, entry in enumerate(entries):
            if isinstance(entry, Layer) or isinstance(getattr(entry, "layers", None), list):
                found[name if entries[0] is value else f"{name}.{i}"] = entry
    return found


def _collect(layer: Layer, place: str, found: dict[int, tuple[str, Layer]]) -> None:
    if id(layer) in found:
        return
    found[id(layer)] = place, layer
    for name, value in _held(layer).items():
        inner = f"{place}.{name}" if place else name
        if isinstance(value, Layer):
            _collect(value, inner, found)
            continue
        for i, layer_of_model in enumerate(value.layers):
            _collect(layer_of_model, f"{inner}.{i}", found)


class Layer:
    """Base of the layers.

    A layer of your own may hold others, or models, in its attributes: their parameters are trained and counted with it.

    ``y = layer.forward(x)`` keeps what ``grad_x = layer.backward(grad_y)`` needs. `backward` fills `grads` with the
    gradients of the parameters, overwriting those of the last call.

    Attributes
    ----------
    params, grads : dict of str to ndarray
        Parameters and their gradients by name; the arrays may be written in place.
    buffers : dict of str to ndarray
        What is no parameter but belongs to a trained layer: running statistics. Empty for most layers.
    training : bool
        Whether `forward` trains: whether `Dropout` drops and `BatchNorm1d` takes the batch's statistics. True at
        first; `Sequential.train` and `Sequential.eval` set it. `fit` and `evaluate` know what they do without it.
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

    #: Whether it is a user's own, which may hold other layers.
    _is_own: ClassVar[bool] = False

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls._is_own = not cls.__module__.startswith("fastfnn.layers.")

    def __init__(self) -> None:
        self._params: dict[str, Array] | None = None
        self._grads: dict[str, Array] = {}
        self._buffers: dict[str, Array] = {}
        self._shapes: dict[str, Shape] = {}
        self.training = True
        self._saved: Any = None
        self.dtype = np.dtype(np.float32)

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
        users = [kind for kind in kinds[:owner] if not kind.__module__.startswith("fastfnn.layers.")]
        return kinds[owner] is not Layer and not any(set(vars(kind)) - SAID_WITHOUT_WORDS for kind in users)

    # What follows from it

    @property
    def is_built(self) -> bool:
        """Whether the parameters have been drawn."""
        return self._params is not None

    def build(self, rng: np.random.Generator, dtype: Any = "float32", activation: str | None = None) -> None:
        """Draw the parameters, unless that has happened; and give them and the buffers `dtype`."""
        self.dtype = check.as_dtype(dtype)
        buffers = self._buffers if self.is_built else self.initial_buffers()
        self._buffers = {name: np.ascontiguousarray(array, self.dtype) for name, array in buffers.items()}
        params = self._params if self._params is not None else self.initial_params(rng, activation)
        self._params = {name: np.ascontiguousarray(array, self.dtype) for name, array in params.items()}
        self._grads = {name: np.zeros_like(array) for name, array in self._params.items()}
        self._shapes = {name: array.shape for name, array in {**self._params, **self._buffers}.items()}
        for _, layer in self.family()[1:]:
            layer.build(rng, dtype)

    def family(self, place: str = "") -> list[tuple[str, Layer]]:
        """The layer and, of a user's own, all that it holds: layers and models among its attributes, or in lists there.

        Each comes once, with its place: ``inner.0`` is the first layer of the model ``self.inner``.
        """
        found: dict[int, tuple[str, Layer]] = {}
        _collect(self, place, found)
        return list(found.values())

    def held_models(self) -> list[Any]:
        """The models among what a user's own layer holds."""
        found = {}
        for _, layer in self.family() if self._is_own else []:
            found |= {id(value): value for value in _held(layer).values() if not isinstance(value, Layer)}
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

        Of a user's own layer, until it holds other layers.
        """
        return [held.values() for _, layer in self.family() for held in (layer.params, layer.grads, layer.buffers)]

    def follow_dtype(self, dtype: np.dtype[Any]) -> None:
        """Be of a model's dtype, buffers and all; its parameters are views of the model's already."""
        if self.dtype != dtype:
            self.dtype = dtype
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
