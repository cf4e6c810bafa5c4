"""Every public kernel: its reference twin, arguments to call it with, FLOPs, bytes and tolerance.

The tests and the benchmarks are driven by `SPECS`. A new kernel gets a line in one of the files here, by family; a
test fails until it has one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from fastfnn_kernels._config import JIT
from fastfnn_kernels.registry import (
    augmentation,
    convolution,
    dense,
    embedding,
    joins,
    lazy,
    normalization,
    pooling,
    sparse,
)
from fastfnn_kernels.registry._spec import Draw, Spec
from fastfnn_kernels.registry.dense import gemm_arguments

__all__ = ["SPECS", "Draw", "Spec", "compile_all", "gemm_arguments", "public_kernels"]

#: What kernels are made of, and this package: modules without kernels.
NOT_KERNEL_MODULES = {"geometry", "operations", "program", "reference", "registry", "simd", "team", "tiles", "vecmath"}
#: Public functions in kernel modules that are no kernels.
NOT_KERNELS = {
    "gemm.make_panel",
    "gemm.scratch_for",
    "marked.marks_for",
    "marked.scratch_for",
    "optim.nadam_shares",
    "optim.norm_blocks",
    "packed.marks_for",
    "packed.pack",
    "packed.strip_shape",
    "sparse.scratch_for",
}

SPECS: dict[str, Spec] = {
    spec.name: spec
    for family in (augmentation, dense, convolution, pooling, normalization, joins, embedding, sparse, lazy)
    for spec in family.SPECS
}


def _kernel_modules(package: str, folder: Iterable[str]) -> Iterator[tuple[str, ModuleType]]:
    for info in pkgutil.iter_modules(folder):
        if info.name not in NOT_KERNEL_MODULES and not info.name.startswith("_"):
            module = importlib.import_module(f"{package}.{info.name}")
            yield info.name, module
            if info.ispkg:
                yield from _kernel_modules(module.__name__, module.__path__)


def public_kernels() -> dict[str, Callable[..., None]]:
    """Every public function of every kernel module, as "module.function"."""
    found = {}
    for module_name, module in _kernel_modules("fastfnn_kernels", [str(Path(__file__).parents[1])]):
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__
            if own and not name.startswith("_") and f"{module_name}.{name}" not in NOT_KERNELS:
                found[f"{module_name}.{name}"] = value
    return found


def compile_all(dtype: DTypeLike) -> None:
    """Compile every kernel (by a call on tiny arguments) and every operation for `dtype`, or load it from the cache.

    Without the JIT there is nothing to compile.
    """
    if not JIT:
        return
    from fastfnn_kernels import operations, program  # which need the JIT

    rng = np.random.default_rng(0)
    for spec in SPECS.values():
        tiny = next(shape for shape in spec.shapes if 0 not in shape)
        spec.kernel(*spec.make_args(rng, dtype, tiny, n_threads=1))
    operations.compile_all(dtype)
    program.run_nothing()
