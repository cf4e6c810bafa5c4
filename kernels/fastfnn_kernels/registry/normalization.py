"""Batch and layer normalisation, dropout, and leaky ReLUs with learnt slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import batch_norm, dropout, layer_norm, prelu
from fastfnn_kernels.reference.normalization import BLOCK
from fastfnn_kernels.registry._spec import EDGES, FLAT, ROWS, Draw, round_robin, spec_of, sum_over_rows

Array = NDArray[Any]

_CHANNELS, _SPATIAL = (3, 1, 16, 5, 8, 17, 2, 33, 100, 7), (1, 49, 4, 1, 196, 2, 9)
BATCHES = {
    "shapes": (*round_robin(40, EDGES, _CHANNELS, _SPATIAL), (513, 33, 1), (129, 3, 64)),
    "bench_shapes": ((64, 100, 1), (64, 32, 49), (64, 16, 196), (4_096, 100, 1), (1_024, 16, 196)),
}
#: A mean is of something.
SOME_ROWS = {**BATCHES, "shapes": tuple(shape for shape in BATCHES["shapes"] if shape[0])}
CHANNELS = {"shapes": tuple((c,) for c in EDGES[1:]), "bench_shapes": ((16,), (100,), (1_000,))}


def _statistics(d: Draw, c: int) -> tuple[Array, Array]:
    """Mean and variance, in float64 as the kernels make them."""
    return d.normal(c, spread=3).astype(np.float64), d.between(0.3, 3, c).astype(np.float64)


def _partials(d: Draw, n: int, c: int) -> Array:
    return d.blank(-(-n // BLOCK), 2, c, dtype=np.float64)


def _doubles(d: Draw, c: int, count: int) -> tuple[Array, ...]:
    return tuple(d.blank(c, dtype=np.float64) for _ in range(count))


def _drawn_partials(d: Draw, n: int, c: int) -> Array:
    """Means of both signs, and positive sums of squares."""
    partials = d.between(1, 8, *_partials(d, n, c).shape).astype(np.float64)
    partials[:, 0] -= 4
    return partials


def _combine(d: Draw, n: int, c: int, s: int) -> tuple[Any, ...]:
    return *_doubles(d, c, 2), _drawn_partials(d, n, c), n, s


def _running(d: Draw, c: int) -> tuple[Any, ...]:
    return d.normal(c), d.between(0.3, 3, c), *_statistics(d, c), 24, 0.1


def _coefficients(d: Draw, c: int) -> tuple[Any, ...]:
    return *(d.blank(c) for _ in range(3)), *_statistics(d, c), d.normal(c), d.normal(c), 1e-5


def _apply(relu: bool) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n, c, s: (
        d.blank(n, c, s), d.normal(n, c, s), d.normal(c), d.normal(c), d.normal(c), relu
    )  # fmt: skip


def _backward_sums(d: Draw, n: int, c: int, s: int) -> tuple[Any, ...]:
    return _partials(d, n, c), d.normal(n, c, s), d.normal(n, c, s), *_statistics(d, c), 1e-5


def _backward_coefficients(d: Draw, c: int) -> tuple[Any, ...]:
    sums = (d.normal(c, spread=5).astype(np.float64) for _ in range(2))
    return *(d.blank(c) for _ in range(4)), *_statistics(d, c), d.normal(c), *sums, 24, True, 1e-5


def _backward_apply(d: Draw, n: int, c: int, s: int) -> tuple[Any, ...]:
    return d.blank(n, c, s), d.normal(n, c, s), d.normal(n, c, s), *(d.normal(c) for _ in range(4))


#: Some rows too wide for a few vectors.
LAYERS = {
    "shapes": (*ROWS["shapes"], (3, 513), (7, 1000), (65, 130)),
    "bench_shapes": ((64, 100), (2_048, 128), (64, 784)),
}


def _row_statistics(d: Draw, n: int) -> Array:
    statistics = d.between(-1, 1, n, 3)
    statistics[:, 1] = d.between(0.3, 2, n)
    return statistics


def _layer_norm(d: Draw, n: int, c: int) -> tuple[Any, ...]:
    return d.blank(n, c), d.blank(n, 3), d.normal(n, c), d.normal(c), d.normal(c), 1e-2


def _layer_norm_weight(accumulate: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, c: int) -> tuple[Any, ...]:
        outputs = (d.normal(c), d.normal(c)) if accumulate else (d.blank(c), d.blank(c))
        return *outputs, d.normal(n, c), d.normal(n, c), _row_statistics(d, n), accumulate

    return draw


def _dropout(p: float, first_element: int = 0) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n: (d.blank(n), d.normal(n), p, 7, 3, first_element)


def _prelu_backward(d: Draw, n: int, c: int, s: int) -> tuple[Any, ...]:
    partials = d.blank(-(-n // BLOCK), c, dtype=np.float64)
    return d.blank(n, c, s), partials, d.normal(n, c, s), d.normal(n, c, s), d.normal(c)


def _prelu_weight(accumulate: bool) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n, c: (
        d.normal(c) if accumulate else d.blank(c), d.normal(n, c).astype(np.float64), accumulate
    )  # fmt: skip


# fmt: off
SPECS = [
    spec_of("batch_norm_moments", batch_norm.batch_norm_moments,
          lambda d, n, c, s: (_partials(d, n, c), d.normal(n, c, s)), 5,
          scale=lambda n, c, s: BLOCK * s, **BATCHES),
    spec_of("batch_norm_combine", batch_norm.batch_norm_combine, _combine, 1, scale=lambda *_: 16, **SOME_ROWS),
    spec_of("batch_norm_running", batch_norm.batch_norm_running, _running, 8, **CHANNELS),
    spec_of("batch_norm_coefficients", batch_norm.batch_norm_coefficients, _coefficients, 8,
          scale=lambda c: 16, **CHANNELS),
    spec_of("batch_norm_apply", batch_norm.batch_norm_apply, _apply(relu=False), 3, scale=lambda *_: 4, **BATCHES),
    spec_of("batch_norm_apply_relu", batch_norm.batch_norm_apply, _apply(relu=True), 4,
          scale=lambda *_: 4, **BATCHES),
    spec_of("batch_norm_backward_sums", batch_norm.batch_norm_backward_sums, _backward_sums, 4,
          scale=lambda n, c, s: BLOCK * s, **BATCHES),
    spec_of("batch_norm_backward_combine", batch_norm.batch_norm_backward_combine,
          lambda d, n, c, s: (*_doubles(d, c, 2), _drawn_partials(d, n, c)), 0.25,
          scale=lambda n, c, s: 1 + n, **SOME_ROWS),
    spec_of("batch_norm_backward_coefficients", batch_norm.batch_norm_backward_coefficients,
          _backward_coefficients, 12, scale=lambda c: 16, **CHANNELS),
    spec_of("batch_norm_backward_apply", batch_norm.batch_norm_backward_apply, _backward_apply, 5,
          scale=lambda *_: 4, **BATCHES),

    spec_of("layer_norm_rows", layer_norm.layer_norm_rows, _layer_norm, 8, scale=lambda *_: 16, **LAYERS),
    spec_of("layer_norm_rows_backward", layer_norm.layer_norm_rows_backward,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.normal(n, c), _row_statistics(d, n), d.normal(c)), 14,
          scale=lambda *_: 16, **LAYERS),
    spec_of("layer_norm_backward_weight", layer_norm.layer_norm_backward_weight, _layer_norm_weight(False), 5,
          scale=sum_over_rows, **LAYERS),
    spec_of("layer_norm_backward_weight_accumulate", layer_norm.layer_norm_backward_weight, _layer_norm_weight(True), 5,
          scale=sum_over_rows, **LAYERS),

    spec_of("dropout", dropout.dropout, _dropout(0.3), 20, **FLAT),
    spec_of("dropout_later", dropout.dropout, _dropout(0.5, first_element=2**32 - 40), 20, **FLAT),
    spec_of("dropout_nothing", dropout.dropout, _dropout(0.0), 20, **FLAT),
    spec_of("dropout_planes", dropout.dropout_planes,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), 0.4, 7, 3, 2**32 - 5), 1, **ROWS),

    spec_of("prelu", prelu.prelu, lambda d, n, c, s: (d.blank(n, c, s), d.normal(n, c, s), d.normal(c)), 2, **BATCHES),
    spec_of("prelu_rows_backward", prelu.prelu_rows_backward, _prelu_backward, 5,
          scale=lambda n, c, s: BLOCK * s, **BATCHES),
    spec_of("prelu_backward_weight", prelu.prelu_backward_weight, _prelu_weight(False), 1,
          scale=sum_over_rows, **ROWS),
    spec_of("prelu_backward_weight_accumulate", prelu.prelu_backward_weight, _prelu_weight(True), 1,
          scale=sum_over_rows, **ROWS),
]
# fmt: on
