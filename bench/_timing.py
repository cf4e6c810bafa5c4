"""Interleaved timing: contenders take turns, so that a slow second of the machine meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Does its work `count` times and returns the seconds it took. It may run in another process.
Sampler = Callable[[int], float]


@dataclass
class Timing:
    """Of one contender, in seconds a call.

    Attributes
    ----------
    first : float
        The very first call: it compiles, or fills caches. Never part of the rest.
    loops : int
        Calls in a sample.
    samples : list of float
        One for each round: a sample's time divided by `loops`.
    """

    first: float
    loops: int
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def minimum(self) -> float:
        return min(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {
            "median_s": self.median,
            "minimum_s": self.minimum,
            "first_s": self.first,
            "rounds": len(self.samples),
            "loops": self.loops,
        }


def repeat(function: Callable[[], Any]) -> Sampler:
    """A sampler of a function in this process."""

    def sample(count: int) -> float:
        turns = range(count)
        began = time.perf_counter()
        for _ in turns:
            function()
        return time.perf_counter() - began

    return sample


def start(sample: Sampler, sample_seconds: float, most_loops: int = 10**6) -> Timing:
    """Call a contender for the first time, and choose how many calls make a sample of `sample_seconds`."""
    timing = Timing(first=sample(1), loops=1)
    while timing.loops < most_loops:
        seconds = sample(timing.loops)
        if seconds >= sample_seconds:
            break
        growth = min(10.0, 1.2 * sample_seconds / max(seconds, 1e-9))
        timing.loops = min(most_loops, max(timing.loops + 1, int(timing.loops * growth)))
    return timing


def interleave(
    contenders: Mapping[str, Sampler],
    rounds: int,
    sample_seconds: float = 1e-3,
    *,
    started: Mapping[str, Timing] | None = None,
    seldom: Collection[str] = (),
    stride: int = 1,
) -> dict[str, Timing]:
    """Time contenders in turn, round after round; every second round goes backwards.

    Parameters
    ----------
    contenders : dict of name to Sampler
    rounds : int
        Samples of each contender.
    sample_seconds : float
        A sample repeats the call until it lasts at least about this long.
    started : dict of name to Timing, optional
        Contenders that `start` has already called; their new samples are added to a fresh copy.
    seldom : names, stride : int
        Who has a turn in every `stride`-th round only, the first among them: for contenders that take very long.
    """
    known = started or {}
    timings = {
        name: Timing(known[name].first, known[name].loops) if name in known else start(sample, sample_seconds)
        for name, sample in contenders.items()
    }
    for turn in range(rounds):
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            if name in seldom and turn % stride:
                continue
            timing = timings[name]
            timing.samples.append(contenders[name](timing.loops) / timing.loops)
    return timings


def ratio(timings: Mapping[str, Timing], name: str, to: str) -> float:
    """How many times faster `to` is than `name`: the ratio of their medians."""
    return timings[name].median / timings[to].median
