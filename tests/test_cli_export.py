"""``fastfnn export``: an ONNX file, of the shape and dtype that the model was trained with."""

import sys
from pathlib import Path

import numpy as np
import pytest
from _cli import WriteNpz, mlp, said, saved, the_error, train

import fastfnn as ff
from fastfnn import cli

onnx_only = pytest.mark.skipif("not __import__('importlib').util.find_spec('onnx')", reason="needs onnx")


@onnx_only
@pytest.mark.parametrize("source", ["trained", "named", "columns", "bytes"])
def test_export_finds_shape_and_dtype(
    named: tuple[str, str], npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    onnx, options = pytest.importorskip("onnx"), []
    if source == "trained":
        x = np.random.default_rng(0).integers(0, 256, (48, 4, 7), dtype=np.uint8)
        model, shape, dtype = str(tmp_path / "images"), (4, 7), "uint8"
        assert train(npz(x_train=x, x_test=x[:30]), "--quiet", "--out", model) == 0
    elif source == "named":
        model, shape, dtype = named[0], (6,), "float32"
    elif source == "columns":
        model, shape, dtype = (
            saved(tmp_path / "m.safetensors", ff.models.mlp(4, mean=[1, 2, 3, 4], scale=1)),
            (4,),
            "float32",
        )
    else:
        model, shape, dtype = (
            saved(tmp_path / "m.safetensors", ff.models.mlp(20, mean=0.1, std=0.3, scale=1 / 255)),
            (4, 5),
            "uint8",
        )
        options = ["--input-shape", "4x5"]
    capsys.readouterr()
    target = tmp_path / "model.onnx"
    assert cli.main(["export", model, "--onnx", str(target), *options]) == 0
    sizes = ", ".join(map(str, ("n", *shape)))
    assert said(capsys).startswith(f"written: {target}, x ({sizes}) {dtype} to y (n, ")
    x = onnx.load(target).graph.input[0].type.tensor_type
    assert tuple(axis.dim_value for axis in x.shape.dim[1:]) == shape
    assert onnx.helper.tensor_dtype_to_np_dtype(x.elem_type) == dtype


@onnx_only
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([], "--input-shape is not given; expected the shape of one sample, such as 28x28"),
        (["--input-shape", "3x5"], "--input-shape is (3, 5): Linear"),
    ],
)
def test_export_asks_for_the_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], error: str
) -> None:
    path = saved(tmp_path / "m.safetensors", ff.models.mlp(20))
    assert cli.main(["export", path, "--onnx", str(tmp_path / "m.onnx"), *options]) == 2
    assert error in the_error(capsys)
    assert not (tmp_path / "m.onnx").exists()


def test_export_without_onnx_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", saved(tmp_path / "m.safetensors", mlp()), "--onnx", str(tmp_path / "m.onnx")]) == 2
    assert 'pip install "fastfnn[onnx]"' in the_error(capsys)
