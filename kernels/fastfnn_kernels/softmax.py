"""Softmax, log-softmax and the fused softmax-log-NLL, over the rows of C-contiguous (n, classes) arrays.

Loop order: blocks of ROWS rows, and in each block three passes that stay in the first-level cache: (1) a row's
maximum is subtracted, (2) one exponential over the whole block as if it were flat, so that it vectorises however few
classes there are, (3) a row's sum, and what is made of it. Each thread does its share of the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference, vecmath
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels.team import share

#: Rows a block: 32 rows of 10 classes are 1.3 KB, and 20 full vectors of the widest kind.
ROWS = 32


@helper
def _row_maximum(x: NDArray[Any], row: int, classes: int) -> Any:
    """The largest of row `row` of flat `x`; NaN if it holds one, so that a NaN reaches the loss."""
    largest = x[row * classes]
    for j in range(row * classes, (row + 1) * classes):
        largest = x[j] if not x[j] <= largest else largest
    return largest


@helper
def _shift_rows(out: NDArray[Any], x: NDArray[Any], first: int, last: int, classes: int) -> None:
    """``out = x - max(x)`` row by row: the exponential then lies in (0, 1]."""
    for row in range(first, last):
        largest = _row_maximum(x, row, classes)
        for j in range(row * classes, (row + 1) * classes):
            out[j] = x[j] - largest


@helper
def _exp_rows(out: NDArray[Any], first: int, last: int, classes: int) -> None:
    for i in range(first * classes, last * classes):
        out[i] = vecmath.exp(out[i])


@helper
def _row_sum(x: NDArray[Any], row: int, classes: int) -> Any:
    total = x.dtype.type(0)
    for j in range(row * classes, (row + 1) * classes):
        total += x[j]
    return total


@kernel(reference.softmax)
def softmax(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """exp(x) / Σ exp(x) a row, finite for every finite x."""
    rows, classes = x.shape
    p, z, one = out.reshape(-1), x.reshape(-1), out.dtype.type(1)
    start, stop = share(rows, tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        _shift_rows(p, z, first, last, classes)
        _exp_rows(p, first, last, classes)
        for row in range(first, last):
            inverse = one / _row_sum(p, row, classes)
            for j in range(row * classes, (row + 1) * classes):
                p[j] *= inverse


@kernel(reference.softmax_backward)
def softmax_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], out: NDArray[Any], tid: int, n_threads: int) -> None:
    """p (g - <g, p>) a row: the Jacobian's product without the Jacobian."""
    rows, classes = out.shape
    start, stop = share(rows, tid, n_threads, ROWS)
    for row in range(start, stop):
        dot = out.dtype.type(0)
        for j in range(classes):
            dot += grad_out[row, j] * out[row, j]
        for j in range(classes):
            grad_x[row, j] = out[row, j] * (grad_out[row, j] - dot)


@kernel(reference.log_softmax, scratch=1)
def log_softmax(out: NDArray[Any], scratch: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """x - max - log Σ exp(x - max) a row. `scratch` has the shape of `x`."""
    rows, classes = x.shape
    y, z, e = out.reshape(-1), x.reshape(-1), scratch.reshape(-1)
    start, stop = share(rows, tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        _shift_rows(y, z, first, last, classes)
        for i in range(first * classes, last * classes):
            e[i] = vecmath.exp(y[i])
        for row in range(first, last):
            log_sum = vecmath.log(_row_sum(e, row, classes))
            for j in range(row * classes, (row + 1) * classes):
                y[j] -= log_sum


@kernel(reference.log_softmax_backward)
def log_softmax_backward(
    grad_x: NDArray[Any], grad_out: NDArray[Any], out: NDArray[Any], tid: int, n_threads: int
) -> None:
    """g - exp(out) Σ g a row."""
    rows, classes = out.shape
    start, stop = share(rows, tid, n_threads, ROWS)
    for row in range(start, stop):
        total = out.dtype.type(0)
        for j in range(classes):
            total += grad_out[row, j]
        for j in range(classes):
            grad_x[row, j] = grad_out[row, j] - vecmath.exp(out[row, j]) * total


@kernel(reference.softmax_cross_entropy, outputs=2)
def softmax_cross_entropy(
    losses: NDArray[np.float64],
    grad: NDArray[Any],
    logits: NDArray[Any],
    target: NDArray[np.int64],
    scale: float,
    label_smoothing: float,
    tid: int,
    n_threads: int,
) -> None:
    """Loss and gradient of softmax, logarithm and NLL in one pass over the logits, from class labels.

    ``losses[i] = log Σ exp(z_i) - Σ q_i z_i`` and ``grad[i] = scale (softmax(z_i) - q_i)``, where q_i is 1 - ε at
    the label plus ε / classes everywhere.

    Parameters
    ----------
    losses : (n,) float64
    grad, logits : (n, classes)
        Must not overlap.
    target : (n,) int64, each in [0, classes)
    scale, label_smoothing : scalars of the logits' dtype
        `scale` is 1 / n for the mean.
    """
    rows, classes = logits.shape
    g, z = grad.reshape(-1), logits.reshape(-1)
    one = grad.dtype.type(1)
    spread = label_smoothing / grad.dtype.type(classes)
    start, stop = share(rows, tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        _shift_rows(g, z, first, last, classes)
        # What the loss needs of the shifted logits is read now: the exponential overwrites them.
        for row in range(first, last):
            expected = np.float64((one - label_smoothing) * g[row * classes + target[row]])
            if label_smoothing > 0:
                expected += np.float64(spread * _row_sum(g, row, classes))
            losses[row] = -expected
        _exp_rows(g, first, last, classes)
        for row in range(first, last):
            total = _row_sum(g, row, classes)
            losses[row] += np.float64(vecmath.log(total))
            factor = scale / total
            for j in range(row * classes, (row + 1) * classes):
                g[j] = g[j] * factor - scale * spread
            g[row * classes + target[row]] -= scale * (one - label_smoothing)


@kernel(reference.softmax_cross_entropy, outputs=2)
def softmax_cross_entropy_rows(
    losses: NDArray[np.float64],
    grad: NDArray[Any],
    logits: NDArray[Any],
    target: NDArray[Any],
    scale: float,
    label_smoothing: float,
    tid: int,
    n_threads: int,
) -> None:
    """The same with `target` rows of weights (n, classes): one-hot, probabilities, or any weights at all.

    With s = Σ q: ``losses = s log Σ exp(z) - Σ q z`` and ``grad = scale (s softmax(z) - q)``.
    """
    rows, classes = logits.shape
    g, z, q = grad.reshape(-1), logits.reshape(-1), target.reshape(-1)
    keep = grad.dtype.type(1) - label_smoothing
    spread = label_smoothing / grad.dtype.type(classes)
    start, stop = share(rows, tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        _shift_rows(g, z, first, last, classes)
        for row in range(first, last):
            expected = np.float64(0)
            for j in range(row * classes, (row + 1) * classes):
                expected += np.float64((keep * q[j] + spread) * g[j])
            losses[row] = -expected
        _exp_rows(g, first, last, classes)
        for row in range(first, last):
            total, weight = _row_sum(g, row, classes), keep * _row_sum(q, row, classes) + label_smoothing
            losses[row] += np.float64(weight * vecmath.log(total))
            factor = scale * weight / total
            for j in range(row * classes, (row + 1) * classes):
                g[j] = g[j] * factor - scale * (keep * q[j] + spread)
