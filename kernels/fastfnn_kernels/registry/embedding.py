"""Rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastfnn_kernels import embedding
from fastfnn_kernels.registry._spec import EDGES, Draw, round_robin, spec_of

#: Rows, entries, columns of the table, lookups.
TABLES = {
    "shapes": round_robin(40, EDGES, (10, 1, 3, 100, 2), (8, 1, 5, 16, 33), (1, 3)),
    "bench_shapes": ((256, 100, 8, 1), (256, 10_000, 32, 10)),
}
#: Columns beside those that are read and written.
BEFORE, BEHIND = 2, 1


def _numbers(d: Draw, n: int, entries: int, lookups: int) -> Any:
    return d.labels(n * (lookups + BEFORE + BEHIND), entries).reshape(n, lookups + BEFORE + BEHIND).astype(d.dtype)


def _wide(d: Draw, n: int, dim: int, lookups: int) -> Any:
    return d.normal(n, BEHIND + lookups * dim + BEFORE)


def _look_up(d: Draw, n: int, entries: int, dim: int, lookups: int) -> tuple[Any, ...]:
    return _wide(d, n, dim, lookups), d.normal(entries, dim), _numbers(d, n, entries, lookups), BEHIND, BEFORE, lookups


def _backward(alpha: float, accumulate: bool) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n, entries, dim, lookups: (
        d.normal(entries, dim) if accumulate else d.blank(entries, dim),
        _wide(d, n, dim, lookups),
        _numbers(d, n, entries, lookups),
        BEHIND,
        BEFORE,
        lookups,
        d.scalar(alpha),
        accumulate,
    )


# A number moved counts as an operation.
# fmt: off
SPECS = [
    spec_of("look_up", embedding.look_up, _look_up, 1, **TABLES),
    spec_of("look_up_backward", embedding.look_up_backward, _backward(1.0, accumulate=False), 1,
          scale=lambda n, entries, dim, lookups: 1 + n, **TABLES),
    spec_of("look_up_backward_sgd", embedding.look_up_backward, _backward(-0.1, accumulate=True), 2,
          scale=lambda n, entries, dim, lookups: 1 + n, **TABLES),
]
# fmt: on
