"""Optimizers: one kernel call over all parameters of a model, which lie in one flat array."""

from fastfnn.optim.adam import Adam, AdamW, NAdam
from fastfnn.optim.base import Optimizer, Part, block_sums, owners, settled_eps
from fastfnn.optim.descent import SGD, Adagrad, RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "NAdam",
    "Optimizer",
    "Part",
    "RMSprop",
    "block_sums",
    "owners",
    "settled_eps",
]
