"""``fastfnn train --resume``: goes on as if the training had never ended, or says why it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import WriteNpz, blobs, interrupted, the_error, train

import fastfnn as ff
from fastfnn import cli


def resume(folder: Path, *options: str) -> int:
    return cli.main(["train", "--resume", str(folder), *options])


def result(folder: Path) -> dict[str, Any]:
    """What a training left that no clock decides."""
    written = json.loads((folder / "history.json").read_text())
    for times in (written["history"].pop("seconds"), written["results"].pop("seconds")):
        assert times
    del written["results"]["samples_per_second"]
    model = (folder / "model.safetensors").read_bytes()
    return {"model": model, "history": written, "settings": (folder / "settings.json").read_text()}


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Interrupts trainings after that many epochs."""

    def after(epochs: int) -> None:
        class Interrupting(ff.Checkpoint):
            def __call__(self, end: ff.EpochEnd) -> None:
                super().__call__(end)
                if end.epoch == epochs:
                    monkeypatch.undo()
                    raise KeyboardInterrupt

        monkeypatch.setattr(ff, "Checkpoint", Interrupting)

    return after


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "3"],
        ["--optimizer", "momentum", "--schedule", "cosine", "--dtype", "float64"],
        ["--optimizer", "adam", "--schedule", "one-cycle", "--activation", "tanh"],
        ["--optimizer", "rmsprop", "--batch-size", "full", "--hidden"],
        ["--optimizer", "adagrad", "--threads", "2", "--hidden", "5", "4"],
    ],
    ids=" ".join,
)
def test_a_resumed_training_equals_one_that_was_not_interrupted(
    npz: WriteNpz, tmp_path: Path, interrupt: Any, options: list[str]
) -> None:
    data, options = npz(x_test=None, y_test=None), ["--epochs", "5", *options]  # the seed draws the test set, too
    assert train(data, *options, "--out", str(tmp_path / "whole")) == 0
    interrupt(2)
    assert train(data, *options, "--out", str(tmp_path / "parts")) == 130
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    assert resume(tmp_path / "parts") == 0
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def test_more_epochs_equal_as_many_from_the_beginning(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, epochs in (("whole", "6"), ("parts", "2")):
        assert train(npz(), "--epochs", epochs, "--out", str(tmp_path / name)) == 0
    capsys.readouterr()
    assert resume(tmp_path / "parts", "--epochs", "6") == 0
    captured = capsys.readouterr()
    assert "batch 8, 6 epochs (2 done), seed 0" in captured.out
    assert captured.err.startswith("epoch 3/6: ")
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def test_resuming_a_finished_training_only_writes_its_files_anew(npz: WriteNpz, tmp_path: Path) -> None:
    assert train(npz(), "--out", str(tmp_path)) == 0
    before = result(tmp_path)
    for name in ("report.html", "history.csv", "model.safetensors"):
        (tmp_path / name).unlink()
    assert resume(tmp_path, "--threads", "1", "--quiet") == 0
    after = result(tmp_path)
    assert after["model"] == before["model"]
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "history.csv").exists()


def test_a_training_that_begins_anew_leaves_nothing_of_the_old_one_to_resume(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(npz(), "--out", str(tmp_path)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(ff.Checkpoint, "__call__", interrupted)
        assert train(npz(), "--out", str(tmp_path), "--seed", "1", "--overwrite") == 130
    capsys.readouterr()
    assert resume(tmp_path) == 2
    assert "which holds no checkpoint.safetensors; expected the folder of a train --out" in the_error(capsys)


# What cannot be resumed


@pytest.mark.parametrize(
    "options",
    [["--lr", "0.1"], ["--seed", "0"], ["--hidden"], ["--out", "there"], ["--data", "mnist"], ["--schedule", "none"]],
    ids=" ".join,
)
def test_other_options_beside_resume_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert resume(tmp_path, *options) == 2
    said = f"{options[0]} comes with --resume; expected only --epochs, --threads and --quiet there"
    assert said in the_error(capsys)


def test_a_folder_without_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resume(tmp_path / "none") == 2
    assert f"--resume is {str(tmp_path / 'none')!r}; expected a folder that train --out has made" in the_error(capsys)
    assert resume(tmp_path) == 2
    assert f"--resume is {str(tmp_path)!r}, which holds no settings.json" in the_error(capsys)


@pytest.fixture
def trained(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a short training."""
    assert train(npz(), "--out", str(tmp_path / "out")) == 0
    capsys.readouterr()
    return tmp_path / "out"


def test_fewer_epochs_than_are_done(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    assert resume(trained, "--epochs", "2") == 2
    assert f"--epochs is 2, and {str(trained)!r} has finished 3; expected at least as many" in the_error(capsys)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-40], "it is not what train --out has written"),
        (lambda text: "[]", "it is not what train --out has written"),
        (lambda text: text.replace('"settings"', '"others"'), "it is not what train --out has written"),
        (lambda text: text.replace('"crc32"', '"crc"'), "it is not what train --out has written"),
        (lambda text: text.replace('"lr": 0.15', '"lr": -1'), "argument --lr: got '-1'; expected a finite number"),
        (lambda text: text.replace('"lr": 0.15', '"lr": {}'), "argument --lr: got '{}'; expected a finite number"),
        (lambda text: text.replace('"lr"', '"rate"'), "it holds rate, which this version of fastfnn does not know"),
        (lambda text: text.replace('"lr"', '"out"'), "it holds out, which this version of fastfnn does not know"),
        (lambda text: text.replace('"sgd"', '"lbfgs"'), "lbfgs"),
    ],
)
def test_damaged_settings(trained: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str) -> None:
    file = trained / "settings.json"
    text = file.read_text()
    assert change(text) != text
    file.write_text(change(text))
    assert resume(trained) == 2
    error = the_error(capsys)
    assert f"--resume is {str(trained)!r}; its settings.json is damaged: " in error
    assert said in error


def test_settings_of_another_training(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "settings.json"
    file.write_text(file.read_text().replace('"sgd"', '"adam"'))
    assert resume(trained) == 2
    assert "optimizer is Adam, in the file SGD" in the_error(capsys)


def test_a_damaged_checkpoint(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    assert resume(trained) == 2
    assert "checkpoint.safetensors" in the_error(capsys)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (
            {"x_train": blobs(48)[0][:, :5], "x_test": blobs(30)[0][:, :5]},
            "x_train is float32 (48, 5), and was float32 (48, 6)",
        ),
        ({"x_train": blobs(48)[0].astype(np.float64)}, "x_train is float64 (48, 6), and was float32 (48, 6)"),
        ({"x_train": blobs(48, seed=9)[0]}, "x_train holds other numbers"),
        ({"y_test": blobs(30, seed=9)[1]}, "y_test holds other numbers"),
        ({"x_test": None, "y_test": None}, "x_train is float32 (43, 6), and was float32 (48, 6)"),
    ],
)
def test_data_that_have_changed(
    npz: WriteNpz, trained: Path, capsys: pytest.CaptureFixture[str], members: dict[str, Any], said: str
) -> None:
    npz(**members)
    assert resume(trained) == 2
    error = the_error(capsys)
    assert f"--resume is {str(trained)!r}, and the data are not those of its training: {said}" in error
