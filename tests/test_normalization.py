"""Batch normalisation: kernels in pieces, the function, the layers with their buffers, and both modes."""

import copy
import pickle

import numpy as np
import pytest
from _operations import places_of, run_operation
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastfnn as ff
from fastfnn import functional as F
from fastfnn.errors import InvalidTypeError, InvalidValueError, ModelFileError
from fastfnn_kernels import _config, reference

RNG = np.random.default_rng(41)
SHAPES = [(2, 1), (8, 3), (9, 17), (64, 100), (65, 7), (1, 2, 3, 1), (5, 3, 7, 7), (17, 4, 14, 14), (24, 33, 1, 1)]
DTYPES = ["float32", "float64"]


def of_channels(x, values):
    return np.reshape(values, (-1, *[1] * (x.ndim - 2)))


def draw(shape, dtype="float64"):
    """Input, upstream gradient, weight and bias; no channel is like another."""
    channels = shape[1]
    x = RNG.normal(size=shape)
    x = x * of_channels(x, RNG.uniform(0.5, 3, channels)) + of_channels(x, RNG.normal(size=channels))
    weight, bias = RNG.uniform(-2, 2, (2, channels))
    return [array.astype(dtype) for array in (x, RNG.normal(size=shape), weight, bias)]


# The function


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_training_equals_its_reference_and_moves_the_running_statistics(shape, dtype):
    x, grad, weight, bias = draw(shape, dtype)
    ours = [RNG.normal(size=shape[1]).astype(dtype), RNG.uniform(1, 2, shape[1]).astype(dtype)]
    theirs = [array.astype(np.float64) for array in ours]
    out = F.batch_norm(x, *ours, weight, bias, training=True, momentum=0.3)
    expected = reference.batch_norm(x, *theirs, weight, bias, training=True, momentum=0.3)
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=10 * tolerance)
    for array, other in zip(ours, theirs, strict=True):
        assert array.dtype == dtype
        np.testing.assert_allclose(array, other, rtol=tolerance, atol=tolerance)
    grads, wanted = F.batch_norm_backward(grad, x, weight), reference.batch_norm_backward(grad, x, weight)
    for array, other in zip(grads, wanted, strict=True):
        scale = np.abs(other).max() + 1
        np.testing.assert_allclose(array, other, rtol=10 * tolerance, atol=30 * tolerance * scale)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_number_of_threads_gives_the_same_bits(shape, training):
    x, grad, weight, bias = draw(shape, "float32")

    def run(n_threads):
        running = [np.full(shape[1], 0.5, "float32"), np.full(shape[1], 2.0, "float32")]
        out = F.batch_norm(x, *running, weight, bias, training, n_threads=n_threads)
        grads = F.batch_norm_backward(grad, x, weight, *running, training, n_threads=n_threads)
        return [array.tobytes() for array in (out, *running, *grads)]

    assert run(1) == run(2) == run(3)


def test_training_gives_a_mean_of_zero_and_a_variance_of_one():
    x = draw((40, 5, 3, 3))[0]
    out = F.batch_norm(x, None, None, training=True, eps=0.0)
    np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(out.var(axis=(0, 2, 3)), 1, rtol=1e-13)


@pytest.mark.parametrize("shape", [(4096, 3), (64, 3, 14, 14), (1000, 20)])
def test_a_mean_far_larger_than_the_spread_costs_no_digits(shape):
    """Single precision at 1e4 ± 1: as good as the same numbers in double precision."""
    x = (1e4 + RNG.normal(size=shape)).astype("float32")
    axes, exact = (0, *range(2, x.ndim)), x.astype(np.float64)
    running = np.zeros(shape[1], "float32"), np.zeros(shape[1], "float32")
    out = F.batch_norm(x, *running, training=True, momentum=1.0)
    np.testing.assert_allclose(running[0], exact.mean(axes), rtol=1e-7)
    np.testing.assert_allclose(running[1], exact.var(axes, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(out, reference.batch_norm(exact, None, None, training=True), atol=2e-6)
    grad = RNG.normal(size=shape).astype("float32")
    wanted = reference.batch_norm_backward(grad, exact)
    for got, want in zip(F.batch_norm_backward(grad, x), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e4 / 3])
@pytest.mark.parametrize("shape", [(7, 2), (30, 2, 3, 3)])
def test_a_constant_channel_becomes_its_bias(shape, value):
    x, grad = np.full(shape, value, "float32"), RNG.normal(size=shape).astype("float32")
    bias = np.array([0.25, -2.0], "float32")
    out = F.batch_norm(x, None, None, np.ones(2, "float32"), bias, training=True)
    np.testing.assert_allclose(out, np.broadcast_to(of_channels(x, bias), shape), atol=1e-3)
    grads = F.batch_norm_backward(grad, x)
    assert all(np.isfinite(array).all() for array in grads)
    wanted = reference.batch_norm_backward(grad, x)
    np.testing.assert_allclose(grads[0], wanted[0], rtol=1e-4, atol=1e-3)


def test_running_statistics_by_hand():
    """Mean 2, biased variance 2/3, unbiased 1."""
    x, mean, variance = np.array([[1.0], [2.0], [3.0]]), np.array([10.0]), np.array([5.0])
    out = F.batch_norm(x, mean, variance, training=True, momentum=0.25, eps=0.0)
    np.testing.assert_allclose(out[:, 0], np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-14)
    assert (mean[0], variance[0]) == pytest.approx((8.0, 4.0))
    out = F.batch_norm(x, mean, variance, [2.0], [1.0], eps=0.0)
    np.testing.assert_allclose(out[:, 0], [-6.0, -5.0, -4.0], rtol=1e-14)
    assert (mean[0], variance[0]) == pytest.approx((8.0, 4.0))


def test_inference_takes_single_rows_and_none():
    running = np.array([1.0, 2.0]), np.array([4.0, 9.0])
    np.testing.assert_allclose(F.batch_norm([[3.0, 5.0]], *running, eps=0.0), [[1, 1]], rtol=1e-6)
    assert F.batch_norm(np.empty((0, 2)), *running).shape == (0, 2)
    grads = F.batch_norm_backward(np.empty((0, 2)), np.empty((0, 2)), None, *running, False)
    np.testing.assert_array_equal(grads[1], [0, 0])


def test_a_nan_stays_in_its_channel():
    x, grad, weight, bias = draw((20, 3))
    x[4, 1] = np.nan
    out = F.batch_norm(x, None, None, weight, bias, training=True)
    assert np.isnan(out[:, 1]).all()
    assert np.isfinite(out[:, [0, 2]]).all()
    assert np.isfinite(F.batch_norm_backward(grad, x, weight)[0][:, [0, 2]]).all()


X, ONE, READ_ONLY = np.ones((4, 3)), np.ones(3), np.broadcast_to(1.0, 3)
BAD_CALLS = [
    ((np.ones(3), ONE, ONE), {}, InvalidValueError, r"x has shape \(3,\); expected \(n, channels\)"),
    ((X, None, ONE), {}, InvalidValueError, "running_mean is None; .* as training is False"),
    ((X, ONE, None), {}, InvalidValueError, "running_var is None; .* as training is False"),
    ((X, ONE, None), {"training": True}, InvalidValueError, "one of running_mean and running_var is None"),
    ((X, ONE[:2], ONE), {}, InvalidValueError, r"running_mean has shape \(2,\); expected \(3,\)"),
    ((X, ONE, ONE, ONE[:2]), {}, InvalidValueError, r"weight has shape \(2,\); expected \(3,\)"),
    ((X, ONE, ONE, ONE, X), {}, InvalidValueError, r"bias has shape \(4, 3\); expected \(3,\)"),
    ((X, [1, 1, 1], ONE), {"training": True}, InvalidTypeError, r"running_mean is \[1, 1, 1\]; expected a writable"),
    ((X, ONE, READ_ONLY), {"training": True}, InvalidTypeError, "running_var is .*; expected a writable array"),
    ((X, ONE, ONE), {"eps": -1}, InvalidValueError, "eps is -1; expected at least 0"),
    ((X, ONE, ONE), {"momentum": "a"}, InvalidTypeError, "momentum is 'a'; expected a number"),
    ((X[:1], ONE, ONE), {"training": True}, InvalidValueError, r"x has shape \(1, 3\); expected more than one value"),
    ((np.ones((1, 3, 1, 1)), None, None), {"training": True}, InvalidValueError, "expected more than one value for"),
    ((X[:0], None, None), {"training": True}, InvalidValueError, "expected more than one value for each channel"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD_CALLS)
def test_bad_arguments_are_named_and_nothing_is_updated(arguments, options, error, message):
    with pytest.raises(error, match=message):
        F.batch_norm(*arguments, **options)
    np.testing.assert_array_equal(ONE, [1, 1, 1])


def test_bad_gradients_are_named():
    with pytest.raises(InvalidValueError, match=r"grad_out has shape \(4, 2\); expected \(4, 3\), the shape of x"):
        F.batch_norm_backward(X[:, :2], X)
    with pytest.raises(InvalidValueError, match="running_mean is None"):
        F.batch_norm_backward(X, X, training=False)


# The operations of a program


def run_operations(n_threads, x, grad, weight, bias):
    """A step and an inference, phase by phase, each thread on its rows; some threads have none."""
    n, channels, spatial = x.shape[0], x.shape[1], int(np.prod(x.shape[2:]))
    inferred, out, through_relu, grad_x = (np.full_like(x, np.nan) for _ in range(4))
    grad_weight, grad_bias = np.full_like(weight, np.nan), np.full_like(weight, np.nan)
    running = {name: np.full(channels, value, x.dtype) for name, value in (("running_mean", 0.5), ("running_var", 2.0))}
    partials, grad_partials = np.full((2, -(-n // 8), 2, channels), np.nan)
    own = lambda dtype: np.full((n_threads, channels), np.nan, dtype)  # noqa: E731
    statistics = {"mean": own(np.float64), "variance": own(np.float64)}
    sums = {"grad_weight": own(np.float64), "grad_bias": own(np.float64)}
    coefficients = {name: own(x.dtype) for name in ("centre", "factor", "shift", "slope", "offset")}
    forward = {name: coefficients[name] for name in ("centre", "factor", "shift")}
    backward = {name: coefficients[name] for name in ("centre", "factor", "slope", "offset")}
    places, sizes, eps = places_of(n, n_threads), {"channels": channels, "spatial": spatial}, {"eps": 1e-5}
    with_rows = [place for place in places if place.last > place.first]

    def run(name, places=with_rows, **fields):
        run_operation(name, x.dtype, places, n, **fields, **sizes)

    affine = {"x": x, "weight": weight, "bias": bias, **forward, **eps}
    run("batch_norm_apply_inference", out=inferred, relu=False, **affine, **running)
    run("batch_norm_moments", partials=partials, x=x)
    run("batch_norm_apply_training", out=out, relu=False, partials=partials, **affine, **statistics)
    run("batch_norm_apply_training", out=through_relu, relu=True, partials=partials, **affine, **statistics)
    rows = {"x": x, "grad_out": grad, **eps, **statistics}
    run("batch_norm_backward_sums", partials=grad_partials, **rows)
    run("batch_norm_backward_apply", grad_x=grad_x, partials=grad_partials, weight=weight, **rows, **sums, **backward)
    left = {"partials": partials, "grad_partials": grad_partials, **running, **statistics}
    left |= {"weight_sum": sums["grad_weight"], "bias_sum": sums["grad_bias"]}
    run("batch_norm_running", places, grad_weight=grad_weight, grad_bias=grad_bias, momentum=0.3, **left)
    once = [array.copy() for array in running.values()]
    run("batch_norm_running", places, grad_weight=None, grad_bias=None, momentum=1.0, **left)
    return inferred, out, through_relu, grad_x, grad_weight, grad_bias, *once, *running.values()


@pytest.mark.skipif(not _config.JIT, reason="without the JIT there are no operations")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 5), (1, 3, 4, 5), (21, 7, 3, 3), (64, 16, 14, 14)])
def test_the_operations_do_what_the_functions_do_on_any_number_of_threads(shape, dtype):
    x, grad, weight, bias = draw(shape, dtype)
    results = run_operations(1, x, grad, weight, bias)
    for n_threads in (2, 3, 9):
        other = run_operations(n_threads, x, grad, weight, bias)
        assert [array.tobytes() for array in other] == [array.tobytes() for array in results]
    running = [np.full(shape[1], value, dtype) for value in (0.5, 2.0)]
    inferred = F.batch_norm(x, *running, weight, bias)
    out = F.batch_norm(x, *running, weight, bias, training=True, momentum=0.3)
    batch = [np.zeros(shape[1], dtype) for _ in range(2)]
    F.batch_norm(x, *batch, training=True, momentum=1.0)
    grads = F.batch_norm_backward(grad, x, weight)
    expected = (inferred, out, np.maximum(out, 0), *grads, *running, *batch)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# The layers


def network(dtype="float32"):
    layers = (ff.Linear(6, 5), ff.BatchNorm1d(5), ff.ReLU(), ff.Linear(5, 3), ff.BatchNorm1d(3, affine=False))
    return ff.Sequential(*layers, seed=0, dtype=dtype)


def test_parameters_and_buffers_have_their_first_values_and_the_models_dtype():
    layer = network("float64")[1]
    for arrays, names in (
        (layer.params, {"weight": 1, "bias": 0}),
        (layer.buffers, {"running_mean": 0, "running_var": 1}),
    ):
        assert set(arrays) == set(names)
        for name, value in names.items():
            assert arrays[name].dtype == np.float64
            np.testing.assert_array_equal(arrays[name], np.full(5, value))
    assert not ff.BatchNorm2d(4, affine=False).params
    assert not ff.Linear(2, 2).buffers


@pytest.mark.parametrize("make", [lambda: ff.BatchNorm1d(3), lambda: ff.BatchNorm2d(3)], ids=["1d", "2d"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_in_both_modes_match_central_differences(make, training):
    layer = make()
    layer.training = training
    layer.params["weight"][...] = [0.5, -1.5, 2]
    layer.buffers["running_mean"][...] = [0.3, -1, 2]
    layer.buffers["running_var"][...] = [0.5, 2, 4]
    x = draw((9, 3) if layer.ndim == 2 else (4, 3, 3, 2))[0]
    assert ff.gradcheck(layer, x) < 1e-7
    np.testing.assert_array_equal(layer.buffers["running_mean"], np.array([0.3, -1, 2], "float32"))


def test_a_whole_network_passes_the_gradient_check():
    assert ff.gradcheck(network(), draw((7, 6))[0]) < 1e-7


def test_training_moves_the_running_statistics_and_inference_leaves_them():
    model, x = network("float64"), draw((50, 6))[0]
    assert model.train() is model
    first = model.forward(x)
    for _ in range(200):
        model.forward(x)
    hidden = model[0].forward(x)
    np.testing.assert_allclose(model[1].buffers["running_mean"], hidden.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(model[1].buffers["running_var"], hidden.var(axis=0, ddof=1), rtol=1e-6)
    assert model.eval() is model
    assert not any(layer.training for layer in model.layers)
    kept = {name: array.copy() for name, array in model.named_buffers().items()}
    inferred = model.forward(x)
    np.testing.assert_allclose(inferred, first, rtol=0.1, atol=0.05)  # all but the unbiased variance
    np.testing.assert_allclose(model.forward(x[:1]), inferred[:1], rtol=1e-12)  # a row does not depend on its batch
    for name, array in model.named_buffers().items():
        np.testing.assert_array_equal(array, kept[name])


def test_the_backward_is_that_of_its_forwards_mode():
    layer, (x, grad, *_) = ff.BatchNorm1d(4), draw((6, 4), "float32")
    layer.training = False
    layer.forward(x)
    layer.training = True
    np.testing.assert_allclose(layer.backward(grad), grad / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_buffers_are_named_by_the_layers_place_and_are_no_parameters():
    model = network()
    assert list(model.named_buffers()) == ["1.running_mean", "1.running_var", "4.running_mean", "4.running_var"]
    assert "1.running_mean" not in model.named_parameters()
    assert model.n_parameters == 6 * 5 + 5 + 5 + 5 + 5 * 3 + 3
    assert "BatchNorm1d(num_features=5" in model.summary()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_their_own_buffers(how):
    model, x = network(), draw((8, 6))[0]
    model.forward(x)
    other = how(model)
    np.testing.assert_array_equal(other.eval().forward(x), model.eval().forward(x))
    model[1].buffers["running_mean"][...] = 7
    assert (other[1].buffers["running_mean"] != 7).all()


BAD_LAYERS = [
    (lambda: ff.BatchNorm1d(0), InvalidValueError, "num_features is 0; expected an integer of at least 1"),
    (lambda: ff.BatchNorm2d(3, eps=-1), InvalidValueError, "eps is -1; expected at least 0"),
    (lambda: ff.BatchNorm2d(3, momentum=None), InvalidTypeError, "momentum is None; expected a number"),
    (lambda: ff.BatchNorm1d(3)(np.ones((2, 3, 4, 4))), InvalidValueError, "x has shape .*; expected 2 dimensions"),
    (
        lambda: ff.BatchNorm1d(3)(np.ones((2, 4))),
        InvalidValueError,
        r"x has shape \(2, 4\); expected \(n, 3\) for Batch",
    ),
    (lambda: ff.BatchNorm2d(3)(np.ones((2, 3))), InvalidValueError, r"x has shape \(2, 3\); expected 4 dimensions"),
    (lambda: ff.BatchNorm1d(3)(np.ones((1, 3))), InvalidValueError, "expected more than one value for each channel"),
    (
        lambda: ff.BatchNorm2d(3).output_shape((2, 5, 5)),
        InvalidValueError,
        r"got a batch of samples \(2, 5, 5\); expected \(n, 3, height, width\)",
    ),
    (lambda: ff.Sequential(ff.Linear(3, 4), ff.BatchNorm1d(5)), InvalidValueError, "gets 4 features; expected 5"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD_LAYERS)
def test_bad_layers_and_inputs_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# On disk


@pytest.mark.parametrize("dtype", DTYPES)
def test_buffers_go_to_disk_and_back(tmp_path, dtype):
    model, x = network(dtype), draw((30, 6))[0]
    for _ in range(3):
        model.forward(x)
    ff.save(model, tmp_path / "m")
    assert {"1.running_mean", "4.running_var"} < set(load_file(tmp_path / "m"))
    again = ff.load(tmp_path / "m")
    for name, array in model.named_buffers().items():
        np.testing.assert_array_equal(again.named_buffers()[name], array)
    np.testing.assert_array_equal(again.eval().forward(x), model.eval().forward(x))


def test_buffers_that_do_not_fit_are_all_named(tmp_path):
    ff.save(network(), tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    with safe_open(tmp_path / "m", framework="np") as file:
        metadata = file.metadata()
    del tensors["1.running_mean"]
    tensors["1.running_var"] = np.ones(4, "float32")
    tensors["4.running_var"] = np.ones(3)
    tensors["2.running_var"] = np.ones(3, "float32")
    save_file(tensors, tmp_path / "m", metadata=metadata)
    with pytest.raises(ModelFileError) as caught:
        ff.load(tmp_path / "m")
    message = str(caught.value)
    assert "1.running_mean is missing" in message
    assert "1.running_var is float32 (4,), expected float32 (5,)" in message
    assert "2.running_var is surplus" in message
    assert "4.running_var is float64 (3,), expected float32 (3,)" in message
