"""Activations.

Forward: out, x (rows), width[, scalar]. Backward: grad_x, grad_out, kept (rows), width[, scalar]. The softmaxes have
the blocks of `width` numbers in a row behind the width, and `log_softmax` scratch (rows) behind that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastfnn_kernels import activations, softmax
from fastfnn_kernels.operations._record import my_blocks, my_flat, operation, real
from fastfnn_kernels.simd import word

# Names of the module, not of a closure: numba's cache cannot tell closures over compiled functions apart.
_relu = activations.relu.jitted
_relu_backward = activations.relu_backward.jitted
_leaky_relu = activations.leaky_relu.jitted
_leaky_relu_backward = activations.leaky_relu_backward.jitted
_sigmoid = activations.sigmoid.jitted
_sigmoid_backward = activations.sigmoid_backward.jitted
_tanh = activations.tanh.jitted
_tanh_backward = activations.tanh_backward.jitted
_log = activations.log.jitted
_log_backward = activations.log_backward.jitted
_softmax = softmax.softmax.jitted
_softmax_backward = softmax.softmax_backward.jitted
_log_softmax = softmax.log_softmax.jitted
_log_softmax_backward = softmax.log_softmax_backward.jitted


@operation
def relu(dtype: Any) -> Callable[[int, int], None]:
    def relu(record: int, at: int) -> None:
        width = word(record, 3)
        _relu(my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype), 0, 1)

    return relu


@operation
def relu_backward(dtype: Any) -> Callable[[int, int], None]:
    def relu_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype)
        _relu_backward(grad_x, grad_out, my_flat(record, 3, at, width, dtype), 0, 1)

    return relu_backward


@operation
def sigmoid(dtype: Any) -> Callable[[int, int], None]:
    def sigmoid(record: int, at: int) -> None:
        width = word(record, 3)
        _sigmoid(my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype), 0, 1)

    return sigmoid


@operation
def sigmoid_backward(dtype: Any) -> Callable[[int, int], None]:
    def sigmoid_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype)
        _sigmoid_backward(grad_x, grad_out, my_flat(record, 3, at, width, dtype), 0, 1)

    return sigmoid_backward


@operation
def tanh(dtype: Any) -> Callable[[int, int], None]:
    def tanh(record: int, at: int) -> None:
        width = word(record, 3)
        _tanh(my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype), 0, 1)

    return tanh


@operation
def tanh_backward(dtype: Any) -> Callable[[int, int], None]:
    def tanh_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype)
        _tanh_backward(grad_x, grad_out, my_flat(record, 3, at, width, dtype), 0, 1)

    return tanh_backward


@operation
def log(dtype: Any) -> Callable[[int, int], None]:
    def log(record: int, at: int) -> None:
        width = word(record, 3)
        _log(my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype), 0, 1)

    return log


@operation
def log_backward(dtype: Any) -> Callable[[int, int], None]:
    def log_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype)
        _log_backward(grad_x, grad_out, my_flat(record, 3, at, width, dtype), 0, 1)

    return log_backward


@operation
def leaky_relu(dtype: Any) -> Callable[[int, int], None]:
    def leaky_relu(record: int, at: int) -> None:
        width = word(record, 3)
        _leaky_relu(
            my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype), dtype(real(record, 4)), 0, 1
        )

    return leaky_relu


@operation
def leaky_relu_backward(dtype: Any) -> Callable[[int, int], None]:
    def leaky_relu_backward(record: int, at: int) -> None:
        width = word(record, 4)
        grad_x, grad_out = my_flat(record, 1, at, width, dtype), my_flat(record, 2, at, width, dtype)
        _leaky_relu_backward(grad_x, grad_out, my_flat(record, 3, at, width, dtype), dtype(real(record, 5)), 0, 1)

    return leaky_relu_backward


@operation
def softmax_forward(dtype: Any) -> Callable[[int, int], None]:
    def softmax_forward(record: int, at: int) -> None:
        width, blocks = word(record, 3), word(record, 4)
        _softmax(my_blocks(record, 1, at, blocks, width, dtype), my_blocks(record, 2, at, blocks, width, dtype), 0, 1)

    return softmax_forward


@operation
def log_softmax(dtype: Any) -> Callable[[int, int], None]:
    def log_softmax(record: int, at: int) -> None:
        width, blocks = word(record, 3), word(record, 4)
        out, x = my_blocks(record, 1, at, blocks, width, dtype), my_blocks(record, 2, at, blocks, width, dtype)
        _log_softmax(out, my_blocks(record, 5, at, blocks, width, dtype), x, 0, 1)

    return log_softmax


@operation
def softmax_backward(dtype: Any) -> Callable[[int, int], None]:
    def softmax_backward(record: int, at: int) -> None:
        width, blocks = word(record, 4), word(record, 5)
        grad_x = my_blocks(record, 1, at, blocks, width, dtype)
        grad_out = my_blocks(record, 2, at, blocks, width, dtype)
        _softmax_backward(grad_x, grad_out, my_blocks(record, 3, at, blocks, width, dtype), 0, 1)

    return softmax_backward


@operation
def log_softmax_backward(dtype: Any) -> Callable[[int, int], None]:
    def log_softmax_backward(record: int, at: int) -> None:
        width, blocks = word(record, 4), word(record, 5)
        grad_x = my_blocks(record, 1, at, blocks, width, dtype)
        grad_out = my_blocks(record, 2, at, blocks, width, dtype)
        _log_softmax_backward(grad_x, grad_out, my_blocks(record, 3, at, blocks, width, dtype), 0, 1)

    return log_softmax_backward
