"""Frozen layers: training leaves them alone, spends nothing on them, and does with the others what PyTorch does."""

import copy
import pickle

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import program
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import _config

needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")
RNG = np.random.default_rng(11)
X, Y = RNG.normal(size=(70, 9)), RNG.integers(0, 4, 70)
IMAGES = RNG.normal(size=(40, 2, 8, 8))


def dense(dtype="float64"):
    return ff.Sequential(
        ff.Linear(9, 33),
        ff.BatchNorm1d(33),
        ff.ReLU(),
        ff.Linear(33, 17),
        ff.ReLU(),
        ff.Linear(17, 4),
        seed=1,
        dtype=dtype,
    )


def images(dtype="float64"):
    layers = (
        ff.Conv2d(2, 5, 3, padding=1),
        ff.BatchNorm2d(5),
        ff.ReLU(),
        ff.Conv2d(5, 6, 3),
        ff.ReLU(),
        ff.MaxPool2d(2),
    )
    return ff.Sequential(*layers, ff.Flatten(), ff.Linear(54, 4), seed=1, dtype=dtype)


OPTIMIZERS = {
    "sgd": lambda: ff.SGD(0.1),
    "decay": lambda: ff.SGD(0.1, weight_decay=0.1),
    "momentum": lambda: ff.SGD(0.05, momentum=0.9, weight_decay=0.1),
    # A bias before batch normalisation has a gradient of nothing but noise, which Adam without an eps enlarges.
    "adam": lambda: ff.Adam(0.01, eps=1e-3, weight_decay=0.1),
    "adamw": lambda: ff.AdamW(0.01, eps=1e-3, weight_decay=0.5, decay_biases=False),
    "clipped": lambda: ff.SGD(0.1, clip_norm=0.1),
}
#: Places of layers with parameters, in both networks.
FROZEN = [(0,), (0, 1), (0, 1, 3), (3,), (1,), (1, 3), (-1,), (0, -1)]


def frozen(make, places, dtype="float64"):
    model = make(dtype)
    for place in places:
        model[place].trainable = False
    return model


def by_hand(model, x, y, optimizer, batch_size, epochs=2):
    """The loop that one would write."""
    loss = ff.CrossEntropyLoss()
    for _ in range(epochs):
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            loss.forward(model.forward(x[rows]), y[rows])
            model.backward(loss.backward())
            optimizer.step(model.parameters, model.gradients, n_weights=model.n_weights)
    return model


def fitted(model, x, y, optimizer, batch_size, n_threads=1, **options):
    settings = {"epochs": 2, "shuffle": False, "progress": False, "n_threads": n_threads, **options}
    ff.fit(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=optimizer, batch_size=batch_size, **settings)
    return model


def assert_same(model, other, rtol=1e-9):
    for (name, mine), theirs in zip(model.snapshot().items(), other.snapshot().values(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol, err_msg=name)


def assert_frozen_layers_stay(model, start):
    for layer, before in zip(model.layers, start.layers, strict=True):
        for name, array in {**before.params, **before.buffers}.items():
            now = {**layer.params, **layer.buffers}[name]
            assert (now == array).all() != layer.trainable


@needs_jit
@pytest.mark.parametrize(("make", "x"), [(dense, X), (images, IMAGES)], ids=["dense", "images"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("places", FROZEN, ids=str)
def test_fit_is_the_loop_by_hand(make, x, name, places):
    y, start = Y[: len(x)], frozen(make, places)
    expected = by_hand(copy.deepcopy(start), x, y, OPTIMIZERS[name](), 20)
    assert_frozen_layers_stay(expected, start)
    models = [fitted(copy.deepcopy(start), x, y, OPTIMIZERS[name](), 20, n) for n in (1, 2, 3)]
    assert_same(models[0], expected)
    for other in models[1:]:
        assert other.parameters.tobytes() == models[0].parameters.tobytes()
    assert_frozen_layers_stay(models[0], start)


@pytest.mark.parametrize("places", FROZEN, ids=str)
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_training_follows_torch_with_requires_grad_false(places, name):
    torch = pytest.importorskip("torch")
    theirs = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1),
        "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1),
        "adam": lambda p: torch.optim.Adam(p, 0.01, eps=1e-3, weight_decay=0.1),
    }[name]
    for make, x in ((dense, X), (images, IMAGES)):
        model, y = frozen(make, places), Y[: len(x)]
        twin = ff.to_torch(model)
        for layer, module in zip(model.layers, twin, strict=True):
            module.requires_grad_(layer.trainable)
            module.train(layer.trainable)  # as Keras has batch normalisation
        optimizer = theirs([parameter for parameter in twin.parameters() if parameter.requires_grad])
        for _ in range(2):
            for start in range(0, len(x), 20):
                optimizer.zero_grad()
                out, target = twin(torch.tensor(x[start : start + 20])), torch.tensor(y[start : start + 20])
                torch.nn.functional.cross_entropy(out, target).backward()
                optimizer.step()
        fitted(model, x, y, OPTIMIZERS[name](), 20)
        for (key, mine), other in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
            if "num_batches" not in key:
                np.testing.assert_allclose(mine, other.numpy(), rtol=1e-6, atol=1e-8, err_msg=key)


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 8, 32, None])
@pytest.mark.parametrize("first", [True, False])
def test_a_first_layer_over_nonzeros_may_be_frozen(batch_size, first, dtype):
    """Which else puts its updates off, where a shift of all numbers is folded into it."""
    pixels = (RNG.integers(0, 256, (640, 60)) * (RNG.random((640, 60)) < 0.2)).astype(np.uint8)
    layers = ff.Normalize(0.13, 0.31, scale=1 / 255), ff.Linear(60, 80), ff.ReLU(), ff.Linear(80, 4)
    model, y = ff.Sequential(*layers, seed=2, dtype=dtype), RNG.integers(0, 4, 640)
    model[1 if first else 3].trainable = False
    start = copy.deepcopy(model)
    rows = batch_size or len(pixels)
    expected = by_hand(copy.deepcopy(model), pixels, y, ff.SGD(0.02), rows, epochs=1)
    runs = [fitted(copy.deepcopy(model), pixels, y, ff.SGD(0.02), rows, n, epochs=1) for n in (1, 2)]
    assert_same(runs[0], expected, 1e-9 if dtype == "float64" else 2e-4)
    assert runs[0].parameters.tobytes() == runs[1].parameters.tobytes()
    assert_frozen_layers_stay(runs[0], start)


def operations(model, x):
    """The names of what a step of training does."""
    names = []
    with pytest.MonkeyPatch.context() as patch:
        for table in ("row", "weight", "update"):
            original = getattr(program.Table, table)
            patch.setattr(
                program.Table,
                table,
                lambda self, name, _do=original, **fields: (names.append(name), _do(self, name, **fields))[1],
            )
        fitted(model, x, Y[: len(x)], ff.Adam(0.01), 20, epochs=1)
    return names


@needs_jit
def test_nothing_is_computed_for_what_is_frozen():
    whole, part = operations(dense(), X), operations(frozen(dense, (0, 1, 3)), X)
    # Products: three forward and two for inputs in rows; three for weights. Of the last layer: no input's.
    assert (whole.count("product"), part.count("product")) == (8, 4)
    assert "batch_norm_moments" in whole
    assert not {"batch_norm_moments", "batch_norm_running", "relu_backward"} & set(part)
    assert (whole.count("adam"), part.count("adam")) == (1, 2)  # its weight and its bias
    assert not any("backward" in name for name in operations(frozen(images, (0, 1, 3)), IMAGES) if "convol" in name)


def test_layer_by_layer_no_gradient_goes_further_than_a_layer_learns(monkeypatch):
    monkeypatch.setattr(program, "is_compiled", lambda task: False)
    for places in ((0, 1), (0, 1, 3), (3,)):
        start = frozen(dense, places)
        model = fitted(copy.deepcopy(start), X, Y, ff.Adam(0.01, weight_decay=0.1), 20)
        assert_same(model, by_hand(copy.deepcopy(start), X, Y, ff.Adam(0.01, weight_decay=0.1), 20))
    reached, model = [], frozen(dense, (0, 1, 3))
    for i, layer in enumerate(model.layers):
        real = type(layer).backward
        object.__setattr__(
            layer, "backward", lambda grad, i=i, layer=layer, real=real: (reached.append(i), real(layer, grad))[1]
        )
    fitted(model, X, Y, ff.SGD(0.1), 70, epochs=1)
    assert reached == [5]


@needs_jit
def test_a_change_counts_from_the_next_call_on():
    mine, other, optimizers = dense(), dense(), [ff.SGD(0.1, momentum=0.9) for _ in range(2)]
    for places in ((), (0, 1), (3,), (), (5,), (0, 1)):
        for model in (mine, other):
            model.trainable = True
            for place in places:
                model[place].trainable = False
        fitted(mine, X, Y, optimizers[0], 20, epochs=1)
        by_hand(other, X, Y, optimizers[1], 20, epochs=1)
        assert_same(mine, other)


def test_train_step_and_gradients():
    model, twin = frozen(dense, (3,)), dense()
    for each in (model, twin):
        ff.train_step(each, X, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1, weight_decay=0.1))
    assert (model[0].grads["weight"] == twin[0].grads["weight"]).all()
    assert not model[3].grads["weight"].any()
    x_gradient = model.backward(np.ones_like(model.forward(X)))
    assert x_gradient.shape == X.shape
    assert not model[3].grads["weight"].any()
    assert ff.gradcheck(frozen(dense, (0, 1, 3)), X[:5]) < 1e-4
    assert ff.gradcheck(frozen(images, (0, 1)), IMAGES[:2]) < 1e-4


def test_only_the_gradients_of_what_is_trained_count_for_a_norm():
    model = frozen(dense, (0, 1, 3))
    before, bias = model[5].params["bias"].copy(), np.array([3.0, 0, 0, 4])
    for place in (0, 1, 3):
        for array in model[place].grads.values():
            array[...] = 1e3  # somebody wrote there
    model[5].grads["bias"][...] = bias
    ff.SGD(1.0, clip_norm=2.0).step(model.parameters, model.gradients)
    np.testing.assert_allclose(before - model[5].params["bias"], 2 / 5 * bias)


@needs_jit
def test_the_l2_term_is_of_what_is_trained():
    class Shown(ff.EpochCallback):
        def arrange(self, epoch):
            return epoch._replace(penalty=3.0)

    losses = []
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not compiled:
                patch.setattr(program, "is_compiled", lambda task: False)
            model = frozen(dense, (3,))
            w = [model[i].params["weight"] for i in (0, 5)]
            expected = 3 * 0.5 / 2 * sum((each**2).sum() for each in w)
            history = ff.fit(
                model, X, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1, weight_decay=0.5), batch_size=None,
                epochs=1, callbacks=[Shown()], progress=False,
            )  # fmt: skip
            plain = fitted_loss(frozen(dense, (3,)))
            np.testing.assert_allclose(history.loss[0] - plain, expected, rtol=1e-9)
            losses.append(history.loss[0])
    np.testing.assert_allclose(*losses, rtol=1e-12)


def fitted_loss(model):
    settings = {"epochs": 1, "batch_size": None, "progress": False}
    return ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1), **settings).loss[0]


def test_what_is_frozen_stays_so_in_copies_and_files(tmp_path):
    model = frozen(dense, (0, 1))
    ff.save(model, tmp_path / "model.safetensors")
    for again in (ff.load(tmp_path / "model.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [layer.trainable for layer in again.layers] == [False, False, True, True, True, True]
    ff.save(dense(), tmp_path / "whole.safetensors")
    assert b"trainable" not in (tmp_path / "whole.safetensors").read_bytes()
    assert ff.load(tmp_path / "whole.safetensors").trainable


def test_torch_knows_what_is_frozen_and_tells_it():
    pytest.importorskip("torch")
    model = frozen(dense, (0, 1))
    twin = ff.to_torch(model)
    assert [all(p.requires_grad for p in module.parameters()) for module in twin] == [False, False, *[True] * 4]
    assert [layer.trainable for layer in ff.from_torch(twin).layers] == [False, False, *[True] * 4]


def test_a_checkpoint_goes_on_with_what_is_frozen(tmp_path):
    path = tmp_path / "c.safetensors"
    whole = fitted(frozen(dense, (0, 1)), X, Y, ff.Adam(0.01), 20, epochs=4, seed=0)
    fitted(frozen(dense, (0, 1)), X, Y, ff.Adam(0.01), 20, epochs=2, seed=0, callbacks=[ff.Checkpoint(path)])
    resumed = fitted(frozen(dense, (0, 1)), X, Y, ff.Adam(0.01), 20, epochs=4, seed=0, resume=path)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


def test_the_summary_says_how_many_are_trained():
    model = frozen(dense, (0, 1))
    assert model.n_parameters == 330 + 66 + 578 + 72
    assert model.n_trainable == 578 + 72
    lines = model.summary().splitlines()
    assert lines[2].endswith("330 frozen")
    assert lines[5].endswith("578")
    assert lines[-1].startswith("1,046 parameters (650 trainable), float64")
    assert "trainable" not in dense().summary()


@pytest.mark.filterwarnings("ignore:Pair. no compiled form")
def test_what_is_held_is_frozen_with_its_holder():
    class Pair(ff.Layer):
        def __init__(self):
            super().__init__()
            self.inner = ff.Linear(9, 9)

        def forward(self, x):
            return self.inner.forward(x)

        def backward(self, grad_out):
            return self.inner.backward(grad_out)

    model = ff.Sequential(Pair(), ff.Linear(9, 4), seed=0, dtype="float64")
    model[0].trainable = False
    weight = model[0].inner.params["weight"].copy()
    fitted(model, X, Y, ff.SGD(0.1, weight_decay=0.1), 20)
    assert (model[0].inner.params["weight"] == weight).all()
    assert not model[0].inner.trainable


def test_what_is_refused():
    model = dense()
    with pytest.raises(InvalidTypeError, match="trainable of Linear.* is 'no'; expected True or False"):
        model[0].trainable = "no"
    model.trainable = False
    for train in (ff.fit, ff.train_step):
        with pytest.raises(InvalidValueError, match="every layer of model is frozen; expected one with parameters"):
            train(model, X, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1))
    assert ff.evaluate(model, X, Y, loss=ff.CrossEntropyLoss()).loss > 0


def test_lbfgs_leaves_frozen_layers_alone():
    pytest.importorskip("sklearn")
    from fastfnn.sklearn import FNNClassifier

    network = frozen(dense, (0, 1))
    model = FNNClassifier(network=network, solver="lbfgs", alpha=1.0, max_iter=5)
    with pytest.warns(UserWarning, match="lbfgs failed to converge after 5"):
        model.fit(X, Y)
    assert_frozen_layers_stay(model.model_, network)


#: From rows (9,), layers with parameters of every other kind, and containers.
KINDS = {
    "layer norm": lambda: [ff.LayerNorm(9), ff.Linear(9, 6)],
    "prelu": lambda: [ff.PReLU(9), ff.Linear(9, 6)],
    "residual": lambda: [ff.Residual(ff.Linear(9, 9), ff.ReLU()), ff.ReLU(), ff.Linear(9, 6)],
    "branches": lambda: [ff.Parallel([ff.Linear(9, 4), ff.BatchNorm1d(4)], ff.Tanh()), ff.Linear(13, 6)],
    "columns": lambda: [ff.Columns({0: ff.Embedding(5, 2), tuple(range(1, 9)): ff.Linear(8, 4)}), ff.Linear(6, 6)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_whatever_is_frozen_stays_compiled_or_not(kind, place, optimizer, monkeypatch):
    x = np.column_stack([RNG.integers(0, 5, 70), X[:, 1:]])

    def trained():
        model = ff.Sequential(*KINDS[kind](), ff.Linear(6, 4), seed=2, dtype="float64")
        model[place].trainable = False
        before = copy.deepcopy(model[place])
        settings = {"epochs": 2, "batch_size": 16, "seed": 1, "loss": ff.CrossEntropyLoss()}
        ff.fit(model, x, Y, optimizer=OPTIMIZERS[optimizer](), **settings)
        for (_, old), (_, new) in zip(before.family(), model[place].family(), strict=True):
            for name, array in {**old.params, **old.buffers}.items():
                np.testing.assert_array_equal({**new.params, **new.buffers}[name], array)
        return model.parameters

    compiled = trained()
    monkeypatch.setattr(program, "is_compiled", lambda task: False)
    np.testing.assert_allclose(trained(), compiled, rtol=1e-9, atol=1e-11)
