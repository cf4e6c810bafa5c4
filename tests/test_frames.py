"""What pandas gives: frames of several dtypes, boolean labels, series; what is no number is named with its column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(6)
N = 60
FRAME = pd.DataFrame(
    {"height": RNG.normal(size=N), "smokes": RNG.random(N) < 0.3, "age": RNG.integers(20, 60, N).astype(np.int8)}
)
X = np.column_stack([FRAME["height"], FRAME["smokes"], FRAME["age"]]).astype(float)
OPTIONS: dict[str, Any] = {"epochs": 2, "seed": 0, "progress": False}


def trained(x: Any, y: Any, loss: ff.Loss, out: int) -> ff.Sequential:
    model = ff.Sequential(ff.Linear(3, 5), ff.Tanh(), ff.Linear(5, out), seed=0, dtype="float64")
    ff.fit(model, x, y, loss=loss, optimizer=ff.Adam(0.01), validation_data=(x, y), **OPTIONS)
    return model


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME.astype({"smokes": "boolean", "age": "Int64", "height": "Float64"}), FRAME.astype(object)],
    ids=["mixed", "nullable", "objects"],
)
def test_mixed_numeric_and_boolean_columns_are_numbers(frame: Any) -> None:
    y = FRAME["height"] > 0
    expected = trained(X, y.to_numpy().astype(int), ff.CrossEntropyLoss(), 2)
    for labels in (y, y.astype("boolean"), y.to_frame(), y.astype(object)):
        model = trained(frame, labels, ff.CrossEntropyLoss(), 2)
        assert model.parameters.tobytes() == expected.parameters.tobytes()
    np.testing.assert_array_equal(ff.predict(expected, frame), ff.predict(expected, X))
    np.testing.assert_array_equal(ff.Predictor(expected).predict(frame), ff.predict(expected, X))


def test_a_series_of_numbers_is_the_target_of_one_output() -> None:
    model = trained(FRAME, FRAME["height"], ff.MSELoss(), 1)
    assert ff.predict(model, FRAME).shape == (N,)
    assert trained(FRAME, FRAME[["height"]], ff.MSELoss(), 1).parameters.tobytes() == model.parameters.tobytes()


def test_gaps_are_nan_and_named_with_their_row() -> None:
    frame = FRAME.assign(age=FRAME["age"].astype("Int64").mask(FRAME.index == 7))
    for gappy in (frame, frame[["age", "age", "age"]]):
        with pytest.raises(ValueError, match=r"x\[7, \d\] is nan"):
            trained(gappy, FRAME["smokes"], ff.CrossEntropyLoss(), 2)


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (["red"] * 30 + ["blue"] * 30, "'red'"),
        (pd.Categorical(["red"] * N), "'red'"),
        (pd.date_range("2020-01-01", periods=N), "Timestamp"),
        ([1.5] * 59 + [None], "None"),
    ],
    ids=["words", "categories", "dates", "objects"],
)
def test_a_column_of_something_else_is_named(column: Any, shown: str) -> None:
    frame = FRAME.assign(colour=pd.Series(column, dtype=object if shown == "None" else None))
    model = ff.Sequential(ff.Linear(4, 2), seed=0)
    with pytest.raises(InvalidTypeError, match=f"x holds {shown}.* in row .*, column 'colour'; expected numbers"):
        ff.predict(model, frame)


def test_words_as_labels_are_named() -> None:
    words = pd.Series(["yes", "no"] * 30)
    for labels in (words, words.to_numpy(dtype="U3")):
        with pytest.raises(InvalidTypeError, match="y (holds 'yes' in row 0|has dtype <U3).*np.unique"):
            trained(FRAME, labels, ff.CrossEntropyLoss(), 2)
