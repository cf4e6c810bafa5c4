"""Products that skip zeros: with marks, with lists of nonzeros, and with a packed weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference
from fastfnn_kernels.products import marked, packed, sparse
from fastfnn_kernels.registry._spec import EDGES, Draw, round_robin, spec_of

Array = NDArray[Any]

_WIDTHS = (64, 1, 63, 65, 128, 7, 129, 784, 200, 0)
ROWS = {"shapes": round_robin(40, EDGES, _WIDTHS), "bench_shapes": ((64, 784), (448, 784))}
_COLUMNS = (1, 3, 8, 10, 15, 16, 17, 31, 33, 100, 64, 65, 127, 128, 129, 257, 4)
FORWARD = {
    "shapes": (*round_robin(40, EDGES[1:], _WIDTHS[:-1], _COLUMNS), (0, 7, 10)),
    "bench_shapes": ((1, 784, 100), (64, 784, 100), (448, 784, 100)),
    "scale": lambda rows, width, columns: 1 + width,
}
BACKWARD = {
    "shapes": tuple((width, rows, columns) for rows, width, columns in FORWARD["shapes"]),
    "bench_shapes": ((784, 1, 100), (784, 64, 100), (784, 448, 100)),
    "scale": lambda width, rows, columns: 1 + rows,
}

# Marks


def _mark(source: Callable[[Draw, int, int], Array], zero: float) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, width: int) -> tuple[Any, ...]:
        x = source(d, n, width)
        x[d.rng.random(x.shape) < 0.7] = zero
        marks = d.blank(*marked.marks_for(n, width).shape, dtype=np.int64)
        return d.blank(n, width), marks, x, x.dtype.type(zero), d.scalar(0.3)

    return draw


def _marked(d: Draw, n: int, width: int) -> tuple[Array, Array]:
    """A fifth of all elements, and their marks; all bits of rows that are none are set."""
    x = np.where(d.rng.random((n, width)) < 0.2, d.normal(n, width), 0)
    marks = np.full_like(marked.marks_for(n, width), -1)
    return x.astype(d.dtype), reference.mark_nonzeros(x, marks, x)[1]


def _marked_scratch(d: Draw, rows: int) -> Array:
    scratch = marked.scratch_for(d.dtype, rows, d.n_threads)
    scratch[...] = np.nan
    return scratch


def _marked_forward(shift: float, relu: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, width: int, m: int) -> tuple[Any, ...]:
        operands = d.blank(n, m), _marked_scratch(d, n), *_marked(d, n, width), d.normal(width, m), d.normal(m)
        return *operands, d.scalar(shift), relu

    return draw


def _marked_backward(shift: float, alpha: float, accumulate: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, width: int, n: int, m: int) -> tuple[Any, ...]:
        out = d.normal(width, m) if accumulate else d.blank(width, m)
        operands = out, _marked_scratch(d, n), *_marked(d, n, width), d.normal(n, m)
        return *operands, d.scalar(shift), d.scalar(alpha), accumulate

    return draw


# Lists


def _csr(ordered: bool) -> Callable[..., tuple[Any, ...]]:
    """A fifth of all columns in each row, in order, or in no order and some of them twice."""

    def draw(d: Draw, n: int, width: int) -> tuple[Any, ...]:
        rows = [np.flatnonzero(d.rng.random(width) < 0.2) for _ in range(n)]
        if not ordered:
            rows = [d.rng.choice(row, row.size) if row.size else row for row in rows]
        starts = np.cumsum([0, *(row.size for row in rows)])
        indices = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32 if ordered else np.int64)
        room = d.normal(n, width), np.full((n, width), -1, np.int32), d.blank(n, dtype=np.int64)
        return *room, starts, indices, d.normal(indices.size), d.scalar(0.3)

    return draw


def _nonzeros(d: Draw, n: int, width: int) -> tuple[Array, Array, Array]:
    """A fifth of all columns in each row; behind a row's last are a NaN and no column."""
    values, columns = d.blank(n, width), np.full((n, width), -1, np.int32)
    counts = np.zeros(n, np.int64)
    for i in range(n):
        here = np.flatnonzero(d.rng.random(width) < 0.2)
        counts[i] = here.size
        values[i, : here.size], columns[i, : here.size] = d.normal(here.size), here
    return values, columns, counts


def _forward(shift: float, relu: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, width: int, m: int) -> tuple[Any, ...]:
        operands = d.blank(n, m), _scratch(d), *_nonzeros(d, n, width), d.normal(width, m), d.normal(m)
        return *operands, d.scalar(shift), relu

    return draw


def _backward(shift: float, alpha: float, accumulate: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, width: int, n: int, m: int) -> tuple[Any, ...]:
        out = d.normal(width, m) if accumulate else d.blank(width, m)
        operands = out, _scratch(d), *_nonzeros(d, n, width), d.normal(n, m)
        return *operands, d.scalar(shift), d.scalar(alpha), accumulate

    return draw


def _scratch(d: Draw) -> Array:
    scratch = sparse.scratch_for(d.dtype, d.n_threads)
    scratch[...] = np.nan
    return scratch


# Packed weights


def _packed(most: float, relu: bool) -> Callable[..., tuple[Any, ...]]:
    """Rows of which every third is dense; of the others' elements most are 0, -0.5 or, which is too large, 9."""

    def draw(d: Draw, n: int, width: int, m: int) -> tuple[Any, ...]:
        x, filler = d.normal(n, width), np.array([0.0, -0.5, 9.0])[d.rng.integers(0, 3, n)]
        filled = (d.rng.random((n, width)) < 0.8) & (np.arange(n)[:, None] % 3 != 1)
        x = np.where(filled, filler[:, None], x).astype(d.dtype)
        strips, sums = packed.pack(d.normal(width, m))
        marks, zeros = packed.marks_for(width, d.n_threads)
        marks[...], zeros[...] = np.iinfo(np.int64).min, np.nan
        return d.blank(n, m), marks, zeros, x, strips, d.normal(m), sums, most, 8.0, relu

    return draw


PACKED = {**FORWARD, "scale": lambda rows, width, columns: 1 + 9 * width, "nan_spreads": True}
MARKED_FORWARD, MARKED_BACKWARD = {**FORWARD, "nan_spreads": True}, {**BACKWARD, "nan_spreads": True}
# fmt: off
SPECS = [
    spec_of("mark_nonzeros", marked.mark_nonzeros, _mark(Draw.normal, 0), 1, **ROWS),
    spec_of("mark_nonzeros_from_other_zero", marked.mark_nonzeros, _mark(Draw.normal, -0.5), 2, **ROWS),
    spec_of("mark_nonzeros_uint8", marked.mark_nonzeros, _mark(Draw.pixels, 0), 1, **ROWS),
    spec_of("marked_linear", marked.marked_linear, _marked_forward(0, relu=False), 0.6, **MARKED_FORWARD),
    spec_of("marked_linear_shifted", marked.marked_linear, _marked_forward(0.4, relu=True), 0.6, **MARKED_FORWARD),
    spec_of("marked_backward_weight", marked.marked_backward_weight,
          _marked_backward(0.4, 1, accumulate=False), 0.6, **MARKED_BACKWARD),
    spec_of("marked_sgd_step", marked.marked_backward_weight,
          _marked_backward(0, -0.1, accumulate=True), 0.6, **MARKED_BACKWARD),
    spec_of("marked_sgd_step_shifted", marked.marked_backward_weight,
          _marked_backward(0.4, -0.1, accumulate=True), 0.6, **MARKED_BACKWARD),
    spec_of("csr_nonzeros", sparse.csr_nonzeros, _csr(ordered=True), 1, **ROWS),
    spec_of("csr_nonzeros_unordered", sparse.csr_nonzeros, _csr(ordered=False), 1, **ROWS),
    spec_of("sparse_linear", sparse.sparse_linear, _forward(0, relu=False), 0.4, **FORWARD),
    spec_of("sparse_linear_relu", sparse.sparse_linear, _forward(0, relu=True), 0.4, **FORWARD),
    spec_of("sparse_linear_shifted", sparse.sparse_linear, _forward(0.4, relu=True), 0.4, **FORWARD),
    spec_of("sparse_backward_weight", sparse.sparse_backward_weight,
          _backward(0, 1, accumulate=False), 0.4, **BACKWARD),
    spec_of("sparse_sgd_step", sparse.sparse_backward_weight,
          _backward(0, -0.1, accumulate=True), 0.4, **BACKWARD),
    spec_of("sparse_sgd_step_shifted", sparse.sparse_backward_weight,
          _backward(0.4, -0.1, accumulate=True), 0.4, **BACKWARD),
    spec_of("packed_linear", packed.packed_linear, _packed(0, relu=False), 2, **FORWARD),
    spec_of("packed_linear_relu", packed.packed_linear, _packed(0, relu=True), 2, **FORWARD),
    spec_of("packed_linear_skipping", packed.packed_linear, _packed(0.5, relu=False), 2, **PACKED),
    spec_of("packed_linear_skipping_relu", packed.packed_linear, _packed(0.5, relu=True), 2, **PACKED),
]
# fmt: on
