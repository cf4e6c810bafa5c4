"""``fastfnn train``: what it prints and writes, its options, its models."""

import csv
import html
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import LAST_LINE, WriteNpz, blobs, interrupted, table, the_error, train

import fastfnn as ff
from fastfnn import cli, report
from fastfnn.cli import choices, outputs

# What train prints


def test_train_prints_a_header_a_table_and_last_the_accuracy(npz: WriteNpz, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(npz(), "--epochs", "20", "--threads", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "data   data.npz: 48 training and 30 test samples, 6 float32, 3 classes",
        "model  6-8-3 relu, 83 parameters, float32",
        "run    sgd, lr 0.15, batch 8, 20 epochs, seed 0, 1 thread",
    ]
    assert lines[4].split() == ["loss", "accuracy", "F1"]
    assert re.fullmatch(r"train +0\.\d{4} +100\.00 % +1\.0000", lines[5])
    assert re.fullmatch(r"test +0\.\d{4} +100\.00 % +1\.0000", lines[6])
    assert re.fullmatch(r"baseline +33\.33 % +always 0", lines[7])
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


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="takes minutes on the references")
def test_defaults_reach_95_percent_on_the_embedded_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--quiet"]) == 0
    assert float(LAST_LINE.fullmatch(capsys.readouterr().out.strip())[1]) >= 95  # type: ignore[index]


# Models


def images(rows: int, *shape: int) -> dict[str, np.ndarray]:
    """Members of a data file: uint8 images with one bright quarter, which is their class."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(rows) % 4)
    x = rng.integers(0, 60, (rows, *shape), np.uint8)
    height, width = shape[-2] // 2, shape[-1] // 2
    for image, label in zip(x, y, strict=True):
        image[..., label // 2 * height :, label % 2 * width :][..., :height, :width] += 150
    return {"x_train": x, "y_train": y, "x_test": x[:40], "y_test": y[:40]}


@pytest.mark.parametrize(
    ("model", "shape", "header"),
    [
        ("lenet5", (28, 28), "lenet5, 61,196 parameters, float32"),
        ("lenet5", (1, 28, 28), "lenet5, 61,196 parameters, float32"),
        ("small-cnn", (12, 9), "small-cnn, 1,636 parameters, float32"),
        ("small-cnn", (3, 12, 12), "small-cnn, 1,972 parameters, float32"),
    ],
)
def test_a_model_learns_and_is_written(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, shape: tuple[int, ...], header: str
) -> None:
    members = images(200, *shape)
    options = ["--model", model, "--data", npz(**members), "--batch-size", "20", "--epochs", "5"]
    assert cli.main(["train", *options, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"\nmodel  {header}\n" in out
    assert float(LAST_LINE.fullmatch(out.splitlines()[-1])[1]) > 90  # type: ignore[index]
    loaded = ff.load(tmp_path / "out" / "model.safetensors")
    result = ff.evaluate(loaded, members["x_test"], members["y_test"], loss=ff.CrossEntropyLoss())
    assert out.endswith(f"test accuracy {100 * result.accuracy:.2f} %\n")
    settings = json.loads((tmp_path / "out" / "history.json").read_text())["settings"]
    assert (settings["model"], settings["hidden"], settings["activation"]) == (model, None, None)


@pytest.mark.parametrize("model", choices.CHOICES)
@pytest.mark.parametrize("optimizer", choices.OPTIMIZERS)
def test_what_is_not_given_is_the_models_default(
    npz: WriteNpz, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: str, optimizer: str
) -> None:
    monkeypatch.setattr(ff, "fit", interrupted)  # the header is printed before
    choice = choices.CHOICES[model]
    assert cli.main(["train", "--model", model, "--data", npz(**images(8, 28, 28)), "--optimizer", optimizer]) == 130
    expected = f"run    {optimizer}, lr {choice.lr[optimizer]:g}, batch {choice.batch_size}, {choice.epochs} epochs, "
    assert f"\n{expected}" in capsys.readouterr().out


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="takes minutes on the references")
@pytest.mark.parametrize("model", ["lenet5", "small-cnn"])
def test_a_convolutional_model_reaches_95_percent_on_the_embedded_sample(
    capsys: pytest.CaptureFixture[str], model: str
) -> None:
    assert cli.main(["train", "--quiet", "--model", model, "--epochs", "4"]) == 0
    assert float(LAST_LINE.fullmatch(capsys.readouterr().out.strip())[1]) >= 95  # type: ignore[index]


@pytest.mark.parametrize(
    ("model", "shape", "said"),
    [
        ("lenet5", (32, 32), "x_train has shape (8, 32, 32); --model lenet5 expects (n, 28, 28) or (n, 1, 28, 28)"),
        ("lenet5", (3, 28, 28), "x_train has shape (8, 3, 28, 28); --model lenet5 expects"),
        ("small-cnn", (28, 3), "x_train has shape (8, 28, 3); --model small-cnn expects"),
        ("small-cnn", (28, 28, 3), "4 pixels high and wide or more"),
        ("small-cnn", (2, 1, 28, 28), "--model small-cnn expects (n, height, width) or (n, channels, height, width)"),
    ],
)
def test_images_that_do_not_fit_the_model(
    npz: WriteNpz, capsys: pytest.CaptureFixture[str], model: str, shape: tuple[int, ...], said: str
) -> None:
    assert cli.main(["train", "--model", model, "--data", npz(**images(8, *shape))]) == 2
    assert said in the_error(capsys)


# --out


def test_out_writes_a_model_and_a_history(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "anew"
    assert train(npz(), "--out", str(out), "--batch-size", "full", "--seed", "4") == 0
    files = sorted(path.name for path in out.iterdir())
    assert files == sorted(outputs.FILES)
    printed = capsys.readouterr().out
    assert f"\nwritten to {out}: " in printed
    assert all(name in printed for name in files)
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


def test_the_settings_repeat_the_training(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(npz(), "--out", str(tmp_path / "out"), "--optimizer", "adamw", "--schedule", "one-cycle") == 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    command = shlex.split(html.unescape(re.search("<pre>(.*)</pre>", page)[1]))  # type: ignore[index]
    assert command[:2] == ["fastfnn", "train"]
    assert cli.main([*command[1:], "--out", str(tmp_path / "again")]) == 0
    for name in ("model.safetensors", "settings.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_history_is_a_table_too(npz: WriteNpz, tmp_path: Path) -> None:
    assert train(npz(), "--out", str(tmp_path)) == 0
    history = json.loads((tmp_path / "history.json").read_text())["history"]
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [row.pop("epoch") for row in rows] == ["1", "2", "3"]
    assert {name: [float(row[name]) for row in rows] for name in rows[0]} == history


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_a_schedule_changes_the_learning_rate(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str], schedule: str
) -> None:
    assert train(npz(), "--schedule", schedule, "--out", str(tmp_path)) == 0
    assert f"run    sgd, lr 0.15, {schedule}, batch 8, 3 epochs, " in capsys.readouterr().out
    rates = json.loads((tmp_path / "history.json").read_text())["history"]["lr"]
    made = {"cosine": ff.schedules.Cosine, "one-cycle": ff.schedules.OneCycle}[schedule]()
    np.testing.assert_allclose(rates, [0.15 * made.factors(epoch, 3, 6)[-1] for epoch in (1, 2, 3)])


def test_without_matplotlib_it_says_how_to_get_pictures(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert train(npz(), "--out", str(tmp_path)) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("report.html"))
    assert "has no pictures, as matplotlib is not installed" in line
    assert line.endswith(f'pip install "fastfnn[plot]", then fastfnn train --resume {tmp_path}')
    assert "matplotlib is not installed" in (tmp_path / "report.html").read_text("utf-8")


def full_disk(model: ff.Sequential) -> bytes:
    raise OSError(28, "No space left on device", "model.safetensors")


RESULTS = ("report.html", "model.safetensors", "history.csv", "history.json")


def interrupted_rename(source: str | Path, target: str | Path) -> None:
    """Only for the results; settings and checkpoint take their places while it trains."""
    if Path(target).name in RESULTS:
        raise KeyboardInterrupt
    shutil.move(source, target)


@pytest.mark.parametrize(
    ("place", "name", "failure", "code"),
    [
        (outputs, "to_bytes", full_disk, 2),
        (outputs, "as_csv", interrupted, 130),
        (os, "replace", interrupted_rename, 130),
    ],
    ids=["model", "history", "rename"],
)
def test_out_keeps_its_old_results_where_writing_fails(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, failure: Any, code: int
) -> None:
    out = tmp_path / "out"
    assert train(npz(), "--out", str(out)) == 0
    before = {name: (out / name).read_bytes() for name in RESULTS}
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failure)
        assert train(npz(), "--out", str(out), "--seed", "1", "--overwrite") == code
    assert sorted(path.name for path in out.iterdir()) == sorted(outputs.FILES)
    assert {name: (out / name).read_bytes() for name in RESULTS} == before


@pytest.mark.parametrize("name", ["draw", "page"])
def test_the_model_is_saved_before_anything_is_drawn(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And no report of an older one stays beside it."""
    out = tmp_path / "out"
    assert train(npz(), "--out", str(out)) == 0
    before = (out / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(report, name, interrupted)
        assert train(npz(), "--out", str(out), "--seed", "1", "--overwrite") == 130
    assert (out / "model.safetensors").read_bytes() != before
    assert sorted(path.name for path in out.iterdir()) == sorted(set(outputs.FILES) - {"report.html"})
    ff.load(out / "model.safetensors")


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
