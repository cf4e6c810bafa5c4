"""What the pictures share: figures without pyplot, colours, small images side by side."""

from __future__ import annotations

import io
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfnn.errors import InvalidTypeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]

#: Okabe and Ito's palette, which stays apart for colour-blind readers, its two strongest contrasts first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "os^DvPX"  # one fewer than colours: only after 56 classes do both come again
DIVERGING = "RdBu_r"
MUTED = "#8c8c8c"


def new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure of so many inches that notebooks show, though pyplot does not know it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('fastfnn.plot needs the package matplotlib (pip install "fastfnn[plot]")') from error
    figure: Any = Figure(figsize=(width, height), layout=layout)
    figure._repr_png_ = partial(_png, figure)
    return figure


def _png(figure: Figure) -> bytes:
    """What IPython asks an object for; only pyplot would register figures themselves."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def axes_or_new(ax: Any, width: float, height: float) -> Any:
    """`ax`, or the axes of a new figure."""
    return new_figure(width, height).subplots() if ax is None else checked_axes("ax", ax)


def checked_axes(name: str, ax: Any) -> Any:
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise InvalidTypeError(f"{name} is {type(ax).__name__}; expected matplotlib's Axes")
    return ax


def say_instead(ax: Any, text: str) -> None:
    """`text` where there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def columns_for(tiles: int) -> int:
    """A number of columns that makes a nearly square grid, with full rows where that is possible."""
    least = math.ceil(math.sqrt(tiles))
    return next((columns for columns in range(least, 2 * least) if tiles % columns == 0), least)


def mosaic(tiles: Array, columns: int) -> tuple[Array, Array, Array]:
    """Tiles (n, height, width) in rows of `columns`, gaps of NaN between them.

    Returns
    -------
    image : (…, …) float64
    x, y : centres of the columns and rows
    """
    count, height, width = tiles.shape
    gap = max(1, max(height, width) // 14)
    rows = -(-count // columns)
    padded = np.full((rows * columns, height + gap, width + gap), np.nan)
    padded[:count, :height, :width] = tiles
    image = padded.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    image = image.reshape(rows * (height + gap), columns * (width + gap))[:-gap, :-gap]
    return image, _centres(columns, width, gap), _centres(rows, height, gap)


def _centres(count: int, size: int, gap: int) -> Array:
    return np.arange(count) * (size + gap) + (size - 1) / 2


def draw_tiles(tiles: Array, columns: int, inches: float, *, title: str, xlabel: str, ylabel: str | None = None) -> Any:
    """A figure of signed tiles (n, height, width) on one scale around zero, with numbers at columns and rows.

    Parameters
    ----------
    inches : float
        Width of a tile, where the figure does not become too large or too small by it.
    ylabel : str, optional
        What rows are counted by; without it they go on counting what columns count.
    """
    image, x, y = mosaic(tiles, columns)
    ratio = image.shape[0] / image.shape[1]
    width = min(max(columns * inches, 3.0), 11.0, 11.0 / ratio)
    height = width * ratio
    # Placed by hand: matplotlib's layouts do not know that the image's aspect decides how large the axes become.
    side = max(0.75, (3.8 - width) / 2)  # for labels, and for the title of a narrow image
    full_width, full_height = side + width + side + 0.3, 0.6 + height + 0.6
    figure = new_figure(full_width, full_height, layout=None)
    ax = figure.add_axes((side / full_width, 0.6 / full_height, width / full_width, height / full_height))
    beside = ((side + width + 0.12) / full_width, 0.6 / full_height, 0.15 / full_width, height / full_height)
    finite = tiles[np.isfinite(tiles)]
    scale = float(np.abs(finite).max(initial=0.0)) or 1.0  # all zeros: the middle of some scale
    shown = ax.imshow(image, cmap=DIVERGING, vmin=-scale, vmax=scale, interpolation="nearest")
    rows = [str(i) for i in range(len(y))]
    if ylabel is None:
        rows = [f"{i * columns} +" for i in range(len(y))] if len(y) > 1 else [""]
    for axis, places, texts, size in (
        (ax.xaxis, x, [str(i) for i in range(columns)], width),
        (ax.yaxis, y, rows, height),
    ):
        every = math.ceil(len(places) * 0.3 / size)  # a label needs so much room
        axis.set_ticks(places[::every], texts[::every], fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    broken = tiles.size - finite.size
    ax.set_title(title + (f"\n{broken:,} not finite, left blank" if broken else ""), fontsize=11)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(shown, cax=figure.add_axes(beside), label="weight")
    return figure
