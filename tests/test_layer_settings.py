"""Learning rates and weight decays of single layers: PyTorch's groups of parameters."""

import copy

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import program
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import _config

needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")
RNG = np.random.default_rng(12)
X, Y = RNG.normal(size=(70, 9)), RNG.integers(0, 4, 70)

OPTIMIZERS = {
    "sgd": (lambda: ff.SGD(0.1), lambda groups: ("SGD", {"lr": 0.1})),
    "momentum": (
        lambda: ff.SGD(0.05, momentum=0.9, weight_decay=0.1),
        lambda groups: ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    ),
    "adam": (lambda: ff.Adam(0.01, weight_decay=0.1), lambda groups: ("Adam", {"lr": 0.01, "weight_decay": 0.1})),
    "adamw": (lambda: ff.AdamW(0.01, weight_decay=0.3), lambda groups: ("AdamW", {"lr": 0.01, "weight_decay": 0.3})),
    "rmsprop": (lambda: ff.RMSprop(0.01), lambda groups: ("RMSprop", {"lr": 0.01})),
    "adagrad": (lambda: ff.Adagrad(0.05), lambda groups: ("Adagrad", {"lr": 0.05})),
}
#: By the places of the layers: `lr_scale`, `weight_decay`, `trainable`.
SETTINGS = [
    {0: {"lr_scale": 0.1}},
    {0: {"lr_scale": 0.1, "weight_decay": 0.0}, 2: {"lr_scale": 0.1, "weight_decay": 0.0}, 4: {"weight_decay": 0.5}},
    {0: {"trainable": False}, 2: {"lr_scale": 3.0}, 4: {"lr_scale": 0.0}},
]


def network(settings, dtype="float64"):
    layers = ff.Linear(9, 33), ff.Tanh(), ff.Linear(33, 17), ff.ReLU(), ff.Linear(17, 4)
    model = ff.Sequential(*layers, seed=1, dtype=dtype)
    for place, values in settings.items():
        for name, value in values.items():
            setattr(model[place], name, value)
    return model


def fitted(model, optimizer, n_threads=1, **options):
    settings = {"epochs": 3, "batch_size": 20, "shuffle": False, "progress": False, "n_threads": n_threads, **options}
    history = ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), optimizer=optimizer, **settings)
    return model, history


@pytest.mark.parametrize("settings", SETTINGS, ids=["rate", "both", "mixed"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_torch_with_groups_of_parameters(name, settings):
    torch = pytest.importorskip("torch")
    model, (ours, theirs) = network(settings), OPTIMIZERS[name]
    twin = ff.to_torch(model)
    kind, common = theirs(None)
    groups = []
    for layer, module in zip(model.layers, twin, strict=True):
        if layer.params and layer.trainable:
            decay = common.get("weight_decay", 0.0) if layer.weight_decay is None else layer.weight_decay
            group = {"params": list(module.parameters()), "lr": layer.lr_scale * common["lr"], "weight_decay": decay}
            groups.append(group)
    optimizer = getattr(torch.optim, kind)(groups, **common)
    for _ in range(3):
        for start in range(0, len(X), 20):
            optimizer.zero_grad()
            out, target = twin(torch.tensor(X[start : start + 20])), torch.tensor(Y[start : start + 20])
            torch.nn.functional.cross_entropy(out, target).backward()
            optimizer.step()
    fitted(model, ours())
    for (key, mine), other in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-6, atol=1e-8, err_msg=key)


class Halving(ff.EpochCallback):
    """Rates and decays for each step, and the L2 term in the loss."""

    def arrange(self, epoch):
        steps = np.arange(1, 1 - (-len(epoch.x) // epoch.batch_size))
        return epoch._replace(rates=0.1 / steps, decays=0.2 / steps, penalty=2.0)


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", SETTINGS, ids=["rate", "both", "mixed"])
@pytest.mark.parametrize("decay_biases", [True, False])
def test_compiled_is_eager(settings, decay_biases, dtype, monkeypatch):
    start = network(settings, dtype)
    tolerance = 1e-10 if dtype == "float64" else 1e-5

    def run(n_threads, callbacks):
        optimizer = ff.SGD(0.1, momentum=0.9, weight_decay=0.2, clip_norm=0.5, decay_biases=decay_biases)
        return fitted(copy.deepcopy(start), optimizer, n_threads, callbacks=callbacks)

    for callbacks in ([], [Halving()]):
        runs = [run(n_threads, callbacks) for n_threads in (1, 2)]
        assert runs[0][0].parameters.tobytes() == runs[1][0].parameters.tobytes()
        with monkeypatch.context() as patch:
            patch.setattr(program, "is_compiled", lambda task: False)
            model, history = run(1, callbacks)
        np.testing.assert_allclose(runs[0][0].parameters, model.parameters, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(runs[0][1].loss, history.loss, rtol=tolerance)


@needs_jit
def test_a_change_counts_from_the_next_call_on():
    model, twin, optimizers = network({}), network({}), [ff.SGD(0.1), ff.SGD(0.1)]
    for values in ({}, {"lr_scale": 0.5}, {"weight_decay": 0.3}, {"lr_scale": 1.0, "weight_decay": None}):
        for name, value in values.items():
            setattr(model[2], name, value)
            setattr(twin[2], name, value)
        fitted(model, optimizers[0], epochs=1, batch_size=70)
        loss = ff.CrossEntropyLoss()
        loss.forward(twin.forward(X), Y)
        twin.backward(loss.backward())
        optimizers[1].step(twin.parameters, twin.gradients)
        np.testing.assert_allclose(model.parameters, twin.parameters, rtol=1e-10, atol=1e-12)


def test_settings_are_kept_and_checked(tmp_path):
    model = network(SETTINGS[1])
    ff.save(model, tmp_path / "model.safetensors")
    for again in (ff.load(tmp_path / "model.safetensors"), copy.deepcopy(model)):
        assert [layer.update_settings() for layer in again.layers] == [
            layer.update_settings() for layer in model.layers
        ]
        assert (again[0].lr_scale, again[4].weight_decay, again[1].weight_decay) == (0.1, 0.5, None)
    for name, value, kind, message in (
        ("lr_scale", -1, InvalidValueError, "lr_scale is -1; expected at least 0"),
        ("lr_scale", None, InvalidTypeError, "lr_scale is None; expected a number"),
        ("weight_decay", "none", InvalidTypeError, "weight_decay is 'none'; expected a number"),
    ):
        with pytest.raises(kind, match=message):
            setattr(model[0], name, value)


@pytest.mark.parametrize("optimizer", [lambda: ff.SGD(0.5), lambda: ff.Adam(0.05)], ids=["sgd", "adam"])
def test_norms_of_an_outputs_weights_are_limited_after_every_update(optimizer, monkeypatch):
    def trained():
        layers = ff.Conv2d(1, 5, 2), ff.Flatten(), ff.Linear(20, 6), ff.ReLU(), ff.Linear(6, 4)
        model = ff.Sequential(*layers, seed=1, dtype="float64")
        model[0].max_norm, model[2].max_norm = 0.5, 0.3
        settings = {"epochs": 2, "batch_size": 20, "seed": 3, "loss": ff.CrossEntropyLoss()}
        ff.fit(model, X.reshape(-1, 1, 3, 3), Y, optimizer=optimizer(), **settings)
        return model

    model = trained()
    filters = np.linalg.norm(model[0].params["weight"].reshape(5, -1), axis=1)
    assert filters.max() <= 0.5 * (1 + 1e-12)
    columns = np.linalg.norm(model[2].params["weight"], axis=0)
    assert columns.max() <= 0.3 * (1 + 1e-12)
    assert np.isclose(columns, 0.3).any()
    assert np.linalg.norm(model[4].params["weight"], axis=0).max() > 0.3
    monkeypatch.setattr(program, "is_compiled", lambda task: False)
    np.testing.assert_allclose(trained().parameters, model.parameters, rtol=1e-9, atol=1e-11)


def test_a_limit_of_norms_is_kept_and_checked(tmp_path):
    model = network({0: {"max_norm": 2.0}})
    ff.save(model, tmp_path / "m")
    assert ff.load(tmp_path / "m")[0].max_norm == 2.0
    assert copy.deepcopy(model)[0].max_norm == 2.0
    with pytest.raises(InvalidValueError, match="max_norm is 0; expected more than 0"):
        model[0].max_norm = 0
