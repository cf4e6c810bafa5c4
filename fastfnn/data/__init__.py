"""Data: an IDX reader, MNIST and Fashion-MNIST, an embedded sample of MNIST, one-hot rows and batches."""

from fastfnn.data.batching import batches, one_hot
from fastfnn.data.idx import read_idx
from fastfnn.data.mnist import DataNotFoundError, load_fashion_mnist, load_mnist, load_mnist_sample

__all__ = [
    "DataNotFoundError",
    "batches",
    "load_fashion_mnist",
    "load_mnist",
    "load_mnist_sample",
    "one_hot",
    "read_idx",
]
