"""The peers table as Markdown, from the figures that `peers.py` measured."""

from __future__ import annotations

from typing import Any

from contenders.common import step_flops

#: What fastfnn is compared by, for each task: its documented form with default settings.
HEADLINE = {"step": "fit", "loss": "kernel", "inference": "predict_raw"}
TITLES = {"step": "training step", "loss": "softmax cross-entropy + gradient", "inference": "inference"}


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
    own = (e for e in timed(task).values() if e["family"] == "fastfnn" and e["variant"] == HEADLINE[task["task"]])
    return next(own, None)


def best(task: dict[str, Any], family: str) -> dict[str, Any] | None:
    """The variant of a family with the lowest median."""
    entries = [entry for entry in timed(task).values() if entry["family"] == family]
    return min(entries, key=lambda entry: entry["median_s"], default=None)


def _overview(result: dict[str, Any], families: list[str]) -> list[str]:
    """One line a task: the time of fastfnn, of each peer's best variant, and how many times slower that is."""
    lines = [
        f"| task | rows | fastfnn | share of peak | {' | '.join(families)} |",
        "|---" * (4 + len(families)) + "|",
    ]
    for task in result["tasks"]:
        ours, share = headline(task), ""
        if ours is not None and task["task"] == "step":
            rate = step_flops(task["batch"]) / ours["median_s"] / 1e9
            share = f"{rate / (task['peak_gflops_per_core'] * result['machine']['cores']):.0%}"
        cells = []
        for family in families:
            entry = best(task, family)
            ratio = f" ({entry['median_s'] / ours['median_s']:.2f}×)" if entry and ours else ""
            cells.append(duration(entry["median_s"]) + ratio if entry else "")
        own = duration(ours["median_s"]) if ours else ""
        lines.append(f"| {TITLES[task['task']]} | {task['batch']:,} | {own} | {share} | {' | '.join(cells)} |")
    return lines


def _details(task: dict[str, Any]) -> list[str]:
    """All finalists of a task: median, minimum, first call, and the figures that were checked."""
    entries = timed(task)
    if not entries:
        return []
    figures = list(next(iter(entries.values()))["check"])
    lines = [
        f"### {TITLES[task['task']]}, {task['batch']:,} rows",
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
    families = list(
        dict.fromkeys(
            entry["family"]
            for task in result["tasks"]
            for entry in task["contenders"].values()
            if entry["family"] != "fastfnn"
        )
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = machine["load_before"]
    lines = [
        "# fastfnn beside its peers",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {versions}; commit {machine['commit']}; "
        f"copy {result['copy_gbytes_per_s']:.1f} GB/s; load before the run "
        f"{'unknown' if load is None else f'{load:.2f}'}; the run took {result['seconds']:.0f} s.",
        "",
        f"MLP 784-100-10, SGD, float32, on {result['data']}. Medians of {settings['rounds']} interleaved rounds, each "
        f"sample about {settings['sample_seconds'] * 1e3:.0f} ms; (n×): how many times faster fastfnn is than this "
        "peer's best variant. The learning rate is 0.1, below a batch of 64 it is 0.1 · batch / 64. fastfnn is `fit` "
        "with default threads, whole calls timed. Share of peak: dense arithmetic over the FMA peak of all cores.",
        "",
    ]
    if result["quick"]:
        lines += ["**A quick run: it shows that everything works; its figures mean little.**", ""]
    lines += [*_overview(result, families), ""]
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
