"""Networks with branches: layers made of layers, eager, compiled, saved, and to and from others."""

import copy
import pickle

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import lowering
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers import Chain

RNG = np.random.default_rng(3)
ROWS, IMAGES = RNG.normal(size=(37, 6)), RNG.normal(size=(21, 3, 6, 5))
LABELS = RNG.integers(0, 4, 37)


def block(channels, out=None, stride=1):
    """Two convolutions with a shortcut, as in He et al."""
    out = out or channels
    layers = [
        ff.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
        ff.BatchNorm2d(out),
        ff.ReLU(),
        ff.Conv2d(out, out, 3, padding=1, bias=False),
        ff.BatchNorm2d(out),
    ]
    same = stride == 1 and out == channels
    return ff.Residual(*layers, shortcut=None if same else ff.Conv2d(channels, out, 1, stride=stride))


#: From rows (6,).
OF_ROWS = {
    "nested": lambda: [ff.Sequential(ff.Linear(6, 9), ff.ReLU(), seed=1), ff.Sequential(ff.Tanh(), seed=2)],
    "residual": lambda: [
        ff.Linear(6, 9),
        ff.ReLU(),
        ff.Residual(ff.Linear(9, 9), ff.ReLU(), ff.Linear(9, 9)),
        ff.ReLU(),
    ],
    "ends in relu": lambda: [ff.Linear(6, 9), ff.Residual(ff.Linear(9, 9), ff.ReLU())],
    "shortcut ends in relu": lambda: [
        ff.Linear(6, 9),
        ff.Residual(ff.Tanh(), ff.Linear(9, 9), shortcut=[ff.Linear(9, 9), ff.ReLU()]),
    ],
    "wide and deep": lambda: [ff.Parallel([], [ff.Linear(6, 8), ff.ReLU(), ff.Linear(8, 3)]), ff.Tanh()],
    "first": lambda: [ff.Residual(ff.Linear(6, 6), ff.ReLU()), ff.ReLU()],
    "three": lambda: [
        ff.Linear(6, 9),
        ff.Parallel(ff.Linear(9, 5), [ff.Tanh(), ff.Linear(9, 5)], [ff.Linear(9, 5), ff.ReLU()], join="add"),
        ff.ReLU(),
    ],
    "within each other": lambda: [
        ff.Linear(6, 9),
        ff.Residual(ff.Parallel(ff.Linear(9, 4), [], ff.Linear(9, 2)), ff.Linear(15, 9), ff.ReLU()),
        ff.Residual(ff.Residual(ff.Linear(9, 9)), ff.Tanh()),
    ],
    "no parameters in a branch": lambda: [ff.Parallel(ff.Tanh(), ff.Sigmoid()), ff.Linear(12, 9)],
    "one branch": lambda: [ff.Linear(6, 9), ff.Parallel([ff.Linear(9, 7), ff.ReLU()])],
    "normalized": lambda: [ff.BatchNorm1d(6), ff.Residual(ff.Linear(6, 6, bias=False), ff.BatchNorm1d(6), ff.ReLU())],
}
#: From images (3, 6, 5).
OF_IMAGES = {
    "resnet": lambda: [
        ff.Conv2d(3, 8, 3, padding=1),
        ff.ReLU(),
        block(8),
        ff.ReLU(),
        block(8, 12, stride=2),
        ff.ReLU(),
        ff.GlobalAvgPool2d(),
    ],
    "inception": lambda: [
        ff.Parallel(
            [ff.Conv2d(3, 4, 1), ff.ReLU()],
            [ff.Conv2d(3, 5, 3, padding=1), ff.ReLU()],
            [ff.MaxPool2d(3, stride=1, padding=1), ff.Conv2d(3, 2, 1)],
        ),
        ff.ReLU(),
        ff.MaxPool2d(2),
        ff.Flatten(),
    ],
    "flattened in branches": lambda: [
        ff.Parallel([ff.Flatten()], [ff.Conv2d(3, 2, 3), ff.ReLU(), ff.GlobalAvgPool2d()])
    ],
}
ALL = [*((name, of, ROWS) for name, of in OF_ROWS.items()), *((name, of, IMAGES) for name, of in OF_IMAGES.items())]
EACH = pytest.mark.parametrize(("layers", "x"), [pytest.param(of, x, id=name) for name, of, x in ALL])


def fit(model, x, y, **settings):
    return ff.fit(model, x, y, **{"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(lr=0.1), **settings})


def network(layers, x, dtype="float64"):
    made = layers()
    (features,) = Chain(*made).output_shape(x.shape[1:])
    return ff.Sequential(*made, ff.Linear(features, 4), seed=5, dtype=dtype)


def labels(x):
    return LABELS[: len(x)]


@EACH
def test_gradients_are_those_of_central_differences(layers, x):
    ff.gradcheck(network(layers, x), x[:5] + 0.01)


@EACH
@pytest.mark.parametrize("optimizer", [lambda: ff.SGD(lr=0.1), lambda: ff.Adam(lr=0.01)], ids=["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_compiled_training_is_that_of_the_layers(layers, x, optimizer, batch_size, monkeypatch):
    def trained(model, n_threads=1):
        history = fit(
            model, x, labels(x), epochs=3, batch_size=batch_size, optimizer=optimizer(), seed=1, n_threads=n_threads
        )
        return history.loss, model.parameters, ff.predict_raw(model, x, n_threads=n_threads)

    assert not lowering.uncompiled(network(layers, x))
    one, two = trained(network(layers, x)), trained(network(layers, x), n_threads=2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr("fastfnn.engine.program.is_compiled", lambda task: False)
    for a, b in zip(one, trained(network(layers, x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@EACH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_comes_back_from_a_file_a_pickle_and_a_copy(layers, x, dtype, tmp_path):
    model = network(layers, x, dtype)
    fit(model, x, labels(x), epochs=1)
    ff.save(model, tmp_path / "model.safetensors")
    for twin in (ff.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert repr(twin) == repr(model)
        np.testing.assert_array_equal(twin.parameters, model.parameters)
        np.testing.assert_array_equal(ff.predict_raw(twin, x), ff.predict_raw(model, x))


@EACH
def test_a_predictor_gives_what_the_model_gives(layers, x):
    model = network(layers, x)
    fit(model, x, labels(x), epochs=2)
    predictor = ff.Predictor(model, x.shape[1:], "float64")
    np.testing.assert_allclose(predictor(x), ff.predict_raw(model, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(predictor(x[:1]), ff.predict_raw(model, x)[:1], rtol=1e-9, atol=1e-12)


@EACH
def test_pytorch_computes_the_same_there_and_back(layers, x):
    torch = pytest.importorskip("torch")
    model = network(layers, x)
    fit(model, x, labels(x), epochs=1)
    module = ff.to_torch(model).eval()
    np.testing.assert_allclose(module(torch.tensor(x)).detach(), ff.predict_raw(model, x), rtol=1e-9, atol=1e-11)
    back = ff.from_torch(module)
    np.testing.assert_allclose(ff.predict_raw(back, x), ff.predict_raw(model, x), rtol=1e-12, atol=1e-12)


@EACH
def test_onnx_computes_the_same_there_and_back(layers, x, tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    model = network(layers, x)
    fit(model, x, labels(x), epochs=1)
    ff.export_onnx(model, tmp_path / "m.onnx", input_shape=x.shape[1:], input_dtype="float64")
    (got,) = reference.ReferenceEvaluator(onnx.load(tmp_path / "m.onnx")).run(None, {"x": x})
    np.testing.assert_allclose(got, ff.predict_raw(model, x), rtol=1e-9, atol=1e-11)
    back = ff.import_onnx(tmp_path / "m.onnx")
    np.testing.assert_allclose(ff.predict_raw(back, x), ff.predict_raw(model, x), rtol=1e-9, atol=1e-11)


def test_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    model = network(OF_IMAGES["resnet"], IMAGES)
    module = ff.to_torch(model).train()
    upstream = RNG.normal(size=(len(IMAGES), 4))
    x = torch.tensor(IMAGES, requires_grad=True)
    module(x).backward(torch.tensor(upstream))
    model.forward(IMAGES)
    np.testing.assert_allclose(model.backward(upstream), x.grad, rtol=1e-8, atol=1e-10)
    theirs = dict(module.named_parameters())
    for name, array in ff.to_torch(model).named_parameters():
        assert theirs[name].shape == array.shape
    state = {name: layer.grads for name, layer in model.named_layers().items() if layer.grads}
    for place, grads in state.items():
        for name, grad in grads.items():
            expected = np.asarray(theirs[f"{place}.{name}"].grad)
            expected = expected.T if isinstance(model.named_layers()[place], ff.Linear) else expected
            np.testing.assert_allclose(grad, expected, rtol=1e-7, atol=1e-9)


def test_a_module_with_a_forward_of_its_own_is_read():
    torch = pytest.importorskip("torch")
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
            self.norm1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

        def forward(self, x):
            y = functional.relu(self.norm1(self.conv1(x)))
            return functional.relu(self.conv2(y) + x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
            self.block = Block(4)
            self.left, self.right = nn.Linear(48, 5), nn.Linear(48, 6)
            self.drop, self.head = nn.Dropout(0.2), nn.Linear(11, 2)

        def forward(self, x):
            x = self.block(self.stem(x))
            x = x.view(x.size(0), -1)
            x = torch.cat([torch.tanh(self.left(x)), self.right(x).relu()], dim=1)
            return self.head(self.drop(x))

    torch.manual_seed(0)
    module = Net().double().eval()
    model = ff.from_torch(module)
    expected = module(torch.tensor(IMAGES)).detach()
    np.testing.assert_allclose(ff.predict_raw(model, IMAGES), expected, rtol=1e-9, atol=1e-11)
    assert not lowering.uncompiled(model)


def test_a_forward_that_no_layer_does_is_refused_by_name():
    torch = pytest.importorskip("torch")

    class Twice(torch.nn.Module):
        def forward(self, x):
            return x * 2.0 + torch.sin(x)

    class Data(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    class Again(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(torch.relu(self.linear(x)))

    with pytest.raises(InvalidTypeError, match=r"module\.mul is mul"):
        ff.from_torch(Twice())
    with pytest.raises(InvalidTypeError, match="depend on the data"):
        ff.from_torch(Data())
    with pytest.raises(InvalidValueError, match=r"module\.linear comes twice"):
        ff.from_torch(Again())


def test_branches_that_cross_are_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Sigmoid", ["x"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["d"]),
        helper.make_node("Add", ["b", "d"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:])), tmp_path / "m.onnx")
    with pytest.raises(ff.errors.ModelFileError, match=r"'a' \(Relu\) is in two branches"):
        ff.import_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("layers", "x", "message"),
    [
        ([ff.Residual(ff.Linear(6, 5))], ROWS, r"layers, .* of shape \(5,\), shortcut, \[\], of \(6,\)"),
        (
            [ff.Parallel(ff.Linear(6, 5), ff.Linear(6, 4), join="add")],
            ROWS,
            r"branches\[0\].*\(5,\).*branches\[1\].*\(4,\)",
        ),
        ([ff.Parallel(ff.Conv2d(3, 2, 3), [])], IMAGES, r"branches\[0\].*\(2, 4, 3\).*branches\[1\].*\(3, 6, 5\)"),
        ([ff.Parallel(ff.Flatten(), ff.ReLU())], IMAGES, r"\(90,\).*\(3, 6, 5\)"),
    ],
)
def test_shapes_that_do_not_join_name_both_branches(layers, x, message):
    model = ff.Sequential(*layers)
    for use in (lambda: model.forward(x), lambda: ff.predict_raw(model, x), lambda: model.output_shape(x.shape[1:])):
        with pytest.raises(InvalidValueError, match=message):
            use()


def test_what_is_no_layer_or_comes_twice_is_refused():
    linear = ff.Linear(3, 3)
    with pytest.raises(InvalidValueError, match=r"appears twice, at layers\[0\] before"):
        ff.Sequential(linear, ff.Residual(linear))
    with pytest.raises(InvalidValueError, match="appears twice"):
        ff.Parallel(linear, [linear])
    with pytest.raises(InvalidTypeError, match=r"branches\[1\]\[0\] is 3"):
        ff.Parallel(linear, [3])  # type: ignore[list-item]
    with pytest.raises(InvalidValueError, match="join is 'sum'"):
        ff.Parallel(linear, join="sum")
    with pytest.raises(InvalidValueError, match="branches is empty"):
        ff.Parallel()
    with pytest.raises(InvalidValueError, match="layers is empty"):
        ff.Residual()
    with pytest.raises(InvalidValueError, match=r"layers\[1\] is Linear\(in_features=4, out_features=2\), but gets 3"):
        ff.Sequential(ff.Residual(linear), ff.Linear(4, 2))


def test_a_model_within_another_trains_with_it_and_lives_on():
    inner = ff.Sequential(ff.Linear(6, 5), ff.ReLU(), seed=1)
    outer = ff.Sequential(inner, ff.Linear(5, 4), seed=2)
    assert outer[0] is inner
    assert outer.n_parameters == inner.n_parameters + 24
    before = inner.parameters.copy()
    fit(outer, ROWS, LABELS, epochs=2, optimizer=ff.SGD(lr=0.5))
    assert not np.array_equal(inner.parameters, before)
    np.testing.assert_allclose(outer[1].forward(inner.forward(ROWS)), ff.predict_raw(outer, ROWS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ff.predict_raw(inner, ROWS), inner.forward(ROWS), rtol=1e-5, atol=1e-6)
    fit(outer, ROWS, LABELS, epochs=1)  # the inner one has taken its arrays back


def test_what_a_last_layer_within_another_model_says_counts():
    body = ff.Sequential(ff.Linear(6, 4), ff.Softmax(), seed=0)
    model = ff.Sequential(body, seed=0)
    np.testing.assert_array_equal(ff.predict_proba(model, ROWS), ff.predict_raw(model, ROWS))
    with pytest.warns(UserWarning, match="CrossEntropyLoss takes logits"):
        fit(model, ROWS, LABELS)


def test_layers_that_are_added_to_a_branch_are_noticed():
    branch = ff.Sequential(ff.Linear(6, 6), seed=0)
    model = ff.Sequential(ff.Residual(branch), ff.Linear(6, 4), seed=0)
    before = ff.predict_raw(model, ROWS)
    branch.layers.append(ff.Tanh())
    after = ff.predict_raw(model, ROWS)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, model.forward(ROWS.astype(np.float32)), rtol=1e-5, atol=1e-6)


def test_names_and_summary_show_the_places():
    model = ff.Sequential(ff.Linear(6, 8), ff.ReLU(), ff.Residual(ff.Linear(8, 8), ff.Tanh()), ff.Linear(8, 2), seed=0)
    assert list(model.state_dict()) == [
        "0.weight", "0.bias", "2.layers.0.weight", "2.layers.0.bias", "3.weight", "3.bias",
    ]  # fmt: skip
    assert "2.layers.0" in model.summary()
    assert repr(model[2]) == "Residual(Linear(in_features=8, out_features=8), Tanh())"


def test_an_own_layer_that_holds_ours_says_its_children():
    class Block(ff.Layer):
        def __init__(self):
            super().__init__()
            self.inner, self.gates = ff.Sequential(ff.Linear(6, 6), ff.ReLU(), seed=0), [ff.Linear(6, 6), ff.Tanh()]

        def forward(self, x):
            return self.inner.forward(x) + self.gates[1].forward(self.gates[0].forward(x))

        def backward(self, grad_out):
            return self.inner.backward(grad_out) + self.gates[0].backward(self.gates[1].backward(grad_out))

    layer = Block()
    assert list(layer.children()) == ["inner", "gates.0", "gates.1"]
    model = ff.Sequential(layer, ff.Linear(6, 4), seed=0, dtype="float64")
    ff.gradcheck(model, ROWS[:4])
    assert model.n_parameters == 42 + 42 + 28
    history = fit(model, ROWS, LABELS, epochs=5, optimizer=ff.SGD(lr=0.3))
    assert history.loss[-1] < history.loss[0]


def test_a_checkpoint_of_branches_goes_on(tmp_path):
    def trained(epochs, **more):
        model = network(OF_ROWS["within each other"], ROWS)
        fit(model, ROWS, LABELS, epochs=epochs, batch_size=8, optimizer=ff.Adam(lr=0.01), seed=3, **more)
        return model.parameters

    trained(2, callbacks=[ff.Checkpoint(tmp_path / "c")])
    np.testing.assert_array_equal(trained(4, resume=tmp_path / "c"), trained(4))
