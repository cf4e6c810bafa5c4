"""`Sequential`: layers one behind the other, their parameters in one flat array."""

from __future__ import annotations

import copy
import itertools
import textwrap
from collections.abc import Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn import _summary
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers import Chain, Layer, Linear
from fastfnn.layers import state_dict as state_dicts
from fastfnn.layers.base import Shape
from fastfnn.layers.chain import check_appears_once, flattened
from fastfnn.losses import TASKS
from fastfnn.optim import Part, owners

if TYPE_CHECKING:
    from fastfnn._paths import StrPath
    from fastfnn.history import History
    from fastfnn.training.inference import Evaluation
    from fastfnn.training.predictor import Predictor

Array = NDArray[Any]
#: Parameters start at multiples of this many bytes in the flat array: a cache line, the widest vector.
ALIGNMENT = 64


class Sequential(Chain):
    """Layers one behind the other.

    Parameters
    ----------
    *layers : Layer
        Or one list of them. Each at most once. Those without parameters yet draw them here, to fit the activation that
        follows. Another `Sequential` among them has drawn its own.
    seed : int or numpy.random.Generator, optional
        Makes the draw repeatable.
    dtype : {"float32", "float64"}
        Of parameters, activations and gradients.

    Attributes
    ----------
    layers : list of Layer
    parameters, gradients : ndarray
        All of them in one flat array each; ``layer.params`` and ``layer.grads`` are views of it. Weights come first,
        then biases and other vectors. Between them lie a few zeros that keep them aligned.
    n_weights : int
        How long the part of the flat arrays is that holds the weights.
    task : {"classification", "binary", "regression"} or None
        What it was last trained for, as its loss says: what `predict` makes of the outputs. None: nobody knows. Files
        and copies keep it.
    target_shape : tuple of int or None
        Of a row of the targets that it was last trained on: () for numbers in (n,), which `predict` then gives.
    """

    #: How often the layers' arrays were linked.
    links = 0
    task: str | None = None
    target_shape: Shape | None = None

    def __init__(self, *layers: Layer, seed: int | np.random.Generator | None = None, dtype: Any = "float32") -> None:
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            layers = tuple(layers[0])
        if not layers:
            raise InvalidValueError("layers is empty; expected at least one layer")
        self._dtype = check.as_dtype(dtype)
        super().__init__(*layers)
        self._known_shape: tuple[tuple[Any, ...], Shape] = ((), ())
        self.build(np.random.default_rng(seed), dtype)
        self.gather_parameters()

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        """Of parameters, activations and gradients."""
        return self._dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:  # type: ignore[override]
        raise AttributeError(f"dtype of a model cannot be changed; model.astype({str(value)!r}) gives a converted copy")

    def astype(self, dtype: Any) -> Sequential:
        """A copy in another dtype, with parameters and buffers converted."""
        twin, dtype = copy.deepcopy(self), check.as_dtype(dtype)
        twin.build(np.random.default_rng(0), dtype)
        twin.gather_parameters()
        return twin

    @property
    def parameters(self) -> Array:
        """All parameters in one flat array, of which those of the layers are views. Assigning writes into it.

        While a layer of another model holds this one they lie there, and this is a copy.
        """
        return self._copied("params") if self._linked_ids is None else self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self.gather_parameters()
        self._parameters[...] = _flat("parameters", values, self._parameters)

    @property
    def gradients(self) -> Array:
        """The gradients, likewise."""
        return self._copied("grads") if self._linked_ids is None else self._gradients

    @gradients.setter
    def gradients(self, values: ArrayLike) -> None:
        self.gather_parameters()
        self._gradients[...] = _flat("gradients", values, self._gradients)

    def _take_dtype(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._forget()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # what a model notes of itself is no setting of a layer

    def _forget(self) -> None:
        """Link the layers' arrays anew when they are asked for next."""
        self._parameters, self._gradients, self.n_weights = np.empty(0, self.dtype), np.empty(0, self.dtype), 0
        #: The arrays that the layers held when they were linked.
        self._linked: list[Array] = []
        self._linked_ids: list[int] | None = None
        #: What the layers hold, as views of their dictionaries, which stay the same while `known` does.
        self._held: list[ValuesView[Array]] = []
        self._known: tuple[int, ...] | None = None
        #: `trained_parts`, and for which settings and layers.
        self._known_parts: tuple[Any, list[Part]] = (), []

    def gather_parameters(self) -> None:
        """Make `parameters` and `gradients` hold what the layers hold, and the layers views of them.

        Called before each training; it does nothing unless a layer's arrays were replaced since, or the layer was
        put into another model.

        Raises
        ------
        InvalidValueError
            An array that was put in the place of another has another shape; nothing has changed.
        """
        if self.is_linked():
            return
        check_appears_once(self.layers, "layers")
        layers = self.named_layers()
        for place, layer in layers.items():
            first, _, inner = place.partition(".")
            layer.check_arrays(f"layers[{first}]{'.' * bool(inner)}{inner}")
        owned, starts = self._laid_out()
        parameters, gradients = np.zeros(starts[-1], self.dtype), np.zeros(starts[-1], self.dtype)
        for start, (layer, name, array) in zip(starts, owned, strict=False):
            for flat, views in ((parameters, layer.params), (gradients, layer.grads)):
                view = flat[start : start + array.size].reshape(np.shape(array))
                view[...] = views[name]
                views[name] = view
        for layer in layers.values():
            layer.follow_dtype(self.dtype)
        self._parameters, self._gradients = parameters, gradients
        self.n_weights = int(starts[sum(np.ndim(array) >= 2 for _, _, array in owned)])
        self._linked = [array for layer in self.layers for held in layer.array_views() for array in held]
        self._linked_ids = list(map(id, self._linked))
        self.links += 1
        owners[id(parameters)] = self

    def _laid_out(self) -> tuple[list[tuple[Layer, str, Array]], NDArray[np.int64]]:
        """Layers, names and arrays of the parameters in the order of the flat arrays, and where they start there."""
        layers = self.named_layers().values()
        owned = [(layer, name, np.asarray(array)) for layer in layers for name, array in layer.params.items()]
        owned.sort(key=lambda entry: np.ndim(entry[2]) < 2)
        step = ALIGNMENT // self.dtype.itemsize
        return owned, np.cumsum([0] + [-(-array.size // step) * step for _, _, array in owned])

    def _copied(self, kind: str) -> Array:
        """Parameters or gradients as they would lie in the flat array."""
        owned, starts = self._laid_out()
        flat = np.zeros(starts[-1], self.dtype)
        for start, (layer, name, array) in zip(starts, owned, strict=False):
            flat[start : start + array.size] = getattr(layer, kind)[name].reshape(-1)
        return flat

    @property
    def trainable(self) -> bool:
        """Whether training changes any of its layers (see `Layer.trainable`); written, it is that of all of them."""
        return any(layer.learns for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def trained_parts(self) -> list[Part]:
        """Which parts of the flat arrays are trained, and how: one of all unless layers say otherwise."""
        self.gather_parameters()
        key = Layer.changes, self.links
        if key != self._known_parts[0]:
            self._known_parts = key, self._parts()
        return self._known_parts[1]

    def _parts(self) -> list[Part]:
        if not any(layer.update_settings() for layer in self.all_layers() if layer.params):
            return [Part(0, self._parameters.size)]
        owned, starts = self._laid_out()
        parts: list[Part] = []
        for (layer, _, _), start, stop in zip(owned, starts.tolist(), starts[1:].tolist(), strict=False):
            if not layer.trainable:
                continue
            part = Part(start, stop, layer.lr_scale, layer.weight_decay, layer.max_norm)
            if parts and parts[-1] == part._replace(start=parts[-1].start, stop=start):
                part = part._replace(start=parts.pop().start)
            parts.append(part)
        return parts

    @property
    def is_updated_plainly(self) -> bool:
        """Whether no layer has a learning rate, a weight decay or a limit of its own."""
        return all(part.is_plain for part in self.trained_parts())

    def limited_weights(self) -> Iterator[tuple[Array, float]]:
        """Weights whose layers have a `max_norm`, as (before, outputs, behind), and that limit."""
        for layer in self.all_layers():
            if layer.max_norm is None or not layer.trainable:
                continue
            for array in layer.params.values():
                if array.ndim == 2 and isinstance(layer, Linear):
                    yield array.reshape(*array.shape, 1), layer.max_norm
                elif array.ndim >= 2:
                    yield array.reshape(1, len(array), -1), layer.max_norm

    def trained_weights(self) -> list[Part]:
        """The same of the weights alone: what weight decay holds where it leaves biases out."""
        parts = [part._replace(stop=min(part.stop, self.n_weights)) for part in self.trained_parts()]
        return [part for part in parts if part.start < part.stop]

    def named_layers(self) -> dict[str, Layer]:
        """All layers by their places, with those that layers hold: ``{"0": …, "1": …, "1.shortcut.0": …}``."""
        return {place: layer for i, each in enumerate(self.layers) for place, layer in each.family(str(i))}

    def all_layers(self) -> list[Layer]:
        """All layers, with those that layers hold."""
        if any(layer.holds_others for layer in self.layers):
            return list(self.named_layers().values())
        return self.layers

    @property
    def chain(self) -> list[Layer]:
        """The layers, with models among them opened."""
        return flattened(self.layers)

    @property
    def last_layer(self) -> Layer:
        """The layer whose outputs are the model's."""
        last = self.layers[-1]
        while isinstance(last, Chain) and last.layers:
            last = last.layers[-1]
        return last

    def layer_ids(self) -> tuple[int, ...]:
        """Identities of all layers: what is known of them holds while these, and `Layer.changes`, are the same."""
        return tuple(map(id, self.all_layers()))

    def is_linked(self) -> bool:
        """Whether the layers hold the arrays that `gather_parameters` gave them."""
        known = (Layer.changes, *self.layer_ids())
        if known != self._known:
            self._held = [array for layer in self.layers for array in layer.array_views()]
            if any(layer.dtype != self.dtype for layer in self.all_layers()):  # such as has no arrays that tell
                return False
            self._known = known
        return self._linked_ids == [*map(id, itertools.chain.from_iterable(self._held))]

    def named_parameters(self) -> dict[str, Array]:
        """Views of the parameters by name: ``{"2.weight": …, "2.bias": …}``, counted by the layer's place."""
        self.gather_parameters()
        layers = self.named_layers().items()
        return {f"{place}.{name}": array for place, layer in layers for name, array in layer.params.items()}

    def named_buffers(self) -> dict[str, Array]:
        """The layers' buffers by name, as `named_parameters`: ``{"3.running_mean": …, "3.running_var": …}``."""
        layers = self.named_layers().items()
        return {f"{place}.{name}": array for place, layer in layers for name, array in layer.buffers.items()}

    def snapshot(self) -> dict[str, Array]:
        """Copies of parameters and buffers by name, for `restore`."""
        return {name: array.copy() for name, array in self._named_arrays().items()}

    def restore(self, snapshot: Mapping[str, Array]) -> None:
        """Write a `snapshot` back in place.

        Raises
        ------
        InvalidValueError
            It is of another model; nothing has changed.
        """
        arrays = self._named_arrays()
        wrong = [f"{name} is missing" for name in arrays if name not in snapshot]
        wrong += [f"{name} is surplus" for name in snapshot if name not in arrays]
        for name in arrays.keys() & snapshot.keys():
            came, fits = snapshot[name], arrays[name]
            if came.shape != fits.shape or came.dtype != fits.dtype:
                wrong.append(f"{name} is {came.dtype} {came.shape}, expected {fits.dtype} {fits.shape}")
        if wrong:
            raise InvalidValueError("; ".join(sorted(wrong)))
        self._parameters[...] = 0  # between the parameters, too
        for name, array in arrays.items():
            array[...] = snapshot[name]

    def _named_arrays(self) -> dict[str, Array]:
        """All that a trained model is, besides its architecture: parameters and buffers."""
        return {**self.named_parameters(), **self.named_buffers()}

    def state_dict(self) -> dict[str, Array]:
        """Copies of parameters and buffers in PyTorch's names and layouts.

        They are those of a `torch.nn.Sequential` with a module for each layer: the weight of a `Linear` is
        (out_features, in_features), and batch normalisation has a ``num_batches_tracked``, which is 0 here. Each layer
        counts in the numbering, also a `Normalize`, which PyTorch lacks.
        """
        self.gather_parameters()
        return state_dicts.state_dict(self.named_layers())

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> state_dicts.Keys:
        """Take parameters and buffers in PyTorch's names and layouts, as `state_dict` gives them.

        Parameters
        ----------
        state : dict of str to array or tensor
            Of any real dtype; they are converted to the model's. What ``num_batches_tracked`` says is not needed, so
            it may be missing.
        strict : bool
            Whether every name must be there, and no other.

        Returns
        -------
        named tuple of two lists of str
            ``missing_keys`` and ``unexpected_keys``; with `strict` both are empty.

        Raises
        ------
        InvalidValueError
            Entries are missing, unexpected, of another shape, no numbers, or too large for the model's dtype: all of
            them are named, and nothing is loaded.
        """
        self.gather_parameters()
        return state_dicts.load_state_dict(self.named_layers(), state, strict=strict)

    def train(self) -> Sequential:
        """Let `forward` train, as it does at first: dropout drops, batch normalisation takes the batch's statistics.

        This is for the loop written by hand: `fit` always trains, `evaluate` and `predict` always infer.
        """
        return self._set_training(True)

    def eval(self) -> Sequential:
        """Let `forward` infer: dropout does nothing, batch normalisation takes the running statistics."""
        return self._set_training(False)

    def _set_training(self, training: bool) -> Sequential:
        for layer in [self, *self.all_layers()]:
            layer.training = training
        return self

    @property
    def n_parameters(self) -> int:
        """How many numbers training adjusts, unless layers are frozen."""
        return sum(array.size for layer in self.all_layers() for array in layer.params.values())

    @property
    def n_trainable(self) -> int:
        """How many of them it does adjust: those of layers that are `trainable`."""
        layers = [layer for layer in self.all_layers() if layer.trainable]
        return sum(array.size for layer in layers for array in layer.params.values())

    def purpose(self) -> dict[str, Any]:
        """`task` and `target_shape` as JSON has them; empty where nobody knows."""
        return {} if self.task is None else {"task": self.task, "target_shape": self.target_shape}

    def take_purpose(self, said: Mapping[str, Any]) -> None:
        """Take what `purpose` of another model said, among whatever else."""
        if said.get("task") is not None:
            shape = said.get("target_shape")
            self.target_shape = None if shape is None else tuple(check.counter("target_shape", n) for n in shape)
            self.task = check.one_of("task", said["task"], TASKS)

    def backward(self, grad_out: ArrayLike) -> Array:
        """Layer by layer, from the last to the first; returns the gradient for x.

        Fills the `grads` of every layer that is `trainable`, and tells optimizers which these are: see
        `Optimizer.step`.
        """
        if self._linked_ids is not None:
            owners[id(self._parameters)] = self
        return super().backward(grad_out)

    def backward_to_trainable(self, grad_out: ArrayLike) -> None:
        """The same where nobody asks for the gradient for x: no further than a layer has something to learn."""
        frozen = next((i for i, layer in enumerate(self.layers) if layer.learns), len(self.layers))
        if not frozen or not any(layer.params for layer in self.layers[:frozen]):
            self.backward(grad_out)
            return
        grad: Any = grad_out
        for layer in reversed(self.layers[frozen:]):
            grad = layer.backward(grad)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one sample's output from that of one sample's input, both without the batch axis."""
        key = (tuple(input_shape), Layer.changes, *self.layer_ids())
        if key != self._known_shape[0]:
            check_appears_once(self.layers, "layers")
            shape = tuple(input_shape)
            for layer in self.layers:
                shape = layer.output_shape(shape)
            self._known_shape = key, shape
        return self._known_shape[1]

    def fit(self, x: Any, y: Any, **options: Any) -> History:
        """``ff.fit(model, x, y, **options)``."""
        from fastfnn.training.fit import fit  # which is made of models, as those below are

        return fit(self, x, y, **options)

    def evaluate(self, x: Any, y: Any, **options: Any) -> Evaluation:
        """``ff.evaluate(model, x, y, **options)``."""
        from fastfnn.training.inference import evaluate

        return evaluate(self, x, y, **options)

    def predict(self, x: Any, **options: Any) -> Array:
        """``ff.predict(model, x, **options)``."""
        from fastfnn.training.inference import predict

        return predict(self, x, **options)

    def predict_proba(self, x: Any, **options: Any) -> Array:
        """``ff.predict_proba(model, x, **options)``."""
        from fastfnn.training.inference import predict_proba

        return predict_proba(self, x, **options)

    def save(self, path: StrPath) -> None:
        """``ff.save(model, path)``."""
        from fastfnn.interchange.safetensors import save

        save(self, path)

    def predictor(
        self,
        input_shape: Shape | None = None,
        input_dtype: Any = None,
        n_threads: int | None = None,
    ) -> Predictor:
        """A copy for inference alone, which no longer follows this model: see `Predictor`."""
        from fastfnn.training.predictor import Predictor  # which is made of models

        return Predictor(self, input_shape, input_dtype, n_threads)

    def summary(self, input_shape: Shape | None = None, width: int = 120) -> str:
        """A table of the layers with output shapes and parameter counts.

        Parameters
        ----------
        input_shape : tuple of int, optional
            Of one sample. Without it, shapes are given from the first `Linear` on.
        width : int
            Letters of a line, where that is possible: of a long layer the middle is left out.
        """
        width = check.positive_int("width", width)
        return _summary.as_text(self._summary_rows(input_shape), self.described_size(), width)

    def _summary_rows(self, input_shape: Shape | None = None) -> list[_summary.Row]:
        return _summary.rows(self.children(), None if input_shape is None else tuple(input_shape))

    def _repr_html_(self) -> str:
        """The `summary`, which a notebook shows where the model is a cell's last value."""
        return _summary.as_html(self._summary_rows(), self.described_size())

    def described_size(self) -> str:
        """The last line of `summary`: how many parameters of what dtype, and their memory."""
        nbytes = self.n_parameters * self.dtype.itemsize
        size = f"{nbytes / 1e6:.2f} MB" if nbytes >= 1e5 else f"{nbytes / 1e3:.2f} kB"
        few = "" if self.n_trainable == self.n_parameters else f" ({self.n_trainable:,} trainable)"
        return f"{self.n_parameters:,} parameters{few}, {self.dtype}, {size}"

    def __copy__(self) -> Sequential:
        twin = object.__new__(type(self))  # of the same layers, so of the same parameters
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        # The layers hold all of it; views of one array become arrays of their own in a pickle or a deep copy.
        left = ("_parameters", "_gradients", "_linked", "_linked_ids", "_held", "_known", "_known_parts")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
        self.gather_parameters()

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __repr__(self) -> str:
        lines = textwrap.indent("".join(f"{layer!r},\n" for layer in self.layers), "    ")
        return f"Sequential(\n{lines}    dtype={str(self.dtype)!r},\n)"


def as_sequential(model: Any) -> Sequential:
    """`model`, where it is one; the error says where an estimator has its own."""
    if isinstance(model, Sequential):
        return model
    check.instance("model", model)
    inner = ", such as its model_" if hasattr(type(model), "get_params") else ""
    raise InvalidTypeError(f"model is {type(model).__name__}; expected a Sequential{inner}")


def _flat(name: str, values: ArrayLike, like: Array) -> Array:
    array = np.asarray(values)
    if array.shape != like.shape:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected {like.shape}, a number for each of them")
    return array
