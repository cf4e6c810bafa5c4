"""The page: what stands in a report, section by section."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn.history import History
from fastfnn.model import Sequential
from fastfnn.report import markup
from fastfnn.report.markup import Html
from fastfnn.report.pictures import CLASSES, LEARNED, MISTAKEN, TRAINING, Picture
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
    class_names: Sequence[str] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    command: str = "",
    footer: str = "",
    pictures: Iterable[Picture] | None = None,
) -> str:
    """Write the report of a classifier's training.

    Parameters
    ----------
    model : Sequential
    history : History
    x, y : test samples, and their labels (n,)
    title, subtitle, footer : str
    highlights : dict of str to str, optional
        A few figures for the top.
    results : dict of str to Evaluation, optional
        By the name of the data, such as "training".
    class_names : sequence of str, optional
    facts : dict of str to dict, optional
        Tables of names and values for the end, by their heading.
    command : str
        What repeats the training.
    pictures : of `draw`, optional
        None: matplotlib is missing, and the page says so.

    Returns
    -------
    str
        HTML. Whatever text was handed over is escaped; nothing is fetched from anywhere.
    """
    samples = np.asarray(x)
    guess, truth = predict(model, samples), np.asarray(y)
    classes = model.output_shape(samples.shape[1:])[0]
    drawn: dict[str, list[Html]] = defaultdict(list)
    for picture in pictures or ():
        drawn[picture.section].append(markup.figure(picture.png, picture.caption, picture.width))
    return markup.document(
        title,
        markup.tag("header", markup.tag("h1", title), markup.tag("p", subtitle, class_="soft")),
        markup.highlights(highlights or {}),
        markup.tag("p", NO_PICTURES, class_="note") if pictures is None else Html(),
        markup.section("Training", *drawn[TRAINING], _results(results or {}), _epochs(history)),
        markup.section("Classes", *drawn[CLASSES], _classes(guess, truth, classes, class_names)),
        markup.section("Mistakes", *drawn[MISTAKEN]),
        markup.section("What it has learned", *drawn[LEARNED]),
        markup.section("Network", _layers(model, samples.shape[1:])),
        *(markup.section(heading, markup.facts(table)) for heading, table in (facts or {}).items()),
        markup.section("To repeat it", markup.tag("pre", command)) if command else Html(),
        markup.tag("footer", footer) if footer else Html(),
    )


def _results(results: Mapping[str, Evaluation]) -> Html:
    rows = [(name, _loss(result.loss), _percent(result.accuracy)) for name, result in results.items()]
    return markup.table(("data", "loss", "accuracy"), rows, words=(0,))


def _epochs(history: History) -> Html:
    """Every epoch, or every so many where they are too many to read."""
    lists = {name: values for name, values in history.to_dict().items() if values}
    every = math.ceil(history.epochs / MOST_ROWS) or 1
    shown = [i for i in range(history.epochs) if (i + 1) % every == 0 or i + 1 == history.epochs]
    rows = [(str(i + 1), *(_figure(name, values[i]) for name, values in lists.items())) for i in shown]
    header = ("epoch", *(COLUMNS.get(name, name) for name in lists))
    return markup.folded("Epochs" if every == 1 else f"Epochs, one in {every}", markup.table(header, rows))


def _classes(guess: NDArray[Any], truth: NDArray[Any], classes: int, names: Sequence[str] | None) -> Html:
    """Each class's share of right guesses; of many classes the worst."""
    counts = np.bincount(truth, minlength=classes)
    right = np.bincount(truth[guess == truth], minlength=classes)
    shares = np.divide(right, counts, out=np.full(classes, math.nan), where=counts > 0)
    shown = np.arange(classes)
    if classes > MOST_ROWS:
        shown = np.argsort(shares, kind="stable")[:MOST_ROWS]  # NaN, a class without samples, comes last
    rows = []
    for i in shown:
        wrong = guess[(truth == i) & (guess != i)]
        taken = "–"
        if len(wrong):
            others = np.bincount(wrong)
            taken = f"{_name(int(others.argmax()), names)} ({others.max():,} ×)"
        bar = markup.bar(_percent(shares[i]), shares[i])
        rows.append((_name(int(i), names), f"{counts[i]:,}", f"{right[i]:,}", bar, taken))
    header = ("class", "test samples", "right", "accuracy", "most often taken for")
    few = f"Of {classes:,} classes, the {MOST_ROWS} with the lowest accuracy:" if len(shown) < classes else ""
    return markup.join([markup.tag("p", few) if few else Html(), markup.table(header, rows, words=(0, 4))])


def _name(label: int, names: Sequence[str] | None) -> str:
    return str(label) if names is None else names[label]


def _layers(model: Sequential, shape: tuple[int, ...]) -> Html:
    rows = []
    for i, layer in enumerate(model.layers):
        shape = layer.output_shape(shape)
        count = sum(array.size for array in layer.params.values())
        output = " × ".join(map(str, shape))
        rows.append((str(i), markup.tag("code", _short(repr(layer))), output, f"{count:,}" if count else ""))
    table = markup.table(("", "layer", "output", "parameters"), rows, words=(1,))
    return markup.join([table, markup.tag("p", model.described_size(), class_="soft")])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _figure(name: str, value: float) -> str:
    if "accuracy" in name:
        return _percent(value)
    return _loss(value) if "loss" in name else f"{value:.4g}"


def _loss(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if math.isfinite(share) else "–"
