"""The network of an estimator: built from its parameters, or a copy of one that was given."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastfnn import _checks as check
from fastfnn.engine.sparsity import is_sparse_matrix
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers import BatchNorm1d, Conv2d, Dropout, Layer, Linear, LogSoftmax, Sigmoid, Softmax
from fastfnn.model import Sequential
from fastfnn.models import ACTIVATIONS as LAYERS

Array = NDArray[Any]
#: Seeds are drawn below this.
SEEDS = np.iinfo(np.int32).max
#: Layers by name, the library's names and scikit-learn's; None is no layer.
ACTIVATIONS: dict[str, type[Layer] | None] = {"identity": None, "logistic": Sigmoid, **LAYERS}


class Architecture(NamedTuple):
    """A multilayer perceptron without its inputs and outputs; sequences have an entry a hidden layer."""

    hidden_layer_sizes: tuple[int, ...]
    activation: tuple[str, ...]
    dropout: tuple[float, ...]
    batch_norm: bool
    out_activation: str


def architecture(estimator: Any) -> Architecture | None:
    """What an estimator's parameters ask for, checked; None where it has a network."""
    if estimator.network is not None:
        return None
    sizes = estimator.hidden_layer_sizes
    try:
        sizes = list(sizes) if np.ndim(sizes) else [sizes]
    except (TypeError, ValueError):
        raise InvalidTypeError(f"hidden_layer_sizes is {sizes!r}; expected integers, such as (100,)") from None
    sizes = tuple(check.positive_int(f"hidden_layer_sizes[{i}]", size) for i, size in enumerate(sizes))
    names = _per_layer("activation", estimator.activation, len(sizes))
    dropout = _per_layer("dropout", estimator.dropout, len(sizes))
    out = getattr(estimator, "out_activation", None)
    return Architecture(
        sizes,
        tuple(_activation("activation", name) for name in names),
        tuple(check.real("dropout", p, least=0, below=1) for p in dropout),
        bool(estimator.batch_norm),
        "identity" if out is None else _activation("out_activation", out),
    )


def _per_layer(name: str, value: Any, layers: int) -> list[Any]:
    if not isinstance(value, (tuple, list, np.ndarray)):
        return [value] * layers if layers else []
    if len(value) != layers:
        raise InvalidValueError(f"{name} has {len(value)} entries; expected one, or {layers}, one a hidden layer")
    return list(value)


def _activation(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidTypeError(f"{name} is {value!r}; expected one of {', '.join(map(repr, ACTIVATIONS))}")
    return check.one_of(name, value, tuple(ACTIVATIONS))


def build(form: Architecture, features: int, outputs: int, dtype: Any, random: np.random.RandomState) -> Sequential:
    """The network, with the start of the weights that scikit-learn draws from the same `random`.

    That is uniform, as Glorot & Bengio (2010) have it, for biases, too. On scikit-learn's small sets it predicts better
    than He's start, which is several times as wide where a few features meet many hidden units.
    """
    layers: list[Layer] = []
    sizes = [features, *form.hidden_layer_sizes, outputs]
    for i, (name, p) in enumerate(zip(form.activation, form.dropout, strict=True)):
        layers.append(Linear(sizes[i], sizes[i + 1], weight_init="zeros"))
        layers += [BatchNorm1d(sizes[i + 1])] if form.batch_norm else []
        layers += _activation_layer(name)
        layers += [Dropout(p, seed=random.randint(SEEDS))] if p else []
    layers += [Linear(sizes[-2], outputs, weight_init="zeros"), *_activation_layer(form.out_activation)]
    model = Sequential(*layers, seed=0, dtype=dtype)
    names = [*form.activation, *form.activation[-1:]] or ["identity"]
    for name, layer in zip(names, weighted_layers(model), strict=True):
        weight, bias = layer.params["weight"], layer.params["bias"]
        bound = math.sqrt((2 if ACTIVATIONS[name] is Sigmoid else 6) / sum(weight.shape))
        weight[...] = random.uniform(-bound, bound, weight.shape)
        bias[...] = random.uniform(-bound, bound, bias.shape)
    return model


def _activation_layer(name: str) -> list[Layer]:
    kind = ACTIVATIONS[name]
    return [] if kind is None else [kind()]


def copied(network: Sequential, classifies: bool) -> Sequential:
    """A copy of a network that was given."""
    if classifies and isinstance(network.last_layer, (Sigmoid, Softmax, LogSoftmax)):
        raise InvalidValueError(
            f"network ends in {network.last_layer!r}; expected one whose outputs are logits: leave that layer out, the "
            "loss and predict_proba make probabilities themselves"
        )
    return copy.deepcopy(network)


def outputs_of(network: Sequential, sample: tuple[int, ...], reshaped: bool) -> int:
    """How many numbers a network makes of a sample; `reshaped` says whether rows of X had to become such."""
    try:
        made = network.output_shape(sample)
    except InvalidValueError as error:
        what = f"samples of shape {sample}" if reshaped else f"X of {sample[0]} features without an input_shape"
        raise InvalidValueError(f"network does not take {what}: {error}") from None
    if len(made) != 1:
        raise InvalidValueError(f"network makes {made} of a sample; expected (outputs,)")
    return made[0]


def shaped(X: Any, input_shape: Sequence[int] | None) -> Any:
    """Rows as samples of a network."""
    if input_shape is None:
        return X
    if is_sparse_matrix(X):
        raise InvalidTypeError(f"X is a sparse matrix; expected an array, as input_shape is {input_shape}")
    if math.prod(input_shape) != X.shape[1]:
        raise InvalidValueError(
            f"input_shape is {input_shape}, {math.prod(input_shape)} numbers a sample; expected {X.shape[1]}, as many "
            "as X has features"
        )
    return X.reshape(len(X), *input_shape)


def weighted_layers(model: Sequential) -> list[Layer]:
    """The layers that multiply by a weight."""
    return [layer for layer in model.all_layers() if isinstance(layer, (Linear, Conv2d))]
