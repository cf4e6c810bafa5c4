"""Where branches meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastfnn_kernels import joins
from fastfnn_kernels.registry._spec import EDGES, FLAT, Draw, round_robin, spec_of

#: Rows, columns of the part, columns beside it.
PARTS = {
    "shapes": round_robin(40, EDGES, (1, 8, 3, 16, 33, 7), (0, 1, 5, 64)),
    "bench_shapes": ((64, 64, 128), (64, 3_136, 3_136)),
}


def _add(relu: bool) -> Callable[[Draw, int], tuple[Any, ...]]:
    return lambda d, n: (d.blank(n), d.normal(n), d.normal(n), relu)


# A number moved counts as an operation.
# fmt: off
SPECS = [
    spec_of("add", joins.add, _add(relu=False), 1, **FLAT),
    spec_of("add_relu", joins.add, _add(relu=True), 2, **FLAT),
    spec_of("put_columns", joins.put_columns, lambda d, n, w, more: (d.normal(n, w + more), d.normal(n, w), more // 2),
          1, **PARTS),
    spec_of("take_columns", joins.take_columns,
          lambda d, n, w, more: (d.blank(n, w), d.normal(n, w + more), more // 2, w), 1, **PARTS),
]
# fmt: on
