"""Products over nonzeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference, sparse
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


def _room(d: Draw, rows: int, width: int, blocks: int) -> tuple[Array, Array, Array]:
    """Room for nonzeros: a kernel leaves what lies behind a row's last as it is."""
    return d.normal(rows, width), np.full((rows, width), -1, np.int32), d.blank(rows, blocks, dtype=np.int64)


def _blocks(width: int) -> int:
    return max(1, -(-width // sparse.BLOCK))


def _dense(source: Callable[[Draw, int, int], Array], zero: float) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, width: int) -> tuple[Any, ...]:
        x = source(d, n, width)
        x[d.rng.random(x.shape) < 0.7] = zero
        return *_room(d, n, width, _blocks(width)), x, x.dtype.type(zero), d.scalar(0.3)

    return draw


def _csr(ordered: bool) -> Callable[..., tuple[Any, ...]]:
    """A fifth of all columns in each row, in order, or in no order and some of them twice."""

    def draw(d: Draw, n: int, width: int) -> tuple[Any, ...]:
        rows = [np.flatnonzero(d.rng.random(width) < 0.2) for _ in range(n)]
        if not ordered:
            rows = [d.rng.choice(row, row.size) if row.size else row for row in rows]
        starts = np.cumsum([0, *(row.size for row in rows)])
        indices = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32 if ordered else np.int64)
        room = _room(d, n, width, _blocks(width) if ordered else 1)
        return *room, starts, indices, d.normal(indices.size), d.scalar(0.3)

    return draw


def _nonzeros(d: Draw, n: int, width: int) -> tuple[Array, Array, Array]:
    """A fifth of all columns in each row; behind a row's last are a NaN and no column."""
    x = np.where(d.rng.random((n, width)) < 0.2, d.normal(n, width), 0)
    _, columns, ends = _room(d, n, width, _blocks(width))
    values, columns, ends = reference.nonzeros(d.blank(n, width), columns, ends, x)
    return values.astype(d.dtype), columns, ends


def _forward(shift: float, relu: bool, copied: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, width: int, m: int) -> tuple[Any, ...]:
        operands = d.blank(n, m), _scratch(d), *_nonzeros(d, n, width), d.normal(width, m), d.normal(m)
        return *operands, d.scalar(shift), relu, copied and width > sparse.BLOCK

    return draw


def _backward(shift: float, alpha: float, accumulate: bool, copied: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, width: int, n: int, m: int) -> tuple[Any, ...]:
        out = d.normal(width, m) if accumulate else d.blank(width, m)
        operands = out, _scratch(d), *_nonzeros(d, n, width), d.normal(n, m)
        return *operands, d.scalar(shift), d.scalar(alpha), accumulate, copied and width > sparse.BLOCK

    return draw


def _scratch(d: Draw) -> Array:
    scratch = sparse.scratch_for(d.dtype, d.n_threads)
    scratch[...] = np.nan
    return scratch


# fmt: off
SPECS = [
    spec_of("nonzeros", sparse.nonzeros, _dense(Draw.normal, 0), 1, **ROWS),
    spec_of("nonzeros_from_other_zero", sparse.nonzeros, _dense(Draw.normal, -0.5), 2, **ROWS),
    spec_of("nonzeros_uint8", sparse.nonzeros, _dense(Draw.pixels, 0), 1, **ROWS),
    spec_of("csr_nonzeros", sparse.csr_nonzeros, _csr(ordered=True), 1, **ROWS),
    spec_of("csr_nonzeros_unordered", sparse.csr_nonzeros, _csr(ordered=False), 1, **ROWS),
    spec_of("sparse_linear", sparse.sparse_linear, _forward(0, relu=False, copied=False), 0.4, **FORWARD),
    spec_of("sparse_linear_relu", sparse.sparse_linear, _forward(0, relu=True, copied=False), 0.4, **FORWARD),
    spec_of("sparse_linear_shifted", sparse.sparse_linear, _forward(0.4, relu=True, copied=False), 0.4, **FORWARD),
    spec_of("sparse_linear_copied", sparse.sparse_linear, _forward(0, relu=False, copied=True), 0.4, **FORWARD),
    spec_of("sparse_linear_copied_shifted", sparse.sparse_linear,
          _forward(0.4, relu=True, copied=True), 0.4, **FORWARD),
    spec_of("sparse_backward_weight", sparse.sparse_backward_weight,
          _backward(0, 1, accumulate=False, copied=False), 0.4, **BACKWARD),
    spec_of("sparse_sgd_step", sparse.sparse_backward_weight,
          _backward(0, -0.1, accumulate=True, copied=False), 0.4, **BACKWARD),
    spec_of("sparse_sgd_step_shifted", sparse.sparse_backward_weight,
          _backward(0.4, -0.1, accumulate=True, copied=False), 0.4, **BACKWARD),
    spec_of("sparse_backward_weight_copied", sparse.sparse_backward_weight,
          _backward(0.4, 1, accumulate=False, copied=True), 0.4, **BACKWARD),
    spec_of("sparse_sgd_step_copied", sparse.sparse_backward_weight,
          _backward(0, -0.1, accumulate=True, copied=True), 0.4, **BACKWARD),
]
# fmt: on
