"""Whose figures count: what every contender of `peers.py` must come to before it is timed.

A training step is judged by the losses after its first few steps. Later ones are no judge: rounding grows from step to
step, and two right trainings of LeNet-5 differ by percents after sixty. They are only asked for more than nothing:
that they are numbers, and below the loss before the first step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

OURS = "fastfnn"
#: Difference from the others that is let pass: of a training a share of what its loss has changed by so far (or of
#: `LEAST_CHANGE` of the loss, if that is more), of everything else a share of the figure itself.
TOLERANCE = {"loss": 1e-4}
ANY_TOLERANCE = 1e-3  # rounding was seen to make 3e-5 of a training's change
LEAST_CHANGE = 1e-3
#: Families whose trainings are not quite the others': the exercise's second layer has no bias, and scikit-learn has
#: batches of its own from the second on (0.02 and 0.04 were seen). They have no say about the others.
LENIENT = {"NumPy exercise": 0.05, "scikit-learn": 0.1}


def judge(kind: str, entries: Mapping[str, Mapping[str, Any]], before: float | None = None) -> dict[str, str]:
    """Who must not be timed, and why.

    Parameters
    ----------
    kind : str
        Of the task.
    entries : dict of contender to its entry
        With ``family``, ``check`` (figures by name) and, of a training, ``late``.
    before : float, optional
        The loss before the first step, of a training.
    """
    wrong: dict[str, str] = {}
    for figure in dict.fromkeys(name for entry in entries.values() for name in entry["check"]):
        own = {key: entry for key, entry in entries.items() if figure in entry["check"]}
        middle = _middle(figure, own.values())
        for key, entry in own.items():
            value = entry["check"][figure]
            if not abs(value - middle) <= _allowed(kind, entry["family"], middle, before):
                wrong.setdefault(key, f"{figure} is {value:.6g}, the others' {middle:.6g}")
    for key, entry in entries.items():
        for figure, value in entry.get("late", {}).items():
            if before is not None and not (math.isfinite(value) and value < before):
                wrong.setdefault(key, f"{figure} is {value:.6g} in the end, {before:.6g} before the first step")
    return wrong


def _middle(figure: str, entries: Iterable[Mapping[str, Any]]) -> float:
    """The median of the families' medians: one voice each, however many variants a family has."""
    voices: dict[str, list[float]] = {}
    for entry in entries:
        voices.setdefault(entry["family"], []).append(entry["check"][figure])
    strict = [values for family, values in voices.items() if family not in LENIENT]
    return statistics.median(statistics.median(values) for values in strict or voices.values())


def _allowed(kind: str, family: str, middle: float, before: float | None) -> float:
    tolerance = TOLERANCE.get(kind, ANY_TOLERANCE)
    if kind != "step" or before is None:
        return tolerance * abs(middle)
    return LENIENT.get(family, tolerance) * max(abs(before - middle), LEAST_CHANGE * abs(middle))
