"""Every public kernel: its reference twin, arguments to call it with, FLOPs, bytes and tolerance.

The tests and the benchmarks are driven by `SPECS`. A new kernel gets a line here; a test fails until it has one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import fastfnn_kernels
from fastfnn_kernels import (
    activations,
    gemm,
    linear,
    losses,
    normalization,
    operations,
    optim,
    program,
    reference,
    softmax,
)

Array = NDArray[Any]
Shape = tuple[int, ...]

#: What kernels are made of, and this file: modules without kernels.
NOT_KERNEL_MODULES = {"operations", "program", "reference", "registry", "simd", "team", "vecmath"}
#: Public functions in kernel modules that are no kernels.
NOT_KERNELS = {"gemm.scratch_for"}


class Draw:
    """Draws the arguments of one kernel call."""

    def __init__(self, rng: np.random.Generator, dtype: DTypeLike, n_threads: int) -> None:
        self.rng, self.n_threads = rng, n_threads
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def blank(self, *shape: int, dtype: DTypeLike | None = None) -> Array:
        """A result's memory or a scratch buffer: NaN, so that a kernel that reads it gives itself away."""
        return np.full(shape, np.nan, self.dtype if dtype is None else dtype)

    def panels(self) -> Array:
        scratch = gemm.scratch_for(self.dtype, self.n_threads)
        scratch[...] = np.nan
        return scratch

    def normal(self, *shape: int, spread: float = 1.0) -> Array:
        """Normally distributed, one in eight exactly 0, and one in sixteen -0."""
        x = self.rng.normal(0, spread, shape)
        x[self.rng.random(shape) < 1 / 8] = 0
        x[self.rng.random(shape) < 1 / 16] = -0.0
        return x.astype(self.dtype)

    def between(self, low: float, high: float, *shape: int) -> Array:
        return self.rng.uniform(low, high, shape).astype(self.dtype)

    def unit(self, *shape: int) -> Array:
        """Probabilities, one in eight exactly 0 and one in eight exactly 1."""
        x, ends = self.between(0.02, 0.98, *shape), self.rng.integers(0, 8, shape)
        x[ends == 0], x[ends == 1] = 0, 1
        return x

    def pixels(self, *shape: int) -> NDArray[np.uint8]:
        return self.rng.integers(0, 256, shape, np.uint8)

    def labels(self, rows: int, classes: int) -> NDArray[np.int64]:
        """Class labels; where there are rows, the first and the last class are among them."""
        labels = self.rng.integers(0, classes, rows)
        labels[:1], labels[1:2] = classes - 1, 0
        return labels

    def weights(self, rows: int, classes: int) -> Array:
        """Rows that sum to 1: every second one-hot, the others probabilities, some of them 0."""
        q = self.rng.random((rows, classes)) * (self.rng.random((rows, classes)) < 0.7)
        q += 1e-3 * (q.sum(axis=1, keepdims=True) == 0)
        q[::2] = np.eye(classes)[self.rng.integers(0, classes, len(q[::2]))]
        return (q / q.sum(axis=1, keepdims=True)).astype(self.dtype)

    def scalar(self, value: float) -> Any:
        return self.dtype.type(value)

    def nothing(self) -> Array:
        return np.empty(0, self.dtype)


def _one(*_: int) -> float:
    return 1.0


def _sum_over_rows(rows: int, columns: int) -> float:
    return 1.0 + rows


def _sum_over_classes(rows: int, classes: int) -> float:
    return 1.0 + classes


@dataclass(frozen=True)
class Spec:
    """A kernel, or one way to use it.

    Attributes
    ----------
    name : str
        The kernel's name, and what is special about this use of it.
    kernel : callable
        Called as ``kernel(*outputs, *scratch, *inputs, team=None)``.
    draw : callable
        ``draw(d, *shape)`` makes all arguments with the `Draw` d, outputs first.
    shapes, bench_shapes : tuples of shapes
        What the tests and what the benchmarks run. The product of a shape counts the kernel's cells: elements, or
        multiply-adds of a product.
    flops_each : float
        Arithmetic operations a cell, an exponential or logarithm counted as one.
    twin, outputs, scratch, in_place
        As in `fastfnn_kernels._config.kernel`.
    tolerance : float
        In units of the dtype's epsilon: ``|got - expected| <= tolerance * eps * (|expected| + scale(*shape))``.
    scale : callable
        Size of the terms that an element sums up, where that is not 1.
    unread : tuple of int
        Places of arguments of which the kernel only reads the shape; they are no traffic.
    """

    name: str
    kernel: Callable[..., None]
    draw: Callable[..., tuple[Any, ...]]
    shapes: tuple[Shape, ...]
    bench_shapes: tuple[Shape, ...]
    flops_each: float
    twin: Callable[..., Any]
    outputs: int = 1
    scratch: int = 0
    in_place: bool = False
    tolerance: float = 8.0
    scale: Callable[..., float] = _one
    unread: tuple[int, ...] = ()

    def make_args(
        self, rng: np.random.Generator, dtype: DTypeLike, shape: Shape, n_threads: int = 4
    ) -> tuple[Any, ...]:
        """Arguments for a call on up to `n_threads` threads."""
        return self.draw(Draw(rng, dtype, n_threads), *shape)

    def expected(self, args: tuple[Any, ...]) -> tuple[NDArray[np.float64], ...]:
        """What the twin makes of the same arguments: one array for each output, in float64."""
        outs, inputs = args[: self.outputs], args[self.outputs + self.scratch :]
        results = self.twin(*outs, *inputs) if self.in_place else self.twin(*inputs)
        return results if self.outputs > 1 else (results,)

    def flops(self, shape: Shape) -> float:
        return self.flops_each * math.prod(shape)

    def bytes(self, args: tuple[Any, ...]) -> int:
        """Bytes that must move between memory and processor: outputs written (and read, in place), inputs read."""
        outs = args[: self.outputs]
        inputs = [a for i, a in enumerate(args) if i >= self.outputs + self.scratch and i not in self.unread]
        written = sum(out.nbytes for out in outs)
        read = sum(out.nbytes for out in outs if self.in_place and not np.isnan(out).all())
        return written + read + sum(a.nbytes for a in inputs if isinstance(a, np.ndarray))


# Shapes: every length up to 17, both sides of each vector, tile and block edge of any machine, and a few beyond. Rows,
# columns and depths go round independently, so that every one of them meets many others.


def _round(count: int, *lengths: Iterable[int]) -> tuple[Shape, ...]:
    lists = [tuple(values) for values in lengths]
    return tuple(tuple(values[i % len(values)] for values in lists) for i in range(count))


_EDGES = (*range(18), 23, 24, 25, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 193, 513)
_CLASSES = (10, 1, 3, 4, 5, 2, 7, 8, 9, 15, 16, 17, 100, 31, 33, 6, 65)
_COLUMNS = (1, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100, 129, 2)
#: A panel is full at a depth of 112, 224 or 448, by the machine's vectors (`gemm._depth_block`).
_DEPTHS = (1, 7, 2, 16, 111, 10, 113, 447, 225, 895, 0, 449, 897, 33, 112)

FLAT = {"shapes": tuple((n,) for n in _EDGES), "bench_shapes": ((6_400,), (79_510,), (4_000_000,))}
ROWS = {"shapes": (*_round(52, _EDGES, _CLASSES), (513, 10)), "bench_shapes": ((64, 10), (60_000, 10))}
IMAGES = {
    "shapes": _round(40, _EDGES, (1, 3, 1, 2, 1, 5, 1), (10, 7, 1, 16, 100, 33, 8, 65, 17)),
    "bench_shapes": ((64, 1, 784), (2_048, 1, 784)),
}


def _products(*bench_shapes: Shape) -> dict[str, Any]:
    shapes = _round(46, _EDGES[1:], _DEPTHS, _COLUMNS)
    big = ((513, 7, 33), (193, 448, 17), (5, 784, 100), (1025, 3, 10))
    return {"shapes": (*shapes, *big, (0, 7, 10)), "bench_shapes": bench_shapes, "scale": lambda m, k, n: 1 + k}


_FORWARD = _products((64, 784, 100), (128, 784, 100), (256, 784, 100), (64, 100, 10), (512, 512, 512))
_TO_INPUT = _products((64, 100, 784), (256, 100, 784), (64, 10, 100), (512, 512, 512))
_TO_WEIGHT = _products((784, 64, 100), (784, 256, 100), (100, 64, 10), (512, 512, 512))


def gemm_arguments(
    transpose_a: bool = False,
    transpose_b: bool = False,
    accumulate: bool = False,
    epilogue: int = gemm.NO_EPILOGUE,
    alpha: float = 1.0,
) -> Callable[..., tuple[Any, ...]]:
    """How to draw a product of shape (m, k, n)."""

    def draw(d: Draw, m: int, k: int, n: int) -> tuple[Any, ...]:
        out = d.normal(m, n) if accumulate else d.blank(m, n)
        a = d.normal(k, m) if transpose_a else d.normal(m, k)
        b = d.normal(n, k) if transpose_b else d.normal(k, n)
        extra = {gemm.NO_EPILOGUE: 0, gemm.RELU_MASK: m * n}.get(epilogue, n)
        return out, d.panels(), a, b, d.normal(extra), transpose_a, transpose_b, d.scalar(alpha), accumulate, epilogue

    return draw


def _nll(d: Draw, n: int, c: int) -> tuple[Array, Array]:
    return d.blank(n, dtype=np.float64), d.between(-5, -0.01, n, c)


def _cross_entropy(smoothing: float, rows: bool) -> Callable[..., tuple[Any, ...]]:
    def draw(d: Draw, n: int, c: int) -> tuple[Any, ...]:
        target = d.weights(n, c) if rows else d.labels(n, c)
        logits = d.normal(n, c, spread=4)
        return d.blank(n, dtype=np.float64), d.blank(n, c), logits, target, d.scalar(0.7), d.scalar(smoothing)

    return draw


def _adam(d: Draw, n: int) -> tuple[Any, ...]:
    scalars = (0.01, 0.9, 0.999, 1e-8, 0.02, 1 - 0.9**3, 1 - 0.999**3)  # lr, betas, eps, decay, corrections of step 3
    return d.normal(n), d.normal(n), d.between(0.01, 1, n), d.normal(n), *map(d.scalar, scalars)


def _momentum(nesterov: bool) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n: (
        d.normal(n), d.normal(n), d.normal(n), d.scalar(0.1), d.scalar(0.9), nesterov, d.scalar(0.02)
    )  # fmt: skip


def _scaled(source: Callable[[Draw, int, int], Array]) -> Callable[..., tuple[Any, ...]]:
    return lambda d, n, c, block: (d.blank(n, c * block), source(d, n, c * block), d.normal(c), d.normal(c))


def _other_float(d: Draw, rows: int, columns: int) -> Array:
    return d.normal(rows, columns).astype(np.float32 if d.dtype == np.float64 else np.float64)


def _spec(name: str, kernel: Callable[..., None], draw: Callable[..., Any], flops_each: float, **more: Any) -> Spec:
    """A `Spec` that takes from the kernel's decorator what that knows."""
    known = {key: vars(kernel)[key] for key in ("twin", "outputs", "scratch", "in_place") if key in vars(kernel)}
    return Spec(name, kernel, draw, flops_each=flops_each, **known, **more)


# fmt: off
_ALL = [
    _spec("relu", activations.relu, lambda d, n: (d.blank(n), d.normal(n)), 1, **FLAT),
    _spec("relu_backward", activations.relu_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n)), 1, **FLAT),
    _spec("leaky_relu", activations.leaky_relu, lambda d, n: (d.blank(n), d.normal(n), d.scalar(0.01)), 2, **FLAT),
    _spec("leaky_relu_backward", activations.leaky_relu_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n), d.scalar(0.01)), 2, **FLAT),
    _spec("sigmoid", activations.sigmoid, lambda d, n: (d.blank(n), d.normal(n, spread=4)), 4, **FLAT),
    _spec("sigmoid_backward", activations.sigmoid_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.unit(n)), 3, **FLAT),
    _spec("tanh", activations.tanh, lambda d, n: (d.blank(n), d.normal(n, spread=2)), 4, **FLAT),
    _spec("tanh_backward", activations.tanh_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.between(-1, 1, n)), 4, **FLAT),
    _spec("log", activations.log, lambda d, n: (d.blank(n), d.between(1e-3, 10, n)), 1, **FLAT),
    _spec("log_backward", activations.log_backward,
          lambda d, n: (d.blank(n), d.normal(n), d.between(1e-3, 10, n)), 1, **FLAT),

    _spec("gemm_nn", gemm.gemm, gemm_arguments(), 2, **_FORWARD),
    _spec("gemm_nn_accumulate", gemm.gemm, gemm_arguments(accumulate=True), 2, **_FORWARD),
    _spec("gemm_nn_bias", gemm.gemm, gemm_arguments(epilogue=gemm.BIAS), 2, **_FORWARD),
    _spec("gemm_nn_bias_relu", gemm.gemm, gemm_arguments(epilogue=gemm.BIAS_RELU), 2, **_FORWARD),
    _spec("gemm_nt", gemm.gemm, gemm_arguments(transpose_b=True), 2, **_TO_INPUT),
    _spec("gemm_nt_relu_mask", gemm.gemm, gemm_arguments(transpose_b=True, epilogue=gemm.RELU_MASK), 2, **_TO_INPUT),
    _spec("gemm_tn", gemm.gemm, gemm_arguments(transpose_a=True), 2, **_TO_WEIGHT),
    _spec("gemm_tn_scaled_update", gemm.gemm,
          gemm_arguments(transpose_a=True, accumulate=True, alpha=-0.1), 2, **_TO_WEIGHT),
    _spec("gemm_tt", gemm.gemm, gemm_arguments(transpose_a=True, transpose_b=True), 2, **_products((512, 512, 512))),

    _spec("linear", linear.linear,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(k, n), d.normal(n)), 2,
          twin=reference.linear, scratch=1, **_FORWARD),
    _spec("linear_without_bias", linear.linear,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(k, n)), 2,
          twin=reference.linear, scratch=1, **_FORWARD),
    _spec("linear_relu", functools.partial(linear.linear, relu=True),
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(k, n), d.normal(n)), 2,
          twin=reference.linear_relu, scratch=1, **_FORWARD),
    _spec("linear_backward_input", linear.linear_backward_input,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(n, k)), 2,
          twin=reference.linear_backward_input, scratch=1, **_TO_INPUT),
    _spec("linear_backward_input_masked", linear.linear_backward_input,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(m, k), d.normal(n, k), d.normal(m, n)), 2,
          twin=reference.linear_backward_input, scratch=1, **_TO_INPUT),
    _spec("linear_backward_weight", linear.linear_backward_weight,
          lambda d, m, k, n: (d.blank(m, n), d.panels(), d.normal(k, n), d.normal(k, m)), 2,
          twin=reference.linear_backward_weight, scratch=1, in_place=True, **_TO_WEIGHT),
    _spec("linear_sgd_step", linear.linear_backward_weight,
          lambda d, m, k, n: (d.normal(m, n), d.panels(), d.normal(k, n), d.normal(k, m), d.scalar(-0.1), True), 2,
          twin=reference.linear_backward_weight, scratch=1, in_place=True, **_TO_WEIGHT),
    _spec("column_sum", linear.column_sum, lambda d, n, c: (d.blank(c), d.normal(n, c), False), 1,
          scale=_sum_over_rows, **ROWS),
    _spec("column_sum_accumulate", linear.column_sum, lambda d, n, c: (d.normal(c), d.normal(n, c), True), 1,
          scale=_sum_over_rows, **ROWS),

    _spec("softmax", softmax.softmax, lambda d, n, c: (d.blank(n, c), d.normal(n, c, spread=4)), 5, **ROWS),
    _spec("softmax_backward", softmax.softmax_backward,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.weights(n, c)), 4, **ROWS),
    _spec("log_softmax", softmax.log_softmax,
          lambda d, n, c: (d.blank(n, c), d.blank(n, c), d.normal(n, c, spread=4)), 5, **ROWS),
    _spec("log_softmax_backward", softmax.log_softmax_backward,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.between(-5, 0, n, c)), 4,
          scale=_sum_over_classes, **ROWS),
    _spec("softmax_cross_entropy", softmax.softmax_cross_entropy, _cross_entropy(0, rows=False), 6,
          scale=_sum_over_classes, **ROWS),
    _spec("softmax_cross_entropy_smoothed", softmax.softmax_cross_entropy, _cross_entropy(0.1, rows=False), 7,
          scale=_sum_over_classes, **ROWS),
    _spec("softmax_cross_entropy_rows", softmax.softmax_cross_entropy_rows, _cross_entropy(0, rows=True), 9,
          scale=_sum_over_classes, **ROWS),
    _spec("softmax_cross_entropy_rows_smoothed", softmax.softmax_cross_entropy_rows, _cross_entropy(0.1, rows=True), 9,
          scale=_sum_over_classes, **ROWS),

    # A row of few classes is one cache line: labels touch as much memory as the whole of it.
    _spec("nll_losses", losses.nll_losses, lambda d, n, c: (*_nll(d, n, c), d.labels(n, c)), 1, **ROWS),
    _spec("nll_losses_rows", losses.nll_losses_rows, lambda d, n, c: (*_nll(d, n, c), d.weights(n, c)), 2,
          scale=_sum_over_classes, **ROWS),
    _spec("nll_gradient", losses.nll_gradient,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.labels(n, c), d.scalar(0.7)), 1, unread=(1,), **ROWS),
    _spec("nll_gradient_rows", losses.nll_gradient_rows,
          lambda d, n, c: (d.blank(n, c), d.normal(n, c), d.weights(n, c), d.scalar(0.7)), 1, unread=(1,), **ROWS),
    # Terms of up to 100, which LLVM may regroup so that they cancel: (1 - t) log(1 - p) as log(1 - p) - t log(1 - p).
    _spec("bce_losses", losses.bce_losses, lambda d, n: (d.blank(n), d.unit(n), d.unit(n)), 7,
          scale=lambda n: 100, tolerance=2, **FLAT),
    _spec("bce_gradient", losses.bce_gradient,
          lambda d, n: (d.blank(n), d.unit(n), d.unit(n), d.scalar(0.7)), 5, **FLAT),
    _spec("bce_with_logits_losses", losses.bce_with_logits_losses,
          lambda d, n: (d.blank(n), d.normal(n, spread=4), d.unit(n)), 7, **FLAT),
    _spec("bce_with_logits_gradient", losses.bce_with_logits_gradient,
          lambda d, n: (d.blank(n), d.normal(n, spread=4), d.unit(n), d.scalar(0.7)), 6, **FLAT),
    _spec("mse_losses", losses.mse_losses, lambda d, n: (d.blank(n), d.normal(n), d.normal(n)), 2, **FLAT),
    _spec("mse_gradient", losses.mse_gradient,
          lambda d, n: (d.blank(n), d.normal(n), d.normal(n), d.scalar(0.7)), 3, **FLAT),

    _spec("normalize", normalization.normalize, _scaled(Draw.normal), 2, **IMAGES),
    _spec("normalize_uint8", normalization.normalize, _scaled(Draw.pixels), 2, scale=lambda *_: 255, **IMAGES),
    _spec("normalize_other_float", normalization.normalize, _scaled(_other_float), 2, **IMAGES),

    _spec("sgd", optim.sgd, lambda d, n: (d.normal(n), d.normal(n), d.scalar(0.1), d.scalar(0.02)), 4, **FLAT),
    _spec("sgd_momentum", optim.sgd_momentum, _momentum(nesterov=False), 6, **FLAT),
    _spec("sgd_nesterov", optim.sgd_momentum, _momentum(nesterov=True), 8, **FLAT),
    _spec("adam", optim.adam, _adam, 15, **FLAT),
]
# fmt: on

SPECS: dict[str, Spec] = {spec.name: spec for spec in _ALL}


def public_kernels() -> dict[str, Callable[..., None]]:
    """Every public function of every kernel module, as "module.function"."""
    names = [m.name for m in pkgutil.iter_modules(fastfnn_kernels.__path__)]
    found = {}
    for module_name in (n for n in names if n not in NOT_KERNEL_MODULES and not n.startswith("_")):
        module = importlib.import_module(f"fastfnn_kernels.{module_name}")
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__
            if own and not name.startswith("_") and f"{module_name}.{name}" not in NOT_KERNELS:
                found[f"{module_name}.{name}"] = value
    return found


def compile_all(dtype: DTypeLike) -> None:
    """Compile every kernel (by a call on tiny arguments) and every operation for `dtype`, or load it from the cache."""
    rng = np.random.default_rng(0)
    for spec in SPECS.values():
        tiny = next(shape for shape in spec.shapes if 0 not in shape)
        spec.kernel(*spec.make_args(rng, dtype, tiny, n_threads=1))
    operations.compile_all(dtype)
    program.run_nothing()
