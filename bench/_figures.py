"""Figures beside their aims: the options of such a benchmark, and its report as it comes and as it is written down."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from _machine import ROOT, cores, describe


class Figure(NamedTuple):
    """One line of the table; an aim is a most, or where `at_least` says so a least."""

    what: str
    value: float | None
    unit: str
    aim: float
    at_least: bool = False
    remark: str = ""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return bool(self.value >= self.aim if self.at_least else self.value <= self.aim)  # no NumPy bool, for JSON

    def line(self) -> str:
        """A row of the Markdown table."""
        value = "not measured" if self.value is None else f"{self.value:.3g}{self.unit}"
        aim = f"{'≥' if self.at_least else '≤'} {self.aim:g}{self.unit}"
        met = {True: "yes", False: "no", None: ""}[self.met]
        return f"| {self.what} | {value} | {aim} | {met} | {self.remark} |"


def options(doc: str, name: str, quick: str) -> argparse.ArgumentParser:
    """The parser of a benchmark that writes ``name.json`` and ``name.md``; `quick` is how long its quick run takes."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--data-root", type=Path, help="folder with MNIST's four files (default: ../shared/data/mnist)")
    parser.add_argument("--quick", action="store_true", help=f"{quick}, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help=f"folder for {name}.json and .md")
    return parser


def mnist_root(args: argparse.Namespace) -> Path | None:
    """The folder of the full MNIST; None where the embedded sample is to do."""
    if args.data_root is not None and not args.data_root.is_dir():
        raise SystemExit(f"--data-root {args.data_root} is not a folder")
    root = args.data_root or ROOT.parent / "shared" / "data" / "mnist"
    return root if root.is_dir() and not args.quick else None


def run(
    name: str,
    title: str,
    how: str,
    parts: Iterable[Callable[[], list[Figure]]],
    answers: dict[str, Any],
    args: argparse.Namespace,
    settings: Any,
    data: str,
) -> None:
    """Measure part by part, print every figure, and write the report and all `answers` that the parts have kept."""
    machine, figures = describe(), []
    print(f"{machine['cpu']}, {cores()} cores; {data}", flush=True)
    for part in parts:
        for figure in part():
            figures.append(figure)
            print(figure.line(), flush=True)
    listed = [{**figure._asdict(), "met": figure.met} for figure in figures]
    about = {"machine": machine, "data": data, "quick": args.quick, "settings": settings._asdict()}
    args.out.mkdir(parents=True, exist_ok=True)
    result = {**about, "figures": listed, "answers": answers}
    (args.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    report = _markdown(title, figures, how, about)
    (args.out / f"{name}.md").write_text(report)
    print(f"\n{report}\nwritten to {args.out}: {name}.md, {name}.json")


def _markdown(title: str, figures: list[Figure], how: str, about: dict[str, Any]) -> str:
    machine = about["machine"]
    load, versions = machine["load_before"], machine["versions"]
    known = ", ".join(f"{package} {versions[package]}" for package in ("numba", "scikit-learn") if package in versions)
    on = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; Python {versions['python']}, {known}"
    when = f"commit {machine['commit']}; load before the run {'unknown' if load is None else f'{load:.2f}'}"
    lines = [
        f"# {title}",
        "",
        f"{on}; {when}. {about['data']}. {how}",
        "",
        *(["**A quick run: it shows that everything works; its figures mean little.**", ""] if about["quick"] else []),
        "| figure | measured | aim | met | how |",
        "|---|---|---|---|---|",
        *(figure.line() for figure in figures),
    ]
    return "\n".join(lines) + "\n"
