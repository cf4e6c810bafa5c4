"""The command line: what it prints, writes and refuses."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import _cli_data, cli

WriteNpz = Callable[..., str]
LAST_LINE = re.compile(r"test accuracy (\d+\.\d\d) %")


def blobs(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that any working network tells apart: float32 (rows, 6), int64 (rows,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(rows) % 3)
    x = rng.normal(size=(rows, 6)) + 8 * np.eye(3, 6)[y]
    return x.astype(np.float32), y.astype(np.int64)


@pytest.fixture
def npz(tmp_path: Path) -> WriteNpz:
    """Write a data file: the blobs, with members replaced, or left out where None."""

    def write(**members: Any) -> str:
        x_train, y_train = blobs(48)
        x_test, y_test = blobs(30, seed=1)
        arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test} | members
        path = tmp_path / "data.npz"
        kept: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
        np.savez(path, **kept)
        return str(path)

    return write


def train(data: str, *options: str) -> int:
    return cli.main(["train", "--data", data, "--hidden", "8", "--batch-size", "8", "--epochs", "3", *options])


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands in the one line on stderr."""
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("fastfnn: error: ")
    assert "test accuracy" not in captured.out
    return captured.err


# What train prints


def test_train_prints_a_header_a_table_and_last_the_accuracy(npz: WriteNpz, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(npz(), "--epochs", "20", "--threads", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "data   data.npz: 48 training and 30 test samples, 6 float32, 3 classes",
        "model  6-8-3 relu, 83 parameters, float32",
        "run    sgd, lr 0.15, batch 8, 20 epochs, seed 0, 1 thread",
    ]
    assert lines[4].split() == ["loss", "accuracy"]
    assert re.fullmatch(r"train +0\.\d{4} +100\.00 %", lines[5])
    assert re.fullmatch(r"test +0\.\d{4} +100\.00 %", lines[6])
    assert re.search(r"training \d+\.\d\d s, [\d,]+ samples/s", lines[-2])
    assert lines[-1] == "test accuracy 100.00 %"


def test_train_shows_its_progress_on_stderr(npz: WriteNpz, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(npz()) == 0
    assert "epoch 3/3: loss" in capsys.readouterr().err


def test_quiet_prints_the_accuracy_only(npz: WriteNpz, capsys: pytest.CaptureFixture[str]) -> None:
    path = npz()
    assert train(path) == 0
    loud = capsys.readouterr().out.splitlines()
    assert train(path, "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == loud[-1:]
    assert "epoch" not in captured.err


def test_the_table_is_that_of_the_written_model(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x_test, y_test = blobs(30, seed=1)
    y_test[:7] = (y_test[:7] + 1) % 3  # so that the accuracy is neither 0 nor 1
    assert train(npz(y_test=y_test), "--epochs", "20", "--out", str(tmp_path / "out")) == 0
    loss, accuracy = ff.evaluate(
        ff.load(tmp_path / "out" / "model.safetensors"), x_test, y_test, loss=ff.CrossEntropyLoss()
    )
    out = capsys.readouterr().out
    assert f"{loss:.4f}" in out
    assert 0.5 < accuracy < 0.9
    assert out.endswith(f"test accuracy {100 * accuracy:.2f} %\n")


def table(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith(("train ", "test "))]


def test_the_seed_decides_the_figures_and_the_threads_do_not(npz: WriteNpz, capsys: pytest.CaptureFixture[str]) -> None:
    path = npz(x_test=None, y_test=None)  # the seed draws the test set too
    tables = []
    for options in (["--seed", "5"], ["--seed", "5", "--threads", "3"], ["--seed", "6"]):
        assert train(path, *options) == 0
        tables.append(table(capsys))
    assert len(tables[0]) == 3
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


@pytest.mark.parametrize(
    "options",
    [
        ["--activation", "leaky-relu"],
        ["--activation", "sigmoid", "--lr", "1"],
        ["--activation", "tanh"],
        ["--optimizer", "momentum"],
        ["--optimizer", "adam", "--lr", "0.01"],
        ["--dtype", "float64"],
        ["--batch-size", "full", "--epochs", "60"],
        ["--hidden"],
        ["--hidden", "9", "7"],
    ],
    ids=" ".join,
)
def test_every_option_learns(npz: WriteNpz, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert train(npz(), "--epochs", "40", *options) == 0
    out = capsys.readouterr().out
    assert float(LAST_LINE.fullmatch(out.splitlines()[-1])[1]) > 90  # type: ignore[index]
    header = out.partition("\n\n")[0]
    expected = {
        "--activation": f"6-8-3 {options[-1]}" if len(options) == 2 else "6-8-3 sigmoid",
        "--optimizer": f"run    {options[1 % len(options)]}, lr",
        "--dtype": "float64",
        "--batch-size": "full batch",
        "--hidden": f"model  {'-'.join(['6', *options[1:], '3'])}",
    }
    assert expected[options[0]] in header


def test_a_full_batch_is_one_step_an_epoch(npz: WriteNpz, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    fit = ff.fit
    monkeypatch.setattr(ff, "fit", lambda *args, **kwargs: sizes.append(kwargs["batch_size"]) or fit(*args, **kwargs))
    assert train(npz(), "--batch-size", "full") == 0
    assert set(sizes) == {None}


# Data


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="takes minutes on the references")
def test_defaults_reach_95_percent_on_the_embedded_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--quiet"]) == 0
    assert float(LAST_LINE.fullmatch(capsys.readouterr().out.strip())[1]) >= 95  # type: ignore[index]


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
    data = _cli_data.load(npz(x_train=x, y_train=np.arange(20), x_test=None, y_test=None), None, 3)
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
def test_other_numbers_are_standardised(npz: WriteNpz, tmp_path: Path, dtype: str) -> None:
    x = blobs(48)[0] > 1 if dtype == "bool" else (blobs(48)[0] * 3 + 5).astype(dtype)
    assert train(npz(x_train=x, x_test=x[:30]), "--out", str(tmp_path)) == 0
    layer: Any = ff.load(tmp_path / "model.safetensors").layers[1]
    assert layer.scale == 1
    wide = x.astype(np.float64)
    np.testing.assert_allclose([*layer.mean, *layer.std], [wide.mean(), wide.std()], rtol=1e-12)


@pytest.mark.parametrize("value", [np.uint8(0), np.uint8(9), np.float32(0.1), 1e9])
def test_constant_data_train(npz: WriteNpz, capsys: pytest.CaptureFixture[str], value: Any) -> None:
    x = np.full((48, 6), value)
    assert train(npz(x_train=x, x_test=x[:30])) == 0
    figures = [float(line.split()[1]) for line in table(capsys)[:2]]
    assert all(0 < figure < 2 for figure in figures)  # about ln 3: there is nothing to learn


@pytest.mark.parametrize("size", [1, 6, 7, 8, 50])
def test_mean_and_std_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(_cli_data, "_CHUNK", 7)
    x = np.random.default_rng(0).normal(1e4, 1, (size, 2)).astype(np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(_cli_data.mean_and_std(x), [wide.mean(), wide.std()], rtol=1e-9)


def test_mean_and_std_need_little_memory() -> None:
    x = np.zeros((40, 1 << 20), np.uint8)
    x[::2] = 2
    tracemalloc.start()
    try:
        assert _cli_data.mean_and_std(x) == pytest.approx((1.0, 1.0))
        assert tracemalloc.get_traced_memory()[1] < 20e6  # in float64 the whole would be 336 MB
    finally:
        tracemalloc.stop()


# --out


def test_out_writes_a_model_and_a_history(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "anew"
    assert train(npz(), "--out", str(out), "--batch-size", "full", "--seed", "4") == 0
    assert sorted(path.name for path in out.iterdir()) == ["history.json", "model.safetensors"]
    assert str(out / "model.safetensors") in capsys.readouterr().out
    report = json.loads((out / "history.json").read_text())
    assert report["fastfnn"] == ff.__version__
    assert {"data", "hidden", "batch_size", "lr", "seed"} <= report["settings"].keys()
    assert report["settings"]["batch_size"] == "full"
    assert report["settings"]["lr"] == 0.15
    assert report["settings"]["seed"] == 4
    assert [len(report["history"][name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")] == [3, 3, 3, 3]
    assert report["results"]["test"]["loss"] == report["history"]["val_loss"][-1]


def test_figures_that_json_lacks_become_null(npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ff, "evaluate", lambda *args, **kwargs: ff.Evaluation(float("inf"), float("nan")))
    assert train(npz(), "--out", str(tmp_path)) == 0
    text = (tmp_path / "history.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["results"]["test"] == {"loss": None, "accuracy": None}


def half_written(model: ff.Sequential, path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


def interrupted(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "name", "failure", "code"),
    [
        (ff, "save", half_written, 2),
        (cli.json, "dumps", interrupted, 130),
        (cli.os, "replace", interrupted, 130),
    ],
    ids=["model", "history", "rename"],
)
def test_out_keeps_its_old_files_where_writing_fails(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, failure: Any, code: int
) -> None:
    out = tmp_path / "out"
    assert train(npz(), "--out", str(out)) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with monkeypatch.context() as patch:
        # Only the command line's own renaming fails; `save` has another name for it.
        patch.setattr(place, name, failure)
        if name == "replace":
            patch.setattr(ff, "save", lambda model, path: path.write_bytes(b"whole"))
        assert train(npz(), "--out", str(out), "--seed", "1") == code
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("where", ["file", "file/below", "taken"])
def test_an_unwritable_out_is_refused_before_training(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "history.json").mkdir(parents=True)
    monkeypatch.setattr(ff, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    assert train(npz(), "--out", str(tmp_path / where)) == 2
    assert f"--out is {str(tmp_path / where)!r}" in the_error(capsys)
    assert (tmp_path / "file").read_text() == "mine"


# Bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "cifar"], "--data is 'cifar'; expected mnist-sample, mnist, fashion-mnist or a .npz file"),
        (["--data", "none.npz"], "--data is 'none.npz'; there is no such file"),
        (["--data", "."], "--data is '.'; it cannot be read"),
        (["--data-root", "."], "--data-root is '.'; expected only with --data mnist or fashion-mnist"),
        (["--hidden", "-5"], "--hidden: got '-5'; expected an integer of at least 1"),
        (["--hidden", "10", "0"], "--hidden: got '0'"),
        (["--hidden", "1.5"], "--hidden: got '1.5'"),
        (["--hidden", "999999999999999"], "not enough memory"),
        (["--batch-size", "0"], "--batch-size: got '0'; expected an integer of at least 1 or full"),
        (["--batch-size", "ful"], "--batch-size: got 'ful'"),
        (["--epochs", "0"], "--epochs: got '0'"),
        (["--lr", "0"], "--lr: got '0'; expected a finite number above 0"),
        (["--lr", "-1"], "--lr: got '-1'"),
        (["--lr", "nan"], "--lr: got 'nan'"),
        (["--lr", "inf"], "--lr: got 'inf'"),
        (["--lr", "fast"], "--lr: got 'fast'"),
        (["--seed", "-1"], "--seed: got '-1'; expected an integer of at least 0"),
        (["--threads", "0"], "--threads: got '0'; expected an integer of at least 1"),
        (["--activation", "relux"], "relux"),
        (["--optimizer", "lbfgs"], "lbfgs"),
        (["--dtype", "float16"], "float16"),
        (["--epoch", "1"], "--epoch"),
        (["two\nlines"], "two lines"),
        (["--lr"], "--lr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options(capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    assert cli.main(["train", *options]) == 2
    assert said in the_error(capsys)


@pytest.mark.parametrize(("argv", "said"), [([], "COMMAND"), (["fly"], "fly"), (["info", "--quiet"], "--quiet")])
def test_bad_commands(capsys: pytest.CaptureFixture[str], argv: list[str], said: str) -> None:
    assert cli.main(argv) == 2
    assert said in the_error(capsys)


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


# How it ends


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, where the references run
def test_a_diverging_training_ends_with_1_and_writes_nothing(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert train(npz(), "--lr", "1e38", "--out", str(out), "--quiet") == 1
    assert re.search(r"in epoch \d+, step \d+", the_error(capsys))
    assert list(out.iterdir()) == []


def test_an_interrupt_ends_with_130_and_writes_nothing(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ff, "evaluate", interrupted)
    assert train(npz(), "--out", str(tmp_path / "out"), "--quiet") == 130
    captured = capsys.readouterr()
    assert captured.err == "fastfnn: interrupted\n"
    assert captured.out == ""
    assert list((tmp_path / "out").iterdir()) == []


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 300} | options
    return subprocess.run([sys.executable, *command], check=False, **options)


def test_the_whole_command() -> None:
    done = run("-m", "fastfnn", "train", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert float(LAST_LINE.fullmatch(done.stdout.splitlines()[-1])[1]) > 80  # type: ignore[index]


def test_a_reader_that_left_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run("-m", "fastfnn", "info", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = run("-m", "fastfnn", "info", stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("fastfnn: error: ")
    assert done.stderr.count("\n") == 1


def test_what_stdout_cannot_encode_is_escaped(npz: WriteNpz, tmp_path: Path) -> None:
    path = tmp_path / "zürich.npz"
    os.replace(npz(), path)
    arguments = ["-m", "fastfnn", "train", "--data", str(path), "--epochs", "1"]
    done = run(*arguments, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 0, done.stderr
    assert r"data   z\xfcrich.npz: 48 training" in done.stdout


# The other commands


def test_help_and_version_do_not_import_numba() -> None:
    code = (
        "import sys; from fastfnn.cli import main; "
        "codes = [main([w]) for w in ('--help', '--version')] + [main(['train', '--help'])]; "
        "sys.exit(codes != [0, 0, 0] or 'numba' in sys.modules)"
    )
    done = run("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "train" in done.stdout
    assert "warmup" in done.stdout
    assert "--batch-size" in done.stdout
    assert f"fastfnn {ff.__version__}\n" in done.stdout


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTFNN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert cli.main(["info"]) == 0
    facts = {line[:14].strip(): line[15:] for line in capsys.readouterr().out.splitlines()}
    assert facts["fastfnn"] == ff.__version__
    assert facts["numpy"] == np.__version__
    assert {"python", "numba", "llvmlite", "processor"} <= facts.keys()
    assert facts["vector width"] in ("128 bits", "256 bits", "512 bits")
    assert int(facts["cores usable"]) >= 1
    assert facts["data folder"] == f"{tmp_path / 'data'} (not there yet)"
    assert facts["kernel cache"].startswith(str(tmp_path / "cache"))
    assert facts["kernel cache"].endswith("(writable)")

    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "data").mkdir()
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "(NOT writable)" in out
    assert f"{tmp_path / 'data'}\n" in out


@pytest.mark.parametrize(
    ("options", "dtypes"),
    [([], ("float32",)), (["--dtype", "float64"], ("float64",)), (["--dtype", "float64", "float32", "float64"], None)],
)
def test_warmup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], dtypes: Any
) -> None:
    asked = []
    monkeypatch.setattr(ff, "warmup", lambda which: asked.append(which) or 1.234)
    assert cli.main(["warmup", *options]) == 0
    dtypes = dtypes or ("float64", "float32")
    assert asked == [dtypes]
    assert capsys.readouterr().out == f"kernels for {' and '.join(dtypes)} ready after 1.23 s\n"


def test_warmup_refuses_other_dtypes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warmup", "--dtype", "float16"]) == 2
    assert "float16" in the_error(capsys)
