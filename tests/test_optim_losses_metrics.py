"""Optimizers against their references over several steps; the loss classes; metrics."""

import pickle

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn_kernels import reference

RNG = np.random.default_rng(13)


def test_sgd_steps_follow_the_reference():
    params, grads = RNG.normal(size=50), RNG.normal(size=(4, 50))
    expected, optimizer = params.copy(), ff.SGD(0.1, weight_decay=0.03)
    for grad in grads:
        optimizer.step(params, grad)
        expected = reference.sgd(expected, grad, 0.1, 0.03)
    np.testing.assert_allclose(params, expected, rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_steps_follow_the_reference(nesterov):
    params, grads = RNG.normal(size=50), RNG.normal(size=(4, 50))
    expected, velocity = params.copy(), np.zeros(50)
    optimizer = ff.SGD(0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.03)
    for grad in grads:
        optimizer.step(params, grad)
        expected, velocity = reference.sgd_momentum(expected, velocity, grad, 0.1, 0.8, nesterov, 0.03)
    np.testing.assert_allclose(params, expected, rtol=1e-12)
    np.testing.assert_allclose(optimizer.state["velocity"], velocity, rtol=1e-12)


def test_adam_steps_follow_the_reference_and_undo_the_zero_start():
    params, grads = RNG.normal(size=50), RNG.normal(size=(4, 50))
    first = params.copy()
    expected, mean, square = params.copy(), np.zeros(50), np.zeros(50)
    optimizer = ff.Adam(0.1, betas=(0.8, 0.9), eps=1e-9)
    for step, grad in enumerate(grads, 1):
        optimizer.step(params, grad)
        expected, mean, square = reference.adam(
            expected, mean, square, grad, 0.1, 0.8, 0.9, 1e-9, 0.0, False, 1 - 0.8**step, 1 - 0.9**step
        )
        if step == 1:  # the corrected averages of one gradient are that gradient: a step of lr times its sign
            np.testing.assert_allclose(params, first - 0.1 * np.sign(grad), rtol=1e-6)
    np.testing.assert_allclose(params, expected, rtol=1e-10)


def test_epsilon_hat_is_added_before_the_correction():
    params, expected, mean, square = np.ones(20), np.ones(20), np.zeros(20), np.zeros(20)
    optimizer = ff.Adam(0.1, betas=(0.8, 0.9), eps=0.3, epsilon_hat=True)
    for step, grad in enumerate(RNG.normal(size=(4, 20)), 1):
        optimizer.step(params, grad)
        mean, square = 0.8 * mean + 0.2 * grad, 0.9 * square + 0.1 * grad**2
        rate = 0.1 * np.sqrt(1 - 0.9**step) / (1 - 0.8**step)  # at the end of section 2 of Kingma & Ba
        expected -= rate * mean / (np.sqrt(square) + 0.3)
    np.testing.assert_allclose(params, expected, rtol=1e-12)


def test_adamw_decays_the_weights_beside_adams_step():
    grads = RNG.normal(size=(3, 20))
    zero_decay, decayed = np.ones(20), np.ones(20)
    plain, decoupled = ff.AdamW(0.1, weight_decay=0), ff.AdamW(0.1, weight_decay=0.3)
    for grad in grads:
        before, before_decayed = zero_decay.copy(), decayed.copy()
        plain.step(zero_decay, grad)
        decoupled.step(decayed, grad)
        np.testing.assert_allclose(
            decayed - before_decayed * (1 - 0.1 * 0.3), zero_decay - before, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    ("make", "slot", "step"),
    [
        (
            lambda: ff.RMSprop(0.1, 0.9, 1e-7, 0.02),
            "square",
            lambda w, s, g: reference.rmsprop(w, s, g, 0.1, 0.9, 1e-7, 0.02),
        ),
        (lambda: ff.Adagrad(0.1, 1e-7, 0.02), "total", lambda w, s, g: reference.adagrad(w, s, g, 0.1, 1e-7, 0.02)),
    ],
)
def test_rmsprop_and_adagrad_steps_follow_the_reference(make, slot, step):
    params, grads, optimizer = RNG.normal(size=50), RNG.normal(size=(4, 50)), make()
    expected, state = params.copy(), np.zeros(50)
    for grad in grads:
        optimizer.step(params, grad)
        expected, state = step(expected, state, grad)
    np.testing.assert_allclose(params, expected, rtol=1e-10)
    np.testing.assert_allclose(optimizer.state[slot], state, rtol=1e-10)


def test_the_gradient_is_clipped_before_anything_else():
    params, grad = np.array([1.0, -2.0, 0.0, 4.0]), np.array([3.0, -4.0, 0.1, 0.0])
    norm = np.sqrt((grad**2).sum())
    for limits, expected in (
        ({"clip_norm": 1.0}, grad / norm),
        ({"clip_norm": 100.0}, grad),
        ({"clip_value": 0.5}, [0.5, -0.5, 0.1, 0]),
        ({"clip_norm": 1.0, "clip_value": 0.5}, np.clip(grad / norm, -0.5, 0.5)),
        ({"l1": 0.25}, grad + np.array([0.25, -0.25, 0, 0.25])),
        ({"clip_value": 0.5, "l1": 0.25}, np.array([0.75, -0.75, 0.1, 0.25])),
    ):
        moved = params.copy()
        ff.SGD(1.0, **limits).step(moved, grad.copy())
        np.testing.assert_allclose(params - moved, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [ff.Adam, ff.AdamW, ff.RMSprop, ff.Adagrad])
def test_without_eps_a_gradient_of_zero_changes_nothing(kind, dtype):
    params, optimizer = np.ones(4, dtype), kind(0.1, eps=0, weight_decay=0)
    for _ in range(3):
        optimizer.step(params, np.array([0.0, 1e-15, -2.0, 3e4], dtype))
    assert params[0] == 1
    assert np.isfinite(params).all()
    assert (params[1:] < 1).tolist() == [True, False, True]


def test_another_model_starts_an_optimizer_afresh():
    optimizer, a, b = ff.Adam(0.1), np.ones(4), np.ones(4)
    optimizer.step(a, np.ones(4))
    optimizer.step(a, np.ones(4))
    optimizer.step(b, np.ones(4))
    assert optimizer.steps == 1
    np.testing.assert_allclose(b, 0.9, rtol=1e-6)


def test_optimizers_pickle_and_show_themselves():
    for optimizer in (
        ff.SGD(0.1, momentum=0.9, nesterov=True),
        ff.Adam(0.01, weight_decay=0.1),
        ff.AdamW(0.01, clip_norm=1.0),
        ff.RMSprop(0.01, alpha=0.9, l1=0.1),
        ff.Adagrad(0.1, clip_value=2.0),
    ):
        optimizer.step(np.ones(3), np.ones(3))
        again = pickle.loads(pickle.dumps(optimizer))
        assert repr(again) == repr(optimizer) == repr(eval(repr(optimizer), vars(ff)))


BAD_OPTIMIZERS = [
    (lambda: ff.SGD(-1), "lr is -1; expected at least 0"),
    (lambda: ff.SGD(float("inf")), "lr is inf; expected a finite number"),
    (lambda: ff.SGD(0.1, momentum=-0.1), "momentum is -0.1; expected at least 0"),
    (lambda: ff.SGD(0.1, nesterov=True), "nesterov is True with momentum 0"),
    (lambda: ff.SGD(0.1, weight_decay=-1), "weight_decay is -1"),
    (lambda: ff.Adam(betas=0.9), "betas is 0.9; expected a pair"),
    (lambda: ff.Adam(betas=(0.9, 1.0)), r"betas\[1\] is 1; expected less than 1"),
    (lambda: ff.Adam(eps=-1), "eps is -1; expected at least 0"),
    (lambda: ff.RMSprop(alpha=-1), "alpha is -1; expected at least 0"),
    (lambda: ff.Adagrad(eps=-1), "eps is -1; expected at least 0"),
    (lambda: ff.SGD(clip_norm=0), "clip_norm is 0; expected more than 0"),
    (lambda: ff.Adam(clip_value=-1), "clip_value is -1; expected more than 0"),
    (lambda: ff.AdamW(l1=-1), "l1 is -1; expected at least 0"),
    (lambda: ff.SGD(0.1).step(np.ones(3), np.ones(4)), r"grads has shape \(4,\); expected \(3,\)"),
]


@pytest.mark.parametrize(("make", "message"), BAD_OPTIMIZERS)
def test_bad_optimizers_are_refused(make, message):
    with pytest.raises(InvalidValueError, match=message):
        make()


LOSSES = [
    (ff.CrossEntropyLoss, RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)),
    (ff.CrossEntropyLoss, RNG.normal(size=(6, 4)), RNG.dirichlet(np.ones(4), 6)),
    (ff.NLLLoss, np.log(RNG.dirichlet(np.ones(4), 6)), RNG.integers(0, 4, 6)),
    (ff.BCELoss, RNG.uniform(0.1, 0.9, (6, 4)), RNG.uniform(size=(6, 4))),
    (ff.BCEWithLogitsLoss, RNG.normal(size=(6, 4)), RNG.uniform(size=(6, 4))),
    (ff.MSELoss, RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("loss", "prediction", "target"), LOSSES)
def test_the_gradient_is_that_of_the_number_returned(loss, prediction, target, reduction):
    assert ff.gradcheck(loss(reduction), prediction, target) < 1e-6


def test_backward_before_forward_is_refused():
    with pytest.raises(InvalidValueError, match="MSELoss.backward was called before forward"):
        ff.MSELoss().backward()


@pytest.mark.parametrize("make", [lambda: ff.MSELoss("avg"), lambda: ff.CrossEntropyLoss(label_smoothing=-0.1)])
def test_bad_losses_are_refused(make):
    with pytest.raises(InvalidValueError):
        make()


def test_accuracy_takes_labels_scores_and_one_hot_rows():
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    for prediction in (scores, scores.argmax(axis=1)):
        for target in ([1, 0, 0], np.eye(2)[[1, 0, 0]]):
            assert ff.accuracy(prediction, target) == pytest.approx(2 / 3)
    assert np.isnan(ff.accuracy(np.empty(0, int), np.empty(0, int)))


def test_confusion_matrix_counts_truth_in_rows():
    matrix = ff.confusion_matrix([0, 1, 1, 2], [0, 1, 2, 2], num_classes=4)
    assert matrix.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert ff.confusion_matrix([1], [0]).shape == (2, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ff.accuracy([1, 2], [1]), InvalidValueError, "prediction has 2 rows; expected 1"),
        (lambda: ff.accuracy([0.5], [1]), InvalidTypeError, "prediction has dtype float64"),
        (lambda: ff.accuracy(np.ones((1, 1, 1)), [1]), InvalidValueError, r"prediction has shape \(1, 1, 1\)"),
        (lambda: ff.confusion_matrix([3], [0], num_classes=2), InvalidValueError, "a label is 3; expected .* 0 to 1"),
        (lambda: ff.confusion_matrix([-1], [0]), InvalidValueError, "a label is -1"),
        (lambda: ff.confusion_matrix([0], [0], num_classes=0), InvalidValueError, "num_classes is 0"),
    ],
)
def test_bad_metrics_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
