"""Models from and to PyTorch. It is imported by whoever calls these functions, and not before."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastfnn.errors import FastFNNError, InvalidTypeError, InvalidValueError
from fastfnn.layers import (
    AdaptiveAvgPool2d,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LogSoftmax,
    Normalize,
    Softmax,
)
from fastfnn.layers import state_dict as state_dicts
from fastfnn.layers.base import KnownShape
from fastfnn.model import Sequential, as_sequential

if TYPE_CHECKING:
    from torch import nn

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
    module : torch.nn.Sequential, or one module
        Of ``Linear Conv1d Conv2d MaxPool2d AvgPool2d AdaptiveAvgPool2d AdaptiveMaxPool2d(1) ZeroPad2d Flatten ReLU
        LeakyReLU PReLU ReLU6 GELU SiLU ELU SELU Softplus Hardswish Sigmoid Tanh Softmax LogSoftmax Dropout Dropout2d
        BatchNorm1d BatchNorm2d LayerNorm Identity`` and further `Sequential`, which are flattened. An `Identity` is
        left out. An adaptive pooling to size 1 needs a `Flatten` behind it, as `GlobalAvgPool2d` gives rows; softmaxes
        are over the last axis, or over axis 1 of rows.
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
    leaves = list(_leaves(torch.nn, module, "module"))
    if not leaves:
        raise InvalidValueError(f"module is {module!r}; expected at least one layer")
    layers = {place: _layer(torch.nn, place, leaf) for place, leaf in leaves}
    _check_places(leaves, layers)
    _check_nothing_is_shared(leaves)
    if dtype is None:
        tensors = itertools.chain(module.parameters(), module.buffers())
        dtype = "float64" if any(tensor.dtype == torch.float64 for tensor in tensors) else "float32"
    model = Sequential(*layers.values(), seed=0, dtype=dtype)
    state = {f"{place}.{name}": tensor for place, leaf in leaves for name, tensor in leaf.state_dict().items()}
    state_dicts.load_state_dict(layers, state, strict=True)
    return model


def to_torch(model: Sequential) -> nn.Sequential:
    """The `torch.nn.Sequential` that a model is: a module for each layer, with copies of parameters and buffers.

    PyTorch has no `Normalize`: a small module of ours does the same, and takes images of any numeric dtype too. A
    `GlobalAvgPool2d` becomes a nested `Sequential` of ``AdaptiveAvgPool2d(1)`` and `Flatten`. PyTorch's `Conv2d` wants
    (n, channels, height, width) also where there is one channel.

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
        if not (layer.has_counterpart("to_torch") or type(layer) is Normalize):
            raise InvalidValueError(f"layers[{i}] is {layer!r}, which has no counterpart in PyTorch")
    with torch.random.fork_rng(devices=[]):  # modules draw parameters; the caller's random numbers stay what they are
        made = [_module(torch.nn, layer).train(layer.training) for layer in model.layers]
    module = torch.nn.Sequential(*made).to(getattr(torch, str(model.dtype)))
    module.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    module.training = any(layer.training for layer in model.layers)
    return module


def _torch(function: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"fastfnn.{function} needs PyTorch (pip install torch)") from error
    return torch


# From PyTorch


def _leaves(nn: Any, module: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The modules that become layers, and where each is."""
    nested = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    if nested and not _is_global_pool(nn, module):
        for i, child in enumerate(module):
            yield from _leaves(nn, child, f"{place}[{i}]")
    elif type(module) is not nn.Identity:
        yield place, module


def _is_global_pool(nn: Any, module: Any) -> bool:
    """Whether a `Sequential` is what `to_torch` makes of a `GlobalAvgPool2d` or `GlobalMaxPool2d`."""
    kinds = [type(child) for child in module] if type(module) is nn.Sequential else []
    pools = {nn.AdaptiveAvgPool2d: GlobalAvgPool2d, nn.AdaptiveMaxPool2d: GlobalMaxPool2d}
    if len(kinds) != 2 or kinds[0] not in pools or kinds[1] is not nn.Flatten:
        return False
    return not any(map(_unlike_ours, module, (pools[kinds[0]], Flatten)))


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
    if name == "NormalizeModule" and type(module) is _normalize_class():
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
    return layer


def _check_places(leaves: list[tuple[str, Any]], layers: dict[str, Layer]) -> None:
    """Refuse modules that do what ours do in other places than theirs."""
    shape: KnownShape | None = None
    for i, (place, module) in enumerate(leaves):
        layer = layers[place]
        if isinstance(layer, (GlobalAvgPool2d, GlobalMaxPool2d)) and type(module).__name__ != "Sequential":
            following = (type(other).__name__ for _, other in leaves[i + 1 :])
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


def _check_nothing_is_shared(leaves: list[tuple[str, Any]]) -> None:
    owners: dict[int, str] = {}
    for place, module in leaves:
        for parameter in module.parameters():
            if owners.setdefault(id(parameter), place) != place:
                raise InvalidValueError(
                    f"{place} shares a parameter with {owners[id(parameter)]}; expected each to have its own"
                )


# To PyTorch


def _module(nn: Any, layer: Layer) -> Any:
    return _normalize_class()(layer) if type(layer) is Normalize else layer.to_torch(nn)


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
