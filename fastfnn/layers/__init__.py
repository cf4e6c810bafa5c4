"""The layers, by family."""

from fastfnn.layers.activations import (
    ELU,
    GELU,
    SELU,
    Hardswish,
    LeakyReLU,
    Log,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastfnn.layers.augmentation import Noise, RandomErase, RandomFlip, RandomRotation, RandomShift
from fastfnn.layers.base import Layer
from fastfnn.layers.chain import Chain
from fastfnn.layers.containers import Columns, Parallel, Residual
from fastfnn.layers.convolution import Conv2d
from fastfnn.layers.convolution1d import Conv1d
from fastfnn.layers.dropout import Dropout, Dropout2d
from fastfnn.layers.embedding import Embedding
from fastfnn.layers.inputs import Flatten, Normalize
from fastfnn.layers.linear import Linear, Matmul
from fastfnn.layers.normalization import BatchNorm1d, BatchNorm2d, LayerNorm
from fastfnn.layers.padding import ZeroPad2d
from fastfnn.layers.pooling import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, GlobalMaxPool2d, MaxPool2d
from fastfnn.layers.pooling1d import AvgPool1d, MaxPool1d
from fastfnn.layers.prelu import PReLU

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Chain",
    "Columns",
    "Conv1d",
    "Conv2d",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "Hardswish",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogSoftmax",
    "Matmul",
    "MaxPool1d",
    "MaxPool2d",
    "Noise",
    "Normalize",
    "PReLU",
    "Parallel",
    "RandomErase",
    "RandomFlip",
    "RandomRotation",
    "RandomShift",
    "ReLU",
    "ReLU6",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "ZeroPad2d",
]
