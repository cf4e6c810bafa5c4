"""Every kernel of the registry, verified and then timed: GFLOP/s, GB/s and the share of this machine's ceilings.

    pytest bench/test_kernels.py                        all of them, both dtypes, grouped by module
    pytest bench/test_kernels.py -k "gemm and float32"  some
    pytest bench/test_kernels.py --benchmark-disable    a quick look that all of it runs

One thread. ``share_of_peak`` is of the FMA loop, ``share_of_copy`` of copying memory, both measured just before and
just after the kernel; small shapes live in the caches and may well beat the copy. pytest-benchmark's table has no
columns for them: they are in a table of their own and, as ``extra_info``, in ``--benchmark-json``.
"""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any

import numpy as np
import pytest
from _machine import measure_copy, measure_peak

from fastfnn_kernels.registry import SPECS, Spec

SAMPLES = 5  # of each ceiling, before and again after
LINES: list[str] = []


def family(spec: Spec) -> str:
    """The module that the kernel is in."""
    kernel: Any = spec.kernel
    return (kernel.func if isinstance(kernel, functools.partial) else kernel).__module__.rpartition(".")[2]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All kernels, dtypes and shapes; without timing the first shape of each in float32 is enough."""
    smoke = metafunc.config.getoption("benchmark_disable", default=False)
    cases = [
        pytest.param(spec, dtype, shape, id=f"{spec.name}-{'x'.join(map(str, shape))}-{dtype}")
        for spec in SPECS.values()
        for dtype in (("float32",) if smoke else ("float32", "float64"))
        for shape in (spec.bench_shapes[:1] if smoke else spec.bench_shapes)
    ]
    metafunc.parametrize(("spec", "dtype", "shape"), cases)


def verify(spec: Spec, shape: tuple[int, ...], dtype: str, args: tuple[Any, ...]) -> float:
    """Call the kernel once and compare with its twin; returns the seconds of the call."""
    expected = [np.array(result, np.float64) for result in spec.expected(args)]  # copies: the kernel may overwrite
    began = time.perf_counter()
    spec.kernel(*args)
    seconds = time.perf_counter() - began
    for got, wanted in zip(args[: spec.outputs], expected, strict=True):
        allowed = spec.tolerance * np.finfo(dtype).eps * (np.abs(wanted) + spec.scale(*shape))
        wrong = ~(np.abs(got - wanted) <= allowed)  # so that a NaN is wrong
        assert not wrong.any(), f"{spec.name}: {wrong.sum()} of {wrong.size} elements differ from the twin's"
    return seconds


@pytest.mark.benchmark(min_rounds=20, max_time=0.1, min_time=1e-3, warmup=False)
def test_kernel(benchmark: Any, spec: Spec, dtype: str, shape: tuple[int, ...]) -> None:
    args = spec.make_args(np.random.default_rng(0), dtype, shape, n_threads=1)
    traffic, flops = spec.bytes(args), spec.flops(shape)
    first = verify(spec, shape, dtype, args)

    benchmark.group = f"{family(spec)} {dtype}"
    timed = benchmark.enabled
    peaks, copies = _ceilings(dtype) if timed else ([], [])
    benchmark(spec.kernel, *args)
    if not timed:
        return
    more_peaks, more_copies = _ceilings(dtype)
    peak, copy = statistics.median(peaks + more_peaks), statistics.median(copies + more_copies)
    seconds = benchmark.stats.stats.median
    info = {
        "gflops": flops / seconds / 1e9,
        "gbytes_per_s": traffic / seconds / 1e9,
        "share_of_peak": flops / seconds / peak,
        "share_of_copy": traffic / seconds / copy,
        "peak_gflops": peak / 1e9,
        "copy_gbytes_per_s": copy / 1e9,
        "first_call_s": first,
    }
    benchmark.extra_info.update(info)
    LINES.append(
        f"{family(spec):<14} {spec.name:<36} {'x'.join(map(str, shape)):<12} {dtype:<8} {seconds * 1e6:>10.1f} µs "
        f"{info['gflops']:>7.1f} GFLOP/s {info['share_of_peak']:>5.0%} of peak "
        f"{info['gbytes_per_s']:>7.1f} GB/s {info['share_of_copy']:>5.0%} of copy"
    )


def _ceilings(dtype: str) -> tuple[list[float], list[float]]:
    return [measure_peak(dtype, 1.0) for _ in range(SAMPLES)], [measure_copy() for _ in range(2)]


@pytest.fixture(scope="module", autouse=True)
def _table(request: pytest.FixtureRequest) -> Any:
    """Print what pytest-benchmark's own table has no columns for."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if LINES and reporter is not None:
        reporter.write_line("\n" + "\n".join(sorted(LINES)))
