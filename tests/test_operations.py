"""Records: what a step writes and what an operation reads are one declaration, and a step that errs is told by name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from fastfnn_kernels import _config

if not _config.JIT:
    pytest.skip("without the JIT there are no operations", allow_module_level=True)

from typing import Annotated

from _operations import places_of, run_operation

from fastfnn.engine.steps import Data, Table
from fastfnn_kernels import operations
from fastfnn_kernels.operations import _registry
from fastfnn_kernels.operations._fields import (
    Adds,
    Array,
    Count,
    DType,
    Flag,
    Known,
    Number,
    Place,
    Setting,
    all_blocks,
    all_rows,
    array,
    blocks,
    each_threads,
    own,
    rows,
    rows_up_to_mine,
)
from fastfnn_kernels.program import HEAD_BYTES

F32 = np.dtype(np.float32)


def test_every_operation_says_what_its_arguments_are_and_fits_a_record() -> None:
    assert len(operations.OPERATIONS) > 50
    for name, operation in operations.OPERATIONS.items():
        assert operation.name == name
        assert operation.layout.itemsize <= HEAD_BYTES
        assert operation.layout.names == ("operation", *operation.fields)
        assert {kind for kind in operation.arguments if not isinstance(operation.arguments[kind], Known)} <= set(
            operation.fields
        )


# What a step may not write


def relu(table: Table, **changed: Any) -> None:
    out = table.buffer((5,))
    fields = {"out": out, "x": table.buffer((5,)), "width": 5, **changed}
    table.row("relu", **{name: value for name, value in fields.items() if value is not ...})


def table(rows: int = 6, n_threads: int = 2) -> Table:
    return Table(F32, rows, n_threads, training=True)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"x": ...}, "a record of relu lacks x"),
    "unknown": ({"y": 1}, "a record of relu has no y"),
    "a list": ({"x": [1.0]}, r"x in a record of relu is \[1.0\]; expected a C-contiguous array of 30 float32"),
    "None": ({"x": None}, "x in a record of relu is None; expected a C-contiguous array of 30 float32"),
    "another dtype": ({"x": np.zeros((6, 5))}, r"x in a record of relu is float64 \(6, 5\); expected"),
    "too short": ({"x": np.zeros((5, 5), F32)}, r"is float32 \(5, 5\); expected a C-contiguous array of 30 float32"),
    "turned round": ({"x": np.zeros((5, 6), F32).T}, r"x in a record of relu is float32 \(6, 5\); expected"),
    "no count": ({"width": 2.5}, "width in a record of relu is 2.5; expected an integer"),
    "an array for a count": ({"width": np.zeros(2)}, r"width in a record of relu is float64 \(2,\); expected an int"),
}


@pytest.mark.parametrize(("changed", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_field_is_refused_by_name_when_it_is_written(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        relu(table(), **changed)


def test_numbers_settings_sources_and_operations_are_checked_too() -> None:
    here = table()
    flat = {"out": here.buffer((5,)), "x": here.buffer((5,)), "width": 5}
    with pytest.raises(TypeError, match="negative_slope in a record of leaky_relu is 'a'; expected a float"):
        here.row("leaky_relu", negative_slope="a", **flat)
    parameters = {"size": 3, "param": np.zeros(3, F32), "grad": np.zeros(3, F32), "weight_decay": here.zero}
    for lr in (0.1, np.zeros(2, F32), np.zeros(0)):
        with pytest.raises(TypeError, match="lr in a record of sgd is .*; expected a C-contiguous array of 1 float64"):
            here.update("sgd", lr=lr, **parameters)
    with pytest.raises(TypeError, match="out in a record of store is 'nowhere'; expected one of x, y,"):
        here.row("store", out="nowhere", x=here.buffer((5,)), width=5)
    with pytest.raises(TypeError, match="there is no operation mish; expected one of"):
        here.row("mish", **flat)
    assert [len(records) for records in here.finished()] == [0, 0, 0, 0]


def test_data_stand_for_their_source_and_their_dtype() -> None:
    here = table()
    here.gather(Data("x", (5,), np.dtype(np.uint8)))
    (record,) = here._rows
    assert record is not None
    assert record[0] == ("gather", F32, np.uint8)


# A new operation: a function of named arguments, a line that registers it, a record


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(_registry, "OPERATIONS", known := dict(operations.OPERATIONS))
    monkeypatch.setattr(operations, "OPERATIONS", known)
    return _registry.operation


Rows = Annotated[Array, rows("width")]
MaybeRows = Annotated[Array, rows("width", optional=True)]


def scale_and_shift(
    out: Rows, x: Rows, more: MaybeRows, factor: Number, shift: Setting, twice: Flag, width: Count
) -> None:
    for i in range(out.shape[0]):
        for j in range(width):
            out[i, j] = x[i, j] * factor + shift
            if twice:
                out[i, j] *= 2
            if more.size:
                out[i, j] += more[i, j]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n_threads", "n"), [(1, 1), (2, 21), (3, 8)])
def test_a_function_of_named_arguments_is_an_operation(register: Any, n_threads: int, n: int, dtype: str) -> None:
    register(scale_and_shift)
    x, more = np.random.default_rng(0).normal(size=(2, n, 3)).astype(dtype)
    places = [place for place in places_of(n, n_threads) if place.last > place.first]
    for twice, added in ((True, None), (False, more)):
        out, shift = np.full_like(x, np.nan), np.array([0.5])
        fields = {"x": x, "more": added, "factor": 3.0, "shift": shift, "twice": twice, "width": 3}
        run_operation("scale_and_shift", dtype, places, n, out=out, **fields)
        expected = (x * 3 + 0.5) * (2 if twice else 1) + (0 if added is None else added)
        np.testing.assert_allclose(out, expected, rtol=1e-6)


def every_extent(
    mine: Annotated[Array, rows("width", axes=1)],
    so_far: Annotated[Array, rows_up_to_mine("width")],
    every: Annotated[Array, all_rows("width")],
    my_blocks: Annotated[Array, blocks(2)],
    every_block: Annotated[Array, all_blocks(2)],
    whole: Annotated[Array, array("width", 4)],
    memory: Annotated[Array, own("width")],
    memories: Annotated[Array, each_threads("width")],
    found: Annotated[Array, array(16, dtype=np.int64)],
    adds: Adds,
    place: Place,
    dtype: DType,
) -> None:
    if place.tid == 1:
        found[0], found[1], found[2] = mine.size, so_far.shape[0], every.shape[0]
        found[3], found[4] = my_blocks.shape[0], every_block.shape[0]
        found[5], found[6], found[7] = whole.shape[0], whole.shape[1], memory.size
        found[8], found[9] = memories.shape[0], memories.shape[1]
        found[10], found[11], found[12] = mine[0], my_blocks[0, 0], memory[0]
        found[13], found[14] = adds, dtype(1.9) > 1.5


def test_an_operation_gets_its_threads_part_of_every_array(register: Any) -> None:
    """Of 21 rows in two blocks for the first thread and one for the second."""
    register(every_extent)
    n, width, found = 21, 3, np.full(16, -1)
    numbered = np.arange(n * width, dtype=np.float32)
    arrays = {name: numbered.reshape(n, width) for name in ("mine", "so_far", "every")}
    arrays |= {"my_blocks": numbered[:6].reshape(3, 2), "every_block": numbered[:6], "whole": numbered[:12]}
    arrays |= {"memory": numbered[:6].reshape(2, width), "memories": numbered[:6]}
    places = places_of(n, 2)
    assert [(place.first, place.last) for place in places] == [(0, 8), (8, 21)]
    places[1].adds = 1
    run_operation("every_extent", "float32", places, n, found=found, width=width, **arrays)
    assert found[:3].tolist() == [13 * width, 21, 21]
    assert found[3:5].tolist() == [2, 3]  # blocks
    assert found[5:8].tolist() == [width, 4, width]
    assert found[8:10].tolist() == [2, width]
    assert found[10:13].tolist() == [8 * width, 2, width]
    assert found[13:15].tolist() == [1, 1]


def test_a_kernel_with_other_parameters_is_refused() -> None:
    from fastfnn_kernels import activations

    with pytest.raises(AssertionError, match=re.escape("relu takes ['out', 'x', 'tid', 'n_threads']")):
        _registry.by_rows(activations.relu, out=rows("width"), y=rows("width"))
