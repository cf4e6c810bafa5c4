"""Labels of tables and folders: classes or numbers, and compared as what they are."""

from __future__ import annotations

import pytest

from fastfnn.cli.classes import CLASSIFICATION, REGRESSION, known, numbered, task_of
from fastfnn.errors import DataError


def here(place: int) -> str:
    return f"line {place + 2}"


@pytest.mark.parametrize(
    ("names", "asked", "task"),
    [
        (["0", "1", "2"], None, CLASSIFICATION),
        (["0.5", "1"], None, REGRESSION),
        ([str(i) for i in range(30)], None, CLASSIFICATION),
        ([str(i) for i in range(31)], None, REGRESSION),
        ([str(i) for i in range(31)], "classification", CLASSIFICATION),
        (["0", "1", "2"], "regression", REGRESSION),
        ([f"0{i}" for i in range(99)], None, CLASSIFICATION),
        ([f"name {i}" for i in range(99)], None, CLASSIFICATION),
    ],
)
def test_many_numbers_are_a_regression(names: list[str], asked: str | None, task: str) -> None:
    assert task_of(names, "", "y", here, asked) == task


def test_a_word_among_many_numbers_is_named() -> None:
    names = [*(str(i) for i in range(40)), "none"]
    with pytest.raises(DataError, match="its line 42 holds 'none' in column 'y', where 40 of 41 different cells are"):
        task_of(names, "FILE", "y", here)
    assert task_of(names, "FILE", "y", here, "classification") == CLASSIFICATION
    with pytest.raises(DataError, match="holds 'none'"):
        task_of(["1", "none"], "FILE", "y", here, "regression")


def test_classes_are_compared_as_what_they_are() -> None:
    codes, names = numbered(["2", "1.0", "1", "2.0"], "")
    assert (codes.tolist(), names) == ([1, 0, 0, 1], ("1.0", "2"))
    codes, names = numbered(["01", "1", "1.0"], "")
    assert (codes.tolist(), names) == ([0, 1, 2], ("01", "1", "1.0"))
    assert known(["2.0", "1"], "", here, 2, ("1.0", "2"))[0].tolist() == [1, 0]
    for came, has in (("3", ("1", "2")), ("01", ("1", "2")), ("1", ("01", "02")), ("x", ("1", "2"))):
        with pytest.raises(DataError, match=rf"it has the class '{came}'; expected those of MODEL: .* \(line 2\)"):
            known([came], "", here, 2, has)
    with pytest.raises(DataError, match="it has the class '3'"):
        known(["1", "2", "3"], "", here, 3, None)
