"""Lazy updates of a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastfnn_kernels.products import lazy
from fastfnn_kernels.registry._spec import EDGES, Draw, round_robin, spec_of

_WIDTHS, _COLUMNS = (64, 1, 63, 7, 129, 784, 200), (1, 3, 8, 10, 15, 16, 17, 31, 33, 100, 65)
ROWS = {"shapes": round_robin(40, EDGES, _WIDTHS, _COLUMNS), "bench_shapes": ((1, 784, 100), (16, 784, 100))}
WEIGHTS = {"shapes": round_robin(30, _WIDTHS, _COLUMNS), "bench_shapes": ((784, 100),)}


def _add(relu: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, width: int, columns: int) -> tuple[Any, ...]:
        inputs = d.normal(n, width), d.normal(columns), d.normal(columns)
        return d.normal(n, columns), d.blank(n), *inputs, d.scalar(0.4), relu

    return draw


def _defer(d: Draw, n: int, width: int, columns: int) -> tuple[Any, ...]:
    inputs = d.normal(n), d.normal(n, columns)
    return d.normal(columns), d.normal(columns), *inputs, d.scalar(0.4), d.scalar(-0.1)


def _settle(when: int, changed: bool = True) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, width: int, columns: int) -> tuple[Any, ...]:
        kept, pending = d.normal(width, columns), d.normal(columns)
        weight = kept + pending
        some = columns // 3 if changed else 0
        weight[d.rng.integers(0, width, some), d.rng.integers(0, columns, some)] += 1
        return np.ascontiguousarray(weight), kept, pending, d.normal(columns), when

    return draw


def _sum_of_rows(rows: int, width: int, columns: int) -> float:
    return 1.0 + rows


def _sum_of_width(rows: int, width: int, columns: int) -> float:
    return 1.0 + width


def _sum_of_columns(width: int, columns: int) -> float:
    return 4.0 * (1 + width)  # the row is added to each


# fmt: off
SPECS = [
    spec_of("add_pending", lazy.add_pending, _add(relu=False), 0.02, scale=_sum_of_width, **ROWS),
    spec_of("add_pending_relu", lazy.add_pending, _add(relu=True), 0.02, scale=_sum_of_width, **ROWS),
    spec_of("defer", lazy.defer, _defer, 0.01, scale=_sum_of_rows, **ROWS),
    spec_of("settle_resume_unchanged", lazy.settle, _settle(lazy.RESUME, changed=False), 2, scale=_sum_of_columns,
            **WEIGHTS),
    *(spec_of(f"settle_{name}", lazy.settle, _settle(when), 2, scale=_sum_of_columns, **WEIGHTS)
      for name, when in (("begin", lazy.BEGIN), ("renew", lazy.RENEW), ("leave", lazy.LEAVE), ("resume", lazy.RESUME))),
]
# fmt: on
