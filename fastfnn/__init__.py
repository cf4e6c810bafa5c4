"""fastfnn: small neural networks, trained and run on CPUs at close to the machine's peak.

>>> import fastfnn as ff
>>> (x_train, y_train), (x_test, y_test) = ff.data.load_mnist_sample()
>>> model = ff.Sequential(
...     ff.Flatten(), ff.Normalize(mean=0.1307, std=0.3081, scale=1 / 255),
...     ff.Linear(784, 100), ff.ReLU(), ff.Linear(100, 10), seed=0)
>>> history = ff.fit(model, x_train, y_train, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(lr=0.1), epochs=5)
>>> loss, accuracy = ff.evaluate(model, x_test, y_test, loss=ff.CrossEntropyLoss())

Importing it does not import numba; the first computation does.
"""

import sys

from fastfnn import data, errors, functional, initializers, metrics, models, plot, schedules
from fastfnn.gradcheck import gradcheck
from fastfnn.interchange.onnx_export import export_onnx
from fastfnn.interchange.onnx_import import import_onnx
from fastfnn.interchange.safetensors import load, save
from fastfnn.interchange.torch import from_torch, to_torch
from fastfnn.layers import (
    ELU,
    GELU,
    SELU,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Columns,
    Conv1d,
    Conv2d,
    Dropout,
    Dropout2d,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Hardswish,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Log,
    LogSoftmax,
    Matmul,
    MaxPool1d,
    MaxPool2d,
    Noise,
    Normalize,
    Parallel,
    PReLU,
    RandomErase,
    RandomFlip,
    RandomRotation,
    RandomShift,
    ReLU,
    ReLU6,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    ZeroPad2d,
)
from fastfnn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
    PoissonNLLLoss,
)
from fastfnn.metrics import accuracy, confusion_matrix
from fastfnn.model import Sequential
from fastfnn.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from fastfnn.training import (
    Evaluation,
    LRSweep,
    Predictor,
    callbacks,
    evaluate,
    fit,
    lr_find,
    predict,
    predict_proba,
    predict_raw,
    train_step,
)
from fastfnn.training.callbacks import (
    EMA,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    EpochCallback,
    EpochEnd,
    EverySteps,
    History,
    StepEnd,
    TensorBoard,
)
from fastfnn.warmup import warmup

# As Keras has it: `from fastfnn.callbacks import EarlyStopping`.
sys.modules[f"{__name__}.callbacks"] = callbacks

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "EMA",
    "GELU",
    "SELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "CSVLogger",
    "Checkpoint",
    "Columns",
    "Conv1d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout2d",
    "EarlyStopping",
    "Embedding",
    "EpochCallback",
    "EpochEnd",
    "Evaluation",
    "EverySteps",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "Hardswish",
    "History",
    "HuberLoss",
    "L1Loss",
    "LRSweep",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "Matmul",
    "MaxPool1d",
    "MaxPool2d",
    "NAdam",
    "NLLLoss",
    "Noise",
    "Normalize",
    "Optimizer",
    "PReLU",
    "Parallel",
    "PoissonNLLLoss",
    "Predictor",
    "RMSprop",
    "RandomErase",
    "RandomFlip",
    "RandomRotation",
    "RandomShift",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "StepEnd",
    "Tanh",
    "TensorBoard",
    "ZeroPad2d",
    "accuracy",
    "callbacks",
    "confusion_matrix",
    "data",
    "errors",
    "evaluate",
    "export_onnx",
    "fit",
    "from_torch",
    "functional",
    "gradcheck",
    "import_onnx",
    "initializers",
    "load",
    "lr_find",
    "metrics",
    "models",
    "plot",
    "predict",
    "predict_proba",
    "predict_raw",
    "save",
    "schedules",
    "to_torch",
    "train_step",
    "warmup",
]


def __dir__() -> list[str]:
    """Public names alone, for those who complete them by a key."""
    return [*__all__, "__doc__", "__version__"]
