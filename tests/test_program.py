"""Whole epochs in one call: the same bits for any slicing and team, nothing compiled for a network, and interrupts."""

import _thread
import os
import platform
import threading

import numpy as np
import pytest
from _helpers import run_python

import fastfnn as ff
from fastfnn.engine import lowering, pace, program
from fastfnn.engine.steps import LinearStep
from fastfnn.functional import _run
from fastfnn.training import arguments
from fastfnn_kernels import _config, team

pytestmark = pytest.mark.skipif(not _config.JIT, reason="without the JIT training runs step by step")

RNG = np.random.default_rng(31)
X = RNG.integers(0, 256, (203, 5, 6), dtype=np.uint8)
Y = RNG.integers(0, 7, 203)


def network(seed=0, hidden=(11, 9), dtype="float32"):
    layers = [ff.Flatten(), ff.Normalize(0.5, 0.3, scale=1 / 255)]
    inputs = 30
    for width in hidden:
        layers += [ff.Linear(inputs, width), ff.ReLU()]
        inputs = width
    return ff.Sequential(*layers, ff.Linear(inputs, 7), seed=seed, dtype=dtype)


def train(model, **options):
    settings = {"optimizer": ff.SGD(0.1), "epochs": 2, "batch_size": 32, "seed": 1, "progress": False, **options}
    history = ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), **settings)
    return model.parameters.tobytes(), history.loss, history.accuracy


@pytest.mark.parametrize("batch_size", [1, 7, 32, None])
@pytest.mark.parametrize(
    "optimizer",
    [lambda: ff.SGD(0.1), lambda: ff.Adam(0.01), lambda: ff.SGD(0.1, clip_norm=0.1)],
    ids=["sgd", "adam", "clipped"],
)
def test_any_number_of_threads_gives_the_same_bits(optimizer, batch_size):
    runs = [train(network(), n_threads=n, batch_size=batch_size, optimizer=optimizer()) for n in (1, 2, 3, 4)]
    assert runs[0] == runs[1] == runs[2] == runs[3]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_batch_in_pieces_is_still_one_step(monkeypatch, n_threads):
    whole = train(network(dtype="float64"), batch_size=100)
    monkeypatch.setattr(lowering, "CHUNK_ROWS", 24)
    model = network(dtype="float64")
    pieces = train(model, batch_size=100, n_threads=n_threads)
    np.testing.assert_allclose(pieces[1], whole[1], rtol=1e-12)
    np.testing.assert_allclose(model.parameters, np.frombuffer(whole[0]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seconds", [1e-9, 10.0])
def test_where_an_epoch_is_sliced_makes_no_difference(monkeypatch, seconds):
    expected = train(network())
    monkeypatch.setattr(program, "SLICE_SECONDS", seconds)
    assert train(network()) == expected


def test_the_number_of_threads_may_change_from_slice_to_slice(monkeypatch):
    monkeypatch.setattr(program, "SLICE_SECONDS", 1e-9)
    monkeypatch.setattr(_run, "cores", lambda: 3)
    monkeypatch.setattr(arguments, "WORK_WORTH_STEP", 0.0)
    monkeypatch.setattr(arguments, "WORK_WORTH_BYTE", 0.0)
    chosen = []

    def choose(self):
        chosen.append((3, 1)[len(chosen) % 2])
        return chosen[-1], 1.0

    monkeypatch.setattr(pace.Pace, "choose", choose)
    monkeypatch.setattr(program, "Pace", pace.Pace)
    expected = train(network(), n_threads=1)
    assert not chosen
    assert train(network()) == expected
    assert set(chosen) == {1, 3}


def test_the_compiled_path_is_taken_for_all_that_is_ours(monkeypatch):
    taken = []
    monkeypatch.setattr(program, "run", lambda *args, **rest: taken.append(args) or iter([(1.0, 1, len(X), 0)]))
    for optimizer in (ff.SGD(0.1), ff.SGD(0.1, momentum=0.9), ff.Adam()):
        train(network(), optimizer=optimizer, epochs=1)
    assert len(taken) == 3


def test_a_second_network_compiles_nothing():
    from numba.core import event

    def use(model, **options):
        train(model, **options)
        ff.evaluate(model, X, Y, loss=ff.CrossEntropyLoss())
        ff.predict(model, X)
        ff.train_step(model, X[:9], Y[:9], loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1))

    use(network())
    compilations = []

    class Count(event.Listener):
        def on_start(self, event):
            compilations.append(event.data)

        def on_end(self, event):
            pass

    before = _operations_compiled()
    listener = Count()
    event.register("numba:compile", listener)
    try:
        use(network(seed=5, hidden=(40, 23, 17, 8)), batch_size=50)
    finally:
        event.unregister("numba:compile", listener)
    assert compilations == []
    assert _operations_compiled() == before


def _operations_compiled():
    from fastfnn_kernels.operations import _registry

    return len(_registry._compiled)


def test_momentum_and_adam_go_on_where_the_last_fit_stopped():
    for make in (lambda: ff.SGD(0.05, momentum=0.9), lambda: ff.Adam(0.01)):
        once, twice = network(dtype="float64"), network(dtype="float64")
        rng, optimizer = np.random.default_rng(1), make()
        train(once, optimizer=make(), epochs=4)
        for _ in range(2):
            train(twice, optimizer=optimizer, epochs=2, seed=rng)
        np.testing.assert_array_equal(once.parameters, twice.parameters)


FORK = """
import os, threading, time
import numpy as np
import fastfnn as ff

rng = np.random.default_rng(0)
x, y = rng.normal(size=(3000, 20)), rng.integers(0, 3, 3000)


def train(seed, epochs):
    model = ff.Sequential(ff.Linear(20, 30), ff.ReLU(), ff.Linear(30, 3), seed=seed)
    options = {"optimizer": ff.SGD(0.05), "epochs": epochs, "seed": 1, "n_threads": 2, "progress": False}
    ff.fit(model, x, y, loss=ff.CrossEntropyLoss(), **options)
    return model.parameters.tobytes()


expected, trained, begun = (train(0, 200), train(1, 2)), [], threading.Event()
thread = threading.Thread(target=lambda: (begun.set(), trained.append(train(0, 200))))
thread.start()
begun.wait()
statuses = []
while thread.is_alive() and len(statuses) < 20:
    child = os.fork()
    if not child:
        os._exit(int(train(1, 2) != expected[1]))
    statuses.append(os.waitpid(child, 0)[1])
thread.join()
print(len(statuses) > 1, set(statuses), trained[0] == expected[0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_while_a_network_trains_disturbs_neither():
    done = run_python(FORK)
    assert done.stdout.split() == ["True", "{0}", "True"], done.stderr


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_interrupt_stops_between_steps_and_leaves_no_thread(n_threads):
    model = network()
    train(network(), epochs=1, n_threads=n_threads)  # compile first: an interrupt within a compiler's callback is lost
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        train(model, epochs=10**6, n_threads=n_threads)
    timer.join()
    assert sorted(map(id, team._alive)) == sorted(map(id, team._idle)), "no thread but those that wait for a team"
    assert np.isfinite(model.parameters).all()
    train(model, epochs=1, n_threads=n_threads)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_interrupted_step_is_not_applied(n_threads):
    model = ff.Sequential(ff.Linear(2, 300), ff.ReLU(), ff.Linear(300, 300), ff.ReLU(), ff.Linear(300, 2), seed=0)
    x, y = np.ones((2, 2), np.float32).repeat(1_000_000, axis=0), np.zeros(2_000_000, int)  # a step takes seconds
    options = {"loss": ff.CrossEntropyLoss(), "n_threads": n_threads}
    ff.train_step(model, x[:5000], y[:5000], optimizer=ff.SGD(0.0), **options)  # compile first, as above
    before = model.parameters.copy()
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ff.train_step(model, x, y, optimizer=ff.SGD(0.1), **options)
    timer.join()
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_a_barrier_between_row_operations_holds_back_threads_without_rows_too(n_threads):
    """With BARRIER records around them, results are the same, and nobody waits for ever."""
    model, expected = network(), network()
    ff.train_step(expected, X[:5], Y[:5], loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1))

    class WithBarriers(LinearStep):
        def forward(self, table, x):
            table.barrier()
            out = super().forward(table, x)
            table.barrier()
            return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lowering.FUSIONS, (ff.Linear,), WithBarriers)
        patch.setitem(lowering.FUSIONS, (ff.Linear, ff.ReLU), WithBarriers)
        options = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.1)}
        ff.train_step(model, X[:5], Y[:5], **options, n_threads=n_threads)
    np.testing.assert_array_equal(model.parameters, expected.parameters)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="other processors are left alone")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_subnormal_numbers_are_zero_within_a_run_and_stay_what_they_are_outside(n_threads):
    model = ff.Sequential(ff.Linear(1, 1, bias=False))
    model.layers[0].params["weight"][...] = 1e-30
    x = np.full((5, 1), 1e-10, np.float32)
    subnormal = x[0, 0] * model.parameters[0]
    assert 0 < subnormal < np.finfo(np.float32).tiny
    np.testing.assert_array_equal(ff.predict_raw(model, x, n_threads=n_threads), np.zeros((5, 1)))
    assert x[0, 0] * model.parameters[0] == subnormal


def test_averages_that_decay_do_not_end_as_subnormal_numbers():
    model, optimizer = ff.Sequential(ff.Linear(2, 1)), ff.Adam(lr=1e-3, betas=(0.5, 0.5))
    x, y = np.array([[1.0, 1.0]], np.float32), np.zeros((1, 1), np.float32)
    options = {"loss": ff.MSELoss(), "optimizer": optimizer, "progress": False}
    ff.fit(model, x, y, **options)
    ff.fit(model, np.zeros_like(x), y, epochs=400, **options)  # no gradient for the weight any more: 2**-400
    averages = np.abs(optimizer.state["mean"])
    assert not ((averages > 0) & (averages < np.finfo(np.float32).tiny)).any()
