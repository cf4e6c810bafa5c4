"""A training that was resumed is, bit for bit, one that had never stopped."""

import sys

import numpy as np
import pytest
from _checkpoints import RNG, TRAININGS, X, checkpoints, fit, network, remains, saved, training_in
from safetensors.numpy import load_file

import fastfnn as ff
from fastfnn.errors import InvalidTypeError
from fastfnn.schedules import Cosine

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


def test_a_learning_rate_that_callbacks_change_stays_changed(tmp_path):
    def halve(end):
        if end.epoch in (2, 5):
            end.optimizer.lr /= 2

    def train(seed, resume=None):
        model, path = network(seed), tmp_path / ("other" if resume else "first")
        every = [halve, ff.Checkpoint(path), lambda end: ff.Checkpoint(tmp_path / f"{path.name}{end.epoch}")(end)]
        history = fit(model, ff.SGD(0.1, momentum=0.9), callbacks=every, resume=resume)
        return model.parameters.tobytes(), history.lr

    whole = train(seed=0)
    assert whole[1] == [0.1, 0.1, 0.05, 0.05, 0.05, 0.025]
    assert train(seed=1, resume=tmp_path / "first3") == whole
    assert train(seed=2, resume=tmp_path / "other4") == whole  # of a training that was itself resumed


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
        parts = {"loss": ff.MSELoss(), "optimizer": ff.SGD(0.01), "validation_data": (X, target), "progress": False}
        return ff.fit(network(), X, target, **parts, **options)

    def overwrite(end):
        end.history.val_loss[-1] = np.inf

    train(epochs=2, callbacks=[overwrite, ff.Checkpoint(path)])
    history = train(epochs=3, resume=path)
    assert np.isnan(history.accuracy).all()
    assert history.val_loss[:2] == [np.inf, np.inf]


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
        def __init__(self, log_dir, purge_step, filename_suffix):
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
