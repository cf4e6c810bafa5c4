"""The picture of `peers.py`: how many times longer each peer takes than fastfnn, task by task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _peers_report import best, duration, fallen, headline, peers

COLOURS = {
    "NumPy exercise": "#8c8c8c",
    "scikit-learn": "#e0a030",
    "PyTorch": "#d1495b",
    "PyTorch by hand": "#eda6ae",
    "JAX": "#3d6fb4",
    "ONNX Runtime": "#2e8b6f",
}
BAR, GAP, PAD = 0.16, 0.12, 1.5  # inches: a bar, between two tasks, title and axis


def plot(result: dict[str, Any], path: Path) -> bool:
    """A bar for each peer and task; False where there is nothing to compare with, or no matplotlib."""
    tasks = [(task, headline(task)) for task in result["tasks"]]
    ratios = [
        {name: entry["median_s"] / ours["median_s"] for name in peers([task]) if ours and (entry := best(task, name))}
        for task, ours in tasks
    ]
    if not any(ratios):
        return False
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
        from matplotlib.ticker import FuncFormatter, NullFormatter
    except ImportError:
        print('No picture: matplotlib is missing (pip install "fastfnn[plot]").')
        return False

    bars = sum(2 if fallen(task) else len(own) for (task, _), own in zip(tasks, ratios, strict=True))
    height = bars * BAR + len(tasks) * GAP + PAD
    figure = Figure(figsize=(9, height), dpi=120, layout="constrained")
    axis: Any = figure.subplots()
    place, ticks, names = 0.0, [], []
    for (task, ours), own in zip(tasks, ratios, strict=True):
        if not own and not fallen(task):
            continue
        top = place
        if fallen(task):
            axis.annotate(
                "fastfnn fell out: see the report", (1, place + BAR / 2), va="center", color="red", fontsize=8
            )
            place += 2 * BAR  # room for the label's two lines
        for name, ratio in sorted(own.items(), key=lambda item: -item[1]):
            axis.barh(place + BAR / 2, ratio - 1, BAR * 0.86, left=1, color=COLOURS.get(name, "#555555"))
            faster = ratio >= 1
            label, side = _factor(ratio), {"ha": "left" if faster else "right", "va": "center", "fontsize": 8}
            offset = (3 if faster else -3, 0)
            axis.annotate(label, (ratio, place + BAR / 2), offset, textcoords="offset points", **side)
            place += BAR
        ticks.append((top + place) / 2)
        names.append(_label(task, ours))
        place += GAP
        axis.axhline(place - GAP / 2, color="#dddddd", linewidth=0.6, zorder=0)

    axis.set_xscale("log")
    every = [ratio for own in ratios for ratio in own.values()]
    axis.set_xlim(min(0.6, 0.6 * min(every)), max(2.0, 1.6 * max(every)))  # room for the labels
    axis.set_ylim(place, -GAP)
    axis.axvline(1, color="black", linewidth=1.2)
    axis.set_yticks(ticks, names, fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x", color="#cccccc", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_xlabel("time of the peer / time of fastfnn (log scale); right of the line fastfnn is faster")
    shown = [name for name in COLOURS if any(name in own for own in ratios)]
    handles = [Patch(color=COLOURS[name], label=name) for name in shown]
    look: dict[str, Any] = {"ncols": len(handles), "fontsize": 9, "title_fontsize": 13, "frameon": False}
    title = "How many times longer each peer's best variant takes than fastfnn"
    figure.legend(handles=handles, loc="outside upper center", title=title, **look)
    figure.savefig(path)
    return True


def _factor(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if ratio >= 1.5 else f"{ratio:.2f}×"


def _label(task: dict[str, Any], ours: dict[str, Any] | None) -> str:
    """Task, rows, and the time that stands behind the ratios."""
    own = f": {duration(ours['median_s'])}" if ours else ""
    return f"{task['title']}\n{task['batch']:,} row{'s' * (task['batch'] > 1)}{own}"
