"""Callbacks that know where a training begins and ends: early stopping, logs, and what `fit` tells them."""

import csv
import math
import sys
import types
from typing import ClassVar

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(31)
X, Y = RNG.normal(size=(40, 5)), RNG.integers(0, 3, 40)
REAL = RNG.normal(size=(40, 3))


def network(*middle, dtype="float64"):
    return ff.Sequential(ff.Linear(5, 7), *middle, ff.ReLU(), ff.Linear(7, 3), seed=0, dtype=dtype)


def fit(model, y=Y, loss=None, **options):
    options = {"optimizer": ff.SGD(0.1), "epochs": 4, "batch_size": 12, "seed": 0, "progress": False, **options}
    return ff.fit(model, X, y, loss=loss or ff.CrossEntropyLoss(), **options)


def follow(stopping, figures, name="val_loss"):
    """Give `stopping` one epoch after the other; the epoch it stops in, or None."""
    model, history = network(), ff.History()
    for epoch, figure in enumerate(figures, 1):
        history.loss.append(1.0)
        if name != "loss":
            getattr(history, name).append(figure)
        else:
            history.loss[-1] = figure
        model.parameters[...] = epoch
        if stopping(ff.EpochEnd(epoch, model, ff.SGD(), history)):
            break
    stopping.finish(ff.EpochEnd(epoch, model, ff.SGD(), history))
    assert stopping.stopped_epoch in (None, epoch)
    return stopping.stopped_epoch, model[0].params["bias"][0]


# What fit tells callbacks


class Recorder(ff.EpochCallback):
    def __init__(self, stop=0):
        self.told, self.stop = [], stop

    def begin(self):
        self.told.append("begin")

    def __call__(self, end):
        self.told.append(end.epoch)
        return end.epoch == self.stop

    def finish(self, end):
        self.told.append(("finish", end.epoch, end.stops))


def test_a_callback_is_told_where_a_training_begins_and_ends():
    whole, stopped = Recorder(), Recorder(stop=2)
    fit(network(), callbacks=[whole], epochs=3)
    fit(network(), callbacks=[stopped], epochs=3)
    assert whole.told == ["begin", 1, 2, 3, ("finish", 3, False)]
    assert stopped.told == ["begin", 1, 2, ("finish", 2, True)]


def test_after_an_error_there_is_no_finish():
    def fail(end):
        raise RuntimeError("stop")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="stop"):
        fit(network(), callbacks=[recorder, fail])
    assert recorder.told == ["begin", 1]


def test_a_callback_sees_all_that_takes_part():
    ends, schedule = [], ff.schedules.Cosine()
    callbacks = [ends.append, Recorder(stop=2), lambda end: ends.append(end)]
    model, optimizer = network(), ff.SGD(0.1)
    history = fit(model, optimizer=optimizer, schedule=schedule, callbacks=callbacks)
    end = ends[-1]
    assert (end.model, end.optimizer, end.history, end.schedule) == (model, optimizer, history, schedule)
    assert [end.stops for end in ends] == [False, False, False, True]
    assert isinstance(end.rng, np.random.Generator)
    assert list(end.callbacks) == callbacks


def test_the_base_does_nothing_and_keeps_nothing():
    callback = ff.EpochCallback()
    plain, watched = network(), network()
    fit(plain)
    fit(watched, callbacks=[callback])
    assert plain.parameters.tobytes() == watched.parameters.tobytes()
    assert callback.state() == ({}, {})
    assert repr(callback) == "EpochCallback()"


# EarlyStopping


@pytest.mark.parametrize(
    ("name", "figures", "best_epoch", "stopped"),
    [
        ("val_loss", [3, 2, 1, 2, 2, 2, 2], 3, 5),
        ("val_loss", [3, 2, 2, 1, 1, 1], 4, 6),
        ("loss", [1, 2, 3], 1, 3),
        ("accuracy", [0.1, 0.2, 0.2, 0.3, 0.2, 0.3, 0.4], 4, 6),
        ("val_accuracy", [0.5, 0.6, 0.7, 0.8], 4, None),
        ("val_loss", [math.nan, 2, math.nan, 1, math.nan, math.nan, 0], 4, 6),
        ("val_loss", [math.nan, math.nan, 1], None, 2),
        ("val_loss", [math.inf, 5, 4], 3, None),
    ],
)
def test_it_stops_when_a_figure_has_not_become_better_for_its_patience(name, figures, best_epoch, stopped):
    stopping = ff.EarlyStopping(name, patience=2)
    last, parameter = follow(stopping, figures, name)
    assert (last, stopping.best_epoch) == (stopped, best_epoch)
    assert stopping.best == (None if best_epoch is None else figures[best_epoch - 1])
    assert parameter == (best_epoch or last)


def test_better_is_better_by_more_than_min_delta():
    figures = [1.0, 0.75, 0.5, 0.25]
    assert follow(ff.EarlyStopping("val_loss", patience=2, min_delta=0.25), figures)[0] is None
    assert follow(ff.EarlyStopping("val_loss", patience=1, min_delta=0.25), figures)[0] == 2
    rising = ff.EarlyStopping("accuracy", patience=3, min_delta=0.25)
    follow(rising, [0.0, 0.25, 0.5], "accuracy")
    assert rising.best_epoch == 3


def test_without_restoring_the_model_stays_as_it_is():
    stopping = ff.EarlyStopping("loss", patience=2, restore_best=False)
    assert follow(stopping, [1, 2, 3], "loss") == (3, 3)
    assert stopping.state()[1] == {}


def test_it_watches_the_validation_loss_where_there_is_one():
    stopping = ff.EarlyStopping(patience=1)
    history = fit(network(), callbacks=[stopping], optimizer=ff.SGD(0.0), validation_data=(X[:9], Y[:9]))
    assert (history.epochs, stopping.best, stopping.stopped_epoch) == (2, history.val_loss[0], 2)
    history = fit(network(), callbacks=[stopping], epochs=2)
    assert stopping.best == min(history.loss)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("patience", [2, 99])
def test_the_best_epochs_model_comes_back_however_the_training_ends(patience, dtype):
    seen, model = [], network(ff.BatchNorm1d(7), dtype=dtype)
    stopping = ff.EarlyStopping("val_loss", patience=patience)

    def keep(end):
        seen.append((end.model.parameters.copy(), end.model[1].buffers["running_mean"].copy()))

    wrong = (X[:9], (Y[:9] + 1) % 3)
    history = fit(model, optimizer=ff.SGD(0.5), epochs=8, callbacks=[keep, stopping], validation_data=wrong)
    best = int(np.argmin(history.val_loss))
    assert best + 1 == stopping.best_epoch < history.epochs
    assert (stopping.stopped_epoch is None) == (patience == 99)
    assert model.parameters.tobytes() == seen[best][0].tobytes()
    assert model[1].buffers["running_mean"].tobytes() == seen[best][1].tobytes()


def test_each_training_begins_anew():
    stopping = ff.EarlyStopping("loss", patience=1)
    follow(stopping, [1, 2], "loss")
    stopping.begin()
    assert follow(stopping, [5, 4, 3], "loss")[0] is None
    assert stopping.best == 3


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_a_figure_that_the_training_will_lack_is_an_error_before_it_begins(monitor, tmp_path):
    message = f"monitor is '{monitor}'; expected one of what this training has: loss, accuracy$"
    best = ff.Checkpoint(tmp_path / "best", monitor=monitor, best_only=True)
    for options in (
        {"callbacks": [ff.EarlyStopping(monitor)]},
        {"callbacks": [best]},
        {"schedule": ff.schedules.ReduceOnPlateau(monitor=monitor)},
    ):
        model, recorder = network(), Recorder()
        before = model.parameters.copy()
        with pytest.raises(InvalidValueError, match=message):
            fit(model, **{**options, "callbacks": [recorder, *options.get("callbacks", [])]})
        assert model.parameters.tobytes() == before.tobytes()
        assert recorder.told == []


@pytest.mark.parametrize("answer", [1, 0, "yes", "", [], np.float64(1), math.nan])
def test_an_answer_that_is_neither_true_nor_false_is_refused(answer):
    for callback in (lambda end: answer, ff.EverySteps(2, lambda end: answer)):
        with pytest.raises(InvalidTypeError, match="returned .*; expected True to end the training, or else False or"):
            fit(network(), callbacks=[callback])


@pytest.mark.parametrize(("answer", "epochs"), [(True, 1), (np.True_, 1), (False, 4), (np.False_, 4), (None, 4)])
def test_true_itself_ends_the_training(answer, epochs):
    assert fit(network(), callbacks=[lambda end: answer]).epochs == epochs
    assert fit(network(), callbacks=[ff.EverySteps(4, lambda end: answer)]).epochs == epochs


def test_a_regression_has_no_accuracy():
    with pytest.raises(InvalidValueError, match="monitor is 'accuracy'; .*: loss, val_loss$"):
        fit(network(), REAL, ff.MSELoss(), callbacks=[ff.EarlyStopping("accuracy")], validation_data=(X, REAL))


def test_a_state_goes_on_where_it_was():
    one, other = ff.EarlyStopping("loss", patience=3), ff.EarlyStopping("loss", patience=3)
    follow(one, [3, 1, 2], "loss")
    other.restore(*one.state())
    assert other.state()[0] == one.state()[0] == {"best": 1, "best_epoch": 2, "stopped_epoch": None}
    model, history = network(), ff.History(loss=[3, 1, 2, 2])
    assert not other(ff.EpochEnd(4, model, ff.SGD(), history))
    assert other(ff.EpochEnd(5, model, ff.SGD(), history))
    other.finish(ff.EpochEnd(5, model, ff.SGD(), history))
    assert (model[0].params["weight"] == 2).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ff.EarlyStopping("lr"), InvalidValueError, "monitor is 'lr'; expected one of 'loss'"),
        (lambda: ff.EarlyStopping(patience=0), InvalidValueError, "patience is 0; expected an integer of at least 1"),
        (lambda: ff.EarlyStopping(min_delta=-1), InvalidValueError, "min_delta is -1; expected at least 0"),
        (lambda: ff.Checkpoint("x", every=0), InvalidValueError, "every is 0"),
        (lambda: ff.Checkpoint("x", monitor="loss"), InvalidValueError, "monitor is 'loss' with best_only False"),
        (lambda: ff.Checkpoint("x", monitor="f1", best_only=True), InvalidValueError, "monitor is 'f1'"),
        (lambda: ff.Checkpoint(3), InvalidTypeError, "path must be a path, got int"),
        (lambda: ff.CSVLogger(3), InvalidTypeError, "path must be a path, got int"),
        (lambda: ff.TensorBoard(3), InvalidTypeError, "log_dir must be a path, got int"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_callbacks_show_themselves(board):
    for callback in (ff.EarlyStopping("loss", 3, 0.5, False), ff.Checkpoint("a/b", 2), ff.CSVLogger("a")):
        assert repr(eval(repr(callback), vars(ff))) == repr(callback)
    assert repr(ff.TensorBoard("a")) == "TensorBoard(log_dir='a')"


# The best checkpoint


@pytest.mark.parametrize(
    ("monitor", "name", "figures", "best"),
    [
        (None, "val_loss", [3, 1, 2, 1, 0.5, 4], 5),
        ("val_accuracy", "val_accuracy", [0.2, 0.9, 0.9, math.nan, 0.3], 2),
        ("loss", "loss", [math.nan, 2, 3], 2),
    ],
)
def test_the_best_epoch_is_what_a_checkpoint_of_it_holds(tmp_path, monitor, name, figures, best):
    model, history, path = network(), ff.History(), tmp_path / "best"
    checkpoint = ff.Checkpoint(path, monitor=monitor, best_only=True)
    checkpoint.begin()
    for epoch, figure in enumerate(figures, 1):
        model.parameters[...] = epoch
        history.loss.append(1.0)
        getattr(history, name)[epoch - 1 :] = [figure]
        if name == "val_accuracy" and math.isnan(figure):
            continue  # that training has no accuracy, which is refused
        checkpoint(ff.EpochEnd(epoch, model, ff.SGD(), history))
    assert ff.load(path)[0].params["bias"][0] == best


def test_a_checkpoint_of_what_the_training_lacks_is_refused(tmp_path):
    checkpoint = ff.Checkpoint(tmp_path / "best", monitor="val_loss", best_only=True)
    with pytest.raises(InvalidValueError, match="monitor is 'val_loss'; expected one of .*: loss, accuracy"):
        fit(network(), callbacks=[checkpoint])
    assert repr(checkpoint).endswith("every=1, monitor='val_loss', best_only=True)")


def test_a_history_shows_small_figures():
    history = ff.History(loss=[0.5], accuracy=[math.nan], val_loss=[1.23456e-5], lr=[3e-7], seconds=[0.25])
    assert repr(history).splitlines() == [
        "History of 1 epoch",
        "                 last       best  in epoch",
        "  loss         0.5000     0.5000         1",
        "  val_loss  1.235e-05  1.235e-05         1",
        "  lr            3e-07",
        "  seconds      0.2500",
    ]


# The model's snapshot


def test_a_snapshot_brings_parameters_and_buffers_back_in_place():
    model = network(ff.BatchNorm1d(7))
    snapshot, flat, weight = model.snapshot(), model.parameters, model[0].params["weight"]
    before = {name: array.copy() for name, array in snapshot.items()}
    fit(model)
    assert not np.array_equal(weight, snapshot["0.weight"])
    model.restore(snapshot)
    assert model.parameters is flat
    assert model[0].params["weight"] is weight
    for name, array in {**model.named_parameters(), **model.named_buffers()}.items():
        assert array.tobytes() == before.pop(name).tobytes()
    assert not before


def test_a_snapshot_of_another_model_is_refused_and_changes_nothing():
    model, snapshot = network(), network(ff.BatchNorm1d(7), dtype="float32").snapshot()
    before = model.parameters.copy()
    with pytest.raises(InvalidValueError) as caught:
        model.restore(snapshot)
    assert "0.bias is float32 (7,), expected float64 (7,)" in str(caught.value)
    assert "1.running_mean is surplus" in str(caught.value)
    assert model.parameters.tobytes() == before.tobytes()


# Logs


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_file_equals_the_history_after_each_epoch(tmp_path):
    path, epochs = tmp_path / "log.csv", []

    def compare(end):
        rows = read_csv(path)
        epochs.append(len(rows))
        for name, column in end.history.to_dict().items():
            assert [float(row[name]) for row in rows] == column
        assert [int(row["epoch"]) for row in rows] == list(range(1, end.epoch + 1))

    fit(network(), callbacks=[ff.CSVLogger(path), compare], validation_data=(X[:9], Y[:9]))
    assert epochs == [1, 2, 3, 4]
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.csv"]


def test_nan_is_an_empty_field_and_what_the_history_lacks_has_no_column(tmp_path):
    history = fit(network(), REAL, ff.MSELoss(), epochs=1, callbacks=[ff.CSVLogger(tmp_path / "log.csv")])
    text = (tmp_path / "log.csv").read_bytes().decode()
    assert text == f"epoch,loss,accuracy,lr,seconds\n1,{history.loss[0]!r},,0.1,{history.seconds[0]!r}\n"


@pytest.mark.parametrize("kind", [ff.CSVLogger, ff.Checkpoint])
def test_a_missing_folder_is_an_error_before_anything_is_trained(tmp_path, kind):
    model = network()
    before = model.parameters.copy()
    with pytest.raises(FileNotFoundError, match="no.file'; there is no such folder"):
        fit(model, callbacks=[kind(tmp_path / "no" / "file")])
    assert model.parameters.tobytes() == before.tobytes()


class Writer:
    """Stands for tensorboardX's."""

    made: ClassVar[list] = []

    def __init__(self, log_dir, purge_step, filename_suffix):
        self.log_dir, self.purge_step, self.suffix = log_dir, purge_step, filename_suffix
        self.scalars, self.open = {}, True
        Writer.made.append(self)

    def add_scalar(self, name, value, step):
        assert self.open
        self.scalars.setdefault(name, []).append((step, value))

    def flush(self):
        self.flushed = {name: list(points) for name, points in self.scalars.items()}

    def close(self):
        self.open = False


@pytest.fixture
def board(monkeypatch):
    """A tensorboardX that remembers what was written."""
    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setattr(Writer, "made", [])
    return Writer


def test_tensorboard_has_the_figures_of_each_epoch(tmp_path, board):
    history = fit(network(), callbacks=[ff.TensorBoard(tmp_path)], validation_data=(X[:9], Y[:9]), epochs=3)
    (writer,) = board.made
    assert (writer.log_dir, writer.purge_step, writer.suffix, writer.open) == (str(tmp_path), 1, ".000001", False)
    assert writer.flushed == {name: list(enumerate(column, 1)) for name, column in history.to_dict().items()}


def test_tensorboard_has_no_nan_and_each_training_a_writer(tmp_path, board):
    callback = ff.TensorBoard(tmp_path)
    for _ in range(2):
        fit(network(), REAL, ff.MSELoss(), epochs=1, callbacks=[callback])
    assert [set(writer.scalars) for writer in board.made] == [{"loss", "lr", "seconds"}] * 2


def test_tensorboard_closes_what_an_error_left_open(tmp_path, board):
    def fail(end):
        raise RuntimeError

    callback = ff.TensorBoard(tmp_path)
    with pytest.raises(RuntimeError):
        fit(network(), callbacks=[callback, fail])
    fit(network(), callbacks=[callback], epochs=1)
    assert [writer.open for writer in board.made] == [False, False]


def test_tensorboard_takes_pytorchs_where_tensorboardx_is_missing(tmp_path, board, monkeypatch):
    names = ["torch", "torch.utils", "torch.utils.tensorboard"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[names[-1]].SummaryWriter = type("Theirs", (Writer,), {})
    ff.TensorBoard(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    fit(network(), callbacks=[ff.TensorBoard(tmp_path)], epochs=1)
    assert [type(writer).__name__ for writer in board.made] == ["Theirs"]


def test_without_either_package_both_are_named(tmp_path, monkeypatch):
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="tensorboardX .*torch"):
        ff.TensorBoard(tmp_path)
