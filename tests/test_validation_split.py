"""`fit(…, validation_split=…)`: which rows are held out, and that it is the same as holding them out by hand."""

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.training.splitting import held_out

RNG = np.random.default_rng(8)
X, Y = RNG.normal(size=(60, 5)).astype(np.float32), np.repeat([0, 1, 2], [36, 18, 6])
WEIGHTS = RNG.uniform(size=60)


def network(outputs=3):
    return ff.Sequential(ff.Linear(5, 7), ff.ReLU(), ff.Linear(7, outputs), seed=0)


def fit(model, x=X, y=Y, loss=None, **options):
    options = {"optimizer": ff.SGD(0.1), "epochs": 3, "batch_size": 12, "seed": 3, "progress": False, **options}
    return ff.fit(model, x, y, loss=loss or ff.CrossEntropyLoss(), **options)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("counts", [[100], [7], [2], [36, 18, 6], [5, 5, 5], [1, 1, 20], [2, 2], [1] * 5 + [50]])
def test_of_every_class_the_same_share_is_held_out(counts, share):
    classes = np.repeat(np.arange(len(counts)), counts)
    y = RNG.permutation(classes)
    kept, held = held_out(y, share, y if len(counts) > 1 else None, np.random.default_rng(0))
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(y)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    here = np.bincount(y[held], minlength=len(counts))
    assert (here <= np.maximum(0, np.array(counts) - 1)).all()  # each class trains
    assert (np.abs(here - share * np.array(counts)) <= 1).all()
    if all(count > 1 for count in counts):
        assert abs(len(held) - np.ceil(share * len(y) - 1e-9)) <= (share > 0.5) * len(counts)


def test_the_seed_decides_which_rows():
    y = np.zeros(50)
    first, again, other = (held_out(y, 0.2, None, np.random.default_rng(seed))[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(first) == 10


def as_csr(x):
    return pytest.importorskip("scipy.sparse").csr_matrix(np.where(np.abs(x) > 1, x, 0))


def as_frame(x):
    return pytest.importorskip("pandas").DataFrame(x, index=np.arange(len(x))[::-1])


FORMS = {"array": np.asarray, "list": np.ndarray.tolist, "csr": as_csr, "frame": as_frame}
LOSSES = {
    "labels": (Y, ff.CrossEntropyLoss(), 3, Y),
    "column": (Y[:, None], ff.CrossEntropyLoss(), 3, Y),
    "one-hot": (np.eye(3)[Y], ff.CrossEntropyLoss(), 3, Y),
    "yes and no": (Y > 1, ff.BCEWithLogitsLoss(), 1, Y > 1),
    "several": (RNG.integers(0, 2, (60, 2)), ff.BCEWithLogitsLoss(), 2, None),
    "numbers": (RNG.normal(size=60), ff.MSELoss(), 1, None),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", LOSSES)
def test_it_is_the_training_with_these_rows_held_out_by_hand(case, form):
    y, loss, outputs, strata = LOSSES[case]
    x = FORMS[form](X)
    if form == "frame" and y.ndim == 1:
        y = pytest.importorskip("pandas").Series(y, index=np.arange(60)[::-1])
    model, by_hand = network(outputs), network(outputs)
    history = fit(model, x, y, loss, validation_split=0.25, sample_weight=WEIGHTS)
    rng = np.random.default_rng(3)
    kept, held = held_out(np.asarray(y), 0.25, strata, rng)
    rows = x.iloc if form == "frame" else (np.array(x, np.float32) if form == "list" else x)
    y = np.asarray(y)
    parts = {"sample_weight": WEIGHTS[kept], "validation_data": (rows[held], y[held], WEIGHTS[held])}
    expected = fit(by_hand, rows[kept], y[kept], loss, seed=rng, **parts)
    assert model.parameters.tobytes() == by_hand.parameters.tobytes()
    assert history.val_loss == expected.val_loss
    assert history.loss == expected.loss
    assert len(held) == 15
    assert model.target_shape == y.shape[1:]


def test_weights_of_classes_are_of_the_rows_that_train():
    model, by_hand, rng = network(), network(), np.random.default_rng(3)
    history = fit(model, validation_split=0.25, class_weight="balanced")
    kept, held = held_out(Y, 0.25, Y, rng)
    data = (X[held], Y[held])
    expected = fit(by_hand, X[kept], Y[kept], class_weight="balanced", validation_data=data, seed=rng)
    assert model.parameters.tobytes() == by_hand.parameters.tobytes()
    assert history.val_loss == expected.val_loss


def test_metrics_and_callbacks_see_what_is_held_out():
    stopping = ff.EarlyStopping("val_f1", patience=1)
    history = fit(network(), validation_split=0.3, metrics=["f1"], callbacks=[stopping], epochs=5)
    assert len(history["val_f1"]) == history.epochs
    assert stopping.best == max(history["val_f1"])


def test_a_resumed_training_holds_out_the_same_rows(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = network()
    history = fit(whole, validation_split=0.25, epochs=4)
    fit(network(), validation_split=0.25, epochs=2, callbacks=[ff.Checkpoint(path)])
    resumed = network()
    again = fit(resumed, validation_split=0.25, epochs=4, resume=path)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert again.val_loss == history.val_loss
    with pytest.raises(InvalidValueError, match="seed is None with validation_split and resume; expected the seed"):
        fit(network(), validation_split=0.25, epochs=4, resume=path, seed=None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation_split": 0}, InvalidValueError, "validation_split is 0; expected more than 0"),
        ({"validation_split": 1}, InvalidValueError, "validation_split is 1; expected less than 1"),
        ({"validation_split": "a"}, InvalidTypeError, "validation_split is 'a'; expected a number"),
        (
            {"validation_split": 0.2, "validation_data": (X, Y)},
            InvalidValueError,
            "validation_split and validation_data are both given; expected one",
        ),
        ({"validation_split": 0.2, "x": X[:1], "y": Y[:1]}, InvalidValueError, "0.2 of 1 row .* a part without rows"),
        (
            {"validation_split": 0.2, "x": X[:3], "y": np.arange(3)},
            InvalidValueError,
            r"0.2 of 3 rows \(3 classes\), which leaves a part without rows",
        ),
        (
            {"validation_split": 0.2, "x": np.where(np.arange(60) == 7, np.nan, X.T).T},
            InvalidValueError,
            r"^x\[7, 0\] is nan",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(options, error, message):
    model = network()
    before = model.parameters.copy()
    with pytest.raises(error, match=message):
        fit(model, **options)
    assert model.parameters.tobytes() == before.tobytes()
