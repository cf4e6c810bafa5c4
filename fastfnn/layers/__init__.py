"""The layers, by family."""

from fastfnn.layers.activations import LeakyReLU, Log, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from fastfnn.layers.base import Layer
from fastfnn.layers.inputs import Flatten, Normalize
from fastfnn.layers.linear import Linear, Matmul

__all__ = [
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogSoftmax",
    "Matmul",
    "Normalize",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
