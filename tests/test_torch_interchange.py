"""Models from and to PyTorch: the same outputs, the same settings, and clear words where there is no counterpart."""

import copy
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

torch = pytest.importorskip("torch")
nn = torch.nn

RNG = np.random.default_rng(71)
ROWS, IMAGES, LINES = (9, 6), (5, 4, 11, 12), (5, 4, 13)
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}

#: One of our layers, and the shape of a batch for it.
OURS = {
    "linear": (lambda: ff.Linear(6, 5), ROWS),
    "linear without bias": (lambda: ff.Linear(6, 5, bias=False), ROWS),
    "conv": (lambda: ff.Conv2d(4, 6, 3), IMAGES),
    "conv with all": (
        lambda: ff.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3), groups=2, bias=False),
        IMAGES,
    ),
    "conv by channel": (lambda: ff.Conv2d(4, 8, 5, padding=2, groups=4), IMAGES),
    "max pool of lines": (lambda: ff.MaxPool1d(3, 2, 1, 2, True), LINES),
    "average pool of lines": (lambda: ff.AvgPool1d(4, 3, 2, count_include_pad=False), LINES),
    "conv of lines": (lambda: ff.Conv1d(4, 6, 3, 2, 1, 2, groups=2, bias=False), LINES),
    "max pool": (lambda: ff.MaxPool2d(2), IMAGES),
    "max pool with all": (lambda: ff.MaxPool2d((3, 2), (2, 3), (1, 0), (1, 2), ceil_mode=True), IMAGES),
    "average pool": (lambda: ff.AvgPool2d((2, 3)), IMAGES),
    "average pool with all": (lambda: ff.AvgPool2d(3, (2, 3), (1, 0), ceil_mode=True, count_include_pad=False), IMAGES),
    "average pool with zeros": (lambda: ff.AvgPool2d(3, 2, 1), IMAGES),
    "global average": (lambda: ff.GlobalAvgPool2d(), IMAGES),
    "batch norm": (lambda: ff.BatchNorm1d(6, eps=1e-3, momentum=0.3), ROWS),
    "batch norm without weights": (lambda: ff.BatchNorm1d(6, affine=False), ROWS),
    "batch norm of images": (lambda: ff.BatchNorm2d(4, eps=1e-4, momentum=0.2), IMAGES),
    "layer norm": (lambda: ff.LayerNorm(6, eps=1e-3), ROWS),
    "layer norm of images": (lambda: ff.LayerNorm((4, 11, 12), bias=False), IMAGES),
    "layer norm without weights": (lambda: ff.LayerNorm(12, elementwise_affine=False), IMAGES),
    "adaptive average": (lambda: ff.AdaptiveAvgPool2d((11, 3)), IMAGES),
    "global maximum": (lambda: ff.GlobalMaxPool2d(), IMAGES),
    "zeros around": (lambda: ff.ZeroPad2d((1, 0, 2, 3)), IMAGES),
    "dropped channels": (lambda: ff.Dropout2d(0.3), IMAGES),
    "flatten": (lambda: ff.Flatten(), IMAGES),
    "relu": (lambda: ff.ReLU(), ROWS),
    "leaky relu": (lambda: ff.LeakyReLU(0.2), ROWS),
    "prelu": (lambda: ff.PReLU(init=0.1), IMAGES),
    "prelu of features": (lambda: ff.PReLU(6), ROWS),
    "prelu of channels": (lambda: ff.PReLU(4), IMAGES),
    "gelu": (lambda: ff.GELU(), ROWS),
    "gelu by tanh": (lambda: ff.GELU("tanh"), IMAGES),
    "silu": (lambda: ff.SiLU(), ROWS),
    "elu": (lambda: ff.ELU(0.7), ROWS),
    "selu": (lambda: ff.SELU(), IMAGES),
    "softplus": (lambda: ff.Softplus(2.0, 1.5), ROWS),
    "relu6": (lambda: ff.ReLU6(), ROWS),
    "hardswish": (lambda: ff.Hardswish(), IMAGES),
    "sigmoid": (lambda: ff.Sigmoid(), ROWS),
    "tanh": (lambda: ff.Tanh(), IMAGES),
    "softmax": (lambda: ff.Softmax(), ROWS),
    "softmax of images": (lambda: ff.Softmax(), IMAGES),
    "log softmax": (lambda: ff.LogSoftmax(), ROWS),
    "dropout": (lambda: ff.Dropout(0.3), ROWS),
    "normalize": (lambda: ff.Normalize(0.1307, 0.3081, scale=1 / 255), IMAGES),
    "normalize channels": (lambda: ff.Normalize([0.1, 0.2, 0.3, 0.4], 0.5), IMAGES),
    "normalize blocks": (lambda: ff.Normalize([0.1, 0.2], [0.5, 2.0], scale=3), ROWS),
}

#: One of PyTorch's modules, and the shape of a batch for it.
THEIRS = {
    "linear": (lambda: nn.Linear(6, 5), ROWS),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), ROWS),
    "conv with all": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3), groups=2, bias=False),
        IMAGES,
    ),
    "conv, same": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same", dilation=(2, 1)), IMAGES),
    "conv, same by dilation": (lambda: nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(2, 1)), IMAGES),
    "pools of lines": (lambda: nn.Sequential(nn.MaxPool1d(3, 2, 1), nn.AvgPool1d(2, ceil_mode=True)), LINES),
    "conv of lines": (lambda: nn.Sequential(nn.Conv1d(4, 6, 3, 2, groups=2), nn.ReLU(), nn.Conv1d(6, 2, 2)), LINES),
    "conv of lines, same": (lambda: nn.Conv1d(4, 6, 5, padding="same"), LINES),
    "conv, valid": (lambda: nn.Conv2d(4, 6, (3, 5), padding="valid", stride=2), IMAGES),
    "max pool with all": (lambda: nn.MaxPool2d((3, 2), (2, 3), (1, 0), (1, 2), ceil_mode=True), IMAGES),
    "average pool with all": (lambda: nn.AvgPool2d(3, (2, 3), (1, 0), ceil_mode=True, count_include_pad=False), IMAGES),
    "global average": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.ReLU(), nn.Flatten()), IMAGES),
    "batch norm": (lambda: nn.BatchNorm1d(6, eps=1e-3, momentum=0.3), ROWS),
    "batch norm without weights": (lambda: nn.BatchNorm2d(4, affine=False), IMAGES),
    "layer norm": (lambda: nn.LayerNorm([11, 12], eps=1e-3), IMAGES),
    "layer norm without weights": (lambda: nn.LayerNorm(6, elementwise_affine=False), ROWS),
    "adaptive average": (lambda: nn.Sequential(nn.ZeroPad2d((0, 0, 1, 0)), nn.AdaptiveAvgPool2d((4, 6))), IMAGES),
    "global maximum": (lambda: nn.Sequential(nn.Dropout2d(), nn.AdaptiveMaxPool2d(1), nn.ELU(), nn.Flatten()), IMAGES),
    "softmax over axis 1": (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(dim=1)), IMAGES),
    "softmax over axis 1 behind images": (
        lambda: nn.Sequential(nn.MaxPool2d(3), nn.Flatten(), nn.Tanh(), nn.Softmax(dim=1)),
        IMAGES,
    ),
    "softmax over the last axis of images": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Softmax(dim=-1)), IMAGES),
    "log softmax over the last axis": (lambda: nn.LogSoftmax(dim=-1), IMAGES),
    "in place": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True)), ROWS),
    "prelu": (lambda: nn.PReLU(4, init=0.5), IMAGES),
    "activations": (
        lambda: nn.Sequential(nn.SiLU(inplace=True), nn.ELU(0.3), nn.GELU("tanh"), nn.ReLU6(), nn.Softplus(2, 3)),
        ROWS,
    ),
    "global average of activations": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Hardswish(), nn.SELU(), nn.Flatten()),
        IMAGES,
    ),
    "identities": (lambda: nn.Sequential(nn.Identity(), nn.Tanh(), nn.Sequential(nn.Identity())), ROWS),
    "one module twice": (lambda: nn.Sequential(*[nn.Tanh()] * 2, nn.Linear(6, 6)), ROWS),
    "nested and named": (
        lambda: nn.Sequential(
            OrderedDict(
                stem=nn.Sequential(nn.Conv2d(4, 3, 3), nn.Sequential(nn.BatchNorm2d(3), nn.LeakyReLU(0.1))),
                pool=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
                head=nn.Linear(3, 2),
            )
        ),
        IMAGES,
    ),
}

#: Whole networks of ours, and a batch for each. Where there is one channel, PyTorch wants it said.
MODELS = {
    "mlp": (lambda dtype: ff.models.mlp(hidden=(20, 10), dropout=0.2, batch_norm=True, dtype=dtype), (6, 1, 28, 28)),
    "lenet5": (lambda dtype: ff.models.lenet5(dtype=dtype), (6, 1, 28, 28)),
    "small cnn": (lambda dtype: ff.models.small_cnn(channels=3, size=16, dtype=dtype), (4, 3, 16, 16)),
    "cnn with batch norm": (
        lambda dtype: ff.Sequential(
            ff.Normalize([0.1, 0.2, 0.3], 0.5, scale=1 / 255),
            ff.Conv2d(3, 8, 3, padding=1, bias=False),
            ff.BatchNorm2d(8),
            ff.ReLU(),
            ff.MaxPool2d(2),
            ff.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),
            ff.LeakyReLU(),
            ff.GlobalAvgPool2d(),
            ff.Dropout(0.5),
            ff.Linear(8, 4),
            dtype=dtype,
        ),
        (4, 3, 16, 16),
    ),
}


def fill(model):
    """Parameters and running statistics that no network starts with."""
    state = model.state_dict().items()
    model.load_state_dict({name: np.asarray(RNG.uniform(0.2, 1, a.shape) - 0.1, a.dtype) for name, a in state})
    return model


def fill_module(module):
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.copy_(torch.tensor(RNG.uniform(0.2, 1, tuple(tensor.shape)) - 0.1))
    return module


def outputs(module, x):
    with torch.no_grad():
        return module(torch.tensor(x)).numpy()


def assert_near(got, want, dtype):
    assert got.shape == want.shape
    assert got.dtype == want.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(want).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OURS)
def test_every_layer_to_torch_and_back(name, dtype):
    make, shape = OURS[name]
    model = fill(ff.Sequential(make(), seed=0, dtype=dtype)).eval()
    x = RNG.normal(size=shape).astype(dtype)
    module = ff.to_torch(model)
    assert_near(outputs(module, x), model.forward(x), dtype)
    again = ff.from_torch(module, dtype)
    assert_near(again.forward(x), model.forward(x), dtype)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    if name != "dropout":  # its seed is no setting of PyTorch's
        assert repr(again) == repr(model)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", THEIRS)
def test_every_module_from_torch_and_back(name, dtype):
    make, shape = THEIRS[name]
    module = fill_module(make().to(getattr(torch, dtype))).eval()
    x = RNG.normal(size=shape).astype(dtype)
    model = ff.from_torch(module, dtype)
    want = outputs(module, x)
    assert_near(model.forward(x), want, dtype)
    assert_near(outputs(ff.to_torch(model), x), want, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_whole_networks_on_raw_images(name, dtype):
    make, shape = MODELS[name]
    model = fill(make(dtype))
    module = ff.to_torch(model).eval()
    x = RNG.integers(0, 256, shape, dtype=np.uint8)
    assert_near(outputs(module, x), ff.predict_raw(model, x), dtype)
    again = ff.from_torch(module, dtype)
    assert repr(again) == repr(model) or "Dropout" in repr(model)
    assert_near(ff.predict_raw(again, x), ff.predict_raw(model, x), dtype)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key], array, err_msg=key)


@pytest.mark.parametrize("name", MODELS)
def test_a_state_dict_fits_the_module_of_the_same_layers(name):
    model = fill(MODELS[name][0]("float32"))
    module = ff.to_torch(MODELS[name][0]("float32"))
    theirs, ours = module.state_dict(), model.state_dict()
    assert list(theirs) == list(ours)
    for key, tensor in theirs.items():
        assert tuple(tensor.shape) == ours[key].shape
        assert tensor.numpy().dtype == ours[key].dtype
    module.load_state_dict({key: torch.from_numpy(array) for key, array in ours.items()})
    other = MODELS[name][0]("float32")
    other.load_state_dict(module.state_dict())
    for key, array in other.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(array, ours[key], err_msg=key)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_tensors_of_any_dtype_are_loaded_also_when_they_require_gradients(dtype):
    model = ff.Sequential(ff.Linear(3, 2))
    state = {
        "0.weight": nn.Parameter(torch.arange(6.0).reshape(2, 3).to(getattr(torch, dtype))),
        "0.bias": torch.tensor([1.5, -2.0], dtype=getattr(torch, dtype)),
    }
    model.load_state_dict(state)
    np.testing.assert_array_equal(model[0].params["weight"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(model[0].params["bias"], [1.5, -2])


def test_tensors_without_real_numbers_are_refused():
    model = ff.Sequential(ff.Linear(3, 2))
    state = {"0.weight": torch.zeros(2, 3, dtype=torch.complex64), "0.bias": torch.zeros(2, device="meta")}
    with pytest.raises(InvalidValueError) as caught:
        model.load_state_dict(state)
    assert "0.weight has dtype complex64; expected numbers" in str(caught.value)
    assert "0.bias is Tensor, which is no array of numbers" in str(caught.value)


def test_the_dtype_is_the_modules_unless_one_is_given():
    assert ff.from_torch(nn.Linear(3, 2)).dtype == "float32"
    assert ff.from_torch(nn.Linear(3, 2).double()).dtype == "float64"
    assert ff.from_torch(nn.Linear(3, 2).double(), "float32").dtype == "float32"
    assert ff.from_torch(nn.Tanh()).dtype == "float32"
    assert ff.from_torch(nn.BatchNorm1d(2, affine=False).double()).dtype == "float64"
    half = nn.Linear(3, 2).bfloat16()
    model = ff.from_torch(half)
    assert model.dtype == "float32"
    np.testing.assert_array_equal(model.state_dict()["0.weight"], half.weight.detach().float().numpy())


def test_parameters_are_copies_both_ways():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model = ff.from_torch(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    back = ff.to_torch(model)
    model.parameters[...] = 9
    model[1].buffers["running_mean"][...] = 9
    for name, tensor in before.items():
        assert torch.equal(module.state_dict()[name], tensor)
        assert torch.equal(back.state_dict()[name], tensor)


def test_training_or_not_follows():
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout())
    assert all(layer.training for layer in ff.from_torch(module).layers)
    model = ff.from_torch(module.eval())
    assert not any(layer.training for layer in model.layers)
    assert not any(part.training for part in ff.to_torch(model).modules())
    assert all(part.training for part in ff.to_torch(model.train()).modules())


def test_torch_draws_the_same_random_numbers_after_a_conversion():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    ff.to_torch(ff.models.lenet5(seed=0))
    assert torch.equal(torch.rand(3), expected)


def test_training_goes_on_there_and_comes_back():
    """Ten steps of plain gradient descent, five here and five there, are ten steps here."""
    x, y = RNG.normal(size=(20, 4)), RNG.integers(0, 3, 20)
    model = ff.Sequential(ff.Linear(4, 6), ff.BatchNorm1d(6), ff.Tanh(), ff.Linear(6, 3), seed=0, dtype="float64")
    other = copy.deepcopy(model)
    options = {"loss": ff.CrossEntropyLoss(), "batch_size": None, "progress": False}
    ff.fit(model, x, y, optimizer=ff.SGD(0.1), epochs=10, **options)
    ff.fit(other, x, y, optimizer=ff.SGD(0.1), epochs=5, **options)
    module = ff.to_torch(other)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()
    other.load_state_dict(module.state_dict())
    np.testing.assert_allclose(ff.predict_raw(other, x), ff.predict_raw(model, x), rtol=1e-9)


def test_our_normalize_module_is_pickled_copied_and_moved_to_another_dtype():
    module = ff.to_torch(ff.Sequential(ff.Normalize([0.1, 0.2], 0.5, scale=1 / 255), ff.Flatten()))
    assert not module.state_dict()
    assert "mean=[0.1, 0.2], std=0.5" in repr(module)
    x = RNG.integers(0, 256, (3, 2, 4, 4), dtype=np.uint8)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        np.testing.assert_array_equal(outputs(other, x), outputs(module, x))
        assert isinstance(ff.from_torch(other)[0], ff.Normalize)
    assert outputs(module.double(), x).dtype == np.float64
    assert outputs(module, x[:0]).shape == (0, 32)


class Mine(nn.Linear):
    pass


REFUSED = {
    "CELU": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.CELU()),
        r"module\[1\] is CELU; expected one of Adaptive.*ZeroPad2d$",
    ),
    "a nested one": (
        lambda: nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Sequential(nn.CELU()))),
        r"module\[1\]\[1\]\[0\] is CELU; expected one of",
    ),
    "one alone": (lambda: nn.Conv3d(2, 3, 1), "module is Conv3d; expected one of"),
    "a subclass": (lambda: Mine(3, 2), "module is Mine; expected one of"),
    "padding mode": (lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), r"expected padding_mode='zeros'$"),
    "uneven padding": (lambda: nn.Conv2d(1, 1, (3, 4), padding="same"), "padding 'same' differs from side to side"),
    "indices": (lambda: nn.MaxPool2d(2, return_indices=True), "expected return_indices=False"),
    "divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), "expected divisor_override=None"),
    "adaptive": (lambda: nn.AdaptiveMaxPool2d(2), r"expected output_size=1 or \(1, 1\)"),
    "adaptive to what comes": (
        lambda: nn.AdaptiveAvgPool2d((None, 2)),
        r"output_size\[0\] is None; expected an integer",
    ),
    "adaptive, not flattened": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.ReLU()),
        r"module\[0\] is AdaptiveAvgPool2d\(output_size=1\) without a Flatten behind it",
    ),
    "adaptive, flattened late": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Softmax(dim=-1), nn.Flatten()),
        "without a Flatten behind it",
    ),
    "flatten": (lambda: nn.Flatten(0), r"Flatten\(start_dim=0, end_dim=-1\); expected start_dim=1"),
    "softmax": (lambda: nn.Softmax(dim=0), "expected dim=-1 or 1"),
    "softmax of channels": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.LogSoftmax(dim=1)),
        r"module\[2\] is LogSoftmax\(dim=1\) of images; expected dim=-1",
    ),
    "no running statistics": (
        lambda: nn.BatchNorm1d(3, track_running_stats=False),
        "expected track_running_stats=True",
    ),
    "cumulative average": (lambda: nn.BatchNorm2d(3, momentum=None), "module is BatchNorm2d.*: momentum is None"),
    "certain dropout": (lambda: nn.Dropout(1.0), r"module is Dropout\(p=1.0.*: p is 1; expected less than 1"),
    "nothing": (lambda: nn.Sequential(nn.Identity()), "expected at least one layer"),
    "weights twice": (
        lambda: nn.Sequential(*[nn.Linear(3, 3)] * 2),
        r"module\[1\] shares a parameter with module\[0\]",
    ),
    "weights of another form": (
        lambda: nn.Sequential(nn.ReLU(), nn.utils.weight_norm(nn.Linear(3, 2))),
        r"module\[1\] is Linear with forward hooks",
    ),
    "parametrized": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
        "module is ParametrizedLinear; expected one of",
    ),
    "neighbours": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(5, 2)), r"is Linear.*, but gets images"),
    "no module": (lambda: 3, "module is int; expected a torch.nn.Sequential"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_modules_without_a_counterpart_are_named(name):
    make, message = REFUSED[name]
    with pytest.raises((InvalidTypeError, InvalidValueError), match=message):
        ff.from_torch(make())


def test_layers_without_a_counterpart_are_named():
    class Own(ff.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(InvalidValueError, match=r"layers\[1\] is Log\(\), which has no counterpart in PyTorch"):
        ff.to_torch(ff.Sequential(ff.ReLU(), ff.Log()))
    with pytest.raises(InvalidValueError, match=r"layers\[0\] is Own\(\), which has no counterpart in PyTorch"):
        ff.to_torch(ff.Sequential(Own()))
    with pytest.raises(InvalidTypeError, match="model is ReLU; expected a Sequential"):
        ff.to_torch(ff.ReLU())


class Mish(ff.Layer):
    """A user's own: x tanh(softplus(x))."""

    torch_names = ("Mish",)

    def forward(self, x):
        return x * ff.functional.tanh(ff.functional.softplus(x))

    def to_torch(self, nn):
        return nn.Mish()


def test_layers_of_ones_own_say_what_they_are_in_pytorch(rng):
    model = ff.Sequential(ff.Linear(5, 4), Mish(), ff.Linear(4, 2), seed=0)
    module = ff.to_torch(model)
    x = rng.normal(size=(7, 5)).astype("float32")
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-5, atol=1e-6)
    back = ff.from_torch(module)
    assert [type(layer) for layer in back.layers] == [ff.Linear, Mish, ff.Linear]
    np.testing.assert_array_equal(back.parameters, model.parameters)


def test_a_sequential_of_ones_own_is_what_its_forward_does(rng):
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    module = nn.Sequential(nn.Linear(3, 4), Residual(nn.Linear(4, 4), nn.Tanh())).double()
    model, x = ff.from_torch(module), rng.normal(size=(6, 3))
    assert isinstance(model[1], ff.Residual)
    np.testing.assert_allclose(model.forward(x), module(torch.from_numpy(x)).detach().numpy(), rtol=1e-12, atol=1e-12)


def test_a_sequential_of_ones_own_is_no_pooling():
    class Sequential(nn.Sequential):
        def forward(self, x):
            return 3 * super().forward(x)

    with pytest.raises(InvalidTypeError, match=r"module\[1\]\.mul is mul\(3, .*, which no layer does"):
        ff.from_torch(nn.Sequential(nn.Linear(2, 3), Sequential(nn.ReLU())))


def test_a_layer_of_ones_own_does_not_take_the_place_of_ours():
    class Negative(ff.Linear):
        torch_names = ("Linear",)

    assert type(ff.from_torch(nn.Linear(3, 2)).layers[0]) is ff.Linear


def test_fastfnn_does_not_import_torch_by_itself():
    code = "import sys, fastfnn as ff; ff.from_torch; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_torch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"fastfnn.to_torch needs PyTorch \(pip install torch\)"):
        ff.to_torch(ff.Sequential(ff.ReLU()))
    with pytest.raises(ImportError, match=r"fastfnn.from_torch needs PyTorch \(pip install torch\)"):
        ff.from_torch(nn.ReLU())
