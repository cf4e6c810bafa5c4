"""``fastfnn evaluate`` and ``predict``: what they print and write; and what they and ``export`` refuse."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import (
    NAMES,
    WriteNpz,
    blobs,
    mlp,
    rows,
    run,
    said,
    saved,
    the_error,
    train,
    write_csv,
    write_image,
    write_npz,
)

import fastfnn as ff
from fastfnn import cli
from fastfnn.cli.trained import Trained

X, Y = blobs(48)
X_TEST, Y_TEST = blobs(30, seed=1)


# evaluate


def test_evaluate_prints_loss_accuracy_and_a_row_for_each_class(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = mlp()
    path, data = saved(tmp_path / "m.safetensors", model), npz()
    assert cli.main(["evaluate", path, "--data", data]) == 0
    loss, accuracy = ff.evaluate(model, X_TEST, Y_TEST, loss=ff.CrossEntropyLoss())
    guess = ff.predict(model, X_TEST)
    right = guess == Y_TEST
    lines = said(capsys).splitlines()
    assert lines[:5] == [
        f"model  {path}, 53 parameters, float32",
        "data   data.npz, test set: 30 samples, 6 float32",
        "",
        f"loss      {loss:.4f}",
        f"accuracy  {100 * accuracy:.2f} % ({right.sum()} of 30)",
    ]
    assert lines[6:8] == ["baseline  33.33 % (accuracy of always saying 0)", ""]
    assert lines[8].split() == ["class", "rows", "accuracy", "precision", "recall", "F1"]
    for k, line in enumerate(lines[9:]):
        of_class, taken = k == Y_TEST, guess == k
        hits = (of_class & taken).sum()
        precision = f"{hits / taken.sum():.4f}" if taken.any() else "-"
        f1 = f"{2 * hits / (of_class.sum() + taken.sum()):.4f}"
        assert line.split() == [str(k), "10", f"{10 * hits:.2f}", "%", precision, f"{hits / 10:.4f}", f1]


def test_evaluate_as_json(npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = mlp(4)
    path, data = saved(tmp_path / "m.safetensors", model), npz()
    assert cli.main(["evaluate", path, "--data", data, "--part", "train", "--json"]) == 0
    figures = json.loads(said(capsys), parse_constant=pytest.fail)
    result = ff.evaluate(model, X, Y, loss=ff.CrossEntropyLoss())
    assert (figures["model"], figures["data"], figures["part"]) == (path, data, "training set")
    assert (figures["rows"], figures["loss"]) == (48, result.loss)
    assert figures["accuracy"] == pytest.approx(result.accuracy)
    assert [(each["class"], each["rows"]) for each in figures["classes"]] == [("0", 16), ("1", 16), ("2", 16), ("3", 0)]
    assert figures["classes"][3]["accuracy"] is None
    by_class = [each["accuracy"] for each in figures["classes"][:3]]
    np.testing.assert_allclose(np.mean(by_class), result.accuracy)


def test_a_model_of_many_classes_has_no_table(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for outputs, shown in ((20, True), (21, False)):
        assert cli.main(["evaluate", saved(tmp_path / "m.safetensors", mlp(outputs)), "--data", npz()]) == 0
        assert ("class " in said(capsys)) is shown


def test_training_and_evaluation_agree(named: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, table = named
    results = json.loads(Path(folder, "history.json").read_text())["results"]
    for part, count in (("test", 5), ("train", 43)):  # drawn by the seed of the training
        assert cli.main(["evaluate", folder, "--data", table, "--part", part, "--json"]) == 0
        figures = json.loads(said(capsys))
        assert (figures["rows"], figures["loss"]) == (count, results[part]["loss"])
        assert figures["accuracy"] == pytest.approx(results[part]["accuracy"])
    assert cli.main(["evaluate", folder, "--data", table, "--part", "test", "--seed", "6", "--json"]) == 0
    assert json.loads(said(capsys))["loss"] != results["test"]["loss"]
    assert cli.main(["evaluate", folder, "--data", table]) == 0
    assert "table.csv, everything: 48 samples" in said(capsys)


def test_classes_keep_the_numbers_of_the_training(
    named: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = named
    some = Y_TEST != 1  # without "blue", which is number 0 of the model's
    table = write_csv(tmp_path / "some.csv", X_TEST[some], [NAMES[k] for k in Y_TEST[some]], "kind")
    assert cli.main(["evaluate", folder, "--data", table, "--json"]) == 0
    figures = json.loads(said(capsys))
    assert figures["accuracy"] == 1.0
    assert {each["class"]: each["rows"] for each in figures["classes"]} == {"blue": 0, "green": 10, "red": 10}


@pytest.mark.parametrize(
    ("labels", "right"), [(["0", "2"], [0, 2]), (["2", "2"], [2, 2]), (["1", "0", "2"], [1, 0, 2]), ("bca", [1, 2, 0])]
)
def test_a_model_without_names_takes_numbers_or_as_many_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: Any, right: list[int]
) -> None:
    model = mlp()
    table = write_csv(tmp_path / "table.csv", X[: len(labels)], labels)
    assert cli.main(["evaluate", saved(tmp_path / "m.safetensors", model), "--data", table, "--json"]) == 0
    expected = ff.evaluate(model, X[: len(labels)].astype(float), np.array(right), loss=ff.CrossEntropyLoss())
    assert json.loads(said(capsys))["loss"] == pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.parametrize("last", [(), (ff.LogSoftmax(),), (ff.Softmax(),), (ff.Softmax(), ff.Log())], ids=len)
def test_the_loss_is_the_cross_entropy_whatever_comes_last(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str], last: tuple[ff.Layer, ...]
) -> None:
    model = mlp(3, *last)
    assert cli.main(["evaluate", saved(tmp_path / "m.safetensors", model), "--data", npz(), "--json"]) == 0
    shares = ff.predict_proba(model, X_TEST).astype(float)
    expected = -np.log(shares[np.arange(30), Y_TEST]).mean()
    assert json.loads(said(capsys))["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("last", [(), (ff.Sigmoid(),)], ids=["logit", "probability"])
def test_a_binary_model(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str], last: tuple[ff.Layer, ...]
) -> None:
    model, y = mlp(1, *last), Y_TEST % 2
    path = saved(tmp_path / "m.safetensors", model)
    assert cli.main(["evaluate", path, "--data", npz(y_test=y), "--json"]) == 0
    figures, share = json.loads(said(capsys)), ff.predict_proba(model, X_TEST).astype(float)[:, 0]
    assert figures["loss"] == pytest.approx(-np.log(np.where(y == 1, share, 1 - share)).mean(), rel=1e-5)
    assert figures["accuracy"] == pytest.approx(((share > 0.5) == y).mean())

    np.save(tmp_path / "x.npy", X_TEST)
    assert cli.main(["predict", path, "--data", str(tmp_path / "x.npy"), "--proba"]) == 0
    header, *lines = rows(said(capsys))
    assert header == ["row", "label", "p_0", "p_1"]
    np.testing.assert_allclose(np.array(lines, float)[:, 2:], np.stack([1 - share, share], axis=1), atol=1e-6)


# predict


def test_predict_writes_a_table_to_stdout(named: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, table = named
    assert cli.main(["predict", folder, "--data", table, "--proba"]) == 0
    header, *lines = rows(said(capsys))
    assert header == ["row", "label", "p_blue", "p_green", "p_red"]
    model = ff.load(Path(folder, "model.safetensors"))
    labels, shares = ff.predict(model, X.astype(float)), ff.predict_proba(model, X.astype(float))
    assert [line[0] for line in lines] == [str(i) for i in range(48)]
    assert [line[1] for line in lines] == [sorted(NAMES)[k] for k in labels]
    assert (np.array([line[2:] for line in lines], np.float32) == shares).all()


def test_predict_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = mlp()
    path, out = saved(tmp_path / "m.safetensors", model), tmp_path / "out.npy"
    np.savez(tmp_path / "x.npz", x=X, y=Y)
    assert cli.main(["predict", path, "--data", str(tmp_path / "x.npz"), "--out", str(out)]) == 0
    assert said(capsys) == f"written: {out}, 48 rows\n"
    labels = np.load(out)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, ff.predict(model, X))
    assert cli.main(["predict", path, "--data", str(tmp_path / "x.npz"), "--out", str(out), "--proba"]) == 0
    np.testing.assert_array_equal(np.load(out), ff.predict_proba(model, X))
    capsys.readouterr()
    assert cli.main(["predict", path, "--data", str(tmp_path / "x.npz")]) == 0
    printed = said(capsys)
    assert cli.main(["predict", path, "--data", str(tmp_path / "x.npz"), "--out", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text() == printed
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.safetensors", "out.csv", "out.npy", "x.npz"]


def test_there_is_no_class_where_the_outputs_are_nan(
    named: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = X.astype(np.float64)
    large[[3, 40], :2] = 1e300  # infinite in the model's float32, where they cancel
    table, samples, out = write_csv(tmp_path / "large.csv", large, None), tmp_path / "x.npy", tmp_path / "out.npy"
    np.save(samples, large)
    expected = [sorted(NAMES)[k] for k in ff.predict(ff.load(Path(named[0], "model.safetensors")), X)]
    expected[3] = expected[40] = ""
    lines_are_known = importlib.util.find_spec("pandas") is not None
    of_table = "line 5, line 42" if lines_are_known else "row 3, row 40"
    for data, places in ((table, of_table), (str(samples), "row 3, row 40")):
        assert cli.main(["predict", named[0], "--data", data, "--proba"]) == 0
        captured = capsys.readouterr()
        assert len([line for line in captured.err.splitlines() if "compiling kernels" not in line]) == 1
        assert f"the outputs for 2 of 48 rows are NaN, and so is what is predicted there: {places}." in captured.err
        _, *lines = rows(captured.out)
        assert [line[1] for line in lines] == expected
        assert [row for row, line in enumerate(lines) if "nan" in line[2:]] == [3, 40]
    assert cli.main(["predict", named[0], "--data", str(samples), "--out", str(out)]) == 0
    assert np.flatnonzero(np.isnan(np.load(out))).tolist() == [3, 40]


@pytest.mark.parametrize(
    "members", [{"x": X, "x_test": X_TEST}, {"x_test": X, "x_train": X_TEST, "y_test": Y}, {"anything": X}]
)
def test_predict_finds_the_array(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], members: dict[str, np.ndarray]
) -> None:
    np.savez(tmp_path / "x.npz", **members)  # type: ignore[arg-type]
    assert cli.main(["predict", saved(tmp_path / "m.safetensors", mlp()), "--data", str(tmp_path / "x.npz")]) == 0
    assert [line[1] for line in rows(said(capsys))[1:]] == [str(k) for k in ff.predict(mlp(), X)]


@pytest.mark.parametrize(
    ("label", "options"), [(None, []), ("kind", []), ("target", []), ("colour", ["--label", "colour"])], ids=str
)
def test_predict_leaves_the_column_of_the_classes_out(
    named: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str | None, options: list[str]
) -> None:
    labels = None if label is None else ["whatever"] * len(X)
    table = write_csv(tmp_path / "new.csv", X, labels, label or "")
    assert cli.main(["predict", named[0], "--data", table, *options]) == 0
    assert [line[1] for line in rows(said(capsys))[1:]] == [NAMES[k] for k in Y]


def test_a_feature_may_be_called_y(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text("x,y\n1,2\n3,4\n")
    path = saved(tmp_path / "m.safetensors", mlp(features=2))
    assert cli.main(["predict", path, "--data", str(tmp_path / "table.csv")]) == 0
    expected = ff.predict(mlp(features=2), [[1.0, 2.0], [3.0, 4.0]])
    assert [line[1] for line in rows(said(capsys))[1:]] == [str(k) for k in expected]


def test_columns_are_found_by_their_names(
    named: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *lines = rows(Path(named[1]).read_text())
    shuffled = [["note", *header[::-1]], *(["text", *line[::-1]] for line in lines)]
    table = tmp_path / "shuffled.csv"
    table.write_text("".join(",".join(line) + "\n" for line in shuffled))
    assert cli.main(["predict", named[0], "--data", str(table)]) == 0
    assert [line[1] for line in rows(said(capsys))[1:]] == [NAMES[k] for k in Y]
    assert cli.main(["evaluate", named[0], "--data", str(table), "--json"]) == 0
    other = json.loads(said(capsys))
    assert cli.main(["evaluate", named[0], "--data", named[1], "--json"]) == 0
    assert other["loss"] == json.loads(said(capsys))["loss"]
    table.write_text(Path(named[1]).read_text().replace(f"{header[0]},", "other,", 1))
    assert cli.main(["predict", named[0], "--data", str(table)]) == 2
    assert f"it has no column {header[0]!r}; expected those of the training: " in the_error(capsys)


def test_head_may_read_the_first_lines_only(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((50_000, 6), np.float32))
    path = saved(tmp_path / "m.safetensors", mlp())
    code = (
        "import subprocess, sys; command = [sys.executable, '-m', 'fastfnn', 'predict', *sys.argv[1:]]\n"
        "with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:\n"
        "    print(process.stdout.readline()); process.stdout.close(); print(process.stderr.read().decode())\n"
        "sys.exit(process.returncode)"
    )
    done = run("-c", code, path, "--data", str(tmp_path / "x.npy"), "--threads", "1")
    assert done.returncode == 1
    assert "row,label" in done.stdout
    assert "Error" not in done.stdout


# What is refused


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("none", "there is no such file; expected the folder of train --out, or a file that ff.save wrote"),
        (".", "it holds no model.safetensors; expected the folder of train --out"),
        ("text", "text is no readable safetensors file"),
        ("features", "expected a model that ends with an output for each class"),
    ],
)
def test_bad_models(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, model: str, error: str) -> None:
    (tmp_path / "text").write_text("no model")
    saved(tmp_path / "features", ff.Sequential(ff.Conv2d(1, 2, 3), ff.ReLU()))
    needed = ["--onnx", "m.onnx"] if command == "export" else ["--data", "x.npz"]
    assert cli.main([command, str(tmp_path / model), *needed]) == 2
    text = the_error(capsys)
    assert error in text
    assert "MODEL" in text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "is not what train --out has written"),
        ("[]", "is not what train --out has written"),
        ('{"class_names": [1, 2, 3]}', "is not what train --out has written"),
        ('{"settings": {"size": "large"}}', "is not what train --out has written"),
        ('{"class_names": ["a", "b"]}', "names 2 classes; expected 3, as the model has"),
    ],
)
def test_damaged_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, error: str) -> None:
    saved(tmp_path / "model.safetensors", mlp())
    (tmp_path / "settings.json").write_text(text)
    assert cli.main(["predict", str(tmp_path), "--data", "x.npy"]) == 2
    assert f"{tmp_path / 'settings.json'} {error}" in the_error(capsys)


def test_class_names_are_found_beside_the_file_too(named: tuple[str, str], tmp_path: Path) -> None:
    folder = Path(named[0])
    assert Trained.read(str(folder / "model.safetensors")).class_names == ("blue", "green", "red")
    assert Trained.read(str(folder / "checkpoint.safetensors")).class_names == ("blue", "green", "red")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert Trained.read(str(folder / "other.safetensors")).class_names is None


def test_the_model_of_an_older_training_is_not_taken_for_that_of_one_that_did_not_end(
    named: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, table = named

    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fastfnn.cli.train.outputs.write", interrupted)
        assert train(table, "--label", "kind", "--epochs", "2", "--seed", "6", "--out", folder, "--overwrite") == 130
    capsys.readouterr()
    assert cli.main(["evaluate", folder, "--data", table]) == 2
    assert "a later training did not end" in the_error(capsys)
    assert cli.main(["evaluate", f"{folder}/checkpoint.safetensors", "--data", table]) == 0
    assert cli.main(["train", "--resume", folder, "--quiet"]) == 0
    assert cli.main(["evaluate", folder, "--data", table]) == 0


def test_bad_data_for_evaluate(named: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, table = named
    unknown = write_csv(tmp_path / "unknown.csv", X[:2], ["red", "pink"], "kind")
    other = write_csv(tmp_path / "other.csv", X[:, :4], [NAMES[k] for k in Y], "kind")
    path = saved(tmp_path / "m.safetensors", mlp(2))
    for model, data, options, error in [
        (folder, unknown, [], "it has the class 'pink'; expected those of MODEL: blue, green, red"),
        (folder, other, [], "it has no column 'e'; expected those of the training: a, b, c, d, e, f"),
        (folder, table, ["--label", "class"], "--label is 'class'; expected one of the columns"),
        (
            folder,
            write_npz(tmp_path / "labels.npz", y_test=Y_TEST + 3),
            [],
            "it holds the label 5; expected 0 to 2, as MODEL has",
        ),
        (
            path,
            write_npz(tmp_path / "narrow.npz", x_test=X_TEST[:, :5]),
            [],
            "its samples have shape 5, which MODEL does not take: Linear",
        ),
        (path, table, ["--label", "kind"], "it has 3 classes (blue, green, red); expected the 2 of MODEL"),
    ]:
        assert cli.main(["evaluate", model, "--data", data, *options]) == 2
        assert error in the_error(capsys)


def test_bad_data_for_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "m.safetensors", mlp())
    write_image(tmp_path / "image.png", np.zeros((2, 4), np.uint8))
    write_csv(tmp_path / "table.csv", X, ["text"] * 48, "name")
    write_csv(tmp_path / "wide.csv", X, Y, "number")
    np.savez(tmp_path / "two.npz", a=X, b=X)
    np.save(tmp_path / "row.npy", X[0])
    np.save(tmp_path / "texts.npy", X.astype(str))
    np.save(tmp_path / "nan.npy", X * np.nan)
    (tmp_path / "x.npy").write_text("text")
    (tmp_path / "x.txt").write_text("text")
    (tmp_path / "folder").mkdir()
    for data, options, error in [
        ("none.npy", [], "there is no such file or folder"),
        ("x.npy", [], "expected a .npy file, as numpy.save writes it"),
        ("x.txt", [], "expected a .npy, .npz or .csv file, another table, an image, or a folder of images"),
        ("folder", [], "it holds no images (.png, "),
        ("two.npz", [], "it holds a, b; expected x, x_test or one array only"),
        ("row.npy", [], "row.npy has shape (6,); expected (n, ...)"),
        ("texts.npy", [], "texts.npy has dtype <U"),
        ("nan.npy", [], "nan.npy holds nan in row 0; expected finite numbers"),
        ("image.png", [], "its samples have shape 2x4, which MODEL does not take"),
        ("table.csv", [], "its line 2 holds 'text' in column 'name'"),
        ("wide.csv", [], "its samples have shape 7, which MODEL does not take: Linear"),
        ("wide.csv", [], "expected (6,) (--label COLUMN leaves one out)"),
        ("table.csv", ["--label", "f"], "its line 2 holds 'text' in column 'name'"),
        ("table.csv", ["--size", "2x3"], "--size is 2x3; expected only where --data is a folder of images"),
        ("row.npy", ["--label", "a"], "--label is 'a'; expected only where --data is a .csv file"),
        ("x.npy", ["--out", str(tmp_path / "x.txt")], "x.txt'; expected a .csv or .npy file"),
        ("x.npy", ["--out", str(tmp_path / "none" / "x.csv")], "there is no folder"),
    ]:
        assert cli.main(["predict", path, "--data", str(tmp_path / data), *options]) == 2
        assert error in the_error(capsys)
