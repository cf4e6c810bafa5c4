"""Which kernels NumPy's linear algebra runs, and whether a variable of the environment holds a contender back."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

#: Variables that choose less than the processor has, or other sizes of blocks, and whom they slow down.
HOLDS_BACK = {
    "OPENBLAS_CORETYPE": "NumPy and scikit-learn",
    "OPENBLAS_L2_SIZE": "NumPy and scikit-learn",
    "OPENBLAS_BLOCK_FACTOR": "NumPy and scikit-learn",
    "NPY_DISABLE_CPU_FEATURES": "NumPy and scikit-learn",
    "ATEN_CPU_CAPABILITY": "PyTorch",
    "MKL_ENABLE_INSTRUCTIONS": "PyTorch",
    "MKL_CBWR": "PyTorch",
    "ONEDNN_MAX_CPU_ISA": "PyTorch",
    "DNNL_MAX_CPU_ISA": "PyTorch",
    "NUMBA_CPU_NAME": "fastfnn",
    "NUMBA_CPU_FEATURES": "fastfnn",
}
#: Families that multiply matrices by NumPy's.
USERS = ("NumPy exercise", "scikit-learn")


def held_back(environment: Mapping[str, str]) -> list[str]:
    """A warning for each variable that is set."""
    found = [(name, who) for name, who in HOLDS_BACK.items() if environment.get(name)]
    return [f"{name}={environment[name]} is set: it may hold back {who}" for name, who in found]


def missing() -> str:
    """The package that tells the kernels, where it is not installed."""
    return "" if importlib.util.find_spec("threadpoolctl") else "threadpoolctl"


def described(libraries: list[dict[str, Any]]) -> str:
    """Those of one process in words, SciPy's beside NumPy's: ``OpenBLAS 0.3.30 with SkylakeX kernels, 2 threads``."""
    return "; ".join(dict.fromkeys(map(_described, libraries))) or "no library that is known"


def _described(library: dict[str, Any]) -> str:
    name = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}.get(library["internal_api"], library["internal_api"])
    kernels = f" with {library['architecture']} kernels" if library.get("architecture") else ""
    threads = library["num_threads"]
    return f"{name} {library.get('version') or 'of unknown version'}{kernels}, {threads} thread{'s' * (threads > 1)}"
