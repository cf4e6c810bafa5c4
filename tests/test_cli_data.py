"""``fastfnn train --data``: what a data file may hold, and what is refused."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import WriteNpz, blobs, rows, said, table, the_error, train, write_image

import fastfnn as ff
from fastfnn import cli
from fastfnn.cli import datasets

# Data


def test_one_hot_rows_are_labels(npz: WriteNpz, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(npz()) == 0
    from_labels = table(capsys)
    for dtype in (bool, "uint8", "float64"):
        _, y = blobs(48)
        assert train(npz(y_train=ff.data.one_hot(y, 3, dtype))) == 0
        assert table(capsys) == from_labels


def test_classes_are_counted_over_training_and_test_labels(npz: WriteNpz, capsys: pytest.CaptureFixture[str]) -> None:
    _, y_test = blobs(30, seed=1)
    y_test[0] = 6
    assert train(npz(y_test=y_test.astype(np.uint8))) == 0
    assert "7 classes" in capsys.readouterr().out
    assert train(npz(y_train=ff.data.one_hot(blobs(48)[1], 5), y_test=blobs(30, 1)[1])) == 0
    assert "5 classes" in capsys.readouterr().out


@pytest.mark.parametrize(("rows", "held_out"), [(48, 5), (4, 1)])
def test_a_tenth_is_held_out_where_there_is_no_test_set(
    npz: WriteNpz, capsys: pytest.CaptureFixture[str], rows: int, held_out: int
) -> None:
    x, y = blobs(rows)
    assert train(npz(x_train=x, y_train=y, x_test=None, y_test=None)) == 0
    assert f"{rows - held_out} training and {held_out} held-out test samples" in capsys.readouterr().out


def test_what_is_held_out_is_not_trained_on_and_keeps_its_labels(npz: WriteNpz) -> None:
    x = np.arange(60, dtype=np.float64).reshape(20, 3)
    data = datasets.load(npz(x_train=x, y_train=np.arange(20), x_test=None, y_test=None), None, 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([data.y_train, data.y_test])), np.arange(20))
    np.testing.assert_array_equal(data.x_train, x[data.y_train])
    np.testing.assert_array_equal(data.x_test, x[data.y_test])


def test_uint8_is_scaled_and_standardised(npz: WriteNpz, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 200, (48, 2, 3), dtype=np.uint8)
    assert train(npz(x_train=x, x_test=x[:30]), "--out", str(tmp_path)) == 0
    layer: Any = ff.load(tmp_path / "model.safetensors").layers[1]
    assert layer.scale == 1 / 255
    np.testing.assert_allclose([*layer.mean, *layer.std], [(x / 255).mean(), (x / 255).std()], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16", ">f4", "bool"])
def test_columns_of_other_numbers_are_standardised_each_for_itself(npz: WriteNpz, tmp_path: Path, dtype: str) -> None:
    x = blobs(48)[0] > 1 if dtype == "bool" else (blobs(48)[0] * [1, 2, 3, 4, 5, 60] + 5).astype(dtype)
    assert train(npz(x_train=x, x_test=x[:30]), "--out", str(tmp_path)) == 0
    layer: Any = ff.load(tmp_path / "model.safetensors").layers[1]
    assert layer.scale == 1
    wide = x.astype(np.float64)
    np.testing.assert_allclose([layer.mean, layer.std], [wide.mean(axis=0), wide.std(axis=0)], rtol=1e-12)


def test_images_of_other_numbers_have_one_mean_and_std(npz: WriteNpz) -> None:
    x = blobs(48)[0].reshape(48, 2, 3)
    data = datasets.load(npz(x_train=x, x_test=x[:30]), None, 0)
    wide = x.astype(np.float64)
    np.testing.assert_allclose([data.mean, data.std], [wide.mean(), wide.std()], rtol=1e-12)


def test_a_constant_column_keeps_its_distances(npz: WriteNpz) -> None:
    x = blobs(48)[0].copy()
    x[:, 2] = 0.1
    data: Any = datasets.load(npz(x_train=x, x_test=x[:30]), None, 0)
    assert (data.mean[2], data.std[2]) == (float(np.float32(0.1)), 1.0)


@pytest.mark.parametrize("value", [np.uint8(0), np.uint8(9), np.float32(0.1), 1e9])
def test_constant_data_train(npz: WriteNpz, capsys: pytest.CaptureFixture[str], value: Any) -> None:
    x = np.full((48, 6), value)
    assert train(npz(x_train=x, x_test=x[:30])) == 0
    figures = [float(line.split()[1]) for line in table(capsys)[:2]]
    assert all(0 < figure < 2 for figure in figures)  # about ln 3: there is nothing to learn


@pytest.mark.parametrize("columns", [1, 2, 9])
@pytest.mark.parametrize("rows", [2, 6, 7, 8, 50])
def test_mean_and_std_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int) -> None:
    monkeypatch.setattr(datasets, "_CHUNK", 7)
    x = np.random.default_rng(0).normal(1e4, 1, (rows, columns)).astype(np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(datasets.mean_and_std(x), [wide.mean(axis=0), wide.std(axis=0)], rtol=1e-9)


@pytest.mark.parametrize("columns", [1, 40])
def test_mean_and_std_need_little_memory(columns: int) -> None:
    x = np.zeros((40 << 20, 1), np.uint8).reshape(-1, columns)
    x[::2] = 2
    tracemalloc.start()
    try:
        np.testing.assert_allclose(datasets.mean_and_std(x), 1.0)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # in float64 the whole would be 336 MB
    finally:
        tracemalloc.stop()


# Bad data


X, Y = blobs(48)
HOLED = X.copy()
HOLED[11, 3] = np.nan


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"x_train": None}, "it lacks x_train: it holds y_train, x_test, y_test"),
        ({"y_train": None}, "it lacks y_train"),
        ({"x_test": None}, "it lacks x_test"),
        ({"y_test": None}, "it lacks y_test"),
        ({"x_train": None, "y_train": None, "x_test": None, "y_test": None}, "it holds nothing"),
        ({"x_train": X.astype(object)}, "its x_train cannot be read"),
        ({"x_train": X.astype(str)}, "x_train has dtype <U"),
        ({"x_train": X.astype(complex)}, "x_train has dtype complex128; expected numbers"),
        ({"x_train": X[:, 0]}, "x_train has shape (48,)"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "x_train has shape (0, 6)"),
        ({"x_train": X[:, :0]}, "x_train has shape (48, 0)"),
        ({"x_train": HOLED}, "x_train holds nan in row 11; expected finite numbers"),
        ({"x_train": X * np.float64(1e200)}, "expected numbers nearer to 1"),
        ({"x_train": X * np.float64(1e-200)}, "expected numbers nearer to 1"),
        ({"x_train": X[:47]}, "y_train has 48 rows; expected 47, as many as x_train"),
        ({"y_test": Y}, "y_test has 48 rows; expected 30, as many as x_test"),
        ({"x_test": X[:30, :5]}, "x_test has shape (30, 5); expected (n, 6), as x_train"),
        ({"x_test": X[:30].astype(np.uint8)}, "x_test has dtype uint8; expected float32, as x_train"),
        ({"y_train": Y.astype(float)}, "y_train has dtype float64; expected integer labels or one-hot rows"),
        ({"y_train": Y.astype(str)}, "y_train has dtype <U"),
        ({"y_train": Y - 1}, "y_train holds the label -1; expected labels from 0 to"),
        ({"y_train": Y + 10**15}, f"y_train holds the label {10**15 + 2}; expected labels from 0 to"),
        ({"y_train": Y[:, None]}, "y_train has shape (48, 1)"),
        ({"y_train": Y * 0, "y_test": Y[:30] * 0}, "expected at least 2 classes"),
        ({"y_train": np.ones((48, 3))}, "y_train has the row 0 with other than a single 1"),
        ({"y_train": np.eye(48, 50) * 2}, "y_train has the row 0 with other than a single 1"),
        ({"x_train": X[:1], "y_train": Y[:1], "x_test": None, "y_test": None}, "expected at least 2, to hold out one"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_bad_members(npz: WriteNpz, capsys: pytest.CaptureFixture[str], members: dict[str, Any], said: str) -> None:
    assert train(npz(**members)) == 2
    assert said in the_error(capsys)


def test_files_that_are_no_npz(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Path(npz()).read_bytes()
    np.save(tmp_path / "array.npy", X)
    contents = {
        "empty.npz": b"",
        "text.npz": b"x_train, y_train\n",
        "truncated.npz": whole[: len(whole) // 2],
        "array.npz": (tmp_path / "array.npy").read_bytes(),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert train(str(path)) == 2
        assert f"--data is {str(path)!r}; expected a .npz file" in the_error(capsys)


def test_a_damaged_member_is_named(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(npz())
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF  # among the values of x_train, which comes first
    path.write_bytes(content)
    assert train(str(path)) == 2
    assert "its x_train cannot be read" in the_error(capsys)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_missing_set_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    def offline(url: str, target: Path) -> None:
        raise OSError("no network")

    monkeypatch.setenv("FASTFNN_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("fastfnn.data.mnist._fetch", offline)
    assert cli.main(["train", "--data", name]) == 2
    error = the_error(capsys)
    assert "train-images-idx3-ubyte.gz" in error
    assert "or give --data-root a folder that holds the files" in error
    assert cli.main(["train", "--data", name, "--data-root", str(tmp_path)]) == 2
    assert "--data-root lacks train-images-idx3-ubyte" in the_error(capsys)


# Numbers to predict


def numbers(x: np.ndarray) -> np.ndarray:
    return 300 + 20 * x[:, 0].astype(np.float64) - 5 * x[:, 1]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_numbers_of_arrays_are_predicted_where_that_is_asked_for(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: tuple[int, ...]
) -> None:
    (x, _), (x_test, _) = blobs(48), blobs(30, seed=1)
    data, out = npz(y_train=numbers(x).reshape(shape), y_test=numbers(x_test).reshape(shape)), str(tmp_path / "run")
    assert train(data, "--task", "regression", "--epochs", "200", "--out", out) == 0
    printed = said(capsys)
    assert "6 float32, a number to predict\n" in printed
    assert printed.splitlines()[-1].startswith("test R² 0.9")
    assert cli.main(["evaluate", out, "--data", data]) == 0
    assert "R²                       0.9" in said(capsys)
    assert cli.main(["predict", out, "--data", data]) == 0
    header, *lines = rows(said(capsys))
    assert header == ["row", "prediction"]
    np.testing.assert_allclose([float(line[1]) for line in lines], numbers(x_test), atol=40)
    assert cli.main(["train", "--resume", out, "--epochs", "201"]) == 0


@pytest.mark.parametrize(
    ("y", "error"),
    [
        (np.ones((48, 2)), "y_train has shape (48, 2); expected (n,) or (n, 1), a number to predict in each row"),
        (np.full(48, "a"), "y_train has dtype <U1; expected numbers"),
        (np.r_[np.arange(47.0), np.nan], "y_train holds nan in row 47; expected finite numbers"),
        (np.full(48, 3), "its y_train is 3 in every row of the training; expected several"),
    ],
)
def test_bad_numbers_to_predict(npz: WriteNpz, capsys: pytest.CaptureFixture[str], y: np.ndarray, error: str) -> None:
    assert train(npz(y_train=y, x_test=None, y_test=None), "--task", "regression") == 2
    assert error in the_error(capsys)


def test_a_task_is_for_tables_and_arrays(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "images" / "a" / "1.png", np.zeros((4, 4), np.uint8))
    for data in (str(tmp_path / "images"), "mnist-sample"):
        assert train(data, "--task", "regression") == 2
        expected = "expected only where --data is a .csv file or another table, or a .npz file"
        assert f"--task is 'regression'; {expected}" in the_error(capsys)
    assert train(npz(y_train=numbers(blobs(48)[0]))) == 2
    assert "y_train has dtype float64; expected integer labels or one-hot rows (train --task" in the_error(capsys)
    assert train(npz(), "--task", "classification") == 0
