"""The operations of a program: each binds a kernel to a record of addresses and sizes.

A function here makes the operation ``(record, at)`` for a dtype; `address` compiles it on first use. What follows the
address in its record (see `program`) is listed in its docstring. "Rows" are arrays of a chunk's rows, of which an
operation does those of its thread; "data" are arrays of all rows, read in the epoch's order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels import activations, gemm, linear, losses, normalization, optim, softmax
from fastfnn_kernels._config import helper, operation
from fastfnn_kernels.program import ADDS, BATCH_ROWS, FIRST, LAST, N_THREADS, ORDER, ROWS, START, TID, UPDATES
from fastfnn_kernels.simd import array_at, float_of, word

# numba looks names up in the module, and its cache cannot tell closures over compiled functions apart.
_gemm, _column_sum, _normalize = gemm.gemm.jitted, linear.column_sum.jitted, normalization.normalize.jitted
_relu, _relu_backward = activations.relu.jitted, activations.relu_backward.jitted
_leaky_relu, _leaky_relu_backward = activations.leaky_relu.jitted, activations.leaky_relu_backward.jitted
_sigmoid, _sigmoid_backward = activations.sigmoid.jitted, activations.sigmoid_backward.jitted
_tanh, _tanh_backward = activations.tanh.jitted, activations.tanh_backward.jitted
_log, _log_backward = activations.log.jitted, activations.log_backward.jitted
_softmax, _softmax_backward = softmax.softmax.jitted, softmax.softmax_backward.jitted
_log_softmax, _log_softmax_backward = softmax.log_softmax.jitted, softmax.log_softmax_backward.jitted
_cross_entropy, _cross_entropy_rows = softmax.softmax_cross_entropy.jitted, softmax.softmax_cross_entropy_rows.jitted
_nll_losses, _nll_gradient = losses.nll_losses.jitted, losses.nll_gradient.jitted
_nll_losses_rows, _nll_gradient_rows = losses.nll_losses_rows.jitted, losses.nll_gradient_rows.jitted
_bce_losses, _bce_gradient = losses.bce_losses.jitted, losses.bce_gradient.jitted
_bce_logit_losses, _bce_logit_gradient = losses.bce_with_logits_losses.jitted, losses.bce_with_logits_gradient.jitted
_mse_losses, _mse_gradient = losses.mse_losses.jitted, losses.mse_gradient.jitted
_sgd, _sgd_momentum, _adam = optim.sgd.jitted, optim.sgd_momentum.jitted, optim.adam.jitted

Make = Callable[..., Callable[[int, int], None]]
_MAKERS: dict[str, Make] = {}


def _operation(make: Make) -> Make:
    _MAKERS[make.__name__.removesuffix("_forward")] = make  # a name of its own where a module is called so
    return make


@functools.cache
def _compiled(name: str, *dtypes: Any) -> Any:
    return operation(_MAKERS[name](*dtypes))


def address(name: str, *dtypes: Any) -> int:
    """The address of an operation for these dtypes, compiled or loaded from the cache on first use."""
    return _compiled(name, *(np.dtype(dtype).type for dtype in dtypes)).address


@helper
def _flat(record: int, index: int, at: int, width: int, dtype: Any) -> Any:
    """This thread's rows of a row array, each `width` numbers, flat."""
    return array_at(word(record, index), word(at, LAST) * width, dtype)[word(at, FIRST) * width :]


@helper
def _rows(record: int, index: int, at: int, width: int, dtype: Any) -> Any:
    """The same as (rows, width)."""
    return _flat(record, index, at, width, dtype).reshape(word(at, LAST) - word(at, FIRST), width)


@helper
def _real(record: int, index: int) -> Any:
    """A float64 field."""
    return float_of(word(record, index))


@helper
def _loss_scale(record: int, index: int, at: int, width: int) -> Any:
    """What losses' gradients are scaled by: 1 over the batch's count of losses where field `index` says mean."""
    return 1.0 / (word(at, BATCH_ROWS) * width) if word(record, index) else 1.0


@helper
def _data_row(at: int, row: int) -> int:
    """The place in the data of a row of the chunk."""
    place = word(at, START) + row
    return word(word(at, ORDER), place) if word(at, ORDER) else place


# Input ------------------------------------------------------------------------------------------------------------


@_operation
def gather(dtype: Any, data_dtype: Any) -> Callable[[int, int], None]:
    """out (rows), data, width, factor, shift, channels: rows of the data, scaled, in the network's dtype."""

    def gather(record: int, at: int) -> None:
        width, channels = word(record, 3), word(record, 6)
        factor, shift = array_at(word(record, 4), channels, dtype), array_at(word(record, 5), channels, dtype)
        out = _rows(record, 1, at, width, dtype)
        for i in range(out.shape[0]):
            start = _data_row(at, word(at, FIRST) + i) * width
            row = array_at(word(record, 2), start + width, data_dtype)[start:].reshape(1, width)
            _normalize(out[i : i + 1], row, factor, shift, 0, 1)

    return gather


@_operation
def gather_labels() -> Callable[[int, int], None]:
    """out (rows of int64), data (int64)."""

    def gather_labels(record: int, at: int) -> None:
        out = _flat(record, 1, at, 1, np.int64)
        for i in range(out.size):
            out[i] = word(word(record, 2), _data_row(at, word(at, FIRST) + i))

    return gather_labels


@_operation
def scale(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), width, factor, shift, channels: a `Normalize` inside the network."""

    def scale(record: int, at: int) -> None:
        width, channels = word(record, 3), word(record, 6)
        factor, shift = array_at(word(record, 4), channels, dtype), array_at(word(record, 5), channels, dtype)
        _normalize(_rows(record, 1, at, width, dtype), _rows(record, 2, at, width, dtype), factor, shift, 0, 1)

    return scale


# Products ---------------------------------------------------------------------------------------------------------


@_operation
def product(dtype: Any) -> Callable[[int, int], None]:
    """out, scratch, a, b, extra, k, n, form, epilogue, scratch elements a thread, alpha: every use of `gemm`.

    Form 0, out (rows) = a (rows) @ b: a layer's forward. Form 1, out (rows) = a (rows) @ b.T: its input's gradient.
    Form 2, out (+)= alpha * a.T @ b over the rows of both: its weight's gradient; each thread does its share of out.
    Form 3 is form 2 that always adds: an SGD step.
    """

    def product(record: int, at: int) -> None:
        k, n, form, epilogue, panel = (
            word(record, 6),
            word(record, 7),
            word(record, 8),
            word(record, 9),
            word(record, 10),
        )
        tid, n_threads = word(at, TID), word(at, N_THREADS)
        alpha = dtype(_real(record, 11))
        scratch = array_at(word(record, 2), n_threads * panel, dtype).reshape(n_threads, panel)
        if form >= 2:
            rows = word(at, ROWS)
            out = array_at(word(record, 1), k * n, dtype).reshape(k, n)
            a = array_at(word(record, 3), rows * k, dtype).reshape(rows, k)
            b = array_at(word(record, 4), rows * n, dtype).reshape(rows, n)
            extra = array_at(word(record, 5), 0, dtype)
            adds = form == 3 or word(at, ADDS) != 0
            _gemm(out, scratch, a, b, extra, True, False, alpha, adds, epilogue, tid, n_threads)
        else:
            out, a = _rows(record, 1, at, n, dtype), _rows(record, 3, at, k, dtype)
            b = array_at(word(record, 4), k * n, dtype).reshape((k, n) if form == 0 else (n, k))
            extra = array_at(word(record, 5), n, dtype)
            if epilogue == gemm.RELU_MASK:
                extra = _flat(record, 5, at, n, dtype)
            _gemm(out, scratch[tid : tid + 1], a, b, extra, False, form == 1, alpha, False, epilogue, 0, 1)

    return product


@_operation
def column_sum(dtype: Any) -> Callable[[int, int], None]:
    """out, x (rows), width: a bias's gradient. Each thread does its share of the columns."""

    def column_sum(record: int, at: int) -> None:
        width, rows = word(record, 3), word(at, ROWS)
        x = array_at(word(record, 2), rows * width, dtype).reshape(rows, width)
        _column_sum(array_at(word(record, 1), width, dtype), x, word(at, ADDS) != 0, word(at, TID), word(at, N_THREADS))

    return column_sum


# Activations ------------------------------------------------------------------------------------------------------
#
# Forward: out, x (rows), width[, scalar or scratch]. Backward: grad_x, grad_out, kept (rows), width[, scalar].


@_operation
def relu(dtype: Any) -> Callable[[int, int], None]:
    def relu(record: int, at: int) -> None:
        width = word(record, 3)
        _relu(_flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype), 0, 1)

    return relu


@_operation
def relu_backward(dtype: Any) -> Callable[[int, int], None]:
    def relu_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = _flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype)
        _relu_backward(grad_x, grad_out, _flat(record, 3, at, width, dtype), 0, 1)

    return relu_backward


@_operation
def sigmoid(dtype: Any) -> Callable[[int, int], None]:
    def sigmoid(record: int, at: int) -> None:
        width = word(record, 3)
        _sigmoid(_flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype), 0, 1)

    return sigmoid


@_operation
def sigmoid_backward(dtype: Any) -> Callable[[int, int], None]:
    def sigmoid_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = _flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype)
        _sigmoid_backward(grad_x, grad_out, _flat(record, 3, at, width, dtype), 0, 1)

    return sigmoid_backward


@_operation
def tanh(dtype: Any) -> Callable[[int, int], None]:
    def tanh(record: int, at: int) -> None:
        width = word(record, 3)
        _tanh(_flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype), 0, 1)

    return tanh


@_operation
def tanh_backward(dtype: Any) -> Callable[[int, int], None]:
    def tanh_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = _flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype)
        _tanh_backward(grad_x, grad_out, _flat(record, 3, at, width, dtype), 0, 1)

    return tanh_backward


@_operation
def log(dtype: Any) -> Callable[[int, int], None]:
    def log(record: int, at: int) -> None:
        width = word(record, 3)
        _log(_flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype), 0, 1)

    return log


@_operation
def log_backward(dtype: Any) -> Callable[[int, int], None]:
    def log_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = _flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype)
        _log_backward(grad_x, grad_out, _flat(record, 3, at, width, dtype), 0, 1)

    return log_backward


@_operation
def leaky_relu(dtype: Any) -> Callable[[int, int], None]:
    def leaky_relu(record: int, at: int) -> None:
        width = word(record, 3)
        _leaky_relu(
            _flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype), dtype(_real(record, 4)), 0, 1
        )

    return leaky_relu


@_operation
def leaky_relu_backward(dtype: Any) -> Callable[[int, int], None]:
    def leaky_relu_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = _flat(record, 1, at, width, dtype), _flat(record, 2, at, width, dtype)
        _leaky_relu_backward(grad_x, grad_out, _flat(record, 3, at, width, dtype), dtype(_real(record, 5)), 0, 1)

    return leaky_relu_backward


@_operation
def softmax_forward(dtype: Any) -> Callable[[int, int], None]:
    def softmax_forward(record: int, at: int) -> None:
        width = word(record, 3)
        _softmax(_rows(record, 1, at, width, dtype), _rows(record, 2, at, width, dtype), 0, 1)

    return softmax_forward


@_operation
def log_softmax(dtype: Any) -> Callable[[int, int], None]:
    def log_softmax(record: int, at: int) -> None:
        width = word(record, 3)
        out, x = _rows(record, 1, at, width, dtype), _rows(record, 2, at, width, dtype)
        _log_softmax(out, _rows(record, 4, at, width, dtype), x, 0, 1)

    return log_softmax


@_operation
def softmax_backward(dtype: Any) -> Callable[[int, int], None]:
    def softmax_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = _rows(record, 1, at, width, dtype), _rows(record, 2, at, width, dtype)
        _softmax_backward(grad_x, grad_out, _rows(record, 3, at, width, dtype), 0, 1)

    return softmax_backward


@_operation
def log_softmax_backward(dtype: Any) -> Callable[[int, int], None]:
    def log_softmax_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = _rows(record, 1, at, width, dtype), _rows(record, 2, at, width, dtype)
        _log_softmax_backward(grad_x, grad_out, _rows(record, 3, at, width, dtype), 0, 1)

    return log_softmax_backward


# Losses -----------------------------------------------------------------------------------------------------------
#
# row losses (rows of float64), grad, prediction, target (rows), width, whether mean[, label smoothing | losses (rows)].


@_operation
def cross_entropy(dtype: Any) -> Callable[[int, int], None]:
    def cross_entropy(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(_loss_scale(record, 6, at, 1))
        grad, prediction = _rows(record, 2, at, width, dtype), _rows(record, 3, at, width, dtype)
        row_losses, target = _flat(record, 1, at, 1, np.float64), _flat(record, 4, at, 1, np.int64)
        _cross_entropy(row_losses, grad, prediction, target, factor, dtype(_real(record, 7)), 0, 1)

    return cross_entropy


@_operation
def cross_entropy_rows(dtype: Any) -> Callable[[int, int], None]:
    def cross_entropy_rows(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(_loss_scale(record, 6, at, 1))
        grad, prediction = _rows(record, 2, at, width, dtype), _rows(record, 3, at, width, dtype)
        row_losses, target = _flat(record, 1, at, 1, np.float64), _rows(record, 4, at, width, dtype)
        _cross_entropy_rows(row_losses, grad, prediction, target, factor, dtype(_real(record, 7)), 0, 1)

    return cross_entropy_rows


@_operation
def nll(dtype: Any) -> Callable[[int, int], None]:
    def nll(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(_loss_scale(record, 6, at, 1))
        grad, prediction = _rows(record, 2, at, width, dtype), _rows(record, 3, at, width, dtype)
        target = _flat(record, 4, at, 1, np.int64)
        _nll_losses(_flat(record, 1, at, 1, np.float64), prediction, target, 0, 1)
        _nll_gradient(grad, prediction, target, factor, 0, 1)

    return nll


@_operation
def nll_rows(dtype: Any) -> Callable[[int, int], None]:
    def nll_rows(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(_loss_scale(record, 6, at, 1))
        grad, prediction = _rows(record, 2, at, width, dtype), _rows(record, 3, at, width, dtype)
        target = _rows(record, 4, at, width, dtype)
        _nll_losses_rows(_flat(record, 1, at, 1, np.float64), prediction, target, 0, 1)
        _nll_gradient_rows(grad, prediction, target, factor, 0, 1)

    return nll_rows


@helper
def _add_up(row_losses: Any, element_losses: Any, width: int) -> None:
    for i in range(row_losses.size):
        total = 0.0
        for j in range(width):
            total += element_losses[i * width + j]
        row_losses[i] = total


@_operation
def bce(dtype: Any) -> Callable[[int, int], None]:
    def bce(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(_loss_scale(record, 6, at, word(record, 5)))
        prediction, target = _flat(record, 3, at, width, dtype), _flat(record, 4, at, width, dtype)
        elements = _flat(record, 7, at, width, dtype)
        _bce_losses(elements, prediction, target, 0, 1)
        _bce_gradient(_flat(record, 2, at, width, dtype), prediction, target, factor, 0, 1)
        _add_up(_flat(record, 1, at, 1, np.float64), elements, width)

    return bce


@_operation
def bce_with_logits(dtype: Any) -> Callable[[int, int], None]:
    def bce_with_logits(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(_loss_scale(record, 6, at, word(record, 5)))
        prediction, target = _flat(record, 3, at, width, dtype), _flat(record, 4, at, width, dtype)
        elements = _flat(record, 7, at, width, dtype)
        _bce_logit_losses(elements, prediction, target, 0, 1)
        _bce_logit_gradient(_flat(record, 2, at, width, dtype), prediction, target, factor, 0, 1)
        _add_up(_flat(record, 1, at, 1, np.float64), elements, width)

    return bce_with_logits


@_operation
def mse(dtype: Any) -> Callable[[int, int], None]:
    def mse(record: int, at: int) -> None:
        width, factor = word(record, 5), dtype(_loss_scale(record, 6, at, word(record, 5)))
        prediction, target = _flat(record, 3, at, width, dtype), _flat(record, 4, at, width, dtype)
        elements = _flat(record, 7, at, width, dtype)
        _mse_losses(elements, prediction, target, 0, 1)
        _mse_gradient(_flat(record, 2, at, width, dtype), prediction, target, factor, 0, 1)
        _add_up(_flat(record, 1, at, 1, np.float64), elements, width)

    return mse


@helper
def _largest(x: Any, row: int) -> int:
    best = 0
    for j in range(1, x.shape[1]):
        best = j if x[row, j] > x[row, best] else best
    return best


@_operation
def count_hits(dtype: Any) -> Callable[[int, int], None]:
    """hits (rows of float64), prediction, target (rows of labels, or of weights), width, whether labels."""

    def count_hits(record: int, at: int) -> None:
        width = word(record, 4)
        hits, prediction = _flat(record, 1, at, 1, np.float64), _rows(record, 2, at, width, dtype)
        if word(record, 5):
            labels = _flat(record, 3, at, 1, np.int64)
            for i in range(hits.size):
                hits[i] = _largest(prediction, i) == labels[i]
        else:
            target = _rows(record, 3, at, width, dtype)
            for i in range(hits.size):
                hits[i] = _largest(prediction, i) == _largest(target, i)

    return count_hits


# Updates ----------------------------------------------------------------------------------------------------------
#
# size, parameters, gradients, then the optimizer's state and settings. Each thread does its share.


@_operation
def sgd(dtype: Any) -> Callable[[int, int], None]:
    """…, lr, weight decay."""

    def sgd(record: int, at: int) -> None:
        size = word(record, 1)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        _sgd(params, grads, dtype(_real(record, 4)), dtype(_real(record, 5)), word(at, TID), word(at, N_THREADS))

    return sgd


@_operation
def sgd_momentum(dtype: Any) -> Callable[[int, int], None]:
    """…, velocity, lr, weight decay, momentum, whether Nesterov's."""

    def sgd_momentum(record: int, at: int) -> None:
        size = word(record, 1)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        lr, decay, momentum = dtype(_real(record, 5)), dtype(_real(record, 6)), dtype(_real(record, 7))
        velocity, nesterov = array_at(word(record, 4), size, dtype), word(record, 8) != 0
        _sgd_momentum(params, velocity, grads, lr, momentum, nesterov, decay, word(at, TID), word(at, N_THREADS))

    return sgd_momentum


@_operation
def adam(dtype: Any) -> Callable[[int, int], None]:
    """…, mean, square, lr, weight decay, beta1, beta2, eps."""

    def adam(record: int, at: int) -> None:
        size, updates = word(record, 1), word(at, UPDATES)
        params, grads = array_at(word(record, 2), size, dtype), array_at(word(record, 3), size, dtype)
        mean, square = array_at(word(record, 4), size, dtype), array_at(word(record, 5), size, dtype)
        lr, decay, eps = dtype(_real(record, 6)), dtype(_real(record, 7)), dtype(_real(record, 10))
        beta1, beta2 = _real(record, 8), _real(record, 9)
        first, second = dtype(1.0 - beta1**updates), dtype(1.0 - beta2**updates)
        tid, n_threads = word(at, TID), word(at, N_THREADS)
        _adam(params, mean, square, grads, lr, dtype(beta1), dtype(beta2), eps, decay, first, second, tid, n_threads)

    return adam
