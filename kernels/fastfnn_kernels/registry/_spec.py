"""What a kernel's line in the registry is made of: `Spec`, the `Draw` of its arguments, and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastfnn_kernels.products import gemm

Array = NDArray[Any]
Shape = tuple[int, ...]


class Draw:
    """Draws the arguments of one kernel call."""

    def __init__(self, rng: np.random.Generator, dtype: DTypeLike, n_threads: int) -> None:
        self.rng, self.n_threads = rng, n_threads
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def blank(self, *shape: int, dtype: DTypeLike | None = None) -> Array:
        """A result's memory or a scratch buffer: NaN, so that a kernel that reads it gives itself away.

        Integers have none: they are the lowest of their dtype.
        """
        kind: np.dtype[Any] = np.dtype(self.dtype if dtype is None else dtype)
        nothing: float = np.iinfo(kind).min if kind.kind == "i" else np.nan
        return np.full(shape, nothing, kind)

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


def one(*_: int) -> float:
    return 1.0


def sum_over_rows(rows: int, columns: int) -> float:
    return 1.0 + rows


def sum_over_classes(rows: int, classes: int) -> float:
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
    nan_spreads : bool
        A NaN may show in more places than in the twin's results, or in fewer: the kernel multiplies it by zeros of its
        padding, or skips the zeros that the twin multiplies it by.
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
    scale: Callable[..., float] = one
    unread: tuple[int, ...] = ()
    nan_spreads: bool = False

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


def round_robin(count: int, *lengths: Iterable[int]) -> tuple[Shape, ...]:
    lists = [tuple(values) for values in lengths]
    return tuple(tuple(values[i % len(values)] for values in lists) for i in range(count))


EDGES = (*range(18), 23, 24, 25, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 193, 513)
CLASSES = (10, 1, 3, 4, 5, 2, 7, 8, 9, 15, 16, 17, 100, 31, 33, 6, 65)

FLAT = {"shapes": tuple((n,) for n in EDGES), "bench_shapes": ((6_400,), (79_510,), (4_000_000,))}
ROWS = {"shapes": (*round_robin(52, EDGES, CLASSES), (513, 10)), "bench_shapes": ((64, 10), (60_000, 10))}
IMAGES = {
    "shapes": round_robin(40, EDGES, (1, 3, 1, 2, 1, 5, 1), (10, 7, 1, 16, 100, 33, 8, 65, 17)),
    "bench_shapes": ((64, 1, 784), (2_048, 1, 784)),
}


def spec_of(name: str, kernel: Callable[..., None], draw: Callable[..., Any], flops_each: float, **more: Any) -> Spec:
    """A `Spec` that takes from the kernel's decorator what that knows."""
    known = {key: vars(kernel)[key] for key in ("twin", "outputs", "scratch", "in_place") if key in vars(kernel)}
    return Spec(name, kernel, draw, flops_each=flops_each, **known, **more)
