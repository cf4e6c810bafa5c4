"""The networks of the peers table as data: each contender builds them from here in its own library's terms.

Weights are (in, out) in linear layers and (out, in, height, width) in convolutions; images are (channels, height,
width), and flattened in this order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SEED = 1
CLASSES = 10


class Linear(NamedTuple):
    """``x @ weight + bias``."""

    n_in: int
    n_out: int


class Conv(NamedTuple):
    """A convolution of stride 1 with a bias."""

    c_in: int
    c_out: int
    kernel: int
    padding: int


#: Layers without parameters; the pooling is 2×2.
RELU, TANH, POOL, FLATTEN = "ReLU", "tanh", "max-pool", "flatten"


class Network(NamedTuple):
    """What one sample looks like, the layers that it goes through, and what it learns."""

    shape: tuple[int, ...]
    layers: tuple[Linear | Conv | str, ...]
    rows: int = 0  #: of random numbers, where it does not learn MNIST

    @property
    def of_images(self) -> bool:
        """Whether samples are (channels, height, width)."""
        return len(self.shape) == 3

    @property
    def of_digits(self) -> bool:
        """Whether samples are MNIST's, flat or not."""
        return np.prod(self.shape) == 784 and not self.rows

    @property
    def of_numbers(self) -> bool:
        """Whether it learns a number by the mean squared error, not classes by softmax cross-entropy."""
        last = self.layers[-1]
        return isinstance(last, Linear) and last.n_out == 1

    def multiplications(self) -> list[int]:
        """Of one sample, for each layer with weights."""
        counts, side = [], self.shape[-1]
        for layer in self.layers:
            if isinstance(layer, Linear):
                counts.append(layer.n_in * layer.n_out)
            elif isinstance(layer, Conv):
                side += 2 * layer.padding - layer.kernel + 1
                counts.append(side**2 * layer.c_in * layer.c_out * layer.kernel**2)
            elif layer == POOL:
                side //= 2
        return counts


BLOCKS = ((1, 28, 8), (8, 14, 16), (16, 28, 32), (32, 14, 64))  # channels in, side, channels out
MLP, LENET, CNN, CONV = "784-100-10", "LeNet-5", "small CNN", "conv 32×14×14 → 64"
TANH_MLP, TABLE, TINY = "4-32-16-4 tanh", "100-256-256-1", "4-8-2"
DENSE = f"{MLP}, dense inputs"  # without MNIST's zeros, which a library might skip
CIFAR = "CIFAR-sized CNN"


def block_name(c_in: int, side: int, c_out: int) -> str:
    """The name of a convolution with ReLU and pooling in `NETWORKS`."""
    return f"conv block {c_in}×{side}×{side} → {c_out}"


_MLP_LAYERS = (Linear(784, 100), RELU, Linear(100, CLASSES))

#: Random rows are many batches, more than caches hold where MNIST is, and for `TANH_MLP` the one full batch.
NETWORKS = {
    MLP: Network((784,), _MLP_LAYERS),
    DENSE: Network((784,), _MLP_LAYERS, rows=20_000),
    TANH_MLP: Network((4,), (Linear(4, 32), TANH, Linear(32, 16), TANH, Linear(16, 4)), rows=10_000),
    TABLE: Network((100,), (Linear(100, 256), RELU, Linear(256, 256), RELU, Linear(256, 1)), rows=2**15),
    TINY: Network((4,), (Linear(4, 8), RELU, Linear(8, 2))),
    LENET: Network(
        (1, 28, 28),
        (
            *(Conv(1, 6, 5, 2), RELU, POOL),
            *(Conv(6, 16, 5, 0), RELU, POOL, FLATTEN),
            *(Linear(400, 120), RELU, Linear(120, 84), RELU, Linear(84, CLASSES)),
        ),
    ),
    CNN: Network(
        (1, 28, 28),
        (Conv(1, 8, 3, 1), RELU, POOL, Conv(8, 16, 3, 1), RELU, POOL, FLATTEN, Linear(784, CLASSES)),
    ),
    CIFAR: Network(
        (3, 32, 32),
        (
            *(Conv(3, 32, 3, 1), RELU, Conv(32, 32, 3, 1), RELU, POOL),
            *(Conv(32, 64, 3, 1), RELU, Conv(64, 64, 3, 1), RELU, POOL, FLATTEN),
            *(Linear(4096, 256), RELU, Linear(256, CLASSES)),
        ),
        rows=1024,
    ),
    CONV: Network((32, 14, 14), (Conv(32, 64, 3, 1),)),
} | {
    block_name(c_in, side, c_out): Network((c_in, side, side), (Conv(c_in, c_out, 3, 1), RELU, POOL))
    for c_in, side, c_out in BLOCKS
}


def first_weights(network: Network, seed: int = SEED) -> list[Array]:
    """Weight and bias of each layer that has them: He's, drawn once for all contenders."""
    rng, arrays = np.random.default_rng(seed), []
    for layer in network.layers:
        if isinstance(layer, Linear):
            shape, fan_in, outputs = (layer.n_in, layer.n_out), layer.n_in, layer.n_out
        elif isinstance(layer, Conv):
            shape = (layer.c_out, layer.c_in, layer.kernel, layer.kernel)
            fan_in, outputs = layer.c_in * layer.kernel**2, layer.c_out
        else:
            continue
        weight = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
        arrays += [weight.astype(np.float32), np.zeros(outputs, np.float32)]
    return arrays


def forward(network: Network, weights: list[Array], x: Array) -> Array:
    """Outputs in float64, plainly: what every contender's weights are judged by."""
    x, remaining = x.astype(np.float64), iter(np.asarray(array, np.float64) for array in weights)
    for layer in network.layers:
        if isinstance(layer, Linear):
            x = x @ next(remaining) + next(remaining)
        elif isinstance(layer, Conv):
            x = _convolution(x, next(remaining), next(remaining), layer.padding)
        elif layer == RELU:
            x = np.maximum(x, 0)
        elif layer == TANH:
            x = np.tanh(x)
        elif layer == POOL:
            n, channels, height, width = x.shape
            x = x.reshape(n, channels, height // 2, 2, width // 2, 2).max((3, 5))
        else:
            x = x.reshape(len(x), -1)
    return x


def _convolution(x: Array, weight: Array, bias: Array, padding: int) -> Array:
    """A matrix product for each place in the kernel."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kernel = weight.shape[2]
    height, width = x.shape[2] - kernel + 1, x.shape[3] - kernel + 1
    out: Any = bias[:, None, None, None]
    for i in range(kernel):
        for j in range(kernel):
            out = out + np.tensordot(weight[:, :, i, j], x[:, :, i : i + height, j : j + width], axes=(1, 1))
    return out.transpose(1, 0, 2, 3)
