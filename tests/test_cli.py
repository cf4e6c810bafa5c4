"""The command line as a whole: bad usage, how a run ends, and the small commands."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import LAST_LINE, WriteNpz, interrupted, run, the_error, train

import fastfnn as ff
from fastfnn import cli
from fastfnn_kernels import _config

# Bad usage


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "cifar"], "--data is 'cifar'; expected mnist-sample, mnist, fashion-mnist, a .npz or .csv file"),
        (["--data", "none.npz"], "--data is 'none.npz'; there is no such file"),
        (["--data", "."], "--data is '.'; "),
        (["--label", "y"], "--label is 'y'; expected only where --data is a .csv file"),
        (["--size", "8x8"], "--size is 8x8; expected only where --data is a folder of images"),
        (["--size", "8"], "--size: got '8'; expected height and width, such as 28x28"),
        (["--size", "8x0"], "--size: got '8x0'; expected integers of at least 1"),
        (["--data-root", "."], "--data-root is '.'; expected only with --data mnist or fashion-mnist"),
        (["--hidden", "-5"], "--hidden: got '-5'; expected an integer of at least 1"),
        (["--hidden", "10", "0"], "--hidden: got '0'"),
        (["--hidden", "1.5"], "--hidden: got '1.5'"),
        (["--hidden", "999999999999999"], "--hidden is 999999999999999, a model of 794,999,999,999,999,215 parameters"),
        (["--hidden", "99999", "99999"], "parameters; expected at most 1,073,741,824"),
        (["--size", "99999x99999"], "--size: got '99999x99999'; expected at most 67,108,864 pixels"),
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
        (["--model", "alexnet"], "alexnet"),
        (["--model", "lenet5", "--hidden", "9", "7"], "--hidden is '9 7'; expected only with --model mlp"),
        (["--model", "small-cnn", "--hidden"], "--hidden is ''; expected only with --model mlp"),
        (["--model", "lenet5", "--activation", "relu"], "--activation is 'relu'; expected only with --model mlp"),
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


# How it ends


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, where the references run
def test_a_diverging_training_ends_with_1_and_writes_nothing(
    npz: WriteNpz, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert train(npz(), "--lr", "1e38", "--out", str(out), "--quiet") == 1
    assert re.search(r"in epoch \d+, step \d+", the_error(capsys))
    assert list(out.iterdir()) == []


def test_an_interrupt_ends_with_130_and_leaves_what_resuming_needs(
    npz: WriteNpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ff, "evaluate", interrupted)
    out = tmp_path / "out"
    assert train(npz(), "--out", str(out), "--quiet") == 130
    captured = capsys.readouterr()
    assert captured.err == f"fastfnn: interrupted; to go on: fastfnn train --resume {out}\n"
    assert captured.out == ""
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.safetensors", "settings.json"]


def test_an_interrupt_without_out_leaves_nothing_to_say(
    npz: WriteNpz, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ff, "evaluate", interrupted)
    assert train(npz(), "--quiet") == 130
    assert capsys.readouterr() == ("", "fastfnn: interrupted\n")


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
    assert facts["models"] == "mlp, lenet5, small-cnn"
    assert facts["vector width"] in ("128 bits", "256 bits", "512 bits")
    assert int(facts["cores usable"]) >= 1
    assert facts["data folder"] == f"{tmp_path / 'data'} (not there yet)"
    assert facts["kernel cache"].startswith(str(tmp_path / "cache"))
    assert facts["kernel cache"].endswith("(writable)")
    if _config.JIT:
        for dtype in ("float32", "float64"):
            assert re.fullmatch(r"nothing compiled yet|(\w+ \d+ of \d+(, )?)+", facts[f"for {dtype}"])

    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "data").mkdir()
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "kernel cache   none: [Errno 20] Not a directory" in out or "kernel cache   none: [Errno 17]" in out
    assert f"{tmp_path / 'data'}\n" in out


@pytest.mark.parametrize(
    ("options", "dtypes"),
    [([], ("float32",)), (["--dtype", "float64"], ("float64",)), (["--dtype", "float64", "float32", "float64"], None)],
)
@pytest.mark.parametrize("model", [None, "mlp", "small-cnn"])
def test_warmup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], dtypes: Any, model: Any
) -> None:
    asked = []
    monkeypatch.setattr(ff, "warmup", lambda *which: asked.append(which) or 1.234)
    assert cli.main(["warmup", *options, *(["--model", model] if model else [])]) == 0
    dtypes = dtypes or ("float64", "float32")
    assert asked == [(dtypes, model.replace("-", "_") if model else None)]
    of_what = f" of {model}" if model else ""
    assert capsys.readouterr().out == f"kernels{of_what} for {' and '.join(dtypes)} ready after 1.23 s\n"


def test_warmup_refuses_other_dtypes_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warmup", "--dtype", "float16"]) == 2
    assert "float16" in the_error(capsys)
    assert cli.main(["warmup", "--model", "alexnet"]) == 2
    assert "alexnet" in the_error(capsys)
