"""Steps: what layers become in a program.

A step stands for a layer, or for neighbours that one operation does together (`lowering` has the table). It computes
nothing: it writes records, addresses and sizes, into a `Table`, which `fastfnn_kernels.program` runs.
"""

from __future__ import annotations

from fastfnn.engine.steps.base import Step
from fastfnn.engine.steps.branches import BranchesStep, ColumnsStep, EmbeddingStep, StepChain
from fastfnn.engine.steps.convolution import ConvStep
from fastfnn.engine.steps.dense import LinearStep, NormalizeStep, PackedLinearStep, ReshapeStep
from fastfnn.engine.steps.elementwise import ElementwiseStep, PReLUStep
from fastfnn.engine.steps.losses import LOSSES, write_loss
from fastfnn.engine.steps.normalization import BatchNormStep, LayerNormStep
from fastfnn.engine.steps.pooling import PadStep, PoolStep
from fastfnn.engine.steps.random import AugmentationStep, DropoutStep
from fastfnn.engine.steps.sparse import ListedLinearStep, MarkedLinearStep
from fastfnn.engine.steps.table import Data, Table
from fastfnn.engine.steps.updates import OPTIMIZERS, operation_of, write_penalty, write_settings, write_update

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "AugmentationStep",
    "BatchNormStep",
    "BranchesStep",
    "ColumnsStep",
    "ConvStep",
    "Data",
    "DropoutStep",
    "ElementwiseStep",
    "EmbeddingStep",
    "LayerNormStep",
    "LinearStep",
    "ListedLinearStep",
    "MarkedLinearStep",
    "NormalizeStep",
    "PReLUStep",
    "PackedLinearStep",
    "PadStep",
    "PoolStep",
    "ReshapeStep",
    "Step",
    "StepChain",
    "Table",
    "operation_of",
    "write_loss",
    "write_penalty",
    "write_settings",
    "write_update",
]
