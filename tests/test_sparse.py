"""Inputs that are mostly zeros: walking the nonzeros alone equals the dense way, for arrays and for CSR matrices."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import lowering, program, sparsity
from fastfnn.engine.sparsity import CSR, Sparsity, look
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import _config

needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")

N, WIDTH, CLASSES = 150, 200, 4
RNG = np.random.default_rng(3)
Y = RNG.integers(0, CLASSES, N)
SCALED, SHIFTED = (lambda: ff.Normalize(scale=1 / 255)), (lambda: ff.Normalize(0.3, 0.5, 1 / 255))


def pixels(zero=0):
    """Images of which an eighth is ink; some pixels never have any, and one image has none."""
    x = RNG.integers(1, 256, (N, 10, 20)).astype(np.uint8)
    x[RNG.random(x.shape) > 1 / 8] = zero
    x[:, :2], x[5] = zero, zero
    return x


def network(*first, dtype="float64", hidden=60, bias=True):
    layers = [ff.Linear(WIDTH, hidden, bias=bias), ff.ReLU(), ff.Linear(hidden, CLASSES)]
    return ff.Sequential(ff.Flatten(), *(make() for make in first), *layers, seed=0, dtype=dtype)


DATA = {
    "uint8": (pixels(), (SHIFTED,)),
    "uint8, only scaled": (pixels(), (SCALED,)),
    "uint8 on white": (pixels(255), (SHIFTED,)),
    "float32": (pixels().astype(np.float32), (SHIFTED,)),
    "float64 as it is": (pixels() / 255, ()),
    "normalised before": ((pixels() / 255 - 0.3) / 0.5, ()),
    "int64": (pixels().astype(np.int64), (SHIFTED,)),
    "bool": (pixels() > 0, (lambda: ff.Normalize(0.1),)),
}


def use(model, x, batch_size, optimizer=None, n_threads=1):
    """What every entry point gives, and the parameters at the end."""
    loss, optimizer = ff.CrossEntropyLoss(), optimizer or ff.SGD(0.05)
    options = {"batch_size": batch_size, "epochs": 2, "seed": 0, "progress": False, "n_threads": n_threads}
    history = ff.fit(model, x, Y, loss=loss, optimizer=optimizer, validation_data=(x, Y), **options)
    step = ff.train_step(model, x, Y, loss=loss, optimizer=optimizer, n_threads=n_threads)
    grads = np.array(model.gradients)
    result = ff.evaluate(model, x, Y, loss=loss, n_threads=n_threads)
    raw = ff.predict_raw(model, x, n_threads=n_threads)
    return [np.array([history.loss, history.val_loss]), np.array([*step, *result]), raw, grads, model.parameters.copy()]


def assert_same(one, other, dtype="float64"):
    tolerance = {"float32": 1e-3, "float64": 1e-9}[dtype]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def layer_by_layer(*args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "is_compiled", lambda *args: False)
        return use(*args)


@pytest.fixture
def sparse(monkeypatch):
    """Skip zeros wherever it is possible; counts how often it was."""
    found = []

    def found_sparsity(model, x, rows, lazy=False):
        assert lowering.skips_zeros(model.layers)
        found.append(x.sparsity if isinstance(x, CSR) else look(x, 0.6))
        assert found[-1] is not None
        return found[-1]

    monkeypatch.setattr(lowering, "sparsity", found_sparsity)
    return found


@needs_jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DATA)
def test_skipping_zeros_equals_the_layers_bit_for_bit_on_any_number_of_threads(name, dtype, sparse):
    x, first = DATA[name]
    for batch_size in (1, 7, 40, None):
        expected = layer_by_layer(network(*first, dtype=dtype), x, batch_size)
        runs = [use(network(*first, dtype=dtype), x, batch_size, None, n) for n in (1, 1, 2, 3)]
        assert_same(runs[0], expected, dtype)
        for run in runs[1:]:
            assert all(a.tobytes() == b.tobytes() for a, b in zip(run, runs[0], strict=True))
    assert sparse


@needs_jit
@pytest.mark.parametrize(
    "make", [lambda: ff.SGD(0.05, weight_decay=0.01), lambda: ff.SGD(0.05, 0.9), lambda: ff.Adam(0.01)]
)
@pytest.mark.parametrize("batch_size", [30, None])
def test_skipping_zeros_goes_with_every_optimizer(make, batch_size, sparse, monkeypatch):
    monkeypatch.setattr(lowering, "CHUNK_BYTES", 1)  # a full batch takes several chunks
    x, first = DATA["uint8"]
    expected = layer_by_layer(network(*first), x, batch_size, make())
    assert_same(use(network(*first), x, batch_size, make()), expected)


@needs_jit
@pytest.mark.parametrize("hidden", [1, 17, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_skipping_zeros_works_for_any_width(hidden, bias, sparse):
    x, first = DATA["uint8"]
    expected = layer_by_layer(network(*first, hidden=hidden, bias=bias), x, 40)
    runs = [use(network(*first, hidden=hidden, bias=bias), x, 40, None, n) for n in (1, 2)]
    assert_same(runs[0], expected)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*runs, strict=True))


# Whether it pays


def test_a_few_rows_tell_which_value_is_most_of_the_data():
    x = pixels()
    assert look(x, 0.3) == Sparsity(0.0)
    assert look(pixels(255), 0.3) == Sparsity(255.0)
    normalised = ((x / 255 - 0.1307) / 0.3081).astype(np.float32)
    assert look(normalised, 0.3) == Sparsity(float(normalised.min()))
    assert look(x, 0.05) is None
    assert look(RNG.normal(size=(N, WIDTH)), 0.25) is None
    assert look(np.full((N, WIDTH), np.nan), 0.25) is None
    assert look(x[:20], 0.25) is None
    assert look(np.zeros((N, 0)), 0.25) is None


def test_it_is_done_where_it_pays():
    wide = np.tile(pixels().reshape(N, -1), 2)

    def found(first, x=wide, rows=64, **options):
        layers = [*(make() for make in first), ff.Linear(x.shape[1], options.get("hidden", 100))]
        return lowering.sparsity(ff.Sequential(*layers), x, rows)

    assert found((SHIFTED,)) == Sparsity(0.0)
    assert found((SCALED,), rows=1) is not None
    assert found((SHIFTED,), rows=1) is None  # the shift alone reads the whole weight
    assert found((SHIFTED,), hidden=10) is None  # finding a nonzero costs more than ten multiplications
    assert found((SHIFTED,), x=RNG.normal(size=(N, WIDTH))) is None
    channels = ff.Sequential(ff.Normalize([0.1, 0.2]), ff.Linear(2 * WIDTH, 100))
    assert lowering.sparsity(channels, wide, 64) is None


@needs_jit
def test_a_program_is_for_dense_or_for_sparse_data():
    model = ff.Sequential(ff.Linear(400, 100), seed=0)
    zeros, dense = np.zeros((128, 400), np.float32), RNG.normal(size=(128, 400)).astype(np.float32)
    for x in (zeros, dense, zeros, dense):
        np.testing.assert_allclose(ff.predict_raw(model, x), model.forward(x), atol=1e-4)
    assert len(program._waiting[model]) == 2


# CSR matrices


def csr(x, index_dtype=np.int32, shuffled=False, offset=0):
    """As SciPy holds it; `shuffled`: columns in no order, and every value in two parts."""
    rows, width = x.shape
    indptr, indices, data = [offset], [np.full(offset, width + 7)], [np.zeros(offset, x.dtype)]
    for row in x:
        (columns,) = np.nonzero(row)
        values = row[columns]
        if shuffled:
            columns = RNG.permutation(columns)
            half = row[columns] // 2 if x.dtype.kind in "iu" else row[columns] / 2
            values = np.concatenate([half, row[columns] - half])
            columns = np.concatenate([columns, columns])
        indptr.append(indptr[-1] + len(columns))
        indices.append(columns)
        data.append(values)
    arrays = {"indptr": indptr, "indices": np.concatenate(indices)}
    arrays = {name: np.asarray(array, index_dtype) for name, array in arrays.items()}
    return SimpleNamespace(shape=(rows, width), format="csr", data=np.concatenate(data), **arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("data_dtype", [np.uint8, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("kind", [{}, {"index_dtype": np.int64, "shuffled": True}, {"offset": 3}])
@pytest.mark.parametrize("first", [(), (SHIFTED,)])
@pytest.mark.parametrize("listed", [False, True])
def test_a_csr_matrix_is_the_array_that_it_stands_for(listed, first, kind, data_dtype, dtype, monkeypatch):
    monkeypatch.setattr(sparsity, "LEAST_MARKED", 1.0 if listed else 0.0)
    x = pixels().reshape(N, -1).astype(data_dtype)
    if not first and data_dtype == np.uint8:
        x = (x > 0).astype(np.uint8) * np.uint8(2)
    elif not first:
        x = (x / 255).astype(data_dtype) * 2
    matrix = csr(x, **kind)
    for batch_size in (7, 40):
        expected = layer_by_layer(network(*first, dtype=dtype), np.asarray(x, dtype), batch_size)
        runs = [use(network(*first, dtype=dtype), matrix, batch_size, None, n) for n in (1, 2)]
        assert_same(runs[0], expected, dtype)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(*runs, strict=True))


def test_rows_of_a_csr_matrix_are_dense():
    x = pixels().reshape(N, -1)
    for kind in ({}, {"shuffled": True}, {"offset": 2}):
        matrix = CSR("x", csr(x, **kind), np.dtype(np.float32))
        for rows in (slice(3, 9), RNG.permutation(N)[:20], slice(5, 6), slice(0, 0)):
            np.testing.assert_array_equal(matrix[rows], x[rows])


def test_scipy_matrices_are_taken_and_other_formats_named():
    sparse = pytest.importorskip("scipy.sparse")
    x, model = pixels().reshape(N, -1).astype(np.float32), network(SHIFTED)
    expected = ff.predict_raw(model, x)
    for make in (sparse.csr_matrix, sparse.csr_array):
        np.testing.assert_allclose(ff.predict_raw(model, make(x)), expected, rtol=1e-6, atol=1e-6)
        assert ff.predict(model, make(x)).shape == ff.predict_proba(model, make(x)).argmax(axis=1).shape == (N,)
    for make in (sparse.csc_matrix, sparse.coo_matrix, sparse.dok_array):
        with pytest.raises(InvalidTypeError, match=r"x is a sparse matrix in the format '\w+'; expected CSR"):
            ff.predict(model, make(x))


def test_a_csr_matrix_must_be_one():
    x = pixels().reshape(N, -1)

    def broken(**changes):
        return SimpleNamespace(**{**vars(csr(x)), **changes})

    good = csr(x)
    wrong_ends = np.array([*good.indptr[:-1], len(good.data) + 1])
    too_far, negative = good.indices.copy(), good.indices.copy()
    too_far[9], negative[9] = WIDTH, -1
    for matrix, message in (
        (broken(indptr=good.indptr[:-1]), r"x.indptr is no list of 151 ascending places"),
        (broken(indptr=good.indptr[::-1]), r"x.indptr is no list of 151 ascending places"),
        (broken(indptr=wrong_ends), r"x.indptr ends at \d+; expected at most \d+"),
        (broken(indices=too_far), r"x.indices go from \d+ to 200; expected columns from 0 to 199"),
        (broken(indices=negative), r"x.indices go from -1 to 199; expected columns from 0 to 199"),
        (broken(shape=(N, WIDTH + 1)), r"x has shape \(150, 201\)"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            ff.predict(network(), matrix)
    with pytest.raises(InvalidTypeError, match="x has dtype complex128; expected numbers"):
        ff.predict(network(), broken(data=good.data.astype(complex)))
    for layers in ([ff.ReLU(), ff.Linear(WIDTH, 3)], [ff.Normalize([0.1, 0.2]), ff.Linear(WIDTH, 3)]):
        with pytest.raises(InvalidTypeError, match="only a model that begins with Linear takes sparse matrices"):
            ff.predict(ff.Sequential(*layers), good)
    with pytest.raises(InvalidTypeError, match="validation x is a sparse matrix in the format 'csc'"):
        options = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(0.1), "progress": False}
        ff.fit(network(), good, Y, validation_data=(broken(format="csc"), Y), **options)


# Data larger than memory

MEMORY_MAP = """
import threading
import time
import numpy as np
import fastfnn as ff

ROWS, WIDTH = 200_000, 784  # 157 MB
x = np.lib.format.open_memmap(PATH, "w+", np.uint8, (ROWS, WIDTH))
x[::1000, ::5] = 200
del x
x = np.load(PATH, mmap_mode=MODE)
y = np.arange(ROWS) % 10
model = ff.Sequential(ff.Normalize(0.1, 0.3, 1 / 255), ff.Linear(WIDTH, 100), ff.ReLU(), ff.Linear(100, 10), seed=0)
options = {"loss": ff.CrossEntropyLoss(), "n_threads": 1}


def use(x, y):
    ff.fit(model, x, y, optimizer=ff.SGD(0.01), batch_size=1024, validation_data=(x, y), progress=False, **options)
    ff.evaluate(model, x, y, **options)
    ff.predict(model, x[:100])


def anonymous():
    \"\"\"Bytes of memory that is no file's.\"\"\"
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024


use(np.zeros((3000, WIDTH), np.uint8), y[:3000])  # compile
before, most, done = anonymous(), [0], threading.Event()

def watch():
    while not done.is_set():
        most[0] = max(most[0], anonymous())
        time.sleep(0.005)

watcher = threading.Thread(target=watch)
watcher.start()
use(x, y)
done.set()
watcher.join()
print((most[0] - before) // 2**20)
"""


@needs_jit
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux only")
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_map_is_read_by_pages(mode, tmp_path):
    from _helpers import run_python  # which needs the JIT

    done = run_python(MEMORY_MAP.replace("PATH", repr(str(tmp_path / "x.npy"))).replace("MODE", repr(mode)))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40  # megabytes, of 150


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("filler", [-32768.0, -7777.0, 1e7, np.finfo("float32").max, -np.inf, np.nan])
def test_rows_beside_a_filler_keep_their_digits(filler, dtype):
    """Most of the data is what stands for "missing": that others lose what it is larger by would be another number."""
    rng = np.random.default_rng(3)
    model = ff.Sequential(ff.Linear(80, 70), seed=0, dtype=dtype)
    data = rng.normal(size=(300, 80)).astype(dtype)
    data[rng.permutation(300)[:220]] = filler
    plain = np.isfinite(data).all(axis=1) & (np.abs(data).max(axis=1) < 100)
    right = data[plain].astype("float64") @ model[0].params["weight"].astype("float64") + model[0].params["bias"]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(ff.predict_raw(model, data)[plain], right, rtol=0, atol=2e-5)


def test_what_costs_no_digits_is_still_skipped():
    small = ff.Sequential(ff.Linear(80, 70), seed=0)
    images = ff.Sequential(ff.Normalize(0.5, 0.25, scale=1 / 255), ff.Linear(80, 70), seed=0)
    rows = np.random.default_rng(0).random((300, 80)) < 0.1
    for model, data in (
        (small, np.where(rows, 2.5, -0.42).astype("f")),
        (images, np.where(rows, 3.0, 255.0).astype("f")),
        (small, np.where(rows, 7, 200).astype(np.uint8)),
    ):
        assert lowering.sparsity(model, data, 64) is not None
    assert lowering.sparsity(small, np.where(rows, 3.0, 255.0).astype("f"), 64) is None
