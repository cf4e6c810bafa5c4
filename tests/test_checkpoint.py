"""save and load: a round trip, one step replacement, and every kind of wrong file."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError, ModelFileError
from fastfnn.interchange.safetensors import KEY, LAYERS

RNG = np.random.default_rng(23)
#: What layers cannot be made without.
ARGUMENTS = {
    "AdaptiveAvgPool2d": (2,),
    "AvgPool1d": (2,),
    "AvgPool2d": (2,),
    "BatchNorm1d": (3,),
    "BatchNorm2d": (3,),
    "Columns": ({0: [ff.Embedding(3, 2), ff.Flatten()], (2, 1): []},),
    "Conv1d": (3, 2, 5),
    "Conv2d": (3, 2, 5),
    "Embedding": (3, 2),
    "LayerNorm": ((3, 2),),
    "Linear": (3, 2),
    "MaxPool1d": (2,),
    "MaxPool2d": (2,),
    "Parallel": (ff.ReLU(), [ff.Linear(3, 2)]),
    "RandomErase": (2,),
    "RandomRotation": (10,),
    "RandomShift": ((1, 2),),
    "Residual": (ff.Linear(3, 3),),
    "Sequential": (ff.Linear(3, 2),),
    "ZeroPad2d": ((1, 2, 3, 4),),
}


def make(dtype="float32"):
    return ff.Sequential(
        ff.Flatten(),
        ff.Normalize([0.1], 0.3, scale=1 / 255),
        ff.Linear(12, 5),
        ff.LeakyReLU(0.2),
        ff.Linear(5, 4, bias=False),
        ff.LogSoftmax(),
        seed=0,
        dtype=dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_as_it_went(tmp_path, dtype):
    model, x = make(dtype), RNG.integers(0, 256, (7, 3, 4), dtype=np.uint8)
    ff.save(model, tmp_path / "model.safetensors")
    again = ff.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(ff.predict_raw(again, x), ff.predict_raw(model, x))


def test_every_layer_of_ours_can_be_saved(tmp_path):
    for name in set(LAYERS) - {"Matmul"}:
        model = ff.Sequential(LAYERS[name](*ARGUMENTS.get(name, ())), seed=0)
        ff.save(model, tmp_path / "m")
        assert repr(ff.load(tmp_path / "m")) == repr(model)


def test_others_can_read_the_parameters(tmp_path):
    model = make()
    ff.save(model, str(tmp_path / "m"))
    tensors = load_file(tmp_path / "m")
    assert set(tensors) == {"2.weight", "2.bias", "4.weight"}
    np.testing.assert_array_equal(tensors["2.weight"], model[2].params["weight"])


def test_the_old_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "m"
    ff.save(make(), path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        ff.save(make("float64"), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_a_missing_folder_is_an_os_error_and_other_things_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        ff.save(make(), tmp_path / "no" / "m")
    with pytest.raises(InvalidTypeError, match="model is int; expected a Sequential"):
        ff.save(3, tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ff.load(tmp_path / "m")


def test_a_layer_of_ones_own_is_named(tmp_path):
    class Mine(ff.ReLU):
        pass

    with pytest.raises(InvalidValueError, match=r"layers\[1\] is Mine\(\); only fastfnn's own layers can be saved"):
        ff.save(ff.Sequential(ff.Linear(3, 2), Mine(), seed=0), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_truncated_files_are_refused_wherever_they_end(tmp_path):
    path = tmp_path / "m"
    ff.save(make(), path)
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="no readable safetensors file"):
            ff.load(path)


def write(path, described, tensors=None):
    model = make()
    tensors = {k: np.ascontiguousarray(v) for k, v in model.named_parameters().items()} if tensors is None else tensors
    save_file(tensors, path, metadata={KEY: described if isinstance(described, str) else json.dumps(described)})


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    with pytest.raises(ModelFileError, match="no readable safetensors file"):
        ff.load(path)
    save_file({"w": np.ones(3)}, path)
    with pytest.raises(ModelFileError, match="was not written by fastfnn"):
        ff.load(path)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("not json", "holds no architecture"),
        ([], "holds no architecture"),
        ({"format": 99, "layers": [], "dtype": "float32"}, "has format 99; this version of fastfnn reads 1"),
        ({"format": 1, "layers": [], "dtype": "float32"}, "holds no architecture .* layers is empty"),
        ({"format": 1, "layers": [{"layer": "eval"}], "dtype": "float32"}, "holds the layer 'eval'; expected one of"),
        ({"format": 1, "layers": [{"layer": "Linear"}], "dtype": "float32"}, "holds no architecture"),
        ({"format": 1, "layers": [{"layer": "ReLU"}], "dtype": "int8"}, "dtype is int8"),
    ],
)
def test_wrong_architectures_are_refused(tmp_path, described, message):
    write(tmp_path / "m", described)
    with pytest.raises(ModelFileError, match=message):
        ff.load(tmp_path / "m")


HUGE = 10**9


@pytest.mark.parametrize(
    "layer",
    [
        {"layer": "Linear", "in_features": HUGE, "out_features": 2},
        {"layer": "Linear", "in_features": HUGE, "out_features": HUGE},
        {"layer": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": HUGE},
        {"layer": "BatchNorm1d", "num_features": HUGE},
    ],
)
def test_a_file_asks_for_no_more_memory_than_it_has_numbers(tmp_path, layer):
    described = {"format": 1, "layers": [{"layer": "Flatten"}, layer], "dtype": "float32"}
    write(tmp_path / "m", described, {"0.more": np.zeros(99, "float32"), "1.weight": np.zeros((4, 2), "float32")})
    with pytest.raises(ModelFileError, match=r"describes layers of .* up to .*1000000000.*; it has 107"):
        ff.load(tmp_path / "m")


def test_parameters_that_do_not_fit_are_all_named(tmp_path):
    ff.save(make(), tmp_path / "m")
    from safetensors import safe_open

    with safe_open(tmp_path / "m", framework="np") as file:
        described = file.metadata()[KEY]
    tensors = {"2.weight": np.zeros((12, 5)), "2.bias": np.zeros(4, "float32"), "9.more": np.zeros(1, "float32")}
    write(tmp_path / "m", described, tensors)
    with pytest.raises(ModelFileError) as caught:
        ff.load(tmp_path / "m")
    message = str(caught.value)
    assert "2.bias is float32 (4,), expected float32 (5,)" in message
    assert "2.weight is float64 (12, 5), expected float32 (12, 5)" in message
    assert "4.weight is missing" in message
    assert "9.more is surplus" in message
