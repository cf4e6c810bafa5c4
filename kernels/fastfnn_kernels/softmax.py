"""Softmax, log-softmax and the fused softmax-log-NLL, over the rows of C-contiguous (n, classes) arrays.

Loop order: blocks of ROWS rows, and in each block three passes that stay in the first-level cache: (1) a row's
maximum is subtracted, (2) one exponential over the whole block as if it were flat, so that it vectorises however few
classes there are, (3) a row's sum, and what is made of it. Each thread does its share of the rows.

The kernel that every training step runs, `softmax_cross_entropy`, does it with explicit vectors instead, because LLVM
vectorises loops of ten steps badly. Its passes over a block are: (1) `simd.make_softmax_rows`: maximum, exponential,
sum and scaled quotient, TILE rows side by side; a row of few classes is one masked vector that is read once and written
once. The maxima and sums go to the stack. (2) The logarithms of all the block's sums, in one vectorised loop. (3) The
losses, and what the label takes off the gradient: a scalar a row. A row's result does not depend on the other rows of
its tile, so neither on where it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference, vecmath
from fastfnn_kernels._config import helper, inlined, kernel
from fastfnn_kernels.simd import make_softmax_rows, stack_array
from fastfnn_kernels.team import share

#: Rows a block: of ten classes, 2.5 KB.
ROWS = 64


#: Rows that `_softmax_rows` takes side by side; divides ROWS. Measured at ten classes: 8 beats 1 by a quarter to a
#: third, whatever the vector width; 16 is no better.
TILE = 8

_softmax_rows = make_softmax_rows(
    {
        # log(1e-30) and log(1e-290), as in `_negligible_gradient`; ln(2) as in `vecmath`
        32: (-69.0, (0.693145751953125, 1.4286068203094173e-06), vecmath._EXP_32),
        64: (-667.0, (0.6931471805598903, 5.497923018708371e-14), vecmath._EXP_64),
    }
)


# A row is written x[i, j] throughout: a view x[i] would count a reference, atomically, for every row.


@inlined
def _shift_rows(out: NDArray[Any], x: NDArray[Any]) -> None:
    """``out = x - max(x)`` row by row: the exponential then lies in (0, 1]. A NaN stays one, and so shows."""
    for i in range(x.shape[0]):
        largest = x[i, 0]
        for j in range(x.shape[1]):
            largest = x[i, j] if x[i, j] > largest else largest
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] - largest


@inlined
def _exponential(x: NDArray[Any], negligible: Any) -> None:
    """In place, of one array: with a second one that is the same memory LLVM's overlap test would choose scalar code.

    Results below `negligible` become 0.
    """
    flat, zero = x.reshape(-1), x.dtype.type(0)
    for i in range(flat.size):
        e = vecmath.exp(flat[i])
        flat[i] = zero if e < negligible else e


@helper
def _negligible_gradient(x: NDArray[Any]) -> Any:
    """What a gradient may round to 0: far below an epsilon of the row's sum of 1, yet far above the subnormals.

    Subnormal numbers slow a processor down tens of times, in this kernel and in the products that follow.
    """
    return x.dtype.type(1e-30) if x.itemsize == 4 else x.dtype.type(1e-290)


@inlined
def _row_sum(x: NDArray[Any], i: int) -> Any:
    total = x.dtype.type(0)
    for j in range(x.shape[1]):
        total += x[i, j]
    return total


@kernel(reference.softmax)
def softmax(out: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """exp(x) / Σ exp(x) a row, finite for every finite x."""
    one = out.dtype.type(1)
    start, stop = share(x.shape[0], tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        p = out[first:last]
        _shift_rows(p, x[first:last])
        _exponential(p, p.dtype.type(0))
        for i in range(p.shape[0]):
            inverse = one / _row_sum(p, i)
            for j in range(p.shape[1]):
                p[i, j] *= inverse


@kernel(reference.softmax_backward)
def softmax_backward(grad_x: NDArray[Any], grad_out: NDArray[Any], out: NDArray[Any], tid: int, n_threads: int) -> None:
    """p (g - <g, p>) a row: the Jacobian's product without the Jacobian."""
    zero, negligible = out.dtype.type(0), _negligible_gradient(out)
    start, stop = share(out.shape[0], tid, n_threads, ROWS)
    p, g, result = out[start:stop], grad_out[start:stop], grad_x[start:stop]
    for i in range(p.shape[0]):
        dot = zero
        for j in range(p.shape[1]):
            dot += g[i, j] * p[i, j]
        for j in range(p.shape[1]):
            value = p[i, j] * (g[i, j] - dot)
            result[i, j] = zero if abs(value) < negligible else value


@kernel(reference.log_softmax, scratch=1)
def log_softmax(out: NDArray[Any], scratch: NDArray[Any], x: NDArray[Any], tid: int, n_threads: int) -> None:
    """x - max - log Σ exp(x - max) a row. `scratch` has the shape of `x`."""
    start, stop = share(x.shape[0], tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        y, e = out[first:last], scratch[first:last]
        _shift_rows(y, x[first:last])
        _shift_rows(e, x[first:last])
        _exponential(e, e.dtype.type(0))
        for i in range(y.shape[0]):
            log_sum = vecmath.log(_row_sum(e, i))
            for j in range(y.shape[1]):
                y[i, j] -= log_sum


@kernel(reference.log_softmax_backward)
def log_softmax_backward(
    grad_x: NDArray[Any], grad_out: NDArray[Any], out: NDArray[Any], tid: int, n_threads: int
) -> None:
    """g - exp(out) Σ g a row."""
    start, stop = share(out.shape[0], tid, n_threads, ROWS)
    y, g, result = out[start:stop], grad_out[start:stop], grad_x[start:stop]
    for i in range(y.shape[0]):
        total = _row_sum(g, i)
        for j in range(y.shape[1]):
            result[i, j] = g[i, j] - vecmath.exp(y[i, j]) * total


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
    classes = logits.shape[1]
    keep = grad.dtype.type(1) - label_smoothing
    spread = label_smoothing / grad.dtype.type(classes)
    largest, totals = stack_array(grad, ROWS), stack_array(grad, ROWS)
    start, stop = share(logits.shape[0], tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        z, g, label, loss = logits[first:last], grad[first:last], target[first:last], losses[first:last]
        in_tiles = loss.size // TILE * TILE
        for i in range(0, in_tiles, TILE):
            j = i * classes
            _softmax_rows(TILE, g, j, z, j, classes, scale, -scale * spread, largest, totals, i)
        for i in range(in_tiles, loss.size):
            j = i * classes
            _softmax_rows(1, g, j, z, j, classes, scale, -scale * spread, largest, totals, i)
        for i in range(loss.size):
            totals[i] = vecmath.log(totals[i])
        for i in range(loss.size):
            loss[i] = np.float64(keep * (largest[i] - z[i, label[i]])) + np.float64(totals[i])
            g[i, label[i]] -= scale * keep
        if label_smoothing > 0:
            for i in range(loss.size):
                below = np.float64(0)
                for j in range(classes):
                    below += np.float64(largest[i] - z[i, j])
                loss[i] += np.float64(spread) * below


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

    With s = Σ q: ``losses = s log Σ exp(z) - Σ q z`` and ``grad = scale (s softmax(z) - q)``. A weight of 0 counts
    nothing, even against a logit of -inf.
    """
    negligible = _negligible_gradient(grad)
    keep = grad.dtype.type(1) - label_smoothing
    spread = label_smoothing / grad.dtype.type(logits.shape[1])
    start, stop = share(logits.shape[0], tid, n_threads, ROWS)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        g, q, loss = grad[first:last], target[first:last], losses[first:last]
        _shift_rows(g, logits[first:last])
        for i in range(loss.size):
            expected = np.float64(0)
            for j in range(g.shape[1]):
                weight = keep * q[i, j] + spread
                if weight != 0:
                    expected += np.float64(weight * g[i, j])
            loss[i] = -expected
        _exponential(g, negligible)
        for i in range(loss.size):
            total, weight = _row_sum(g, i), keep * _row_sum(q, i) + label_smoothing
            loss[i] += np.float64(weight * vecmath.log(total))
            factor = scale * weight / total
            for j in range(g.shape[1]):
                g[i, j] = g[i, j] * factor - scale * (keep * q[i, j] + spread)
