"""What several test files need: memory with guard zones, a comparison that can fail, other Python processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels.registry import Spec

GUARD_BYTES = 4096
#: Around inputs all bits are set: NaN as a float, so that a read past an end shows in the result too. Around what
#: kernels write it is another pattern: a NaN that came from there would hide itself in a zone of its own bits.
READ_SENTINEL, WRITE_SENTINEL = 0xFF, 0xA5
#: A cache line, and the widest vector.
LINE = 64


class Guarded:
    """A copy of an array between two guard zones.

    Parameters
    ----------
    array : ndarray
    sentinel : int
        What the zones' bytes are.
    misaligned : bool
        Put it one element behind a cache line's start, instead of at it.
    """

    def __init__(self, array: NDArray[Any], sentinel: int, misaligned: bool = False) -> None:
        self.sentinel = sentinel
        self.memory = np.full(GUARD_BYTES + 2 * LINE + array.nbytes + GUARD_BYTES, sentinel, np.uint8)
        to_line = -(self.memory.ctypes.data + GUARD_BYTES) % LINE
        self.start = GUARD_BYTES + to_line + (array.itemsize if misaligned else 0)
        self.stop = self.start + array.nbytes
        self.array = self.memory[self.start : self.stop].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    def assert_untouched(self, where: str) -> None:
        for side, zone in (("before", self.memory[: self.start]), ("behind", self.memory[self.stop :])):
            places = np.flatnonzero(zone != self.sentinel)
            assert not places.size, f"{where}: {places.size} bytes were written {side} the array"


def run_guarded(
    spec: Spec, args: tuple[Any, ...], *, team: Any = None, misaligned: bool = False, where: str = ""
) -> tuple[NDArray[Any], ...]:
    """The kernel's outputs for copies of `args`; nothing but outputs and scratch may have changed."""
    written = spec.outputs + spec.scratch
    zones = [
        Guarded(arg, WRITE_SENTINEL if place < written else READ_SENTINEL, misaligned)
        if isinstance(arg, np.ndarray)
        else None
        for place, arg in enumerate(args)
    ]
    spec.kernel(*(arg if zone is None else zone.array for arg, zone in zip(args, zones, strict=True)), team=team)
    for place, (arg, zone) in enumerate(zip(args, zones, strict=True)):
        if zone is not None:
            zone.assert_untouched(f"{where}, argument {place}")
            if place >= written:
                assert zone.array.tobytes() == arg.tobytes(), f"{where}: input {place} was written"
    return tuple(zone.array for zone in zones[: spec.outputs] if zone is not None)


def assert_close(
    got: NDArray[Any], want: NDArray[Any], *, tolerance: float, scale: float = 1.0, where: str = ""
) -> None:
    """``|got - want| <= tolerance * (|want| + scale)``, NaN and infinities in the same places; integers are equal."""
    assert got.shape == want.shape, f"{where}: shape {got.shape}, not {want.shape}"
    if want.dtype.kind in "iu":
        tolerance = 0.0
        if got.dtype.kind in "iu":  # float64 would round them
            assert np.array_equal(got, want), f"{where}: {(got != want).sum()} integers differ"
            return
    got, want = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(got - want)
        near = np.isfinite(want) & (error <= tolerance * (np.abs(want) + scale))
    bad = ~(near | (got == want) | (np.isnan(got) & np.isnan(want)))
    if bad.any():
        place = tuple(np.argwhere(bad)[0].tolist())
        raise AssertionError(
            f"{where}: {bad.sum()} of {bad.size} elements differ; at {place} got {got[place]!r}, not {want[place]!r}"
        )


def assert_matches(spec: Spec, got: tuple[Any, ...], want: tuple[Any, ...], dtype: Any, shape: Any, where: str) -> None:
    """Every output of a kernel is within the registry's tolerance of what the twin made."""
    for number, (one, other) in enumerate(zip(got, want, strict=True)):
        tolerance = spec.tolerance * float(np.finfo(dtype).eps)
        here = f"{where}, output {number}"
        assert_close(one, np.asarray(other), tolerance=tolerance, scale=spec.scale(*shape), where=here)


def float_inputs(spec: Spec, args: tuple[Any, ...]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The inputs that are arrays of floats, with their places."""
    for place, arg in enumerate(args):
        if place >= spec.outputs + spec.scratch and isinstance(arg, np.ndarray) and arg.dtype.kind == "f":
            yield place, arg


def run_python(
    code: str, *flags: str, cwd: Path | None = None, timeout: float = 240, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python of its own, with the JIT unless `environment` says otherwise."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "NUMBA_DISABLE_JIT")}
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        env={**inherited, "PYTHONIOENCODING": "utf-8", **environment},
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def at_once(function: Callable[[int], object], n_threads: int = 8) -> None:
    """Call ``function(number)`` in several threads, which take turns as often as Python lets them."""
    threads, before = [threading.Thread(target=function, args=(i,)) for i in range(n_threads)], sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
