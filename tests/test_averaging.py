"""`EMA`: the average of the weights over the steps, in training, in validation, in files."""

import copy

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidValueError

RNG = np.random.default_rng(6)
X, Y = RNG.normal(size=(50, 5)).astype(np.float32), RNG.integers(0, 3, 50)


class OwnLayer(ff.Layer):
    """Which makes that a model is run layer by layer."""

    def forward(self, x):
        return np.asarray(x)

    def backward(self, grad_out):
        return grad_out


def network(*middle):
    return ff.Sequential(ff.Linear(5, 6), *middle, ff.ReLU(), ff.Linear(6, 3), seed=0)


def fit(model, **options):
    options = {"optimizer": ff.SGD(0.1), "epochs": 3, "batch_size": 8, "seed": 0, "progress": False, **options}
    return ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), **options)


@pytest.mark.parametrize("optimizer", [lambda: ff.SGD(0.1), lambda: ff.Adam(0.01)])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.filterwarnings("ignore:OwnLayer")
def test_it_is_the_average_of_the_parameters_after_the_steps(every, own, optimizer):
    seen, plain, model, ema = [], network(*[OwnLayer()] * own), network(*[OwnLayer()] * own), ff.EMA(0.8, every)
    fit(
        plain,
        optimizer=optimizer(),
        callbacks=ff.EverySteps(every, lambda end: seen.append(end.model.parameters.copy())),
    )
    fit(model, optimizer=optimizer(), callbacks=[ema])
    average = seen[0].astype(np.float64)
    for parameters in seen[1:]:
        average = 0.8 * average + 0.2 * parameters
    assert ema.updates == len(seen) == 3 * (7 // every)
    np.testing.assert_allclose(model.parameters, average, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ema.averaged(plain).parameters, average, rtol=1e-5, atol=1e-6)


def test_it_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    swa = pytest.importorskip("torch.optim.swa_utils")
    theirs = torch.nn.Linear(5, 3)
    averaged = swa.AveragedModel(theirs, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    ema, model = ff.EMA(0.9), ff.from_torch(torch.nn.Sequential(theirs))
    for _ in range(6):
        with torch.no_grad():
            theirs.weight += torch.randn(3, 5)
        averaged.update_parameters(theirs)
        model[0].params["weight"][...] = theirs.weight.detach().numpy().T
        ema.within.callback(ff.StepEnd(1, 1, model, ff.SGD(), 0.0, 0.0))
    expected = averaged.module.weight.detach().numpy().T
    np.testing.assert_allclose(ema.averaged(model)[0].params["weight"], expected, rtol=1e-5, atol=1e-6)


def test_the_training_itself_is_not_changed():
    plain, averaged = network(), network()
    a, b = fit(plain), fit(averaged, callbacks=[ff.EMA(0.9, apply=False)])
    assert averaged.parameters.tobytes() == plain.parameters.tobytes()
    assert a.loss == b.loss


@pytest.mark.parametrize("middle", [[], [lambda: ff.BatchNorm1d(6)]])
def test_validation_may_be_with_the_average(middle):
    ema, figures, model = ff.EMA(0.9, validate=True, apply=False), [], network(*[make() for make in middle])

    def look(end):
        before = end.model.parameters.copy()
        figures.append(ff.evaluate(ema.averaged(end.model), X, Y, loss=ff.CrossEntropyLoss()).loss)
        assert end.model.parameters.tobytes() == before.tobytes()

    history = fit(model, callbacks=[ema, look], validation_data=(X, Y))
    np.testing.assert_allclose(history.val_loss, figures, rtol=1e-6)
    plain = network(*[make() for make in middle])
    assert history.val_loss != fit(plain, validation_data=(X, Y)).val_loss
    assert plain.parameters.tobytes() == model.parameters.tobytes()


def test_a_resumed_training_goes_on_with_the_average(tmp_path):
    path, whole, resumed = tmp_path / "run.safetensors", network(), network()
    fit(whole, callbacks=[ff.EMA(0.9)], epochs=4)
    fit(resumed, callbacks=[ff.EMA(0.9), ff.Checkpoint(path)], epochs=2)
    raw = network()
    fit(raw, epochs=2)
    assert ff.load(path).parameters.tobytes() == raw.parameters.tobytes()  # not the average
    fit(resumed, callbacks=[ff.EMA(0.9)], epochs=4, resume=path)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


def test_a_new_training_begins_a_new_average():
    ema, model, other = ff.EMA(0.9), network(), network()
    fit(network(), callbacks=[ema])
    fit(model, callbacks=[ema])
    fit(other, callbacks=[ff.EMA(0.9)])
    assert model.parameters.tobytes() == other.parameters.tobytes()
    assert repr(copy.copy(ema)) == "EMA(decay=0.9, every=1, validate=False, apply=True)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ff.EMA(1), "decay is 1; expected less than 1"),
        (lambda: ff.EMA(every=0), "every is 0"),
        (lambda: ff.EMA().averaged(network()), "the average has nothing; expected parameters of the model's names"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(InvalidValueError, match=message):
        call()
