"""Batch normalisation (Ioffe & Szegedy 2015), in the pieces between which the threads of a team meet.

Arrays are seen as (n, channels, spatial): images have height * width as spatial, rows of features have 1.
The cuts are where threads, each with its own rows, must wait for each other::

    forward    moments of each block of BLOCK rows | combine the blocks, coefficients, apply to the rows
    backward   sums of each block of BLOCK rows    | combine the blocks, coefficients, apply to the rows

Blocks do not depend on the threads and are combined in order, so neither do the results. A thread's rows start at a
multiple of BLOCK. Statistics are float64, in two passes over a block that is in cache: right also for a mean far from
0. What is applied to the rows is in their dtype, and subtracts a rounded mean *first*, for the same reason; what the
rounding left over is in the shift.

Loop order over the rows: rows, channels, spatial; with a spatial of 1 the channels are the inner loop, so that it
vectorises either way. Sums of a block: channels, rows, spatial; with a spatial of 1, rows and then channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels._config import inlined, kernel
from fastfnn_kernels.reference.normalization import BLOCK
from fastfnn_kernels.team import share

#: Channels: whole turns of a vectorised loop. What is left over behind those may be rounded differently.
GRAIN = 64


@inlined
def _block_moments(mean: NDArray[np.float64], squares: NDArray[np.float64], x: NDArray[Any]) -> None:
    rows, channels, spatial = x.shape
    inverse = 1.0 / (rows * spatial)
    if spatial == 1:
        flat = x.reshape(rows, channels)
        for j in range(channels):
            mean[j] = 0.0
            squares[j] = 0.0
        for i in range(rows):
            for j in range(channels):
                mean[j] += np.float64(flat[i, j])
        for j in range(channels):
            mean[j] *= inverse
        for i in range(rows):
            for j in range(channels):
                distance = np.float64(flat[i, j]) - mean[j]
                squares[j] += distance * distance
        return
    for channel in range(channels):
        total = 0.0
        for i in range(rows):
            for j in range(spatial):
                total += np.float64(x[i, channel, j])
        centre, square = total * inverse, 0.0
        for i in range(rows):
            for j in range(spatial):
                distance = np.float64(x[i, channel, j]) - centre
                square += distance * distance
        mean[channel] = centre
        squares[channel] = square


@kernel(reference.batch_norm_moments)
def batch_norm_moments(partials: NDArray[np.float64], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """Mean, and sum of squared distances from it, of each block of BLOCK rows and channel.

    Parameters
    ----------
    partials : (blocks, 2, channels) float64
    x : (n, channels, spatial), spatial at least 1

    Notes
    -----
    Each thread writes the blocks of its share of the rows.
    """
    start, stop = share(x.shape[0], tid, n_threads, BLOCK)
    for first in range(start, stop, BLOCK):
        partial = partials[first // BLOCK]
        _block_moments(partial[0], partial[1], x[first : min(first + BLOCK, stop)])


@kernel(reference.batch_norm_combine, outputs=2)
def batch_norm_combine(
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    partials: NDArray[np.float64],
    rows: int,
    spatial: int,
    tid: int,
    n_threads: int,
) -> None:
    """Mean and biased variance of the batch from `batch_norm_moments`, block by block (Chan, Golub & LeVeque 1979).

    Parameters
    ----------
    mean, variance : (channels,) float64
    partials : (blocks, 2, channels) float64
    rows, spatial : of the batch, at least 1

    Notes
    -----
    Loop order: blocks, channels. Each thread does its share of the channels.
    """
    start, stop = share(mean.size, tid, n_threads, GRAIN)
    mean, squares = mean[start:stop], variance[start:stop]
    for j in range(mean.size):
        mean[j] = 0.0
        squares[j] = 0.0
    for b in range(partials.shape[0]):
        before, added = float(b * BLOCK), float(min(BLOCK, rows - b * BLOCK))
        ratio = added / (before + added)
        spread = ratio * before * spatial
        block_mean, block_squares = partials[b, 0, start:stop], partials[b, 1, start:stop]
        for j in range(mean.size):
            distance = block_mean[j] - mean[j]
            mean[j] += distance * ratio
            squares[j] += block_squares[j] + distance * distance * spread
    inverse = 1.0 / (float(rows) * spatial)
    for j in range(squares.size):
        squares[j] *= inverse


@kernel(reference.batch_norm_running, outputs=2, in_place=True)
def batch_norm_running(
    running_mean: NDArray[Any],
    running_var: NDArray[Any],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    count: int,
    momentum: float,
    tid: int,
    n_threads: int,
) -> None:
    """``running += momentum * (batch - running)``, with the unbiased variance of `count` values, as in PyTorch.

    All arrays are (channels,); `momentum` is float64. Each thread does its share of the channels.
    """
    dtype = running_mean.dtype.type
    unbiased = float(count) / max(1, count - 1)
    start, stop = share(mean.size, tid, n_threads, GRAIN)
    for j in range(start, stop):
        old_mean, old_var = np.float64(running_mean[j]), np.float64(running_var[j])
        running_mean[j] = dtype(old_mean + momentum * (mean[j] - old_mean))
        running_var[j] = dtype(old_var + momentum * (variance[j] * unbiased - old_var))


@kernel(reference.batch_norm_coefficients, outputs=3)
def batch_norm_coefficients(
    centre: NDArray[Any],
    factor: NDArray[Any],
    shift: NDArray[Any],
    mean: NDArray[Any],
    variance: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    eps: float,
    tid: int,
    n_threads: int,
) -> None:
    """What `batch_norm_apply` takes: the rounded mean, weight / std, and the bias with what the rounding left over.

    All arrays are (channels,), the results in the rows' dtype; `eps` is float64. Each thread does its share of the
    channels.
    """
    dtype = centre.dtype.type
    start, stop = share(centre.size, tid, n_threads, GRAIN)
    for j in range(start, stop):
        scale = np.float64(weight[j]) / math.sqrt(np.float64(variance[j]) + eps)
        centre[j] = dtype(mean[j])
        factor[j] = dtype(scale)
        shift[j] = dtype(np.float64(bias[j]) - (np.float64(mean[j]) - np.float64(centre[j])) * scale)


@kernel(reference.batch_norm_apply)
def batch_norm_apply(
    out: NDArray[Any],
    x: NDArray[Any],
    centre: NDArray[Any],
    factor: NDArray[Any],
    shift: NDArray[Any],
    relu: bool,
    tid: int,
    n_threads: int,
) -> None:
    """``(x - centre) * factor + shift`` by channels, through a ReLU where asked; NaN stays NaN.

    Parameters
    ----------
    out, x : (n, channels, spatial)
    centre, factor, shift : (channels,)
        From `batch_norm_coefficients`, all of the rows' dtype.

    Notes
    -----
    Each thread writes its share of the rows.
    """
    lowest = x.dtype.type(0 if relu else -np.inf)
    start, stop = share(x.shape[0], tid, n_threads, BLOCK)
    x, out = x[start:stop], out[start:stop]
    rows, channels, spatial = x.shape
    if spatial == 1:
        flat_x, flat_out = x.reshape(rows, channels), out.reshape(rows, channels)
        for i in range(rows):
            for j in range(channels):
                value = (flat_x[i, j] - centre[j]) * factor[j] + shift[j]
                flat_out[i, j] = lowest if value < lowest else value
        return
    for i in range(rows):
        for channel in range(channels):
            c, f, s = centre[channel], factor[channel], shift[channel]
            for j in range(spatial):
                value = (x[i, channel, j] - c) * f + s
                out[i, channel, j] = lowest if value < lowest else value


@inlined
def _block_products(
    grads: NDArray[np.float64],
    products: NDArray[np.float64],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    mean: NDArray[Any],
) -> None:
    """Σ g and Σ g (x - mean) of a block, by channels."""
    rows, channels, spatial = x.shape
    if spatial == 1:
        flat_x, flat_g = x.reshape(rows, channels), grad_out.reshape(rows, channels)
        for j in range(channels):
            grads[j] = 0.0
            products[j] = 0.0
        for i in range(rows):
            for j in range(channels):
                g = np.float64(flat_g[i, j])
                grads[j] += g
                products[j] += g * (np.float64(flat_x[i, j]) - mean[j])
        return
    for channel in range(channels):
        centre, total, product = np.float64(mean[channel]), 0.0, 0.0
        for i in range(rows):
            for j in range(spatial):
                g = np.float64(grad_out[i, channel, j])
                total += g
                product += g * (np.float64(x[i, channel, j]) - centre)
        grads[channel] = total
        products[channel] = product


@kernel(reference.batch_norm_backward_sums)
def batch_norm_backward_sums(
    partials: NDArray[np.float64],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    mean: NDArray[Any],
    variance: NDArray[Any],
    eps: float,
    tid: int,
    n_threads: int,
) -> None:
    """Σ g and Σ g x̂ of each block of BLOCK rows and channel.

    Parameters
    ----------
    partials : (blocks, 2, channels) float64
    grad_out, x : (n, channels, spatial)
    mean, variance : (channels,)
        Of the batch in training, else the running ones.
    eps : float64

    Notes
    -----
    Each thread writes the blocks of its share of the rows.
    """
    start, stop = share(x.shape[0], tid, n_threads, BLOCK)
    for first in range(start, stop, BLOCK):
        partial, last = partials[first // BLOCK], min(first + BLOCK, stop)
        products = partial[1]
        _block_products(partial[0], products, grad_out[first:last], x[first:last], mean)
        for j in range(products.size):
            products[j] /= math.sqrt(np.float64(variance[j]) + eps)


@kernel(reference.batch_norm_backward_combine, outputs=2)
def batch_norm_backward_combine(
    grad_bias: NDArray[np.float64],
    grad_weight: NDArray[np.float64],
    partials: NDArray[np.float64],
    tid: int,
    n_threads: int,
) -> None:
    """The sums of `batch_norm_backward_sums` over all blocks, which are the gradients of bias and weight.

    Loop order: blocks, channels. Each thread does its share of the (channels,).
    """
    start, stop = share(grad_bias.size, tid, n_threads, GRAIN)
    grads, products = grad_bias[start:stop], grad_weight[start:stop]
    for j in range(grads.size):
        grads[j] = 0.0
        products[j] = 0.0
    for b in range(partials.shape[0]):
        block_grads, block_products = partials[b, 0, start:stop], partials[b, 1, start:stop]
        for j in range(grads.size):
            grads[j] += block_grads[j]
            products[j] += block_products[j]


@kernel(reference.batch_norm_backward_coefficients, outputs=4)
def batch_norm_backward_coefficients(
    centre: NDArray[Any],
    factor: NDArray[Any],
    slope: NDArray[Any],
    offset: NDArray[Any],
    mean: NDArray[Any],
    variance: NDArray[Any],
    weight: NDArray[Any],
    grad_bias: NDArray[np.float64],
    grad_weight: NDArray[np.float64],
    count: int,
    training: bool,
    eps: float,
    tid: int,
    n_threads: int,
) -> None:
    """What `batch_norm_backward_apply` takes, from the sums over all `count` values of a channel.

    In training ``grad_x = factor (g - Σ g / count - x̂ Σ g x̂ / count)``, with ``x̂ = (x - mean) / std`` and
    ``factor = weight / std``: a line in x. Else the statistics are constants, and slope and offset are 0.
    All arrays are (channels,), the results in the rows' dtype; `eps` is float64. Each thread does its share of the
    channels.
    """
    dtype = centre.dtype.type
    start, stop = share(centre.size, tid, n_threads, GRAIN)
    for j in range(start, stop):
        inverse = 1.0 / math.sqrt(np.float64(variance[j]) + eps)
        scale = np.float64(weight[j]) * inverse
        part = scale / float(count) if training else 0.0
        steepness = -part * inverse * grad_weight[j]
        centre[j] = dtype(mean[j])
        factor[j] = dtype(scale)
        slope[j] = dtype(steepness)
        offset[j] = dtype(-part * grad_bias[j] - steepness * (np.float64(mean[j]) - np.float64(centre[j])))


@kernel(reference.batch_norm_backward_apply)
def batch_norm_backward_apply(
    grad_x: NDArray[Any],
    grad_out: NDArray[Any],
    x: NDArray[Any],
    centre: NDArray[Any],
    factor: NDArray[Any],
    slope: NDArray[Any],
    offset: NDArray[Any],
    tid: int,
    n_threads: int,
) -> None:
    """``factor * grad_out + slope * (x - centre) + offset`` by channels.

    Parameters
    ----------
    grad_x, grad_out, x : (n, channels, spatial)
    centre, factor, slope, offset : (channels,)
        From `batch_norm_backward_coefficients`, all of the rows' dtype.

    Notes
    -----
    Each thread writes its share of the rows.
    """
    start, stop = share(x.shape[0], tid, n_threads, BLOCK)
    x, grad_out, grad_x = x[start:stop], grad_out[start:stop], grad_x[start:stop]
    rows, channels, spatial = x.shape
    if spatial == 1:
        flat_x, flat_g, result = (
            x.reshape(rows, channels),
            grad_out.reshape(rows, channels),
            grad_x.reshape(rows, channels),
        )
        for i in range(rows):
            for j in range(channels):
                result[i, j] = factor[j] * flat_g[i, j] + (slope[j] * (flat_x[i, j] - centre[j]) + offset[j])
        return
    for i in range(rows):
        for channel in range(channels):
            c, f, k, s = centre[channel], factor[channel], slope[channel], offset[channel]
            for j in range(spatial):
                grad_x[i, channel, j] = f * grad_out[i, channel, j] + (k * (x[i, channel, j] - c) + s)
