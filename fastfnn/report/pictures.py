"""The pictures of a report: which of `fastfnn.plot` suit a model and its data, drawn as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import metrics, plot
from fastfnn.history import History
from fastfnn.layers import Conv2d, Flatten, Linear, Normalize
from fastfnn.model import Sequential
from fastfnn.plot._figure import COLOURS, new_figure
from fastfnn.plot.curves import draw_history
from fastfnn.training.inference import predict, predict_raw

Array = NDArray[Any]

#: A matrix of more classes than these shows nothing.
MOST_CLASSES = 100
MISTAKES = 24
#: CSS has 96 pixels to an inch; twice as many stay sharp on fine screens and on paper.
CSS_DPI = 96
LONGEST_NAME = 20

TRAINING, CLASSES, PREDICTIONS, MISTAKEN, LEARNED = "training", "classes", "predictions", "mistakes", "learned"
#: Points of a picture of predictions; more hide each other.
MOST_POINTS = 5000


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes
    ----------
    section : str
        Where it belongs: one of this module's constants.
    caption : str
    png : bytes
    width : int
        In CSS pixels.
    """

    section: str
    caption: str
    png: bytes
    width: int


def draw(
    model: Sequential,
    history: History,
    x: ArrayLike,
    y: ArrayLike,
    *,
    class_names: Sequence[str] | None = None,
    validation: str = "validation",
) -> list[Picture] | None:
    """Draw what there is to see of a classifier, or of a regression; None without matplotlib.

    Parameters
    ----------
    model : Sequential
    history : History
        Of its training.
    x, y : samples that it was not trained with, and their classes, or the float numbers that it predicts
        Samples of shape (height, width) or (channels, height, width) are taken as images.
    class_names : sequence of str, optional
    validation : str
        What the history's validation data are called.

    Returns
    -------
    list of Picture, or None
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return None
    pictures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as letters that matplotlib's font lacks
        for section, caption, figure in _figures(model, history, np.asarray(x), np.asarray(y), class_names, validation):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=2 * CSS_DPI)
            width = round(figure.get_size_inches()[0] * CSS_DPI)
            pictures.append(Picture(section, caption, buffer.getvalue(), width))
    return pictures


def _figures(
    model: Sequential, history: History, x: Array, y: Array, class_names: Sequence[str] | None, validation: str
) -> Iterator[tuple[str, str, Any]]:
    """Section, caption and figure of each picture that suits."""
    shape = x.shape[1:]
    names = None if class_names is None else [_name(name) for name in class_names]
    if history.epochs:
        caption = "The training's figures are means over an epoch, so of a network that was still learning."
        yield TRAINING, caption, draw_history(history, validation=validation)
    if y.dtype.kind == "f":
        caption = "What the network says (upwards) of numbers (to the right) that it was not trained with."
        yield PREDICTIONS, caption, _predictions(y, predict_raw(model, x)[:, 0])
        return
    classes = model.output_shape(shape)[0]
    if classes <= MOST_CLASSES:
        matrix = metrics.confusion_matrix(predict(model, x), y, classes)
        yield (
            CLASSES,
            "How often each class (row) was taken for each other (column).",
            plot.confusion_matrix(matrix, labels=names),
        )
    if len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3)):
        caption = "What the network was surest of and wrong about."
        yield MISTAKEN, caption, plot.mistakes(model, x, y, count=MISTAKES, labels=names)
    if shape == (2,):
        caption = "What the network takes each point of the plane for; the paler, the less sure it is."
        yield LEARNED, caption, plot.decision_boundary(model, x, y, labels=names)
    if len(shape) > 1 and _reads_inputs(model):
        caption = "What each unit of the first layer adds up: red counts for it, blue against it."
        yield LEARNED, caption, plot.weights(model, image_shape=shape)
    if any(isinstance(layer, Conv2d) for layer in model.layers):
        yield LEARNED, "What the first convolution looks for: red counts for it, blue against it.", plot.filters(model)


def _predictions(truth: Array, guess: Array) -> Any:
    """Predictions over the numbers themselves, beside the line where both are the same."""
    every = -(-len(truth) // MOST_POINTS)
    truth, guess = truth[::every], guess[::every]
    figure = new_figure(4.6, 4.2)
    ax = figure.subplots()
    ends = [min(truth.min(), guess.min()), max(truth.max(), guess.max())]
    ax.plot(ends, ends, color="0.6", linewidth=1)
    ax.scatter(truth, guess, s=9, alpha=0.5, color=COLOURS[0], linewidths=0)
    ax.set(xlabel="truth", ylabel="prediction", title="Predictions")
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _reads_inputs(model: Sequential) -> bool:
    """Whether the first layer with weights is a `Linear` that reads the samples themselves."""
    first = next((layer for layer in model.layers if not isinstance(layer, (Flatten, Normalize))), None)
    return isinstance(first, Linear)


def _name(name: str) -> str:
    """A class's name as a picture can show it: on one line, and not too long."""
    line = " ".join(str(name).split())
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"
