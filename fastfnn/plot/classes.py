"""Pictures of how a classifier divides its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn import metrics
from fastfnn._text import harmless
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.model import Sequential
from fastfnn.plot._figure import COLOURS, MARKERS, MUTED, Array, axes_or_new, columns_for, new_figure, say_instead
from fastfnn.training.inference import predict_proba

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: More classes than these get no numbers in their cells, which nobody could read.
MOST_NUMBERED = 40


def confusion_matrix(
    model_or_matrix: Sequential | ArrayLike,
    x: Any = None,
    y: ArrayLike | None = None,
    labels: Sequence[Any] | None = None,
    normalize: bool = False,
    ax: Any = None,
) -> Figure:
    """How often each class (row) was taken for each other (column).

    What was right is blue, mistakes are orange; both are the darker, the larger their share of the row.

    Parameters
    ----------
    model_or_matrix : Sequential, a fitted classifier of scikit-learn's kind, or (classes, classes) as
        `fastfnn.confusion_matrix` gives
    x, y : samples and their classes (labels or one-hot rows; for a classifier its own), with a model only
    labels : sequence of str, optional
        Names of the classes. Those of a classifier are its own.
    normalize : bool
        Write percentages of each row instead of counts.
    ax : Axes, optional

    Returns
    -------
    Figure
    """
    if hasattr(model_or_matrix, "classes_"):
        model_or_matrix, x, y, labels = _of_estimator(model_or_matrix, x, y, labels)
    matrix = _matrix(model_or_matrix, x, y)
    classes = len(matrix)
    names = _names(labels, classes)
    side = min(max(0.55 * classes, 3.2), 11.0)
    ax = axes_or_new(ax, side + 1.2, side + 1.2)
    rows = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    right = np.eye(classes, dtype=bool)
    worst = shares[~right].max(initial=0.0) or 1.0
    blue, orange = (
        ax.imshow(np.ma.masked_array(shares, hidden | (matrix == 0)), cmap=cmap, vmin=0.0, vmax=most)
        for hidden, cmap, most in ((~right, "Blues", 1.0), (right, "Oranges", worst))
    )
    texts = [[_cell(matrix[i, j], shares[i, j], normalize) for j in range(classes)] for i in range(classes)]
    longest = max(len(text) for line in texts for text in line)
    cell = min(ax.get_window_extent().size) / ax.figure.figure.dpi * 72 / classes
    points = min(11.0, cell * min(0.5, 1.4 / longest))
    for i, j in np.ndindex(matrix.shape) if classes <= MOST_NUMBERED else ():
        *colour, _ = (blue if i == j else orange).to_rgba(shares[i, j])
        dark = np.dot(colour, (0.299, 0.587, 0.114)) < 0.5
        ink = MUTED if not matrix[i, j] else "white" if dark else "black"
        ax.text(j, i, texts[i][j], ha="center", va="center", color=ink, fontsize=points)
    long = max(map(len, names)) > 3
    ticks = range(0, classes, -(-classes // MOST_NUMBERED))
    ax.set_xticks(ticks, [names[i] for i in ticks], rotation=45 if long else 0, ha="right" if long else "center")
    ax.set_yticks(ticks, [names[i] for i in ticks])
    ax.tick_params(length=0)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.set_title(_title(matrix, normalize))
    return ax.figure.figure


def mistakes(
    model: Sequential, x: ArrayLike, y: ArrayLike, count: int = 25, labels: Sequence[Any] | None = None
) -> Figure:
    """The samples that the model was surest of and wrong about, as images with their class and the model's guess.

    Parameters
    ----------
    model : Sequential
    x : (n, height, width), (n, 1 or 3, height, width), or (n, features) where their number is a square
    y : (n,) labels, or (n, classes) one-hot rows
    count : int
        Images at most.
    labels : sequence of str, optional
        Names of the classes.

    Returns
    -------
    Figure
    """
    count = check.positive_int("count", count)
    images = _images(np.asarray(x))
    probabilities = _probabilities(model, x)
    truth = _labels(y, *probabilities.shape)
    names = _names(labels, probabilities.shape[1])
    guess = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(guess != truth)
    sure = probabilities[wrong, guess[wrong]]
    order = np.argsort(-sure, kind="stable")[:count]
    every = f"{len(truth):,} sample{'s' * (len(truth) != 1)}"
    if not len(order):
        figure = new_figure(4.0, 2.0)
        say_instead(figure.subplots(), f"no mistakes among {every}")
        return figure
    columns = columns_for(len(order))
    rows = -(-len(order) // columns)
    lines = [
        f"true {names[truth[i]]}\nguess {names[guess[i]]} ({_percent(p)})"
        for i, p in zip(wrong[order], sure[order], strict=True)
    ]
    width = max(1.25, 0.075 * max(len(line) for text in lines for line in text.split("\n")))
    figure = new_figure(max(columns * width, 5.0), rows * 1.6 + 0.5)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    chosen = images[wrong[order]]
    low, high = (0, 255) if chosen.dtype == np.uint8 else _range(chosen)
    for ax, image, text in zip(axes, chosen, lines, strict=False):
        if image.ndim == 3:
            ax.imshow(np.clip((image - low) / (high - low), 0.0, 1.0))
        else:
            ax.imshow(image, cmap="gray", vmin=low, vmax=high)
        ax.set_title(text, fontsize=9)
    for ax in axes:
        ax.set_axis_off()
    surest = f"{len(order):,} surest of " if len(order) < len(wrong) else ""
    figure.suptitle(f"{surest}{len(wrong):,} mistake{'s' * (len(wrong) != 1)} among {every}")
    return figure


def decision_boundary(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    resolution: int = 200,
    ax: Any = None,
    labels: Sequence[Any] | None = None,
) -> Figure:
    """Where the model sees which class, for samples of two features: the paler, the less sure it is.

    Parameters
    ----------
    model : Sequential
        Takes (n, 2) arrays.
    x : (n, 2)
    y : (n,) labels, or (n, classes) one-hot rows
    resolution : int
        Points of the model's inputs along each axis.
    ax : Axes, optional
    labels : sequence of str, optional
        Names of the classes.

    Returns
    -------
    Figure
    """
    points = check.float_array("x", x)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InvalidValueError(f"x has shape {points.shape}; expected (n, 2)")
    if not np.isfinite(points).all():
        raise InvalidValueError("x holds numbers that are not finite; expected finite ones")
    resolution = check.positive_int("resolution", resolution, least=2)
    own = _probabilities(model, points)
    classes = own.shape[1]
    names = [f"class {i}" for i in range(classes)] if labels is None else _names(labels, classes)
    truth = _labels(y, *own.shape)
    guess = own.argmax(axis=1)

    sides = [np.linspace(*_range(points[:, i], margin=0.08), resolution) for i in (0, 1)]
    grid = np.stack(np.meshgrid(*sides), axis=-1)
    seen = _probabilities(model, grid.reshape(-1, 2).astype(points.dtype)).reshape(resolution, resolution, classes)

    ax = axes_or_new(ax, 5.4, 4.6)
    from matplotlib.colors import to_rgb

    palette = np.array([to_rgb(COLOURS[i % len(COLOURS)]) for i in range(classes)])
    winner = seen.argmax(axis=-1)
    # From a guess among all classes, which is white, to certainty, which is still paler than the points.
    certainty = (seen.max(axis=-1, keepdims=True) - 1 / classes) / (1 - 1 / classes)
    colours = 1.0 - 0.55 * np.nan_to_num(certainty) * (1.0 - palette[winner])
    (left, right), (bottom, top) = (side[[0, -1]] for side in sides)
    dx, dy = (side[1] - side[0] for side in sides)
    extent = (left - dx / 2, right + dx / 2, bottom - dy / 2, top + dy / 2)  # pixels lie around their points
    ax.imshow(colours, extent=extent, origin="lower", aspect="auto", interpolation="bilinear")
    for i in range(classes if classes > 2 else 1):
        lead = seen[..., i] - np.delete(seen, i, axis=-1).max(axis=-1)
        if lead.min() < 0 < lead.max():
            ax.contour(*sides, lead, levels=[0.0], colors="black", linewidths=1.0)
    for i in range(classes):
        look = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        mine = points[truth == i]
        if len(mine):
            ax.scatter(*mine.T, s=26, edgecolors="white", linewidths=0.6, label=names[i], **look)
    ax.set(xlabel="x[:, 0]", ylabel="x[:, 1]", xlim=(left, right), ylim=(bottom, top))
    accuracy = f": accuracy {np.mean(guess == truth):.1%}" if len(truth) else ""
    ax.set_title(f"Decision boundary{accuracy}")
    if len(truth):
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)  # beside, not on the points
    return ax.figure.figure


# What they have in common ----------------------------------------------------------------------------------------


def _probabilities(model: Sequential, x: Any) -> Array:
    """Class probabilities (n, classes); of two classes, too, where the model has one output."""
    out = predict_proba(model, x)
    if out.ndim != 2:
        raise InvalidValueError(f"model makes outputs of shape {out.shape}; expected (n, classes)")
    return np.hstack([1 - out, out]) if out.shape[1] == 1 else out


def _labels(y: ArrayLike, rows: int, classes: int) -> NDArray[np.int64]:
    """The class of each row, from labels, one-hot rows, or the zeros and ones that a binary loss takes."""
    array = np.asarray(y)
    if array.shape == (rows, 1):
        array = array[:, 0]
    elif array.ndim == 2 and array.shape[1] == classes:
        array = array.argmax(axis=1)
    if array.dtype.kind in "fb" and np.isin(array, np.arange(classes)).all():
        array = array.astype(np.int64)
    return check.labels("y", array, rows, classes)


def _names(labels: Any, classes: int) -> list[str]:
    if labels is None:
        return [str(i) for i in range(classes)]
    if isinstance(labels, str) or not isinstance(labels, (Sequence, np.ndarray)):
        raise InvalidTypeError(f"labels is {labels!r}; expected a sequence of names")
    if len(labels) != classes:
        raise InvalidValueError(f"labels has {len(labels)} names; expected {classes}, one for each class")
    return [harmless(str(label)).replace("$", r"\$") for label in labels]  # names are no formulas


def _of_estimator(estimator: Any, x: Any, y: Any, labels: Any) -> tuple[Array, None, None, Any]:
    """Counts of a fitted classifier, and the names of its classes."""
    for name, value in (("x", x), ("y", y)):
        if value is None:
            raise InvalidTypeError(f"{name} is None; expected the samples and their classes beside a classifier")
    classes, truth, guess = estimator.classes_, np.asarray(y), np.asarray(estimator.predict(x))
    if truth.shape != guess.shape or guess.ndim != 1:
        raise InvalidValueError(f"y has shape {truth.shape}; expected ({len(guess)},), a class for each row of x")
    unknown = np.setdiff1d(truth, classes)
    if len(unknown):
        raise InvalidValueError(f"y holds {unknown[0]!r}; expected the classes that the classifier knows: {classes}")
    cells = len(classes) * np.searchsorted(classes, truth) + np.searchsorted(classes, guess)
    counts = np.bincount(cells, minlength=len(classes) ** 2).reshape(len(classes), len(classes))
    return counts, None, None, classes if labels is None else labels


def _matrix(model_or_matrix: Any, x: Any, y: Any) -> Array:
    """The counts that were given, or those of a model."""
    if isinstance(model_or_matrix, Sequential):
        for name, value in (("x", x), ("y", y)):
            if value is None:
                raise InvalidTypeError(f"{name} is None; expected the samples and their classes beside a model")
        found = _probabilities(model_or_matrix, x)
        return metrics.confusion_matrix(found, _labels(y, *found.shape), found.shape[1])
    for name, value in (("x", x), ("y", y)):
        if value is not None:
            raise InvalidTypeError(f"{name} comes with a matrix; expected it with a Sequential only")
    matrix = np.asarray(model_or_matrix)
    if matrix.dtype.kind not in "fiub":
        came = type(model_or_matrix).__name__
        raise InvalidTypeError(f"model_or_matrix is {came}; expected a Sequential or a matrix of numbers")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InvalidValueError(f"model_or_matrix has shape {matrix.shape}; expected (classes, classes)")
    if not (np.isfinite(matrix) & (matrix >= 0)).all():
        raise InvalidValueError("model_or_matrix holds negative numbers or such as are not finite; expected counts")
    return matrix


def _cell(value: Any, share: float, normalize: bool) -> str:
    if normalize:
        return f"{100 * share:.1f}" if value else "0"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else f"{value:.3g}"


def _title(matrix: Array, normalize: bool) -> str:
    total, right = matrix.sum(), np.trace(matrix)
    accuracy = f"{right / total:.1%} right" if total else "no samples"
    if total and matrix.dtype.kind in "iu":
        accuracy += f" ({right:,} of {total:,})"
    return f"Confusion matrix: {accuracy}" + ("\nper cent of each true class" if normalize else "")


def _images(x: Array) -> Array:
    """(n, height, width), or (n, height, width, 3) of coloured ones."""
    shape, side = x.shape[1:], round(np.prod(x.shape[1:]) ** 0.5)
    if len(shape) == 1 and side * side == shape[0]:
        return x.reshape(-1, side, side)
    if len(shape) == 2:
        return x
    if len(shape) == 3 and shape[0] in (1, 3):
        return x[:, 0] if shape[0] == 1 else np.moveaxis(x, 1, -1)
    raise InvalidValueError(
        f"x has shape {x.shape}; expected images, (n, height, width) or (n, channels, height, width)"
    )


def _range(values: Array, margin: float = 0.0) -> tuple[float, float]:
    """The smallest and the largest, or numbers around them where they are the same; (-1, 1) for no values."""
    values = values[np.isfinite(values)]
    if not values.size:
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = margin * (high - low)
    return (low - room, high + room) if high > low else (low - 1.0, high + 1.0)


def _percent(probability: float) -> str:
    return ">99.9%" if probability > 0.999 else f"{probability:.1%}"
