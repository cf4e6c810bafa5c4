"""Models from and to PyTorch. It is imported by whoever calls these functions, and not before."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastfnn.errors import FastFNNError, InvalidTypeError, InvalidValueError
from fastfnn.interchange.branching import Join, joined
from fastfnn.interchange.torch_graph import Leaf, Taken, branches, traced
from fastfnn.layers import (
    AdaptiveAvgPool2d,
    Chain,
    Columns,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LogSoftmax,
    Normalize,
    Parallel,
    Residual,
    Softmax,
)
from fastfnn.layers import state_dict as state_dicts
from fastfnn.layers.base import KnownShape
from fastfnn.model import Sequential, as_sequential

if TYPE_CHECKING:
    from torch import nn

#: Layers of layers, which this module translates.
CONTAINERS = (Chain, Sequential, Parallel, Residual, Columns)
#: Modules that change no shape.
ELEMENTWISE = (
    "Dropout",
    "ELU",
    "GELU",
    "Hardswish",
    "LeakyReLU",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
)


def from_torch(module: nn.Module, dtype: Any = None) -> Sequential:
    """The model that a PyTorch module is, with copies of its parameters and buffers.

    Parameters
    ----------
    module : torch.nn.Module
        A `Sequential`, one module, or one with a `forward` of its own that is a chain, or whose branches meet in a sum
        or a ``torch.cat`` (``torch.fx`` finds that out). Made of ``Linear Conv1d Conv2d MaxPool1d MaxPool2d AvgPool1d
        AvgPool2d AdaptiveAvgPool2d AdaptiveMaxPool2d(1) ZeroPad2d Flatten ReLU LeakyReLU PReLU ReLU6 GELU SiLU ELU SELU
        Softplus Hardswish Sigmoid Tanh Softmax LogSoftmax Dropout Dropout2d BatchNorm1d BatchNorm2d LayerNorm Embedding
        Identity`` and the functions that do the same; `Sequential` within others are flattened. An `Identity` is left
        out. An adaptive pooling to size 1 needs a `Flatten` behind it, as `GlobalAvgPool2d` gives rows; softmaxes are
        over the last axis, or over axis 1 of rows.
    dtype : {"float32", "float64"}, optional
        None: float64 if the module holds a parameter or buffer of that dtype, else float32.

    Returns
    -------
    Sequential
        In training or not as the modules are, numbered by what became a layer. Its `Dropout` draws other random
        numbers than PyTorch.

    Raises
    ------
    ImportError
        PyTorch is not installed.
    InvalidTypeError, InvalidValueError
        A module has no counterpart, or a setting that its counterpart lacks. The error says where it is, as in
        ``module[3][0]``.
    """
    torch = _torch("from_torch")
    if not isinstance(module, torch.nn.Module):
        raise InvalidTypeError(f"module is {type(module).__name__}; expected a torch.nn.Sequential")
    items = _items(torch.nn, module, "module")
    if not items:
        raise InvalidValueError(f"module is {module!r}; expected at least one layer")
    layers: dict[str, Layer] = {}
    chain, leaves = _chain(torch.nn, items, layers), list(_leaves(items))
    _check_places(items, layers)
    _check_nothing_is_shared(leaves)
    if dtype is None:
        tensors = itertools.chain(module.parameters(), module.buffers())
        dtype = "float64" if any(tensor.dtype == torch.float64 for tensor in tensors) else "float32"
    model = Sequential(*chain, seed=0, dtype=dtype)
    state = {f"{place}.{name}": tensor for place, leaf in leaves for name, tensor in leaf.state_dict().items()}
    state_dicts.load_state_dict(layers, state, strict=True)
    return model


def to_torch(model: Sequential) -> nn.Sequential:
    """The `torch.nn.Sequential` that a model is: a module for each layer, with copies of parameters and buffers.

    Parameters of layers that are not `trainable` do not require gradients, and the other way round; for a frozen batch
    normalisation, `module.eval()` keeps the statistics there, too.

    PyTorch has no `Normalize`: a small module of ours does the same, and takes images of any numeric dtype too.
    `RandomFlip` and other augmentation become an `Identity`. A `GlobalAvgPool2d` becomes a nested `Sequential` of
    ``AdaptiveAvgPool2d(1)`` and `Flatten`. PyTorch's `Conv2d` wants (n, channels, height, width) also where there is
    one channel.

    Raises
    ------
    ImportError
        PyTorch is not installed.
    InvalidValueError
        A layer has no counterpart: `Log`, and layers of your own without a method `to_torch`.
    """
    torch = _torch("to_torch")
    as_sequential(model)
    for i, layer in enumerate(model.layers):
        if not _has_counterpart(layer):
            raise InvalidValueError(f"layers[{i}] is {layer!r}, which has no counterpart in PyTorch")
    with torch.random.fork_rng(devices=[]):  # modules draw parameters; the caller's random numbers stay what they are
        made = _module(torch.nn, model)
    module = made.to(getattr(torch, str(model.dtype)))
    module.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    module.training = any(layer.training for layer in model.all_layers())
    return module


def _torch(function: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"fastfnn.{function} needs PyTorch (pip install torch)") from error
    return torch


# From PyTorch


def _items(nn: Any, module: Any, place: str) -> list[Any]:
    """The modules that become layers, each a `Leaf`, and where branches meet, in order."""
    if isinstance(module, Taken):
        return [Leaf(place, module)]
    if module._forward_hooks or module._forward_pre_hooks:
        raise InvalidValueError(f"{place} is {type(module).__name__} with forward hooks, which layers have not")
    nested = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    if nested and not _is_global_pool(nn, module):
        return [item for i, child in enumerate(module) for item in _items(nn, child, f"{place}[{i}]")]
    if type(module) is nn.Identity:
        return []
    known = type(module).__module__.startswith("torch.nn.") or _is_normalize(module)
    kinds = tuple(getattr(nn, name) for name in _kinds() if hasattr(nn, name))
    if nested or isinstance(module, kinds) or known:  # what changes one of them is none that we know
        return [Leaf(place, module)]
    return _opened(nn, traced(module, place))


def _opened(nn: Any, items: list[Any]) -> list[Any]:
    """The same with the modules that hold others opened."""
    found: list[Any] = []
    for item in items:
        if isinstance(item, Join):
            found.append(Join(item.item, item.join, [_opened(nn, branch) for branch in item.branches]))
        else:
            found += _items(nn, item.module, item.place)
    return found


def _leaves(items: list[Any]) -> Iterator[tuple[str, Any]]:
    for item in items:
        if isinstance(item, Join):
            for branch in item.branches:
                yield from _leaves(branch)
        elif not isinstance(item.module, Taken):
            yield item


def _chain(nn: Any, items: list[Any], layers: dict[str, Layer]) -> list[Layer]:
    """Their layers, which are put down by their modules' places, too."""
    chain = []
    for item in items:
        if isinstance(item, Join):
            chain.append(_joined(nn, item, layers))
        elif isinstance(item.module, Taken):
            raise InvalidValueError(
                f"{item.place} takes some columns; expected others beside it, and a torch.cat of all"
            )
        elif item.place in layers:
            raise InvalidValueError(f"{item.place} comes twice; expected each module once")
        else:
            layers[item.place] = _layer(nn, item.place, item.module)
            chain.append(layers[item.place])
    return chain


def _joined(nn: Any, item: Join, layers: dict[str, Layer]) -> Layer:
    """The layer of branches that meet; where each takes some columns, that is `Columns`."""
    firsts = [branch[0] if branch else None for branch in item.branches]
    taken = [first.module.columns for first in firsts if isinstance(first, Leaf) and isinstance(first.module, Taken)]
    if item.join != "concat" or len(taken) < len(item.branches) or len(set(taken)) < len(taken):
        return joined([_chain(nn, branch, layers) for branch in item.branches], item.join)
    chains = [_chain(nn, branch[1:], layers) for branch in item.branches]
    flat = [chain[:-1] if chain and type(chain[-1]) is Flatten else chain for chain in chains]
    return Columns(dict(zip(taken, flat, strict=True)))


def _is_global_pool(nn: Any, module: Any) -> bool:
    """Whether a `Sequential` is what `to_torch` makes of a `GlobalAvgPool2d` or `GlobalMaxPool2d`."""
    kinds = [type(child) for child in module] if type(module) is nn.Sequential else []
    pools = {nn.AdaptiveAvgPool2d: GlobalAvgPool2d, nn.AdaptiveMaxPool2d: GlobalMaxPool2d}
    if len(kinds) != 2 or kinds[0] not in pools or kinds[1] is not nn.Flatten:
        return False
    return not any(map(_unlike_ours, module, (pools[kinds[0]], Flatten)))


def _is_normalize(module: Any) -> bool:
    """Whether it is what `to_torch` makes of a `Normalize`."""
    return type(module).__name__ == "NormalizeModule" and type(module) is _normalize_class()


def _kinds() -> dict[str, type[Layer]]:
    """The layers by the names of PyTorch's classes that they are made of.

    A user's own are among them, the last that was defined for a name; but none takes the place of ours.
    """
    kinds: list[type[Layer]] = [Layer]
    for kind in kinds:  # it grows
        kinds += kind.__subclasses__()
    kinds.sort(key=lambda kind: kind.__module__.startswith("fastfnn.layers."))
    return {name: kind for kind in kinds for name in vars(kind).get("torch_names", ())}


def _unlike_ours(module: Any, kind: type[Layer]) -> str | None:
    """What a setting would have to be, if there is one that ours do not have."""
    for name, values in kind.torch_fixed.items():
        if getattr(module, name) not in values:
            return f"{name}={' or '.join(map(repr, values))}"
    return None


def _layer(nn: Any, place: str, module: Any) -> Layer:
    """The layer that a module is, without its parameters."""
    name, kinds = type(module).__name__, _kinds()
    if _is_normalize(module):
        layer: Layer = Normalize(**module.settings)
    elif type(module) is nn.Sequential:  # all others are flattened
        layer = _kinds()[type(module[0]).__name__]()
    elif name not in kinds or type(module) is not getattr(nn, name, None):  # a subclass may do something else
        raise InvalidTypeError(f"{place} is {name}; expected one of {', '.join(sorted(kinds))}")
    else:
        if name == "AdaptiveAvgPool2d" and _unlike_ours(module, GlobalAvgPool2d):
            kinds[name] = AdaptiveAvgPool2d
        expected = _unlike_ours(module, kinds[name])
        if expected:
            raise InvalidValueError(f"{place} is {module!r}; expected {expected}")
        try:
            layer = kinds[name].from_torch(module)
        except FastFNNError as error:
            raise InvalidValueError(f"{place} is {module!r}: {error}") from None
    layer.training = module.training
    parameters = list(module.parameters())
    layer.trainable = not parameters or any(parameter.requires_grad for parameter in parameters)
    return layer


def _check_places(items: list[Any], layers: dict[str, Layer], shape: KnownShape | None = None) -> None:
    """Refuse modules that do what ours do in other places than theirs; samples of `shape` come, if that is known."""
    for i, item in enumerate(items):
        if isinstance(item, Join):
            for branch in item.branches:
                _check_places(branch, layers, shape)
            shape = None
            continue
        place, module = item
        if isinstance(module, Taken):
            continue
        layer = layers[place]
        if isinstance(layer, (GlobalAvgPool2d, GlobalMaxPool2d)) and type(module).__name__ != "Sequential":
            following = (type(other).__name__ for other in _modules(items[i + 1 :]))
            if next((name for name in following if name not in ELEMENTWISE), None) != "Flatten":
                raise InvalidValueError(
                    f"{place} is {module!r} without a Flatten behind it; expected one, as ours gives rows (n, channels)"
                )
        # As torch.nn.Sequential itself cannot tell: rows have that axis last, images have not.
        is_rows = shape is not None and len(shape) == 1
        if isinstance(layer, (Softmax, LogSoftmax)) and not is_rows and module.dim == 1:
            what = "of who knows what" if shape is None else "of images"
            raise InvalidValueError(f"{place} is {module!r} {what}; expected dim=-1, as ours is over the last axis")
        shape = layer.made_shape(shape or layer.taken_shape())


def _modules(items: list[Any]) -> Iterator[Any]:
    return (item if isinstance(item, Join) else item.module for item in items)


def _check_nothing_is_shared(leaves: list[tuple[str, Any]]) -> None:
    owners: dict[int, str] = {}
    for place, module in leaves:
        for parameter in module.parameters():
            if owners.setdefault(id(parameter), place) != place:
                raise InvalidValueError(
                    f"{place} shares a parameter with {owners[id(parameter)]}; expected each to have its own"
                )


# To PyTorch


def _has_counterpart(layer: Layer) -> bool:
    if type(layer) in CONTAINERS:
        return all(map(_has_counterpart, layer.children().values()))
    return type(layer) is Normalize or layer.has_counterpart("to_torch")


def _module(nn: Any, layer: Layer) -> Any:
    """The module that a layer is; its `training` is the layer's."""
    if isinstance(layer, CONTAINERS):
        modules = {name: _module(nn, child) for name, child in layer.children().items()}
        if isinstance(layer, Parallel):
            columns = layer.columns if isinstance(layer, Columns) else None
            return branches(modules, layer.join, type(layer).__name__, columns)
        return nn.Sequential(*modules.values())
    made = _normalize_class()(layer) if type(layer) is Normalize else layer.to_torch(nn)
    return made.train(layer.training).requires_grad_(layer.trainable)


@functools.cache
def _normalize_class() -> Any:
    """`Normalize` as a PyTorch module, which can only be written once PyTorch is there."""
    import torch

    class NormalizeModule(torch.nn.Module):
        """``(x * scale - mean) / std``, from any numeric dtype to the network's: `fastfnn.Normalize`."""

        factor: torch.Tensor
        shift: torch.Tensor

        def __init__(self, layer: Normalize) -> None:
            super().__init__()
            self.settings = layer.config()
            for name, values in zip(("factor", "shift"), layer.factor_and_shift(), strict=True):
                # They follow the module to other devices and dtypes, but are no part of its state.
                self.register_buffer(name, torch.from_numpy(values), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            factor, shift = self.factor[:, None], self.shift[:, None]
            blocks = x.to(factor.dtype).reshape(x.shape[0], len(factor), math.prod(x.shape[1:]) // len(factor))
            return (blocks * factor + shift).reshape(x.shape)

        def extra_repr(self) -> str:
            return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    # Where pickle looks for it, see `__getattr__`.
    NormalizeModule.__qualname__ = "NormalizeModule"
    return NormalizeModule


def __getattr__(name: str) -> Any:
    if name == "NormalizeModule":
        return _normalize_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
