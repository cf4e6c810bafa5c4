"""Full batch against minibatch: first with the settings of the course exercise, then with sensible ones.

    python bench/full_batch_vs_minibatch.py [--data-root FOLDER] [--epochs 50] [--seed 0] [--out FOLDER] [--quick]

The first part repeats four runs of the exercise (a 785-100-10 network on MNIST, weights from N(0, 1), the bias as a
column of ones, the gradient of the batch's *sum*) and sets its printed figures beside ours. Each runs twice: with the
exercise's epsilon of 1e-12 inside the logarithm, and without, through `CrossEntropyLoss`. The epsilon is no detail:
it caps a sample's loss at 27.6 and takes the gradient from every sample that is more wrong than that, so the printed
figures can be met only with it. The second part trains the same network, with a bias in both layers, from a He start
on the mean loss.

Loss and accuracy of an epoch are those that training sees: for a full batch before that epoch's update, for
minibatches the mean over the epoch. (The exercise gives each batch the same weight, here each image has it; that
differs by less than a thousandth, in the last, shorter batch.) Test figures are measured after each epoch. Seconds
are those of training alone, without compiling, test figures or reading files.

Written to --out: a table as JSON (with every curve) and as Markdown, and a PNG where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _full_batch_report import markdown, pair, plot
from _full_batch_runs import EPOCHS, EPSILON, EXERCISES, Exercise, Run
from _machine import ROOT, describe
from numpy.typing import NDArray

import fastfnn as ff

NAME = "full_batch_vs_minibatch"
HIDDEN, CLASSES = 100, 10
MEAN, STD = 0.1307, 0.3081
Array = NDArray[Any]
#: The second part. Full batch: the rates of least training loss after 50 epochs among those tried (SGD 0.2 to 1,
#: Nesterov 0.1 to 0.4 with momentum 0.9 and 0.95, Adam 0.003 to 0.04). Minibatch: the README's.
SENSIBLE: tuple[tuple[str, ff.Optimizer, int | None], ...] = (
    ("full batch, SGD", ff.SGD(lr=0.3), None),
    ("full batch, Nesterov", ff.SGD(lr=0.1, momentum=0.95, nesterov=True), None),
    ("full batch, Adam", ff.Adam(lr=0.005), None),
    ("minibatch 64, SGD", ff.SGD(lr=0.1), 64),
)


class Data(NamedTuple):
    """Images as bytes, and labels."""

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


def named(name: str, splits: tuple[tuple[Array, Array], tuple[Array, Array]]) -> Data:
    """Training and test split as `Data`, the sizes in the name."""
    train, test = splits
    return Data(f"{name}: {len(train[0]):,} training and {len(test[0]):,} test images", *train, *test)


def with_ones(data: Data) -> Data:
    """The images as rows, with a last column that is 1 once it has been divided by 255."""
    rows = [x.reshape(len(x), -1) for x in (data.x_train, data.x_test)]
    train, test = (np.concatenate([x, np.full((len(x), 1), 255, np.uint8)], axis=1) for x in rows)
    return data._replace(x_train=train, x_test=test)


def load_data(root: Path | None = None) -> Data:
    """MNIST from `root`, or else from the first place that has it, or else the embedded sample; says which."""
    if root is not None:
        return named("MNIST", ff.data.load_mnist(root))
    configured = os.environ.get("FASTFNN_MNIST")
    places = [ROOT.parent / "shared" / "data" / "mnist", Path(configured) if configured else None, None]
    for place in places:  # None: the per-user folder
        try:
            return named("MNIST", ff.data.load_mnist(place, download=False))
        except ff.errors.DataError:
            continue
    print(
        "The full MNIST was not found (--data-root, $FASTFNN_MNIST, the per-user folder): this runs on the embedded "
        "sample."
    )
    return named("The embedded sample of MNIST", ff.data.load_mnist_sample())


# The networks -----------------------------------------------------------------------------------------------------


class AddEpsilon(ff.Layer):
    """The exercise's guard of the logarithm, as a layer, to see what it does to figures and gradients."""

    def forward(self, x: Any) -> Array:
        return x + x.dtype.type(EPSILON)

    def backward(self, grad_out: Any) -> Array:
        return grad_out


def exercise_weights(seed: int, features: int = 784) -> tuple[Array, Array]:
    """The exercise's draw: N(0, 1), the last row of the first weight being the bias."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(features + 1, HIDDEN)), rng.normal(size=(HIDDEN, CLASSES))


def exercise_model(
    run: Exercise, weights: tuple[Array, Array], *, epsilon: bool, bias_vector: bool = False, dtype: str = "float32"
) -> tuple[ff.Sequential, ff.Loss]:
    """The exercise's network with these weights, and its loss, a sum over the batch.

    The input is that of `with_ones`; or with `bias_vector` the images, and the row of the bias moves into a vector.
    """
    w1, w2 = weights
    features = len(w1) - 1
    mean, std = (MEAN, STD) if run.normalised else (0.0, 1.0)
    scaling = ff.Normalize(mean, std, scale=1 / 255)
    if run.normalised and not bias_vector:  # all columns but that of ones
        scaling = ff.Normalize([mean] * features + [0.0], [std] * features + [1.0], scale=1 / 255)
    first = ff.Linear(features + (not bias_vector), HIDDEN, bias=bias_vector)
    second = ff.Linear(HIDDEN, CLASSES, bias=False)
    ending: list[ff.Layer] = [ff.Softmax(), AddEpsilon(), ff.Log()] if epsilon else []
    model = ff.Sequential(ff.Flatten(), scaling, first, run.hidden(), second, *ending, dtype=dtype)
    first.params["weight"][...] = w1[:-1] if bias_vector else w1
    if bias_vector:
        first.params["bias"][...] = w1[-1]
    second.params["weight"][...] = w2
    return model, ff.NLLLoss("sum") if epsilon else ff.CrossEntropyLoss("sum")


def sensible_model(seed: int, features: int = 784) -> ff.Sequential:
    """He start for the ReLU layer, a bias in both, normalised pixels."""
    first, second = ff.Linear(features, HIDDEN), ff.Linear(HIDDEN, CLASSES)
    return ff.Sequential(ff.Flatten(), ff.Normalize(MEAN, STD, scale=1 / 255), first, ff.ReLU(), second, seed=seed)


# Training ---------------------------------------------------------------------------------------------------------


def train(
    title: str,
    model: ff.Sequential,
    loss: ff.Loss,
    optimizer: ff.Optimizer,
    data: Data,
    batch_size: int | None,
    epochs: int,
    seed: int,
) -> Run:
    """Train `model` and keep its curves; a loss that is no number ends the run, not the script."""
    layers = ", ".join(repr(layer) for layer in model.layers if not isinstance(layer, ff.Normalize))
    settings = {"layers": layers, "loss": repr(loss), "optimizer": repr(optimizer), "batch_size": batch_size}
    rows = len(data.x_train)
    run = Run(title, {**settings, "seed": seed, "dtype": str(model.dtype)}, rows)
    histories: list[ff.History] = []
    few = 2 * (batch_size or 64)
    first = Data("", data.x_train[:few], data.y_train[:few], data.x_test[:2], data.y_test[:2])
    # A copy sees a few images first: so compiling is no part of a run's time.
    for part, trained, n, keep in ((first, copy.deepcopy(model), 1, []), (data, model, epochs, histories)):
        try:
            ff.fit(
                trained,
                part.x_train,
                part.y_train,
                loss=loss,
                optimizer=copy.deepcopy(optimizer),
                epochs=n,
                batch_size=batch_size,
                validation_data=(part.x_test, part.y_test),
                seed=seed,
                callbacks=[lambda end, keep=keep: keep.append(end.history)],
                progress=False,
            )
        except ff.errors.NonFiniteLossError as error:
            run.stopped = str(error) if part is data else None
    if histories:
        history, summed = histories[-1], loss.reduction == "sum"
        run.loss = [value / (rows if summed else 1) for value in history.loss]
        run.test_loss = [value / (len(data.x_test) if summed else 1) for value in history.val_loss]
        run.accuracy, run.test_accuracy = list(history.accuracy), list(history.val_accuracy)
        run.seconds = list(history.seconds)
        run.updates = history.epochs * (1 if batch_size is None else -(-rows // batch_size))
        after = ff.evaluate(model, data.x_train, data.y_train, loss=loss)
        run.train_after = (after.loss / (rows if summed else 1), after.accuracy)
    stopped = f"; stopped: {run.stopped}" if run.stopped else ""
    print(f"  {title}: test {pair(run.figures(-1))}, {run.total_seconds:.1f} s{stopped}", flush=True)
    return run


def run_exercises(data: Data, epochs: int, seed: int) -> dict[str, list[Run]]:
    """The four runs with the exercise's epsilon and without, and the first also with a bias vector."""
    runs: dict[str, list[Run]] = {"with epsilon": [], "without epsilon": [], "bias vector": []}
    ones = with_ones(data)
    for number, exercise in enumerate(EXERCISES):
        weights = exercise_weights(seed + number, ones.x_train.shape[1] - 1)
        for kind in runs if number == 0 else ("with epsilon", "without epsilon"):
            vector = kind == "bias vector"
            model, loss = exercise_model(exercise, weights, epsilon=kind != "without epsilon", bias_vector=vector)
            optimizer, used = ff.SGD(lr=exercise.lr), data if vector else ones
            title = f"{exercise.title}, {'with epsilon, ' if vector else ''}{kind}"
            run = train(title, model, loss, optimizer, used, exercise.batch_size, epochs, seed + number)
            run.settings["start"] = "N(0, 1)"
            run.settings["pixels"] = f"normalised by ({MEAN}, {STD})" if exercise.normalised else "/ 255"
            run.source, run.printed = exercise.source, exercise.printed
            runs[kind].append(run)
    return runs


def run_sensible(data: Data, epochs: int, seed: int) -> list[Run]:
    """Full batch and minibatch as one would train them."""
    runs = []
    for title, optimizer, batch_size in SENSIBLE:
        model = sensible_model(seed, math.prod(data.x_train.shape[1:]))
        run = train(title, model, ff.CrossEntropyLoss(), optimizer, data, batch_size, epochs, seed)
        run.settings["start"] = "He (hidden), Xavier (output), biases 0"
        run.settings["pixels"] = f"normalised by ({MEAN}, {STD})"
        runs.append(run)
    return runs


# The command ------------------------------------------------------------------------------------------------------


def run_all(data: Data, epochs: int, seed: int) -> dict[str, Any]:
    """Both parts, and what they ran on."""
    about = {"data": data.name, "epochs": epochs, "seed": seed, "fastfnn": ff.__version__, **describe()}
    print(f"{data.name}; {epochs} epochs a run\nThe exercise's settings:", flush=True)
    exercise = run_exercises(data, epochs, seed)
    print("Sensible settings:", flush=True)
    return {"about": about, "exercise": exercise, "sensible": run_sensible(data, epochs, seed)}


def save(results: dict[str, Any], folder: Path, name: str = NAME) -> list[Path]:
    """Write JSON, Markdown and, with matplotlib, the PNG; give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, default=Run.to_dict, indent=1, allow_nan=False)
    paths = [folder / f"{name}.{kind}" for kind in ("json", "md", "png")]
    paths[0].write_text(text + "\n", encoding="utf-8")
    paths[1].write_text(markdown(results), encoding="utf-8")
    return paths if plot(results, paths[2]) else paths[:2]


def main(arguments: list[str] | None = None) -> int:
    """Run both parts, print the tables, write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-root", type=Path, help="folder with MNIST's four files (default: where they are found)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder (default: bench/results)")
    parser.add_argument("--quick", action="store_true", help="3 epochs of 2,000 images, into files named ..._quick")
    options = parser.parse_args(arguments)
    if options.epochs < 1 or options.seed < 0:
        parser.error("--epochs must be at least 1 and --seed at least 0")
    try:
        data = load_data(options.data_root)
        options.out.mkdir(parents=True, exist_ok=True)
    except (ff.errors.FastFNNError, OSError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2
    epochs, name = options.epochs, NAME
    if options.quick:
        x, y, x_test, y_test = data[1:]
        data = named(f"A part of {data.name.partition(':')[0]}", ((x[:2000], y[:2000]), (x_test[:500], y_test[:500])))
        epochs, name = min(3, epochs), f"{NAME}_quick"
    results = run_all(data, epochs, options.seed)
    print(f"\n{markdown(results)}")
    for path in save(results, options.out, name):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
