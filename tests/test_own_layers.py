"""A user's layer that holds others, or a model: they are trained, counted, copied and checked with it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastfnn as ff

RNG = np.random.default_rng(2)
N = 48
X, Y = RNG.normal(size=(N, 6)), np.arange(N) % 3
CE = ff.CrossEntropyLoss()
pytestmark = pytest.mark.filterwarnings("ignore:.*no compiled form")


class Residual(ff.Layer):
    """``x + inner(x)``."""

    def __init__(self, *inner: ff.Layer) -> None:
        super().__init__()
        self.inner = ff.Sequential(*(inner or (ff.Linear(6, 6), ff.Tanh(), ff.Linear(6, 6))), seed=1)

    def forward(self, x: Any) -> Any:
        return x + self.inner.forward(x)

    def backward(self, grad_out: Any) -> Any:
        return grad_out + self.inner.backward(grad_out)


class Several(ff.Layer):
    """A layer, and a list of them, by themselves: they have no parameters until somebody builds them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self._others = ff.Linear(6, 5), [ff.Tanh(), ff.Linear(5, 6)]

    def forward(self, x: Any) -> Any:
        for layer in (self.first, *self._others):
            x = layer.forward(x)
        return x

    def backward(self, grad_out: Any) -> Any:
        for layer in (*self._others[::-1], self.first):
            grad_out = layer.backward(grad_out)
        return grad_out


def network(*own: ff.Layer, dtype: str = "float64", seed: int = 0) -> ff.Sequential:
    return ff.Sequential(*own, ff.Linear(6, 3), seed=seed, dtype=dtype)


def fit(model: ff.Sequential, **options: Any) -> ff.History:
    settings = {"loss": CE, "optimizer": ff.Adam(0.05), "epochs": 3, "batch_size": 16, "seed": 0, **options}
    return ff.fit(model, X, Y, progress=False, **settings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [Residual, Several])
def test_gradients_and_counts_know_what_a_layer_holds(make: Any, dtype: str) -> None:
    model = network(make(), dtype=dtype)
    assert model.n_parameters == {Residual: 2 * 42, Several: 35 + 36}[make] + 21
    assert all(layer.dtype == dtype for layer in model.named_layers().values())
    assert ff.gradcheck(model, X[:5], rtol=1e-4) < 1e-5
    assert ff.gradcheck(make(), X[:5], rtol=1e-4) < 1e-5
    assert f"{model.n_parameters:,} parameters" in model.summary((6,))


def test_training_one_is_training_the_layers_by_hand() -> None:
    model, inner = network(Residual()), ff.Sequential(ff.Linear(6, 6), ff.Tanh(), ff.Linear(6, 6), seed=1)
    inner, last = inner.astype("float64"), network(seed=0)
    last.layers[0].params["weight"][...] = model.layers[1].params["weight"]
    optimizers, orders = [ff.Adam(0.05), ff.Adam(0.05)], np.random.default_rng(0)
    fit(model)
    for _ in range(3):
        order = orders.permutation(N)
        for rows in (order[i : i + 16] for i in range(0, N, 16)):
            middle = X[rows] + inner.forward(X[rows])
            CE.forward(last.forward(middle), Y[rows])
            inner.backward(last.backward(CE.backward()))
            for part, optimizer in zip((inner, last), optimizers, strict=True):
                optimizer.step(part.parameters, part.gradients)
    residual: Any = model.layers[0]
    np.testing.assert_allclose(residual.inner.parameters, inner.parameters, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.named_parameters()["1.weight"], last.layers[0].params["weight"], rtol=1e-9)
    assert [*model.named_parameters()][:2] == ["0.inner.0.weight", "0.inner.0.bias"]


def test_what_it_holds_can_be_used_by_itself_between_trainings() -> None:
    alone, looked_at = network(Residual()), network(Residual())
    inner: Any = looked_at.layers[0]
    for model in (alone, looked_at):
        fit(model)
    before = inner.inner.parameters
    ff.predict_raw(inner.inner, X)  # which links it
    inner.inner.parameters = before
    for model in (alone, looked_at):
        fit(model)
    np.testing.assert_array_equal(alone.parameters, looked_at.parameters)


def test_copies_pickles_and_snapshots_hold_it_too() -> None:
    model = network(Residual())
    start = model.snapshot()
    fit(model)
    trained = ff.predict_raw(model, X)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.astype("float64")):
        np.testing.assert_array_equal(ff.predict_raw(twin, X), trained)
        twin.parameters[...] = 0
        assert not ff.predict_raw(twin, X).any()
    np.testing.assert_array_equal(ff.predict_raw(model, X), trained)
    state = model.state_dict()
    model.restore(start)
    assert not np.array_equal(ff.predict_raw(model, X), trained)
    model.load_state_dict(state)
    np.testing.assert_array_equal(ff.predict_raw(model, X), trained)


def test_a_failed_epoch_gives_all_of_it_back() -> None:
    model = network(Residual())
    before = model.snapshot()
    with pytest.raises(ff.errors.NonFiniteLossError):
        fit(model, optimizer=ff.SGD(1e300))
    for name, array in model.snapshot().items():
        np.testing.assert_array_equal(array, before[name])


def test_inside_too_dropout_drops_and_statistics_move_in_training_alone() -> None:
    model = network(Residual(ff.Linear(6, 6), ff.BatchNorm1d(6), ff.Dropout(0.5)))
    fit(model)
    assert model.named_buffers()["0.inner.1.running_mean"].any()
    np.testing.assert_array_equal(ff.predict_raw(model, X), ff.predict_raw(model, X))
    assert all(not layer.training for layer in model.eval().named_layers().values())


def test_a_layer_that_stands_in_two_places_counts_once() -> None:
    several = Several()
    several.again = several.first  # type: ignore[attr-defined]
    assert network(several).n_parameters == 35 + 36 + 21
