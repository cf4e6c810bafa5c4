"""How many threads are faster: found out while they work, for nobody knows it beforehand.

A second thread doubles the speed of one network and only moves the weights of another from core to core; and where
other processes have the cores, threads that wait for each other stand still. Results are the same bit for bit for any
number of threads, so the number may change whenever a run comes back to Python.
"""

from __future__ import annotations

#: Slices of work from one look at the slower number of threads to the next, and what part of a slice that takes.
SLICES_BETWEEN_TRIALS, TRIAL = 40, 0.25


class Pace:
    """The choice between a whole team and one thread, for work that comes in slices.

    Parameters
    ----------
    team_size : int

    Attributes
    ----------
    seconds : dict of int to float
        For each number of threads the time of a unit of work, averaged over its last slices.
    """

    def __init__(self, team_size: int) -> None:
        self._sizes = (team_size, 1)
        self._slices = 0
        self.seconds: dict[int, float] = {}

    def choose(self) -> tuple[int, float]:
        """How many threads the next slice is for, and what part of a full slice it should be."""
        for size in self._sizes:
            if size not in self.seconds:
                return size, TRIAL
        faster, slower = sorted(self._sizes, key=self.seconds.__getitem__)
        self._slices += 1
        return (slower, TRIAL) if self._slices % SLICES_BETWEEN_TRIALS == 0 else (faster, 1.0)

    def note(self, size: int, seconds: float) -> None:
        """So long took a unit of work with `size` threads."""
        self.seconds[size] = (self.seconds.get(size, seconds) + seconds) / 2
