"""`History`: the same lists as a dict, a frame and a table, also where epochs lack figures."""

import math
import sys

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidValueError

RNG = np.random.default_rng(2)
X, Y = RNG.normal(size=(40, 5)).astype(np.float32), RNG.integers(0, 3, 40)


def fit(**options):
    model = ff.Sequential(ff.Linear(5, 4), ff.ReLU(), ff.Linear(4, 3), seed=0)
    options = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.1), "epochs": 4, "seed": 0, **options}
    return ff.fit(model, X, Y, progress=False, **options)


def test_a_dict_has_lists_of_one_length():
    whole = fit(validation_data=(X, Y), metrics=["f1"]).to_dict()
    assert {name: len(values) for name, values in whole.items()} == dict.fromkeys(
        ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds", "val_f1"], 4
    )
    bare = fit()
    assert bare.val_loss == []
    assert all(map(math.isnan, bare.to_dict()["val_loss"]))
    assert {len(values) for values in bare.to_dict().values()} == {4}
    assert all(values == [] for values in fit(epochs=0).to_dict().values())


def test_a_history_is_made_of_its_dict_again():
    history = fit(validation_data=(X, Y), metrics=["f1"])
    assert ff.History.from_dict(history.to_dict()) == history
    with pytest.raises(InvalidValueError, match=r"a history has f1; expected .*loss.* or 'val_…'"):
        ff.History.from_dict({"loss": [1.0], "f1": [1.0]})


def test_metrics_come_in_the_order_in_which_they_were_asked_for():
    asked = ["recall", "top_2", "f1", "log_loss", "precision", "roc_auc"]
    assert list(fit(validation_data=(X, Y), metrics=asked).metrics) == [f"val_{name}" for name in asked]


def test_every_figure_goes_by_its_name():
    history = fit(validation_data=(X, Y), metrics=["f1"])
    assert history["val_f1"] is history.metrics["val_f1"]
    assert history["loss"] is history.loss
    assert history.last()["val_f1"] == history["val_f1"][-1]


def test_a_frame_has_a_row_for_each_epoch():
    pytest.importorskip("pandas")
    history = fit(validation_data=(X, Y), metrics=["f1"])
    frame = history.to_frame()
    assert list(frame.columns) == ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds", "val_f1"]
    assert (frame.index.name, list(frame.index)) == ("epoch", [1, 2, 3, 4])
    assert frame["val_f1"].tolist() == history["val_f1"]
    assert list(fit().to_frame().columns) == ["loss", "accuracy", "lr", "seconds"]
    assert fit(epochs=0).to_frame().empty


def test_a_frame_without_pandas_says_what_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame needs pandas: pip install .* to_dict\(\) has the same"):
        fit().to_frame()


def test_it_shows_the_last_figures_and_the_best():
    history = ff.History(
        loss=[0.5, 0.25, 0.375],
        accuracy=[math.nan] * 3,
        val_loss=[1.0, math.nan, 2.0],
        lr=[0.1] * 3,
        seconds=[1.0, 2.0, 3.0],
        metrics={"val_f1": [0.5, 0.75, 0.625], "val_cost": [1.0, 2.0, 3.0], "val_mae": [3.0, 2.0, 1.0]},
    )
    assert repr(history).splitlines() == [
        "History of 3 epochs",
        "              last    best  in epoch",
        "  loss      0.3750  0.2500         2",
        "  val_loss  2.0000  1.0000         1",
        "  lr        0.1000",
        "  seconds   3.0000",
        "  val_f1    0.6250  0.7500         2",
        "  val_cost  3.0000",
        "  val_mae   1.0000  1.0000         3",
    ]
    assert repr(ff.History()) == "History of 0 epochs"


@pytest.mark.parametrize("where", ["callback", "validation"])
def test_an_interrupt_leaves_the_epochs_so_far(where):
    calls = []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0

    places = {"callback": {"callbacks": [lambda end: interrupt(end) or None]}, "validation": {"metrics": [interrupt]}}
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(validation_data=(X, Y), **places[where])
    history = caught.value.history
    assert history.epochs == 3
    assert {len(values) for values in history.to_dict().values()} == {3}
    assert len(history.val_loss) == (3 if where == "callback" else 2)
    if where == "validation":
        assert math.isnan(history.to_dict()["val_loss"][-1])
    assert repr(history).startswith("History of 3 epochs\n")
