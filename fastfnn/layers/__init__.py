"""The layers, by family."""

from fastfnn.layers.activations import LeakyReLU, Log, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from fastfnn.layers.base import Layer
from fastfnn.layers.containers import Chain, Columns, Parallel, Residual
from fastfnn.layers.convolution import Conv2d
from fastfnn.layers.dropout import Dropout
from fastfnn.layers.embedding import Embedding
from fastfnn.layers.inputs import Flatten, Normalize
from fastfnn.layers.linear import Linear, Matmul
from fastfnn.layers.normalization import BatchNorm1d, BatchNorm2d
from fastfnn.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Chain",
    "Columns",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogSoftmax",
    "Matmul",
    "MaxPool2d",
    "Normalize",
    "Parallel",
    "ReLU",
    "Residual",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
