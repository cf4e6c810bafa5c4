"""export_onnx: what the checker and ONNX Runtime say to it. And back: import_onnx gives the same model."""

import os
import sys

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.interchange.safetensors import LAYERS
from fastfnn.layers.random import RandomLayer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

#: Layers and the shape of a sample that they take, awkward on purpose; every layer appears.
CASES = {
    "AvgPool2d": ([ff.AvgPool2d((3, 2), stride=2, padding=1, ceil_mode=True)], (3, 8, 7)),
    "AvgPool2d without padding": ([ff.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)], (2, 8, 9)),
    "BatchNorm1d": ([ff.BatchNorm1d(5, eps=1e-3, momentum=0.3)], (5,)),
    "BatchNorm2d": ([ff.BatchNorm2d(3)], (3, 4, 5)),
    "MaxPool1d": ([ff.MaxPool1d(3, 2, 1, 2, True)], (4, 11)),
    "AvgPool1d": ([ff.AvgPool1d(3), ff.ReLU()], (4, 11)),
    "AvgPool1d without padding": ([ff.AvgPool1d(3, 2, 1, count_include_pad=False)], (4, 11)),
    "Conv1d": ([ff.Conv1d(4, 6, 3, 2, 1, 2, groups=2)], (4, 11)),
    "Conv1d without bias": ([ff.Conv1d(2, 3, 4, bias=False), ff.ReLU()], (2, 7)),
    "Conv2d": ([ff.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2)], (4, 9, 8)),
    "Conv2d without bias": ([ff.Conv2d(2, 3, 3, padding=1, bias=False)], (2, 5, 6)),
    "Conv2d of images without channels": ([ff.Normalize(0.4, 0.2), ff.Conv2d(1, 3, 3)], (6, 5)),
    "Dropout": ([ff.Linear(4, 3), ff.Dropout(0.5, seed=1)], (4,)),
    "Dropout alone": ([ff.Dropout(0.5, seed=1)], (4,)),
    "ELU": ([ff.ELU(0.7)], (5,)),
    "Flatten": ([ff.Flatten()], (2, 3, 4)),
    "GELU": ([ff.GELU()], (5,)),
    "GELU by tanh": ([ff.Linear(5, 4), ff.GELU("tanh")], (5,)),
    "Hardswish": ([ff.Hardswish()], (5,)),
    "ReLU6": ([ff.ReLU6()], (5,)),
    "SELU": ([ff.SELU()], (5,)),
    "SiLU": ([ff.Linear(5, 4), ff.SiLU(), ff.SiLU()], (5,)),
    "Softplus": ([ff.Softplus()], (5,)),
    "GlobalMaxPool2d": ([ff.GlobalMaxPool2d()], (3, 4, 5)),
    "ZeroPad2d": ([ff.ZeroPad2d((1, 0, 2, 3))], (3, 4, 5)),
    "Dropout2d": ([ff.Conv2d(2, 3, 2), ff.Dropout2d(0.5, seed=1)], (2, 3, 4)),
    "augmentation": (
        [ff.RandomFlip(seed=1), ff.RandomShift(2), ff.RandomErase(2), ff.RandomRotation(9), ff.Noise(), ff.Tanh()],
        (2, 3, 4),
    ),
    "GlobalAvgPool2d": ([ff.GlobalAvgPool2d()], (3, 4, 5)),
    "GlobalAvgPool2d, Flatten": ([ff.GlobalAvgPool2d(), ff.Flatten(), ff.Linear(3, 2)], (3, 4, 5)),
    "LayerNorm": ([ff.LayerNorm(5, eps=1e-3)], (5,)),
    "LayerNorm of images": ([ff.Conv2d(2, 3, 2), ff.LayerNorm((3, 4, 5), bias=False), ff.LayerNorm(5)], (2, 5, 6)),
    "LeakyReLU": ([ff.LeakyReLU(0.2)], (5,)),
    "Linear": ([ff.Linear(7, 3)], (7,)),
    "Linear without bias": ([ff.Linear(7, 3, bias=False), ff.Linear(3, 2)], (7,)),
    "Log": ([ff.Sigmoid(), ff.Log()], (5,)),
    "LogSoftmax": ([ff.LogSoftmax()], (5,)),
    "MaxPool2d": ([ff.MaxPool2d((3, 2), stride=2, padding=1, dilation=(2, 1), ceil_mode=True)], (3, 8, 7)),
    "Normalize": ([ff.Normalize(0.1307, 0.3081, scale=1 / 255)], (5,)),
    "Normalize twice": ([ff.Normalize(0.3, 0.7), ff.Normalize(0.1, 0.9, scale=0.3)], (5,)),
    "Normalize of channels": ([ff.Normalize([0.1, 0.2, 0.3], [0.7, 0.9, 1.1], scale=1 / 3)], (3, 4, 5)),
    "Normalize of blocks": ([ff.Flatten(), ff.Normalize([0.1, 0.2, 0.3], 0.3)], (3, 4)),
    "Normalize behind Linear": ([ff.Linear(4, 3, bias=False), ff.Normalize(0.5, 2.0)], (4,)),
    "PReLU": ([ff.PReLU()], (5,)),
    "PReLU of features": ([ff.Linear(5, 4), ff.PReLU(4)], (5,)),
    "PReLU of channels": ([ff.PReLU(2)], (2, 3, 4)),
    "ReLU": ([ff.ReLU()], (5,)),
    "Sigmoid": ([ff.Sigmoid()], (5,)),
    "Softmax": ([ff.Softmax()], (5,)),
    "Softmax of images": ([ff.Softmax()], (2, 3, 5)),
    "Tanh": ([ff.Tanh()], (2, 3)),
}


def batch_norm_cnn():
    return ff.Sequential(
        ff.Normalize([0.5, 0.4, 0.3], 0.25, scale=1 / 255),
        ff.Conv2d(3, 8, 3, padding=1, bias=False),
        ff.BatchNorm2d(8),
        ff.ReLU(),
        ff.AvgPool2d(2),
        ff.Conv2d(8, 6, 3),
        ff.BatchNorm2d(6),
        ff.LeakyReLU(),
        ff.GlobalAvgPool2d(),
        ff.Linear(6, 4),
        ff.BatchNorm1d(4),
        ff.LogSoftmax(),
        seed=3,
    )


#: Whole networks for uint8 images.
NETWORKS = {
    "mlp": (lambda: ff.models.mlp(hidden=(30, 20), dropout=0.2, batch_norm=True, seed=0), (28, 28)),
    "lenet5": (lambda: ff.models.lenet5(seed=0), (1, 28, 28)),
    "lenet5 of images without channels": (lambda: ff.models.lenet5(seed=0), (28, 28)),
    "batch_norm_cnn": (batch_norm_cnn, (3, 9, 10)),
}


def with_statistics(model, rng):
    """The model as training leaves it: no parameter and no running statistic is 0 or 1."""
    for array in (*model.named_parameters().values(), *model.named_buffers().values()):
        array[...] = rng.uniform(0.2, 0.8, array.shape) * rng.choice([-1, 1], array.shape)
    for name, array in model.named_buffers().items():
        if name.endswith("running_var"):
            array[...] = np.abs(array)
    return model


def run(path, x):
    """What ONNX Runtime makes of it; where it lacks a float64 operator, ONNX's own slow evaluator."""
    if x.dtype == np.float64:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(str(path)).run(None, {"x": x})[0]
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]


def without_dropout(model):
    return [repr(layer) for layer in model.layers if not isinstance(layer, RandomLayer)]


def test_every_layer_is_tried_and_can_be_written():
    tried = {type(layer) for layers, _ in CASES.values() for layer in layers}
    ours = {layer for layer in LAYERS.values() if not layer.holds_others}  # containers have tests of their own
    assert tried == ours - {ff.Matmul, ff.Embedding, ff.AdaptiveAvgPool2d}  # the last comes back as another
    assert all(layer.has_counterpart("to_onnx") for layers, _ in CASES.values() for layer in layers)


@pytest.mark.parametrize("case", CASES)
def test_a_runtime_gives_the_same(tmp_path, rng, case):
    layers, shape = CASES[case]
    model = with_statistics(ff.Sequential(*layers, seed=0), rng)
    ff.export_onnx(model, tmp_path / "m.onnx", input_shape=shape)
    for n in (1, 3):
        x = rng.normal(size=(n, *shape)).astype(np.float32)
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), ff.predict_raw(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case != "Dropout alone"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_as_it_went(tmp_path, rng, case, dtype):
    layers, shape = CASES[case]
    model = with_statistics(ff.Sequential(*layers, seed=0, dtype=dtype), rng)
    ff.export_onnx(model, tmp_path / "m.onnx", input_shape=shape)
    again = ff.import_onnx(tmp_path / "m.onnx")
    assert again.dtype == model.dtype
    assert [repr(layer) for layer in again.layers] == without_dropout(model)
    x = rng.normal(size=(3, *shape)).astype(dtype)
    np.testing.assert_array_equal(ff.predict_raw(again, x), ff.predict_raw(model, x))


def test_an_adaptive_pooling_is_one_by_windows(tmp_path, rng):
    model = ff.Sequential(ff.Conv2d(2, 3, 2), ff.AdaptiveAvgPool2d((2, 1)), seed=0)
    with pytest.raises(InvalidValueError, match=r"layers\[1\] is AdaptiveAvgPool2d.*; expected input_shape"):
        ff.export_onnx(model, tmp_path / "m.onnx")
    ff.export_onnx(model, tmp_path / "m.onnx", input_shape=(2, 7, 4))
    x = rng.normal(size=(3, 2, 7, 4)).astype(np.float32)
    again = ff.import_onnx(tmp_path / "m.onnx")
    assert repr(again[1]) == "AvgPool2d(kernel_size=3)"
    for got in (run(tmp_path / "m.onnx", x), ff.predict_raw(again, x)):
        np.testing.assert_allclose(got, ff.predict_raw(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_softplus_of_another_beta_is_scaled_before_and_behind(tmp_path, rng, dtype):
    model = ff.Sequential(ff.Softplus(beta=2.5), dtype=dtype)
    ff.export_onnx(model, tmp_path / "m.onnx", input_shape=(5,), input_dtype=dtype)
    x = rng.normal(size=(3, 5)).astype(dtype)
    for got in (run(tmp_path / "m.onnx", x), ff.predict_raw(ff.import_onnx(tmp_path / "m.onnx"), x)):
        np.testing.assert_allclose(got, ff.predict_raw(model, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_images_of_bytes(tmp_path, rng, name):
    make, shape = NETWORKS[name]
    model = make()
    for layer in model.layers:
        for buffer in layer.buffers.values():
            buffer[...] = rng.uniform(0.5, 1.5, buffer.shape)
    ff.export_onnx(model, tmp_path / "m.onnx", input_shape=shape, input_dtype="uint8")
    again = ff.import_onnx(tmp_path / "m.onnx")
    assert [repr(layer) for layer in again.layers] == without_dropout(model)
    for n in (1, 2, 65):
        x = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        expected = ff.predict_raw(model, x)
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ff.predict_raw(again, x), expected)


def test_float64_stays_float64(tmp_path, rng):
    model = with_statistics(ff.Sequential(ff.Conv2d(2, 3, 3), ff.BatchNorm2d(3), ff.Tanh(), dtype="float64"), rng)
    ff.export_onnx(model, tmp_path / "m.onnx", input_dtype=np.float64)
    x = rng.normal(size=(2, 2, 5, 6))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), ff.predict_raw(model, x), rtol=1e-10, atol=1e-10)


def test_a_float32_file_can_become_a_float64_model(tmp_path):
    normalize = ff.Normalize([0.1, 0.2], [0.3, 0.7], scale=1 / 255)
    ff.export_onnx(ff.Sequential(normalize, ff.Conv2d(2, 3, 3), seed=0), tmp_path / "m.onnx")
    again = ff.import_onnx(tmp_path / "m.onnx", dtype="float64")
    assert again.dtype == np.float64
    assert repr(again[0]) == repr(normalize)


def test_others_can_read_names_and_sizes(tmp_path):
    model = ff.Sequential(ff.Linear(4, 3), ff.ReLU(), ff.Linear(3, 2, bias=False), seed=0)
    ff.export_onnx(model, str(tmp_path / "m.onnx"))
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert proto.producer_name == "fastfnn"
    assert [node.name for node in proto.graph.node] == ["0.Gemm", "1.Relu", "2.Gemm"]
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert set(arrays) == {"0.weight", "0.bias", "2.weight"}
    np.testing.assert_array_equal(arrays["0.weight"], model[0].params["weight"])
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {"x": ["n", 4], "y": ["n", 2]}


def test_what_is_not_told_stays_open(tmp_path, rng):
    model = ff.Sequential(ff.Normalize([0.1, 0.2], 2.0), ff.Conv2d(2, 3, 3), ff.GlobalAvgPool2d(), seed=0)
    ff.export_onnx(model, tmp_path / "m.onnx")
    for size in ((5, 6), (9, 3)):
        x = rng.normal(size=(2, 2, *size)).astype(np.float32)
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), ff.predict_raw(model, x), rtol=1e-5, atol=1e-5)
    assert repr(ff.import_onnx(tmp_path / "m.onnx")) == repr(model)


@pytest.mark.parametrize(
    ("layers", "arguments", "error", "message"),
    [
        ([ff.Flatten(), ff.Linear(4, 2)], {}, InvalidValueError, "input_shape is None; expected the shape of one"),
        ([ff.ReLU()], {}, InvalidValueError, "input_shape is None"),
        ([ff.Linear(4, 2)], {"input_shape": (5,)}, InvalidValueError, r"input_shape is \(5,\): .* expected \(4,\)"),
        ([ff.Linear(4, 2)], {"input_shape": ()}, InvalidValueError, r"input_shape is \(\); expected"),
        ([ff.Linear(4, 2)], {"input_shape": 4}, InvalidTypeError, "input_shape is 4; expected integers"),
        ([ff.Linear(4, 2)], {"input_shape": (4.0,)}, InvalidTypeError, r"input_shape is \(4.0,\); expected integers"),
        ([ff.Linear(4, 2)], {"input_dtype": "int8"}, InvalidTypeError, "input_dtype is int8; expected one of uint8"),
        ([ff.Linear(4, 2)], {"input_dtype": "x"}, InvalidTypeError, "input_dtype is 'x'; expected one of uint8"),
        (
            [ff.Conv2d(1, 2, 3), ff.Flatten(), ff.Normalize([1.0, 2.0])],
            {},
            InvalidValueError,
            r"input_shape is None; .* for layers\[2\]",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(tmp_path, layers, arguments, error, message):
    with pytest.raises(error, match=message):
        ff.export_onnx(ff.Sequential(*layers, seed=0), tmp_path / "m.onnx", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_layer_whose_forward_is_ones_own_is_named(tmp_path):
    class Mine(ff.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(InvalidValueError, match=r"layers\[1\] is Mine\(\); only fastfnn's layers can be exported, and"):
        ff.export_onnx(ff.Sequential(ff.Linear(3, 2), Mine(), seed=0), tmp_path / "m.onnx")
    with pytest.raises(InvalidTypeError, match="model is int; expected a Sequential"):
        ff.export_onnx(3, tmp_path / "m.onnx")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_old_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    ff.export_onnx(ff.Sequential(ff.Linear(3, 2), seed=0), path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        ff.export_onnx(ff.Sequential(ff.Linear(3, 2), seed=1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'export_onnx needs the package onnx \(pip install "fastfnn\[onnx\]"\)'):
        ff.export_onnx(ff.Sequential(ff.Linear(3, 2)), tmp_path / "m.onnx")
    with pytest.raises(ImportError, match=r'import_onnx needs the package onnx \(pip install "fastfnn\[onnx\]"\)'):
        ff.import_onnx(tmp_path / "m.onnx")


class Swish(ff.Layer):
    """A user's own: x σ(x)."""

    def forward(self, x):
        return x * ff.functional.sigmoid(x)

    def to_onnx(self, graph):
        x = graph.value
        graph.add("Sigmoid")
        graph.add("Mul", x)


class Always(ff.Dropout):
    """Drops in inference, too: not what it inherits from."""

    training = property(lambda self: True, lambda self, value: None)


class Scaled(ff.Layer):
    """Nodes and constants of one name."""

    def forward(self, x):
        return x * np.float32(2) * np.float32(3)

    def to_onnx(self, graph):
        for factor in (2, 3):
            graph.add("Mul", graph.constant("Mul", np.array(factor, np.float32)))


class Renamed(ff.ReLU):
    """Not another function: what it inherits holds."""


def test_layers_of_ones_own_say_how_they_are_written(tmp_path, rng):
    model = ff.Sequential(ff.Linear(5, 4), Swish(), Renamed(), Scaled(), ff.Linear(4, 2), seed=0)
    ff.export_onnx(model, tmp_path / "m.onnx")
    x = rng.normal(size=(7, 5)).astype("float32")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model.eval().forward(x), rtol=1e-5, atol=1e-6)


def test_a_layer_that_changes_more_than_its_forward_is_not_what_it_inherits_from(tmp_path):
    with pytest.raises(InvalidValueError, match=r"layers\[1\] is Always.*; only fastfnn's layers can be exported"):
        ff.export_onnx(ff.Sequential(ff.Linear(3, 2), Always(0.5, seed=0), seed=0), tmp_path / "m.onnx")
