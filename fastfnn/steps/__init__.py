"""Steps: what layers become in a program.

A step stands for a layer, or for neighbours that one operation does together (`lowering` has the table). It computes
nothing: it writes records, addresses and sizes, into a `Table`, which `fastfnn_kernels.program` runs.
"""

from __future__ import annotations

from fastfnn.steps.base import Step
from fastfnn.steps.convolution import ConvStep
from fastfnn.steps.dense import LinearStep, NormalizeStep, ReshapeStep
from fastfnn.steps.elementwise import ElementwiseStep
from fastfnn.steps.losses import LOSSES, write_loss
from fastfnn.steps.normalization import BatchNormStep, DropoutStep
from fastfnn.steps.pooling import PoolStep
from fastfnn.steps.sparse import ListedLinearStep, MarkedLinearStep
from fastfnn.steps.table import Data, Table
from fastfnn.steps.updates import OPTIMIZERS, settings_of, write_update

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "BatchNormStep",
    "ConvStep",
    "Data",
    "DropoutStep",
    "ElementwiseStep",
    "LinearStep",
    "ListedLinearStep",
    "MarkedLinearStep",
    "NormalizeStep",
    "PoolStep",
    "ReshapeStep",
    "Step",
    "Table",
    "settings_of",
    "write_loss",
    "write_update",
]
