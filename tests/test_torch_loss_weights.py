"""Weights of classes and outputs in the losses: forward, backward and whole trainings are PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import program
from fastfnn.errors import InvalidValueError

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(9)
N, FEATURES = 61, 5
X = RNG.normal(size=(N, FEATURES))
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}


def tensors(settings: dict[str, Any], dtype: str) -> dict[str, Any]:
    kind = getattr(torch, dtype)
    return {k: torch.tensor(v, dtype=kind) if "weight" in k else v for k, v in settings.items()}


def compare(name: str, z: Any, t: Any, dtype: str, reduction: str, settings: dict[str, Any]) -> None:
    """Loss and gradient, the latter of the sum where nothing is reduced."""
    ours = getattr(ff, name)(reduction, **settings)
    prediction = torch.tensor(z.astype(dtype), requires_grad=True)
    target = torch.tensor(t if t.dtype.kind == "i" else t.astype(dtype))
    expected = getattr(torch.nn, name)(reduction=reduction, **tensors(settings, dtype))(prediction, target)
    expected.sum().backward()
    rtol = TOLERANCE[dtype]
    found = ours.forward(z.astype(dtype), t)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=rtol, atol=rtol)
    assert prediction.grad is not None
    np.testing.assert_allclose(ours.backward(), prediction.grad.numpy(), rtol=10 * rtol, atol=rtol)


def train_both(
    loss: ff.Loss, theirs: Any, y: Any, outputs: int, dtype: str, n_threads: int | None = None, sigmoid: bool = False
) -> tuple[ff.Sequential, list[float], Any, list[float]]:
    """Three epochs of minibatches, the last of each with fewer rows, in the order of the data."""
    last = [ff.Sigmoid()] if sigmoid else []
    model = ff.Sequential(ff.Linear(FEATURES, 7), ff.Tanh(), ff.Linear(7, outputs), *last, seed=0, dtype=dtype)
    module: Any = ff.to_torch(model)
    optimizer, kind = torch.optim.SGD(module.parameters(), lr=0.3), getattr(torch, dtype)
    x, target = torch.tensor(X, dtype=kind), torch.tensor(y if y.dtype.kind == "i" else y.astype(dtype))
    expected = []
    for _ in range(3):
        total = 0.0
        for i in range(0, N, 16):
            optimizer.zero_grad()
            value = theirs(module(x[i : i + 16]), target[i : i + 16])
            value.backward()
            optimizer.step()
            total += value.item() * len(x[i : i + 16])
        expected.append(total / N)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 16, "shuffle": False, "progress": False}
    history = ff.fit(model, X, y, loss=loss, optimizer=ff.SGD(0.3), n_threads=n_threads, **options)
    return model, history.loss, module, expected


def check_training(
    name: str, y: Any, outputs: int, dtype: str, settings: dict[str, Any], monkeypatch: Any, sigmoid: bool = False
) -> None:
    loss, theirs = getattr(ff, name)(**settings), getattr(torch.nn, name)(**tensors(settings, dtype))
    tolerance, runs = 20 * TOLERANCE[dtype], []
    for n_threads in (1, 2, None):  # the last layer by layer
        if n_threads is None:
            monkeypatch.setattr(program, "is_compiled", lambda task: False)
        model, losses, module, expected = train_both(loss, theirs, y, outputs, dtype, n_threads, sigmoid)
        np.testing.assert_allclose(losses, expected, rtol=tolerance)
        state = {key: value.numpy() for key, value in module.state_dict().items()}
        for key, value in model.state_dict().items():
            np.testing.assert_allclose(value, state[key], rtol=tolerance, atol=tolerance)
        whole = theirs(
            module(torch.tensor(X.astype(dtype))), torch.tensor(y if y.dtype.kind == "i" else y.astype(dtype))
        )
        assert ff.evaluate(model, X, y, loss=loss).loss == pytest.approx(whole.item(), rel=tolerance)
        runs.append(model.parameters.tobytes())
    assert runs[0] == runs[1]


# Yes and no

BINARY: list[dict[str, Any]] = [
    {"pos_weight": [3.0]},
    {"pos_weight": [0.5, 4.0, 0.0]},
    {"weight": [2.0, 0.3, 1.0]},
    {"weight": [2.0], "pos_weight": [0.2, 1.0, 7.0]},
]


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("settings", BINARY, ids=str)
@pytest.mark.parametrize("hard", [True, False])
def test_binary_losses_with_weights(settings: dict[str, Any], reduction: str, dtype: str, hard: bool) -> None:
    z, t = RNG.normal(scale=4, size=(11, 3)), RNG.random((11, 3))
    t = (t > 0.4).astype(float) if hard else t
    compare("BCEWithLogitsLoss", z, t, dtype, reduction, settings)
    if "pos_weight" not in settings:
        compare("BCELoss", 1 / (1 + np.exp(-z / 4)), t, dtype, reduction, settings)


@DTYPES
@pytest.mark.parametrize("settings", BINARY, ids=str)
def test_trainings_with_weights_of_outputs(settings: dict[str, Any], dtype: str, monkeypatch: Any) -> None:
    y = (X[:, :3] > 0.5).astype(np.float64)
    check_training("BCEWithLogitsLoss", y, 3, dtype, settings, monkeypatch)


@DTYPES
def test_trainings_of_one_output_and_of_probabilities(dtype: str, monkeypatch: Any) -> None:
    check_training("BCEWithLogitsLoss", (X[:, :1] > 0.5) * 1.0, 1, dtype, {"pos_weight": [4.0]}, monkeypatch)
    monkeypatch.undo()
    check_training("BCELoss", (X[:, :2] > 0.5) * 1.0, 2, dtype, {"weight": [0.5, 2.0]}, monkeypatch, sigmoid=True)


def test_accuracies_are_of_the_targets_as_they_were() -> None:
    y = RNG.random((N, 3))
    model = ff.Sequential(ff.Linear(FEATURES, 3), seed=0)
    results = [
        ff.evaluate(model, X, y, loss=ff.BCEWithLogitsLoss(pos_weight=weight)).accuracy
        for weight in (None, 9.0, [1, 5, 0])
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("weight", [-1.0, [1.0, np.nan], [[1.0]], []])
def test_weights_that_are_none_are_named(weight: Any) -> None:
    with pytest.raises(InvalidValueError, match="pos_weight is .*; expected finite weights of at least 0"):
        ff.BCEWithLogitsLoss(pos_weight=weight)


def test_weights_of_other_outputs_are_refused() -> None:
    model = ff.Sequential(ff.Linear(FEATURES, 3), seed=0)
    with pytest.raises(InvalidValueError, match=r"pos_weight of .* has shape \(2,\); expected one number, or one for"):
        ff.fit(model, X, X[:, :3] > 0, loss=ff.BCEWithLogitsLoss(pos_weight=[1, 2]), optimizer=ff.SGD(), progress=False)
    assert (
        repr(ff.BCEWithLogitsLoss("sum", pos_weight=[1, 2]))
        == "BCEWithLogitsLoss(reduction='sum', pos_weight=[1.0, 2.0])"
    )
