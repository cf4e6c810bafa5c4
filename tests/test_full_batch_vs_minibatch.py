"""The script that repeats the exercise: its figures against plain NumPy, and the files that it writes."""

from __future__ import annotations

import importlib
import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastfnn as ff

Array = NDArray[Any]
EPOCHS, SEED = 2, 3


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The script as a module, with its folder on the path as when it is run."""
    folder = str(Path(__file__).resolve().parent.parent / "bench")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("full_batch_vs_minibatch")
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def data(script: Any) -> Any:
    (x, y), (x_test, y_test) = ff.data.load_mnist_sample()
    return script.named("A few digits", ((x[:300], y[:300]), (x_test[:100], y_test[:100])))


@pytest.fixture(scope="module")
def results(script: Any, data: Any) -> dict[str, Any]:
    return script.run_all(data, EPOCHS, SEED)


# Against NumPy ----------------------------------------------------------------------------------------------------


def exercise_in_numpy(
    x: Array, y: Array, w1: Array, w2: Array, *, lr: float, epochs: int, sigmoid: bool, epsilon: float | None
) -> list[float]:
    """Full-batch training as the exercise does it: the mean loss before each update with the gradient of the sum."""
    w1, w2 = w1.copy(), w2.copy()
    label = np.eye(10)[y]
    losses = []
    for _ in range(epochs):
        a = x @ w1
        h = 1 / (1 + np.exp(-a)) if sigmoid else np.maximum(a, 0)
        z = h @ w2
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        if epsilon is None:
            loss = np.log(e.sum(axis=1)) + z.max(axis=1) - (z * label).sum(axis=1)
            grad_z = p - label
        else:
            loss = -np.log((p * label).sum(axis=1) + epsilon)
            grad_p = -label / (p + epsilon)
            grad_z = p * (grad_p - (grad_p * p).sum(axis=1, keepdims=True))
        losses.append(loss.mean())
        grad_a = grad_z @ w2.T * (h * (1 - h) if sigmoid else h > 0)
        w2 -= lr * h.T @ grad_z
        w1 -= lr * x.T @ grad_a
    return losses


@pytest.mark.parametrize("kind", ["with epsilon", "without epsilon", "bias vector"])
@pytest.mark.parametrize("which", [0, 2])
def test_the_first_epochs_of_the_exercise_are_those_of_numpy(script: Any, which: int, kind: str) -> None:
    (x, y), (x_test, y_test) = ff.data.load_mnist_sample()
    part = script.named("part", ((x[:1000], y[:1000]), (x_test[:50], y_test[:50])))
    # A sum over a sixtieth of the images: sixty times the rate makes steps of the exercise's size.
    exercise = script.EXERCISES[which]._replace(lr=60 * script.EXERCISES[which].lr)
    weights = script.exercise_weights(SEED)
    vector = kind == "bias vector"
    model, loss = script.exercise_model(exercise, weights, epsilon=kind != "without epsilon", bias_vector=vector)
    used = part if vector else script.with_ones(part)
    run = script.train("run", model, loss, ff.SGD(lr=exercise.lr), used, None, 6, SEED)

    ones = np.concatenate([x[:1000].reshape(1000, 784) / 255, np.ones((1000, 1))], axis=1)
    epsilon = None if kind == "without epsilon" else 1e-12
    sigmoid = exercise.hidden is ff.Sigmoid
    expected = exercise_in_numpy(ones, y[:1000], *weights, lr=exercise.lr, epochs=6, sigmoid=sigmoid, epsilon=epsilon)
    assert abs(expected[-1] / expected[0] - 1) > 0.05  # it moves
    np.testing.assert_allclose(run.loss, expected, rtol=1e-4)


def test_the_exercise_measures_a_minibatch_run_while_it_learns(script: Any, data: Any) -> None:
    exercise = script.EXERCISES[3]
    model, loss = script.exercise_model(exercise, script.exercise_weights(SEED), epsilon=True)
    ones = script.with_ones(data)
    still = script.train("still", model, loss, ff.SGD(lr=0.0), ones, 64, 2, SEED)
    evaluated = ff.evaluate(model, ones.x_train, ones.y_train, loss=loss)
    assert still.updates == 2 * math.ceil(300 / 64)
    np.testing.assert_allclose(still.loss, evaluated.loss / 300, rtol=1e-5)
    moving = script.train("moving", model, loss, ff.SGD(lr=1e-3), ones, 64, 2, SEED)
    after = ff.evaluate(model, ones.x_train, ones.y_train, loss=loss).loss / 300
    assert moving.train_after[0] == pytest.approx(after) and after < moving.loss[-1] < still.loss[0]


@pytest.mark.parametrize("which", [0, 3])
def test_the_column_of_ones_is_one_after_scaling(script: Any, data: Any, which: int) -> None:
    model, _ = script.exercise_model(script.EXERCISES[which], script.exercise_weights(SEED), epsilon=True)
    ones = script.with_ones(data)
    assert ones.x_train.dtype == np.uint8 and ones.x_train.shape == (300, 785)
    scaled = model.layers[1].forward(model.layers[0].forward(ones.x_train))
    np.testing.assert_allclose(scaled[:, -1], 1, rtol=1e-6)
    pixels = data.x_train.reshape(300, 784) / 255
    expected = (pixels - 0.1307) / 0.3081 if which == 3 else pixels
    np.testing.assert_allclose(scaled[:, :-1], expected, rtol=1e-5, atol=1e-6)


# What comes out ---------------------------------------------------------------------------------------------------


def test_every_run_has_a_figure_for_every_epoch(script: Any, results: dict[str, Any]) -> None:
    exercise = results["exercise"]
    assert {kind: len(runs) for kind, runs in exercise.items()} == {
        "with epsilon": 4,
        "without epsilon": 4,
        "bias vector": 1,
    }
    assert len(results["sensible"]) == len(script.SENSIBLE)
    for run in [run for runs in exercise.values() for run in runs] + results["sensible"]:
        for curve in (run.loss, run.accuracy, run.test_loss, run.test_accuracy, run.seconds):
            assert len(curve) == EPOCHS and np.isfinite(curve).all(), run.title
        assert run.updates == (EPOCHS if run.settings["batch_size"] is None else EPOCHS * math.ceil(300 / 64))
        assert run.stopped is None and run.samples_per_second > 0


def test_a_column_of_ones_and_a_bias_vector_are_the_same_network(results: dict[str, Any]) -> None:
    column, vector = results["exercise"]["with epsilon"][0], results["exercise"]["bias vector"][0]
    assert "in_features=785, out_features=100, bias=False" in column.settings["layers"]
    assert "in_features=784, out_features=100)" in vector.settings["layers"]
    np.testing.assert_allclose(column.loss, vector.loss, rtol=1e-5)
    np.testing.assert_allclose(column.test_loss, vector.test_loss, rtol=1e-5)


def test_json_and_markdown_hold_settings_figures_and_the_machine(
    script: Any, results: dict[str, Any], tmp_path: Path
) -> None:
    json_file, markdown_file = script.save(results, tmp_path / "new" / "folder", "name")[:2]
    written = json.loads(json_file.read_text(encoding="utf-8"))
    assert {"data", "epochs", "seed", "cpu", "cores", "versions", "commit", "fastfnn"} <= written["about"].keys()
    full = written["exercise"]["with epsilon"][0]
    assert full["printed"]["epoch 0"] == [24.12, 0.105] and full["printed"]["test"] == [3.48, 0.819]
    assert full["settings"]["loss"] == "NLLLoss(reduction='sum')" and full["settings"]["batch_size"] is None
    assert full["loss"] == results["exercise"]["with epsilon"][0].loss
    assert str(tmp_path) not in json_file.read_text(encoding="utf-8")

    text = markdown_file.read_text(encoding="utf-8")
    for run in [run for runs in results["exercise"].values() for run in runs] + results["sensible"]:
        assert f"| {run.title} " in text
    assert "24.12 / 0.105" in text and "3.48 / 0.819" in text
    assert "Not comparable" in text  # two epochs of 300 images
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6, 10}


def test_the_picture_is_written(script: Any, results: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = script.save(results, tmp_path)[2]
    content = picture.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and width > 1000 and height > 800


def test_without_matplotlib_the_tables_are_written_and_it_says_so(
    script: Any,
    results: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    paths = script.save(results, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert [path.suffix for path in paths] == [".json", ".md"]
    assert "matplotlib is missing" in capsys.readouterr().out


def test_a_run_that_diverges_is_reported_and_its_good_epochs_are_kept(
    script: Any, data: Any, results: dict[str, Any], tmp_path: Path
) -> None:
    model = script.sensible_model(SEED)
    with np.errstate(all="ignore"):
        run = script.train("too fast", model, ff.CrossEntropyLoss(), ff.SGD(lr=1e30), data, None, 9, SEED)
    assert run.stopped is not None and "epoch" in run.stopped
    assert len(run.loss) < 9 and np.isfinite(run.loss).all()
    script.save({**results, "sensible": [*results["sensible"][:3], run]}, tmp_path)
    written = json.loads((tmp_path / "full_batch_vs_minibatch.json").read_text(encoding="utf-8"))
    assert written["sensible"][3]["stopped"] == run.stopped
    assert "too fast" in (tmp_path / "full_batch_vs_minibatch.md").read_text(encoding="utf-8")


# The command ------------------------------------------------------------------------------------------------------


def test_a_folder_without_mnist_is_an_error_of_one_line(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--data-root", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "train-images-idx3-ubyte" in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--seed", "-1"], ["--epochs", "many"]])
def test_senseless_numbers_are_refused(script: Any, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main(arguments)
    assert caught.value.code == 2


def write_idx(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        images = struct.pack(">4B3I", 0, 0, 8, 3, rows, 28, 28) + bytes(rows * 784)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, rows) + bytes(rows))


def test_data_come_from_the_first_place_that_has_them(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path / "project")
    monkeypatch.setenv("FASTFNN_DATA_DIR", str(tmp_path / "user"))
    monkeypatch.delenv("FASTFNN_MNIST", raising=False)
    assert len(script.load_data().x_train) == 10_000
    assert "embedded sample" in capsys.readouterr().out

    write_idx(tmp_path / "configured", 4)
    monkeypatch.setenv("FASTFNN_MNIST", str(tmp_path / "configured"))
    assert len(script.load_data().x_train) == 4
    write_idx(tmp_path / "shared" / "data" / "mnist", 3)
    assert len(script.load_data().x_train) == 3
    write_idx(tmp_path / "given", 2)
    assert len(script.load_data(tmp_path / "given").x_train) == 2
    assert "sample" not in capsys.readouterr().out
