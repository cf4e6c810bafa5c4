"""Pictures of how a training went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.plot._figure import COLOURS, MARKERS, Array, checked_axes, new_figure, say_instead
from fastfnn.training.callbacks import History
from fastfnn.training.lr_find import LRSweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What a panel shows: title, and the lists of training and validation.
PANELS = (("loss", ("loss", "val_loss")), ("accuracy", ("accuracy", "val_accuracy")))
MARKED_EPOCHS = 40


def history(history: History | Mapping[str, Any], ax: Any = None) -> Figure:
    """Losses by epoch, and in a second panel accuracies where there are any.

    The training's figures are means over an epoch, so of a model that was still learning: those of the validation data
    may be better.

    Parameters
    ----------
    history : History, or a dict such as `History.to_dict` gives
    ax : Axes, or a pair of them, optional
        For the losses, or for losses and accuracies.

    Returns
    -------
    Figure
    """
    return draw_history(history, ax)


def draw_history(history: Any, ax: Any = None, validation: str = "validation") -> Figure:
    """The same, where the validation data may have another name."""
    curves = _curves(history)
    if ax is None:
        panels = [panel for panel in PANELS if any(name in curves for name in panel[1])] or list(PANELS[:1])
        axes = new_figure(4.6 * len(panels), 3.8).subplots(1, len(panels), squeeze=False)[0]
    else:
        axes = ax if isinstance(ax, (tuple, list, np.ndarray)) else [ax]
        if len(axes) not in (1, 2):
            raise InvalidValueError(f"ax has {len(axes)} entries; expected one Axes, or a pair of them")
        axes, panels = [checked_axes("ax", one) for one in axes], list(PANELS[: len(axes)])
    for one, (title, names) in zip(axes, panels, strict=True):
        _draw(one, title, [curves.get(name) for name in names], validation)
    return axes[0].figure.figure


def lr_find(sweep: LRSweep, ax: Any = None) -> Figure:
    """The loss over the learning rate of a sweep, and the rate that it suggests.

    Parameters
    ----------
    sweep : LRSweep
        From `fastfnn.lr_find`.
    ax : Axes, optional

    Returns
    -------
    Figure
    """
    if not isinstance(sweep, LRSweep):
        raise InvalidTypeError(f"sweep is {type(sweep).__name__}; expected what lr_find returns")
    one = new_figure(5.6, 3.8).subplots() if ax is None else checked_axes("ax", ax)
    one.plot(sweep.lr, sweep.loss, color=COLOURS[0], alpha=0.3, linewidth=1.2, label="a step's loss")
    one.plot(sweep.lr, sweep.smoothed, color=COLOURS[0], linewidth=1.8, label="smoothed")
    one.axvline(sweep.suggestion, color=COLOURS[1], linestyle="--", label=f"suggestion: {sweep.suggestion:.2g}")
    one.set_xscale("log")
    one.set(xlabel="learning rate", ylabel="loss")
    # The last losses may be of any height; the curve is what counts.
    low, high = float(sweep.smoothed.min()), float(sweep.smoothed.max())
    one.set_ylim(low - 0.1 * (high - low or 1), high + 0.1 * (high - low or 1))
    _finish(one, "Learning rate", 3)
    return one.figure.figure


def _curves(history: Any) -> dict[str, Array]:
    """The lists that have something to show; a regression's accuracies are NaN."""
    if not isinstance(history, (History, Mapping)):
        raise InvalidTypeError(f"history is {type(history).__name__}; expected a History, or a dict of lists")
    lists = history.columns() if isinstance(history, History) else history
    known = [name for _, names in PANELS for name in names]
    if not any(name in lists for name in known):
        raise InvalidValueError(f"history has the keys {list(lists)}; expected one of {', '.join(known)}")
    curves = {}
    for name in known:
        try:
            values = np.asarray(lists.get(name, ()), np.float64)
        except (TypeError, ValueError):
            raise InvalidTypeError(f"history[{name!r}] is {lists[name]!r}; expected a list of numbers") from None
        if values.ndim != 1:
            raise InvalidValueError(f"history[{name!r}] has shape {values.shape}; expected a number for each epoch")
        if np.isfinite(values).any():
            curves[name] = values
    return curves


def _draw(ax: Any, title: str, curves: list[Array | None], validation: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if all(curve is None for curve in curves):
        say_instead(ax, f"no {title} to draw yet")
        return
    for curve, name, colour, marker in zip(curves, ("training", validation), COLOURS, MARKERS, strict=False):
        if curve is None:
            continue
        last = f"{curve[-1]:.1%}" if title == "accuracy" else f"{curve[-1]:.3g}"
        points = marker if len(curve) <= MARKED_EPOCHS else None
        look: dict[str, Any] = {"color": colour, "marker": points, "markersize": 4, "linewidth": 1.8}
        ax.plot(np.arange(1, len(curve) + 1), curve, label=f"{name} (last: {last})", **look)
    ax.set(xlabel="epoch", ylabel=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if title == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finish(ax, title.capitalize(), 2)


def _finish(ax: Any, title: str, columns: int) -> None:
    """Title and legend, the latter between the title and the axes, where no curve runs."""
    ax.set_title(title, pad=24)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    where: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.98), "ncols": columns}
    ax.legend(**where, fontsize=9, columnspacing=1.5, frameon=False)
