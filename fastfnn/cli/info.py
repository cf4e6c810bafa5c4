"""What ``fastfnn info`` tells: versions, processor, folders."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Iterator

import fastfnn as ff
from fastfnn import _paths
from fastfnn.cli import choices
from fastfnn.errors import FastFNNError


def machine() -> Iterator[tuple[str, str]]:
    """Names and values of what decides how fast a training is and which bits it gives."""
    from importlib.metadata import PackageNotFoundError, version

    from fastfnn.functional import cores
    from fastfnn_kernels import _config, simd

    yield "fastfnn", ff.__version__
    yield "python", platform.python_version()
    for package in ("numpy", "numba", "llvmlite"):
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"
    yield "system", f"{platform.system()} {platform.machine()}"
    yield "processor", _processor()
    yield "vector width", f"{8 * simd.VECTOR_BYTES} bits"
    yield "cores usable", str(cores())
    yield "kernels", "compiled" if _config.JIT else "NumPy references, because NUMBA_DISABLE_JIT is set"


def facts() -> Iterator[tuple[str, str]]:
    """Names and values, a line each."""
    from fastfnn_kernels import _cache

    yield from machine()
    yield "models", ", ".join(choices.CHOICES)
    yield "interpreter", sys.executable
    try:
        cache = _cache.folder()
        yield "kernel cache", f"{cache} ({'writable' if _cache.is_writable(cache) else 'NOT writable'})"
    except (OSError, RuntimeError) as error:
        yield "kernel cache", f"none: {error}"
    yield from _compiled()
    try:
        data = _paths.data_dir()
        yield "data folder", f"{data}{'' if data.is_dir() else ' (not there yet)'}"
    except FastFNNError as error:
        yield "data folder", f"none: {error}"


def _compiled() -> Iterator[tuple[str, str]]:
    """Of which families of operations the cache has how many, for each dtype."""
    from fastfnn_kernels import _config

    if not _config.JIT:
        return
    from fastfnn_kernels.operations import cached_families

    for dtype in ("float32", "float64"):
        found = cached_families(dtype)
        some = [f"{name} {there} of {number}" for name, (there, number) in found.items() if there]
        yield f"  for {dtype}", ", ".join(some) or "nothing compiled yet"


def _processor() -> str:
    """The processor's name as well as the system tells it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        import subprocess

        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return platform.processor() or platform.machine() or "unknown"
