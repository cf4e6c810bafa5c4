"""gradcheck finds wrong gradients and says where; it leaves the module alone."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError
from fastfnn.gradcheck import GradientError

RNG = np.random.default_rng(17)
X = RNG.normal(size=(4, 6))


class WrongTanh(ff.Tanh):
    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def backward(self, grad_out):
        return self.spoil(super().backward(grad_out))


def one_element(grad):
    grad[2, 3] += 0.25
    return grad


@pytest.mark.parametrize(
    "spoil", [np.zeros_like, lambda g: 2 * g, lambda g: g[::-1].copy(), lambda g: -g, lambda g: g * np.nan, one_element]
)
def test_wrong_gradients_are_found(spoil):
    with pytest.raises(GradientError, match="the gradient for x is wrong at"):
        ff.gradcheck(WrongTanh(spoil), X)


def test_the_worst_element_is_named_with_both_values():
    with pytest.raises(
        GradientError, match=r"wrong at \(2, 3\): backward gives .*, central differences give .*; 1 of 24"
    ):
        ff.gradcheck(WrongTanh(one_element), X)


def test_a_gradient_of_the_wrong_shape_is_found():
    with pytest.raises(GradientError, match=r"the gradient for x has shape \(6, 4\); expected \(4, 6\)"):
        ff.gradcheck(WrongTanh(np.transpose), X)


def test_a_softmax_that_returns_nothing_is_found():
    class Zero(ff.Softmax):
        def backward(self, grad_out):
            return np.zeros_like(grad_out)

    with pytest.raises(GradientError):
        ff.gradcheck(Zero(), X)


def test_wrong_parameter_gradients_are_found():
    class WrongLinear(ff.Linear):
        def backward(self, grad_out):
            grad_x = super().backward(grad_out)
            self.grads["bias"][...] *= 2
            return grad_x

    with pytest.raises(GradientError, match="the gradient for bias is wrong"):
        ff.gradcheck(WrongLinear(6, 3), X)
    with pytest.raises(GradientError, match=r"the gradient for layers\[0\] bias is wrong"):
        ff.gradcheck(ff.Sequential(WrongLinear(6, 3), ff.Tanh(), seed=0), X)


def test_the_module_is_left_as_it_was():
    model = ff.Sequential(ff.Linear(6, 3), ff.Tanh(), seed=0)
    before = model.parameters.copy()
    assert ff.gradcheck(model, X) < 1e-7
    np.testing.assert_array_equal(model.parameters, before)
    assert model.dtype == np.float32


def test_dropout_has_one_mask_and_batch_normalisation_its_statistics_put_back():
    model = ff.Sequential(ff.Linear(6, 3), ff.BatchNorm1d(3), ff.Dropout(0.4), seed=0)
    model.forward(X)
    before = {name: array.copy() for name, array in model.named_buffers().items()}
    for mode in (model.train, model.eval):
        mode()
        assert ff.gradcheck(model, X) < 1e-7
    for name, array in model.named_buffers().items():
        np.testing.assert_array_equal(array, before[name])
    assert model[2].step == 1


def test_large_arrays_are_sampled():
    assert ff.gradcheck(ff.Linear(200, 100), RNG.normal(size=(2, 200)), max_elements=20) < 1e-6


def test_other_things_are_refused():
    with pytest.raises(InvalidTypeError, match="expected a layer, a Sequential or a loss"):
        ff.gradcheck(np.tanh, X)
