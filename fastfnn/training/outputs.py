"""What the outputs of a model mean: probabilities, and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.functional import sigmoid, softmax
from fastfnn.layers import Layer, LogSoftmax, Sigmoid, Softmax

Array = NDArray[Any]


def as_probabilities(last: Layer, out: Array, multilabel: bool) -> Array:
    """What `predict_proba` makes of the outputs of a model's last layer."""
    if isinstance(last, (Softmax, Sigmoid)):
        return out
    if isinstance(last, LogSoftmax):
        return np.exp(out)
    return sigmoid(out) if multilabel or out.shape[-1] == 1 else softmax(out)


def as_labels(last: Layer, out: Array, multilabel: bool) -> NDArray[np.int64]:
    """What `predict` makes of the outputs of a model's last layer."""
    if not multilabel and out.shape[-1] > 1:
        return out.argmax(axis=-1)
    threshold = 0.5 if isinstance(last, (Softmax, Sigmoid)) else 0.0
    above = (out > threshold).astype(np.int64)
    return above if multilabel else above[..., 0]
