"""The records of an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.table import Array, Table
from fastfnn.model import Sequential
from fastfnn.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, Part, RMSprop, block_sums, settled_eps


def _adam(optimizer: Any) -> tuple[str, dict[str, float]]:
    beta1, beta2 = optimizer.betas
    own = {"beta1": beta1, "beta2": beta2, "eps": optimizer.eps}
    operation = "amsgrad" if optimizer.amsgrad else "adam"
    return operation, {**own, "decoupled": optimizer.decoupled, "epsilon_hat": optimizer.epsilon_hat}


def _sgd(optimizer: Any) -> tuple[str, dict[str, float]]:
    if not optimizer.momentum:
        return "sgd", {}
    return "sgd_momentum", {"momentum": optimizer.momentum, "nesterov": optimizer.nesterov}


def _nadam(optimizer: Any) -> tuple[str, dict[str, float]]:
    beta1, beta2 = optimizer.betas
    own = {"beta1": beta1, "beta2": beta2, "eps": optimizer.eps, "momentum_decay": optimizer.momentum_decay}
    return "nadam", {**own, "decoupled": optimizer.decoupled_weight_decay}


def _rmsprop(optimizer: Any) -> tuple[str, dict[str, float]]:
    own = {"alpha": optimizer.alpha, "eps": optimizer.eps}
    if not optimizer.centered and not optimizer.momentum:
        return "rmsprop", own
    return "rmsprop_centered" if optimizer.centered else "rmsprop_momentum", {**own, "momentum": optimizer.momentum}


#: Operation of each optimizer, and the settings that others have not, by the operation's names for them.
OPTIMIZERS: dict[type[Optimizer], Callable[[Any], tuple[str, dict[str, float]]]] = {
    SGD: _sgd,
    Adam: _adam,
    AdamW: _adam,
    NAdam: _nadam,
    RMSprop: _rmsprop,
    Adagrad: lambda o: ("adagrad", {"eps": o.eps, "lr_decay": o.lr_decay}),
}


def operation_of(optimizer: Optimizer) -> str:
    """The optimizer's operation."""
    return OPTIMIZERS[type(optimizer)](optimizer)[0]


def write_settings(table: Table, optimizer: Optimizer) -> None:
    """Have the records' settings be those of the optimizer as it is now."""
    _, own = OPTIMIZERS[type(optimizer)](optimizer)
    clip_norm, clip_value = optimizer.limits or (0.0, 0.0)
    shared = {"lr": optimizer.lr, "step_size": -optimizer.lr, "weight_decay": optimizer.weight_decay}
    clipping = {"clip_norm": clip_norm, "clip_value": clip_value, "l1": optimizer.l1}
    if "eps" in own:
        own["eps"] = settled_eps(own["eps"], table.dtype)
    for name, value in {**shared, **own, **clipping}.items():
        table.settings[name][0] = value


def write_penalty(table: Table, model: Sequential) -> None:
    """Append what adds the L2 term to the loss, before the weights change."""
    for part in model.trained_weights():
        param = model.parameters[part.where]
        squares = np.zeros(kernels.optim.norm_blocks(param.size))
        table.weight("weight_squares", out=squares, blocks=squares.size, param=param, size=param.size)
        factors = {"weight_decay": _decay(table, part), "penalty": table.settings["penalty"]}
        table.update("l2_loss", squares=squares, blocks=squares.size, **factors)


def _decay(table: Table, part: Part) -> Array:
    """The weight decay of a part: the layers', which stays, or the optimizer's."""
    return table.settings["weight_decay"] if part.weight_decay is None else np.array([part.weight_decay])


def _scaled_rates(table: Table, parts: Sequence[Part]) -> dict[float, Array]:
    """The learning rates by what the optimizer's is multiplied by; append what makes them."""
    lr = table.settings["lr"]
    rates = {scale: np.zeros(1) for scale in {part.lr_scale for part in parts} - {1.0}}
    for scale, rate in rates.items():
        table.update("scale_setting", out=rate, setting=lr, factor=scale)
    if rates:
        table.update_barrier()
    return {1.0: lr, **rates}


def write_update(table: Table, model: Sequential, optimizer: Optimizer) -> None:
    """Append the update of all parameters; of those that no step has updated, where steps do that themselves."""
    (operation, own), settings = OPTIMIZERS[type(optimizer)](optimizer), table.settings
    if table.sgd_in_place:
        done = {array.ctypes.data for array in table.updated}
        for layer in (layer for layer in model.all_layers() if layer.trainable):
            for name, array in layer.params.items():
                if array.ctypes.data not in done:
                    parameters = {"size": array.size, "param": array, "grad": layer.grads[name]}
                    table.update("sgd", **parameters, lr=settings["lr"], weight_decay=table.zero)
        return
    parts = model.trained_parts()
    rates = _scaled_rates(table, parts)
    squares, places = block_sums(parts)
    clipping = {"squares": squares, "blocks": squares.size}
    if optimizer.limits is not None:
        for part, place in zip(parts, places, strict=True):
            grad, out = model.gradients[part.where], squares[place]
            table.update("square_sums", out=out, blocks=out.size, grad=grad, size=grad.size)
        table.update_barrier()
    for part, decays in optimizer.parts(parts, model.n_weights):
        where = part.where
        param = model.parameters[where]
        parameters = {"param": param, "grad": model.gradients[where], "size": param.size}
        if optimizer.maximize:
            table.update("negate", grad=parameters["grad"], size=param.size)
        if optimizer.limits is not None:
            limits = {name: settings[name] for name in ("clip_norm", "clip_value")}
            table.update("clip_step", **parameters, **clipping, **limits, l1=settings["l1"] if decays else table.zero)
        table.update(
            operation,
            **parameters,
            lr=rates[part.lr_scale],
            weight_decay=_decay(table, part) if decays else table.zero,
            **{name: settings[name] for name in own},
            **{name: optimizer.state[name][where] for name in optimizer.slots},
        )
    limited = list(model.limited_weights())
    if limited:
        table.update_barrier()
    for weight, limit in limited:
        before, outputs, behind = weight.shape
        table.update("limit_norms", weight=weight, limit=limit, before=before, outputs=outputs, behind=behind)
