"""Tables and picture of `full_batch_vs_minibatch.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _full_batch_runs import EPOCHS, EPSILON, EXERCISES, GOALS, IMAGES, Pair, Run

import fastfnn as ff


def pair(figures: Pair | None) -> str:
    """Loss / accuracy."""
    if figures is None:
        return "–"
    loss, accuracy = figures
    return f"{loss:.2f} / {accuracy:.3f}" if loss >= 1 else f"{loss:.4f} / {accuracy:.4f}"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table that reads well as text too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return "\n".join("| " + " | ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def exercise_table(runs: dict[str, list[Run]]) -> str:
    """Loss / accuracy as the exercise printed them, beside ours."""
    rows = []
    for exercise, ours, plain in zip(EXERCISES, runs["with epsilon"], runs["without epsilon"], strict=True):
        last = len(ours.loss) - 1
        title = f"{exercise.title} ({exercise.source})"
        for epoch in [*sorted({0, last, *(k for k in ours.printed if 0 <= k <= last)} - {-1}), -1]:
            place = "test" if epoch < 0 else f"epoch {epoch}"
            rows.append(
                (title, place, *map(pair, (ours.printed.get(epoch), ours.figures(epoch), plain.figures(epoch))))
            )
            title = ""
    return table(("run", "loss / accuracy at", "printed", "fastfnn, its epsilon", "fastfnn, no epsilon"), rows)


def bias_line(runs: dict[str, list[Run]]) -> str:
    """How far the run with a bias vector is from that with a column of ones."""
    column, vector = runs["with epsilon"][0], runs["bias vector"][0]
    apart = [abs(a - b) / a for a, b in zip(column.loss, vector.loss, strict=False)]
    if not apart:
        return "The run with a bias vector has no finished epoch."
    return (
        "With the bias as a vector instead of a column of ones, the first run's training loss differs by at most "
        f"{max(apart[:10]):.0e} of itself in the first {len(apart[:10])} epochs, and by {max(apart):.0e} in all "
        f"{len(apart)} (rounding); test {pair(vector.figures(-1))}."
    )


def cost_table(runs: list[Run]) -> str:
    """What each run took and reached."""
    rows = []
    for run in runs:
        size = (f"{len(run.loss)}", f"{run.updates:,}", f"{run.total_seconds:.1f}")
        reached = [run.reached(goal) for goal in GOALS]
        times = [f"{found[0]} / {found[1]:.1f}" if found else "–" for found in reached]
        rate = f"{run.samples_per_second or 0:,.0f}"
        rows.append((run.title, *size, rate, pair(run.train_after), pair(run.figures(-1)), *times))
    figures = ("epochs", "updates", "seconds", "samples/s", "train after", "test after")
    return table(("run", *figures, *(f"epochs / s to {goal:.0%}" for goal in GOALS)), rows)


def markdown(results: dict[str, Any]) -> str:
    """The tables, with what they stand on."""
    about, exercise = results["about"], results["exercise"]
    load = "" if about["load_before"] is None else f", load average {about['load_before']:.1f} at the start"
    alike = results["sensible"][0].samples == IMAGES and about["epochs"] == EPOCHS
    return f"""# Full batch against minibatch

{about["data"]}; {about["cpu"]}, {about["cores"]} cores{load}; fastfnn {ff.__version__}, commit {about["commit"]}.
Made by `python bench/full_batch_vs_minibatch.py`; the curves are in the JSON and the PNG of the same name.

## The exercise's settings, beside what it printed

785-100-10, weights from N(0, 1), gradient of the batch's sum. Its epsilon is {EPSILON:g} inside the logarithm, which
caps a sample's loss at 27.6 and takes the gradient from samples beyond that; the printed figures need it. Without it,
the loss is the cross-entropy as it is.

The weights are other draws than the exercise's, and with the epsilon a draw matters: a class whose images are all
beyond the cap gets no gradient and is never predicted until chance frees it, which shows as steps in the curves.
{"" if alike else f"Not comparable: the exercise had {EPOCHS} epochs of {IMAGES:,} images." + chr(10)}
{exercise_table(exercise)}

{bias_line(exercise)}

{cost_table([run for runs in exercise.values() for run in runs])}

## Sensible settings

784-100-10 with a bias in both layers, He start, mean loss, normalised pixels.

{cost_table(results["sensible"])}
"""


# The picture ------------------------------------------------------------------------------------------------------


def plot(results: dict[str, Any], path: Path) -> bool:
    """Training loss and test accuracy, over epochs and over seconds; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.ticker import FuncFormatter, NullFormatter
    except ImportError:
        print('No picture: matplotlib is missing (pip install "fastfnn[plot]").')
        return False
    exercise = results["exercise"]
    warm, cold = ("#b3261e", "#e58a3c", "#9467bd", "#7a5230"), ("#9ecae1", "#4292c6", "#08519c", "#1b7837")
    styled: list[Any] = [(run, colour, "--") for run, colour in zip(exercise["with epsilon"], warm, strict=True)]
    # Without the epsilon, the second run is one more draw of the first, and the third is as with it.
    styled += [(exercise["without epsilon"][i], warm[i], ":") for i in (0, 3)]
    styled += [(run, colour, "-") for run, colour in zip(results["sensible"], cold, strict=True)]

    figure = Figure(figsize=(12, 9.6), dpi=110, layout="constrained")
    axes: Any = figure.subplots(2, 2, sharey="row")
    for run, colour, style in styled:
        # A training figure belongs to the start of its epoch with a full batch, else to its middle; a test figure
        # to its end.
        share = 0.0 if run.settings["batch_size"] is None else 0.5
        seconds, epochs = np.array(run.seconds), np.arange(len(run.loss))
        ends = np.cumsum(seconds)
        kept = {"color": colour, "linestyle": style, "linewidth": 1.8 if style == "-" else 1.4}
        axes[0, 0].plot(epochs + share, run.loss, **kept)
        at = ends - (1 - share) * seconds
        axes[0, 1].plot(at[at > 0], np.array(run.loss)[at > 0], **kept)  # a logarithmic axis has no zero
        axes[1, 0].plot(epochs + 1, run.test_accuracy, **kept)
        axes[1, 1].plot(ends, run.test_accuracy, **kept)
        dot = {"color": colour, "marker": "o", "markersize": 7, "markeredgecolor": "white", "linestyle": "none"}
        for epoch, (loss, accuracy) in run.printed.items() if style == "--" else ():
            if epoch < len(run.loss):
                axis, place = (
                    (axes[1, 0], (len(run.loss), accuracy)) if epoch < 0 else (axes[0, 0], (epoch + share, loss))
                )
                axis.plot(*place, zorder=5, clip_on=False, **dot)

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    percents = (0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    for left, right, name, scale in (
        (*axes[0], "training loss (mean; log scale)", "log"),
        (*axes[1], "test accuracy (logit scale)", "logit"),
    ):
        left.set(xlabel="epochs", ylabel=name, yscale=scale)
        right.set(xlabel="seconds of training (log scale)", xscale="log")
        right.xaxis.set_major_formatter(plain)
    axes[0, 0].yaxis.set_major_formatter(plain)
    axes[1, 0].set_yticks(percents, [f"{value:.0%}" for value in percents])
    axes[1, 0].yaxis.set_minor_formatter(NullFormatter())
    axes[1, 0].set_ylim(0.06, 0.985)
    figure.suptitle(f"Full batch against minibatch, MLP 784-100-10\n{results['about']['data']}", fontsize=13)
    handles = [Line2D([], [], color=colour, linestyle=style, label=run.title) for run, colour, style in styled]
    dots: dict[str, Any] = {"color": "#555555", "marker": "o", "linestyle": "none", "label": "printed by the exercise"}
    handles[6:6] = [Line2D([], [], **dots), Line2D([], [], linestyle="none", label=" ")]
    title = "dashed and dotted: the exercise's settings; solid: sensible settings"
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10, frameon=False, title=title)
    figure.savefig(path)
    return True
