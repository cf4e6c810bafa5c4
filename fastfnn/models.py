"""Ready-made networks: each a `Sequential` of logits.

Those for images take raw ``uint8`` ones, from 0 to 255: their first layers scale and standardise the pixels, by default
as fits MNIST. Images that are scaled to [0, 1] already need ``scale=1``; others that come so are warned of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError
from fastfnn.layers import (
    BatchNorm1d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Normalize,
    ReLU,
    Sigmoid,
    Tanh,
)
from fastfnn.model import Sequential

#: Mean and standard deviation of the pixels of MNIST's training images, in [0, 1], what brings them there, and how many
#: pixels they have.
MEAN, STD, SCALE, PIXELS = 0.1307, 0.3081, 1 / 255, 784
ACTIVATIONS: dict[str, type[Layer]] = {"relu": ReLU, "leaky_relu": LeakyReLU, "sigmoid": Sigmoid, "tanh": Tanh}

Values = float | Sequence[float]
Seed = int | np.random.Generator | None


def mlp(
    in_features: int = 784,
    hidden: Sequence[int] = (100,),
    classes: int = 10,
    activation: str = "relu",
    dropout: float = 0.0,
    batch_norm: bool = False,
    mean: Values | None = None,
    std: Values | None = None,
    scale: float | None = None,
    seed: Seed = None,
    dtype: Any = "float32",
) -> Sequential:
    """A multilayer perceptron: hidden layers of `Linear`, perhaps `BatchNorm1d`, activation, perhaps `Dropout`.

    Parameters
    ----------
    in_features : int
        Numbers of a sample, of whatever shape.
    hidden : sequence of int
        Sizes of the hidden layers; none of them leaves a linear classifier.
    classes : int
        Outputs, which are logits.
    activation : {"relu", "leaky_relu", "sigmoid", "tanh"}
    dropout : float
        Probability in [0, 1) that a hidden output is dropped in training.
    batch_norm : bool
        Whether hidden layers are normalised before their activation.
    mean, std, scale
        As in `Normalize`. By default, 784 features are taken for the pixels of MNIST's images, from 0 to 255; others
        are taken as they are, without a `Normalize` (``ff.Normalize.fit(x)`` has a `mean` and a `std` that suit).
    seed, dtype
        As in `Sequential`.

    Returns
    -------
    Sequential
        Takes (n, …) arrays of any numeric dtype, such as ``uint8`` (n, 28, 28); returns (n, classes).
    """
    sizes = _sizes(hidden)
    check.one_of("activation", activation, tuple(ACTIVATIONS))
    p = check.real("dropout", dropout, least=0.0, below=1.0)
    features = check.positive_int("in_features", in_features)
    usual: tuple[Values, Values, float] = (MEAN, STD, SCALE) if features == PIXELS else (0.0, 1.0, 1.0)
    given = mean, std, scale
    layers: list[Layer] = [Flatten()]
    if features == PIXELS or given != (None, None, None):
        settings: list[Any] = [other if value is None else value for value, other in zip(given, usual, strict=True)]
        layers.append(Normalize(*settings))
    for size in sizes:
        layers.append(Linear(features, size))
        layers += [BatchNorm1d(size)] if batch_norm else []
        layers.append(ACTIVATIONS[activation]())
        layers += [Dropout(p)] if p else []
        features = size
    return Sequential(*layers, _classifier(features, classes), seed=seed, dtype=dtype)


def lenet5(
    classes: int = 10,
    mean: Values = MEAN,
    std: Values = STD,
    scale: float = SCALE,
    seed: Seed = None,
    dtype: Any = "float32",
) -> Sequential:
    """LeNet-5 as it is built today: two convolutions of 5×5 pixels, each pooled, and three linear layers.

    Against the paper: ReLU for the scaled hyperbolic tangent; maxima for the averages with a trained coefficient and
    bias; every output channel of the second convolution reads all six input channels, not a chosen few; the outputs
    are logits for a softmax, not distances to fixed patterns. The paper puts the images in 32×32 pixels; here the
    first convolution pads them. With ten classes there are 61,706 parameters.

    Parameters
    ----------
    classes : int
    mean, std, scale
        As in `Normalize`.
    seed, dtype
        As in `Sequential`.

    Returns
    -------
    Sequential
        Takes (n, 28, 28) or (n, 1, 28, 28) arrays of any numeric dtype; returns logits (n, classes).

    References
    ----------
    LeCun, Bottou, Bengio & Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
    the IEEE 86(11), section II.
    """
    return Sequential(
        Normalize(mean, std, scale),
        Conv2d(1, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(400, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        _classifier(84, classes),
        seed=seed,
        dtype=dtype,
    )


def small_cnn(
    classes: int = 10,
    channels: int = 1,
    size: int | tuple[int, int] = 28,
    mean: Values = MEAN,
    std: Values = STD,
    scale: float = SCALE,
    seed: Seed = None,
    dtype: Any = "float32",
) -> Sequential:
    """A small convolutional network: two convolutions of 3×3 pixels to 8 and 16 channels, each pooled, one `Linear`.

    Parameters
    ----------
    classes : int
    channels : int
        Of an image.
    size : int or (height, width)
        Of an image, at least 4.
    mean, std, scale
        As in `Normalize`; mean and std may have a value for each channel.
    seed, dtype
        As in `Sequential`.

    Returns
    -------
    Sequential
        Takes (n, channels, height, width) arrays of any numeric dtype, of one channel also (n, height, width); returns
        logits (n, classes).
    """
    channels = check.positive_int("channels", channels)
    pooled = (side // 4 for side in check.pair("size", size, least=4))  # halved twice, rounded down
    return Sequential(
        Normalize(mean, std, scale),
        Conv2d(channels, 8, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(8, 16, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        _classifier(16 * math.prod(pooled), classes),
        seed=seed,
        dtype=dtype,
    )


BY_NAME: dict[str, Callable[..., Sequential]] = {"mlp": mlp, "lenet5": lenet5, "small_cnn": small_cnn}


def _sizes(hidden: Any) -> list[int]:
    try:
        sizes = list(hidden)
    except TypeError:
        raise InvalidTypeError(f"hidden is {hidden!r}; expected a sequence of integers, such as (100,)") from None
    return [check.positive_int(f"hidden[{i}]", size) for i, size in enumerate(sizes)]


def _classifier(features: int, classes: int) -> Linear:
    return Linear(features, check.positive_int("classes", classes))
