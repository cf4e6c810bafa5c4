"""How many threads are faster: found out while they work, for nobody knows it beforehand.

A second thread doubles the speed of one network and only moves the weights of another from core to core; and where
other processes have the cores, threads that wait for each other stand still. Results are the same bit for bit for any
number of threads, so the number may change whenever a run comes back to Python.
"""

from __future__ import annotations

#: Slices of work from one look at the slower number of threads to the next: few at first, for the first timings meet
#: cold caches and sleeping threads, then twice as many each time, up to a bound.
FIRST_WAIT, LONGEST_WAIT = 2, 30
#: What part of a slice a look takes, what share of all time the looks may cost, and from what on the first ones, too.
TRIAL, MOST_COST, MUCH_SLOWER = 0.25, 0.01, 4.0
#: Timings that count, of each number of threads: the best of the last few, for a slice may meet a cold cache, or noise.
TIMINGS = 2


class Pace:
    """The choice between a whole team and one thread, for work that comes in slices.

    Parameters
    ----------
    team_size : int
    """

    def __init__(self, team_size: int) -> None:
        self._timings: dict[int, list[float]] = {team_size: [], 1: []}
        self._faster, self._slices, self._wait = 0, 0, FIRST_WAIT

    def choose(self) -> tuple[int, float]:
        """How many threads the next slice is for, and what part of a full slice it should be."""
        least_known = min(self._timings, key=lambda size: len(self._timings[size]))
        if len(self._timings[least_known]) < TIMINGS:
            return least_known, TRIAL
        faster, slower = sorted(self._timings, key=lambda size: min(self._timings[size]))
        if faster != self._faster:
            self._faster, self._slices, self._wait = faster, 0, FIRST_WAIT
        self._slices += 1
        slowness = min(self._timings[slower]) / max(min(self._timings[faster]), 1e-12)
        is_early = self._wait < LONGEST_WAIT and slowness < MUCH_SLOWER
        affordable = 0.0 if is_early else TRIAL * (slowness - 1) / MOST_COST
        if self._slices < max(self._wait, affordable):
            return faster, 1.0
        self._slices, self._wait = 0, min(2 * self._wait, LONGEST_WAIT)
        return slower, TRIAL

    def note(self, size: int, seconds: float) -> None:
        """So long took a unit of work with `size` threads."""
        self._timings[size] = [*self._timings[size], seconds][-TIMINGS:]
