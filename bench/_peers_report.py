"""The peers table as Markdown, from the figures that `peers.py` measured."""

from __future__ import annotations

from typing import Any

from _peers_judge import ANY_TOLERANCE, LENIENT, OURS
from contenders.networks import CIFAR, DENSE, NETWORKS, TABLE, TANH_MLP

#: What fastfnn is compared by, for each kind of task: its documented form with default settings.
HEADLINE = {
    "step": "fit",
    "inference": "Predictor",
    "labels": "FNNClassifier.predict",
    "forward": "Predictor",
    "gradients": "kernels",
    "loss": "kernel",
}


def duration(seconds: float) -> str:
    """Microseconds, or milliseconds from 10,000 µs on."""
    if seconds >= 0.01:
        return f"{seconds * 1e3:,.1f} ms" if seconds < 1 else f"{seconds * 1e3:,.0f} ms"
    return f"{seconds * 1e6:,.1f} µs" if seconds < 1e-4 else f"{seconds * 1e6:,.0f} µs"


def timed(task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Contenders that came to the final rounds."""
    return {key: entry for key, entry in task["contenders"].items() if "median_s" in entry}


def headline(task: dict[str, Any]) -> dict[str, Any] | None:
    """fastfnn's entry in a task."""
    own = (e for e in timed(task).values() if e["family"] == OURS and e["variant"] == HEADLINE[task["task"]])
    return next(own, None)


def fallen(task: dict[str, Any]) -> bool:
    """Whether there is no such entry, though there should be one."""
    return f"{OURS}: {HEADLINE[task['task']]}" in task["fallen"]


def best(task: dict[str, Any], family: str) -> dict[str, Any] | None:
    """The variant of a family with the lowest median."""
    entries = [entry for entry in timed(task).values() if entry["family"] == family]
    return min(entries, key=lambda entry: entry["median_s"], default=None)


def peers(tasks: list[dict[str, Any]]) -> list[str]:
    """The families beside fastfnn that have an entry in one of the tasks."""
    entries = (entry for task in tasks for entry in task["contenders"].values())
    return list(dict.fromkeys(entry["family"] for entry in entries if entry["family"] != OURS))


def _overviews(result: dict[str, Any]) -> list[str]:
    """A table for the networks without convolutions, and one for the others: their peers are not the same."""
    lines = []
    for flat in (True, False):
        tasks = [task for task in result["tasks"] if _is_flat(task) == flat]
        if tasks:
            lines += [*_overview(tasks, result["machine"]["cores"]), ""]
    return lines


def _is_flat(task: dict[str, Any]) -> bool:
    return not task["network"] or not NETWORKS[task["network"]].of_images


def _overview(tasks: list[dict[str, Any]], cores: int) -> list[str]:
    """One line a task: the time of fastfnn, of each peer's best variant, and how many times slower that is."""
    families = peers(tasks)
    header = ["task", "rows", "fastfnn", "share of peak", *families]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for task in tasks:
        ours, share = headline(task), ""
        if ours is not None and task["flops"]:
            rate = task["flops"] / ours["median_s"] / 1e9
            share = f"{rate / (task['peak_gflops_per_core'] * cores):.0%}"
        cells = []
        for family in families:
            entry = best(task, family)
            ratio = f" ({entry['median_s'] / ours['median_s']:.2f}×)" if entry and ours else ""
            cells.append(duration(entry["median_s"]) + ratio if entry else "")
        own = duration(ours["median_s"]) if ours else "**fell out**" if fallen(task) else ""
        row = [task["title"], f"{task['batch']:,}", own, share, *cells]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def blas_lines(result: dict[str, Any]) -> list[str]:
    """What NumPy multiplies matrices by, process by process."""
    if result["blas_missing"]:
        return [f"Which kernels NumPy's BLAS runs is not known: {result['blas_missing']} is not installed."]
    return [f"BLAS of {name}: {libraries}" for name, libraries in result["blas"].items()]


def _details(task: dict[str, Any]) -> list[str]:
    """All finalists of a task: median, minimum, first call, and the figures that were checked."""
    entries = timed(task)
    if not entries:
        return []
    figures = list(next(iter(entries.values()))["check"])
    lines = [
        f"### {task['title']}, {task['batch']:,} rows",
        "",
        f"FMA peak in the same rounds: {task['peak_gflops_per_core']:.0f} GFLOP/s a core.",
        "",
        f"| contender | median | minimum | first call | {' | '.join(figures)} |",
        "|---" * (4 + len(figures)) + "|",
    ]
    for key, entry in sorted(entries.items(), key=lambda item: item[1]["median_s"]):
        checked = " | ".join(f"{entry['check'][figure]:.5g}" for figure in figures)
        lines.append(
            f"| {key} | {duration(entry['median_s'])} | {duration(entry['minimum_s'])} | {entry['first_s']:.2f} s "
            f"| {checked} |"
        )
    out = [key for key in task["contenders"] if key not in entries]
    if out:
        heats = [f"{key} ({duration(task['contenders'][key]['heat']['minimum_s'])})" for key in out]
        lines += ["", f"Slower in the heats (minimum): {'; '.join(heats)}."]
    return [*lines, ""]


def markdown(result: dict[str, Any]) -> str:
    """The whole report."""
    machine, settings = result["machine"], result["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = machine["load_before"]
    lenient = "; ".join(f"{family} by {share:g}" for family, share in LENIENT.items())
    lines = [
        "# fastfnn beside its peers",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {versions}; commit {machine['commit']}; "
        f"copy {result['copy_gbytes_per_s']:.1f} GB/s; load before the run "
        f"{'unknown' if load is None else f'{load:.2f}'}; the run took {result['seconds']:.0f} s.",
        "",
        f"SGD, float32, on {result['data']}. Medians of {settings['rounds']} interleaved rounds, each sample about "
        f"{settings['sample_seconds'] * 1e3:.0f} ms; (n×): how many times faster fastfnn is than this peer's best "
        "variant. The learning rate is 0.1, with convolutions 0.05, below a batch of 64 in proportion to it. "
        f"{TANH_MLP} and {TABLE} learn by Adam at 0.001, the latter a number by the mean squared error; they, {DENSE} "
        f"and, at a rate of 0.001, the {CIFAR} (conv32-conv32-pool-conv64-conv64-pool-256-10, 3×3, on 3×32×32) learn "
        "from normally distributed rows what a linear map makes of them. fastfnn is `fit` with default threads, and in "
        "inference a `Predictor`, whole calls timed; a classifier is `FNNClassifier`, beside `MLPClassifier` and an "
        "ONNX graph that ends in the labels. Share of peak: dense arithmetic over the FMA peak of all cores. A conv "
        "block is a convolution 3×3 (padding 1) with bias, ReLU and max-pooling 2×2; backward, gradients of weight, "
        "bias and, with more than one input channel, the inputs.",
        "",
    ]
    lines += [
        "Before it is timed, a contender's results are compared with the others': of inference, losses and gradients "
        "the numbers; of a training step the losses after its first steps (``loss 4``: after four), from the same "
        f"weights and batches. They may differ by {ANY_TOLERANCE:g} of what the loss has changed by since the start; "
        f"{lenient}. Up to sixty steps later, when rounding has grown, the loss must only have fallen.",
        "",
    ]
    for error in result["errors"]:
        lines += [f"**Error: a row of fastfnn's own fell out. {error}**", ""]
    for warning in result["warnings"]:
        lines += [f"**Warning: {warning}.**", ""]
    if blas := blas_lines(result):
        lines += [*(f"- {line}" for line in blas), ""]
    if result["quick"]:
        lines += ["**A quick run: it shows that everything works; its figures mean little.**", ""]
    lines += [*_overviews(result)]
    lines += [f"Skipped: {family} ({', '.join(names)} not installed)." for family, names in result["skipped"].items()]
    if result["problems"]:
        lines += ["", "Left out:", "", *(f"- {problem}" for problem in result["problems"])]
    if result["imports"]:
        lines += ["", "| import in a fresh process | median | minimum |", "|---|---|---|"]
        for name, times in result["imports"].items():
            lines.append(f"| {name} | {times['median_s']:.2f} s | {times['minimum_s']:.2f} s |")
    lines += ["", "## All variants", ""]
    for task in result["tasks"]:
        lines += _details(task)
    return "\n".join(lines).rstrip() + "\n"
