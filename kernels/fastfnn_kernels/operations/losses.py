"""Losses.

Row losses (rows of float64), grad, prediction, target (rows), width, whether mean[, label smoothing | losses (rows)].
Where grad is 0 there is none to make; the cross-entropies, which need it to work in, always make it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import losses, softmax
from fastfnn_kernels._config import helper
from fastfnn_kernels.operations._record import loss_scale, my_flat, my_rows, operation, real
from fastfnn_kernels.simd import word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_cross_entropy, _cross_entropy_rows = softmax.softmax_cross_entropy.jitted, softmax.softmax_cross_entropy_rows.jitted
_nll_losses, _nll_gradient = losses.nll_losses.jitted, losses.nll_gradient.jitted
_nll_losses_rows, _nll_gradient_rows = losses.nll_losses_rows.jitted, losses.nll_gradient_rows.jitted
_bce_losses, _bce_gradient = losses.bce_losses.jitted, losses.bce_gradient.jitted
_bce_logit_losses, _bce_logit_gradient = losses.bce_with_logits_losses.jitted, losses.bce_with_logits_gradient.jitted
_mse_losses, _mse_gradient = losses.mse_losses.jitted, losses.mse_gradient.jitted


@operation
def cross_entropy(dtype: Any) -> Callable[[int, int], None]:
    def cross_entropy(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(loss_scale(record, 6, at, 1))
        grad, prediction = my_rows(record, 2, at, width, dtype), my_rows(record, 3, at, width, dtype)
        row_losses, target = my_flat(record, 1, at, 1, np.float64), my_flat(record, 4, at, 1, np.int64)
        _cross_entropy(row_losses, grad, prediction, target, factor, dtype(real(record, 7)), 0, 1)

    return cross_entropy


@operation
def cross_entropy_rows(dtype: Any) -> Callable[[int, int], None]:
    def cross_entropy_rows(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(loss_scale(record, 6, at, 1))
        grad, prediction = my_rows(record, 2, at, width, dtype), my_rows(record, 3, at, width, dtype)
        row_losses, target = my_flat(record, 1, at, 1, np.float64), my_rows(record, 4, at, width, dtype)
        _cross_entropy_rows(row_losses, grad, prediction, target, factor, dtype(real(record, 7)), 0, 1)

    return cross_entropy_rows


@operation
def nll(dtype: Any) -> Callable[[int, int], None]:
    def nll(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(loss_scale(record, 6, at, 1))
        prediction, target = my_rows(record, 3, at, width, dtype), my_flat(record, 4, at, 1, np.int64)
        _nll_losses(my_flat(record, 1, at, 1, np.float64), prediction, target, 0, 1)
        if word(record, 2):
            _nll_gradient(my_rows(record, 2, at, width, dtype), prediction, target, factor, 0, 1)

    return nll


@operation
def nll_rows(dtype: Any) -> Callable[[int, int], None]:
    def nll_rows(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(loss_scale(record, 6, at, 1))
        prediction, target = my_rows(record, 3, at, width, dtype), my_rows(record, 4, at, width, dtype)
        _nll_losses_rows(my_flat(record, 1, at, 1, np.float64), prediction, target, 0, 1)
        if word(record, 2):
            _nll_gradient_rows(my_rows(record, 2, at, width, dtype), prediction, target, factor, 0, 1)

    return nll_rows


@helper
def _add_up(row_losses: Any, element_losses: Any, width: int) -> None:
    for i in range(row_losses.size):
        total = 0.0
        for j in range(width):
            total += element_losses[i * width + j]
        row_losses[i] = total


@operation
def bce(dtype: Any) -> Callable[[int, int], None]:
    def bce(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(loss_scale(record, 6, at, word(record, 5)))
        prediction, target = my_flat(record, 3, at, width, dtype), my_flat(record, 4, at, width, dtype)
        elements = my_flat(record, 7, at, width, dtype)
        _bce_losses(elements, prediction, target, 0, 1)
        if word(record, 2):
            _bce_gradient(my_flat(record, 2, at, width, dtype), prediction, target, factor, 0, 1)
        _add_up(my_flat(record, 1, at, 1, np.float64), elements, width)

    return bce


@operation
def bce_with_logits(dtype: Any) -> Callable[[int, int], None]:
    def bce_with_logits(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(loss_scale(record, 6, at, word(record, 5)))
        prediction, target = my_flat(record, 3, at, width, dtype), my_flat(record, 4, at, width, dtype)
        elements = my_flat(record, 7, at, width, dtype)
        _bce_logit_losses(elements, prediction, target, 0, 1)
        if word(record, 2):
            _bce_logit_gradient(my_flat(record, 2, at, width, dtype), prediction, target, factor, 0, 1)
        _add_up(my_flat(record, 1, at, 1, np.float64), elements, width)

    return bce_with_logits


@operation
def mse(dtype: Any) -> Callable[[int, int], None]:
    def mse(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(loss_scale(record, 6, at, word(record, 5)))
        prediction, target = my_flat(record, 3, at, width, dtype), my_flat(record, 4, at, width, dtype)
        elements = my_flat(record, 7, at, width, dtype)
        _mse_losses(elements, prediction, target, 0, 1)
        if word(record, 2):
            _mse_gradient(my_flat(record, 2, at, width, dtype), prediction, target, factor, 0, 1)
        _add_up(my_flat(record, 1, at, 1, np.float64), elements, width)

    return mse


@operation
def weigh(dtype: Any) -> Callable[[int, int], None]:
    """Row losses (rows of float64), grad (rows, or 0), weights (rows), width: each row's loss and gradient times its
    weight."""

    def weigh(record: int, at: int) -> None:
        row_losses, weights = my_flat(record, 1, at, 1, np.float64), my_flat(record, 3, at, 1, dtype)
        for i in range(row_losses.size):
            row_losses[i] *= weights[i]
        if word(record, 2):
            grad = my_rows(record, 2, at, word(record, 4), dtype)
            for i in range(row_losses.size):
                for j in range(grad.shape[1]):
                    grad[i, j] *= weights[i]

    return weigh


@helper
def _largest(x: Any, row: int) -> int:
    best = 0
    for j in range(1, x.shape[1]):
        best = j if x[row, j] > x[row, best] else best
    return best


@operation
def count_hits(dtype: Any) -> Callable[[int, int], None]:
    """hits (rows of float64), prediction, target (rows of labels, or of weights), width, whether labels."""

    def count_hits(record: int, at: int) -> None:
        width = word(record, 4)
        hits, prediction = my_flat(record, 1, at, 1, np.float64), my_rows(record, 2, at, width, dtype)
        if word(record, 5):
            labels = my_flat(record, 3, at, 1, np.int64)
            for i in range(hits.size):
                hits[i] = _largest(prediction, i) == labels[i]
        else:
            target = my_rows(record, 3, at, width, dtype)
            for i in range(hits.size):
                hits[i] = _largest(prediction, i) == _largest(target, i)

    return count_hits
