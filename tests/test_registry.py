"""The registry is complete, and what the tests make of it can fail."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _helpers import assert_matches, run_guarded, run_python

import fastfnn
import fastfnn_kernels
from fastfnn_kernels import _config, reference
from fastfnn_kernels.registry import SPECS, Spec, public_kernels

KERNELS = Path(fastfnn_kernels.__file__).parent
FASTFNN = Path(fastfnn.__file__).parent
SOURCES = sorted([*KERNELS.rglob("*.py"), *FASTFNN.rglob("*.py")])


def a_square_shape(spec: Spec) -> tuple[int, ...]:
    """One at which 2-D outputs are square, so that a transposed one has the right shape."""
    if spec.name.startswith("normalize"):
        return (13, 1, 13)
    return {1: (65,), 2: (13, 13), 3: (13, 7, 13), 4: (13, 7, 5, 3), 7: (9, 3, 4, 6, 2, 3, 2)}[len(spec.shapes[0])]


def test_every_public_kernel_is_registered() -> None:
    registered = {getattr(spec.kernel, "func", spec.kernel) for spec in SPECS.values()}
    missing = [name for name, kernel in public_kernels().items() if kernel not in registered]
    assert not missing, f"kernels without a line in registry: {missing}"


def test_discovery_finds_decorated_kernels_and_plain_drivers() -> None:
    assert {"activations.relu", "gemm.gemm", "linear.linear", "linear.column_sum", "optim.adam"} <= set(
        public_kernels()
    )


@pytest.mark.parametrize("name", SPECS)
def test_every_twin_is_a_public_reference(name: str) -> None:
    twin = SPECS[name].twin
    assert twin.__module__.startswith("fastfnn_kernels.reference")
    assert getattr(reference, twin.__name__) is twin


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECS)
def test_wrong_outputs_are_rejected(name: str, dtype: str, rng: np.random.Generator) -> None:
    spec = SPECS[name]
    shape = a_square_shape(spec)
    args = spec.make_args(rng, dtype, shape)
    want = spec.expected(args)
    right = tuple(np.asarray(output).astype(out.dtype) for output, out in zip(want, args, strict=False))
    assert_matches(spec, right, want, dtype, shape, name)
    for place, output in enumerate(right):
        if not output.size:  # a result that was not asked for
            continue
        middle = np.arange(output.size) == output.size // 2
        wrong: dict[str, Any] = {
            "zeroed": np.zeros_like(output),
            "doubled": 2 * output,
            "shifted by a row": np.roll(output, 1, axis=0 if len(output) > 1 else -1),
            "without its largest element": np.where(np.abs(output) == np.abs(output).max(), 0, output),
            "NaN in one place": np.where(middle.reshape(output.shape), np.nan, output),
        }
        if output.size == 1 or not output.any():
            del wrong["shifted by a row"]
        if not output.any():  # nothing but zeros is right
            for how in ("zeroed", "doubled", "without its largest element"):
                del wrong[how]
        if output.ndim == 2:
            wrong["transposed"] = output.T
        for how, bad in wrong.items():
            outputs = (*right[:place], bad, *right[place + 1 :])
            with pytest.raises(AssertionError, match="differ|shape"):
                assert_matches(spec, outputs, want, dtype, shape, f"{name} {how}")


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("place", [-1, 5])
def test_a_write_beside_an_output_is_noticed(place: int, value: float, rng: np.random.Generator) -> None:
    def stray(out: Any, x: Any, team: Any = None) -> None:
        around = np.ndarray((7,), out.dtype, out.base, out.ctypes.data - out.base.ctypes.data - out.itemsize)
        around[1 + place] = value

    spec = dataclasses.replace(SPECS["relu"], kernel=stray)
    with pytest.raises(AssertionError, match="before" if place < 0 else "behind"):
        run_guarded(spec, spec.make_args(rng, "float32", (5,)))


def test_a_written_input_is_noticed(rng: np.random.Generator) -> None:
    def stray(out: Any, x: Any, team: Any = None) -> None:
        x[-1] = 7

    spec = dataclasses.replace(SPECS["relu"], kernel=stray)
    with pytest.raises(AssertionError, match="input 1 was written"):
        run_guarded(spec, spec.make_args(rng, "float32", (5,)))


@pytest.mark.parametrize("name", SPECS)
def test_a_result_that_a_kernel_must_not_read_is_drawn_as_nan(name: str, rng: np.random.Generator) -> None:
    """Or as the lowest integer. Scratch whose borders must be zero is all zeros."""
    spec = SPECS[name]
    args = spec.make_args(rng, "float64", a_square_shape(spec))
    for place in range(spec.outputs + spec.scratch):
        out = args[place]
        drawn = np.isnan(out) if out.dtype.kind == "f" else out == np.iinfo(out.dtype).min
        if place >= spec.outputs or not spec.in_place:
            assert drawn.all() or (place >= spec.outputs and not out.any()), f"argument {place}"
        else:
            assert drawn.all() or not drawn.any(), f"argument {place}"


@pytest.mark.parametrize("name", SPECS)
def test_work_and_traffic_are_counted(name: str, rng: np.random.Generator) -> None:
    spec = SPECS[name]
    shape = a_square_shape(spec)
    args = spec.make_args(rng, "float32", shape)
    outputs = sum(out.nbytes for out in args[: spec.outputs])
    assert spec.flops(shape) > 0
    assert outputs < spec.bytes(args) <= 2 * outputs + sum(a.nbytes for a in args if isinstance(a, np.ndarray))
    assert all(len(shape) == len(spec.shapes[0]) for shape in (*spec.shapes, *spec.bench_shapes))
    assert spec.bench_shapes


def test_the_work_of_a_product_is_a_multiplication_and_an_addition_for_each_of_its_terms() -> None:
    assert SPECS["gemm_nn"].flops((64, 784, 100)) == 2 * 64 * 784 * 100


def test_the_traffic_of_a_copying_kernel_is_what_it_reads_and_writes(rng: np.random.Generator) -> None:
    relu, sgd = SPECS["relu"], SPECS["sgd"]
    assert relu.bytes(relu.make_args(rng, "float32", (100,))) == 800
    assert sgd.bytes(sgd.make_args(rng, "float32", (100,))) == 1200


TRAIN_AFTER_COMPILE_ALL = """
import numpy as np
import fastfnn as ff
from fastfnn_kernels.registry import compile_all, public_kernels


def compiled():
    jitted = {name: kernel.jitted for name, kernel in public_kernels().items() if hasattr(kernel, "jitted")}
    return {f"{name} {signature}" for name, function in jitted.items() for signature in function.signatures}


compile_all(DTYPE)
before = compiled()
rng = np.random.default_rng(0)
labels, activations = rng.integers(0, 3, 20), (ff.ReLU(), ff.LeakyReLU(), ff.Sigmoid(), ff.Tanh())
pixels = rng.integers(0, 256, (20, 4, 4)).astype(np.uint8)
for x in (pixels, rng.normal(size=(20, 4, 4)), np.ones((20, 16), np.float32)):
    for loss, target, last in (
        (ff.CrossEntropyLoss(), labels, ()),
        (ff.CrossEntropyLoss(label_smoothing=0.1), np.eye(3)[labels], ()),
        (ff.NLLLoss(), labels, (ff.LogSoftmax(),)),
        (ff.NLLLoss(), np.eye(3)[labels], (ff.Softmax(), ff.Log())),
        (ff.BCELoss(), np.eye(3)[labels], (ff.Sigmoid(),)),
        (ff.BCEWithLogitsLoss(), np.eye(3)[labels], ()),
        (ff.MSELoss(), np.eye(3)[labels], ()),
    ):
        layers = [layer for activation in activations for layer in (ff.Linear(5, 5), activation)]
        model = ff.Sequential(ff.Flatten(), ff.Normalize(0.5), ff.Linear(16, 5), *layers, ff.Linear(5, 3), *last,
                              dtype=DTYPE, seed=0)
        for optimizer in (ff.SGD(0.01), ff.SGD(0.01, momentum=0.5), ff.Adam()):
            ff.fit(model, x, target, loss=loss, optimizer=optimizer, batch_size=8, n_threads=2, progress=False)
        ff.evaluate(model, x, target, loss=loss)
        ff.predict_proba(model, x)
print(len(before) >= 30, sorted(compiled() - before))
"""


@pytest.mark.skipif(not _config.JIT, reason="without the JIT nothing is compiled")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compile_all_leaves_nothing_for_training_to_compile(dtype: str) -> None:
    done = run_python(TRAIN_AFTER_COMPILE_ALL.replace("DTYPE", repr(dtype)))
    assert done.stdout == "True []\n", done.stderr


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that is called or used as a decorator."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func).split(".")[-1]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                yield decorator.lineno, ast.unparse(decorator).split("(")[0].split(".")[-1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_config_compiles_and_it_never_goes_parallel_or_fast_and_loose(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    compilers = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil"}
    if path != KERNELS / "_config.py":
        stray = [(line, name) for line, name in _calls(tree) if name in compilers]
        assert not stray, f"compile options belong in _config.py: {stray}"
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("parallel", "fastmath"):
            allowed = isinstance(node.value, ast.Constant) and node.value.value is False
            assert allowed or ast.unparse(node.value) == "FASTMATH", f"{node.arg}={ast.unparse(node.value)}"
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                named = key.value if isinstance(key, ast.Constant) else None
                assert named != "parallel", f"line {node.lineno}"
                assert named != "fastmath" or ast.unparse(value) == "FASTMATH", f"line {node.lineno}"


def test_the_fast_math_flags_keep_nan_and_infinity() -> None:
    assert _config.OPTIONS["fastmath"] is _config.FASTMATH
    assert {"nnan", "ninf", "fast"}.isdisjoint(_config.FASTMATH)
