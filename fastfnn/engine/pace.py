"""How many threads are faster: found out while they work, for nobody knows it beforehand.

A second thread doubles the speed of one network and only moves the weights of another from core to core; and where
other processes have the cores, threads that wait for each other stand still. Results are the same bit for bit for any
number of threads, so the number may change whenever a run comes back to Python.
"""

from __future__ import annotations

#: Slices of work from one look at the slower number of threads to the next, and what part of a slice that takes.
SLICES_BETWEEN_TRIALS, TRIAL = 30, 0.25
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
        self._slices = 0

    def choose(self) -> tuple[int, float]:
        """How many threads the next slice is for, and what part of a full slice it should be."""
        least_known = min(self._timings, key=lambda size: len(self._timings[size]))
        if len(self._timings[least_known]) < TIMINGS:
            return least_known, TRIAL
        faster, slower = sorted(self._timings, key=lambda size: min(self._timings[size]))
        self._slices += 1
        return (slower, TRIAL) if self._slices % SLICES_BETWEEN_TRIALS == 0 else (faster, 1.0)

    def note(self, size: int, seconds: float) -> None:
        """So long took a unit of work with `size` threads."""
        self._timings[size] = [*self._timings[size], seconds][-TIMINGS:]
