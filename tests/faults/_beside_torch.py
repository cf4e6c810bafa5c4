"""Random trainings, here and in PyTorch, from the same parameters, in float64: what differs more than by rounding."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

import fastfnn as ff
from faults._fenced import Fence, a_network

#: Of the parameters after some steps, whose rounding errors grow with them.
TOLERANCE = 1e-7


def differs(seed: int) -> bool:
    """Whether a random training differs by more than rounding.

    Optimizers that divide by a gradient's size make steps of one that is all rounding: SGD tells that apart.
    """
    return difference(seed) > TOLERANCE and difference(seed, "sgd") > TOLERANCE


def difference(seed: int, optimizer: str | None = None) -> float:
    """The largest difference of a parameter after a training of one network, beside its largest parameter."""
    import torch

    draw, rng = random.Random(seed), np.random.default_rng(seed)
    classes, rows = draw.choice([2, 3, 10]), draw.choice([8, 33, 60])
    model, shape = a_network(draw, classes, "float64")
    batch, epochs = draw.choice([8, 16, 31]), draw.choice([1, 3])
    batch += rows % batch == 1
    x = Fence(rng.normal(size=(rows, *shape)), draw.random() < 0.5).array
    y = Fence(rng.integers(0, classes, rows), draw.random() < 0.5).array
    theirs: Any = ff.to_torch(model)
    theirs.train()
    smoothing, name = draw.choice([0.0, 0.1]), draw.choice(["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"])
    ours, other = optimizers(optimizer or name, theirs.parameters())
    ff.fit(
        model, x, y, loss=ff.CrossEntropyLoss(label_smoothing=smoothing), optimizer=ours, epochs=epochs,
        batch_size=batch, shuffle=False, progress=False, n_threads=draw.choice([1, 2, 3]),
    )  # fmt: skip
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    for _ in range(epochs):
        for start in range(0, rows, batch):
            other.zero_grad()
            rows_of = slice(start, start + batch)
            loss(theirs(torch.from_numpy(x[rows_of].copy())), torch.from_numpy(y[rows_of].copy())).backward()
            other.step()
    expected = np.concatenate([parameter.detach().numpy().ravel() for parameter in theirs.parameters()])
    got = np.concatenate([parameter.detach().numpy().ravel() for parameter in ff.to_torch(model).parameters()])
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def optimizers(name: str, parameters: Any) -> tuple[ff.Optimizer, Any]:
    import torch

    ours, other, options = {
        "sgd": (ff.SGD, torch.optim.SGD, {"lr": 0.01}),
        "momentum": (ff.SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
        "nesterov": (ff.SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
        "adam": (ff.Adam, torch.optim.Adam, {"lr": 1e-3}),
        "adamw": (ff.AdamW, torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}),
        "rmsprop": (ff.RMSprop, torch.optim.RMSprop, {"lr": 1e-3}),
    }[name]
    return ours(**options), other(parameters, **options)
