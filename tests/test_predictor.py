"""`Predictor`: what `predict` gives, from a copy that is frozen, folded, kept in a file, and called by many threads."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from _helpers import at_once

import fastfnn as ff
from fastfnn.engine import program
from fastfnn.engine.folding import folded
from fastfnn.errors import InvalidTypeError, InvalidValueError, ModelFileError
from fastfnn.training import predictor as module
from fastfnn_kernels import _config

RNG = np.random.default_rng(5)
needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT models run layer by layer")


def trained(*layers: ff.Layer, dtype: str = "float32") -> ff.Sequential:
    """A model whose parameters and statistics are none that a layer begins with."""
    model = ff.Sequential(*layers, seed=0, dtype=dtype)
    for array in [*model.named_parameters().values(), *model.named_buffers().values()]:
        array[...] += RNG.uniform(0.1, 0.5, array.shape)
    return model


MODELS: dict[str, tuple[list[Any], tuple[int, ...]]] = {
    "linear": ([ff.Linear(5, 3)], (5,)),
    "mlp": ([ff.Linear(40, 30), ff.ReLU(), ff.Dropout(0.5), ff.Linear(30, 10)], (40,)),
    "normalised": ([ff.Flatten(), ff.Normalize(0.4, 0.3, 1 / 4), ff.Linear(12, 7), ff.Tanh(), ff.Linear(7, 2)], (3, 4)),
    "by channel": ([ff.Normalize([0.1, 0.2, 0.3], [1, 2, 3]), ff.Flatten(), ff.Linear(12, 4)], (3, 2, 2)),
    "without bias": ([ff.Linear(6, 5, bias=False), ff.BatchNorm1d(5), ff.ReLU(), ff.Linear(5, 2)], (6,)),
    "plain norm": ([ff.Linear(6, 5), ff.BatchNorm1d(5, affine=False), ff.Sigmoid(), ff.Linear(5, 2)], (6,)),
    "first norm": ([ff.BatchNorm1d(6), ff.Linear(6, 2), ff.Softmax()], (6,)),
    "images": (
        [
            ff.Normalize(0.5, 0.25, 1 / 255),
            ff.Conv2d(1, 4, 3, padding=1, bias=False),
            ff.BatchNorm2d(4),
            ff.ReLU(),
            ff.MaxPool2d(2),
            ff.Conv2d(4, 5, 3),
            ff.BatchNorm2d(5),
            ff.Flatten(),
            ff.Linear(20, 3),
            ff.LogSoftmax(),
        ],
        (1, 8, 8),
    ),
    "pooled": ([ff.Conv2d(2, 3, 3), ff.AvgPool2d(2), ff.GlobalAvgPool2d(), ff.Linear(3, 2)], (2, 9, 9)),
}


@pytest.mark.filterwarnings("ignore:x holds floats of at most")
@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_predict(name: str, dtype: str, rows: int) -> None:
    layers, shape = MODELS[name]
    model = trained(*copy.deepcopy(layers), dtype=dtype)
    tolerance = 200 * float(np.finfo(dtype).eps)
    for input_dtype in (dtype, "uint8", "float64"):
        x = RNG.integers(0, 256, (rows, *shape)).astype(input_dtype)
        x = x if input_dtype == "uint8" else x / 255
        predictor = ff.Predictor(model, input_shape=shape, input_dtype=x.dtype)
        expected = ff.predict_raw(model, x)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(predictor(x), expected, rtol=tolerance, atol=tolerance * scale)
        np.testing.assert_allclose(
            predictor.predict_proba(x), ff.predict_proba(model, x), rtol=tolerance, atol=10 * tolerance
        )
        assert predictor.predict(x).shape == ff.predict(model, x).shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_nothing_is_folded_the_bits_are_those_of_predict(dtype: str) -> None:
    model = trained(ff.Linear(40, 30), ff.ReLU(), ff.Dropout(0.5), ff.Linear(30, 10), dtype=dtype)
    predictor, x = ff.Predictor(model), RNG.normal(size=(100, 40)).astype(dtype)
    for rows in (1, 3, 64, 100):
        np.testing.assert_array_equal(predictor(x[:rows]), ff.predict_raw(model, x[:rows]))
    np.testing.assert_array_equal(predictor.predict(x), ff.predict(model, x))


def test_folding_leaves_out_what_it_can_and_no_more() -> None:
    def kinds(*layers: ff.Layer, shape: tuple[int, ...] = (6,), dtype: str = "float32") -> list[str]:
        return [type(layer).__name__ for layer in folded(trained(*layers), shape, np.dtype(dtype)).layers]

    linear, norm = ff.Linear(6, 5), ff.Normalize(1.0, 2.0)
    assert kinds(norm, linear, ff.BatchNorm1d(5), ff.Dropout(0.1), ff.ReLU()) == ["Linear", "ReLU"]
    assert kinds(norm, linear, dtype="uint8") == ["Normalize", "Linear"], "they are converted anyway"
    assert kinds(ff.Normalize(1e6, 1.0), linear) == ["Normalize", "Linear"], "its mean would cost all digits"
    assert kinds(linear, ff.ReLU(), ff.BatchNorm1d(5)) == ["Linear", "ReLU", "BatchNorm1d"]
    assert kinds(ff.Normalize(1.0, 2.0), ff.Conv2d(1, 2, 3, padding=1), shape=(1, 5, 5)) == ["Normalize", "Conv2d"]


def mostly(filler: float, rows: int, width: int, dtype: str) -> Any:
    """Rows of which most elements are one value, but of every third none."""
    x = RNG.normal(size=(rows, width))
    x[(RNG.random(x.shape) < 0.85) & (np.arange(rows)[:, None] % 3 != 1)] = filler
    return x.astype(dtype)


@needs_jit
@pytest.mark.parametrize("filler", [0.0, -0.42, 7.0, 1e6, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [3, 64, 100, 300])
def test_zeros_are_skipped_row_by_row(outputs: int, dtype: str, filler: float) -> None:
    """What a row becomes depends on no other row, and beside a filler of any size rows keep their digits."""
    model = trained(ff.Linear(200, outputs), ff.ReLU(), ff.Linear(outputs, 5), dtype=dtype)
    x = mostly(filler, 150, 200, dtype)
    with np.errstate(all="ignore"):
        hidden = np.maximum(x.astype(np.float64) @ model[0].params["weight"] + model[0].params["bias"], 0)
        expected = hidden @ model[2].params["weight"] + model[2].params["bias"]
    got = ff.Predictor(model, n_threads=1)(x)
    plain = np.isfinite(expected).all(axis=1)
    tolerance = 500 * float(np.finfo(dtype).eps)
    scale = np.abs(expected[plain]).max(axis=1, keepdims=True)
    assert (np.abs(got[plain] - expected[plain]) <= tolerance * scale).all()
    assert not np.isfinite(got[~plain]).all(axis=1).any()
    for n_threads in (1, 2, 3):
        predictor = ff.Predictor(model, n_threads=n_threads)
        np.testing.assert_array_equal(predictor(x), got)
        for rows in ([5], [4, 5, 6], range(40, 130)):
            np.testing.assert_array_equal(predictor(x[list(rows)]), got[list(rows)])


@needs_jit
def test_programs_of_one_predictor_share_the_packed_weights() -> None:
    predictor = ff.Predictor(trained(ff.Linear(70, 80), ff.ReLU(), ff.Linear(80, 3)))
    packed = dict(predictor._task.packed or {})
    assert len(packed) == 2
    predictor._contexts.clear()
    predictor(np.zeros((1, 70), np.float32))
    predictor(np.zeros((5000, 70), np.float32))
    assert predictor._task.packed is not None
    assert all(predictor._task.packed[key] is pair for key, pair in packed.items())


def test_a_model_makes_its_predictor() -> None:
    model, x = trained(*copy.deepcopy(MODELS["normalised"][0])), RNG.integers(0, 256, (3, 3, 4)).astype(np.uint8)
    predictor = model.predictor(input_shape=(3, 4), input_dtype="uint8", n_threads=1)
    assert isinstance(predictor, ff.Predictor)
    assert (predictor.input_shape, predictor.input_dtype, predictor.n_threads) == ((3, 4), np.uint8, 1)
    np.testing.assert_array_equal(predictor(x), ff.Predictor(model, (3, 4), np.uint8)(x))
    linear = trained(ff.Linear(4, 2))
    assert linear.predictor().input_shape == (4,)
    with pytest.raises(InvalidValueError, match="input_shape is None"):
        model.predictor()


def test_it_follows_the_model_no_longer() -> None:
    model = trained(*copy.deepcopy(MODELS["without bias"][0]))
    predictor, x = ff.Predictor(model), RNG.normal(size=(3, 6)).astype(np.float32)
    before = predictor(x)
    model.parameters[...] = 0
    model.named_buffers()["1.running_mean"][...] = 9
    np.testing.assert_array_equal(predictor(x), before)
    assert not np.array_equal(ff.predict_raw(model, x), before)


def test_results_are_the_callers_own() -> None:
    model = trained(ff.Linear(4, 2))
    predictor, x = ff.Predictor(model), RNG.normal(size=(2, 4)).astype(np.float32)
    first = predictor(x)
    kept = first.copy()
    predictor(x + 1)
    np.testing.assert_array_equal(first, kept)


def test_out_takes_the_outputs() -> None:
    predictor, x = ff.Predictor(trained(ff.Linear(4, 2))), RNG.normal(size=(100, 4)).astype(np.float32)
    for rows in (1, 100, 50_000):
        x = RNG.normal(size=(rows, 4)).astype(np.float32)
        out = np.full((rows, 2), np.nan, np.float32)
        assert predictor(x[:rows], out=out) is out
        np.testing.assert_array_equal(out, predictor(x[:rows]))
    x = RNG.normal(size=(100, 4)).astype(np.float32)
    strided = np.empty((4, 100), np.float32)[::2].T
    np.testing.assert_array_equal(predictor(x, out=strided), predictor(x))
    large = ff.Predictor(trained(ff.Linear(3000, 3000)), n_threads=1)
    square = RNG.normal(size=(3, 3000)).astype(np.float32)
    expected = large(square)
    np.testing.assert_array_equal(large(square, out=square), expected)
    for wrong in (np.empty((99, 2), np.float32), np.empty((100, 2)), [[0.0, 0.0]] * 100):
        with pytest.raises(InvalidValueError, match=r"out is .*; expected float32 \(100, 2\)"):
            predictor(x, out=wrong)  # type: ignore[arg-type]
    for rows in (1, 100):
        frozen = np.full((rows, 2), 3, np.float32)
        frozen.flags.writeable = False
        with pytest.raises(InvalidValueError, match="out is read-only"):
            predictor(x[:rows], out=frozen)
        assert (frozen == 3).all()


def test_inputs_may_be_of_any_layout_and_numeric_dtype() -> None:
    predictor, x = ff.Predictor(trained(ff.Linear(4, 2))), RNG.integers(0, 9, (8, 4))
    expected = predictor(x.astype(np.float32))
    for came in (x, x.tolist(), x.astype(np.uint8), x.astype(">f4"), np.asfortranarray(x, np.float32), x[::-1][::-1]):
        np.testing.assert_array_equal(predictor(came), expected)
    read_only = x.astype(np.float32)
    read_only.flags.writeable = False
    np.testing.assert_array_equal(predictor(read_only), expected)
    # Larger ones are read where they lie.
    predictor, x = ff.Predictor(trained(ff.Linear(400, 70)), n_threads=1), RNG.normal(size=(9, 400)).astype(np.float32)
    expected = predictor(x)
    read_only, odd = x.copy(), np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    read_only.flags.writeable, odd[...] = False, x
    for came in (read_only, odd, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(np.float64)):
        np.testing.assert_array_equal(predictor(came), expected)
    assert predictor(np.empty((0, 400), np.float32)).shape == (0, 70)


def test_bad_input_has_an_error_that_says_what_is_expected() -> None:
    predictor = ff.Predictor(trained(ff.Linear(4, 2)))
    with pytest.raises(InvalidValueError, match=r"x has shape \(3, 5\); expected \(n, 4\)"):
        predictor(np.zeros((3, 5), np.float32))
    with pytest.raises(InvalidValueError, match=r"expected \(n, 4\); x\[None\] is a batch of one"):
        predictor(np.zeros(4, np.float32))
    with pytest.raises(InvalidTypeError, match="x has dtype <U1; expected numbers"):
        predictor(np.array([["a", "b", "c", "d"]]))
    model = trained(ff.Flatten(), ff.Linear(4, 2))
    with pytest.raises(InvalidTypeError, match="model is int"):
        ff.Predictor(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="input_shape is None; expected the shape of a sample"):
        ff.Predictor(model)
    with pytest.raises(InvalidValueError, match=r"input_shape is \(3,\)"):
        ff.Predictor(model, input_shape=(3,))
    with pytest.raises(InvalidValueError, match=r"input_shape\[1\] is 0"):
        ff.Predictor(model, input_shape=(2, 0))
    with pytest.raises(InvalidTypeError, match="input_dtype is"):
        ff.Predictor(model, input_shape=(2, 2), input_dtype="U3")
    with pytest.raises(InvalidValueError, match="n_threads is 0"):
        ff.Predictor(model, input_shape=(2, 2), n_threads=0)


def test_several_threads_may_call_it_at_once() -> None:
    predictor = ff.Predictor(trained(ff.Linear(20, 30), ff.ReLU(), ff.Linear(30, 4)))
    x = RNG.normal(size=(40, 20)).astype(np.float32)
    expected, wrong = predictor(x), []

    def call(number: int) -> None:
        for i in range(300):
            rows = (number + i) % 40 + 1
            if not np.array_equal(predictor(x[:rows]), expected[:rows]):
                wrong.append(rows)

    at_once(call)
    assert not wrong
    assert len(predictor._contexts) <= 8


class Own(ff.ReLU):
    """A layer of a user's, which has no compiled form."""


@pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")
@pytest.mark.parametrize("n_threads", [2, 3])
def test_a_team_gives_the_bits_of_one_thread_for_any_number_of_rows(
    n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = ff.Conv2d(3, 16, 3, padding=1), ff.ReLU(), ff.MaxPool2d(2), ff.Flatten(), ff.Linear(16 * 49, 7)
    x = RNG.normal(size=(300, 3, 14, 14)).astype(np.float32)
    model, sizes, run = trained(*layers), [], program.Program.run_job
    expected = ff.Predictor(model, input_shape=x.shape[1:], n_threads=1)(x)

    def note(self: Any, team: Any) -> None:
        sizes.append(team.size)
        run(self, team)

    monkeypatch.setattr(program.Program, "run_job", note)
    predictor = ff.Predictor(model, input_shape=x.shape[1:], n_threads=n_threads)
    for rows in (1, predictor._few, predictor._few + 1, 200, 256, 257, 300, 199):
        out = np.full((rows, 7), np.nan, np.float32)
        assert predictor(x[:rows], out) is out
        np.testing.assert_array_equal(out, expected[:rows])
        np.testing.assert_array_equal(predictor(x[:rows]), out)
    assert sizes == [n_threads] * 2 * 4


def test_a_users_own_layer_is_run_layer_by_layer() -> None:
    model = trained(ff.Linear(4, 5), Own(), ff.Linear(5, 2))
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(ff.Predictor(model)(x), ff.predict_raw(model, x), rtol=1e-6)


def test_pickles_copies_and_files_give_the_same(tmp_path: Any) -> None:
    layers, shape = MODELS["images"]
    predictor = ff.Predictor(trained(*copy.deepcopy(layers)), input_shape=shape, input_dtype="uint8", n_threads=1)
    x = RNG.integers(0, 256, (5, *shape)).astype(np.uint8)
    expected = predictor(x)
    predictor.save(tmp_path / "p")
    for twin in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor), ff.Predictor.load(tmp_path / "p")):
        assert repr(twin) == repr(predictor)
        assert twin.n_threads == 1
        np.testing.assert_array_equal(twin(x), expected)
    np.testing.assert_array_equal(ff.predict_raw(ff.load(tmp_path / "p"), x), expected)


def test_files_that_hold_no_predictor_are_refused(tmp_path: Any) -> None:
    model = trained(ff.Linear(4, 2))
    ff.save(model, tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"holds a model; expected what Predictor\.save wrote"):
        ff.Predictor.load(tmp_path / "m")
    with pytest.raises(FileNotFoundError):
        ff.Predictor.load(tmp_path / "nowhere")
    payload = module.safetensors.to_bytes(model, entries={module.ENTRY: '{"input_shape": [9], "input_dtype": 3}'})
    (tmp_path / "bad").write_bytes(payload)
    with pytest.raises(ModelFileError, match="holds no predictor that fits"):
        ff.Predictor.load(tmp_path / "bad")
