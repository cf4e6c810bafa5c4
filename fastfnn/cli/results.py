"""What came of a training: its figures, as a table, as plain data and as a page."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import fastfnn as ff
from fastfnn import report
from fastfnn.cli import info
from fastfnn.cli.common import percent
from fastfnn.cli.datasets import DataSet
from fastfnn.report.scores import ClassScores, NumberScores, baseline, figure


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes
    ----------
    model : Sequential
        A regression's gives numbers in their own units.
    train, test : Evaluation
        A regression's losses are of standardised numbers.
    scores : pair of ClassScores or of NumberScores
        Of the training and of the test data.
    always : str
        What the baseline says to everything.
    baseline : float
        How right that is of the test data: an accuracy, or a mean absolute error.
    best : int or None
        The epoch whose model it is, where early stopping chose it.
    """

    model: ff.Sequential
    data: DataSet
    history: ff.History
    train: ff.Evaluation
    test: ff.Evaluation
    scores: tuple[Any, Any]
    always: str
    baseline: float
    best: int | None

    @classmethod
    def of(
        cls,
        model: ff.Sequential,
        data: DataSet,
        history: ff.History,
        evaluations: tuple[ff.Evaluation, ff.Evaluation],
        best: int | None,
        n_threads: int | None,
    ) -> Outcome:
        parts = ((data.x_train, data.y_train), (data.x_test, data.y_test))
        if data.target is not None:
            median = float(np.median(data.y_train))
            guesses = [ff.predict_raw(model, x, n_threads=n_threads)[:, 0] for x, _ in parts]
            numbers = [NumberScores.of(guess, y, median) for guess, (_, y) in zip(guesses, parts, strict=True)]
            always, least = f"{median:.6g}", numbers[1].baseline
            return cls(model, data, history, *evaluations, (numbers[0], numbers[1]), always, least, best)
        train, test = (ClassScores.of(ff.predict(model, x, n_threads=n_threads), y, data.classes) for x, y in parts)
        most, right = baseline(data.y_train, data.y_test)
        always = data.class_names[most] if data.class_names else str(most)
        return cls(model, data, history, *evaluations, (train, test), always, right, best)

    @property
    def seconds(self) -> float:
        return sum(self.history.seconds)

    @property
    def rate(self) -> float:
        """Rows a second."""
        return len(self.data.x_train) * self.history.epochs / self.seconds if self.seconds else 0.0

    @property
    def test_name(self) -> str:
        """What the test data are called where there is little room."""
        return self.data.test.rpartition(" ")[2]

    @property
    def validation_name(self) -> str:
        """What the history's validation data are called: as the test data, where they are these."""
        return self.test_name if self.data.x_val is None else "validation"

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        figures: dict[str, Any] = {"train": self.train._asdict(), "test": self.test._asdict()}
        figures |= {"seconds": self.seconds, "samples_per_second": self.rate}
        if self.data.target is not None:
            scores = {name: asdict(each) for name, each in zip(("train", "test"), self.scores, strict=True)}
            return figures | {"scores": scores}
        test = self.scores[1]
        means = {name: test.mean(name) for name in ("precision", "recall", "f1")}
        return figures | {"scores": {**means, "baseline": self.baseline, "most_frequent": self.always}}

    def table(self) -> str:
        """For people."""
        width = max(8, len(self.test_name))
        if self.data.target is not None:
            lines = [f"{'':{width}}{'R²':>9}{'mean abs. error':>18}{'root mean sq. error':>21}"]
            for name, each in zip(("train", self.test_name), self.scores, strict=True):
                errors = figure(each.mean_absolute_error), figure(each.root_mean_squared_error)
                lines.append(f"{name:{width}}{each.r2:9.4f}{errors[0]:>18}{errors[1]:>21}")
            lines.append(f"{'baseline':{width}}{'':9}{figure(self.baseline):>18}  always {self.always}")
            return "\n".join(lines)
        lines = [f"{'':{width}}{'loss':>9}{'accuracy':>12}{'F1':>9}"]
        for name, figures, each in zip(("train", self.test_name), (self.train, self.test), self.scores, strict=True):
            lines.append(f"{name:{width}}{figures.loss:9.4f}{percent(figures.accuracy):>12}{each.mean('f1'):9.4f}")
        lines.append(f"{'baseline':{width}}{'':9}{percent(self.baseline):>12}  always {self.always}")
        return "\n".join(lines)

    def last_line(self) -> str:
        if self.data.target is not None:
            error = figure(self.scores[1].mean_absolute_error)
            return f"{self.test_name} R² {self.scores[1].r2:.4f}, mean absolute error {error}"
        return f"{self.test_name} accuracy {percent(self.test.accuracy)}"

    def highlights(self) -> dict[str, str]:
        """The figures for the top of a page."""
        name, test = self.test_name, self.scores[1]
        if self.data.target is not None:
            first = {f"{name} R²": f"{test.r2:.4f}", "mean absolute error": figure(test.mean_absolute_error)}
            least = figure(self.baseline)
        else:
            first = {f"{name} accuracy": percent(self.test.accuracy), f"{name} loss": f"{self.test.loss:.4f}"}
            first[f"{name} F1"] = f"{test.mean('f1'):.4f}"
            least = percent(self.baseline)
        return {
            **first,
            f"baseline: always {self.always}": least,
            "parameters": f"{self.model.n_parameters:,}",
            "training": f"{self.seconds:.2f} s",
            f"{self.data.noun}/s": f"{self.rate:,.0f}",
        }


def page(
    data: DataSet,
    outcome: Outcome,
    header: dict[str, str],
    settings: dict[str, Any],
    pictures: list[report.Picture] | None,
    command: str,
) -> str:
    """The training as a page."""
    facts: dict[str, dict[str, Any]] = {"Settings": _shown(settings)}
    if data.columns is not None and not all(column.is_plain for column in data.columns):
        facts["Columns"] = {column.name: f"{column.kind}: {column.says()}" for column in data.columns}
    parts = ("training", outcome.test_name)
    return report.page(
        outcome.model,
        outcome.history,
        data.x_test,
        data.y_test,
        title=f"{settings['model']} on {data.name}",
        subtitle=header["data"],
        highlights=outcome.highlights(),
        results=dict(zip(parts, (outcome.train, outcome.test), strict=True)),
        scores=dict(zip(parts, outcome.scores, strict=True)),
        class_names=data.class_names,
        facts={**facts, "Versions and machine": dict(info.machine())},
        command=command,
        footer=f"Written by fastfnn {ff.__version__} on {time.strftime('%Y-%m-%d at %H:%M')}.",
        pictures=pictures,
        test=outcome.test_name,
        validation=outcome.validation_name,
    )


def _shown(settings: dict[str, Any]) -> dict[str, object]:
    """The settings as a person reads them."""
    shown = {name.replace("_", " "): value for name, value in settings.items() if value is not None}
    if "hidden" in shown:
        shown["hidden"] = ", ".join(map(str, shown["hidden"])) or "none"
    return shown
