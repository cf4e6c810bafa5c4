"""Schedules: their curves, and that the compiled run follows them step by step as the loop written by hand does."""

import math

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.engine import program
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.schedules import (
    Cosine,
    CosineWarmRestarts,
    Cyclic,
    Exponential,
    MultiStep,
    OneCycle,
    ReduceOnPlateau,
    Step,
)

RNG = np.random.default_rng(4)
X, Y = RNG.normal(size=(50, 6)), RNG.integers(0, 3, 50)


def curve(schedule, epochs, steps):
    """The factor of every step of a training."""
    return np.concatenate([schedule.factors(epoch, epochs, steps) for epoch in range(1, epochs + 1)])


def network(seed=0):
    return ff.Sequential(ff.Linear(6, 8), ff.ReLU(), ff.Linear(8, 3), seed=seed, dtype="float64")


def train(model, schedule, **options):
    settings = {"optimizer": ff.SGD(0.2), "epochs": 4, "batch_size": 12, "seed": 0, "progress": False, **options}
    return ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), schedule=schedule, **settings)


def test_step_and_exponential_change_between_epochs():
    np.testing.assert_allclose(curve(Step(2, 0.5), 5, 2), [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25])
    np.testing.assert_allclose(curve(Exponential(0.9), 3, 2), [1, 1, 0.9, 0.9, 0.81, 0.81])


def test_cosine_rises_in_a_line_and_falls_as_half_a_cosine():
    factors = curve(Cosine(warmup=2), 6, 10)
    np.testing.assert_allclose(factors[:20], np.arange(1, 21) / 20)
    np.testing.assert_allclose(factors[20:], (1 + np.cos(math.pi * np.arange(40) / 40)) / 2)
    assert np.allclose(curve(Cosine(), 3, 4)[[0, 6]], [1, 0.5])
    assert curve(Cosine(last=0.1), 3, 1000)[-1] == pytest.approx(0.1, abs=1e-5)
    np.testing.assert_allclose(curve(Cosine(warmup=0.5), 1, 4)[:2], [0.5, 1])


@pytest.mark.parametrize("rise", [0.3, 0.25, 0.5, 0.9, 0.07])
@pytest.mark.parametrize(("epochs", "steps"), [(5, 20), (2, 5), (1, 37), (30, 1)])
def test_one_cycle_is_pytorchs_step_by_step(epochs, steps, rise):
    torch = pytest.importorskip("torch")
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=epochs * steps, pct_start=rise, div_factor=25, final_div_factor=10_000
    )
    expected = []
    for _ in range(epochs * steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < epochs * steps:
            theirs.step()
    np.testing.assert_allclose(curve(OneCycle(rise), epochs, steps), expected, rtol=1e-9, atol=1e-14)
    assert expected[-1] == pytest.approx(4e-6)


def pytorchs(make, epochs, steps, after_step=None, after_epoch=None):
    """The rate of every step of a training of PyTorch's, whose optimizer begins with 1."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = make(torch.optim.lr_scheduler, optimizer), []
    for epoch in range(epochs):
        for step in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if after_step:
                after_step(schedule, epoch + (step + 1) / steps)
        if after_epoch:
            after_epoch(schedule)
    return rates


@pytest.mark.parametrize("milestones", [[2, 5], [1], [3, 3, 7], [40]])
def test_several_steps_are_pytorchs(milestones):
    expected = pytorchs(
        lambda module, optimizer: module.MultiStepLR(optimizer, milestones, gamma=0.3), 9, 4,
        after_epoch=lambda schedule: schedule.step(),
    )  # fmt: skip
    np.testing.assert_allclose(curve(MultiStep(milestones[::-1], 0.3), 9, 4), expected, rtol=1e-12)


@pytest.mark.parametrize(("period", "growth"), [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_warm_restarts_are_pytorchs_step_by_step(period, growth):
    expected = pytorchs(
        lambda module, optimizer: module.CosineAnnealingWarmRestarts(optimizer, period, growth, eta_min=0.01), 10, 8,
        after_step=lambda schedule, place: schedule.step(place),
    )  # fmt: skip
    np.testing.assert_allclose(curve(CosineWarmRestarts(period, growth, 0.01), 10, 8), expected, rtol=1e-9)


@pytest.mark.parametrize(("up", "down"), [(5, None), (1, 4), (7, 3), (50, None)])
@pytest.mark.parametrize(("mode", "gamma"), [("triangular", 1.0), ("triangular2", 1.0), ("exp_range", 0.97)])
def test_cycles_are_pytorchs_step_by_step(up, down, mode, gamma):
    expected = pytorchs(
        lambda module, optimizer: module.CyclicLR(
            optimizer, 0.05, 1.0, up, down, mode=mode, gamma=gamma, cycle_momentum=False
        ),
        4, 11, after_step=lambda schedule, place: schedule.step(),
    )  # fmt: skip
    np.testing.assert_allclose(curve(Cyclic(up, down, 0.05, mode, gamma), 4, 11), expected, rtol=1e-9)


def test_restarts_come_between_epochs_and_cycles_begin_at_the_bottom():
    factors = curve(CosineWarmRestarts(1, 2, 0.1), 7, 5)
    assert [int(step) for step in np.flatnonzero(factors == 1)] == [0, 5, 15]
    assert curve(Cyclic(2, first=0.5), 2, 4).tolist() == [0.5, 0.75, 1, 0.75, 0.5, 0.75, 1, 0.75]


def test_one_cycle_begins_peaks_and_ends_where_it_says():
    factors = curve(OneCycle(rise=0.25, first=0.1, last=0.01), 4, 100)
    assert factors[0] == pytest.approx(0.1)
    assert factors.argmax() == 99
    assert factors[99] == 1
    assert factors[-1] == pytest.approx(0.01, rel=1e-12)
    assert (np.diff(factors[:100]) > 0).all()
    assert (np.diff(factors[99:]) < 0).all()
    assert curve(OneCycle(), 1, 1).tolist() == [pytest.approx(4e-6)]


def test_a_plateau_reduces_the_rate_after_its_patience():
    schedule, history, seen = ReduceOnPlateau(0.5, patience=1, least=0.2), ff.History(), []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        seen.append(schedule.factors(1, 1, 1)[0])
        history.loss.append(loss)
        schedule.end_epoch(history)
    assert seen == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2]
    history.val_loss.append(0.1)
    schedule.begin()
    schedule.end_epoch(history)
    assert schedule.factors(1, 1, 3).tolist() == [1, 1, 1]


SCHEDULES = [
    Step(1, 0.5),
    MultiStep([1, 3], 0.5),
    Exponential(0.7),
    Cosine(warmup=1.5),
    CosineWarmRestarts(1, 2),
    Cyclic(3, mode="triangular2"),
    OneCycle(),
    ReduceOnPlateau(0.5, patience=0),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("make", [lambda: ff.SGD(0.2), lambda: ff.SGD(0.2, momentum=0.5), lambda: ff.Adam(0.02)])
def test_the_compiled_run_follows_a_schedule_as_the_loop_by_hand_does(make, schedule, monkeypatch):
    fast, slow, optimizer = network(), network(), make()
    history = train(fast, schedule, optimizer=optimizer)
    assert optimizer.lr == make().lr
    monkeypatch.setattr(program, "is_compiled", lambda *args: False)
    expected = train(slow, schedule, optimizer=make())
    np.testing.assert_allclose(fast.parameters, slow.parameters, rtol=1e-9, atol=1e-12)
    assert history.lr == expected.lr
    assert len(set(history.lr)) > 1 or isinstance(schedule, ReduceOnPlateau)


@pytest.mark.parametrize("schedule", [Cosine(1), OneCycle()], ids=repr)
def test_slices_and_threads_make_no_difference(schedule, monkeypatch):
    models = [network() for _ in range(3)]
    train(models[0], schedule, n_threads=1)
    train(models[1], schedule, n_threads=2)
    monkeypatch.setattr(program, "SLICE_SECONDS", 1e-9)
    train(models[2], schedule, n_threads=1)
    assert len({model.parameters.tobytes() for model in models}) == 1


def test_no_epochs_want_no_schedule():
    assert train(network(), Cosine(1), epochs=0).epochs == 0


def test_a_plateau_goes_on_from_its_state():
    one, other = (ReduceOnPlateau(0.5, patience=1) for _ in range(2))
    history, epochs, empty = ff.History(), [], other.state()
    for i, loss in enumerate((1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9)):
        if i == 2:
            other.restore(one.state())
        history.loss.append(loss)
        for schedule in (one, other)[: 1 + (i >= 2)]:
            schedule.end_epoch(history)
        epochs.append((one.factors(1, 1, 1)[0], other.factors(1, 1, 1)[0]))
    assert epochs == [(1, 1), (1, 1), (0.5, 0.5), (0.5, 0.5), (0.5, 0.5), (0.25, 0.25), (0.25, 0.25)]
    other.restore(empty)
    assert other.state() == ReduceOnPlateau().state()


def test_a_schedule_of_the_epoch_alone_has_no_state():
    assert all(schedule.state() == {} for schedule in SCHEDULES if not isinstance(schedule, ReduceOnPlateau))


def test_a_constant_schedule_is_none():
    plain, scheduled = network(), network()
    assert train(plain, None).lr == [0.2] * 4
    train(scheduled, Exponential(1.0))
    assert scheduled.parameters.tobytes() == plain.parameters.tobytes()


def test_schedules_show_themselves():
    for schedule in SCHEDULES:
        assert repr(eval(repr(schedule), vars(ff.schedules))) == repr(schedule)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step(0), "every is 0"),
        (lambda: Exponential(0), "factor is 0; expected more than 0"),
        (lambda: Cosine(-1), "warmup is -1; expected at least 0"),
        (lambda: Cosine(last=2), "last is 2; expected at most 1"),
        (lambda: OneCycle(rise=1), "rise is 1; expected less than 1"),
        (lambda: MultiStep([3, 0]), r"milestones\[1\] is 0; expected an integer of at least 1"),
        (lambda: CosineWarmRestarts(0), "period is 0"),
        (lambda: Cyclic(3, mode="saw"), "mode is 'saw'; expected one of 'triangular'"),
        (lambda: Cyclic(3, gamma=0.5), "gamma is 0.5 with mode 'triangular'; expected it with mode 'exp_range'"),
        (lambda: ReduceOnPlateau(1.5), "factor is 1.5; expected less than 1"),
        (lambda: train(network(), Cosine(warmup=4)), "warmup is 4 for 4 epochs; expected less than these"),
    ],
)
def test_bad_schedules_are_named(make, message):
    with pytest.raises(InvalidValueError, match=message):
        make()


def test_fit_wants_a_schedule():
    with pytest.raises(InvalidTypeError, match="schedule is 0.1; expected a schedule"):
        train(network(), 0.1)
