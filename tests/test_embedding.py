"""Categories as vectors: lookups and their gradients, and columns of a table to branches."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import lowering
from fastfnn.errors import InvalidTypeError, InvalidValueError, ModelFileError
from fastfnn_kernels import _config

RNG = np.random.default_rng(11)
N, CLASSES = 45, 3
needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")


def table(n=N):
    """Categories of 7, numbers, categories of 4 and of 12, all as columns of numbers."""
    return np.column_stack(
        [RNG.integers(0, 7, n), RNG.normal(size=(n, 2)), RNG.integers(0, 4, n), RNG.integers(0, 12, n)]
    )


X, Y = table(), RNG.integers(0, CLASSES, N)
NETWORKS = {
    "columns": lambda: [
        ff.Columns({0: ff.Embedding(7, 3), 3: ff.Embedding(4, 2), 4: ff.Embedding(12, 5), (1, 2): []}),
        ff.Linear(12, 8),
        ff.ReLU(),
    ],
    "columns in any order": lambda: [
        ff.Columns({(2, 1): ff.BatchNorm1d(2), (4, 0): ff.Embedding(12, 3), 3: [ff.Embedding(4, 2), ff.Tanh()]}),
        ff.Linear(10, 8),
        ff.Tanh(),
    ],
    "columns behind a layer": lambda: [
        ff.Linear(5, 5),
        ff.Columns({(0, 3): [ff.Linear(2, 4), ff.ReLU()], (1, 2, 3): [ff.Linear(3, 4)]}),
        ff.Linear(8, 8),
    ],
}
EACH = pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)


def fit(model, x, y, **settings):
    return ff.fit(model, x, y, **{"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(lr=0.1), **settings})


def network(layers, dtype="float64"):
    return ff.Sequential(*layers(), ff.Linear(8, CLASSES), seed=1, dtype=dtype)


@EACH
@pytest.mark.parametrize("optimizer", [lambda: ff.SGD(lr=0.1), lambda: ff.Adam(lr=0.01)], ids=["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_compiled_training_is_that_of_the_layers(layers, optimizer, batch_size, monkeypatch):
    def trained(n_threads=1):
        model, settings = network(layers), {"epochs": 3, "batch_size": batch_size, "seed": 1}
        history = fit(model, X, Y, optimizer=optimizer(), n_threads=n_threads, **settings)
        return history.loss, model.parameters, ff.predict_raw(model, X, n_threads=n_threads)

    assert not lowering.uncompiled(network(layers))
    one, two = trained(), trained(n_threads=2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr("fastfnn.engine.program.is_compiled", lambda task: False)
    for a, b in zip(one, trained(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "entries", "dim"), [((5, 3), 7, 4), ((1, 1), 1, 1), ((0, 2), 3, 2), ((9,), 4, 33)])
def test_lookups_and_gradients_are_those_of_pytorch(dtype, shape, entries, dim):
    torch = pytest.importorskip("torch")
    x, weight = RNG.integers(0, entries, shape), RNG.normal(size=(entries, dim)).astype(dtype)
    upstream = RNG.normal(size=(*shape, dim)).astype(dtype)
    tensor = torch.tensor(weight, requires_grad=True)
    out = torch.nn.functional.embedding(torch.tensor(x), tensor)
    out.backward(torch.tensor(upstream))
    np.testing.assert_array_equal(ff.functional.embedding(x, weight), out.detach())
    grad = ff.functional.embedding_backward(upstream, x, entries)
    np.testing.assert_allclose(grad, tensor.grad, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6)


def test_a_network_trains_as_in_pytorch():
    torch = pytest.importorskip("torch")
    model = network(NETWORKS["columns"])
    module = ff.to_torch(model)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for start in range(0, N, 9):
        optimizer.zero_grad()
        rows = slice(start, start + 9)
        torch.nn.functional.cross_entropy(module(torch.tensor(X[rows])), torch.tensor(Y[rows])).backward()
        optimizer.step()
    fit(model, X, Y, epochs=1, batch_size=9, shuffle=False, optimizer=ff.SGD(lr=0.1))
    for name, tensor in module.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], tensor, rtol=1e-9, atol=1e-12)


def test_plain_sgd_writes_to_the_entries_that_occur_alone():
    model = ff.Sequential(ff.Embedding(50, 4), ff.Flatten(), ff.Linear(8, CLASSES), seed=0)
    x = RNG.integers(10, 20, (N, 2))
    before = model[0].params["weight"].copy()
    fit(model, x, Y, epochs=2, batch_size=8, optimizer=ff.SGD(lr=0.3))
    changed = np.any(model[0].params["weight"] != before, axis=1)
    assert set(np.flatnonzero(changed)) == set(np.unique(x))


@EACH
def test_files_pytorch_and_onnx_compute_the_same(layers, tmp_path):
    onnx, reference = pytest.importorskip("onnx"), pytest.importorskip("onnx.reference")
    model = network(layers)
    fit(model, X, Y, epochs=1)
    expected = ff.predict_raw(model, X)
    ff.save(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(ff.predict_raw(ff.load(tmp_path / "m.safetensors"), X), expected)
    assert repr(ff.load(tmp_path / "m.safetensors")) == repr(model)
    ff.export_onnx(model, tmp_path / "m.onnx", input_shape=(5,), input_dtype="float64")
    (got,) = reference.ReferenceEvaluator(onnx.load(tmp_path / "m.onnx")).run(None, {"x": X})
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ff.predict_raw(ff.import_onnx(tmp_path / "m.onnx"), X), expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ff.Predictor(model, (5,))(X), expected, rtol=1e-9, atol=1e-11)
    torch = pytest.importorskip("torch")
    module = ff.to_torch(model).eval()
    np.testing.assert_allclose(module(torch.tensor(X)).detach(), expected, rtol=1e-9, atol=1e-11)
    assert repr(ff.from_torch(module)) == repr(model)
    np.testing.assert_allclose(ff.predict_raw(ff.from_torch(module), X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [7.0, -1.0, 0.5, np.nan, np.inf, 1e30])
def test_what_names_no_entry_is_refused_with_its_row(value):
    model, x = network(NETWORKS["columns"], "float32"), X.copy()
    x[13, 0] = value
    before = model.parameters.copy()
    with pytest.raises(InvalidValueError, match=r"row 13 of x: x holds .* expected whole numbers from 0 to 6"):
        fit(model, x, Y, epochs=1, batch_size=None)
    np.testing.assert_array_equal(model.parameters, before)
    for use in (ff.predict_raw, ff.predict):
        with pytest.raises(InvalidValueError, match="whole numbers from 0 to 6"):
            use(model, x)
        with pytest.raises(InvalidValueError, match="whole numbers from 0 to 6"):
            use(model, x[13:14])
    predictor = ff.Predictor(model, (5,), "float64")
    for rows in (x, x[13:14]):
        with pytest.raises(InvalidValueError, match="whole numbers from 0 to 6"):
            predictor(rows)
    np.testing.assert_allclose(predictor(x[:13]), ff.predict_raw(model, x[:13]), rtol=1e-5, atol=1e-6)


def test_settings_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InvalidTypeError, match="branches is 3; expected a dict of columns"):
        ff.Columns(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="none of them twice"):
        ff.Columns({(1, 1): []})
    with pytest.raises(InvalidValueError, match=r"samples of shape \(3,\); expected \(features,\) with column 4"):
        ff.Sequential(ff.Columns({4: []})).forward(X[:, :3])
    with pytest.raises(InvalidValueError, match="num_embeddings is 20,000,000; float32 names 16,777,216"):
        ff.Sequential(ff.Embedding(20_000_000, 1))
    ff.save(ff.Sequential(ff.Embedding(3, 1)), tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    broken = content.replace(b'num_embeddings\\": 3', b'num_embeddings\\": 9')
    assert broken != content
    (tmp_path / "m.safetensors").write_bytes(broken)
    with pytest.raises(ModelFileError):
        ff.load(tmp_path / "m.safetensors")


def test_gradients_are_those_of_central_differences():
    layers = [ff.Columns({(1, 2): [ff.Linear(2, 3), ff.Tanh()], (2, 3): []}), ff.Linear(5, 2)]
    ff.gradcheck(ff.Sequential(*layers, seed=0), X[:6])
    layer = ff.Embedding(4, 3)
    layer.build(np.random.default_rng(0), "float64")
    x, upstream = RNG.integers(0, 4, (6, 2)), RNG.normal(size=(6, 2, 3))
    layer.forward(x)
    layer.backward(upstream)
    expected = np.zeros((4, 3))
    for number, grad in zip(x.reshape(-1), upstream.reshape(-1, 3), strict=True):
        expected[number] += grad
    np.testing.assert_allclose(layer.grads["weight"], expected, rtol=1e-12)
