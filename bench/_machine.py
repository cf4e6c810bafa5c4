"""What a benchmark ran on: names and versions, and two ceilings measured in a few milliseconds.

The ceilings are cheap on purpose: a shared machine's speed changes from one second to the next, so they are measured
between the contenders (see `_timing`), and a share of the peak compares figures of the same seconds.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic
from numba.np.arrayobj import make_array

from fastfnn_kernels._config import JIT
from fastfnn_kernels.simd import VECTOR_BYTES

intrinsic: Any = numba_intrinsic  # its leading argument is not passed by callers; no type checker knows that

ROOT = Path(__file__).resolve().parent.parent

#: Independent chains: more than latency times throughput of any FMA unit (5 × 2), fewer than 16 registers.
CHAINS = 12
#: Each of the two arrays that are copied: beyond the second-level cache.
COPY_BYTES = 32 * 2**20
PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "scikit-learn", "onnxruntime")


@intrinsic
def _multiply_add_chains(typing, x, turns):  # type: ignore[no-untyped-def]
    """``turns`` times: each of CHAINS vector registers becomes ``register * x[0] + x[0]``; nothing touches memory."""
    signature = types.void(x, types.intp)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        dtype, index = signature.args[0].dtype, ir.IntType(64)
        lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        scalar = context.get_value_type(dtype)
        vector = ir.VectorType(scalar, lanes)
        # As in the kernels: a fused multiply-add where the host has one, else a multiply and an add.
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{lanes}f{dtype.bitwidth}"
        )
        pointer = make_array(signature.args[0])(context, builder, args[0]).data
        factor = ir.Constant(vector, ir.Undefined)
        element = builder.load(pointer)
        for lane in range(lanes):
            factor = builder.insert_element(factor, element, ir.Constant(ir.IntType(32), lane))

        before, loop = builder.block, builder.append_basic_block("loop")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        turn = builder.phi(index)
        chains = [builder.phi(vector) for _ in range(CHAINS)]
        results = [builder.call(multiply_add, [chain, factor, factor]) for chain in chains]
        following = builder.add(turn, index(1))
        turn.add_incoming(index(0), before)
        turn.add_incoming(following, loop)
        for number, (chain, result) in enumerate(zip(chains, results, strict=True)):
            chain.add_incoming(ir.Constant(vector, [float(number)] * lanes), before)
            chain.add_incoming(result, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[1]), loop, done)

        builder.position_at_end(done)
        total = results[0]  # used, so that no chain can be left out
        for result in results[1:]:
            total = builder.fadd(total, result)
        builder.store(builder.extract_element(total, ir.Constant(ir.IntType(32), 0)), pointer)
        return context.get_dummy_value()

    return signature, codegen


@numba.njit(nogil=True)
def _run_chains(x: Any, turns: int) -> None:
    _multiply_add_chains(x, turns)


def peak_flops(dtype: Any, turns: int) -> float:
    """Floating-point operations of `turns` turns of the loop."""
    return 2.0 * CHAINS * (VECTOR_BYTES // np.dtype(dtype).itemsize) * turns


def peak_seconds(dtype: Any, turns: int) -> float:
    """Time of `turns` turns of the loop on this thread; the first call compiles it."""
    x = np.full(1, 0.5, dtype)  # the chains go to 1: neither denormal nor infinite
    began = time.perf_counter()
    _run_chains(x, turns)
    return time.perf_counter() - began


@functools.cache
def _turns(name: str, milliseconds: float) -> int:
    peak_seconds(name, 10)  # compiles
    return max(1, int(200_000 * milliseconds / 1e3 / min(peak_seconds(name, 200_000) for _ in range(5))))


def measure_peak(dtype: Any = "float32", milliseconds: float = 5.0) -> float:
    """FLOP/s of one core now, by a loop of multiply-adds in registers; NaN without the JIT."""
    if not JIT:
        return float("nan")
    turns = _turns(np.dtype(dtype).name, milliseconds)
    return peak_flops(dtype, turns) / peak_seconds(dtype, turns)


@functools.cache
def _copy_buffers() -> tuple[Any, Any]:
    return np.ones(COPY_BYTES // 8), np.zeros(COPY_BYTES // 8)


def measure_copy() -> float:
    """Bytes per second of one core copying memory now, read and written bytes both counted."""
    source, target = _copy_buffers()
    began = time.perf_counter()
    np.copyto(target, source)
    return 2 * source.nbytes / (time.perf_counter() - began)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor() or platform.machine()


def _git(*command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(ROOT), *command], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def commit() -> str | None:
    """The checkout's commit, with ``+changes`` where files differ from it; None outside a checkout."""
    head = _git("rev-parse", "HEAD")
    return head if head is None or not _git("status", "--porcelain", "--untracked-files=no") else head + "+changes"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed, without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe() -> dict[str, Any]:
    """Everything above that does not change during a run, ready for JSON."""
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "vector_bytes": VECTOR_BYTES,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": commit(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


if __name__ == "__main__":
    print(describe())
    for dtype in ("float32", "float64"):
        samples = sorted(measure_peak(dtype) for _ in range(20))
        print(f"{dtype}: median {samples[10] / 1e9:.1f}, best {samples[-1] / 1e9:.1f} GFLOP/s a core")
    copies = sorted(measure_copy() for _ in range(20))
    print(f"copy: median {copies[10] / 1e9:.1f}, best {copies[-1] / 1e9:.1f} GB/s")
