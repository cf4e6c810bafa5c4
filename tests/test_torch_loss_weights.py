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


# Classes

CLASSES = 4
WEIGHT = [0.5, 2.0, 0.0, 1.3]
LABELS = RNG.integers(0, CLASSES, N)
SOME = np.where(RNG.random(N) < 0.3, -100, LABELS)
SHARES = RNG.dirichlet(np.ones(CLASSES), N)
CROSS_ENTROPY: dict[str, tuple[Any, dict[str, Any]]] = {
    "weight": (LABELS, {"weight": WEIGHT}),
    "ignored": (SOME, {}),
    "both": (SOME, {"weight": WEIGHT}),
    "another index": (LABELS, {"weight": WEIGHT, "ignore_index": 1}),
    "smoothed": (SOME, {"weight": WEIGHT, "label_smoothing": 0.2}),
    "smoothed without weights": (SOME, {"label_smoothing": 0.2}),
    "probabilities": (SHARES, {"weight": WEIGHT}),
    "probabilities, smoothed": (SHARES, {"weight": WEIGHT, "label_smoothing": 0.1}),
}


@DTYPES
@REDUCTIONS
@pytest.mark.parametrize("name", CROSS_ENTROPY)
def test_class_losses_with_weights(name: str, reduction: str, dtype: str) -> None:
    t, settings = CROSS_ENTROPY[name]
    z = RNG.normal(scale=3, size=(N, CLASSES))
    compare("CrossEntropyLoss", z, t, dtype, reduction, settings)
    if t.ndim == 1 and "label_smoothing" not in settings:
        compare("NLLLoss", np.log(RNG.dirichlet(np.ones(CLASSES), N)), t, dtype, reduction, settings)


@DTYPES
@pytest.mark.parametrize("name", CROSS_ENTROPY)
def test_trainings_with_weights_of_classes(name: str, dtype: str, monkeypatch: Any) -> None:
    y, settings = CROSS_ENTROPY[name]
    check_training("CrossEntropyLoss", y, CLASSES, dtype, settings, monkeypatch)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_compiled_is_layer_by_layer_in_any_order(shuffle: bool, reduction: str, monkeypatch: Any) -> None:
    runs = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(program, "is_compiled", lambda task: False)
        model = ff.Sequential(ff.Linear(FEATURES, CLASSES), ff.LogSoftmax(), seed=0, dtype="float64")
        loss, weights = ff.NLLLoss(reduction, weight=WEIGHT), RNG.uniform(0.5, 2, N) * 0 + np.arange(1, N + 1)
        history = ff.fit(
            model, X, SOME, loss=loss, optimizer=ff.SGD(0.01), epochs=3, batch_size=16, shuffle=shuffle, seed=0,
            sample_weight=weights, validation_data=(X, SOME, weights), progress=False,
        )  # fmt: skip
        runs.append([*history.loss, *history.val_loss, *history.accuracy, *history.val_accuracy, *model.parameters])
    np.testing.assert_allclose(*runs, rtol=1e-10)


def test_ignored_rows_count_in_no_accuracy() -> None:
    model = ff.Sequential(ff.Linear(FEATURES, CLASSES), seed=0)
    kept = SOME != -100
    right = ff.accuracy(ff.predict(model, X[kept]), SOME[kept])
    assert ff.evaluate(model, X, SOME, loss=ff.CrossEntropyLoss()).accuracy == pytest.approx(right)
    assert ff.train_step(model, X, SOME, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0)).accuracy == pytest.approx(
        right
    )


@pytest.mark.parametrize(
    ("loss", "y", "options", "message"),
    [
        (ff.CrossEntropyLoss(weight=[1, 2]), LABELS, {}, r"weight of .* has shape \(2,\); expected \(4,\)"),
        (ff.CrossEntropyLoss(), LABELS * 0 - 100, {}, "y holds nothing but -100, the ignore_index"),
        (ff.CrossEntropyLoss(), SOME - 1, {}, "y holds the label -101"),
        (ff.CrossEntropyLoss(weight=WEIGHT), LABELS, {"class_weight": "balanced"}, "expected a loss without weights"),
        (ff.CrossEntropyLoss(), SOME, {"class_weight": "balanced"}, "no label that it ignores"),
    ],
)
def test_what_does_not_fit_the_classes_is_named(loss: ff.Loss, y: Any, options: Any, message: str) -> None:
    model = ff.Sequential(ff.Linear(FEATURES, CLASSES), seed=0)
    with pytest.raises(InvalidValueError, match=message):
        ff.fit(model, X, y, loss=loss, optimizer=ff.SGD(), progress=False, **options)
