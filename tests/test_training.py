"""fit, evaluate, predict and train_step: the two ways to run agree, and what training promises."""

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import lowering, program
from fastfnn.errors import InvalidTypeError, InvalidValueError, NonFiniteLossError
from fastfnn.training import course
from fastfnn_kernels import _config, team

RNG = np.random.default_rng(2)
N, FEATURES, CLASSES = 53, 12, 4
X = RNG.normal(size=(N, FEATURES))
Y = RNG.integers(0, CLASSES, N)
ONE_HOT = np.eye(CLASSES)[Y]
REAL = RNG.normal(size=(N, CLASSES))
UNIT = RNG.uniform(size=(N, CLASSES))


def network(*middle, out=CLASSES, last=(), dtype="float64", seed=0):
    return ff.Sequential(ff.Linear(FEATURES, 9), *middle, ff.Linear(9, out), *last, seed=seed, dtype=dtype)


def eager_fit(model, x, y, loss, optimizer, epochs, batch_size):
    """The hand-written loop that `fit` must equal."""
    losses = []
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            value = loss.forward(model.forward(x[rows]), y[rows])
            model.backward(loss.backward())
            optimizer.step(model.parameters, model.gradients)
            total += value * len(x[rows]) if loss.reduction == "mean" else value
        losses.append(total / len(x) if loss.reduction == "mean" else total)
    return losses


def fit(model, x=X, y=Y, loss=None, optimizer=None, **options):
    return ff.fit(
        model,
        x,
        y,
        loss=loss or ff.CrossEntropyLoss(),
        optimizer=optimizer or ff.SGD(0.1),
        **{"progress": False, "seed": 0, **options},
    )


# Some of the networks have a layer of their own.
pytestmark = pytest.mark.filterwarnings("ignore:.*no compiled form")


class Square(ff.Layer):
    """A user's own layer."""

    def forward(self, x):
        self._saved = np.asarray(x)
        return self._saved**2

    def backward(self, grad_out):
        return 2 * self.saved * grad_out


NETWORKS = {
    "linear": lambda d: ff.Sequential(ff.Linear(FEATURES, CLASSES), seed=0, dtype=d),
    "relu": lambda d: network(ff.ReLU(), dtype=d),
    "two relus": lambda d: network(ff.ReLU(), ff.Linear(9, 9), ff.ReLU(), dtype=d),
    "relu last": lambda d: network(ff.Tanh(), last=(ff.ReLU(),), dtype=d),
    "relu, tanh": lambda d: network(ff.ReLU(), ff.Tanh(), dtype=d),
    "relu alone first": lambda d: ff.Sequential(ff.ReLU(), ff.Linear(FEATURES, CLASSES), seed=0, dtype=d),
    "leaky relu": lambda d: network(ff.LeakyReLU(0.2), dtype=d),
    "sigmoid": lambda d: network(ff.Sigmoid(), dtype=d),
    "tanh": lambda d: network(ff.Tanh(), dtype=d),
    "softmax between": lambda d: network(ff.Softmax(), dtype=d),
    "log": lambda d: network(ff.Sigmoid(), ff.Log(), dtype=d),
    "no bias": lambda d: ff.Sequential(
        ff.Linear(FEATURES, 9, bias=False), ff.ReLU(), ff.Linear(9, CLASSES, bias=False), seed=0, dtype=d
    ),
    "normalize": lambda d: ff.Sequential(ff.Normalize(0.5, 2.0), *network(ff.ReLU()).layers, dtype=d),
    "normalize later": lambda d: network(ff.Normalize(0.5, 2.0), dtype=d),
    "flatten": lambda d: ff.Sequential(ff.Flatten(), *network(ff.ReLU()).layers, dtype=d),
    "flatten later": lambda d: network(ff.Flatten(), ff.Tanh(), dtype=d),
    "own layer": lambda d: network(Square(), ff.Linear(9, 9), dtype=d),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 7, 53])
@pytest.mark.parametrize("name", NETWORKS)
def test_fit_equals_the_eager_loop_for_every_layer(name, batch_size, dtype):
    eager, lowered = NETWORKS[name](dtype), NETWORKS[name](dtype)
    x = X.astype(dtype)
    expected = eager_fit(eager, x, Y, ff.CrossEntropyLoss(), ff.SGD(0.02), 2, batch_size)
    history = fit(lowered, x, optimizer=ff.SGD(0.02), epochs=2, batch_size=batch_size, shuffle=False)
    tolerance = {"float32": 2e-4, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(history.loss, expected, rtol=tolerance)
    np.testing.assert_allclose(lowered.parameters, eager.parameters, rtol=tolerance, atol=tolerance)


LOSSES = {
    "cross-entropy of labels": (ff.CrossEntropyLoss(), Y, ()),
    "cross-entropy of rows": (ff.CrossEntropyLoss(), UNIT, ()),
    "cross-entropy, smoothed": (ff.CrossEntropyLoss(label_smoothing=0.1), Y, ()),
    "cross-entropy, sum": (ff.CrossEntropyLoss("sum"), Y, ()),
    "nll of labels": (ff.NLLLoss(), Y, (ff.LogSoftmax(),)),
    "nll of rows": (ff.NLLLoss(), ONE_HOT, (ff.Softmax(), ff.Log())),
    "bce": (ff.BCELoss(), UNIT, (ff.Sigmoid(),)),
    "bce with logits": (ff.BCEWithLogitsLoss(), UNIT, ()),
    "mse": (ff.MSELoss(), REAL, ()),
    "mse, sum": (ff.MSELoss("sum"), REAL, ()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_fit_equals_the_eager_loop_for_every_loss(name):
    loss, y, last = LOSSES[name]
    eager, lowered = (network(ff.Tanh(), last=last) for _ in range(2))
    expected = eager_fit(eager, X, y, loss, ff.SGD(0.002), 2, 10)
    history = fit(lowered, y=y, loss=loss, optimizer=ff.SGD(0.002), epochs=2, batch_size=10, shuffle=False)
    np.testing.assert_allclose(history.loss, expected, rtol=1e-9)
    np.testing.assert_allclose(lowered.parameters, eager.parameters, rtol=1e-9, atol=1e-12)
    result = ff.evaluate(lowered, X, y, loss=loss)
    assert result.loss == pytest.approx(loss.forward(lowered.forward(X), y), rel=1e-9)
    assert math.isnan(result.accuracy) == name.startswith("mse")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ff.SGD(0.05, weight_decay=0.01),
        lambda: ff.SGD(0.05, momentum=0.9),
        lambda: ff.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda: ff.Adam(0.01),
        lambda: ff.Adam(0.01, betas=(0.8, 0.9), weight_decay=0.1),
    ],
)
def test_fit_equals_the_eager_loop_for_every_optimizer(make):
    eager, lowered = network(ff.ReLU()), network(ff.ReLU())
    expected = eager_fit(eager, X, Y, ff.CrossEntropyLoss(), make(), 3, 10)
    history = fit(lowered, optimizer=make(), epochs=3, batch_size=10, shuffle=False)
    np.testing.assert_allclose(history.loss, expected, rtol=1e-9)
    np.testing.assert_allclose(lowered.parameters, eager.parameters, rtol=1e-8, atol=1e-12)


def test_a_batch_larger_than_a_chunk_is_one_step(monkeypatch):
    whole, pieces = network(ff.ReLU(), ff.Tanh()), network(ff.ReLU(), ff.Tanh())
    fit(whole, epochs=3, batch_size=None)
    monkeypatch.setattr(lowering, "CHUNK_ROWS", 8)
    history = fit(pieces, epochs=3, batch_size=None)
    assert history.epochs == 3
    np.testing.assert_allclose(pieces.parameters, whole.parameters, rtol=1e-9, atol=1e-12)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(lowering, "CHUNK_ROWS", 16)
    runs = []
    for n_threads in (1, 2, 3):
        model = network(ff.ReLU(), ff.Linear(9, 9), ff.Tanh(), dtype="float32")
        history = fit(model, epochs=2, batch_size=20, n_threads=n_threads)
        runs.append((model.parameters.tobytes(), history.loss, ff.predict_raw(model, X, n_threads=n_threads).tobytes()))
    assert runs[0] == runs[1] == runs[2]


def test_one_seed_gives_one_result_and_another_another():
    runs = []
    for seed in (3, 3, 4):
        model = network(ff.ReLU())
        fit(model, epochs=2, batch_size=8, seed=seed)
        runs.append(model.parameters.tobytes())
    assert runs[0] == runs[1] != runs[2]


def test_every_row_is_seen_once_an_epoch():
    seen = []

    class Watch(ff.Layer):
        def forward(self, x):
            seen.append(np.array(x))
            return x

        def backward(self, grad_out):
            return grad_out

    rows = np.arange(N, dtype=np.float32)[:, None]
    model = ff.Sequential(Watch(), ff.Linear(1, 2), seed=0)
    fit(model, rows, Y % 2, epochs=2, batch_size=10)
    orders = np.concatenate(seen).reshape(2, N)
    assert [len(batch) for batch in seen[:6]] == [10, 10, 10, 10, 10, 3]
    np.testing.assert_array_equal(np.sort(orders, axis=1), [np.arange(N)] * 2)
    assert (orders[0] != orders[1]).any()


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int64", "float16", "float32", "float64", "longdouble", ">f4", "bool"]
)
def test_inputs_are_taken_as_they_come(dtype):
    x = RNG.integers(0, 2, (N, 3, 4)).astype(dtype)
    models = [ff.Sequential(ff.Flatten(), *network(ff.ReLU()).layers) for _ in range(2)]
    fit(models[0], x, epochs=2)
    fit(models[1], x.astype("float32"), epochs=2)
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)


def test_a_memory_map_is_read_and_not_written(tmp_path):
    X.astype("float32").tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=X.shape)
    models = [network(ff.ReLU()) for _ in range(2)]
    fit(models[0], mapped)
    fit(models[1], X.astype("float32"))
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)


def test_history_holds_an_entry_an_epoch():
    model = network(ff.ReLU())
    history = fit(model, epochs=3, validation_data=(X[:20], Y[:20]))
    assert {len(values) for values in history.to_dict().values()} == {3}
    result = ff.evaluate(model, X[:20], Y[:20], loss=ff.CrossEntropyLoss())
    assert (history.val_loss[-1], history.val_accuracy[-1]) == result
    assert history.loss[-1] < history.loss[0]
    assert "3 epochs" in repr(history)
    assert fit(model, epochs=0).to_dict() == {name: [] for name in history.to_dict()}


def test_callbacks_see_each_epoch_and_may_stop():
    seen = []

    def watch(end):
        seen.append((end.epoch, end.history.epochs, end.model is model))
        return end.epoch == 2

    model = network(ff.ReLU())
    assert fit(model, epochs=5, callbacks=[watch]).epochs == 2
    assert seen == [(1, 1, True), (2, 2, True)]


@pytest.mark.parametrize("is_compiled", [True, False])
def test_callbacks_within_epochs_see_every_nth_step_and_change_nothing(is_compiled, monkeypatch):
    if not is_compiled:
        monkeypatch.setattr(program, "is_compiled", lambda *args: False)
    plain, watched, seen, more = network(ff.ReLU()), network(ff.ReLU()), [], []
    steps = 6  # of which the last is short
    options = {"epochs": 2, "batch_size": 10}

    def watch(end):
        seen.append((end.epoch, end.step, end.loss, end.accuracy))
        assert end.model is watched
        assert end.optimizer.steps == end.step + (end.epoch - 1) * steps

    expected = fit(plain, **options)
    callbacks = [ff.EverySteps(2, watch), ff.EverySteps(3, lambda end: more.append(end.step)), lambda end: None]
    history = fit(watched, callbacks=callbacks, **options)
    assert [call[:2] for call in seen] == [(epoch, step) for epoch in (1, 2) for step in (2, 4, 6)]
    assert more == [3, 6, 3, 6]
    np.testing.assert_array_equal(watched.parameters, plain.parameters)
    assert history.loss == expected.loss
    assert seen[-1][2:] == (history.loss[-1], history.accuracy[-1])
    assert len({call[2] for call in seen}) == 6


def test_a_callback_within_an_epoch_may_stop():
    by_hand, stopped, ends = network(ff.ReLU()), network(ff.ReLU()), []
    stop = ff.EverySteps(3, lambda end: end.step == 3)
    history = fit(stopped, epochs=3, batch_size=8, shuffle=False, callbacks=[stop, ends.append])
    assert (history.epochs, len(ends)) == (1, 1)
    optimizer = ff.SGD(0.1)
    for start in (0, 8, 16):
        rows = slice(start, start + 8)
        ff.train_step(by_hand, X[rows], Y[rows], loss=ff.CrossEntropyLoss(), optimizer=optimizer)
    np.testing.assert_allclose(stopped.parameters, by_hand.parameters, rtol=1e-12)


def test_every_steps_wants_a_number_and_a_callable():
    with pytest.raises(InvalidValueError, match="steps is 0"):
        ff.EverySteps(0, print)
    with pytest.raises(InvalidTypeError, match="callback is 3; expected a callable"):
        ff.EverySteps(3, 3)


def test_an_error_in_a_callback_reaches_the_caller_and_leaves_no_thread():
    def fail(end):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(network(ff.ReLU()), callbacks=[fail], n_threads=2)
    assert sorted(map(id, team._alive)) == sorted(map(id, team._idle)), "no thread but those that wait for a team"


def test_divergence_stops_with_the_parameters_of_the_last_good_epoch():
    model, optimizer, kept = network(ff.ReLU()), ff.SGD(0.01, momentum=0.9), []

    def blow_up(end):
        kept.append((end.model.parameters.copy(), end.optimizer.state["velocity"].copy()))
        end.optimizer.lr = 1e200 if end.epoch == 2 else 0.01

    with pytest.raises(
        NonFiniteLossError, match="in epoch 3, step 2; the parameters are those after epoch 2"
    ) as caught:
        fit(model, optimizer=optimizer, epochs=9, batch_size=20, callbacks=[blow_up])
    assert (caught.value.epoch, caught.value.step) == (3, 2)
    np.testing.assert_array_equal(model.parameters, kept[1][0])
    np.testing.assert_array_equal(optimizer.state["velocity"], kept[1][1])


def test_a_last_step_that_overflows_is_found_at_the_end_of_the_epoch():
    model, x = network(ff.ReLU(), dtype="float32"), (X * 1e30).astype("float32")
    before = model.parameters.copy()
    with pytest.raises(NonFiniteLossError) as caught:
        fit(model, x, optimizer=ff.SGD(1e38), batch_size=None, epochs=1)
    assert np.isfinite(x).all()
    assert caught.value.step == 1
    np.testing.assert_array_equal(model.parameters, before)


def test_nan_in_the_inputs_is_reported_and_nothing_is_lost():
    x = X.copy()
    x[30, 2] = np.nan
    model = network(ff.ReLU())
    before = model.parameters.copy()
    with pytest.raises(NonFiniteLossError, match="in epoch 1, step 4"):
        fit(model, x, batch_size=10, shuffle=False)
    np.testing.assert_array_equal(model.parameters, before)


def test_train_step_is_one_step_of_fit():
    by_hand, fitted = network(ff.ReLU()), network(ff.ReLU())
    result = ff.train_step(by_hand, X, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1))
    history = fit(fitted, epochs=1, batch_size=None)
    np.testing.assert_array_equal(by_hand.parameters, fitted.parameters)
    assert result.loss == pytest.approx(history.loss[0], rel=1e-12)
    assert result.accuracy == history.accuracy[0]


def test_train_step_leaves_the_parameters_when_the_loss_is_not_finite():
    model = network(ff.ReLU())
    before = model.parameters.copy()
    with pytest.raises(NonFiniteLossError, match="the parameters are untouched"):
        ff.train_step(model, X * np.nan, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1))
    np.testing.assert_array_equal(model.parameters, before)


def test_threads_may_train_different_networks_at_once():
    def train(seed):
        model = network(ff.ReLU(), seed=seed)
        fit(model, epochs=3, n_threads=2, batch_size=8)
        return model.parameters.tobytes()

    alone = [train(seed) for seed in range(8)]
    together: dict[int, bytes] = {}
    threads = [threading.Thread(target=lambda s=s: together.__setitem__(s, train(s))) for s in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(8)] == alone


@pytest.mark.skipif(not _config.JIT, reason="without the JIT a batch goes through as a whole")
def test_training_allocates_nothing_that_grows_with_the_data():
    import tracemalloc

    peaks = []
    for rows in (10_000, 80_000):
        x = np.zeros((rows, FEATURES), np.uint8)
        model = network(ff.ReLU())
        fit(model, x[:100], np.zeros(100, int))
        tracemalloc.start()
        fit(model, x, np.zeros(rows, int), batch_size=None, epochs=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8 * 80_000 + 100_000  # the labels as int64, nothing else


BAD_FITS = [
    ({"model": 3}, InvalidTypeError, "model is int; expected a Sequential"),
    ({"x": X[:, :5]}, InvalidValueError, r"x has shape \(53, 5\): .* expected \(12,\)"),
    ({"x": X[0]}, InvalidValueError, r"x has shape \(12,\); expected \(n, …\)"),
    ({"x": [[1.0, 2.0], [1.0]]}, InvalidValueError, "x is no array: .* inhomogeneous"),
    ({"x": X.astype(str)}, InvalidTypeError, "x has dtype <U32; expected numbers"),
    ({"x": X[:0], "y": Y[:0]}, InvalidValueError, "expected at least one row"),
    ({"y": Y[:5]}, InvalidValueError, "y has 5 rows; expected 53, as many as x"),
    ({"y": Y + 1}, InvalidValueError, "y holds the label 4; expected labels from 0 to 3"),
    ({"y": Y - 1}, InvalidValueError, "y holds the label -1; expected labels from 0 to 3"),
    ({"y": Y + 0.5}, InvalidTypeError, "y has dtype float64; expected integer labels"),
    ({"y": REAL[:, :2]}, InvalidValueError, r"y has shape \(53, 2\); expected \(53,\) for labels"),
    ({"y": Y, "loss": ff.MSELoss()}, InvalidValueError, r"y has shape \(53,\); expected \(n, 4\) for MSELoss\(\)"),
    ({"loss": "mse"}, InvalidTypeError, "loss is 'mse'; expected a loss such as CrossEntropyLoss"),
    ({"loss": ff.CrossEntropyLoss("none")}, InvalidValueError, 'loss has reduction "none"'),
    ({"optimizer": "sgd"}, InvalidTypeError, "optimizer is 'sgd'; expected an optimizer such as SGD"),
    ({"epochs": -1}, InvalidValueError, "epochs is -1; expected an integer of at least 0"),
    ({"batch_size": 0}, InvalidValueError, "batch_size is 0; expected an integer of at least 1"),
    ({"batch_size": "full"}, InvalidTypeError, "batch_size is 'full'"),
    ({"n_threads": 0}, InvalidValueError, "n_threads is 0"),
    ({"callbacks": [3]}, InvalidTypeError, "callbacks holds 3; expected callables"),
    ({"validation_data": X}, InvalidTypeError, "validation_data is ndarray; expected \\(x, y\\)"),
    (
        {"validation_data": (X, Y[:4])},
        InvalidValueError,
        "validation y has 4 rows; expected 53, as many as validation x",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD_FITS)
def test_bad_arguments_are_named_and_nothing_changes(wrong, error, message):
    model = network(ff.ReLU())
    before = model.parameters.copy()
    with pytest.raises(error, match=message):
        fit(**{"model": model, "epochs": 1, **wrong})
    np.testing.assert_array_equal(model.parameters, before)


def test_a_bar_in_a_terminal_and_a_line_an_epoch_in_a_log(monkeypatch, capsys):
    fit(network(ff.ReLU()), epochs=2, progress=True)
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split(":")[0] for line in lines[-2:]] == ["epoch 1/2", "epoch 2/2"]
    assert "accuracy" in lines[-1]
    assert "\r" not in "".join(lines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fit(network(ff.ReLU()), epochs=2, progress=True)
    bar = capsys.readouterr().err
    assert "epoch 2/2 100%" in bar
    assert "loss" in bar


@pytest.mark.skipif(not _config.JIT, reason="there are no programs")
def test_what_is_compiled_for_an_epoch_is_no_part_of_its_seconds(monkeypatch, capsys):
    clock = [0.0]
    made = program.Program.__init__

    def compiles(self, *args):
        clock[0] += 1000
        made(self, *args)

    def steps(self, *args):
        clock[0] += 1
        return run(self, *args)

    run = program.Program.run
    monkeypatch.setattr(program.Program, "__init__", compiles)
    monkeypatch.setattr(program.Program, "run", steps)
    monkeypatch.setattr(course, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    history = fit(network(ff.ReLU()), epochs=2, progress=True)
    assert history.seconds == [1.0, 1.0]
    assert f"1.00 s, {len(X)} samples/s" in capsys.readouterr().err


@pytest.mark.parametrize("optimizer", [ff.SGD, ff.Adam, ff.RMSprop])
@pytest.mark.parametrize("lr", [1e30, 1e39, 1e300])
def test_after_a_divergence_that_overflows_the_model_can_be_trained_again(optimizer, lr):
    """Also what lies between the parameters in the flat array is as it was."""
    model, rng = ff.Sequential(ff.Linear(5, 3), ff.ReLU(), ff.Linear(3, 2), seed=0), np.random.default_rng(0)
    x, y, before = rng.normal(size=(60, 5)), rng.integers(0, 2, 60), model.parameters.copy()
    options = {"loss": ff.CrossEntropyLoss(), "batch_size": 7, "progress": False, "seed": 0}
    with pytest.raises(ff.errors.NonFiniteLossError):
        ff.fit(model, x, y, optimizer=optimizer(lr), **options)
    np.testing.assert_array_equal(model.parameters, before)
    assert np.isfinite(ff.fit(model, x, y, optimizer=ff.SGD(0.1), **options).loss).all()
