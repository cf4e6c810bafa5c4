"""Convolution, with what `lowering` has fused to it.

Where fields are called words, they are the address of a geometry's words and how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels._config import helper
from fastfnn_kernels.convolution import geometry as geo
from fastfnn_kernels.convolution import images
from fastfnn_kernels.convolution.geometry import BLOCK_ROWS
from fastfnn_kernels.operations._record import my_flat, operation, real
from fastfnn_kernels.program import ADDS, FIRST, LAST, N_THREADS, ROWS, TID
from fastfnn_kernels.simd import array_at, word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_forward, _backward, _sum_blocks = images.forward_images, images.backward_images, images.sum_blocks.jitted


@helper
def _out_width(w: Any, after: int) -> int:
    """Elements of an image's output."""
    height, width = w[geo.OUT_HEIGHT], w[geo.OUT_WIDTH]
    return w[geo.FILTERS] * (height // 2 * (width // 2) if after >= images.POOL else height * width)


@helper
def _weights(w: Any) -> int:
    return w[geo.FILTERS] * (w[geo.CHANNELS] // w[geo.GROUPS]) * w[geo.TAP_COUNT]


@operation
def convolution(dtype: Any) -> Callable[[int, int], None]:
    """out (rows), index (rows of int32), scratch, x (rows), weight, bias, words, what follows, scratch a thread.

    The last field is the distance in bytes from one thread's weight and bias to the next's, for such as are folded.
    """

    def convolution(record: int, at: int) -> None:
        w = array_at(word(record, 7), word(record, 8), np.int64)
        after, elements, own = word(record, 9), word(record, 10), word(at, TID) * word(record, 11)
        out = my_flat(record, 1, at, _out_width(w, after), dtype)
        index = my_flat(record, 2, at, _out_width(w, after) if after >= images.POOL else 0, np.int32)
        scratch = array_at(word(record, 3) + word(at, TID) * elements * out.itemsize, elements, dtype)
        x = my_flat(record, 4, at, w[geo.CHANNELS] * w[geo.HEIGHT] * w[geo.WIDTH], dtype)
        weight, bias = (
            array_at(word(record, 5) + own, _weights(w), dtype),
            array_at(word(record, 6) + own, w[geo.FILTERS], dtype),
        )
        _forward(out, index, scratch.reshape(1, elements), x, weight, bias, w, after, 0, 1)

    return convolution


@operation
def convolution_backward(dtype: Any) -> Callable[[int, int], None]:
    """grad_x (rows, or 0), partials, scratch, grad_out, x, weight, out, index (rows), words, what follows, scratch.

    The partial sums are one row for each block of the chunk's rows; the last field is scratch elements a thread.
    """

    def convolution_backward(record: int, at: int) -> None:
        w = array_at(word(record, 9), word(record, 10), np.int64)
        after, elements = word(record, 11), word(record, 12)
        image, sums = w[geo.CHANNELS] * w[geo.HEIGHT] * w[geo.WIDTH], _weights(w) + w[geo.FILTERS]
        grad_x = my_flat(record, 1, at, image if word(record, 1) else 0, dtype)
        blocks = (word(at, LAST) + BLOCK_ROWS - 1) // BLOCK_ROWS
        partials = array_at(word(record, 2), blocks * sums, dtype).reshape(blocks, sums)[
            word(at, FIRST) // BLOCK_ROWS :
        ]
        scratch = array_at(word(record, 3) + word(at, TID) * elements * grad_x.itemsize, elements, dtype)
        grad_out, x = my_flat(record, 4, at, _out_width(w, after), dtype), my_flat(record, 5, at, image, dtype)
        weight = array_at(word(record, 6), _weights(w), dtype)
        out = my_flat(record, 7, at, _out_width(w, after), dtype)
        index = my_flat(record, 8, at, _out_width(w, after) if after >= images.POOL else 0, np.int32)
        # fmt: off
        _backward(grad_x, partials, scratch.reshape(1, elements), grad_out, x, weight, out, index, w, after, 0, 1)
        # fmt: on

    return convolution_backward


@operation
def sum_blocks(dtype: Any) -> Callable[[int, int], None]:
    """grad_weight, grad_bias, partials, size of each: gradients from the blocks. Each thread does its share."""

    def sum_blocks(record: int, at: int) -> None:
        weights, biases, sums = word(record, 4), word(record, 5), word(record, 6)
        blocks = (word(at, ROWS) + BLOCK_ROWS - 1) // BLOCK_ROWS
        grad_weight, grad_bias = array_at(word(record, 1), weights, dtype), array_at(word(record, 2), biases, dtype)
        partials = array_at(word(record, 3), blocks * sums, dtype).reshape(blocks, sums)
        _sum_blocks(grad_weight, grad_bias, partials, word(at, ADDS) != 0, word(at, TID), word(at, N_THREADS))

    return sum_blocks


@operation
def fold_batch_norm(dtype: Any) -> Callable[[int, int], None]:
    """out (a thread's weight, then its bias), weight, bias, mean, variance, gain, shift, sizes of weight and bias, eps.

    A convolution whose filters are scaled does what batch normalisation would do to its output:
    ``γ (conv(x) + b - μ) / σ + β = conv'(x) + b'`` with ``weight' = weight γ / σ`` and ``b' = (b - μ) γ / σ + β``.
    """

    def fold_batch_norm(record: int, at: int) -> None:
        weights, filters = word(record, 8), word(record, 9)
        item = array_at(word(record, 1), 1, dtype).itemsize
        out = array_at(word(record, 1) + word(at, TID) * (weights + filters) * item, weights + filters, dtype)
        weight, bias = array_at(word(record, 2), weights, dtype), array_at(word(record, 3), filters, dtype)
        mean, variance = array_at(word(record, 4), filters, dtype), array_at(word(record, 5), filters, dtype)
        gain, shift = array_at(word(record, 6), filters, dtype), array_at(word(record, 7), filters, dtype)
        depth = weights // filters
        for k in range(filters):
            factor = gain[k] / np.sqrt(variance[k] + dtype(real(record, 10)))
            for d in range(depth):
                out[k * depth + d] = weight[k * depth + d] * factor
            out[weights + k] = (bias[k] - mean[k]) * factor + shift[k]

    return fold_batch_norm
