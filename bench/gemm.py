"""The matrix products of an MNIST layer, on one core: share of the measured peak, and ratio to NumPy's BLAS.

    python bench/gemm.py [--rounds 30] [--out bench/results]

For a batch of m rows and a layer k → n, the three products are

    nn    x (m, k) @ weight (k, n)               forward
    tn    x (m, k)ᵀ @ grad_out (m, n)            the weight's gradient
    nt    grad_out (m, n) @ weight (k, n)ᵀ       the input's gradient

and ``tn*``, ``nt*`` are the forward's own m × k × n with `a` or `b` stored transposed. n = 100 fills its last vector
only in part; 96 and 112 are shown beside it to tell what that costs. FMA loop, kernel and BLAS take turns.
"""

# ruff: noqa: E402 (the number of threads must be set before NumPy is imported)

from __future__ import annotations

import os

for _name in ("OPENBLAS", "MKL", "OMP", "BLIS", "VECLIB_MAXIMUM"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _machine import ROOT, describe, peak_flops, peak_seconds
from _timing import interleave, ratio, repeat

from fastfnn_kernels.products.gemm import NO_EPILOGUE, gemm, scratch_for

BATCHES, DEPTH, COLUMNS = (64, 128, 256), 784, (96, 100, 112)
FORMS = ("nn", "tn", "nt", "tn*", "nt*")
TURNS = 1000  # of the FMA loop: what counts as one call of it, some microseconds


class Product(NamedTuple):
    """``out = op(a) @ op(b)``."""

    a: Any
    b: Any
    transpose_a: bool
    transpose_b: bool
    out: Any

    @property
    def flops(self) -> float:
        depth = self.a.shape[0] if self.transpose_a else self.a.shape[1]
        return 2.0 * self.out.size * depth

    def operands(self) -> tuple[Any, Any]:
        """As NumPy takes them: views, which BLAS reads without a copy."""
        return self.a.T if self.transpose_a else self.a, self.b.T if self.transpose_b else self.b


def product(form: str, m: int, k: int, n: int, dtype: str) -> Product:
    """One of FORMS with random operands."""
    shapes = {
        "nn": ((m, k), (k, n), (m, n)),
        "tn": ((m, k), (m, n), (k, n)),
        "nt": ((m, n), (k, n), (m, k)),
        "tn*": ((k, m), (k, n), (m, n)),
        "nt*": ((m, k), (n, k), (m, n)),
    }
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes[form][:2])
    return Product(a, b, form.startswith("tn"), form.startswith("nt"), np.empty(shapes[form][2], dtype))


def measure(form: str, m: int, k: int, n: int, dtype: str, rounds: int) -> dict[str, Any]:
    """One line of the table. The product is compared with a float64 one before it is timed."""
    case = product(form, m, k, n, dtype)
    scratch, nothing, one = scratch_for(dtype), np.empty(0, dtype), np.dtype(dtype).type(1)
    left, right = case.operands()
    theirs = np.empty_like(case.out)

    def kernel() -> None:
        gemm(case.out, scratch, case.a, case.b, nothing, case.transpose_a, case.transpose_b, one, False, NO_EPILOGUE)

    def blas() -> None:
        np.matmul(left, right, out=theirs)

    kernel()
    exact = left.astype(np.float64) @ right.astype(np.float64)
    tolerance = 10 * np.finfo(dtype).eps * np.sqrt(left.shape[1])
    np.testing.assert_allclose(case.out, exact, rtol=0, atol=tolerance * np.abs(exact).max())

    def peak(count: int) -> float:
        return peak_seconds(dtype, count * TURNS)

    timings = interleave({"peak": peak, "kernel": repeat(kernel), "blas": repeat(blas)}, rounds)
    rate = peak_flops(dtype, TURNS) / timings["peak"].median
    return {
        "form": form,
        "m": m,
        "k": k,
        "n": n,
        "dtype": dtype,
        "kernel_gflops": case.flops / timings["kernel"].median / 1e9,
        "blas_gflops": case.flops / timings["blas"].median / 1e9,
        "peak_gflops": rate / 1e9,
        "share_of_peak": case.flops / timings["kernel"].median / rate,
        "share_of_peak_blas": case.flops / timings["blas"].median / rate,
        "ratio_to_blas": ratio(timings, "blas", "kernel"),
        "timings": {name: timing.to_dict() for name, timing in timings.items()},
    }


HEADER = (
    "| form | m | k | n | kernel µs | GFLOP/s | share of peak | BLAS GFLOP/s | its share | kernel against BLAS |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    return (
        f"| {row['form']} | {row['m']} | {row['k']} | {row['n']} | {row['timings']['kernel']['median_s'] * 1e6:.1f} | "
        f"{row['kernel_gflops']:.1f} | {row['share_of_peak']:.0%} | {row['blas_gflops']:.1f} | "
        f"{row['share_of_peak_blas']:.0%} | {row['ratio_to_blas']:.2f}× |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="interleaved samples of each (default: 30)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder for gemm.json and gemm.md")
    args = parser.parse_args()

    machine = describe()
    print(f"{machine['cpu']}, one core, {args.dtype}, medians of {args.rounds} interleaved rounds\n\n{HEADER}")
    rows = []
    for n in COLUMNS:
        for form in FORMS:
            for m in BATCHES:
                rows.append(measure(form, m, DEPTH, n, args.dtype, args.rounds))
                print(line(rows[-1]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    result = {"machine": machine, "blas": {key: blas.get(key) for key in ("name", "version")}, "rows": rows}
    (args.out / "gemm.json").write_text(json.dumps(result, indent=1) + "\n")
    peaks = sorted(row["peak_gflops"] for row in rows)
    (args.out / "gemm.md").write_text(
        f"# Matrix products on one core\n\n{machine['cpu']}, {args.dtype}, commit {machine['commit']}. "
        f"Medians of {args.rounds} interleaved rounds; FMA peak {peaks[0]:.0f} to {peaks[-1]:.0f} GFLOP/s. BLAS: "
        f"{blas.get('name')} {blas.get('version')}, one thread. `tn`, `nt` are the layer's products for a batch of m, "
        "`tn*`, `nt*` the forward's m × k × n with an operand stored transposed.\n\n"
        + "\n".join([HEADER, *map(line, rows)])
        + "\n"
    )
    print(f"\nwritten: {args.out / 'gemm.md'}, {args.out / 'gemm.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
