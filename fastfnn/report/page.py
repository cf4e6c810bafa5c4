"""The page: what stands in a report, section by section."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _summary
from fastfnn._text import shortened
from fastfnn.history import History
from fastfnn.model import Sequential
from fastfnn.report import markup
from fastfnn.report.markup import Html
from fastfnn.report.pictures import CLASSES, LEARNED, MISTAKEN, PREDICTIONS, TRAINING, Picture
from fastfnn.report.scores import ClassScores, NumberScores, figure
from fastfnn.training.inference import Evaluation, predict

#: Rows of the tables of epochs and classes at most.
MOST_ROWS = 100
#: Letters of a layer at most; one that normalises many features has many numbers.
LONGEST = 160
NO_PICTURES = 'The pictures are missing, as matplotlib is not installed: pip install "fastfnn[plot]"'
COLUMNS = {
    "loss": "training loss",
    "accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "lr": "learning rate",
    "seconds": "seconds",
}


def page(
    model: Sequential,
    history: History,
    x: ArrayLike,
    y: ArrayLike,
    *,
    title: str,
    subtitle: str = "",
    highlights: Mapping[str, str] | None = None,
    results: Mapping[str, Evaluation] | None = None,
    scores: Mapping[str, ClassScores | NumberScores] | None = None,
    class_names: Sequence[str] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    command: str = "",
    footer: str = "",
    pictures: Iterable[Picture] | None = None,
    test: str = "test",
    validation: str = "validation",
) -> str:
    """Write the report of a training: a classifier's, or a regression's.

    Parameters
    ----------
    model : Sequential
    history : History
    x, y : test samples, and their labels (n,), or the numbers (n,), float, that a regression predicts
    title, subtitle, footer : str
    highlights : dict of str to str, optional
        A few figures for the top.
    results : dict of str to Evaluation, optional
        By the name of the data, such as "training".
    scores : dict of str to ClassScores or NumberScores, optional
        The same, in further figures.
    class_names : sequence of str, optional
    facts : dict of str to dict, optional
        Tables of names and values for the end, by their heading.
    command : str
        What repeats the training.
    pictures : of `draw`, optional
        None: matplotlib is missing, and the page says so.
    test, validation : str
        What x and y are called, and what the history's validation data: the same word where they are the same.

    Returns
    -------
    str
        HTML. Whatever text was handed over is escaped; nothing is fetched from anywhere.
    """
    samples = np.asarray(x)
    truth = np.asarray(y)
    numbers = truth.dtype.kind == "f"
    classes = model.output_shape(samples.shape[1:])[0]
    drawn: dict[str, list[Html]] = defaultdict(list)
    for picture in pictures or ():
        drawn[picture.section].append(
            markup.figure(picture.png, picture.caption, picture.width, is_photo=picture.section == MISTAKEN)
        )
    return markup.document(
        title,
        markup.tag("header", markup.tag("h1", title), markup.tag("p", subtitle, class_="soft")),
        markup.highlights(highlights or {}),
        markup.tag("p", NO_PICTURES, class_="note") if pictures is None else Html(),
        markup.section(
            "Training", *drawn[TRAINING], _results(results or {}, scores or {}), _epochs(history, validation)
        ),
        markup.section("Predictions", *drawn[PREDICTIONS])
        if numbers
        else markup.section(
            "Classes", *drawn[CLASSES], _classes(predict(model, samples), truth, classes, class_names, test)
        ),
        markup.section("Mistakes", *drawn[MISTAKEN]),
        markup.section("What it has learned", *drawn[LEARNED]),
        markup.section("Network", _layers(model, samples.shape[1:])),
        *(markup.section(heading, markup.facts(table)) for heading, table in (facts or {}).items()),
        markup.section("To repeat it", markup.tag("pre", command)) if command else Html(),
        markup.tag("footer", footer) if footer else Html(),
    )


def _results(results: Mapping[str, Evaluation], scores: Mapping[str, ClassScores | NumberScores]) -> Html:
    header, rows = ["data", "loss"], []
    for name, result in results.items():
        row, score = [name, _loss(result.loss)], scores.get(name)
        if isinstance(score, NumberScores):
            header[1:] = ["loss (standardised)", "R²", "mean absolute error", "root mean squared error"]
            row += [_loss(score.r2), figure(score.mean_absolute_error), figure(score.root_mean_squared_error)]
        else:
            header[2:] = ["accuracy"]
            row.append(_percent(result.accuracy))
        if isinstance(score, ClassScores):
            header[3:] = ["precision", "recall", "F1"]
            row += [_percent(score.mean(each)) for each in ("precision", "recall", "f1")]
        rows.append(row)
    return markup.table(header, rows, words=(0,))


def _epochs(history: History, validation: str) -> Html:
    """Every epoch, or every so many where they are too many to read."""
    lists = {name: values for name, values in history.to_dict().items() if not np.isnan(values).all()}
    every = math.ceil(history.epochs / MOST_ROWS) or 1
    shown = [i for i in range(history.epochs) if (i + 1) % every == 0 or i + 1 == history.epochs]
    rows = [(str(i + 1), *(_figure(name, values[i]) for name, values in lists.items())) for i in shown]
    header = ("epoch", *(COLUMNS.get(name, name).replace("validation", validation) for name in lists))
    return markup.folded("Epochs" if every == 1 else f"Epochs, one in {every}", markup.table(header, rows))


def _classes(guess: NDArray[Any], truth: NDArray[Any], classes: int, names: Sequence[str] | None, test: str) -> Html:
    """Each class's share of right guesses; of many classes the worst."""
    scores = ClassScores.of(guess, truth, classes)
    shown = np.arange(classes)
    if classes > MOST_ROWS:
        # NaN, a class without samples, comes last
        shown = np.argsort(scores.recall, kind="stable")[:MOST_ROWS]
    rows = []
    for i in shown:
        wrong = guess[(truth == i) & (guess != i)]
        taken = "–"
        if len(wrong):
            others = np.bincount(wrong)
            taken = f"{_name(int(others.argmax()), names)} ({others.max():,}\u00a0×)"
        bar = markup.bar(_percent(scores.recall[i]), scores.recall[i])
        counts = f"{scores.rows[i]:,}", f"{scores.right[i]:,}"
        rows.append((_name(int(i), names), *counts, bar, _percent(scores.precision[i]), _percent(scores.f1[i]), taken))
    header = ("class", f"{test} samples", "right", "accuracy (recall)", "precision", "F1", "most often taken for")
    few = f"Of {classes:,} classes, the {MOST_ROWS} with the lowest accuracy:" if len(shown) < classes else ""
    return markup.join([markup.tag("p", few) if few else Html(), markup.table(header, rows, words=(0, 6))])


def _name(label: int, names: Sequence[str] | None) -> str:
    return str(label) if names is None else names[label]


def _layers(model: Sequential, shape: tuple[int, ...]) -> Html:
    shown = []
    for row in _summary.rows(model.children(), shape):
        name = row.layer.lstrip(" ")
        code = markup.tag("code", shortened(name, LONGEST))
        shown.append((row.place, markup.indented((len(row.layer) - len(name)) // 2, code), row.made, row.parameters))
    table = markup.table(("", "layer", "output", "parameters"), shown, words=(0, 1))
    return markup.join([table, markup.tag("p", model.described_size(), class_="soft")])


def _figure(name: str, value: float) -> str:
    if "accuracy" in name:
        return _percent(value)
    return _loss(value) if "loss" in name else f"{value:.4g}"


def _loss(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if math.isfinite(share) else "–"
