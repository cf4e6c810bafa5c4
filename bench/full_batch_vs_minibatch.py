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
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastfnn as ff

PROJECT = Path(__file__).resolve().parent.parent
NAME = "full_batch_vs_minibatch"
HIDDEN, CLASSES = 100, 10
MEAN, STD = 0.1307, 0.3081
EPSILON = 1e-12
#: Test accuracies whose first reaching is timed.
GOALS = (0.9, 0.97)
Array = NDArray[Any]
#: Figures of a run at some point: loss and accuracy.
Pair = tuple[float, float]


@dataclass(frozen=True)
class Exercise:
    """One run of the exercise: its settings, and what it printed, by epoch (-1: the test set at the end)."""

    title: str
    source: str
    hidden: type[ff.Layer]
    batch_size: int | None
    lr: float
    normalised: bool
    printed: dict[int, Pair]


EXERCISES = (
    Exercise(
        "ReLU, full batch",
        "exercise_full_batch",
        ff.ReLU,
        None,
        1e-5,
        False,
        {0: (24.12, 0.105), 25: (9.28, 0.607), 49: (3.779, 0.805), -1: (3.480, 0.819)},
    ),
    Exercise(
        "ReLU, full batch, another draw",
        "notebook_matrix_calculus",
        ff.ReLU,
        None,
        1e-5,
        False,
        {0: (23.90, 0.103), 15: (14.45, 0.430)},
    ),
    Exercise(
        "sigmoid, full batch", "notebook_sigmoid", ff.Sigmoid, None, 1e-5, False, {0: (8.10, 0.098), 15: (2.62, 0.365)}
    ),
    Exercise(
        "ReLU, minibatch 64",
        "notebook_minibatch",
        ff.ReLU,
        64,
        1e-3,
        True,
        {0: (9.74, 0.641), 15: (6.26, 0.771), -1: (6.05, 0.778)},
    ),
)

#: The second part: title, optimizer, batch size. The rates are the best of three or four tried by training loss.
SENSIBLE: tuple[tuple[str, ff.Optimizer, int | None], ...] = (
    ("full batch, SGD", ff.SGD(lr=0.3), None),
    ("full batch, Nesterov", ff.SGD(lr=0.1, momentum=0.95, nesterov=True), None),
    ("full batch, Adam", ff.Adam(lr=0.005), None),
    ("minibatch 64, SGD", ff.SGD(lr=0.1), 64),
)


@dataclass
class Data:
    """Images as bytes, and labels."""

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array

    def with_ones(self) -> Data:
        """The images as rows, with a last column that becomes 1 when it is divided by 255."""
        return Data(self.name, _with_ones(self.x_train), self.y_train, _with_ones(self.x_test), self.y_test)


def _with_ones(images: Array) -> Array:
    rows = np.full((len(images), math.prod(images.shape[1:]) + 1), 255, np.uint8)
    rows[:, :-1] = images.reshape(len(images), -1)
    return rows


def load_data(root: Path | None = None) -> Data:
    """MNIST from `root`, or else from the first place that has it, or else the embedded sample; says which."""
    if root is not None:
        return _data("MNIST", ff.data.load_mnist(root))
    places: list[Path | None] = [PROJECT.parent / "shared" / "data" / "mnist"]
    if os.environ.get("FASTFNN_MNIST"):
        places.append(Path(os.environ["FASTFNN_MNIST"]))
    for place in [*places, None]:  # None: the per-user folder
        try:
            return _data("MNIST", ff.data.load_mnist(place, download=False))
        except ff.errors.DataError:
            continue
    print(
        "The full MNIST was not found (--data-root, $FASTFNN_MNIST or the per-user folder): this runs on the embedded "
        "sample, whose figures are not those of the exercise."
    )
    return _data("the embedded sample of MNIST", ff.data.load_mnist_sample())


def _data(name: str, splits: Any) -> Data:
    (x_train, y_train), (x_test, y_test) = splits
    return Data(f"{name}: {len(x_train):,} training and {len(x_test):,} test images", x_train, y_train, x_test, y_test)


# The networks -----------------------------------------------------------------------------------------------------


class AddEpsilon(ff.Layer):
    """The exercise's guard of the logarithm, as a layer: what it does to figures and gradients is to be seen."""

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
    """The exercise's network with these weights, and its loss: a sum over the batch.

    The input is `Data.with_ones`, or with `bias_vector` the images, and the row of the bias moves into a vector.
    """
    w1, w2 = weights
    features = len(w1) - 1
    mean, std = (MEAN, STD) if run.normalised else (0.0, 1.0)
    if bias_vector:
        scaled: list[ff.Layer] = [ff.Flatten(), ff.Normalize(mean, std, scale=1 / 255)]
    elif run.normalised:  # all but the column of ones
        scaled = [ff.Normalize([mean] * features + [0.0], [std] * features + [1.0], scale=1 / 255)]
    else:
        scaled = [ff.Normalize(scale=1 / 255)]
    first = ff.Linear(features + (not bias_vector), HIDDEN, bias=bias_vector)
    second = ff.Linear(HIDDEN, CLASSES, bias=False)
    ending: list[ff.Layer] = [ff.Softmax(), AddEpsilon(), ff.Log()] if epsilon else []
    model = ff.Sequential(*scaled, first, run.hidden(), second, *ending, dtype=dtype)
    first.params["weight"][...] = w1[:-1] if bias_vector else w1
    if bias_vector:
        first.params["bias"][...] = w1[-1]
    second.params["weight"][...] = w2
    return model, ff.NLLLoss("sum") if epsilon else ff.CrossEntropyLoss("sum")


def sensible_model(seed: int, features: int = 784) -> ff.Sequential:
    """He start for the ReLU layer, a bias in both, normalised pixels."""
    return ff.Sequential(
        ff.Flatten(),
        ff.Normalize(MEAN, STD, scale=1 / 255),
        ff.Linear(features, HIDDEN),
        ff.ReLU(),
        ff.Linear(HIDDEN, CLASSES),
        seed=seed,
    )


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
    trained: Pair = (math.nan, math.nan)
    stopped: str | None = None
    source: str | None = None
    printed: dict[int, Pair] = field(default_factory=dict)

    @property
    def total_seconds(self) -> float:
        return math.fsum(self.seconds)

    @property
    def samples_per_second(self) -> float:
        return self.samples * len(self.seconds) / self.total_seconds if self.seconds else math.nan

    @property
    def full_batch(self) -> bool:
        return self.settings["batch_size"] is None

    def reached(self, accuracy: float) -> tuple[int, float] | None:
        """Epochs and seconds until the test accuracy was first `accuracy`."""
        for epoch, value in enumerate(self.test_accuracy, 1):
            if value >= accuracy:
                return epoch, math.fsum(self.seconds[:epoch])
        return None

    def figures(self, epoch: int) -> Pair | None:
        """Training loss and accuracy of an epoch, from 0; of the test set for -1; None where it was not reached."""
        if epoch == -1:
            return (self.test_loss[-1], self.test_accuracy[-1]) if self.test_loss else None
        return (self.loss[epoch], self.accuracy[epoch]) if epoch < len(self.loss) else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "source": self.source,
            "settings": self.settings,
            "epochs": len(self.loss),
            "updates": self.updates,
            "samples_per_epoch": self.samples,
            "seconds": self.total_seconds,
            "samples_per_second": self.samples_per_second,
            "train_loss_after": self.trained[0],
            "train_accuracy_after": self.trained[1],
            "test_loss_after": self.test_loss[-1] if self.test_loss else None,
            "test_accuracy_after": self.test_accuracy[-1] if self.test_accuracy else None,
            "epochs_and_seconds_to_test_accuracy": {f"{goal}": self.reached(goal) for goal in GOALS},
            "printed_by_the_exercise": {"test" if k < 0 else f"epoch {k}": v for k, v in self.printed.items()},
            "stopped": self.stopped,
            "curves": {
                "train_loss": self.loss,
                "train_accuracy": self.accuracy,
                "test_loss": self.test_loss,
                "test_accuracy": self.test_accuracy,
                "seconds": self.seconds,
            },
        }


def train(
    title: str,
    model: ff.Sequential,
    loss: ff.Loss,
    optimizer: ff.Optimizer,
    data: Data,
    *,
    batch_size: int | None,
    epochs: int,
    seed: int,
    start: str,
) -> Run:
    """Train `model` and keep its curves; a loss that is no number ends the run, not the script."""
    settings = {
        "optimizer": repr(optimizer),
        "batch_size": batch_size,
        "loss": repr(loss),
        "start": start,
        "seed": seed,
        "dtype": str(model.dtype),
        "layers": [repr(layer) for layer in model.layers if not isinstance(layer, ff.Normalize)],
    }
    rows = len(data.x_train)
    run = Run(title, settings, rows)
    first = slice(0, min(rows, 2 * (batch_size or 64)))  # compiled here, so that no run pays for it
    ff.fit(
        copy.deepcopy(model),
        data.x_train[first],
        data.y_train[first],
        loss=loss,
        optimizer=copy.deepcopy(optimizer),
        batch_size=batch_size,
        validation_data=(data.x_test[:2], data.y_test[:2]),
        progress=False,
    )
    histories: list[ff.History] = []
    try:
        ff.fit(
            model,
            data.x_train,
            data.y_train,
            loss=loss,
            optimizer=copy.deepcopy(optimizer),
            epochs=epochs,
            batch_size=batch_size,
            validation_data=(data.x_test, data.y_test),
            seed=seed,
            callbacks=[lambda end: histories.append(end.history)],
            progress=False,
        )
    except ff.errors.NonFiniteLossError as error:
        run.stopped = str(error)
    if histories:
        history = histories[-1]
        summed = loss.reduction == "sum"
        run.loss = [value / (rows if summed else 1) for value in history.loss]
        run.test_loss = [value / (len(data.x_test) if summed else 1) for value in history.val_loss]
        run.accuracy, run.test_accuracy = list(history.accuracy), list(history.val_accuracy)
        run.seconds = list(history.seconds)
        run.updates = history.epochs * (1 if batch_size is None else -(-rows // batch_size))
        after = ff.evaluate(model, data.x_train, data.y_train, loss=loss)
        run.trained = (after.loss / (rows if summed else 1), after.accuracy)
    shown = f"test {_pair(run.figures(-1))}, {run.total_seconds:.1f} s" if histories else ""
    print(f"  {title}: {shown}{' stopped: ' + run.stopped if run.stopped else ''}", flush=True)
    return run


def run_exercises(data: Data, epochs: int, seed: int) -> dict[str, list[Run]]:
    """The four runs with the exercise's epsilon and without, and the first also with a bias vector."""
    runs: dict[str, list[Run]] = {"with_epsilon": [], "without_epsilon": [], "bias_vector": []}
    ones = data.with_ones()
    for number, exercise in enumerate(EXERCISES):
        weights = exercise_weights(seed + number, ones.x_train.shape[1] - 1)
        forms = [("with_epsilon", True, False), ("without_epsilon", False, False)]
        for kind, epsilon, vector in [*forms, ("bias_vector", True, True)] if number == 0 else forms:
            model, loss = exercise_model(exercise, weights, epsilon=epsilon, bias_vector=vector)
            run = train(
                f"{exercise.title}, {'bias vector' if vector else kind.replace('_', ' ')}",
                model,
                loss,
                ff.SGD(lr=exercise.lr),
                data if vector else ones,
                batch_size=exercise.batch_size,
                epochs=epochs,
                seed=seed + number,
                start="N(0, 1)",
            )
            run.settings["pixels"] = f"normalised by ({MEAN}, {STD})" if exercise.normalised else "/ 255"
            run.settings["bias"] = "vector" if vector else "column of ones"
            run.source, run.printed = exercise.source, exercise.printed
            runs[kind].append(run)
    return runs


def run_sensible(data: Data, epochs: int, seed: int) -> list[Run]:
    """Full batch and minibatch as one would train them."""
    runs = []
    for title, optimizer, batch_size in SENSIBLE:
        model = sensible_model(seed, math.prod(data.x_train.shape[1:]))
        run = train(
            title,
            model,
            ff.CrossEntropyLoss(),
            optimizer,
            data,
            batch_size=batch_size,
            epochs=epochs,
            seed=seed,
            start="He (hidden), Xavier (output), biases 0",
        )
        run.settings["pixels"], run.settings["bias"] = f"normalised by ({MEAN}, {STD})", "vectors, both layers"
        runs.append(run)
    return runs


# Tables -----------------------------------------------------------------------------------------------------------


def _pair(figures: Pair | None) -> str:
    if figures is None:
        return "–"
    loss, accuracy = figures
    return f"{loss:.2f} / {accuracy:.3f}" if loss >= 1 else f"{loss:.4f} / {accuracy:.4f}"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table that reads well as text too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return "\n".join("| " + " | ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def exercise_table(runs: dict[str, list[Run]]) -> str:
    """Loss / accuracy as the exercise printed them, beside ours."""
    rows = []
    for with_epsilon, without in zip(runs["with_epsilon"], runs["without_epsilon"], strict=True):
        last = len(with_epsilon.loss) - 1
        wanted = sorted({0, last, *(k for k in with_epsilon.printed if 0 <= k <= last)} - {-1})
        title = f"{with_epsilon.title.removesuffix(', with epsilon')} ({with_epsilon.source})"
        for epoch in [*wanted, -1]:
            printed = _pair(with_epsilon.printed.get(epoch))
            place = "test" if epoch < 0 else f"epoch {epoch}"
            rows.append((title, place, printed, _pair(with_epsilon.figures(epoch)), _pair(without.figures(epoch))))
            title = ""
    return _table(("run", "loss / accuracy at", "printed", "fastfnn, its epsilon", "fastfnn, no epsilon"), rows)


def bias_line(runs: dict[str, list[Run]]) -> str:
    """How far the run with a bias vector is from that with a column of ones."""
    column, vector = runs["with_epsilon"][0], runs["bias_vector"][0]
    pairs = list(zip(column.loss, vector.loss, strict=False))
    apart = [abs(a - b) / a for a, b in pairs]
    if not apart:
        return "The run with a bias vector has no finished epoch."
    early = apart[:10]
    return (
        f"The first run with the bias as a vector instead of a column of ones: largest relative difference of the "
        f"training loss {max(early):.1e} in the first {len(early)} epochs, {max(apart):.1e} in all {len(apart)} "
        f"(rounding); test {_pair(vector.figures(-1))}."
    )


def cost_table(runs: list[Run]) -> str:
    """What each run took and reached."""
    rows = []
    for run in runs:
        reached = [run.reached(goal) for goal in GOALS]
        rows.append(
            (
                run.title,
                f"{len(run.loss)}",
                f"{run.updates:,}",
                f"{run.total_seconds:.1f}",
                f"{run.samples_per_second:,.0f}",
                _pair(run.trained),
                _pair(run.figures(-1)),
                *(f"{found[0]} epochs, {found[1]:.1f} s" if found else "–" for found in reached),
            )
        )
    figures = ("epochs", "updates", "seconds", "samples/s", "train after", "test after")
    return _table(("run", *figures, *(f"to {goal:.0%} test" for goal in GOALS)), rows)


def all_runs(results: dict[str, Any]) -> list[Run]:
    """Every run, in the order in which they ran."""
    exercise = results["exercise"]
    return [run for kind in exercise.values() for run in kind] + results["sensible"]


def markdown(results: dict[str, Any]) -> str:
    """The tables, with what they stand on."""
    about = results["about"]
    what = f"{about['data']}; {about['cpu']}, {about['cores']} cores; fastfnn {about['versions']['fastfnn']}"
    exercise, sensible = results["exercise"], results["sensible"]
    return "\n".join(
        [
            "# Full batch against minibatch",
            "",
            f"{what}, commit {about['commit']}. Made by `python bench/{NAME}.py`; the curves are in the JSON and PNG.",
            "",
            "## The exercise's settings, beside what it printed",
            "",
            f"785-100-10, weights from N(0, 1), gradient of the batch's sum. `its epsilon`: {EPSILON:g} inside the",
            "logarithm, which caps a sample's loss at 27.6 and takes the gradient from samples beyond it; the printed",
            "figures need it. `no epsilon`: the cross-entropy as it is. Draws of the weights differ from the exercise's.",
            "",
            exercise_table(exercise),
            "",
            bias_line(exercise),
            "",
            cost_table([run for kind in exercise.values() for run in kind]),
            "",
            "## Sensible settings",
            "",
            "784-100-10 with a bias in both layers, He start, mean loss, normalised pixels.",
            "",
            cost_table(sensible),
            "",
        ]
    )


def about(data: Data, epochs: int, seed: int) -> dict[str, Any]:
    """What the figures depend on."""
    import numba

    versions = {"fastfnn": ff.__version__, "numpy": np.__version__, "numba": numba.__version__}
    return {
        "data": data.name,
        "epochs": epochs,
        "seed": seed,
        "cpu": _cpu(),
        "cores": ff.functional.cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {**versions, "python": platform.python_version()},
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        if sys.platform == "darwin":
            return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The checkout's commit, with a plus where files differ from it; None outside of one."""
    git = ["git", "--no-optional-locks", "-C", str(PROJECT)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL).strip()
        changed = subprocess.check_output([*git, "status", "--porcelain"], text=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed.strip() else "")


# The picture ------------------------------------------------------------------------------------------------------


def plot(results: dict[str, Any], path: Path) -> bool:
    """Training loss and test accuracy, over epochs and over seconds; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullLocator
    except ImportError:
        print('No picture: matplotlib is missing (pip install "fastfnn[plot]").')
        return False
    exercise = results["exercise"]
    colours = ("#b3261e", "#e07b39", "#8e6bb0", "#7a5230")
    lines = [(run, colour, "--", 1.3) for run, colour in zip(exercise["with_epsilon"], colours, strict=True)]
    for place in (0, 3):  # without the epsilon the second run is a draw of the first, the third as good as with it
        lines.append((exercise["without_epsilon"][place], colours[place], ":", 1.6))
    lines += [
        (r, c, "-", 1.8) for r, c in zip(results["sensible"], ("#9ecae1", "#4292c6", "#08519c", "#1b7837"), strict=True)
    ]
    lines = [line for line in lines if line[0].loss]

    figure = Figure(figsize=(12, 9.6), dpi=110, layout="constrained")
    axes = figure.subplots(2, 2, sharey="row")
    for run, colour, style, width in lines:
        n = len(run.loss)
        ends = np.cumsum(run.seconds)
        starts = ends - run.seconds
        # An epoch's training figure belongs to its start with a full batch, else to its middle; a test figure to its end.
        middle = 0.0 if run.full_batch else 0.5
        loss_epochs, loss_seconds = np.arange(n) + middle, starts + middle * np.array(run.seconds)
        later = loss_seconds > 0  # a logarithmic axis has no zero
        kept = {"color": colour, "linestyle": style, "linewidth": width}
        axes[0, 0].plot(loss_epochs, run.loss, label=run.title, **kept)
        axes[0, 1].plot(loss_seconds[later], np.array(run.loss)[later], **kept)
        accuracy = np.clip(run.test_accuracy, 0.02, 0.995)
        axes[1, 0].plot(np.arange(1, n + 1), accuracy, **kept)
        axes[1, 1].plot(ends, accuracy, **kept)
    for run, colour in zip(exercise["with_epsilon"], colours, strict=True):
        shown = {"color": colour, "marker": "o", "markersize": 6, "markeredgecolor": "white", "linestyle": "none"}
        middle = 0.0 if run.full_batch else 0.5
        printed = {epoch + middle: pair[0] for epoch, pair in run.printed.items() if 0 <= epoch < len(run.loss)}
        axes[0, 0].plot(list(printed), list(printed.values()), zorder=5, **shown)
        if -1 in run.printed and run.loss:
            axes[1, 0].plot([len(run.loss)], [run.printed[-1][1]], zorder=5, clip_on=False, **shown)
    axes[0, 0].plot([], [], "o", color="#555555", markeredgecolor="white", label="printed by the exercise")

    percents = (0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98)
    for row, (name, scale) in enumerate(
        (("training loss (mean, log scale)", "log"), ("test accuracy (logit scale)", "logit"))
    ):
        axes[row, 0].set_ylabel(name)
        axes[row, 0].set_yscale(scale)
        for column, unit in enumerate(("epochs", "seconds of training (log scale)")):
            axes[row, column].set_xlabel(unit)
            axes[row, column].grid(alpha=0.3)
    for axis in axes[:, 1]:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in axes[0]:
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in axes[1]:
        axis.set_yticks(percents, [f"{value:.0%}" for value in percents])
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_ylim(0.05, 0.985)
    about = results["about"]
    figure.suptitle(f"Full batch against minibatch, MLP 784-100-10\n{about['data']}", fontsize=13)
    figure.legend(
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
        title="dashed, dotted: the exercise's settings; solid: sensible settings",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return True


# The command ------------------------------------------------------------------------------------------------------


def run(data: Data, epochs: int, seed: int) -> dict[str, Any]:
    """Both parts."""
    print(f"{data.name}; {epochs} epochs a run\nThe exercise's settings:", flush=True)
    exercise = run_exercises(data, epochs, seed)
    print("Sensible settings:", flush=True)
    return {"about": about(data, epochs, seed), "exercise": exercise, "sensible": run_sensible(data, epochs, seed)}


def save(results: dict[str, Any], folder: Path, name: str = NAME) -> list[Path]:
    """Write JSON, Markdown and, with matplotlib, the PNG; give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        "about": results["about"],
        "exercise": {kind: [run.to_dict() for run in runs] for kind, runs in results["exercise"].items()},
        "sensible": [run.to_dict() for run in results["sensible"]],
    }
    paths = [folder / f"{name}.{kind}" for kind in ("json", "md", "png")]
    paths[0].write_text(json.dumps(_without_nan(plain), indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(markdown(results), encoding="utf-8")
    return paths if plot(results, paths[2]) else paths[:2]


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Full batch against minibatch on MNIST, and the exercise's figures.")
    parser.add_argument("--data-root", type=Path, help="folder with MNIST's four files (default: where they are found)")
    parser.add_argument("--epochs", type=int, default=50, help="of each run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent / "results", help="folder (default: bench/results)"
    )
    parser.add_argument("--quick", action="store_true", help="3 epochs of 2,000 images, files named ..._quick")
    options = parser.parse_args(arguments)
    for name, least in (("epochs", 1), ("seed", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}; expected at least {least}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run both parts, print the tables, write the files."""
    options = parse(arguments)
    try:
        data = load_data(options.data_root)
        options.out.mkdir(parents=True, exist_ok=True)
    except (ff.errors.FastFNNError, OSError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2
    epochs, name = options.epochs, NAME
    if options.quick:
        data = _data(
            f"{data.name}, of which",
            ((data.x_train[:2000], data.y_train[:2000]), (data.x_test[:500], data.y_test[:500])),
        )
        epochs, name = min(3, epochs), f"{NAME}_quick"
    results = run(data, epochs, options.seed)
    print(f"\n{markdown(results)}")
    for path in save(results, options.out, name):
        print(f"wrote {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
