"""One compiled path for fit, train_step, evaluate and predict: it equals the layers, and its programs are kept."""

import copy
import gc
import os
import pickle
import threading
import weakref

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import context, eager, lowering, program
from fastfnn_kernels import _config

RNG = np.random.default_rng(47)
N, FEATURES, CLASSES = 41, 12, 4
X = RNG.normal(size=(N, FEATURES))
Y = RNG.integers(0, CLASSES, N)
UNIT = RNG.uniform(0.1, 0.9, (N, CLASSES))

needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")


class Split(ff.Layer):
    """(12,) to (3, 4), which is a layer of no table: tests put it into one."""

    def forward(self, x):
        return np.asarray(x).reshape(len(x), 3, 4)

    def backward(self, grad_out):
        return np.asarray(grad_out).reshape(len(grad_out), 12)

    def output_shape(self, input_shape):
        return (3, 4)


MIDDLES = {
    "relu": lambda: [ff.ReLU()],
    "leaky relu": lambda: [ff.LeakyReLU(0.2)],
    "sigmoid, log": lambda: [ff.Sigmoid(), ff.Log()],
    "tanh": lambda: [ff.Tanh()],
    "gelu, gelu by tanh": lambda: [ff.GELU(), ff.Linear(12, 12), ff.GELU("tanh")],
    "silu, hardswish": lambda: [ff.SiLU(), ff.Linear(12, 12), ff.Hardswish()],
    "elu, selu": lambda: [ff.ELU(0.7), ff.Linear(12, 12), ff.SELU()],
    "softplus, relu6": lambda: [ff.Softplus(2.0, 1.0), ff.Linear(12, 12), ff.ReLU6()],
    "convolved lines": lambda: [Split(), ff.Conv1d(3, 8, 3, padding=1), ff.ReLU(), ff.Conv1d(8, 3, 1), ff.Flatten()],
    "pooled lines": lambda: [
        *(Split(), ff.MaxPool1d(2, 1), ff.AvgPool1d(2, 1, 1, count_include_pad=False), ff.Conv1d(3, 3, 1), ff.Flatten())
    ],
    "convolved lines with all": lambda: [
        Split(),
        ff.Conv1d(3, 6, 2, 1, 2, 2, 3, False),
        ff.Tanh(),
        ff.Flatten(),
        ff.Linear(36, 12),
    ],
    "prelu": lambda: [ff.PReLU(), ff.Linear(12, 12), ff.PReLU(12)],
    "layer norm": lambda: [ff.LayerNorm(12), ff.ReLU()],
    "layer norm of several axes": lambda: [Split(), ff.LayerNorm((3, 4), bias=False), ff.LayerNorm(4), ff.Flatten()],
    "layer norm without affine": lambda: [ff.LayerNorm(12, elementwise_affine=False), ff.Tanh()],
    "softmax": lambda: [ff.Softmax()],
    "log softmax": lambda: [ff.LogSoftmax()],
    "softmax of several axes": lambda: [Split(), ff.Softmax(), ff.Flatten()],
    "log softmax of several axes": lambda: [Split(), ff.LogSoftmax(), ff.Flatten()],
    "normalize": lambda: [ff.Normalize(0.5, 2.0)],
    "flatten": lambda: [ff.Flatten(), ff.ReLU(), ff.Linear(12, 12, bias=False), ff.ReLU()],
}
FIRSTS = {"linear": lambda: [], "normalize": lambda: [ff.Flatten(), ff.Normalize(0.1, [1.0, 2.0])]}


@pytest.fixture(autouse=True)
def split_is_a_step(monkeypatch):
    from fastfnn.engine.steps import ReshapeStep

    monkeypatch.setitem(lowering.FUSIONS, (Split,), ReshapeStep)


def network(middle="relu", first="linear", dtype="float64", last=()):
    layers = [ff.Linear(FEATURES, 12), *MIDDLES[middle](), ff.Linear(12, CLASSES), *last]
    return ff.Sequential(*FIRSTS[first](), *layers, seed=0, dtype=dtype)


def use(model, x, y, loss, optimizer, batch_size, n_threads=1):
    """What every entry point gives, and the parameters at the end."""
    options = {"batch_size": batch_size, "epochs": 2, "seed": 0, "progress": False, "n_threads": n_threads}
    history = ff.fit(model, x, y, loss=loss, optimizer=optimizer, **options)
    step = ff.train_step(model, x[:9], y[:9], loss=loss, optimizer=optimizer, n_threads=n_threads)
    result = ff.evaluate(model, x, y, loss=loss, n_threads=n_threads)
    raw = ff.predict_raw(model, x, n_threads=n_threads)
    return [np.array(history.loss), np.array([*step, *result]), raw, model.parameters.copy()]


def layer_by_layer(*args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "is_compiled", lambda *args: False)
        return use(*args)


def assert_same(one, other, dtype):
    tolerance = {"float32": 3e-4, "float64": 1e-9}[dtype]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("middle", MIDDLES)
def test_compiled_equals_eager_for_every_layer(middle, first, dtype):
    args = X.astype(dtype), Y, ff.CrossEntropyLoss()
    for batch_size in (1, 7, None):
        expected = layer_by_layer(network(middle, first, dtype), *args, ff.SGD(0.02), batch_size)
        runs = [use(network(middle, first, dtype), *args, ff.SGD(0.02), batch_size, n) for n in (1, 2, 3)]
        assert_same(runs[0], expected, dtype)
        for run in runs[1:]:
            assert all(a.tobytes() == b.tobytes() for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("middle", MIDDLES)
def test_every_layer_has_a_step(middle):
    assert not lowering.uncompiled(network(middle))


LOSSES = {
    "cross-entropy": (ff.CrossEntropyLoss(), Y, ()),
    "cross-entropy of rows, smoothed": (ff.CrossEntropyLoss("sum", label_smoothing=0.1), UNIT, ()),
    "nll": (ff.NLLLoss(), Y, (ff.LogSoftmax,)),
    "nll of rows": (ff.NLLLoss(), UNIT, (ff.LogSoftmax,)),
    "bce": (ff.BCELoss(), UNIT, (ff.Sigmoid,)),
    "bce with logits": (ff.BCEWithLogitsLoss("sum"), UNIT, ()),
    "mse": (ff.MSELoss(), UNIT, ()),
    "l1": (ff.L1Loss("sum"), UNIT, ()),
    "huber": (ff.HuberLoss(delta=0.3), UNIT, ()),
    "poisson": (ff.PoissonNLLLoss(), UNIT, ()),
}


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_compiled_equals_eager_for_every_loss(name, dtype):
    loss, y, last = LOSSES[name]
    models = [network(dtype=dtype, last=[layer() for layer in last]) for _ in range(4)]
    expected = layer_by_layer(models[0], X.astype(dtype), y, loss, ff.SGD(0.01), 10)
    runs = [use(model, X.astype(dtype), y, loss, ff.SGD(0.01), 10, n) for n, model in enumerate(models[1:], 1)]
    assert_same(runs[0], expected, dtype)
    assert all(a.tobytes() == b.tobytes() for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 10, None])
@pytest.mark.parametrize(
    "make",
    [
        lambda: ff.SGD(0.05),
        lambda: ff.SGD(0.05, weight_decay=0.01),
        lambda: ff.SGD(0.05, momentum=0.9, nesterov=True),
        lambda: ff.Adam(0.01, weight_decay=0.1),
        lambda: ff.Adam(0.01, eps=0.1, epsilon_hat=True),
        lambda: ff.AdamW(0.01, weight_decay=0.1),
        lambda: ff.RMSprop(0.01, weight_decay=0.1),
        lambda: ff.Adagrad(0.05, weight_decay=0.1),
        lambda: ff.SGD(0.01, momentum=1),
        lambda: ff.SGD(0.05, clip_norm=0.3),
        lambda: ff.SGD(0.05, momentum=0.9, clip_value=0.02),
        lambda: ff.Adam(0.01, clip_norm=0.5, clip_value=0.1, l1=0.01),
    ],
)
def test_compiled_equals_eager_for_every_optimizer(make, batch_size, dtype):
    loss, x = ff.CrossEntropyLoss(), X.astype(dtype)
    expected = layer_by_layer(network(dtype=dtype), x, Y, loss, make(), batch_size)
    assert_same(use(network(dtype=dtype), x, Y, loss, make(), batch_size), expected, dtype)


class Decaying(ff.EpochCallback):
    """A weight decay for each step, and the L2 term in the loss."""

    def arrange(self, epoch):
        steps = -(-len(epoch.x) // epoch.batch_size)
        return epoch._replace(decays=0.5 / np.arange(1, steps + 1), penalty=3.0)


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 10, None])
@pytest.mark.parametrize("make", [lambda: ff.SGD(0.05, weight_decay=1.0), lambda: ff.Adam(0.01, weight_decay=1.0)])
def test_a_decay_for_each_step_and_its_loss_are_the_same_compiled_and_eager(make, batch_size, dtype):
    def curve(model, n_threads=1):
        options = {"batch_size": batch_size, "epochs": 2, "seed": 0, "progress": False, "callbacks": [Decaying()]}
        loss, optimizer = ff.CrossEntropyLoss(), make()
        history = ff.fit(model, X.astype(dtype), Y, loss=loss, optimizer=optimizer, n_threads=n_threads, **options)
        return [np.array(history.loss), model.parameters.copy()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "is_compiled", lambda *args: False)
        expected = curve(network(dtype=dtype))
    runs = [curve(network(dtype=dtype), n) for n in (1, 2, 3)]
    assert_same(runs[0], expected, dtype)
    assert all(a.tobytes() == b.tobytes() for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


def test_the_l2_term_is_of_the_weights_before_each_step():
    model, loss = network(), ff.CrossEntropyLoss()
    weights = [layer.params["weight"].copy() for layer in model.layers if layer.params]
    expected = loss(model.forward(X), Y) + 3.0 * 0.5 / 2 * sum(np.sum(weight**2) for weight in weights)
    options = {"batch_size": None, "epochs": 1, "progress": False, "callbacks": [Decaying()]}
    history = ff.fit(model, X, Y, loss=loss, optimizer=ff.SGD(0.1, weight_decay=1.0), **options)
    assert history.loss[0] == pytest.approx(expected, rel=1e-12)


@needs_jit
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 7, 16, 17, 40])
def test_predictions_in_chunks_do_not_race(rows, n_threads, monkeypatch):
    model = network()
    expected = model.forward(X[:rows])
    monkeypatch.setattr(lowering, "CHUNK_ROWS", 16)
    for _ in range(20):
        np.testing.assert_array_equal(ff.predict_raw(model, X[:rows], n_threads=n_threads), expected)


# Programs are kept


def count_programs(monkeypatch):
    made, init = [], program.Program.__init__

    def counting(self, *args, **rest):
        made.append(1)
        init(self, *args, **rest)

    monkeypatch.setattr(program.Program, "__init__", counting)
    return made


@needs_jit
def test_a_call_like_the_last_makes_no_tables(monkeypatch):
    made, model, loss, optimizer = count_programs(monkeypatch), network(), ff.CrossEntropyLoss(), ff.SGD(0.1)
    for _ in range(3):
        ff.predict(model, X[:1])
        ff.evaluate(model, X[:5], Y[:5], loss=loss)
        ff.train_step(model, X[:5], Y[:5], loss=loss, optimizer=optimizer)
    assert len(made) == 3


@needs_jit
def test_a_program_learns_of_every_change():
    model, loss = network("leaky relu", "normalize"), ff.CrossEntropyLoss()

    def check():
        expected = model.forward(X)
        np.testing.assert_array_equal(ff.predict_raw(model, X), expected)
        assert ff.evaluate(model, X, Y, loss=loss).loss == pytest.approx(loss.forward(expected, Y), rel=1e-12)

    check()
    model.layers[2].params["weight"][...] *= 1.5
    check()
    model.layers[2].params["weight"] = RNG.normal(size=(FEATURES, 12))
    check()
    model.layers[3].negative_slope = 0.7
    check()
    model.layers[1].mean = [0.3]
    check()
    loss.label_smoothing = 0.3
    check()
    model.layers[3] = ff.Tanh()
    check()
    del model.layers[3]
    check()


@needs_jit
def test_train_step_follows_the_optimizers_settings():
    for make in (lambda: ff.SGD(0.1), lambda: ff.SGD(0.1, momentum=0.5), lambda: ff.Adam(0.01)):
        models = [network() for _ in range(2)]
        optimizers, loss = [make() for _ in models], ff.CrossEntropyLoss()
        for lr in (0.1, 0.02, 0.3):
            for optimizer in optimizers:
                optimizer.lr = lr
            ff.train_step(models[0], X, Y, loss=loss, optimizer=optimizers[0])
            loss.forward(models[1].forward(X), Y)
            models[1].backward(loss.backward())
            optimizers[1].step(models[1].parameters, models[1].gradients)
            np.testing.assert_allclose(models[0].parameters, models[1].parameters, rtol=1e-9, atol=1e-12)
        assert optimizers[0].steps == 3


@needs_jit
def test_kept_programs_are_few_and_go_with_their_model():
    model = network()
    for rows in range(1, 30):
        ff.train_step(model, X[:rows], Y[:rows], loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1))
    kept = program._waiting[model]
    assert len(kept) == program.PROGRAMS_KEPT
    programs = [weakref.ref(program) for program in kept]
    del model, kept
    gc.collect()
    assert [program() for program in programs] == [None] * len(programs)


@needs_jit
def test_large_programs_are_not_kept(monkeypatch):
    monkeypatch.setattr(program, "BYTES_KEPT", 1000)
    model = network()
    ff.predict(model, X, n_threads=2)
    assert program._waiting[model] == []


@needs_jit
def test_what_few_rows_run_on_is_little_and_goes_with_its_model():
    model = ff.Sequential(ff.Conv2d(1, 2, 3), ff.ReLU(), ff.GlobalAvgPool2d(), ff.Linear(2, 3), seed=0)
    for size in range(5, 30):
        x = RNG.normal(size=(2, 1, size, size)).astype(np.float32)
        np.testing.assert_array_equal(ff.predict_raw(model, x), ff.predict_raw(model, x, n_threads=2))
    kinds = context._waiting[model]
    assert 0 < len(kinds) <= context.KINDS_KEPT
    kept = [weakref.ref(waiting) for kind in kinds.values() for _, waiting in kind.contexts]
    assert kept
    del model, kinds
    gc.collect()
    assert [waiting() for waiting in kept] == [None] * len(kept)


@needs_jit
def test_few_rows_of_much_work_go_the_long_way(monkeypatch):
    model, x = network(), X[:3]
    assert context.few_outputs(model, x, 1e6) is not None
    assert context.few_outputs(model, x, 1.0) is None
    assert context.few_outputs(model, x.astype(np.int64), 1e6) is None
    assert context.few_outputs(model, np.repeat(X, 2, axis=0), 1e6) is None
    for n_threads in (0, True, "2"):
        with pytest.raises((ff.errors.InvalidValueError, ff.errors.InvalidTypeError), match="n_threads"):
            ff.predict_raw(model, x, n_threads=n_threads)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_has_programs_of_its_own(clone):
    model = network()
    expected = ff.predict_raw(model, X)
    other = clone(model)
    np.testing.assert_allclose(ff.predict_raw(other, X), expected, rtol=1e-12)
    if clone is not copy.copy:  # which shares the layers
        other.parameters[...] *= 2
        assert (ff.predict_raw(other, X) != expected).any()
    np.testing.assert_allclose(ff.predict_raw(model, X), expected, rtol=1e-12)


@needs_jit
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_child_may_use_the_programs_of_its_parent():
    model, loss, optimizer = network(), ff.CrossEntropyLoss(), ff.SGD(0.1)
    expected = ff.predict_raw(model, X, n_threads=2)
    ff.train_step(model, X, Y, loss=loss, optimizer=optimizer)
    child = os.fork()
    if not child:
        status = 1
        try:
            ff.train_step(model, X, Y, loss=loss, optimizer=optimizer)
            status = int(np.array_equal(ff.predict_raw(model, X, n_threads=2), expected))  # it has learnt
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_many_threads_may_predict_with_one_model():
    model, wrong = network("tanh"), []
    inputs = [RNG.normal(size=(1 + 5 * i, FEATURES)) for i in range(6)]
    expected = [model.forward(x) for x in inputs]

    def predict(i):
        for _ in range(200):
            if not np.array_equal(ff.predict_raw(model, inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=predict, args=(i,)) for i in (0, 1, 2, 3, 4, 5, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# The slow path


class Double(ff.Layer):
    """A user's own layer, which notes in which mode it runs, and counts its forwards in training."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def initial_buffers(self):
        return {"count": np.zeros(1)}

    def forward(self, x):
        self.modes.append(self.training)
        self.buffers["count"] += self.training
        return 2 * np.asarray(x)

    def backward(self, grad_out):
        return 2 * np.asarray(grad_out)


def own_network():
    return ff.Sequential(ff.Linear(FEATURES, CLASSES), Double(), seed=0, dtype="float64")


def fit(model, **options):
    settings = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.01), "progress": False, **options}
    return ff.fit(model, settings.pop("x", X), Y, **settings)


@needs_jit
def test_what_has_no_compiled_form_is_named_once():
    class Mine(ff.SGD):
        pass

    with pytest.warns(UserWarning, match="Double, Mine: no compiled form") as caught:
        fit(own_network(), epochs=3, optimizer=Mine(0.1))
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:.*no compiled form")
def test_a_layer_knows_whether_it_is_trained():
    model = own_network()
    layer = model.layers[1]
    layer.training = False
    fit(model, batch_size=None, validation_data=(X, Y))
    ff.predict(model, X)
    ff.train_step(model, X, Y, loss=ff.CrossEntropyLoss(), optimizer=ff.SGD(0.1))
    assert layer.modes == [True, False, False, True]
    assert layer.training is False


@pytest.mark.filterwarnings("ignore:.*no compiled form")
def test_a_diverging_epoch_gives_the_buffers_back():
    model, x = own_network(), X.copy()
    fit(model, batch_size=10, shuffle=False)
    x[25] = np.nan
    with pytest.raises(ff.errors.NonFiniteLossError):
        fit(model, x=x, batch_size=10, shuffle=False)
    assert model.layers[1].buffers["count"] == 5


@pytest.mark.filterwarnings("ignore:.*no compiled form")
def test_hits_are_counted_the_same_layer_by_layer():
    model = own_network()
    result = ff.evaluate(model, X, Y, loss=ff.CrossEntropyLoss())
    assert result.accuracy == ff.metrics.accuracy(ff.predict(model, X), Y)
    assert eager.n_correct(model.forward(X), np.eye(CLASSES)[Y]) == round(result.accuracy * N)
