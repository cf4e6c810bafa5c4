"""Convolution (cross-correlation, as in every network library), tap by tap.

``out[n, k, i, j] = bias[k] + Σ_{c, u, v} weight[k, c, u, v] * x[n, c, i * stride + u * dilation - padding, …]`` with x
taken as zero outside the image. Every tap is a matrix product over the channels of a shifted image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn_kernels.reference.activations import relu, relu_backward
from fastfnn_kernels.reference.pool import max_pool

Array = NDArray[np.float64]
Pair = Any  # a number, or (height, width)

PLAIN, RELU, POOL, RELU_POOL = range(4)


def _pair(value: Any) -> Any:
    height, width = (value, value) if np.isscalar(value) else value
    return height, width


def _padded(x: Array, padding: Pair) -> Array:
    (top, left) = _pair(padding)
    return np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))


def _taps(
    padded: Array, kernel: tuple[int, int], stride: Pair, dilation: Pair
) -> list[tuple[int, int, tuple[slice, slice]]]:
    """Each tap (u, v), and which pixels of the padded image it meets."""
    (stride_h, stride_w), (dilation_h, dilation_w) = _pair(stride), _pair(dilation)
    out_h = (padded.shape[2] - dilation_h * (kernel[0] - 1) - 1) // stride_h + 1
    out_w = (padded.shape[3] - dilation_w * (kernel[1] - 1) - 1) // stride_w + 1
    taps = []
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            top, left = u * dilation_h, v * dilation_w
            rows = slice(top, top + (out_h - 1) * stride_h + 1, stride_h)
            taps.append((u, v, (rows, slice(left, left + (out_w - 1) * stride_w + 1, stride_w))))
    return taps


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """x (n, c, h, w), weight (k, c / groups, kh, kw), bias (k,) to (n, k, oh, ow)."""
    filters = np.asarray(weight, np.float64)
    padded = _padded(np.asarray(x, np.float64), padding)
    parts = []
    for channels, own in zip(np.split(padded, groups, axis=1), np.split(filters, groups), strict=True):
        taps = _taps(padded, own.shape[2:], stride, dilation)
        parts.append(
            sum(
                np.einsum("kc,nchw->nkhw", own[:, :, u, v], channels[:, :, pixels[0], pixels[1]])
                for u, v, pixels in taps
            )
        )
    out = np.concatenate(parts, axis=1)
    return out if bias is None else out + np.asarray(bias, np.float64)[:, None, None]


def conv2d_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """The gradients for `x`, `weight` and `bias`."""
    grad, filters = np.asarray(grad_out, np.float64), np.asarray(weight, np.float64)
    padded = _padded(np.asarray(x, np.float64), padding)
    grad_padded, grad_weight = np.zeros_like(padded), np.zeros_like(filters)
    for group in range(groups):
        own = slice(group * len(filters) // groups, (group + 1) * len(filters) // groups)
        channels = slice(group * filters.shape[1], (group + 1) * filters.shape[1])
        for u, v, (rows, columns) in _taps(padded, filters.shape[2:], stride, dilation):
            pixels = padded[:, channels, rows, columns]
            grad_weight[own, :, u, v] = np.einsum("nkhw,nchw->kc", grad[:, own], pixels)
            grad_padded[:, channels, rows, columns] += np.einsum("kc,nkhw->nchw", filters[own, :, u, v], grad[:, own])
    (top, left), (height, width) = _pair(padding), np.shape(x)[2:]
    return grad_padded[:, :, top : top + height, left : left + width], grad_weight, grad.sum(axis=(0, 2, 3))


def conv2d_fused(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    after: int,
) -> tuple[Array, NDArray[np.int32]]:
    """A convolution and what follows it: nothing, a ReLU, 2×2 max-pooling, or both.

    Returns
    -------
    out
    index : (n, k, ph, pw), or empty without pooling
        The place ``i * line + j`` of each window's largest element in its plane (see `max_pool`);
        `line` is the output's width and the columns that the filter reaches beyond its first.
    """
    out = conv2d(x, weight, bias, stride, padding, dilation, groups)
    if after in (PLAIN, RELU):
        return (relu(out) if after == RELU else out), np.empty(0, np.int32)
    (rows, columns), reach = out.shape[2:], (np.shape(weight)[3] - 1) * _pair(dilation)[1] // _pair(stride)[1]
    pooled, index = max_pool(out, (rows, columns, rows // 2, columns // 2, 2, 2, 2, 2, 0, 0, 1, 1))
    places = index // columns * (columns + reach) + index % columns
    return (relu(pooled) if after == RELU_POOL else pooled), places.astype(np.int32)


def conv2d_fused_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    out: ArrayLike,
    index: Any,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    after: int,
) -> tuple[Array, Array, Array]:
    """The gradients for `x`, `weight` and `bias` of `conv2d_fused`, from its outputs."""
    grad = np.asarray(grad_out, np.float64)
    if after in (RELU, RELU_POOL):
        grad = relu_backward(grad, out)
    if after in (POOL, RELU_POOL):
        shape = conv2d(x, weight, None, stride, padding, dilation, groups).shape
        line = shape[3] + (np.shape(weight)[3] - 1) * _pair(dilation)[1] // _pair(stride)[1]
        full = np.zeros(shape)
        for n, k, i, j in np.ndindex(grad.shape):
            full[n, k, index[n, k, i, j] // line, index[n, k, i, j] % line] = grad[n, k, i, j]
        grad = full
    return conv2d_backward(grad, x, weight, stride, padding, dilation, groups)


def conv2d_fused_backward_weight(*args: Any) -> tuple[Array, Array, Array]:
    """The same without the gradient for `x`, in whose place nothing is."""
    _, grad_weight, grad_bias = conv2d_fused_backward(*args)
    return np.empty(0), grad_weight, grad_bias


def sum_blocks(
    grad_weight: ArrayLike, grad_bias: ArrayLike, partials: ArrayLike, accumulate: bool
) -> tuple[Array, Array]:
    """``grad (+)= partials.sum(axis=0)``: the first columns are the weight's, then come the bias's."""
    total = np.asarray(partials, np.float64).sum(axis=0)
    outs = np.asarray(grad_weight, np.float64), np.asarray(grad_bias, np.float64)
    parts = total[: outs[0].size], total[outs[0].size : outs[0].size + outs[1].size]
    return (parts[0] + outs[0], parts[1] + outs[1]) if accumulate else parts


def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """Convolve (n, c, length) with filters (k, c / groups, size): images of one row."""
    lines, filters = np.asarray(x)[:, :, None], np.asarray(weight)[:, :, None]
    return conv2d(lines, filters, bias, (1, stride), (0, padding), (1, dilation), groups)[:, :, 0]


def conv1d_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `conv1d`."""
    grads, lines, filters = (np.asarray(a)[:, :, None] for a in (grad_out, x, weight))
    settings = (1, stride), (0, padding), (1, dilation), groups
    grad_x, grad_weight, grad_bias = conv2d_backward(grads, lines, filters, *settings)
    return grad_x[:, :, 0], grad_weight[:, :, 0], grad_bias
