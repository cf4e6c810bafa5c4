"""How many threads are faster: found out while they work, for nobody knows it beforehand.

A second thread doubles the speed of one network and only moves the weights of another from core to core; and where
other processes have the cores, threads that wait for each other stand still. Results are the same bit for bit for any
number of threads, so the number may change whenever a run comes back to Python.
"""

from __future__ import annotations

import math

#: Slices of work from one look at the slower number of threads to the next: few at first, then twice as many each time,
#: up to a bound.
FIRST_WAIT, LONGEST_WAIT = 4, 32
#: What part of a slice's time a look takes, and as much to get going; what share of all time the looks may cost; and
#: from what slowness on the first ones, too.
TRIAL, MOST_COST, MUCH_SLOWER = 0.25, 0.01, 4.0
#: How many standard errors of both a team must be faster by.
DOUBT = 2.0
#: How many timings of each number of threads are needed, and how many of the last ones count.
NEEDED, COUNTED = 3, 10


class Pace:
    """The choice between a whole team and one thread, for work that comes in slices.

    Parameters
    ----------
    team_size : int
    mishaps : float
        What share of the timings, the longest, does not count, one at least.

    Notes
    -----
    In doubt it is one thread. Alone on a machine slices take equally long, and there is no doubt. Beside others they
    take now this long and now that; a look at two threads then often looks better than they are when they stay.
    """

    def __init__(self, team_size: int, mishaps: float = 0.0) -> None:
        self._team_size, self._mishaps = team_size, mishaps
        self._timings: dict[int, list[float]] = {team_size: [], 1: []}
        self._faster, self._last = 0, 0
        self._looks, self._slices, self._wait = 0, 0, FIRST_WAIT

    def choose(self) -> tuple[int, float]:
        """How many threads the next slice is for, and what part of a full slice it should be."""
        for size, timings in self._timings.items():
            if len(timings) < NEEDED:
                return size, TRIAL
        (team, team_error), (one, one_error) = (self._typical(size) for size in (self._team_size, 1))
        if team + DOUBT * team_error < one - DOUBT * one_error:
            faster, slower, slowness = self._team_size, 1, one / max(team, 1e-12)
        else:
            faster, slower, slowness = 1, self._team_size, team / max(one, 1e-12)
        if faster != self._faster:
            self._faster, self._looks, self._slices, self._wait = faster, 0, 0, FIRST_WAIT
        # As much time as one of the faster number would take: however slow the other was, it may be the faster now.
        part = TRIAL / slowness
        if self._looks:
            return slower, 1.0 if self._looks < COUNTED else part
        self._slices += 1
        is_early = self._wait < LONGEST_WAIT and slowness < MUCH_SLOWER
        affordable = 0.0 if is_early else 2 * TRIAL * (1 - 1 / slowness) / MOST_COST
        if self._slices < max(self._wait, affordable):
            return faster, 1.0
        self._looks, self._slices, self._wait = COUNTED, 0, min(2 * self._wait, LONGEST_WAIT)
        return slower, part

    def note(self, size: int, seconds: float) -> None:
        """So long took a unit of work with `size` threads."""
        if size != self._last:  # the first slice after a change meets sleeping threads and cold caches
            self._last = size
            return
        # A look goes on, and at length, while it speaks against the choice: one good timing may be chance.
        if self._looks and size != self._faster:
            self._looks = self._looks - 1 if seconds < self._typical(self._faster)[0] else 0
        self._timings[size] = [*self._timings[size], seconds][-COUNTED:]

    def _typical(self, size: int) -> tuple[float, float]:
        """The mean of the timings that count, and its standard error: other processes are part of it."""
        timings = sorted(self._timings[size])
        timings = timings[: -max(1, int(self._mishaps * len(timings)))]
        mean = sum(timings) / len(timings)
        return mean, math.sqrt(sum((each - mean) ** 2 for each in timings)) / len(timings)
