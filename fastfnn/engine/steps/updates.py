"""The records of an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastfnn_kernels as kernels
from fastfnn.engine.steps.table import Table
from fastfnn.model import Sequential
from fastfnn.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop


def _adam(optimizer: Any) -> tuple[str, tuple[float, ...]]:
    settings = (optimizer.lr, *optimizer.betas, optimizer.eps, optimizer.decoupled)
    return "adam", settings


#: Operation of each optimizer, and its settings as that takes them, the learning rate first; weight decay apart.
OPTIMIZERS: dict[type[Optimizer], Callable[[Any], tuple[str, tuple[float, ...]]]] = {
    SGD: lambda o: ("sgd_momentum", (o.lr, o.momentum, o.nesterov)) if o.momentum else ("sgd", (o.lr,)),
    Adam: _adam,
    AdamW: _adam,
    RMSprop: lambda o: ("rmsprop", (o.lr, o.alpha, o.eps)),
    Adagrad: lambda o: ("adagrad", (o.lr, o.eps)),
}


def settings_of(optimizer: Optimizer) -> tuple[str, tuple[float, ...]]:
    """The optimizer's operation and its settings."""
    return OPTIMIZERS[type(optimizer)](optimizer)


def write_update(table: Table, model: Sequential, optimizer: Optimizer) -> None:
    """Append the update of all parameters; of those that no step has updated, where steps do that themselves."""
    (operation, _), size = settings_of(optimizer), model.parameters.size
    if not table.sgd_in_place:
        squares = np.zeros(kernels.optim.norm_blocks(size))
        if optimizer.limits is not None:
            table.update("square_sums", squares.size, model.gradients, size, squares)
            table.update_barrier()
        for part, decays in optimizer.parts(size, model.n_weights):
            params, grads, decay = model.parameters[part], model.gradients[part], table.decay[int(not decays)]
            if optimizer.limits is not None:
                table.update("clip_step", params.size, params, grads, table.limits, decay[1:], squares.size, squares)
            state = [array[part] for array in optimizer.state.values()]
            table.update(operation, params.size, params, grads, table.settings, decay, *state)
        return
    done = {array.ctypes.data for array in table.updated}
    for layer in model.layers:
        for name, array in layer.params.items():
            if array.ctypes.data not in done:
                table.update("sgd", array.size, array, layer.grads[name], table.settings, table.decay[1])
