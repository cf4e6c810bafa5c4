"""What a notebook shows: tables, figures once, a bar that stays in the saved page, and what an interrupt leaves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

CELLS = {
    "train": """
import os
import numpy as np
import fastfnn as ff
rng = np.random.default_rng(0)
x, y = rng.normal(size=(90, 6)), rng.integers(0, 3, 90)
model = ff.Sequential(ff.Linear(6, 8), ff.Residual(ff.Linear(8, 8), ff.ReLU()), ff.Linear(8, 3), seed=0)
settings = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(lr=0.1), "batch_size": 30, "n_threads": 1}
history = model.fit(x, y, epochs=3, validation_data=(x, y), **settings)
""",
    "model": "model",
    "history": "history",
    "figure": "ff.plot.history(history)",
    "interrupt": """
def press(end):
    if end.epoch == 2:
        raise KeyboardInterrupt
try:
    model.fit(x, y, epochs=9, callbacks=press, **settings)
except KeyboardInterrupt as interrupt:
    left = interrupt.history
""",
    "afterwards": "print(left.epochs, model.predict(x).shape, model.fit(x, y, progress=False, **settings).epochs)",
    "uncaught": "model.fit(x, y, epochs=9, callbacks=press, **settings)",
    "last": "import sys; print(sys.last_value.history.epochs)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the cells show, by their names."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    for package in ("ipykernel", "matplotlib"):
        pytest.importorskip(package)
    kernel = tmp_path_factory.mktemp("kernels") / "kernels" / "this"
    kernel.mkdir(parents=True)
    command = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernel / "kernel.json").write_text(f'{{"argv": {command}, "display_name": "this", "language": "python"}}')
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    notebook.cells[list(CELLS).index("uncaught")].metadata.tags = ["raises-exception"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(kernel.parents[1]))
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        nbclient.NotebookClient(notebook, kernel_name="this", timeout=300).execute()
    if kept := os.environ.get("FASTFNN_KEEP_NOTEBOOK"):
        Path(kept).write_text(nbformat.writes(notebook), "utf-8")
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def shown(outputs: list[Any], kind: str) -> list[str]:
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def stderr(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.get("name") == "stderr")


def test_the_bar_is_text_and_its_last_state_stays_in_the_page(outputs: dict[str, list[Any]]) -> None:
    last = [line for line in stderr(outputs["train"]).split("\r") if line.startswith("epoch")][-1]
    assert last.startswith("epoch 3/3 100%|")
    assert last.endswith("\n")
    assert "loss" in last and "val" in last
    assert not shown(outputs["train"], "application/vnd.jupyter.widget-view+json")


def test_a_model_and_a_history_are_tables(outputs: dict[str, list[Any]]) -> None:
    (model,) = shown(outputs["model"], "text/html")
    assert model.count("<tr>") == 1 + 5
    assert "155 parameters, float32" in model
    (history,) = shown(outputs["history"], "text/html")
    assert "History of 3 epochs" in history
    assert "val_loss" in history


def test_a_figure_is_shown_once(outputs: dict[str, list[Any]]) -> None:
    assert len(shown(outputs["figure"], "image/png")) == 1
    assert len(outputs["figure"]) == 1


def test_an_interrupt_leaves_history_and_model(outputs: dict[str, list[Any]]) -> None:
    assert "epoch 2/9" in stderr(outputs["interrupt"])
    assert [output.text for output in outputs["afterwards"]] == ["2 (90,) 1\n"]
    assert [output.ename for output in outputs["uncaught"] if output.output_type == "error"] == ["KeyboardInterrupt"]
    assert [output.text for output in outputs["last"]] == ["2\n"]
