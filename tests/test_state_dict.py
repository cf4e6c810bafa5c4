"""`Sequential.state_dict` and `load_state_dict`: PyTorch's names and layouts, all or nothing. PyTorch is not needed."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(61)


def make(seed=0, dtype="float32"):
    return ff.Sequential(
        ff.Normalize(0.5, 2),
        ff.Conv2d(4, 6, (3, 2), groups=2),
        ff.BatchNorm2d(6),
        ff.ReLU(),
        ff.Flatten(),
        ff.Linear(24, 5, bias=False),
        ff.BatchNorm1d(5, affine=False),
        ff.Linear(5, 3),
        seed=seed,
        dtype=dtype,
    )


def randomised(state):
    return {name: np.asarray(RNG.uniform(0.5, 2, array.shape), array.dtype) for name, array in state.items()}


#: In the order of the layers, as PyTorch has it.
SHAPES = {
    "1.weight": (6, 2, 3, 2),
    "1.bias": (6,),
    "2.weight": (6,),
    "2.bias": (6,),
    "2.running_mean": (6,),
    "2.running_var": (6,),
    "2.num_batches_tracked": (),
    "5.weight": (5, 24),
    "6.running_mean": (5,),
    "6.running_var": (5,),
    "6.num_batches_tracked": (),
    "7.weight": (3, 5),
    "7.bias": (3,),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_names_shapes_and_dtypes(dtype):
    state = make(dtype=dtype).state_dict()
    assert {name: array.shape for name, array in state.items()} == SHAPES
    assert list(state) == list(SHAPES)
    for name, array in state.items():
        assert type(array) is np.ndarray
        assert array.flags.c_contiguous
        assert array.dtype == ("int64" if name.endswith("num_batches_tracked") else dtype)


def test_the_weight_of_a_linear_is_transposed_and_others_are_not():
    model = make()
    state = model.state_dict()
    np.testing.assert_array_equal(state["7.weight"], model[7].params["weight"].T)
    np.testing.assert_array_equal(state["1.weight"], model[1].params["weight"])


def test_a_state_is_a_copy():
    model = make()
    before = model.parameters.copy()
    for array in model.state_dict().values():
        array[...] = 7
    np.testing.assert_array_equal(model.parameters, before)
    assert not model[2].buffers["running_mean"].any()


def test_a_replaced_parameter_is_taken_over():
    model = make()
    model[7].params["bias"] = np.arange(3.0)
    assert model.state_dict()["7.bias"].dtype == np.float32
    np.testing.assert_array_equal(model.state_dict()["7.bias"], [0, 1, 2])
    model[7].params["bias"] = np.arange(3.0)
    model.load_state_dict({"7.bias": [4, 5, 6]}, strict=False)
    np.testing.assert_array_equal(model.named_parameters()["7.bias"], [4, 5, 6])
    model[7].params["bias"] = np.arange(4.0)
    with pytest.raises(InvalidValueError, match=r"params\['bias'\] .* has shape \(4,\); expected \(3,\)"):
        model.state_dict()
    with pytest.raises(InvalidValueError, match=r"params\['bias'\] .* has shape \(4,\)"):
        model.load_state_dict({"7.bias": np.zeros(4)}, strict=False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_state_makes_another_model_the_same(dtype):
    source, target = make(0, dtype), make(1, dtype)
    source.load_state_dict(randomised(source.state_dict()))
    parameters = target.parameters
    assert target.load_state_dict(source.state_dict()) == ([], [])
    assert target.parameters is parameters  # written in place, for whoever holds them
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array, err_msg=name)
    x = RNG.normal(size=(7, 4, 4, 3))
    np.testing.assert_array_equal(ff.predict_raw(target, x), ff.predict_raw(source, x))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", ">f4", "longdouble"])
def test_other_dtypes_are_converted(dtype):
    model = ff.Sequential(ff.Linear(3, 2))
    state = {"0.weight": np.array([[1, 2, 3], [4, 5, 6]], dtype), "0.bias": np.array([7, 8], dtype)}
    model.load_state_dict(state)
    assert model.state_dict()["0.weight"].dtype == np.float32
    np.testing.assert_array_equal(model.state_dict()["0.weight"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(model[0].params["bias"], [7, 8])


def test_lists_will_do_and_so_will_nan_and_infinity():
    model = ff.Sequential(ff.Linear(2, 2))
    model.load_state_dict({"0.weight": [[1, 2], [3, 4]], "0.bias": [np.nan, np.inf]})
    np.testing.assert_array_equal(model[0].params["weight"], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(model[0].params["bias"], [np.nan, np.inf])


def test_all_that_does_not_fit_is_named_at_once_and_nothing_is_loaded():
    model = make()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = randomised(before)
    del state["5.weight"]
    state["4.weight"] = np.zeros(3)
    state["7.weight"] = state["7.weight"].T
    state["7.bias"] = state["7.bias"] * 1j
    state["1.bias"] = np.full(6, 1e300)
    state["2.bias"] = np.array(["a"] * 6)
    state["2.weight"] = np.array([None] * 6)
    state["2.running_var"] = [[1], [2, 3]]
    with pytest.raises(InvalidValueError) as caught:
        model.load_state_dict(state)
    for part in (
        "5.weight is missing",
        "4.weight is unexpected",
        "7.weight has shape (5, 3); expected (3, 5)",
        "7.bias has dtype complex64; expected numbers",
        "1.bias holds numbers that are too large for float32",
        "2.bias has dtype <U1; expected numbers",
        "2.weight has dtype object; expected numbers",
        "2.running_var is list, which is no array of numbers",
    ):
        assert part in str(caught.value)
    assert str(caught.value).count(";") == 7 + 4  # between eight complaints, and within four of them
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_without_strict_names_may_differ_but_shapes_may_not():
    model = make()
    state = {"7.bias": np.array([1, 2, 3]), "head.weight": np.zeros(9)}
    keys = model.load_state_dict(state, strict=False)
    assert keys.unexpected_keys == ["head.weight"]
    assert "7.weight" in keys.missing_keys
    assert not {"7.bias", "2.num_batches_tracked"} & set(keys.missing_keys)
    np.testing.assert_array_equal(model[7].params["bias"], [1, 2, 3])
    with pytest.raises(InvalidValueError, match=r"7\.bias has shape \(4,\); expected \(3,\)$"):
        model.load_state_dict({"7.bias": np.zeros(4)}, strict=False)
    model.load_state_dict({}, strict=False)
    np.testing.assert_array_equal(model[7].params["bias"], [1, 2, 3])


def test_the_count_of_batches_may_be_missing_but_must_be_a_number():
    model = make()
    state = model.state_dict()
    del state["2.num_batches_tracked"]
    model.load_state_dict(state)
    with pytest.raises(InvalidValueError, match=r"2\.num_batches_tracked has shape \(2,\); expected \(\)"):
        model.load_state_dict({**state, "2.num_batches_tracked": np.zeros(2, int)})


def test_a_state_that_is_the_models_own_memory_is_loaded_as_it_was():
    model = ff.Sequential(ff.Linear(2, 2), ff.Linear(2, 2), seed=0)
    first, second = model[0].params["weight"], model[1].params["weight"]
    swapped = {**model.state_dict(), "0.weight": second, "1.weight": first}
    expected = second.copy(), first.copy()
    model.load_state_dict(swapped)
    np.testing.assert_array_equal(first, expected[0].T)
    np.testing.assert_array_equal(second, expected[1].T)


def test_what_is_no_dict_is_refused():
    with pytest.raises(InvalidTypeError, match="state is list; expected a dict of arrays by name"):
        make().load_state_dict([1, 2])


def test_a_layer_of_ones_own_has_its_names_and_layouts():
    class Scale(ff.Layer):
        def initial_params(self, rng, activation):
            return {"gain": np.ones((2, 3))}

        def initial_buffers(self):
            return {"seen": np.zeros(4)}

    model = ff.Sequential(ff.ReLU(), Scale())
    model.load_state_dict({"1.gain": np.arange(6).reshape(2, 3), "1.seen": np.arange(4)})
    np.testing.assert_array_equal(model[1].params["gain"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(model.state_dict()["1.seen"], np.arange(4))


def test_a_model_trains_on_from_a_state_as_its_source_does():
    source, target = make(0), make(1)
    x, y = RNG.normal(size=(16, 4, 4, 3)).astype("float32"), RNG.integers(0, 3, 16)
    options = {"loss": ff.CrossEntropyLoss(), "batch_size": 8, "seed": 3, "progress": False}
    ff.fit(source, x, y, optimizer=ff.SGD(0.1), epochs=1, **options)
    ff.fit(target, x, y, optimizer=ff.SGD(0.1), epochs=1, **options)  # a program of its own holds its weights
    target.load_state_dict(source.state_dict())
    for model in (source, target):
        ff.fit(model, x, y, optimizer=ff.SGD(0.1), epochs=1, **options)
    np.testing.assert_array_equal(target.parameters, source.parameters)


def test_buffers_of_a_linear_of_ones_own_are_part_of_the_state():
    class Masked(ff.Linear):
        def initial_buffers(self):
            return {"mask": np.ones((self.in_features, self.out_features))}

    model = ff.Sequential(Masked(3, 2), seed=0)
    state = model.state_dict()
    assert sorted(state) == ["0.bias", "0.mask", "0.weight"]
    state["0.mask"][...] = 0
    model.load_state_dict(state)
    assert not model[0].buffers["mask"].any()
