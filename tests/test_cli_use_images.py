"""``fastfnn predict`` and ``evaluate`` on images: what they become, and what is said of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from _cli import rows, said, saved, the_error, train, write_image

import fastfnn as ff
from fastfnn import cli


def test_predict_names_images_and_makes_them_what_the_model_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 6, 8), dtype=np.uint8)
    coloured = np.repeat(x[1][None], 3, axis=0)
    write_image(tmp_path / "new" / "b" / "grey.png", x[0])
    write_image(tmp_path / "new" / "a, b.png", coloured, "RGB")
    write_image(tmp_path / "new" / ".hidden" / "c.png", x[2])
    grey = ff.models.small_cnn(3, 1, (6, 8), seed=1)
    path = saved(tmp_path / "m.safetensors", grey)
    assert cli.main(["predict", path, "--data", str(tmp_path / "new")]) == 0
    a, b = ff.predict(grey, x[[1, 0]])
    assert rows(said(capsys)) == [["file", "label"], ["a, b.png", str(a)], ["b/grey.png", str(b)]]

    colour = ff.models.small_cnn(3, 3, (6, 8), seed=1)
    path = saved(tmp_path / "m.safetensors", colour)
    assert cli.main(["predict", path, "--data", str(tmp_path / "new" / "a, b.png")]) == 0
    assert rows(said(capsys)) == [["file", "label"], ["a, b.png", str(ff.predict(colour, coloured[None])[0])]]


def test_images_are_resized_as_in_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(0, 60, (10, 11), dtype=np.uint8) + 150 * (i % 2)
        write_image(tmp_path / "set" / ("light" if i % 2 else "dark") / f"{i}.png", image.astype(np.uint8))
    folder, data = str(tmp_path / "trained"), str(tmp_path / "set")
    assert train(data, "--size", "5x6", "--epochs", "20", "--quiet", "--out", folder) == 0
    capsys.readouterr()
    assert cli.main(["predict", folder, "--data", data]) == 0
    assert all(name.startswith(f"{label}/") for name, label in rows(said(capsys))[1:])
    assert cli.main(["evaluate", folder, "--data", data, "--json"]) == 0
    assert json.loads(said(capsys))["accuracy"] == 1.0


def test_images_of_other_sizes_become_those_of_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(20):
        image = (rng.integers(0, 60, (3, 8, 9)) + 150 * (i % 2)).astype(np.uint8)
        write_image(tmp_path / "set" / ("light" if i % 2 else "dark") / f"{i}.png", image, "RGB")
    folder = str(tmp_path / "trained")
    assert cli.main(["train", "--data", str(tmp_path / "set"), "--epochs", "20", "--out", folder]) == 0
    assert "\nmodel  small-cnn, " in said(capsys)  # they are in colour
    write_image(tmp_path / "new" / "a.png", np.full((30, 40), 190, np.uint8))
    write_image(tmp_path / "new" / "b.png", np.full((3, 8, 9), 30, np.uint8), "RGB")
    (tmp_path / "new" / "c.png").write_text("no image")
    assert cli.main(["predict", folder, "--data", str(tmp_path / "new")]) == 0
    captured = capsys.readouterr()
    assert rows(captured.out) == [["file", "label"], ["a.png", "light"], ["b.png", "dark"]]
    assert "c.png cannot be read: it is no image, or damaged; it is left out" in captured.err
    assert "note: 1 of 2 images was resized to 8x9, as in training" in captured.err
    assert cli.main(["predict", folder, "--data", str(tmp_path / "new"), "--strict"]) == 2
    assert "c.png cannot be read" in the_error(capsys)


def test_an_option_of_an_mlp_makes_it_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(8):
        write_image(tmp_path / "ab"[i % 2] / f"{i}.png", np.full((3, 8, 9), 30 * i, np.uint8), "RGB")
    for options in (["--hidden", "5"], ["--activation", "tanh"], ["--dropout", "0.5"], ["--model", "mlp"]):
        assert cli.main(["train", "--data", str(tmp_path), "--epochs", "1", *options]) == 0
        assert "\nmodel  216-" in said(capsys)
