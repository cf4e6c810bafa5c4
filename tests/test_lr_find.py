"""The learning rate's sweep: what it sees is what training by hand sees, and it leaves everything as it was."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(3)
N = 90
X = RNG.normal(size=(N, 6))
Y = (X @ RNG.normal(size=(6, 3))).argmax(axis=1)


def network():
    return ff.Sequential(ff.Linear(6, 16), ff.ReLU(), ff.Linear(16, 3), seed=0, dtype="float64")


def sweep(model=None, x=X, y=Y, **options):
    settings = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(), "batch_size": 16, "seed": 0, **options}
    return ff.lr_find(model or network(), x, y, **settings)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_each_step_has_its_own_rate_and_loss(reduction):
    loss, model, optimizer = ff.CrossEntropyLoss(reduction), network(), ff.SGD()
    found = sweep(loss=loss, first=1e-3, last=1e-1, steps=14)
    np.testing.assert_allclose(found.lr, np.geomspace(1e-3, 1e-1, 14))
    rng, orders = np.random.default_rng(0), []
    for step, rate in enumerate(found.lr):
        if step % 6 == 0:  # six batches an epoch, the last of ten rows
            order = rng.permutation(N)
            orders = [order[start : start + 16] for start in range(0, N, 16)]
        rows, optimizer.lr = orders[step % 6], rate
        before = ff.train_step(model, X[rows], Y[rows], loss=loss, optimizer=optimizer).loss
        assert found.loss[step] == pytest.approx(before, rel=1e-9)


def test_model_and_optimizer_stay_as_they_are():
    model, optimizer = network(), ff.Adam(lr=0.5)
    sweep(model, optimizer=optimizer)
    assert model.parameters.tobytes() == network().parameters.tobytes()
    assert (optimizer.lr, optimizer.steps, optimizer.state) == (0.5, 0, {})


def by_hand(model, optimizer, rates):
    rng, losses = np.random.default_rng(0), []
    for step, optimizer.lr in enumerate(rates):
        if step % 6 == 0:
            order = rng.permutation(N)
        rows = order[step % 6 * 16 :][:16]
        losses.append(ff.train_step(model, X[rows], Y[rows], loss=ff.CrossEntropyLoss(), optimizer=optimizer).loss)
    return losses


def test_it_goes_on_from_the_state_that_it_is_given():
    model, optimizer = network(), ff.Adam(0.05)
    by_hand(model, optimizer, [0.05] * 12)
    before = model.parameters.copy(), optimizer.state["mean"].copy(), optimizer.steps
    with pytest.warns(UserWarning, match="lr_find: the model or the optimizer has been trained already"):
        found = sweep(model, optimizer=optimizer, first=1e-4, last=1e-1, steps=20)
    assert (optimizer.lr, optimizer.steps) == (0.05, before[2])
    np.testing.assert_array_equal(model.parameters, before[0])
    np.testing.assert_array_equal(optimizer.state["mean"], before[1])
    np.testing.assert_allclose(found.loss, by_hand(model, optimizer, found.lr), rtol=1e-9)


@pytest.mark.filterwarnings("error")
def test_a_new_model_is_swept_without_a_word():
    sweep()


def test_the_suggestion_lies_within_the_sweep():
    # rates that are all too large, and a model that cannot become better
    for options in ({"first": 3.0, "last": 300.0, "steps": 30}, {"x": np.zeros_like(X), "y": Y * 0, "steps": 10}):
        found = sweep(**options)
        assert found.lr[0] <= found.suggestion <= found.lr[-1]


@pytest.mark.parametrize("optimizer", [ff.SGD(), ff.Adam()], ids=["sgd", "adam"])
def test_what_it_suggests_trains_well(optimizer):
    found = sweep(optimizer=optimizer)
    assert found.lr[0] < found.suggestion < found.lr[-1]
    optimizer.lr, model = found.suggestion, network()
    options = {"loss": ff.CrossEntropyLoss(), "optimizer": optimizer, "epochs": 60, "batch_size": 16, "seed": 0}
    history = ff.fit(model, X, Y, progress=False, **options)
    assert history.accuracy[-1] > 0.9


def test_it_ends_where_the_loss_blows_up():
    found = sweep(first=1e-3, last=1e6, steps=60)
    assert 2 < len(found.lr) < 60
    assert len(found.loss) == len(found.smoothed) == len(found.lr)


def test_the_suggestion_is_in_the_picture():
    pytest.importorskip("matplotlib")
    found = sweep()
    ax = ff.plot.lr_find(found).axes[0]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), found.smoothed)
    assert f"{found.suggestion:.2g}" in ax.get_legend().get_texts()[2].get_text()
    with pytest.raises(InvalidTypeError, match="sweep is float"):
        ff.plot.lr_find(0.1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"first": 1.0, "last": 0.1}, "first is 1; expected less than last, which is 0.1"),
        ({"steps": 9}, "steps is 9; expected an integer of at least 10"),
        ({"first": 1e200, "last": 1e300}, "first is 1e\\+200; expected a learning rate"),
        ({"optimizer": 0.1}, "optimizer is 0.1; expected an optimizer"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises((InvalidValueError, InvalidTypeError), match=message):
        sweep(**options)
