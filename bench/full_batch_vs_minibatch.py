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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _machine import ROOT, describe
from numpy.typing import NDArray

import fastfnn as ff

NAME = "full_batch_vs_minibatch"
HIDDEN, CLASSES = 100, 10
MEAN, STD = 0.1307, 0.3081
EPSILON = 1e-12
EPOCHS, IMAGES = 50, 60_000  # the exercise's
#: Test accuracies whose first reaching is timed.
GOALS = (0.9, 0.97)
Array = NDArray[Any]
#: Loss and accuracy at some point of a run.
Pair = tuple[float, float]


class Exercise(NamedTuple):
    """One run of the exercise: its settings, and what it printed, by epoch (-1: the test set at the end)."""

    title: str
    source: str
    hidden: type[ff.Layer]
    batch_size: int | None
    lr: float
    normalised: bool
    printed: dict[int, Pair]


PRINTED_FULL = {0: (24.12, 0.105), 25: (9.28, 0.607), 49: (3.779, 0.805), -1: (3.480, 0.819)}
PRINTED_MINI = {0: (9.74, 0.641), 15: (6.26, 0.771), -1: (6.05, 0.778)}
DRAW_1, DRAW_2 = {0: (23.90, 0.103), 15: (14.45, 0.430)}, {0: (8.10, 0.098), 15: (2.62, 0.365)}
EXERCISES = (
    Exercise("ReLU, full batch", "exercise_full_batch", ff.ReLU, None, 1e-5, False, PRINTED_FULL),
    Exercise("ReLU, full batch, another draw", "notebook_matrix_calculus", ff.ReLU, None, 1e-5, False, DRAW_1),
    Exercise("sigmoid, full batch", "notebook_sigmoid", ff.Sigmoid, None, 1e-5, False, DRAW_2),
    Exercise("ReLU, minibatch 64", "notebook_minibatch", ff.ReLU, 64, 1e-3, True, PRINTED_MINI),
)
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


@dataclass
class Run:
    """What a training was and did. Losses are means over images, also where the gradient is that of a sum."""

    title: str
    settings: dict[str, Any]
    samples: int
    updates: int = 0
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    train_after: Pair | None = None
    stopped: str | None = None
    source: str | None = None
    printed: dict[int, Pair] = field(default_factory=dict)

    @property
    def total_seconds(self) -> float:
        return math.fsum(self.seconds)

    @property
    def samples_per_second(self) -> float | None:
        return self.samples * len(self.seconds) / self.total_seconds if self.seconds else None

    def reached(self, accuracy: float) -> tuple[int, float] | None:
        """Epochs and seconds until the test accuracy was first `accuracy`."""
        epochs = next((i for i, value in enumerate(self.test_accuracy, 1) if value >= accuracy), None)
        return None if epochs is None else (epochs, math.fsum(self.seconds[:epochs]))

    def figures(self, epoch: int) -> Pair | None:
        """Training loss and accuracy of an epoch, from 0; of the test set for -1; None where it was not reached."""
        if epoch == -1:
            return (self.test_loss[-1], self.test_accuracy[-1]) if self.test_loss else None
        return (self.loss[epoch], self.accuracy[epoch]) if epoch < len(self.loss) else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        derived = {
            "epochs": len(self.loss),
            "total_seconds": self.total_seconds,
            "samples_per_second": self.samples_per_second,
            "test_after": self.figures(-1),
            "epochs_and_seconds_to_test_accuracy": {f"{goal}": self.reached(goal) for goal in GOALS},
        }
        printed = {"test" if epoch < 0 else f"epoch {epoch}": pair for epoch, pair in self.printed.items()}
        return finite({**vars(self), "printed": printed, **derived})


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null instead."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


# Tables -----------------------------------------------------------------------------------------------------------


def pair(figures: Pair | None) -> str:
    """Loss / accuracy."""
    if figures is None:
        return "–"
    loss, accuracy = figures
    return f"{loss:.2f} / {accuracy:.3f}" if loss >= 1 else f"{loss:.4f} / {accuracy:.4f}"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table that reads well as text too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return "\n".join("| " + " | ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def exercise_table(runs: dict[str, list[Run]]) -> str:
    """Loss / accuracy as the exercise printed them, beside ours."""
    rows = []
    for exercise, ours, plain in zip(EXERCISES, runs["with epsilon"], runs["without epsilon"], strict=True):
        last = len(ours.loss) - 1
        title = f"{exercise.title} ({exercise.source})"
        for epoch in [*sorted({0, last, *(k for k in ours.printed if 0 <= k <= last)} - {-1}), -1]:
            place = "test" if epoch < 0 else f"epoch {epoch}"
            rows.append(
                (title, place, *map(pair, (ours.printed.get(epoch), ours.figures(epoch), plain.figures(epoch))))
            )
            title = ""
    return table(("run", "loss / accuracy at", "printed", "fastfnn, its epsilon", "fastfnn, no epsilon"), rows)


def bias_line(runs: dict[str, list[Run]]) -> str:
    """How far the run with a bias vector is from that with a column of ones."""
    column, vector = runs["with epsilon"][0], runs["bias vector"][0]
    apart = [abs(a - b) / a for a, b in zip(column.loss, vector.loss, strict=False)]
    if not apart:
        return "The run with a bias vector has no finished epoch."
    return (
        "With the bias as a vector instead of a column of ones, the first run's training loss differs by at most "
        f"{max(apart[:10]):.0e} of itself in the first {len(apart[:10])} epochs, and by {max(apart):.0e} in all "
        f"{len(apart)} (rounding); test {pair(vector.figures(-1))}."
    )


def cost_table(runs: list[Run]) -> str:
    """What each run took and reached."""
    rows = []
    for run in runs:
        size = (f"{len(run.loss)}", f"{run.updates:,}", f"{run.total_seconds:.1f}")
        reached = [run.reached(goal) for goal in GOALS]
        times = [f"{found[0]} / {found[1]:.1f}" if found else "–" for found in reached]
        rate = f"{run.samples_per_second or 0:,.0f}"
        rows.append((run.title, *size, rate, pair(run.train_after), pair(run.figures(-1)), *times))
    figures = ("epochs", "updates", "seconds", "samples/s", "train after", "test after")
    return table(("run", *figures, *(f"epochs / s to {goal:.0%}" for goal in GOALS)), rows)


def markdown(results: dict[str, Any]) -> str:
    """The tables, with what they stand on."""
    about, exercise = results["about"], results["exercise"]
    load = "" if about["load_before"] is None else f", load average {about['load_before']:.1f} at the start"
    alike = results["sensible"][0].samples == IMAGES and about["epochs"] == EPOCHS
    return f"""# Full batch against minibatch

{about["data"]}; {about["cpu"]}, {about["cores"]} cores{load}; fastfnn {ff.__version__}, commit {about["commit"]}.
Made by `python bench/{NAME}.py`; the curves are in the JSON and the PNG of the same name.

## The exercise's settings, beside what it printed

785-100-10, weights from N(0, 1), gradient of the batch's sum. Its epsilon is {EPSILON:g} inside the logarithm, which
caps a sample's loss at 27.6 and takes the gradient from samples beyond that; the printed figures need it. Without it,
the loss is the cross-entropy as it is.

The weights are other draws than the exercise's, and with the epsilon a draw matters: a class whose images are all
beyond the cap gets no gradient and is never predicted until chance frees it, which shows as steps in the curves.
{"" if alike else f"Not comparable: the exercise had {EPOCHS} epochs of {IMAGES:,} images." + chr(10)}
{exercise_table(exercise)}

{bias_line(exercise)}

{cost_table([run for runs in exercise.values() for run in runs])}

## Sensible settings

784-100-10 with a bias in both layers, He start, mean loss, normalised pixels.

{cost_table(results["sensible"])}
"""


# The picture ------------------------------------------------------------------------------------------------------


def plot(results: dict[str, Any], path: Path) -> bool:
    """Training loss and test accuracy, over epochs and over seconds; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.ticker import FuncFormatter, NullFormatter
    except ImportError:
        print('No picture: matplotlib is missing (pip install "fastfnn[plot]").')
        return False
    exercise = results["exercise"]
    warm, cold = ("#b3261e", "#e58a3c", "#9467bd", "#7a5230"), ("#9ecae1", "#4292c6", "#08519c", "#1b7837")
    styled = [(run, colour, "--") for run, colour in zip(exercise["with epsilon"], warm, strict=True)]
    # Without the epsilon, the second run is one more draw of the first, and the third is as with it.
    styled += [(exercise["without epsilon"][i], warm[i], ":") for i in (0, 3)]
    styled += [(run, colour, "-") for run, colour in zip(results["sensible"], cold, strict=True)]

    figure = Figure(figsize=(12, 9.6), dpi=110, layout="constrained")
    axes: Any = figure.subplots(2, 2, sharey="row")
    for run, colour, style in styled:
        # A training figure belongs to the start of its epoch with a full batch, else to its middle; a test figure
        # to its end.
        share = 0.0 if run.settings["batch_size"] is None else 0.5
        seconds, epochs = np.array(run.seconds), np.arange(len(run.loss))
        ends = np.cumsum(seconds)
        kept = {"color": colour, "linestyle": style, "linewidth": 1.8 if style == "-" else 1.4}
        axes[0, 0].plot(epochs + share, run.loss, **kept)
        at = ends - (1 - share) * seconds
        axes[0, 1].plot(at[at > 0], np.array(run.loss)[at > 0], **kept)  # a logarithmic axis has no zero
        axes[1, 0].plot(epochs + 1, run.test_accuracy, **kept)
        axes[1, 1].plot(ends, run.test_accuracy, **kept)
        dot = {"color": colour, "marker": "o", "markersize": 7, "markeredgecolor": "white", "linestyle": "none"}
        for epoch, (loss, accuracy) in run.printed.items() if style == "--" else ():
            if epoch < len(run.loss):
                axis, place = (
                    (axes[1, 0], (len(run.loss), accuracy)) if epoch < 0 else (axes[0, 0], (epoch + share, loss))
                )
                axis.plot(*place, zorder=5, clip_on=False, **dot)

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    percents = (0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    for left, right, name, scale in (
        (*axes[0], "training loss (mean; log scale)", "log"),
        (*axes[1], "test accuracy (logit scale)", "logit"),
    ):
        left.set(xlabel="epochs", ylabel=name, yscale=scale)
        right.set(xlabel="seconds of training (log scale)", xscale="log")
        right.xaxis.set_major_formatter(plain)
    axes[0, 0].yaxis.set_major_formatter(plain)
    axes[1, 0].set_yticks(percents, [f"{value:.0%}" for value in percents])
    axes[1, 0].yaxis.set_minor_formatter(NullFormatter())
    axes[1, 0].set_ylim(0.06, 0.985)
    figure.suptitle(f"Full batch against minibatch, MLP 784-100-10\n{results['about']['data']}", fontsize=13)
    handles = [Line2D([], [], color=colour, linestyle=style, label=run.title) for run, colour, style in styled]
    dots = {"color": "#555555", "marker": "o", "linestyle": "none", "label": "printed by the exercise"}
    handles[6:6] = [Line2D([], [], **dots), Line2D([], [], linestyle="none", label=" ")]
    title = "dashed and dotted: the exercise's settings; solid: sensible settings"
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10, frameon=False, title=title)
    figure.savefig(path)
    return True


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
