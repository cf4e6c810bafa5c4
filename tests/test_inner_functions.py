"""Functions that compiled code calls: no way in from Python is made of them, and they mean the same from everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba.core import ir
from numba.core.errors import TypingError

from fastfnn_kernels import _config

pytestmark = pytest.mark.skipif(not _config.JIT, reason="nothing is compiled")

KINDS = [_config.helper, _config.forced, _config.inlined]


def kernel(function: Any) -> Any:
    return _config._Kernel(function, targetoptions={**_config.OPTIONS, "nopython": True})


def square_sum(values: Any) -> float:
    total = 0.0
    for i in range(values.size):
        total += values[i] * values[i]
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_calls_in_one_caller_keep_their_variables_apart(kind: Any, dtype: str) -> None:
    inner = kind(square_sum)

    @kernel
    def caller(first, second):  # type: ignore[no-untyped-def]
        total = 100.0
        total += inner(first) * 1000.0
        return total + inner(second)

    first, second = np.array([1, 2], dtype), np.array([3, 4, 5], dtype)
    assert caller(first, second) == 100 + 5000 + 50
    assert caller(second, first[:0]) == 100 + 50_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_from_python_is_compiled_too(kind: Any) -> None:
    inner = kind(square_sum)
    assert inner(np.array([3.0, 4.0])) == 25
    with pytest.raises(TypingError, match="size"):
        inner(3.0)


@pytest.mark.parametrize("kind", [_config.helper, _config.forced])
def test_nothing_but_the_function_itself_is_compiled_for_a_caller(kind: Any) -> None:
    inner = kind(square_sum)

    @kernel
    def caller(values):  # type: ignore[no-untyped-def]
        return inner(values)

    assert caller(np.ones(3)) == 3
    (made,) = inner.overloads.values()
    definitions = [line for line in made.library.get_llvm_str().splitlines() if line.startswith("define")]
    assert len(definitions) == 1
    assert "square_sum" in definitions[0]


def test_a_failed_compilation_leaves_numba_as_it_was() -> None:
    @kernel
    def wrong(values):  # type: ignore[no-untyped-def]
        return values.no_such_attribute

    with pytest.raises(TypingError, match="no_such_attribute"):
        wrong(np.ones(3))
    assert "__deepcopy__" not in vars(ir.Scope)
