"""The number of threads that is faster: found by timings that these tests make up, without a clock."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from fastfnn.engine import pace


def follow(watch: pace.Pace, seconds: Callable[[int], float], slices: int) -> list[int]:
    """The numbers of threads that so many slices were for."""
    sizes = []
    for _ in range(slices):
        size, part = watch.choose()
        assert 0 < part <= 1
        watch.note(size, seconds(size))
        sizes.append(size)
    return sizes


def test_the_faster_number_of_threads_is_chosen_and_the_other_tried_again() -> None:
    watch = pace.Pace(4)
    seconds = {4: 2.0, 1: 1.0}
    first = follow(watch, seconds.__getitem__, 2 * (pace.NEEDED + 1))
    assert first == [4] * (pace.NEEDED + 1) + [1] * (pace.NEEDED + 1)
    many = follow(watch, seconds.__getitem__, 1000)
    looks = np.flatnonzero(np.diff(np.array(many) == 4) & (np.array(many[1:]) == 4))
    assert np.diff(looks)[0] < 12 < np.diff(looks)[-1]  # soon again, then rarely
    part = pace.TRIAL * seconds[1] / seconds[4]  # of a slice, which is what a look is for
    assert many[500:].count(4) * part * (seconds[4] - seconds[1]) < 2 * pace.MOST_COST * 500
    seconds[1] = 100.0  # another process has come
    assert follow(watch, seconds.__getitem__, 60)[-30:].count(4) >= 26
    seconds[1] = 1.0
    assert follow(watch, seconds.__getitem__, 20_000).count(1) > 10_000


def test_small_calls_find_two_threads_within_a_few_and_stay_with_them() -> None:
    watch, draw = pace.Pace(2), random.Random(0)
    sizes = follow(watch, lambda size: {2: 1.0, 1: 1.4}[size] * draw.uniform(1.0, 1.1), 1000)
    assert sizes[:100].count(1) <= 20
    assert sizes[100:].count(1) <= 0.1 * 900


def test_now_and_then_a_call_that_takes_long_changes_nothing() -> None:
    watch, draw = pace.Pace(2), random.Random(0)
    sizes = follow(watch, lambda size: {2: 1.0, 1: 1.4}[size] * (20.0 if draw.random() < 0.02 else 1.0), 2000)
    assert sizes.count(1) < 0.2 * 2000


def test_a_share_of_mishaps_does_not_count() -> None:
    """Some of the calls on two threads meet another library's that spin."""
    calls = 1.6, 1.6, 1.6, 3.0, 5.6
    for mishaps, few, many in ((0.0, 0, 700), (0.5, 1000, 2000)):
        watch, draw = pace.Pace(2, mishaps), random.Random(0)
        sizes = follow(watch, lambda size, draw=draw: draw.choice(calls) if size == 2 else 2.9, 2000)
        assert few <= sizes.count(2) <= many


def test_bad_first_timings_are_soon_forgotten() -> None:
    watch, bad = pace.Pace(2), [3.0] * (pace.NEEDED + 1)
    sizes = follow(watch, lambda size: 2.0 if size == 1 else bad.pop() if bad else 1.0, 60)
    assert sizes[-20:].count(2) >= 16


def test_the_first_timing_after_a_change_does_not_count() -> None:
    """Threads sleep, and the caches hold what the others need."""
    watch, last = pace.Pace(2), [0]

    def seconds(size: int) -> float:
        changed, last[0] = size != last[0], size
        return {2: 1.0, 1: 1.3}[size] + changed * (size == 2)

    assert follow(watch, seconds, 100)[-20:].count(2) >= 16


def test_in_doubt_it_is_one_thread() -> None:
    """Beside other processes slices take now this long and now that."""
    watch, draw = pace.Pace(2), random.Random(0)
    sizes = follow(watch, lambda size: draw.choice((31.0, 82.0, 148.0) if size == 2 else (47.0, 98.0, 99.0)), 1000)
    assert sizes.count(1) > 600


def test_a_number_of_threads_that_is_far_slower_costs_hardly_anything() -> None:
    watch, time = pace.Pace(2), {1: 0.0, 2: 0.0}
    for _ in range(3000):
        size, part = watch.choose()
        seconds = {2: 70.0, 1: 1.0}[size]
        watch.note(size, seconds)
        time[size] += part * seconds if size == 1 or time[1] > 10 else 0.0  # the first looks know nothing
    assert time[2] < 2 * pace.MOST_COST * time[1]


def test_however_slow_two_threads_were_at_first_they_are_found_when_they_are_faster() -> None:
    """Something else had the cores when the training began."""
    watch, bad = pace.Pace(2), [40.0] * (pace.NEEDED + 1)
    sizes = follow(watch, lambda size: 2.0 if size == 1 else bad.pop() if bad else 1.0, 200)
    assert sizes[-100:].count(2) >= 90
