"""What the tests of checkpoints share: small trainings of every kind, and what remains of one."""

import json

import numpy as np
from safetensors import safe_open

import fastfnn as ff
from fastfnn.interchange.safetensors import TRAINING
from fastfnn.schedules import Cosine, ReduceOnPlateau, Step

RNG = np.random.default_rng(37)
X, Y = RNG.normal(size=(50, 6)), RNG.integers(0, 3, 50)
WRONG = (X[:9], (Y[:9] + 1) % 3)  # becomes worse while training becomes better


def network(seed=0, dtype="float64"):
    return ff.Sequential(
        ff.Linear(6, 9), ff.BatchNorm1d(9), ff.ReLU(), ff.Dropout(0.3), ff.Linear(9, 3), seed=seed, dtype=dtype
    )


#: Optimizer, schedule and callbacks of trainings.
TRAININGS = {
    "momentum": lambda: (ff.SGD(0.1, momentum=0.9, nesterov=True), Cosine(warmup=1), []),
    "adam": lambda: (
        ff.Adam(0.05, clip_norm=1),
        ReduceOnPlateau(0.5, patience=0),
        [ff.EarlyStopping("val_loss", patience=4, min_delta=0.01)],
    ),
    "plain": lambda: (ff.SGD(0.1), None, [ff.EarlyStopping("loss", restore_best=False)]),
    "others": lambda: (
        ff.RMSprop(0.01, l1=1e-3, decay_biases=False),
        Step(2, 0.5),
        [ff.EarlyStopping("loss", patience=5), ff.EarlyStopping("val_accuracy", patience=5)],
    ),
}


def fit(model, optimizer, schedule=None, callbacks=(), **options):
    options = {"epochs": 6, "batch_size": 12, "seed": 0, "progress": False, "validation_data": WRONG, **options}
    parts = {"optimizer": optimizer, "schedule": schedule, "callbacks": callbacks}
    return ff.fit(model, X, Y, loss=ff.CrossEntropyLoss(), **parts, **options)


def remains(model, optimizer, schedule, callbacks, rng, history):
    """All that a training leaves behind, but for the time that it took."""
    model = {"parameters": model.parameters, **model.named_buffers()}
    parts = {"model": model, "optimizer": optimizer.state, **{str(i): c.state()[1] for i, c in enumerate(callbacks)}}
    arrays = {(part, name): array.tobytes() for part, entry in parts.items() for name, array in entry.items()}
    figures = {name: column for name, column in history.to_dict().items() if name != "seconds"}
    states = [schedule and schedule.state(), [callback.state()[0] for callback in callbacks]]
    return arrays, figures, states, optimizer.steps, str(rng.bit_generator.state)


def checkpoints(folder):
    """A callback that writes one after every epoch."""
    return lambda end: ff.Checkpoint(folder / f"{end.epoch}")(end)


def saved(path, **options):
    """Train two epochs and leave a checkpoint."""
    model, optimizer = network(), ff.SGD(0.1, momentum=0.9)
    fit(model, optimizer, epochs=2, callbacks=[ff.Checkpoint(path)], **options)
    return model, optimizer


def training_in(path):
    """What a checkpoint says of its training."""
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()[TRAINING])
