"""Optimizers against PyTorch's, step by step, with its own sample settings; and compiled against eager."""

import copy
import inspect
import sys
import types
import unittest

import numpy as np
import pytest

import fastfnn as ff
from fastfnn_kernels import optim, reference

RNG = np.random.default_rng(41)
SIZE, STEPS = 67, 12

SETTINGS = [
    (ff.NAdam, {}),
    (ff.NAdam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "momentum_decay": 6e-3}),
    (ff.NAdam, {"weight_decay": 0.1, "momentum_decay": 2.0}),
    (ff.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    (ff.Adam, {"amsgrad": True, "lr": 0.01}),
    (ff.Adam, {"amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    (ff.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    (ff.AdamW, {"maximize": True}),
    (ff.SGD, {"lr": 0.01, "maximize": True}),
    (ff.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
    (ff.RMSprop, {"maximize": True}),
    (ff.RMSprop, {"momentum": 0.9}),
    (ff.RMSprop, {"centered": True}),
    (ff.RMSprop, {"centered": True, "momentum": 0.1, "weight_decay": 0.1, "maximize": True}),
    (ff.Adagrad, {"lr": 0.1, "lr_decay": 0.5}),
    (ff.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.1, "maximize": True}),
]
NAMES = [f"{kind.__name__}-{','.join(settings) or 'plain'}" for kind, settings in SETTINGS]


def follows_torch(kind, settings, dtype):
    """Parameters after each of some steps are PyTorch's; gradients depend on where the parameters are."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))  # NAdam's product of momenta has it
    try:
        _follow(torch, kind, settings, dtype)
    finally:
        torch.set_default_dtype(before)


def _follow(torch, kind, settings, dtype):
    start, pull = RNG.normal(size=SIZE).astype(dtype), RNG.normal(size=(STEPS, SIZE)).astype(dtype)
    mine = start.copy()
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer, peer = kind(**settings), getattr(torch.optim, kind.__name__)([theirs], **settings)
    tolerance = 1e-11 if dtype == "float64" else 2e-5
    for shift in pull:
        theirs.grad = torch.from_numpy(theirs.detach().numpy() * 0.1 + shift)
        peer.step()
        optimizer.step(mine, mine * mine.dtype.type(0.1) + shift)
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
    assert np.abs(mine - start).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=NAMES)
def test_steps_are_those_of_pytorch(kind, settings, dtype):
    follows_torch(kind, settings, dtype)


@pytest.fixture
def samples(monkeypatch):
    """PyTorch's own sample settings, by the optimizer's name."""
    pytest.importorskip("torch")
    if "expecttest" not in sys.modules:  # which PyTorch's tests need, and these settings do not
        stub = types.ModuleType("expecttest")
        monkeypatch.setattr(stub, "TestCase", unittest.TestCase, raising=False)
        monkeypatch.setitem(sys.modules, "expecttest", stub)
    peers = pytest.importorskip("torch.testing._internal.common_optimizers")
    return {info.optim_cls.__name__: info.optim_inputs_func(device="cpu") for info in peers.optim_db}


@pytest.mark.parametrize("kind", [ff.SGD, ff.Adam, ff.AdamW, ff.NAdam, ff.RMSprop, ff.Adagrad])
def test_pytorchs_own_sample_settings(kind, samples):
    taken = {*inspect.signature(kind).parameters, "maximize"} - {"limits"}
    fit = [sample.kwargs for sample in samples[kind.__name__] if set(sample.kwargs) <= taken]
    plain = [settings for settings in fit if not any(hasattr(value, "detach") for value in settings.values())]
    assert len(plain) >= 4
    for settings in plain:
        follows_torch(kind, {"lr": 0.01, **settings}, "float64")


def test_centered_never_takes_the_root_of_less_than_nothing():
    optimizer, params = ff.RMSprop(0.01, centered=True), np.ones(5, np.float32)
    for _ in range(2000):  # the same gradient all the time: its variance becomes nothing but rounding
        optimizer.step(params, np.full(5, 0.3, np.float32))
        assert np.isfinite(params).all()


def test_the_shares_of_nadam_are_the_running_products():
    for beta1, decay in ((0.9, 4e-3), (0.99, 1.0), (0.5, 0.0), (0.999, 6e-3)):
        product = 1.0
        for step in range(1, 400):
            now, later = (beta1 * (1 - 0.5 * 0.96 ** (i * decay)) for i in (step, step + 1))
            product *= now
            expected = (1 - now) / (1 - product), later / (1 - product * later)
            np.testing.assert_allclose(optim.nadam_shares(step, beta1, decay), expected, rtol=1e-12)


def test_nadam_and_amsgrad_follow_their_references():
    params, grads = RNG.normal(size=50), RNG.normal(size=(4, 50))
    expected, mean, square, largest = params.copy(), np.zeros(50), np.zeros(50), np.zeros(50)
    optimizer, mine = ff.Adam(0.1, betas=(0.8, 0.9), amsgrad=True), params.copy()
    for step, grad in enumerate(grads, 1):
        optimizer.step(mine, grad.copy())
        settings = 0.1, 0.8, 0.9, 1e-8, 0.0, False, 1 - 0.8**step, 1 - 0.9**step
        expected, mean, square, largest = reference.amsgrad(expected, mean, square, largest, grad, *settings)
    np.testing.assert_allclose(mine, expected, rtol=1e-10)
    np.testing.assert_allclose(optimizer.state["largest"], largest, rtol=1e-10)


# Compiled against eager

X, Y = RNG.normal(size=(50, 5)), RNG.integers(0, 3, 50)


class OwnLayer(ff.Layer):
    """Which makes that a model is run layer by layer."""

    def forward(self, x):
        return np.asarray(x)

    def backward(self, grad_out):
        return grad_out


def trained(optimizer, *last, dtype="float64", epochs=3, model=None):
    model = model or ff.Sequential(ff.Linear(5, 6), ff.ReLU(), ff.Linear(6, 3), *last, seed=0, dtype=dtype)
    settings = {"epochs": epochs, "batch_size": 8, "seed": 0, "progress": False, "n_threads": 3}
    ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), optimizer=optimizer, **settings)
    return model


@pytest.mark.parametrize("limits", [{}, {"clip_norm": 0.1, "decay_biases": False, "l1": 0.01}], ids=["", "limits"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=NAMES)
@pytest.mark.filterwarnings("ignore:OwnLayer")
def test_a_compiled_training_is_the_eager_one(kind, settings, dtype, limits):
    settings = {**settings, **limits}
    compiled = trained(kind(**settings), dtype=dtype)
    eager = trained(kind(**settings), OwnLayer(), dtype=dtype)
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    np.testing.assert_allclose(compiled.parameters, eager.parameters, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=NAMES)
def test_states_are_kept_in_checkpoints_copies_and_changes_of_settings(kind, settings, tmp_path):
    optimizer = kind(**settings)
    model = trained(optimizer, epochs=1)
    assert set(optimizer.state) == set(optimizer.slots)
    twin = copy.deepcopy(optimizer)
    assert repr(twin) == repr(optimizer) == repr(eval(repr(optimizer), dict(vars(ff))))
    before = optimizer.snapshot()
    trained(optimizer, model=model)
    optimizer.restore(before)
    for name, array in before[0].items():
        assert np.array_equal(optimizer.state[name], array)
    path, whole = tmp_path / "run.safetensors", kind(**settings)
    expected = trained(whole, epochs=4)
    again = ff.Sequential(ff.Linear(5, 6), ff.ReLU(), ff.Linear(6, 3), seed=0, dtype="float64")
    shared = {"loss": ff.CrossEntropyLoss(), "batch_size": 8, "seed": 0, "progress": False, "n_threads": 3}
    ff.fit(again, X, Y, optimizer=kind(**settings), epochs=2, callbacks=[ff.Checkpoint(path)], **shared)
    ff.fit(again, X, Y, optimizer=kind(**settings), epochs=4, resume=path, **shared)
    assert again.parameters.tobytes() == expected.parameters.tobytes()


def test_maximising_is_minimising_the_negative():
    up, down = ff.SGD(0.1, maximize=True), ff.SGD(0.1)
    for optimizer, sign in ((up, -1), (down, 1)):
        model = ff.Sequential(ff.Linear(5, 3), seed=0, dtype="float64")
        before = ff.evaluate(model, X, Y, loss=ff.CrossEntropyLoss()).loss
        ff.train_step(model, X, Y, loss=ff.CrossEntropyLoss(), optimizer=optimizer)
        assert sign * (before - ff.evaluate(model, X, Y, loss=ff.CrossEntropyLoss()).loss) > 0
    assert repr(up) == "SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, maximize=True)"


def test_an_accumulator_begins_anew_for_another_model_where_it_is_told_to():
    optimizer = ff.Adagrad(0.1, initial_accumulator_value=0.5)
    optimizer.step(np.ones(3), np.full(3, 2.0))
    np.testing.assert_allclose(optimizer.state["total"], 4.5)
    optimizer.prepare(np.ones(4))
    np.testing.assert_allclose(optimizer.state["total"], 0.5)
