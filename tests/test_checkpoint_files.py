"""Checkpoints on disk: the old file or the new, and every file that is none of this training."""

import json
import os
import signal

import numpy as np
import pytest
from _checkpoints import WRONG, fit, network, remains, saved, training_in
from _helpers import run_python
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastfnn as ff
from fastfnn.errors import InvalidValueError, ModelFileError
from fastfnn.interchange.safetensors import TRAINING
from fastfnn.schedules import Cosine, ReduceOnPlateau
from fastfnn.training.callbacks import resume


@pytest.mark.parametrize("place", ["fsync", "chmod", "replace"])
def test_the_old_file_stays_when_writing_fails(tmp_path, monkeypatch, place):
    path = tmp_path / "c"
    model, optimizer = saved(path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, place, fail)
        with pytest.raises(OSError, match="disk full"):
            fit(model, optimizer, callbacks=[ff.Checkpoint(path)])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_the_old_file_stays_when_the_process_is_killed_while_it_writes(tmp_path):
    path = tmp_path / "c"
    saved(path)
    before = path.read_bytes()
    died = run_python(
        "import os, signal, numpy as np, fastfnn as ff\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "model = ff.Sequential(ff.Linear(2, 2))\n"
        f"end = ff.EpochEnd(1, model, ff.SGD(), ff.History(loss=[1.0]))\nff.Checkpoint({str(path)!r})(end)",
        NUMBA_DISABLE_JIT="1",
    )
    assert died.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert fit(network(), ff.SGD(0.1, momentum=0.9), resume=path, epochs=3).epochs == 3


# What is refused, and changes nothing


def unchanged(path, error, message, model=None, optimizer=None, schedule=None, callbacks=(), rng=None):
    """Resuming raises, and nothing has changed; the message."""
    model, rng = model or network(seed=5), rng or np.random.default_rng(3)
    optimizer = optimizer or ff.SGD(0.1, momentum=0.9)
    for layer in model.layers:
        if isinstance(layer, ff.Dropout):
            layer.step = 77
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "rng": rng, "callbacks": callbacks}

    def state():
        seeds = [(layer.seed, layer.step) for layer in model.layers if isinstance(layer, ff.Dropout)]
        kept = [callback for callback in callbacks if isinstance(callback, ff.EpochCallback)]
        return seeds, remains(model, optimizer, schedule, kept, rng, ff.History())

    before = state()
    with pytest.raises(error, match=message) as caught:
        resume(path, **parts)
    assert state() == before
    return str(caught.value)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c"
    unchanged(path, FileNotFoundError, "resume is '.*c'; there is no such file")
    ff.save(network(), path)
    unchanged(path, ModelFileError, "holds a model without its training; expected a file that Checkpoint wrote")
    save_file({"w": np.ones(3)}, path)
    unchanged(path, ModelFileError, "was not written by fastfnn")
    saved(path)
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        unchanged(path, ModelFileError, "no readable safetensors file")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [ff.Linear(6, 8), ff.ReLU(), ff.Linear(8, 2)],
            r"layers\[0\] is Linear\(.*out_features=8\), in the file Linear\(in_features=6, out_features=9\)$",
        ),
        (
            [ff.Linear(6, 9), ff.BatchNorm1d(9), ff.ReLU(), ff.Dropout(0.4)],
            r"layers\[3\] is Dropout\(p=0.4\), in the file Dropout\(p=0.3\)$",
        ),
        (network().layers[:-1], r"layers\[4\] is missing, in the file Linear\(in_features=9, out_features=3\)$"),
        ([*network().layers, ff.ReLU()], r"layers\[5\] is ReLU\(\), in the file missing$"),
    ],
)
def test_the_first_layers_that_differ_are_named(tmp_path, layers, message):
    saved(tmp_path / "c")
    model = ff.Sequential(*layers, seed=0, dtype="float64")
    unchanged(tmp_path / "c", ModelFileError, f"is of another training: {message}", model)


def test_all_differences_are_named_at_once(tmp_path):
    saved(tmp_path / "c")
    message = unchanged(
        tmp_path / "c",
        ModelFileError,
        "is of another training",
        model=network(dtype="float32"),
        optimizer=ff.Adam(),
        schedule=Cosine(),
        callbacks=[ff.EarlyStopping(), ff.CSVLogger(tmp_path / "no" / "file")],
        rng=np.random.Generator(np.random.Philox(1)),
    )
    for difference in (
        "dtype is float32, in the file float64",
        "optimizer is Adam, in the file SGD",
        "schedule is Cosine, in the file NoneType",
        "the bit generator is Philox, in the file PCG64",
        "callbacks with a state is EarlyStopping, in the file empty",
    ):
        assert difference in message


def test_an_optimizer_without_the_slots_is_refused(tmp_path):
    saved(tmp_path / "c")
    message = "the optimizer's state is empty, in the file velocity$"
    unchanged(tmp_path / "c", ModelFileError, message, optimizer=ff.SGD(0.1))


def test_where_one_callback_refuses_its_state_all_stay_as_they_were(tmp_path):
    class Picky(ff.EpochCallback):
        def state(self):
            return {"a": 1}, {}

        def restore(self, values, arrays):
            if "a" not in values:
                raise KeyError("a")

    def callbacks():
        return [ff.EarlyStopping(), Picky()]

    path = tmp_path / "c"
    fit(network(), ff.SGD(0.1, momentum=0.9), ReduceOnPlateau(), [*callbacks(), ff.Checkpoint(path)], epochs=2)
    rewrite(path, lambda training: training["callbacks"][1].update(values={}))
    options = {"schedule": ReduceOnPlateau(), "callbacks": callbacks()}
    unchanged(path, ModelFileError, "holds a state that does not fit: KeyError", **options)


def test_a_missing_folder_of_a_log_is_an_error_before_anything_is_restored(tmp_path):
    saved(tmp_path / "c")
    log = ff.CSVLogger(tmp_path / "no" / "file")
    unchanged(tmp_path / "c", FileNotFoundError, "there is no such folder", callbacks=[log])


def rewrite(path, change):
    """Write the checkpoint again with a changed training."""
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    training = training_in(path)
    change(training)
    save_file(load_file(path), path, metadata={**metadata, TRAINING: json.dumps(training)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(format=9), "has a training of format 9; this version of fastfnn reads 1"),
        (lambda t: t.pop("epoch"), "holds no training .*'epoch'"),
        (lambda t: t.update(epoch=0), "holds no training .*epoch is 0"),
        (lambda t: t.update(epoch=3), "holds no training .*the history has 2 epochs; expected 3"),
        (lambda t: t["history"].update(more=[1, 2]), "holds no training .*more"),
        (lambda t: t["history"].update(loss=["x", 1]), "holds no training"),
        (lambda t: t.update(dropout_steps=[]), "holds no training .*one for each Dropout"),
        (lambda t: t.update(dropout_steps=[-1]), "holds no training .*-1"),
        (lambda t: t["optimizer"]["values"].update(steps=1.5), "holds no training .*steps is 1.5"),
        (lambda t: t["optimizer"]["values"].update(slots=["mean"]), "holds no training .*mean"),
        (lambda t: t["generator"]["values"].update(state={}), "holds a state that does not fit"),
        (lambda t: t.update(callbacks=3), "holds no training"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused(tmp_path, change, message):
    path = tmp_path / "c"
    saved(path)
    rewrite(path, change)
    unchanged(path, ModelFileError, message)


def test_a_layer_of_ones_own_is_named(tmp_path):
    class Mine(ff.ReLU):
        pass

    model = ff.Sequential(ff.Linear(6, 3), Mine(), seed=0)
    with pytest.raises(InvalidValueError, match=r"layers\[1\] is Mine\(\); only fastfnn's own layers can be saved"):
        ff.Checkpoint(tmp_path / "c")(ff.EpochEnd(1, model, ff.SGD(), ff.History(loss=[1.0])))
    saved(tmp_path / "c")
    message = r"layers\[0\] is Linear\(in_features=6, out_features=3\)"
    unchanged(tmp_path / "c", ModelFileError, message, ff.Sequential(ff.Linear(6, 3), Mine(), seed=0, dtype="float64"))


@pytest.mark.parametrize(("before", "now", "message"), [(WRONG, None, "are missing"), (None, WRONG, "it had no")])
def test_validation_data_must_be_there_as_they_were(tmp_path, before, now, message):
    saved(tmp_path / "run", validation_data=before)
    model = network(seed=1)
    with pytest.raises(ModelFileError, match=message):
        fit(model, ff.SGD(0.1, momentum=0.9), validation_data=now, resume=tmp_path / "run")
    assert model.parameters.tobytes() == network(seed=1).parameters.tobytes()


def test_a_schedule_stays_as_it_was_when_nothing_is_resumed(tmp_path):
    saved(tmp_path / "run")
    schedule = ReduceOnPlateau()
    schedule.restore({"now": 0.25, "best": 1.0, "waited": 3})
    with pytest.raises(ModelFileError, match="schedule is ReduceOnPlateau, in the file NoneType"):
        fit(network(), ff.SGD(0.1, momentum=0.9), schedule, resume=tmp_path / "run")
    assert schedule.state() == {"now": 0.25, "best": 1.0, "waited": 3}
