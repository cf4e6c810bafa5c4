"""The compute layer of fastfnn: functions on arrays, and their slow NumPy twins in `reference`.

Importing this package is free: a module here, and numba with it, loads when an attribute first asks for it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastfnn_kernels import (
        activations,
        augmentation,
        batch_norm,
        convolution,
        dropout,
        embedding,
        joins,
        layer_norm,
        losses,
        normalization,
        operations,
        optim,
        padding,
        pool,
        prelu,
        products,
        program,
        reference,
        registry,
        simd,
        softmax,
        team,
        vecmath,
    )

__all__ = [
    "activations",
    "augmentation",
    "batch_norm",
    "convolution",
    "dropout",
    "embedding",
    "joins",
    "layer_norm",
    "losses",
    "normalization",
    "operations",
    "optim",
    "padding",
    "pool",
    "prelu",
    "products",
    "program",
    "reference",
    "registry",
    "simd",
    "softmax",
    "team",
    "vecmath",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
