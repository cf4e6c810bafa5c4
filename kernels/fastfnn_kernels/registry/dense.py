"""Kernels of feed-forward networks: products, activations, softmaxes, losses, optimizers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import activations, losses, normalization, optim, reference, softmax
from fastfnn_kernels.products import gemm, linear
from fastfnn_kernels.registry._spec import (
    EDGES,
    FLAT,
    IMAGES,
    ROWS,
    Draw,
    Shape,
    round_robin,
    spec_of,
    sum_over_classes,
    sum_over_rows,
)

Array = NDArray[Any]

_COLUMNS = (1, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100, 129, 2)
#: A panel is full at a depth of 112, 224 or 448, by the machine's vectors (`gemm._depth_block`).
_DEPTHS = (1, 7, 2, 16, 111, 10, 113, 447, 225, 895, 0, 449, 897, 33, 112)


def _products(*bench_shapes: Shape) -> dict[str, Any]:
    shapes = round_robin(46, EDGES[1:], _DEPTHS, _COLUMNS)
    big = ((513, 7, 33), (193, 448, 17), (5, 784, 100), (1025, 3, 10))
    return {"shapes": (*shapes, *big, (0, 7, 10)), "bench_shapes": bench_shapes, "scale": lambda m, k, n: 1 + k}


_FORWARD = _products((64, 784, 100), (128, 784, 100), (256, 784, 100), (64, 100, 10), (512, 512, 512))
_TO_INPUT = _products((64, 100, 784), (256, 100, 784), (64, 10, 100), (512, 512, 512))
_TO_WEIGHT = _products((784, 64, 100), (784, 256, 100), (100, 64, 10), (512, 512, 512))


def gemm_arguments(
    transpose_a: bool = False,
    transpose_b: bool = False,
    accumulate: bool = False,
    epilogue: int = gemm.NO_EPILOGUE,
    alpha: float = 1.0,
) -> Callable[..., tuple[Any, ...]]:
    """How to draw a product of shape (m, k, n)."""

    def draw(d: Draw, m: int, k: int, n: int) -> tuple[Any, ...]:
        out = d.normal(m, n) if accumulate else d.blank(m, n)
        a = d.normal(k, m) if transpose_a else d.normal(m, k)
        b = d.normal(n, k) if transpose_b else d.normal(k, n)
        extra = {gemm.NO_EPILOGUE: 0, gemm.RELU_MASK: m * n}.get(epilogue, n)
        return out, d.panels(), a, b, d.normal(extra), transpose_a, transpose_b, d.scalar(alpha), accumulate, epilogue

    return draw


def _activation(*scalars: float) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n: (d.blank(n), d.normal(n, spread=4), *map(d.scalar, scalars))


def _from_input(*scalars: float) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n: (d.blank(n), d.normal(n), d.normal(n, spread=4), *map(d.scalar, scalars))


def _nll(d: Draw, n: int, c: int) -> tuple[Array, Array]:
    return d.blank(n, dtype=np.float64), d.between(-5, -0.01, n, c)


def _cross_entropy(smoothing: float, rows: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, c: int) -> tuple[Any, ...]:
        target = d.weights(n, c) if rows else d.labels(n, c)
        logits = d.normal(n, c, spread=4)
        return d.blank(n, dtype=np.float64), d.blank(n, c), logits, target, d.scalar(0.7), d.scalar(smoothing)

    return draw


def _adam(decoupled: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int) -> tuple[Any, ...]:
        settings = map(d.scalar, (0.01, 0.9, 0.999, 1e-8, 0.02))  # lr, betas, eps, decay
        corrections = map(d.scalar, (1 - 0.9**3, 1 - 0.999**3))  # of step 3
        return d.normal(n), d.normal(n), d.between(0.01, 1, n), d.normal(n), *settings, decoupled, *corrections

    return draw


def _amsgrad(d: Draw, n: int) -> tuple[Any, ...]:
    param, mean, square, grad, *settings = _adam(decoupled=False)(d, n)
    return param, mean, square, d.between(0.01, 1, n), grad, *settings


def _nadam(d: Draw, n: int) -> tuple[Any, ...]:
    *arguments, _, correction2 = _adam(decoupled=True)(d, n)
    shares = map(d.scalar, optim.nadam_shares(3, 0.9, 4e-3))
    return *arguments, *shares, correction2


def _rmsprop(centered: bool) -> Callable[..., tuple[Any, ...]]:
    """A second average that is more than the first one's square, as it is of any gradients."""

    def draw(d: Draw, n: int) -> tuple[Any, ...]:
        averages = (d.between(0.5, 1, n), *([d.between(-0.5, 0.5, n)] if centered else []))
        settings = map(d.scalar, (0.01, 0.9, 1e-3, 0.02, 0.8))
        return d.normal(n), *averages, d.normal(n), d.normal(n), *settings

    return draw


def _with_squares(*scalars: float) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n: (d.normal(n), d.between(0.01, 1, n), d.normal(n), *map(d.scalar, scalars))


def _limits(norm: float, value: float, l1: float) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int) -> tuple[Any, ...]:
        grad = d.normal(n)
        return grad, reference.square_sums(grad), d.normal(n), norm, d.scalar(value), d.scalar(l1)

    return draw


def _square_sums(d: Draw, n: int) -> tuple[Any, ...]:
    return d.blank(-(-n // optim.NORM_BLOCK), dtype=np.float64), d.normal(n)


def _momentum(nesterov: bool) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n: (
        d.normal(n), d.normal(n), d.normal(n), d.scalar(0.1), d.scalar(0.9), nesterov, d.scalar(0.02)
    )  # fmt: skip


def _scaled(source: Callable[[Draw, int, int], Array]) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n, c, block: (d.blank(n, c * block), source(d, n, c * block), d.normal(c), d.normal(c))


def _other_float(d: Draw, rows: int, columns: int) -> Array:
    return d.normal(rows, columns).astype(np.float32 if d.dtype == np.float64 else np.float64)


#: Both sides of a block's end, too.
LONG = {**FLAT, "shapes": (*FLAT["shapes"], (1023,), (1024,), (1025,), (5000,))}

# fmt: off
SPECS = [
    spec_of("relu", activations.relu, lambda d, n: (d.blank(n), d.normal(n)), 1, **FLAT),
    spec_of("relu_backward", activations.relu_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n)), 1, **FLAT),
    spec_of("leaky_relu", activations.leaky_relu, lambda d, n: (d.blank(n), d.normal(n), d.scalar(0.01)), 2, **FLAT),
    spec_of("leaky_relu_backward", activations.leaky_relu_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n), d.scalar(0.01)), 2, **FLAT),
    spec_of("sigmoid", activations.sigmoid, lambda d, n: (d.blank(n), d.normal(n, spread=4)), 4, **FLAT),
    spec_of("sigmoid_backward", activations.sigmoid_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.unit(n)), 3, **FLAT),
    spec_of("tanh", activations.tanh, lambda d, n: (d.blank(n), d.normal(n, spread=2)), 4, **FLAT),
    spec_of("tanh_backward", activations.tanh_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.between(-1, 1, n)), 4, **FLAT),
    spec_of("log", activations.log, lambda d, n: (d.blank(n), d.between(1e-3, 10, n)), 1, **FLAT),
    spec_of("log_backward", activations.log_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.between(1e-3, 10, n)), 1, **FLAT),
    spec_of("gelu", activations.gelu, _activation(), 10, **FLAT),
    spec_of("gelu_backward", activations.gelu_backward, _from_input(), 14, **FLAT),
    spec_of("gelu_tanh", activations.gelu_tanh, _activation(), 9, **FLAT),
    spec_of("gelu_tanh_backward", activations.gelu_tanh_backward, _from_input(), 14, **FLAT),
    spec_of("silu", activations.silu, _activation(), 5, **FLAT),
    spec_of("silu_backward", activations.silu_backward, _from_input(), 8, **FLAT),
    spec_of("scaled_elu", activations.scaled_elu, _activation(0.7, 1.1), 4, **FLAT),
    spec_of("scaled_elu_backward", activations.scaled_elu_backward, _from_input(0.7, 1.1), 4, **FLAT),
    spec_of("softplus", activations.softplus, _activation(0.6, 3.0), 6, **FLAT),
    spec_of("softplus_backward", activations.softplus_backward, _from_input(0.6, 3.0), 6, **FLAT),
    spec_of("relu6", activations.relu6, _activation(), 2, **FLAT),
    spec_of("relu6_backward", activations.relu6_backward, _from_input(), 2, **FLAT),
    spec_of("hardswish", activations.hardswish, _activation(), 5, **FLAT),
    spec_of("hardswish_backward", activations.hardswish_backward, _from_input(), 5, **FLAT),

    spec_of("gemm_nn", gemm.gemm, gemm_arguments(), 2, **_FORWARD),
    spec_of("gemm_nn_accumulate", gemm.gemm, gemm_arguments(accumulate=True), 2, **_FORWARD),
    spec_of("gemm_nn_bias", gemm.gemm, gemm_arguments(epilogue=gemm.BIAS), 2, **_FORWARD),
    spec_of("gemm_nn_bias_relu", gemm.gemm, gemm_arguments(epilogue=gemm.BIAS_RELU), 2, **_FORWARD),
    spec_of("gemm_nt", gemm.gemm, gemm_arguments(transpose_b=True), 2, **_TO_INPUT),
    spec_of("gemm_nt_relu_mask", gemm.gemm, gemm_arguments(transpose_b=True, epilogue=gemm.RELU_MASK), 2, **_TO_INPUT),
    spec_of("gemm_tn", gemm.gemm, gemm_arguments(transpose_a=True), 2, **_TO_WEIGHT),
    spec_of("gemm_tn_scaled_update", gemm.gemm,
          gemm_arguments(transpose_a=True, accumulate=True, alpha=-0.1), 2, **_TO_WEIGHT),
    spec_of("gemm_tt", gemm.gemm, gemm_arguments(transpose_a=True, transpose_b=True), 2, **_products((512, 512, 512))),

    spec_of("linear", linear.linear,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(k, n), d.normal(n)), 2,
          twin=reference.linear, scratch=1, **_FORWARD),
    spec_of("linear_without_bias", linear.linear,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(k, n)), 2,
          twin=reference.linear, scratch=1, **_FORWARD),
    spec_of("linear_relu", functools.partial(linear.linear, relu=True),
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(k, n), d.normal(n)), 2,
          twin=reference.linear_relu, scratch=1, **_FORWARD),
    spec_of("linear_backward_input", linear.linear_backward_input,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(n, k)), 2,
          twin=reference.linear_backward_input, scratch=1, **_TO_INPUT),
    spec_of("linear_backward_input_masked", linear.linear_backward_input,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(n, k), d.normal(m, n)), 2,
          twin=reference.linear_backward_input, scratch=1, **_TO_INPUT),
    spec_of("linear_backward_weight", linear.linear_backward_weight,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(k, n), d.normal(k, m)), 2,
          twin=reference.linear_backward_weight, scratch=1, in_place=True, **_TO_WEIGHT),
    spec_of("linear_sgd_step", linear.linear_backward_weight,
          lambda d, m, k, n: (d.normal(m, n), d.panels(), d.normal(k, n), d.normal(k, m), d.scalar(-0.1), True), 2,
          twin=reference.linear_backward_weight, scratch=1, in_place=True, **_TO_WEIGHT),
    spec_of("column_sum", linear.column_sum, lambda d, n, c: (d.blank(c), d.normal(n, c), False), 1,
          scale=sum_over_rows, **ROWS),
    spec_of("column_sum_accumulate", linear.column_sum, lambda d, n, c: (d.normal(c), d.normal(n, c), True), 1,
          scale=sum_over_rows, **ROWS),

    spec_of("softmax", softmax.softmax, lambda d, n, c: (d.blank(n, c), d.normal(n, c, spread=4)), 5, **ROWS),
    spec_of("softmax_backward", softmax.softmax_backward,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.weights(n, c)), 4, **ROWS),
    spec_of("log_softmax", softmax.log_softmax,
          lambda d, n, c: (d.blank(n, c), d.blank(n, c), d.normal(n, c, spread=4)), 5, **ROWS),
    spec_of("log_softmax_backward", softmax.log_softmax_backward,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.between(-5, 0, n, c)), 4,
          scale=sum_over_classes, **ROWS),
    spec_of("softmax_cross_entropy", softmax.softmax_cross_entropy, _cross_entropy(0, rows=False), 6,
          scale=sum_over_classes, **ROWS),
    spec_of("softmax_cross_entropy_smoothed", softmax.softmax_cross_entropy, _cross_entropy(0.1, rows=False), 7,
          scale=sum_over_classes, **ROWS),
    spec_of("softmax_cross_entropy_rows", softmax.softmax_cross_entropy_rows, _cross_entropy(0, rows=True), 9,
          scale=sum_over_classes, **ROWS),
    spec_of("softmax_cross_entropy_rows_smoothed", softmax.softmax_cross_entropy_rows,
          _cross_entropy(0.1, rows=True), 9, scale=sum_over_classes, **ROWS),

    # A row of few classes is one cache line: labels touch as much memory as the whole of it.
    spec_of("nll_losses", losses.nll_losses, lambda d, n, c: (*_nll(d, n, c), d.labels(n, c)), 1, **ROWS),
    spec_of("nll_losses_rows", losses.nll_losses_rows, lambda d, n, c: (*_nll(d, n, c), d.weights(n, c)), 2,
          scale=sum_over_classes, **ROWS),
    spec_of("nll_gradient", losses.nll_gradient,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.labels(n, c), d.scalar(0.7)), 1, unread=(1,), **ROWS),
    spec_of("nll_gradient_rows", losses.nll_gradient_rows,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.weights(n, c), d.scalar(0.7)), 1, unread=(1,), **ROWS),
    # Terms of up to 100, which LLVM may regroup so that they cancel: (1 - t) log(1 - p) as log(1 - p) - t log(1 - p).
    spec_of("bce_losses", losses.bce_losses, lambda d, n: (d.blank(n), d.unit(n), d.unit(n)), 7,
          scale=lambda n: 100, tolerance=2, **FLAT),
    spec_of("bce_gradient", losses.bce_gradient,
          lambda d, n: (d.blank(n), d.unit(n), d.unit(n), d.scalar(0.7)), 5, **FLAT),
    spec_of("bce_with_logits_losses", losses.bce_with_logits_losses,
          lambda d, n: (d.blank(n), d.normal(n, spread=4), d.unit(n)), 7, **FLAT),
    spec_of("bce_with_logits_gradient", losses.bce_with_logits_gradient,
          lambda d, n: (d.blank(n), d.normal(n, spread=4), d.unit(n), d.scalar(0.7)), 6, **FLAT),
    spec_of("mse_losses", losses.mse_losses, lambda d, n: (d.blank(n), d.normal(n), d.normal(n)), 2, **FLAT),
    spec_of("mse_gradient", losses.mse_gradient,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n), d.scalar(0.7)), 3, **FLAT),
    spec_of("l1_losses", losses.l1_losses, lambda d, n: (d.blank(n), d.normal(n), d.normal(n)), 2, **FLAT),
    spec_of("l1_gradient", losses.l1_gradient,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n), d.scalar(0.7)), 3, **FLAT),
    spec_of("huber_losses", losses.huber_losses,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n), d.scalar(0.8)), 5, **FLAT),
    spec_of("huber_gradient", losses.huber_gradient,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n), d.scalar(0.7), d.scalar(0.8)), 4, **FLAT),
    spec_of("poisson_nll_losses", losses.poisson_nll_losses,
          lambda d, n: (d.blank(n), d.normal(n), d.unit(n)), 5, **FLAT),
    spec_of("poisson_nll_gradient", losses.poisson_nll_gradient,
          lambda d, n: (d.blank(n), d.normal(n), d.unit(n), d.scalar(0.7)), 5, **FLAT),

    spec_of("normalize", normalization.normalize, _scaled(Draw.normal), 2, **IMAGES),
    spec_of("normalize_uint8", normalization.normalize, _scaled(Draw.pixels), 2, scale=lambda *_: 255, **IMAGES),
    spec_of("normalize_other_float", normalization.normalize, _scaled(_other_float), 2, **IMAGES),

    spec_of("sgd", optim.sgd, lambda d, n: (d.normal(n), d.normal(n), d.scalar(0.1), d.scalar(0.02)), 4, **FLAT),
    spec_of("sgd_momentum", optim.sgd_momentum, _momentum(nesterov=False), 6, **FLAT),
    spec_of("sgd_nesterov", optim.sgd_momentum, _momentum(nesterov=True), 8, **FLAT),
    spec_of("adam", optim.adam, _adam(decoupled=False), 15, **FLAT),
    spec_of("adamw", optim.adam, _adam(decoupled=True), 15, **FLAT),
    spec_of("rmsprop", optim.rmsprop, _with_squares(0.01, 0.99, 1e-8, 0.02), 10, **FLAT),
    spec_of("amsgrad", optim.amsgrad, _amsgrad, 16, **FLAT),
    spec_of("nadam", optim.nadam, _nadam, 17, **FLAT),
    spec_of("rmsprop_momentum", optim.rmsprop_momentum, _rmsprop(centered=False), 12, **FLAT),
    spec_of("rmsprop_centered", optim.rmsprop_centered, _rmsprop(centered=True), 17, **FLAT),
    spec_of("limit_norms", optim.limit_norms,
          lambda d, before, outputs, behind: (d.normal(before, outputs, behind), d.scalar(2.0)), 3,
          scale=lambda before, outputs, behind: 4,
          shapes=round_robin(40, (3, 1, 17, 64), EDGES, (1, 9, 1, 4)), bench_shapes=((784, 100, 1), (1, 64, 288))),
    spec_of("negate", optim.negate, lambda d, n: (d.normal(n),), 1, **FLAT),
    spec_of("adagrad", optim.adagrad, _with_squares(0.01, 1e-8, 0.02), 8, **FLAT),
    spec_of("square_sums", optim.square_sums, _square_sums, 2, scale=lambda n: n, **LONG),
    spec_of("clip_step", optim.clip_step, _limits(math.inf, math.inf, 0.0), 4, **FLAT),
    spec_of("clip_step_norm", optim.clip_step, _limits(0.5, math.inf, 0.01), 4, **FLAT),
    spec_of("clip_step_value", optim.clip_step, _limits(math.inf, 0.7, 0.0), 4, **FLAT),
]
# fmt: on
