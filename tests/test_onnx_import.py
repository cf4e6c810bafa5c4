"""import_onnx: graphs as others write them give what ONNX Runtime gives; what cannot be expressed is named."""

import re

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, ModelFileError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(29)
ROWS, IMAGES = "float[n, 6]", "float[n, 3, 8, 9]"


def draw(*shape):
    return RNG.uniform(0.3, 0.9, shape).astype(np.float32)


#: Constants that graphs take by name.
CONSTANTS = {
    "w": draw(6, 4),
    "wt": draw(4, 6),
    "b": draw(4),
    "row": draw(1, 4),
    "features": draw(6),
    "k": draw(4, 3, 3, 3),
    "depthwise": draw(3, 1, 2, 2),
    "one_channel": draw(2, 1, 3, 3),
    "channels": draw(3, 1, 1),
    "batch_channels": draw(1, 3, 1, 1),
    "pixels": draw(8, 9),
    "columns": draw(9),
    "mixed": np.array([1, -1, 1], np.float32).reshape(3, 1, 1),
    "s": draw(3),
    "v": draw(3),
    "two": np.array(2, np.float32),
    "minus": np.array([-0.5], np.float32),
    "zero": np.array([0], np.float32),
    "ints": np.arange(24).reshape(6, 4),
    "to_rows": np.array([0, -1]),
    "all_rows": np.array([-1, 216]),
    "one_row": np.array([1, -1]),
    "mixes_samples": np.array([-1, 27]),
    "axis1": np.array([1]),
    "axes23": np.array([-2, -1]),
    "yes": np.array(True),
    "none": np.array(0, np.float32),
    "six": np.array(6, np.float32),
}


def write(path, body, x=ROWS, y="float[n, k]", opset=17):
    """A file with the graph of `body`, in ONNX's text syntax; ``x`` comes in and ``y`` goes out."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g ({x} x) => ({y} y) {{ {body} }}')
    for name, array in CONSTANTS.items():
        if re.search(rf"\b{name}\b", body):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path.write_bytes(model.SerializeToString())
    return path


#: Body, input, and what it becomes; and the opset where it matters.
READ = {
    "MatMul and Add": ("h = MatMul(x, w) y = Add(h, b)", ROWS, ["Linear"]),
    "Add of a row, on the left": ("h = MatMul(x, w) y = Add(row, h)", ROWS, ["Linear"]),
    "Add behind a Cast": ("h = MatMul(x, w) i = Cast <to = 1> (h) y = Add(i, b)", ROWS, ["Linear"]),
    "MatMul, Cast and Relu": ("h = MatMul(x, w) i = Cast <to = 1> (h) y = Relu(i)", ROWS, ["Linear", "ReLU"]),
    "a mean of pixels": (
        "h = ReduceMean <axes = [2, 3], keepdims = 0> (x) y = Relu(h)",
        IMAGES,
        ["GlobalAvgPool2d", "ReLU"],
    ),
    "a mean of pixels, flattened": ("h = ReduceMean <axes = [-1, -2]> (x) y = Flatten(h)", IMAGES, ["GlobalAvgPool2d"]),
    "a mean over axes that are an input": ("h = ReduceMean(x, axes23) y = Flatten(h)", IMAGES, ["GlobalAvgPool2d"], 18),
    "Sigmoid and Mul": ("h = Sigmoid(x) i = Mul(x, h) j = Sigmoid(i) y = Mul(j, i)", ROWS, ["SiLU", "SiLU"]),
    "Swish": ("y = Swish(x)", ROWS, ["SiLU"], 24),
    "Clip": ("h = Clip(x, none, six) y = Clip(h, none)", ROWS, ["ReLU6", "ReLU"]),
    "Clip with attributes": ("y = Clip <min = 0.0, max = 6.0> (x)", ROWS, ["ReLU6"], 10),
    "rows as an exporter counts them": (
        "size = Shape(x) c = Constant <value_int = 0> () r = Gather(size, c) a = Constant <value_ints = [0]> () "
        "u = Unsqueeze(r, a) m = Constant <value_ints = [-1]> () to = Concat <axis = 0> (u, m) y = Reshape(x, to)",
        IMAGES,
        ["Flatten"],
    ),
    "MaxPool with wide pads": (
        "y = MaxPool <kernel_shape = [3, 2], pads = [2, 1, 2, 1], strides = [2, 1]> (x)",
        IMAGES,
        ["MaxPool2d"],
    ),
    "MatMul alone": ("y = MatMul(x, w)", ROWS, ["Linear"]),
    "MatMul and Mul": ("h = MatMul(x, w) i = Mul(h, two) y = Relu(i)", ROWS, ["Linear", "Normalize", "ReLU"]),
    "Gemm": ("y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, wt, b)", ROWS, ["Linear"]),
    "Gemm and one number": ("y = Gemm(x, w, two)", ROWS, ["Linear"]),
    "pixels to [0, 1]": (
        "c = Constant <value_float = 255.0> () h = Div(x, c) i = Sub(h, channels) y = Div(i, batch_channels)",
        IMAGES,
        ["Normalize"],
    ),
    "turned round": ("h = Mul(minus, x) i = Add(two, h) y = Div(i, minus)", IMAGES, ["Normalize"]),
    "a sum first": ("h = Add(x, features) i = Mul(h, minus) y = Div(i, minus)", ROWS, ["Normalize"]),
    "Conv": ("y = Conv <pads = [1, 2, 1, 2], strides = [2, 1]> (x, k, b)", IMAGES, ["Conv2d"]),
    "depthwise Conv": ("y = Conv <group = 3, dilations = [2, 3]> (x, depthwise)", IMAGES, ["Conv2d"]),
    "Conv of the same size": ('y = Conv <auto_pad = "SAME_UPPER"> (x, k)', IMAGES, ["Conv2d"]),
    "Conv of half the size": (
        'y = Conv <auto_pad = "SAME_LOWER", strides = [2, 2]> (x, k)',
        "float[n, 3, 9, 9]",
        ["Conv2d"],
    ),
    "valid Conv": ('y = Conv <auto_pad = "VALID"> (x, k)', "float[n, 3, h, w]", ["Conv2d"]),
    "Conv of rows of pixels": ("h = Unsqueeze(x, axis1) y = Conv(h, one_channel)", "float[n, 8, 9]", ["Conv2d"]),
    "MaxPool": ("y = MaxPool <kernel_shape = [3, 2], storage_order = 1> (x)", IMAGES, ["MaxPool2d"]),
    "AveragePool": ("y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", IMAGES, ["AvgPool2d"]),
    "BatchNormalization": (
        "y = BatchNormalization <epsilon = 0.01> (x, s, v, s, v)",
        IMAGES,
        ["BatchNorm2d"],
    ),
    "GlobalAveragePool and Reshape": (
        "h = GlobalAveragePool(x) y = Reshape(h, to_rows)",
        IMAGES,
        ["GlobalAvgPool2d"],
    ),
    "GlobalAveragePool and Squeeze": ("h = GlobalAveragePool(x) y = Squeeze(h, axes23)", IMAGES, ["GlobalAvgPool2d"]),
    "Reshape to known rows": ("h = Reshape(x, all_rows) y = Relu(h)", IMAGES, ["Flatten", "ReLU"]),
    "Reshape of one sample": ("h = Reshape(x, one_row) y = Relu(h)", "float[1, 3, 8, 9]", ["Flatten", "ReLU"]),
    "Flatten from behind": ("y = Flatten <axis = -3> (x)", IMAGES, ["Flatten"]),
    "what does nothing": (
        "a = Identity(x) d, mask = Dropout(a) e = Cast <to = 1> (d) l = Identity(w) y = MatMul(e, l)",
        ROWS,
        ["Linear"],
    ),
    "Softmax": ("y = Softmax <axis = 1> (x)", ROWS, ["Softmax"]),
    "old LogSoftmax": ("y = LogSoftmax(x)", ROWS, ["LogSoftmax"], 11),
    "old Unsqueeze": ("h = Unsqueeze <axes = [1]> (x) y = Conv(h, one_channel)", "float[n, 8, 9]", ["Conv2d"], 11),
    "elementwise": (
        "h = Sigmoid(x) i = Log(h) j = LeakyRelu <alpha = 0.3> (i) y = Tanh(j)",
        ROWS,
        ["Sigmoid", "Log", "LeakyReLU", "Tanh"],
    ),
}


@pytest.mark.parametrize("case", READ)
def test_a_graph_becomes_layers_that_do_the_same(tmp_path, case):
    body, x_type, layers, *opset = READ[case]
    path = write(tmp_path / "m.onnx", body, x_type, "float[n, a, b, c]", *opset)
    model = ff.import_onnx(path)
    assert [type(layer).__name__ for layer in model.layers] == layers
    sizes = {"n": 4, "h": 7, "w": 6}
    shape = [sizes.get(size) or int(size) for size in re.findall(r"\w+", x_type)[1:]]
    x = RNG.normal(size=shape).astype(np.float32)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    np.testing.assert_allclose(ff.predict_raw(model, x), expected, rtol=1e-5, atol=1e-5)


def test_settings_come_as_they_were_written(tmp_path):
    body = "c = Constant <value_float = 255.0> () d = Constant <value_floats = [0.5]> () h = Div(x, c) i = Sub(h, d) "
    model = ff.import_onnx(write(tmp_path / "m.onnx", body + "y = LeakyRelu <alpha = 0.2> (i)"))
    assert repr(model[0]) == repr(ff.Normalize(0.5, scale=1 / 255))
    assert repr(model[1]) == repr(ff.LeakyReLU(0.2))


def test_the_dtype_is_the_graphs_or_what_is_asked_for(tmp_path):
    single = write(tmp_path / "single", "h = MatMul(x, w) y = Relu(h)")
    assert ff.import_onnx(single).dtype == np.float32
    assert ff.import_onnx(str(single), dtype="float64").dtype == np.float64
    double = write(tmp_path / "double", "y = Relu(x)", "double[n, 6]", "double[n, 6]")
    assert ff.import_onnx(double).dtype == np.float64
    with pytest.raises(InvalidTypeError, match="dtype is int8"):
        ff.import_onnx(single, dtype="int8")


#: Body, input, and what the error says.
REFUSED = [
    ("y = Erf(x)", ROWS, r"node 'y' \(Erf\): the operator is not supported; expected one of Add, .*Unsqueeze"),
    ("h = Relu(x) y = Mul(h, x)", ROWS, r"node 'y' \(Mul\) takes 'h' and 'x'; expected one value .* Add, Sum, Concat"),
    ("y = Sub(two, x)", ROWS, r"node 'y' \(Sub\) takes 'x' as input 1; expected input 0"),
    ("h = Mul(x, two) y = Add(h, columns)", IMAGES, r"node 'y' \(Add\): the constant has shape \(9,\); expected one"),
    ("y = Sub(x, pixels)", IMAGES, r"node 'y' \(Sub\): the constant has shape \(8, 9\)"),
    ("y = Mul(x, mixed)", IMAGES, r"node 'y' \(Mul\): std is .*; expected more than 0"),
    ("y = Div(x, zero)", ROWS, r"node 'y' \(Div\): scale is inf; expected a finite number"),
    ("y = MatMul(x, ints)", ROWS, r"node 'y' \(MatMul\): input 1 is int64; expected floats"),
    ("y = MatMul(x, w)", "float[n, 5, 6]", r"node 'y' \(MatMul\): it gets samples of 2 axes; expected rows"),
    ("y = MatMul(x, wt)", ROWS, r"node 'y' \(MatMul\): .* got samples of shape \(6,\); expected \(4,\)"),
    ("y = Gemm <transA = 1> (x, w)", ROWS, r"node 'y' \(Gemm\): transA is 1; expected 0"),
    ("y = Gemm(x, w, features)", ROWS, r"node 'y' \(Gemm\): input 2 has shape \(6,\); expected \(4,\)"),
    ("y = Conv(x, w)", IMAGES, r"node 'y' \(Conv\): input 1 has shape \(6, 4\); expected 4 dimensions"),
    ("y = Conv(x, k, s)", IMAGES, r"node 'y' \(Conv\): bias has shape \(3,\); expected \(4,\)"),
    ("y = Conv <pads = [0, 0, 1, 1]> (x, k)", IMAGES, r"pads is \[0, 0, 1, 1\]; expected .* the same in front and"),
    ("y = Conv <kernel_shape = [2, 2]> (x, k)", IMAGES, r"kernel_shape is \(2, 2\); expected \(3, 3\)"),
    ('y = Conv <auto_pad = "SAME_UPPER"> (x, depthwise)', "float[n, 1, 8, 9]", r"auto_pad is SAME_UPPER; it pads by 1"),
    (
        'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, k)',
        "float[n, 3, h, w]",
        "expected an input of known size, as strides is",
    ),
    ("y = MaxPool <kernel_shape = [3, 3, 3]> (x)", "float[n, 3, 8, 8, 8]", r"is \[3, 3, 3\]; expected two numbers"),
    ("y = MaxPool <kernel_shape = [2, 2], pads = [2, 2, 2, 2]> (x)", IMAGES, "padding is .* less than kernel_size"),
    ("y = GlobalAveragePool(x)", IMAGES, r"node 'y' \(GlobalAveragePool\): expected a Flatten behind it"),
    ("y = Squeeze(x, axes23)", IMAGES, r"node 'y' \(Squeeze\): expected the last two axes of images of one pixel"),
    ("h = Unsqueeze(x, axis1) y = Relu(h)", "float[n, 8, 9]", r"node 'h' \(Unsqueeze\): .* a Conv behind it"),
    ("y = BatchNormalization(x, s, v, s, v)", "float[n, 3, 8]", "it gets samples of 2 axes; expected rows or images"),
    ("y = BatchNormalization(x, s, v, s, b)", IMAGES, r"\(BatchNormalization\): running_var has shape \(4,\)"),
    ("y = Softmax <axis = 1> (x)", IMAGES, r"node 'y' \(Softmax\): axis is 1; expected the last"),
    ("y = Flatten <axis = 2> (x)", IMAGES, r"node 'y' \(Flatten\): axis is 2; expected 1"),
    ("y = Reshape(x, mixes_samples)", IMAGES, r"node 'y' \(Reshape\): it reshapes to \[-1, 27\]; expected \[0, -1\]"),
    ("y = Reshape <allowzero = 1> (x, to_rows)", IMAGES, r"it reshapes to \[0, -1\]"),
    ("y = Dropout(x, two, yes)", ROWS, r"node 'y' \(Dropout\): training_mode is true; expected false"),
    ("h = Cast <to = 6> (x) y = Cast <to = 1> (h)", ROWS, r"node 'h' \(Cast\): expected a cast to float32 or float64"),
    ("y = Identity(x)", ROWS, "layers is empty"),
    ("y = Relu(x)", "float[n]", r"input 'x' has 1 axes; expected \(n, …\)"),
]


@pytest.mark.parametrize(("body", "x_type", "message"), REFUSED, ids=[body for body, _, _ in REFUSED])
def test_what_cannot_be_expressed_is_named(tmp_path, body, x_type, message):
    path = write(tmp_path / "m.onnx", body, x_type)
    with pytest.raises(ModelFileError, match=message) as caught:
        ff.import_onnx(path)
    assert str(path) in str(caught.value)


def test_operators_and_attributes_of_others_are_named(tmp_path):
    path = write(tmp_path / "m.onnx", "y = Relu(x)")
    model = onnx.load(path)
    model.graph.node[0].domain, model.graph.node[0].name = "com.example", "mine"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"node 'mine' \(com.example.Relu\): the operator is not supported"):
        ff.import_onnx(path)
    write(path, "y = Relu(x)", opset=8)
    with pytest.raises(ModelFileError, match="the file has opset 8; expected 9 or newer"):
        ff.import_onnx(path)
    write(path, "y = Relu(x)", "float[n, 6] z, float[n, 6]")
    with pytest.raises(ModelFileError, match="expected one input of the graph; got 'z', 'x'"):
        ff.import_onnx(path)


def test_notes_that_do_not_fit_the_constants_are_not_believed(tmp_path):
    path, normalize = tmp_path / "m.onnx", ff.Normalize(0.1307, 0.3081, 1 / 255)
    ff.export_onnx(ff.Sequential(normalize, ff.Linear(4, 2), seed=0), path)
    model = onnx.load(path)
    note, x = model.graph.node[0].doc_string, RNG.uniform(0, 255, (3, 4)).astype(np.float32)
    for other in (note.replace("0.3081", "0.5"), "{", "[1]", '{"mean": 1}', '{"mean": "x"}', '{"y": 1}', ""):
        model.graph.node[0].doc_string = other
        onnx.save(model, path)
        read = ff.import_onnx(path)[0]
        assert repr(read) != repr(normalize)
        np.testing.assert_array_equal(read.forward(x), normalize.forward(x))


@pytest.mark.parametrize("loss", [ff.MSELoss(), ff.BCEWithLogitsLoss()])
def test_what_a_model_was_trained_for_comes_back(tmp_path, loss):
    path, x = tmp_path / "m.onnx", RNG.normal(size=(20, 4)).astype(np.float32)
    model = ff.Sequential(ff.Linear(4, 1), seed=0)
    ff.fit(model, x, (x[:, 0] > 0) * 1.0, loss=loss, optimizer=ff.SGD(0.1), progress=False)
    ff.export_onnx(model, path)
    again = ff.import_onnx(path)
    assert (again.task, again.target_shape) == (loss.task, ())
    np.testing.assert_allclose(ff.predict(again, x), ff.predict(model, x), rtol=1e-6)
    proto = onnx.load(path)
    for other in ("{", "[1]", '{"task": "divination"}', '{"task": "binary", "target_shape": ["x"]}'):
        proto.metadata_props[0].value = other
        onnx.save(proto, path)
        with pytest.raises(ModelFileError):
            ff.import_onnx(path)


def test_truncated_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ff.import_onnx(path)
    ff.export_onnx(ff.Sequential(ff.Linear(3, 2), ff.ReLU(), ff.Linear(2, 2), seed=0), path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="no readable ONNX file"):
            ff.import_onnx(path)
    for foreign in (b"PK\x03\x04" + b"\0" * 100, b"hello", b"\xff" * 50):
        path.write_bytes(foreign)
        with pytest.raises(ModelFileError, match="no readable ONNX file"):
            ff.import_onnx(path)
