"""What a user, a callback or another thread changes between and within calls: taken rightly, or refused by name.

Never another number, and never memory that is not ours: right values are those of the layers' definitions in NumPy.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError, NonFiniteLossError
from fastfnn_kernels import _config

RNG = np.random.default_rng(5)
X = RNG.normal(size=(90, 6))
Y = RNG.integers(0, 4, 90)
DTYPES = ("float32", "float64")
OPTIONS: dict[str, Any] = {"loss": ff.CrossEntropyLoss(), "progress": False, "seed": 0}
needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT there are no programs")


def network(dtype: str = "float32") -> ff.Sequential:
    layers = ff.Linear(6, 5), ff.BatchNorm1d(5), ff.Tanh(), ff.Linear(5, 5), ff.ReLU(), ff.Linear(5, 4)
    return ff.Sequential(*layers, seed=0, dtype=dtype)


def outputs(model: ff.Sequential, x: Any) -> Any:
    """The definition, from what the layers hold."""
    first, norm, _, second, _, last = (layer for layer in model.layers)
    affine = lambda layer, rows: rows @ np.asarray(layer.params["weight"]) + layer.params["bias"]  # noqa: E731
    hidden = affine(first, x)
    variance, mean = norm.buffers["running_var"], norm.buffers["running_mean"]
    hidden = (hidden - mean) / np.sqrt(variance + norm.eps) * norm.params["weight"] + norm.params["bias"]
    return affine(last, np.maximum(affine(second, np.tanh(hidden)), 0))


def replace(layer: int, name: str, value: Callable[[Any], Any], part: str = "params") -> Callable[[Any], None]:
    def change(model: Any) -> None:
        arrays = getattr(model[layer], part)
        arrays[name] = value(arrays[name])

    return change


TAKEN: dict[str, Callable[[Any], None]] = {
    "a weight's transpose": replace(3, "weight", lambda w: w.T),
    "a weight's reverse": replace(3, "weight", lambda w: w[::-1]),
    "a strided weight": replace(0, "weight", lambda w: np.repeat(w, 2, axis=1)[:, ::2]),
    "a bias's reverse": replace(5, "bias", lambda b: b[::-1]),
    "a part of the flat array": lambda model: model[3].params.update(bias=model.parameters[:5]),
    "another layer's weight": lambda model: model[3].params.update(weight=model[0].params["weight"][:5]),
    "a list": replace(3, "bias", lambda b: b.tolist()),
    "integers": replace(3, "bias", lambda b: np.arange(5)),
    "half precision": replace(3, "weight", lambda w: w.astype("float16")),
    "the other precision": replace(3, "weight", lambda w: w.astype("float64" if w.dtype == "float32" else "float32")),
    "a buffer in the other precision": replace(1, "running_mean", lambda b: b.astype("float64") + 0.5, "buffers"),
    "a strided buffer": replace(1, "running_var", lambda b: np.arange(1.0, 11)[::2], "buffers"),
    "all parameters": lambda model: setattr(model, "parameters", np.linspace(-1, 1, model.parameters.size)),
    "an array in place": lambda model: model[3].params["weight"].__setitem__(..., 0.25),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN)
def test_what_fits_is_taken(change: Callable[[Any], None], dtype: str) -> None:
    model = network(dtype)
    ff.predict_raw(model, X)
    change(model)
    expected = outputs(model, X)
    np.testing.assert_allclose(ff.predict_raw(model, X), expected, rtol=2e-3, atol=1e-4)
    ff.fit(model, X, Y, optimizer=ff.SGD(0.1), **OPTIONS)
    np.testing.assert_allclose(ff.predict_raw(model, X), outputs(model, X), rtol=2e-3, atol=1e-4)
    assert all(array.dtype == dtype for layer in model.layers for held in layer.array_views() for array in held)


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a short bias": (replace(3, "bias", lambda b: b[:2]), r"params\['bias'\] of layers\[3\] Linear.* has shape \(2,\)"),
    "a flat weight": (replace(3, "weight", lambda w: w.ravel()), r"params\['weight'\] of layers\[3\] .* shape \(25,\)"),
    "a buffer of one": (replace(1, "running_var", lambda b: b[:1], "buffers"), r"buffers\['running_var'\] of layers"),
    "words": (replace(3, "bias", lambda b: np.array(list("abcde"))), "expected numbers"),
    "too many parameters": (lambda model: setattr(model, "parameters", np.zeros(3)), r"parameters has shape \(3,\)"),
}


@pytest.mark.parametrize("change, message", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_named_and_nothing_is_half_changed(change: Callable[[Any], None], message: str) -> None:
    model = network()
    held = {name: array.copy() for name, array in model.named_parameters().items()}
    with pytest.raises((InvalidValueError, InvalidTypeError), match=message):
        change(model)
        ff.predict_raw(model, X)
    for i, layer in enumerate(model.layers):
        for name, array in layer.params.items():
            if (i, name) != (3, "bias") and (i, name) != (3, "weight"):
                np.testing.assert_array_equal(array, held[f"{i}.{name}"])


FIXED: dict[str, tuple[Callable[[Any], None], str]] = {
    "features": (lambda model: setattr(model[0], "out_features", 9), "out_features of a Linear cannot be changed"),
    "a bias": (lambda model: setattr(model[0], "bias", False), "bias of a Linear cannot be changed"),
    "channels": (lambda model: setattr(model[1], "num_features", 3), "num_features of a BatchNorm1d cannot be changed"),
    "a stride": (lambda model: setattr(ff.Conv2d(1, 2, 3).filters, "stride", (2, 2)), "stride cannot be changed"),
    "a window": (lambda model: setattr(ff.MaxPool2d(2).windows, "padding", (1, 1)), "padding cannot be changed"),
    "the dtype": (lambda model: setattr(model, "dtype", "float64"), r"model.astype\('float64'\) gives"),
}


@pytest.mark.parametrize("change, message", FIXED.values(), ids=FIXED)
def test_settings_that_shapes_depend_on_are_fixed(change: Callable[[Any], None], message: str) -> None:
    model = network()
    before = ff.predict_raw(model, X)
    with pytest.raises(AttributeError, match=message):
        change(model)
    np.testing.assert_array_equal(ff.predict_raw(model, X), before)


def test_a_mean_that_is_assigned_is_noticed_and_cannot_be_written_into() -> None:
    model = ff.Sequential(ff.Normalize(0.5, [1.0, 2.0, 3.0]), seed=0, dtype="float64")
    rows = X[:, :3]
    np.testing.assert_allclose(ff.predict_raw(model, rows), (rows - 0.5) / [1, 2, 3])
    model[0].mean = [1.0, 2.0, 3.0]
    np.testing.assert_allclose(ff.predict_raw(model, rows), (rows - [1, 2, 3]) / [1, 2, 3])
    with pytest.raises(TypeError):
        model[0].mean[0] = 7.0
    with pytest.raises(InvalidValueError, match="std is 0.0; expected more than 0"):
        model[0].std = 0.0


def test_a_converted_copy_is_another_model() -> None:
    model = network()
    twin = model.astype("float64")
    np.testing.assert_allclose(ff.predict_raw(twin, X), ff.predict_raw(model, X), rtol=1e-4, atol=1e-5)
    assert twin.dtype == np.float64 and model.dtype == np.float32
    ff.fit(twin, X, Y, optimizer=ff.SGD(0.5), **OPTIONS)
    assert (twin[0].params["weight"] != model[0].params["weight"]).any()


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_a_layer_in_models_of_two_dtypes_follows_the_one_that_is_used(dtypes: tuple[str, str]) -> None:
    norm = ff.BatchNorm1d(6)
    models = [ff.Sequential(norm, ff.Linear(6, 4), seed=0, dtype=dtype) for dtype in dtypes]
    for model in (*models, *models):
        ff.fit(model, X, Y, optimizer=ff.SGD(0.1), **OPTIONS)
        assert ff.predict_raw(model, X).dtype == model.dtype == norm.buffers["running_var"].dtype


# Optimizers


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_momentum_given_later_starts_a_velocity(dtype: str) -> None:
    model, sgd = network(dtype), ff.SGD(0.1)
    ff.fit(model, X, Y, optimizer=sgd, **OPTIONS)
    twin = copy.deepcopy(model)
    sgd.momentum = 0.9
    ff.fit(model, X, Y, optimizer=sgd, epochs=3, **OPTIONS)
    ff.fit(twin, X, Y, optimizer=ff.SGD(0.1, momentum=0.9), epochs=3, **OPTIONS)
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    sgd.momentum = 0.0
    ff.fit(model, X, Y, optimizer=sgd, **OPTIONS)
    ff.fit(twin, X, Y, optimizer=ff.SGD(0.1), **OPTIONS)
    np.testing.assert_array_equal(model.parameters, twin.parameters)


def test_an_emptied_state_starts_afresh() -> None:
    model, adam = network(), ff.Adam(0.01)
    ff.fit(model, X, Y, optimizer=adam, **OPTIONS)
    twin = copy.deepcopy(model)
    adam.state.clear()
    ff.fit(model, X, Y, optimizer=adam, **OPTIONS)
    ff.fit(twin, X, Y, optimizer=ff.Adam(0.01), **OPTIONS)
    np.testing.assert_array_equal(model.parameters, twin.parameters)


STATES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "short": (lambda array: array[:3], r"state\['mean'\] of Adam.* is float32 \(3,\); expected a writeable"),
    "of another dtype": (lambda array: array.astype("float64"), r"state\['mean'\] of Adam.* is float64 "),
    "strided": (lambda array: np.repeat(array, 2)[::2], r"state\['mean'\] of Adam.*; expected a writeable, contiguous"),
    "a list": (lambda array: array.tolist(), r"state\['mean'\] of Adam.* is \[.*; expected a writeable"),
    "missing": (lambda array: None, "state of Adam.* lacks mean; expected mean, square, or none of them"),
}


@pytest.mark.parametrize("change, message", STATES.values(), ids=STATES)
def test_a_state_that_does_not_fit_is_named(change: Callable[[Any], Any], message: str) -> None:
    model, adam = network(), ff.Adam(0.01)
    ff.fit(model, X, Y, optimizer=adam, **OPTIONS)
    held, before = adam.state.pop("mean"), model.parameters.copy()
    changed = change(held)
    if changed is not None:
        adam.state = {"mean": changed, **adam.state}
    with pytest.raises(InvalidValueError, match=message):
        ff.fit(model, X, Y, optimizer=adam, **OPTIONS)
    np.testing.assert_array_equal(model.parameters, before)
    adam.state["mean"] = held.copy()
    ff.fit(model, X, Y, optimizer=adam, **OPTIONS)


class TooFew(ff.schedules.Schedule):
    def factors(self, epoch: int, epochs: int, steps: int) -> Any:
        return np.ones(steps - 1)


class Single(ff.schedules.Schedule):
    def factors(self, epoch: int, epochs: int, steps: int) -> Any:
        return np.linspace(1, 0.5, steps, dtype="float32")


def test_factors_of_a_schedule_of_ones_own_are_checked() -> None:
    model = network()
    with pytest.raises(InvalidValueError, match=r"has factors of shape \(1,\) for epoch 1; expected \(2,\)"):
        ff.fit(model, X, Y, optimizer=ff.SGD(0.1), schedule=TooFew(), batch_size=45, **OPTIONS)
    history = ff.fit(model, X, Y, optimizer=ff.SGD(0.1), schedule=Single(), batch_size=45, **OPTIONS)
    assert history.lr == [0.05]


# While it trains

WITHIN: dict[str, Callable[[Any, Any], Any]] = {
    "a layer more": lambda model, optimizer: model.layers.append(ff.ReLU()),
    "a layer less": lambda model, optimizer: model.layers.pop(2),
    "another layer": lambda model, optimizer: model.layers.__setitem__(4, ff.Sigmoid()),
    "another weight": lambda model, optimizer: model[3].params.update(weight=np.ones((5, 5))),
    "another buffer": lambda model, optimizer: model[1].buffers.update(running_var=np.ones(5)),
    "another state": lambda model, optimizer: optimizer.state.update(mean=optimizer.state["mean"].copy()),
    "no state": lambda model, optimizer: optimizer.state.clear(),
}


@needs_jit
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("change", WITHIN.values(), ids=WITHIN)
def test_changes_within_an_epoch_are_refused(change: Callable[[Any, Any], Any], n_threads: int) -> None:
    model, adam = network(), ff.Adam(0.01)

    def meddle(end: Any) -> None:
        if end.step == 2:
            change(model, adam)

    with pytest.raises((InvalidValueError, KeyError), match="within an epoch|mean"):
        options = {**OPTIONS, "callbacks": [ff.EverySteps(1, meddle)], "n_threads": n_threads}
        ff.fit(model, X, Y, optimizer=adam, batch_size=9, **options)


@needs_jit
@pytest.mark.parametrize("label", [-1, 4, 10**6, -(2**62)])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_labels_written_while_it_trains_are_named_and_nothing_is_lost(label: int, n_threads: int) -> None:
    model, y = network(), Y.copy()
    before = model.parameters.copy()

    def meddle(end: Any) -> None:
        y[:] = label

    with pytest.raises(InvalidValueError, match=rf"row \d+ of the data holds the label {label}, which does not fit"):
        options = {**OPTIONS, "callbacks": [ff.EverySteps(1, meddle)], "n_threads": n_threads}
        ff.fit(model, X, y, optimizer=ff.SGD(0.1), batch_size=9, **options)
    np.testing.assert_array_equal(model.parameters, before)


class Rows:
    """A CSR matrix."""

    def __init__(self, dense: Any, index_dtype: str) -> None:
        self.shape, places = dense.shape, [np.flatnonzero(row) for row in dense]
        self.indptr = np.cumsum([0, *map(len, places)])
        self.indices, self.data = np.concatenate(places).astype(index_dtype), dense[dense != 0]


CORRUPT: dict[str, Callable[[Rows], Any]] = {
    "columns beyond the last": lambda matrix: matrix.indices.fill(10**6),
    "columns before the first": lambda matrix: matrix.indices.fill(-5),
    "starts beyond the end": lambda matrix: matrix.indptr.fill(10**9),
    "starts before the beginning": lambda matrix: matrix.indptr.fill(-3),
    "starts that go back": lambda matrix: matrix.indptr.__setitem__(slice(None), matrix.indptr[::-1].copy()),
}


@needs_jit
@pytest.mark.parametrize("share", [0.004, 0.2], ids=["listed", "marked"])
@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)
def test_a_sparse_matrix_written_while_it_trains_is_named(corrupt: Any, index_dtype: str, share: float) -> None:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((120, 300)) < share, rng.normal(size=(120, 300)), 0)
    dense[np.arange(120), rng.integers(0, 300, 120)] = 1  # no row is empty
    matrix, y = Rows(dense, index_dtype), rng.integers(0, 4, 120)
    model = ff.Sequential(ff.Linear(300, 40), ff.ReLU(), ff.Linear(40, 4), seed=0)
    before = model.parameters.copy()

    def meddle(end: Any) -> None:
        corrupt(matrix)

    with pytest.raises(InvalidValueError, match=r"row \d+ of the data holds a row of x with other columns"):
        options = {**OPTIONS, "callbacks": [ff.EverySteps(1, meddle)], "n_threads": 2}
        ff.fit(model, matrix, y, optimizer=ff.SGD(0.1), batch_size=30, **options)
    np.testing.assert_array_equal(model.parameters, before)


@needs_jit
def test_a_sparse_row_that_grows_while_it_is_listed_is_named() -> None:
    dense = np.eye(120, 300)
    matrix, y = Rows(dense, "int32"), np.arange(120) % 4
    model = ff.Sequential(ff.Linear(300, 40), ff.ReLU(), ff.Linear(40, 4), seed=0)

    def meddle(end: Any) -> None:
        matrix.indptr[1:] = matrix.indptr[-1]  # the first row has all

    with pytest.raises(InvalidValueError, match="row 0 of the data holds a row of x with other columns"):
        options = {**OPTIONS, "callbacks": [ff.EverySteps(1, meddle)], "epochs": 2}
        ff.fit(model, matrix, y, optimizer=ff.SGD(0.1), batch_size=30, **options)


def test_errors_travel_between_processes() -> None:
    for error in (NonFiniteLossError("no", epoch=3, step=7), InvalidValueError("x")):
        twin = pickle.loads(pickle.dumps(error))
        assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
