"""``train``, ``evaluate``, ``predict`` and ``export`` on tables as people have them, and on numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import said, the_error
from test_cli_tables import people, written

import fastfnn as ff
from fastfnn import cli, tables
from fastfnn.cli.trained import Trained

pd: Any = pytest.importorskip("pandas")


def train(data: Path | str, *options: str) -> int:
    return cli.main(["train", "--data", str(data), "--quiet", *options])


def figures(model: Path, data: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main(["evaluate", str(model), "--data", str(data), "--json", *options]) == 0
    return json.loads(said(capsys), parse_constant=pytest.fail)


def predictions(model: Path, data: Path, *options: str) -> np.ndarray:
    out = data.parent / "predicted.csv"
    assert cli.main(["predict", str(model), "--data", str(data), "--out", str(out), *options]) == 0
    return pd.read_csv(out).iloc[:, 1].to_numpy()


@pytest.fixture
def status(tmp_path: Path) -> Path:
    """The folder of a training on people."""
    data = written(tmp_path, people())
    assert train(data, "--label", "Status", "--epochs", "30", "--out", str(tmp_path / "status")) == 0
    return tmp_path / "status"


@pytest.fixture
def price(tmp_path: Path) -> Path:
    """The folder of a training on numbers."""
    data = written(tmp_path, people().drop(columns="Status"))
    assert train(data, "--label", "price", "--out", str(tmp_path / "price")) == 0
    return tmp_path / "price"


# Classes


def test_what_was_made_of_the_columns_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path, people())
    assert cli.main(["train", "--data", str(data), "--label", "Status", "--epochs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("column"))
    shown = [re.split("  +", line) for line in lines[start : start + 6]]
    assert shown[0] == ["column", "read as", "numbers", "what the network gets"]
    assert [row[:3] for row in shown[1:]] == [
        ["Größe (cm)", "number", "2"],
        ["Stadt", "text", "3"],
        ["since", "date", "1"],
        ["member", "boolean", "1"],
        ["price", "number", "1"],
    ]
    assert shown[1][3].startswith("as it is; a gap becomes ")
    assert shown[3][3] == "days since 1970-01-01, written year-month-day"


def test_it_is_done_again_by_evaluate_and_predict(
    status: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = people(200, seed=1)
    data = written(tmp_path, new[new.columns[::-1]].assign(more="words"), "new.csv", sep=";")
    assert figures(status, data, capsys)["accuracy"] > 0.9
    assert (predictions(status, data) == new["Status"]).mean() > 0.9
    results = json.loads((status / "history.json").read_text())["results"]
    assert figures(status, tmp_path / "table.csv", capsys, "--part", "test")["loss"] == results["test"]["loss"]
    without = written(tmp_path, new.drop(columns="Status"), "without.csv")
    np.testing.assert_array_equal(predictions(status, without), predictions(status, data))


def test_the_scores_are_scikit_learns(status: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    new = people(200, seed=1)
    data = written(tmp_path, new, "new.csv")
    found, guess = figures(status, data, capsys), predictions(status, data)
    macro = metrics.precision_recall_fscore_support(new["Status"], guess, average="macro")
    np.testing.assert_allclose([found[name] for name in ("precision", "recall", "f1")], macro[:3], rtol=1e-12)
    each = metrics.precision_recall_fscore_support(new["Status"], guess)
    for k, by_class in enumerate(found["classes"]):
        np.testing.assert_allclose([by_class[name] for name in ("precision", "recall", "f1")], [m[k] for m in each[:3]])
    assert found["baseline"] == pytest.approx((new["Status"] == "neu").mean())
    assert found["most_frequent"] == "neu"


def test_settings_are_plain_data_and_damaged_ones_are_refused(status: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = status / "settings.json"
    text = file.read_text()
    assert Trained.read(str(status)).columns[1].values == ("Basel", "Köln", "Łódź")  # type: ignore[index]
    for old, new in (
        ('"kind": "text"', '"kind": "code"'),
        ('"gaps": true', '"gaps": 1'),
        ('"columns": [', '"columns": [1, '),
    ):
        assert old in text
        file.write_text(text.replace(old, new))
        capsys.readouterr()
        assert cli.main(["predict", str(status), "--data", "table.csv"]) == 2
        assert "settings.json is not what train --out has written" in the_error(capsys)


def test_a_training_with_tables_resumes(status: Path, tmp_path: Path) -> None:
    data = tmp_path / "table.csv"
    assert train(data, "--label", "Status", "--epochs", "12", "--out", str(tmp_path / "parts")) == 0
    assert cli.main(["train", "--resume", str(tmp_path / "parts"), "--epochs", "30", "--quiet"]) == 0
    for name in ("model.safetensors", "settings.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (status / name).read_bytes()


def test_without_pandas_it_is_said_what_is_needed(
    status: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastfnn.tables.has_pandas", lambda: False)
    data = str(tmp_path / "table.csv")
    capsys.readouterr()
    for argv, error in (
        (["train", "--data", data, "--label", "Status"], "in column "),
        (["train", "--data", data, "--label", "Status", "--encoding", "cp1252"], "--encoding is 'cp1252'"),
        (["train", "--data", str(written(tmp_path, people(9), "t.csv.gz"))], "expected a .csv file"),
        (["evaluate", str(status), "--data", data], "MODEL was trained with the column 'Größe (cm)' as number"),
    ):
        assert cli.main(argv) == 2
        message = the_error(capsys)
        assert error in message
        assert 'pip install "fastfnn[tables]"' in message


def test_a_finished_training_is_not_overwritten_unasked(
    status: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in status.iterdir()}
    capsys.readouterr()
    options = ["--label", "Status", "--epochs", "2", "--out", str(status)]
    assert train(tmp_path / "table.csv", *options) == 2
    assert f"--out is {str(status)!r}, which holds a finished training; expected another folder" in the_error(capsys)
    assert {file.name: file.read_bytes() for file in status.iterdir()} == before
    assert train(tmp_path / "table.csv", *options, "--overwrite") == 0
    assert (status / "model.safetensors").read_bytes() != before["model.safetensors"]


# Options


def test_balanced_classes_find_the_rare_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(2000) % 20 == 0).astype(int)
    data = written(
        tmp_path, pd.DataFrame(rng.normal(size=(2000, 4)) + y[:, None], columns=list("abcd")).assign(label=y)
    )
    recalls = []
    for name, options in (("plain", []), ("balanced", ["--class-weight", "balanced"])):
        assert train(data, "--epochs", "15", *options, "--out", str(tmp_path / name)) == 0
        recalls.append(figures(tmp_path / name, data, capsys)["classes"][1]["recall"])
    assert recalls[1] > recalls[0] + 0.1


def test_early_stopping_holds_out_what_it_looks_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 5)), columns=list("abcde")).assign(label=rng.choice(["x", "y"], 200))
    options = ["--label", "label", "--epochs", "200", "--early-stopping", "3", "--out", str(tmp_path / "run")]
    assert cli.main(["train", "--data", str(written(tmp_path, frame)), *options]) == 0
    out = capsys.readouterr().out
    assert "162 training, 18 validation and 20 held-out test samples" in out
    losses = json.loads((tmp_path / "run" / "history.json").read_text())["history"]["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 200
    assert f"ended after epoch {len(losses)}: the validation loss was best in epoch {best + 1}, which is kept" in out
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_validation_data_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, other = written(tmp_path, people()), written(tmp_path, people(70, seed=1), "other.csv", sep=";")
    options = ["--label", "Status", "--epochs", "3", "--validation", str(other), "--out", str(tmp_path / "run")]
    assert cli.main(["train", "--data", str(data), *options]) == 0
    out = capsys.readouterr().out
    assert "300 training and 70 validation samples" in out
    accuracy = float(re.search(r"^validation accuracy (.*) %", out, re.M)[1])  # type: ignore[index]
    assert figures(tmp_path / "run", other, capsys)["accuracy"] == pytest.approx(accuracy / 100, abs=1e-4)
    assert cli.main(["evaluate", str(tmp_path / "run"), "--data", str(data), "--part", "test"]) == 2
    assert f"held nothing of its data out; expected --data {other}" in the_error(capsys)
    for frame, error in (
        (people(9).drop(columns="Stadt"), f"--validation is {str(other)!r}; it has no column 'Stadt'"),
        (people(9).replace("neu", "alt"), "it has the class 'alt'; expected those of --data: neu, treu"),
    ):
        written(tmp_path, frame, "other.csv")
        assert train(data, *options[:-2]) == 2
        assert error in the_error(capsys)


def test_dropout_is_of_an_mlp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path, people())
    options = ["--label", "Status", "--epochs", "2", "--dropout", "0.25"]
    assert train(data, *options, "--out", str(tmp_path / "run")) == 0
    dropped = [
        layer.p for layer in ff.load(tmp_path / "run" / "model.safetensors").layers if isinstance(layer, ff.Dropout)
    ]
    assert dropped == [0.25]
    capsys.readouterr()
    assert train(data, *options, "--model", "small-cnn") == 2
    assert "--dropout is 0.25; expected only with --model mlp" in the_error(capsys)
    assert train(data, "--dropout", "1") == 2
    assert "--dropout: got '1'; expected a number from 0 to below 1" in the_error(capsys)


# Numbers


def test_numbers_are_predicted_in_their_own_units(
    price: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = people(200, seed=1).drop(columns="Status")
    new["Größe (cm)"] = new["Größe (cm)"].fillna(0)
    new["price"] = 250_000 + 40_000 * new["Größe (cm)"] + 20_000 * (new["Stadt"] == "Basel")
    data = written(tmp_path, new, "new.csv")
    guess, found = predictions(price, data), figures(price, data, capsys)
    metrics = pytest.importorskip("sklearn.metrics")
    assert found["r2"] == pytest.approx(metrics.r2_score(new["price"], guess), rel=1e-4)
    assert found["r2"] > 0.9
    assert found["mean_absolute_error"] == pytest.approx(metrics.mean_absolute_error(new["price"], guess), rel=1e-4)
    squared = metrics.mean_squared_error(new["price"], guess)
    assert found["root_mean_squared_error"] == pytest.approx(squared**0.5, rel=1e-4)
    model = ff.load(price / "model.safetensors")  # whoever has the file alone gets the same numbers
    columns = Trained.read(str(price)).columns
    assert columns is not None
    x = tables.apply(tables.read(data, "new.csv", lambda header: None, columns), columns)
    np.testing.assert_allclose(ff.predict_raw(model, x)[:, 0], guess, rtol=1e-5)


def test_the_checkpoint_gives_the_same_numbers(price: Path, tmp_path: Path) -> None:
    data = tmp_path / "table.csv"
    np.testing.assert_allclose(
        predictions(price / "checkpoint.safetensors", data), predictions(price / "model.safetensors", data), rtol=1e-6
    )


def test_it_is_said_that_numbers_are_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path, people())
    assert (
        cli.main(["train", "--data", str(data), "--label", "price", "--epochs", "2", "--out", str(tmp_path / "run")])
        == 0
    )
    captured = capsys.readouterr()
    assert "note: --label price holds many numbers, so the network learns to predict a number" in captured.err
    assert "the number 'price'\n" in captured.out
    assert re.search(r"^test R² -?\d\.\d{4}, mean absolute error [\d,]+$", captured.out.splitlines()[-1])
    results = json.loads((tmp_path / "run" / "history.json").read_text())["results"]
    assert results["scores"]["test"].keys() == {"r2", "mean_absolute_error", "root_mean_squared_error", "baseline"}
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    for words in ("R²", "mean absolute error", "Stadt", "text: 0 or 1 for each of 3 values"):
        assert words in page
    assert "accuracy" not in page
    assert (
        cli.main(["train", "--data", str(data), "--label", "price", "--epochs", "1", "--task", "classification"]) == 0
    )
    captured = capsys.readouterr()
    assert "has 300 different values in 300 rows, and each is a class; --task regression predicts" in captured.err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--class-weight", "balanced"], "--class-weight is 'balanced'; expected only with classes, not"),
        (["--model", "small-cnn"], "--model small-cnn expects"),
    ],
)
def test_what_does_not_go_with_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], error: str
) -> None:
    data = written(tmp_path, people())
    assert train(data, "--label", "price", "--task", "regression", *options) == 2
    assert error in the_error(capsys)


def test_bad_numbers_and_options_for_a_regression(
    price: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    data = written(tmp_path, people(5).assign(price=["1", "2", "much", "4", "5"]), "bad.csv")
    assert cli.main(["evaluate", str(price), "--data", str(data)]) == 2
    assert "its line 4 holds 'much' in column 'price'; expected a finite number, as MODEL predicts" in the_error(capsys)
    assert cli.main(["predict", str(price), "--data", str(data), "--proba"]) == 2
    assert "--proba is given; expected only with a model of classes" in the_error(capsys)
    data = written(tmp_path, people(50).assign(price=7.5), "constant.csv")
    assert train(data, "--label", "price") == 2
    assert "its column 'price' is 7.5 in every row of the training" in the_error(capsys)


# Export


def test_the_columns_are_in_the_onnx_file(status: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    capsys.readouterr()
    target = tmp_path / "model.onnx"
    assert cli.main(["export", str(status), "--onnx", str(target)]) == 0
    out = said(capsys)
    assert '\n  Stadt: string, "" for a gap\n  since: double, days since 1970-01-01, NaN for a gap\n' in out
    new = people(50, seed=1)
    new.loc[3, "Stadt"], new.loc[4, "Stadt"] = "Wien", None
    data = written(tmp_path, new, "new.csv")
    days = (pd.to_datetime(new["since"]) - pd.Timestamp(0)) / pd.Timedelta(days=1)
    columns = {"Größe (cm)": new["Größe (cm)"], "since": days, "member": new["member"], "price": new["price"]}
    feed = {name: column.to_numpy(np.float64)[:, None] for name, column in columns.items()}
    feed["Stadt"] = new["Stadt"].fillna("").to_numpy(object)[:, None]
    (logits,) = runtime.InferenceSession(str(target)).run(None, feed)
    out = tmp_path / "shares.npy"
    assert cli.main(["predict", str(status), "--data", str(data), "--proba", "--out", str(out)]) == 0
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, np.load(out), atol=2e-6)
    capsys.readouterr()
    assert cli.main(["export", str(status), "--onnx", str(target), "--input-shape", "7"]) == 2
    assert "--input-shape is given; expected nothing of it for a model of a table's columns" in the_error(capsys)


def test_columns_may_be_called_as_the_graphs_own_names(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    frame = people(60)[["Stadt", "price", "Status"]].set_axis(["x", "y", "label"], axis=1)
    assert train(written(tmp_path, frame), "--epochs", "1", "--label", "label", "--out", str(tmp_path / "run")) == 0
    target = tmp_path / "model.onnx"
    assert cli.main(["export", str(tmp_path / "run"), "--onnx", str(target)]) == 0
    session = runtime.InferenceSession(str(target))
    assert [each.name for each in session.get_inputs()] == ["x.2", "y.2"]
    assert session.get_outputs()[0].name == "y"


def test_numbers_are_exported_in_their_own_units(price: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    target = tmp_path / "model.onnx"
    assert cli.main(["export", str(price), "--onnx", str(target)]) == 0
    feed = {"Größe (cm)": [[0.5]], "since": [[19800.0]], "member": [[1.0]]}
    arrays: dict[str, Any] = {name: np.array(value) for name, value in feed.items()}
    (found,) = runtime.InferenceSession(str(target)).run(None, {**arrays, "Stadt": np.array([["Basel"]], object)})
    row = pd.DataFrame({"Größe (cm)": [0.5], "Stadt": "Basel", "since": "2024-03-18", "member": True})
    np.testing.assert_allclose(found[0, 0], predictions(price, written(tmp_path, row, "row.csv"))[0], rtol=1e-4)


def test_pandas_is_imported_for_tables_alone() -> None:
    code = "import sys; from fastfnn.cli import main; main(['info']); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
