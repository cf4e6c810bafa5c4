"""The estimators of `fastfnn.sklearn` beside scikit-learn's own: time to fit and to predict, scores, overhead.

    python bench/estimators.py [--data-root DIR] [--quick] [--only PART …] [--out DIR]

Contenders take turns in one process, and ratios are medians of those of the rounds. Written are ``estimators.json``
and ``estimators.md``.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _figures
import numpy as np
from _figures import Figure
from _timing import interleave, repeat
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastfnn as ff
from fastfnn.sklearn import FNNClassifier, FNNRegressor

Array = Any
SEEDS = 5
#: What of the rows is for the test, in sets that come in one piece.
TEST_SHARE = 0.25
SETS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
}


class Settings(NamedTuple):
    """How long everything takes."""

    epochs: int
    rounds: int  # of fits
    overhead_rounds: int
    predict_rounds: int
    lbfgs_rounds: int
    seeds: int


FULL = Settings(epochs=10, rounds=3, overhead_rounds=9, predict_rounds=30, lbfgs_rounds=9, seeds=SEEDS)
QUICK = Settings(epochs=1, rounds=1, overhead_rounds=3, predict_rounds=3, lbfgs_rounds=1, seeds=1)
LBFGS_ITERATIONS = 200


def mnist(root: Path | None) -> tuple[Array, Array, Array, Array]:
    """Pixels in [0, 1] as float32 (n, 784), and labels; for training and test."""
    sets = ff.data.load_mnist_sample() if root is None else ff.data.load_mnist(root=root, download=False)
    (x, y), (x_test, y_test) = sets
    rows, test = (images.reshape(len(images), -1) / np.float32(255) for images in (x, x_test))
    return rows, test, y, y_test


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


class Estimators:
    """The measurements. Each gives figures; what they come from is kept in `answers`."""

    def __init__(self, root: Path | None, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.answers: dict[str, Any] = {}

    def fit(self) -> list[Figure]:
        """784-100-10 with ReLU and Adam, both with the same settings; and how well the two then do."""
        x, x_test, y, y_test = mnist(self.root)
        figures = []
        for dtype, batch in (("float32", 200), ("float32", 64), ("float64", 200)):
            rows, test = x.astype(dtype), x_test.astype(dtype)
            shared = {"batch_size": batch, "max_iter": self.settings.epochs, "tol": 0.0, "n_iter_no_change": 1000}
            FNNClassifier(**{**shared, "max_iter": 1}).fit(rows, y)  # compiles
            times: dict[str, list[float]] = {"ours": [], "theirs": []}
            scores: dict[str, list[float]] = {"ours": [], "theirs": []}
            for seed in range(self.settings.rounds):
                pair = {
                    "ours": FNNClassifier(**shared, random_state=seed),
                    "theirs": MLPClassifier(**shared, random_state=seed),
                }
                for name in list(pair)[:: -1 if seed % 2 else 1]:
                    times[name].append(seconds(pair[name].fit, rows, y))
                    scores[name].append(pair[name].score(test, y_test))
            ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
            ours, theirs = (statistics.median(times[name]) for name in times)
            what = f"{dtype}, batches of {batch}"
            self.answers[f"fit, {what}"] = {"seconds": times, "accuracy": scores}
            remark = f"{ours:.2f} s for {theirs:.2f} s, {self.settings.epochs} epochs of {len(x):,} images"
            figures.append(Figure(f"fit against MLPClassifier, {what}", ratio, "×", 8, True, remark))
            ours, theirs = (100 * statistics.mean(scores[name]) for name in scores)
            remark = f"{ours:.2f} % for {theirs:.2f} %, means of {self.settings.rounds} seeds"
            figures.append(Figure(f"test accuracy against it, {what}", ours - theirs, " points", -0.3, True, remark))
        return figures

    def overhead(self) -> list[Figure]:
        """The estimator against the call of `ff.fit` that it makes."""
        x, _, y, _ = mnist(self.root)
        epochs, batch = self.settings.epochs, 200
        shared = {"batch_size": batch, "max_iter": epochs, "tol": 0.0, "n_iter_no_change": 1000, "random_state": 0}

        def plain() -> None:
            model = ff.Sequential(ff.Linear(784, 100), ff.ReLU(), ff.Linear(100, 10), seed=0)
            optimizer = ff.Adam(1e-3, weight_decay=1e-4 / batch, decay_biases=False)
            options: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "seed": 0, "progress": False}
            ff.fit(model, x, y, loss=ff.CrossEntropyLoss(), optimizer=optimizer, **options)

        def estimator() -> None:
            FNNClassifier(**shared).fit(x, y)

        pairs = []
        plain()
        estimator()
        for turn in range(self.settings.overhead_rounds):
            both = (plain, estimator)[:: -1 if turn % 2 else 1]
            taken = {function: seconds(function) for function in both}
            pairs.append((taken[plain], taken[estimator]))
        self.answers["overhead"] = {"fit_s": [a for a, _ in pairs], "estimator_s": [b for _, b in pairs]}
        percent = 100 * (statistics.median(b / a for a, b in pairs) - 1)
        remark = f"{epochs} epochs of {len(x):,} images in {statistics.median(a for a, _ in pairs):.2f} s by `ff.fit`"
        return [Figure("overhead of the estimator over `ff.fit`", percent, " %", 5, remark=remark)]

    def predict(self) -> list[Figure]:
        """One row, and many."""
        x, x_test, y, _ = mnist(self.root)
        models: dict[str, Any] = {"ours": FNNClassifier(max_iter=1), "theirs": MLPClassifier(max_iter=1)}
        for model in models.values():
            model.fit(x[:2000], y[:2000])
        figures = []
        for rows, aim in ((1, 2.0), (len(x_test), 1.0)):
            some = x_test[:rows]
            samplers = {name: repeat(partial(model.predict, some)) for name, model in models.items()}
            timings = interleave(samplers, self.settings.predict_rounds, 5e-3)
            ratio = statistics.median(
                b / a for a, b in zip(timings["ours"].samples, timings["theirs"].samples, strict=True)
            )
            ours, theirs = (1e6 * timings[name].median for name in samplers)
            self.answers[f"predict, {rows} rows"] = {name: timing.to_dict() for name, timing in timings.items()}
            what = "one row" if rows == 1 else f"{rows:,} rows"
            figures.append(
                Figure(f"predict against it, {what}", ratio, "×", aim, True, f"{ours:.0f} µs for {theirs:.0f} µs")
            )
        return figures

    def lbfgs(self) -> list[Figure]:
        """L-BFGS on small data, from the same start in float64: how long, and how low the loss gets."""
        figures = []
        for name, reader in SETS.items():
            x, y = reader(return_X_y=True)  # type: ignore[operator]
            rows, kinds = StandardScaler().fit_transform(x), (FNNClassifier, MLPClassifier)
            if name == "diabetes":
                kinds = (FNNRegressor, MLPRegressor)
            models: Any = [kind(solver="lbfgs", random_state=0, max_iter=LBFGS_ITERATIONS) for kind in kinds]
            samplers = {key: repeat(partial(model.fit, rows, y)) for key, model in zip("ab", models, strict=True)}
            for model in models:
                model.fit(rows, y)
            timings = interleave(samplers, self.settings.lbfgs_rounds, 5e-2)
            pairs = zip(timings["a"].samples, timings["b"].samples, strict=True)
            ratio = statistics.median(theirs / ours for ours, theirs in pairs)
            self.answers[f"L-BFGS, {name}"] = {key: timing.to_dict() for key, timing in timings.items()}
            ours, theirs = (1e3 * timings[key].median for key in samplers)
            losses, steps = [model.loss_ for model in models], [model.n_iter_ for model in models]
            remark = f"{ours:.1f} ms for {theirs:.1f} ms; {steps[0]} and {steps[1]} iterations"
            figures.append(Figure(f"L-BFGS against scikit-learn's, {name}", ratio, "×", 1, True, remark))
            remark = f"losses {losses[0]:.6g} and {losses[1]:.6g}"
            figures.append(Figure(f"loss over theirs, {name}", losses[0] / losses[1], "", 1.001, remark=remark))
        return figures

    def scores(self) -> list[Figure]:
        """Accuracy or R² with default settings; the same splits and seeds for both."""
        figures = []
        for name in ("MNIST sample", *SETS):
            pairs = [self._pair(name, seed) for seed in range(self.settings.seeds)]
            self.answers[f"scores, {name}"] = pairs
            ours, theirs = (statistics.mean(column) for column in zip(*pairs, strict=True))
            differences = [a - b for a, b in pairs]
            error = statistics.stdev(differences) / len(pairs) ** 0.5 if len(pairs) > 1 else float("nan")
            remark = f"{ours:.4f} and {theirs:.4f}; standard error of the difference {error:.4f}"
            metric = "R²" if name == "diabetes" else "accuracy"
            figures.append(Figure(f"{metric} less scikit-learn's, {name}", ours - theirs, "", 0, True, remark))
        return figures

    def _pair(self, name: str, seed: int) -> tuple[float, float]:
        kinds: tuple[Any, Any] = (FNNClassifier, MLPClassifier)
        if name == "MNIST sample":
            x, x_test, y, y_test = mnist(None)
            models = [kind(random_state=seed) for kind in kinds]
        else:
            data: Any = SETS[name](return_X_y=True)
            kinds = (FNNRegressor, MLPRegressor) if name == "diabetes" else kinds
            strata = None if name == "diabetes" else data[1]
            x, x_test, y, y_test = train_test_split(*data, test_size=TEST_SHARE, random_state=seed, stratify=strata)
            models = [make_pipeline(StandardScaler(), kind(random_state=seed)) for kind in kinds]
        ours, theirs = (float(model.fit(x, y).score(x_test, y_test)) for model in models)
        return ours, theirs


PARTS = ("fit", "overhead", "predict", "lbfgs", "scores")


def main() -> int:
    parser = _figures.options(__doc__ or "", "estimators", "a minute")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    args = parser.parse_args()
    settings, root = (QUICK if args.quick else FULL), _figures.mnist_root(args)
    data = "MNIST, 60,000 training images" if root else "No full MNIST: the embedded sample of 10,000 images"
    warnings.simplefilter("ignore", ConvergenceWarning)
    estimators = Estimators(root, settings)
    parts = [getattr(estimators, part) for part in args.only]
    how = (
        f"Ratios are medians of {settings.rounds} fits, {settings.overhead_rounds} rounds of overhead and "
        f"{settings.predict_rounds} of predictions, in turn; scores are means of {settings.seeds} seeds."
    )
    _figures.run("estimators", "Estimators beside scikit-learn's", how, parts, estimators.answers, args, settings, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
