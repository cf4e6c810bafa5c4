"""Lazy updates: what all rows of a weight are to be given is put off, and nobody can tell but by the time it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import program
from fastfnn_kernels import _config
from fastfnn_kernels.program import STEPS_TO_SETTLE

pytestmark = pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is put off")

#: More steps of one row than are settled at once.
ROWS, WIDTH, HIDDEN, CLASSES = STEPS_TO_SETTLE * 2 + 11, 150, 70, 5


def data(dtype: str = "uint8") -> tuple[Any, Any]:
    """Images of which a fifth has ink."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 256, (ROWS, WIDTH)) * (rng.random((ROWS, WIDTH)) < 0.2)
    return x.astype(dtype), rng.integers(0, CLASSES, ROWS)


def network(dtype: str) -> ff.Sequential:
    normalize = ff.Normalize(mean=0.13, std=0.3, scale=1 / 255)
    layers = normalize, ff.Linear(WIDTH, HIDDEN), ff.ReLU(), ff.Linear(HIDDEN, CLASSES)
    return ff.Sequential(*layers, seed=1, dtype=dtype)


def train(model: ff.Sequential, x: Any, y: Any, **options: Any) -> Any:
    """The parameters afterwards."""
    settings = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.02), "epochs": 2, "seed": 3, "progress": False}
    ff.fit(model, x, y, **{**settings, "batch_size": 1, "n_threads": 1, **options})
    return model.parameters.copy()


def layer_by_layer(*args: Any, **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "is_compiled", lambda *args: False)
        return train(*args, **options)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every program made since: whether it puts something off."""
    found, make = [], program.Program._new_job

    def note(self: Any, n_threads: int) -> Any:
        job = make(self, n_threads)
        found.append(job.settle_records > 0)
        return job

    monkeypatch.setattr(program.Program, "_new_job", note)
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trains_as_layer_by_layer(settled: list[bool], dtype: str, batch_size: int) -> None:
    x, y = data()
    got = train(network(dtype), x, y, batch_size=batch_size)
    assert settled == [True]
    tolerance = {"float32": 3e-4, "float64": 1e-9}[dtype]
    expected = layer_by_layer(network(dtype), x, y, batch_size=batch_size)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{"optimizer": ff.Adam(1e-3)}, {"optimizer": ff.SGD(0.1, momentum=0.9)},
                                     {"batch_size": 64}, {"epochs": 1, "batch_size": ROWS // 4}], ids=str)  # fmt: skip
def test_where_it_does_not_pay_nothing_is_put_off(settled: list[bool], options: dict[str, Any]) -> None:
    train(network("float32"), *data(), **options)
    assert settled == [False]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_bits_are_those_of_any_number_of_threads(settled: list[bool], batch_size: int) -> None:
    one, *others = (train(network("float32"), *data(), batch_size=batch_size, n_threads=n) for n in (1, 2, 3))
    for other in others:
        np.testing.assert_array_equal(other, one)
    assert all(settled)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("steps", [1, 5, STEPS_TO_SETTLE])
def test_who_looks_between_steps_changes_nothing_and_sees_the_weights(
    settled: list[bool], steps: int, n_threads: int
) -> None:
    x, y = data()
    model, seen = network("float64"), []
    look = ff.EverySteps(steps, lambda end: seen.append((end.step, end.model.parameters.copy())))
    got = train(model, x, y, callbacks=[look], n_threads=n_threads, epochs=1, shuffle=False)
    np.testing.assert_array_equal(got, train(network("float64"), x, y, epochs=1, shuffle=False))
    assert all(settled)
    count, parameters = seen[len(seen) // 2]
    expected = train(network("float64"), x[:count], y[:count], epochs=1, shuffle=False)
    np.testing.assert_allclose(parameters, expected, rtol=1e-9)


def test_returns_to_python_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(network("float32"), *data())
    monkeypatch.setattr(program, "SLICE_SECONDS", 1e-9)
    np.testing.assert_array_equal(train(network("float32"), *data()), expected)


@pytest.mark.parametrize("columns", [slice(None), slice(3, 4), slice(0, 40)])
def test_weights_that_somebody_changes_between_steps_are_taken(settled: list[bool], columns: slice) -> None:
    def shrink(end: Any) -> None:
        if end.step % 3:
            end.model.layers[1].params["weight"][:, columns] *= 0.5

    options = {"callbacks": [ff.EverySteps(7, shrink)]}
    got = train(network("float64"), *data(), **options)
    np.testing.assert_allclose(got, layer_by_layer(network("float64"), *data(), **options), rtol=1e-9)
    assert settled == [True]


def test_a_loss_that_is_not_finite_leaves_the_parameters_of_the_epoch_before() -> None:
    model = network("float32")
    before = model.parameters.copy()
    with pytest.raises(ff.errors.NonFiniteLossError):
        train(model, data("float32")[0] * 1e30, data()[1], optimizer=ff.SGD(1e30))
    np.testing.assert_array_equal(model.parameters, before)
