"""How weights start, by the names of Keras and PyTorch: variances, bounds, orthogonality."""

import pickle

import numpy as np
import pytest

import fastfnn as ff
from fastfnn import initializers
from fastfnn.errors import InvalidTypeError, InvalidValueError

#: What the variance is of, from the numbers of inputs and outputs; and the bound in deviations.
NAMES = {
    "he_uniform": (lambda i, o: 2 / i, np.sqrt(3)),
    "he_normal": (lambda i, o: 2 / i, 2 / initializers.TRUNCATED),
    "kaiming_uniform": (lambda i, o: 2 / i, np.sqrt(3)),
    "kaiming_normal": (lambda i, o: 2 / i, None),
    "glorot_uniform": (lambda i, o: 2 / (i + o), np.sqrt(3)),
    "glorot_normal": (lambda i, o: 2 / (i + o), 2 / initializers.TRUNCATED),
    "xavier_uniform": (lambda i, o: 2 / (i + o), np.sqrt(3)),
    "xavier_normal": (lambda i, o: 2 / (i + o), None),
    "lecun_uniform": (lambda i, o: 1 / i, np.sqrt(3)),
    "lecun_normal": (lambda i, o: 1 / i, 2 / initializers.TRUNCATED),
}


def kurtosis(values):
    return np.mean(values**4) / np.mean(values**2) ** 2


@pytest.mark.parametrize(
    ("make", "fans"),
    [
        (lambda name: ff.Linear(300, 200, weight_init=name), (300, 200)),
        (lambda name: ff.Conv2d(16, 64, 5, weight_init=name), (16 * 25, 64 * 25)),
        (lambda name: ff.Conv2d(32, 64, (3, 5), groups=2, weight_init=name), (16 * 15, 64 * 15)),
    ],
    ids=["Linear", "Conv2d", "groups"],
)
@pytest.mark.parametrize("name", NAMES)
def test_variance_bound_and_shape_of_the_distribution(name, make, fans):
    layer = make(name)
    layer.build(np.random.default_rng(4), "float64")
    weight, (variance, bound) = layer.params["weight"], NAMES[name]
    deviation = np.sqrt(variance(*fans))
    assert weight.std() == pytest.approx(deviation, rel=0.02)
    assert abs(weight.mean()) < 0.02 * deviation
    largest = np.abs(weight).max() / deviation
    if bound is None:
        assert largest > 3.5
        assert kurtosis(weight) == pytest.approx(3.0, rel=0.1)
    else:
        assert 0.99 * bound < largest <= bound
        assert kurtosis(weight) == pytest.approx(1.8 if bound < 2 else 2.37, rel=0.05)


@pytest.mark.parametrize("name", ["xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"])
def test_pytorchs_names_have_pytorchs_variance(name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for theirs, mine in (
        (torch.nn.Linear(300, 200), ff.Linear(300, 200, weight_init=name)),
        (torch.nn.Conv2d(16, 64, 5, groups=2), ff.Conv2d(16, 64, 5, groups=2, weight_init=name)),
    ):
        getattr(torch.nn.init, f"{name}_")(theirs.weight)
        mine.build(np.random.default_rng(4))
        assert mine.params["weight"].std() == pytest.approx(theirs.weight.std().item(), rel=0.02)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (20, 20), (1, 5), (5, 1)])
def test_orthogonal_rows_or_columns(shape):
    layer = ff.Linear(*shape, weight_init="orthogonal")
    layer.build(np.random.default_rng(4), "float64")
    weight = layer.params["weight"]
    product = weight.T @ weight if shape[0] >= shape[1] else weight @ weight.T
    np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-12)


def test_orthogonal_filters():
    layer = ff.Conv2d(4, 6, 3, weight_init="orthogonal")
    layer.build(np.random.default_rng(4), "float64")
    rows = layer.params["weight"].reshape(6, -1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(6), atol=1e-12)


def test_orthogonal_matrices_are_spread_over_all_directions():
    drawn = [initializers.orthogonal((1, 1), np.random.default_rng(seed))[0, 0] for seed in range(200)]
    assert 60 < np.sum(np.array(drawn) > 0) < 140
    assert np.abs(drawn) == pytest.approx(1)


def test_plain_values():
    weights = {
        "zeros": ff.Linear(3, 4, weight_init="zeros"),
        "ones": ff.Linear(3, 4, weight_init="ones"),
        "constant": ff.Linear(3, 4, weight_init=initializers.constant(0.25), bias_init=initializers.constant(-1)),
    }
    assert not weights["zeros"].params["weight"].any()
    assert (weights["ones"].params["weight"] == 1).all()
    assert (weights["constant"].params["weight"] == 0.25).all()
    assert (weights["constant"].params["bias"] == -1).all()


def test_a_normal_of_any_deviation():
    layer = ff.Linear(300, 200, weight_init=initializers.normal(0.02))
    assert layer.params["weight"].std() == pytest.approx(0.02, rel=0.02)
    assert initializers.normal((300, 200), np.random.default_rng(0)).std() == pytest.approx(1, rel=0.02)


def test_layers_with_them_pickle_and_repeat_with_the_seed():
    for start in (initializers.normal(0.02), initializers.constant(2), "he_normal", "orthogonal", "glorot_uniform"):
        layer = pickle.loads(pickle.dumps(ff.Linear(5, 4, weight_init=start)))
        again = ff.Linear(5, 4, weight_init=start)
        one, other = ff.Sequential(layer, seed=3), ff.Sequential(again, seed=3)
        assert one.parameters.tobytes() == other.parameters.tobytes()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ff.Linear(2, 3, weight_init="he_gaussian"), InvalidValueError, "'he_gaussian'; .*'he_normal'"),
        (lambda: ff.Linear(2, 3, weight_init=3), InvalidTypeError, "weight_init is 3; expected a callable or one of"),
        (lambda: initializers.normal(-1), InvalidValueError, "std is -1; expected at least 0"),
        (lambda: initializers.constant("a"), InvalidTypeError, "value is 'a'; expected a number"),
        (
            lambda: ff.Linear(2, 3, weight_init=initializers.VarianceScaling),
            InvalidTypeError,
            r"weight_init: VarianceScaling is a class; write VarianceScaling\(…\)",
        ),
    ],
)
def test_what_is_no_start_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
