"""Checkpoints: a training that was resumed is, bit for bit, one that had never stopped; and every file that is none."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from _helpers import run_python
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastfnn as ff
from fastfnn.callbacks import resume
from fastfnn.checkpoint import TRAINING
from fastfnn.errors import InvalidTypeError, InvalidValueError, ModelFileError
from fastfnn.schedules import Cosine, ReduceOnPlateau, Step

RNG = np.random.default_rng(37)
X, Y = RNG.normal(size=(50, 6)), RNG.integers(0, 3, 50)
WRONG = (X[:9], (Y[:9] + 1) % 3)  # becomes worse while training becomes better


def network(seed=0, dtype="float64"):
    return ff.Sequential(
        ff.Linear(6, 9), ff.BatchNorm1d(9), ff.ReLU(), ff.Dropout(0.3), ff.Linear(9, 3), seed=seed, dtype=dtype
    )


#: Optimizer, schedule and callbacks of trainings.
TRAININGS = {
    "momentum": lambda: (ff.SGD(0.1, momentum=0.9, nesterov=True), Cosine(warmup=1), []),
    "adam": lambda: (
        ff.Adam(0.05, clip_norm=1),
        ReduceOnPlateau(0.5, patience=0),
        [ff.EarlyStopping("val_loss", patience=4, min_delta=0.01)],
    ),
    "plain": lambda: (ff.SGD(0.1), None, [ff.EarlyStopping("loss", restore_best=False)]),
    "others": lambda: (
        ff.RMSprop(0.01, l1=1e-3, decay_biases=False),
        Step(2, 0.5),
        [ff.EarlyStopping("loss", patience=5), ff.EarlyStopping("val_accuracy", patience=5)],
    ),
}


def fit(model, optimizer, schedule=None, callbacks=(), **options):
    options = {"epochs": 6, "batch_size": 12, "seed": 0, "progress": False, "validation_data": WRONG, **options}
    parts = {"optimizer": optimizer, "schedule": schedule, "callbacks": callbacks}
    return ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), **parts, **options)


def remains(model, optimizer, schedule, callbacks, rng, history):
    """All that a training leaves behind, but for the time that it took."""
    model = {"parameters": model.parameters, **model.named_buffers()}
    parts = {"model": model, "optimizer": optimizer.state, **{str(i): c.state()[1] for i, c in enumerate(callbacks)}}
    arrays = {(part, name): array.tobytes() for part, entry in parts.items() for name, array in entry.items()}
    figures = {name: column for name, column in history.to_dict().items() if name != "seconds"}
    states = [schedule and schedule.state(), [callback.state()[0] for callback in callbacks]]
    return arrays, figures, states, optimizer.steps, str(rng.bit_generator.state)


def checkpoints(folder):
    """A callback that writes one after every epoch."""
    return lambda end: ff.Checkpoint(folder / f"{end.epoch}")(end)


def saved(path, **options):
    """Train two epochs and leave a checkpoint."""
    model, optimizer = network(), ff.SGD(0.1, momentum=0.9)
    fit(model, optimizer, epochs=2, callbacks=[ff.Checkpoint(path)], **options)
    return model, optimizer


def training_in(path):
    """What a checkpoint says of its training."""
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()[TRAINING])


# Resuming is not stopping


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRAININGS)
def test_a_resumed_training_is_one_that_never_stopped(tmp_path, name, dtype):
    def train(seed, path=None):
        model, (optimizer, schedule, callbacks), rng = (
            network(seed, dtype),
            TRAININGS[name](),
            np.random.default_rng(seed),
        )
        every = [] if path else [checkpoints(tmp_path)]
        history = fit(model, optimizer, schedule, [*callbacks, *every], seed=rng, resume=path)
        return remains(model, optimizer, schedule, callbacks, rng, history)

    whole = train(seed=0)
    epochs = len(whole[1]["loss"])
    assert epochs > 4
    for epoch in range(1, epochs + 1):
        assert train(seed=epoch, path=tmp_path / f"{epoch}") == whole, f"resumed after epoch {epoch}"


def test_early_stopping_ends_a_resumed_training_where_it_would_have(tmp_path):
    whole, stopping = network(), ff.EarlyStopping(patience=2)
    history = fit(whole, ff.Adam(0.05), callbacks=[stopping, checkpoints(tmp_path)], epochs=20)
    assert 1 <= stopping.best_epoch == stopping.stopped_epoch - 2 < 18
    for epoch in range(1, stopping.stopped_epoch + 1):  # after the last one nothing but the best model is to come
        model, again = network(seed=1), ff.EarlyStopping(patience=2)
        resumed = fit(model, ff.Adam(0.05), callbacks=[again], epochs=20, resume=tmp_path / f"{epoch}")
        assert resumed.val_loss == history.val_loss
        assert model.parameters.tobytes() == whole.parameters.tobytes()
        assert again.stopped_epoch == stopping.stopped_epoch


def test_a_training_that_died_goes_on(tmp_path):
    def die(end):
        if end.epoch == 4:
            raise KeyboardInterrupt

    path, whole, model = tmp_path / "c", network(), network()
    options = {"epochs": 7}
    fit(whole, ff.SGD(0.1), Cosine(), **options)
    with pytest.raises(KeyboardInterrupt):
        fit(model, ff.SGD(0.1), Cosine(), [ff.Checkpoint(path, every=2), die], **options)
    history = fit(model, ff.SGD(0.1), Cosine(), [ff.Checkpoint(path, every=2)], resume=path, **options)
    assert history.epochs == 7
    assert model.parameters.tobytes() == whole.parameters.tobytes()


def test_more_epochs_than_before_can_follow(tmp_path):
    whole, model = network(), network(seed=4)
    fit(whole, ff.SGD(0.1, momentum=0.9), epochs=5)
    saved(tmp_path / "c")
    history = fit(model, ff.SGD(0.1, momentum=0.9), epochs=5, resume=tmp_path / "c")
    assert history.epochs == 5
    assert model.parameters.tobytes() == whole.parameters.tobytes()


def test_the_learning_rate_is_the_one_that_is_given(tmp_path):
    saved(tmp_path / "c")
    history = fit(network(), ff.SGD(0.025, momentum=0.9), epochs=4, resume=tmp_path / "c")
    assert history.lr == [0.1, 0.1, 0.025, 0.025]


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_bit_generator_goes_on(tmp_path, kind):
    make = getattr(np.random, kind)
    whole, model, rng = network(), network(seed=1), np.random.Generator(make(7))
    rng.integers(9, dtype=np.uint32)  # half of a number is left
    fit(whole, ff.SGD(0.1), callbacks=[checkpoints(tmp_path)], epochs=4, seed=rng)
    other = np.random.Generator(make(8))
    fit(model, ff.SGD(0.1), epochs=4, resume=tmp_path / "2", seed=other)
    assert model.parameters.tobytes() == whole.parameters.tobytes()
    assert (
        other.integers(2**32, size=9, dtype=np.uint32).tolist() == rng.integers(2**32, size=9, dtype=np.uint32).tolist()
    )


def test_an_optimizer_that_has_worked_with_the_model_forgets_it(tmp_path):
    whole, model, optimizer = network(), network(), ff.Adam()
    fit(whole, ff.Adam(), epochs=3, callbacks=[checkpoints(tmp_path)])
    fit(model, optimizer, epochs=2)
    fit(model, optimizer, epochs=3, resume=tmp_path / "1")
    assert model.parameters.tobytes() == whole.parameters.tobytes()
    assert optimizer.steps == 15


def test_nan_and_infinity_in_a_history_come_back(tmp_path):
    target, path = RNG.normal(size=(50, 3)), tmp_path / "c"

    def train(**options):
        return ff.fit(network(), X, target, loss=ff.MSELoss(), optimizer=ff.SGD(0.01), progress=False, **options)

    train(epochs=2, callbacks=[lambda end: end.history.val_loss.append(np.inf), ff.Checkpoint(path)])
    history = train(epochs=3, resume=path)
    assert np.isnan(history.accuracy).all()
    assert history.val_loss == [np.inf, np.inf]


def test_logs_go_on(tmp_path, monkeypatch):
    path, log = tmp_path / "c", tmp_path / "log.csv"
    model, optimizer = saved(path)
    log.write_text("something else")
    history = fit(model, optimizer, epochs=3, callbacks=[ff.CSVLogger(log)], resume=path)
    lines = log.read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [[str(i), repr(x)] for i, x in enumerate(history.loss, 1)]
    fit(model, optimizer, epochs=2, callbacks=[ff.CSVLogger(log)], resume=path)  # nothing is left to do
    assert log.read_text().splitlines() == lines

    class Writer:
        def __init__(self, log_dir, purge_step):
            written.append(purge_step)

        def add_scalar(self, name, value, step):
            written.append(step)

        def flush(self):
            pass

        close = flush

    written = []
    monkeypatch.setitem(sys.modules, "tensorboardX", type("Module", (), {"SummaryWriter": Writer}))
    fit(model, optimizer, epochs=4, callbacks=[ff.TensorBoard(tmp_path)], resume=path)
    assert written == [3, *[3] * 6, *[4] * 6]


# What is written


def test_every_says_how_often_and_the_last_epoch_of_a_stopped_training_has_one(tmp_path):
    path, seen = tmp_path / "c", []

    def look(end):
        seen.append(training_in(path)["epoch"] if path.exists() else None)
        return end.epoch == 5

    fit(network(), ff.SGD(), callbacks=[ff.Checkpoint(path, every=2), look], epochs=9)
    assert seen == [None, None, 2, 2, 4]
    last = training_in(path)
    assert (last["epoch"], last["stopped"], len(last["history"]["loss"])) == (5, True, 5)


def test_load_reads_the_model_out_of_a_checkpoint(tmp_path):
    path, model = tmp_path / "c", network()
    fit(model, ff.Adam(), Cosine(), [ff.EarlyStopping(restore_best=False), ff.Checkpoint(path)])
    again = ff.load(path)
    assert repr(again) == repr(model)
    assert ff.predict_raw(again, X).tobytes() == ff.predict_raw(model, X).tobytes()


def test_others_can_read_the_optimizers_state_by_the_parameters_names(tmp_path):
    model, optimizer = saved(tmp_path / "c")
    tensors = load_file(tmp_path / "c")
    names = {*model.named_parameters(), *model.named_buffers()}
    velocities = {f"training.optimizer.velocity.{name}" for name in model.named_parameters()}
    assert set(tensors) == names | velocities
    flat = np.concatenate([np.sort(tensors[name].ravel()) for name in velocities])
    kept = optimizer.state["velocity"]
    assert np.sort(flat).tolist() == np.sort(kept[kept != 0]).tolist()


def test_what_json_cannot_hold_is_named(tmp_path):
    class Keeper(ff.EpochCallback):
        def state(self):
            return {"seen": {3}}, {}

        def __repr__(self):
            return "Keeper()"

    with pytest.raises(InvalidTypeError, match=r"the state of Keeper\(\) is \{'seen': \{3\}\}, which JSON cannot hold"):
        fit(network(), ff.SGD(), callbacks=[Keeper(), ff.Checkpoint(tmp_path / "c")])
    assert not list(tmp_path.iterdir())


def test_callbacks_of_ones_own_keep_values_and_arrays(tmp_path):
    class Keeper(ff.EpochCallback):
        def __init__(self):
            self.epochs, self.sums = [], np.zeros(())

        def __call__(self, end):
            self.epochs.append(end.epoch)
            self.sums = self.sums + end.history.loss[-1]

        def state(self):
            return {"epochs": self.epochs}, {"sums": self.sums, "turned": np.arange(6).reshape(2, 3).T}

        def restore(self, values, arrays):
            self.epochs, self.sums = values["epochs"], arrays["sums"]
            assert arrays["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]

    path, keeper = tmp_path / "c", Keeper()
    fit(network(), ff.SGD(), callbacks=[Keeper(), ff.Checkpoint(path)], epochs=2)
    history = fit(network(), ff.SGD(), callbacks=[keeper], epochs=3, resume=path)
    assert keeper.epochs == [1, 2, 3]
    assert keeper.sums.shape == ()
    assert keeper.sums == pytest.approx(sum(history.loss))


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
