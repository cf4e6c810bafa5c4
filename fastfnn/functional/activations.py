"""Functions of each element, and the softmaxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import Array, run_on_team


def _elementwise(kernel: Callable[..., None], x: ArrayLike, *scalars: float, n_threads: int | None) -> Array:
    x = check.float_array("x", x)
    out = np.empty_like(x)
    run_on_team(kernel, out.reshape(-1), x.reshape(-1), *map(x.dtype.type, scalars), n_threads=n_threads)
    return out


def _elementwise_backward(
    kernel: Callable[..., None],
    grad_out: ArrayLike,
    name: str,
    saved: ArrayLike,
    *scalars: float,
    n_threads: int | None,
) -> Array:
    grad_out = check.float_array("grad_out", grad_out)
    kept = check.float_array(name, saved, dtype=grad_out.dtype)
    check.same_shape("grad_out", grad_out, name, kept)
    grad_x = np.empty_like(grad_out)
    scalars_typed = map(grad_out.dtype.type, scalars)
    run_on_team(kernel, grad_x.reshape(-1), grad_out.reshape(-1), kept.reshape(-1), *scalars_typed, n_threads=n_threads)
    return grad_x


def relu(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """max(0, x), elementwise; NaN stays NaN."""
    return _elementwise(kernels.activations.relu, x, n_threads=n_threads)


def relu_backward(grad_out: ArrayLike, out: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x from the *output*: `grad_out` where it is positive."""
    return _elementwise_backward(kernels.activations.relu_backward, grad_out, "out", out, n_threads=n_threads)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, *, n_threads: int | None = None) -> Array:
    """x where it is positive, else ``negative_slope * x``."""
    slope = check.real("negative_slope", negative_slope)
    return _elementwise(kernels.activations.leaky_relu, x, slope, n_threads=n_threads)


def leaky_relu_backward(
    grad_out: ArrayLike, x: ArrayLike, negative_slope: float = 0.01, *, n_threads: int | None = None
) -> Array:
    """The gradient for x, from x."""
    slope = check.real("negative_slope", negative_slope)
    backward = kernels.activations.leaky_relu_backward
    return _elementwise_backward(backward, grad_out, "x", x, slope, n_threads=n_threads)


def sigmoid(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """1 / (1 + exp(-x)), elementwise, without overflow."""
    return _elementwise(kernels.activations.sigmoid, x, n_threads=n_threads)


def sigmoid_backward(grad_out: ArrayLike, out: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x from the *output* σ: ``grad_out * σ * (1 - σ)``."""
    return _elementwise_backward(kernels.activations.sigmoid_backward, grad_out, "out", out, n_threads=n_threads)


def tanh(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The hyperbolic tangent, elementwise."""
    return _elementwise(kernels.activations.tanh, x, n_threads=n_threads)


def tanh_backward(grad_out: ArrayLike, out: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x from the *output* t: ``grad_out * (1 - t²)``."""
    return _elementwise_backward(kernels.activations.tanh_backward, grad_out, "out", out, n_threads=n_threads)


def log(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The natural logarithm, elementwise; -inf at 0, NaN below: no epsilon is added."""
    return _elementwise(kernels.activations.log, x, n_threads=n_threads)


def log_backward(grad_out: ArrayLike, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x: ``grad_out / x``."""
    return _elementwise_backward(kernels.activations.log_backward, grad_out, "x", x, n_threads=n_threads)


def gelu(x: ArrayLike, approximate: str = "none", *, n_threads: int | None = None) -> Array:
    """``x Φ(x)`` with the normal distribution Φ (Hendrycks & Gimpel 2016).

    Parameters
    ----------
    x : array_like
    approximate : {"none", "tanh"}
        "tanh": ``x/2 (1 + tanh(sqrt(2/π) (x + 0.044715 x³)))``, which differs by 5e-4 at most.
    """
    kinds = {"none": kernels.activations.gelu, "tanh": kernels.activations.gelu_tanh}
    return _elementwise(kinds[check.one_of("approximate", approximate, ("none", "tanh"))], x, n_threads=n_threads)


def gelu_backward(
    grad_out: ArrayLike, x: ArrayLike, approximate: str = "none", *, n_threads: int | None = None
) -> Array:
    """The gradient for x, from x."""
    kinds = {"none": kernels.activations.gelu_backward, "tanh": kernels.activations.gelu_tanh_backward}
    backward = kinds[check.one_of("approximate", approximate, ("none", "tanh"))]
    return _elementwise_backward(backward, grad_out, "x", x, n_threads=n_threads)


def silu(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """``x σ(x)``, elementwise; also called swish (Elfwing et al. 2018)."""
    return _elementwise(kernels.activations.silu, x, n_threads=n_threads)


def silu_backward(grad_out: ArrayLike, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x, from x."""
    return _elementwise_backward(kernels.activations.silu_backward, grad_out, "x", x, n_threads=n_threads)


def elu(x: ArrayLike, alpha: float = 1.0, *, n_threads: int | None = None) -> Array:
    """x where it is positive, else ``alpha (exp(x) - 1)`` (Clevert et al. 2016)."""
    scalars = check.real("alpha", alpha), 1.0
    return _elementwise(kernels.activations.scaled_elu, x, *scalars, n_threads=n_threads)


def elu_backward(grad_out: ArrayLike, x: ArrayLike, alpha: float = 1.0, *, n_threads: int | None = None) -> Array:
    """The gradient for x, from x."""
    scalars = check.real("alpha", alpha), 1.0
    backward = kernels.activations.scaled_elu_backward
    return _elementwise_backward(backward, grad_out, "x", x, *scalars, n_threads=n_threads)


def selu(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """1.0507 times an `elu` with alpha 1.6733: keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    scalars = kernels.reference.SELU_ALPHA, kernels.reference.SELU_SCALE
    return _elementwise(kernels.activations.scaled_elu, x, *scalars, n_threads=n_threads)


def selu_backward(grad_out: ArrayLike, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x, from x."""
    scalars = kernels.reference.SELU_ALPHA, kernels.reference.SELU_SCALE
    backward = kernels.activations.scaled_elu_backward
    return _elementwise_backward(backward, grad_out, "x", x, *scalars, n_threads=n_threads)


def softplus(x: ArrayLike, beta: float = 1.0, threshold: float = 20.0, *, n_threads: int | None = None) -> Array:
    """``log(1 + exp(beta x)) / beta``, without overflow; x itself where ``beta x`` is above the threshold."""
    scalars = check.real("beta", beta, above=0), check.real("threshold", threshold)
    return _elementwise(kernels.activations.softplus, x, *scalars, n_threads=n_threads)


def softplus_backward(
    grad_out: ArrayLike, x: ArrayLike, beta: float = 1.0, threshold: float = 20.0, *, n_threads: int | None = None
) -> Array:
    """The gradient for x, from x."""
    scalars = check.real("beta", beta, above=0), check.real("threshold", threshold)
    backward = kernels.activations.softplus_backward
    return _elementwise_backward(backward, grad_out, "x", x, *scalars, n_threads=n_threads)


def relu6(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """x between 0 and 6, and the nearer of them outside; NaN stays NaN."""
    return _elementwise(kernels.activations.relu6, x, n_threads=n_threads)


def relu6_backward(grad_out: ArrayLike, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x, from x."""
    return _elementwise_backward(kernels.activations.relu6_backward, grad_out, "x", x, n_threads=n_threads)


def hardswish(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """``x relu6(x + 3) / 6``, elementwise (Howard et al. 2019)."""
    return _elementwise(kernels.activations.hardswish, x, n_threads=n_threads)


def hardswish_backward(grad_out: ArrayLike, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x, from x."""
    return _elementwise_backward(kernels.activations.hardswish_backward, grad_out, "x", x, n_threads=n_threads)


def _rows(name: str, x: ArrayLike, dtype: Any = None) -> tuple[Array, tuple[int, ...]]:
    """`x` as (rows, classes), and its own shape; the last axis may not be empty."""
    array = check.float_array(name, x, dtype=dtype)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise InvalidValueError(f"{name} has shape {array.shape}; expected a last axis of at least one class")
    return array.reshape(-1, array.shape[-1]) if array.ndim != 2 else array, array.shape


def softmax(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """exp(x) / Σ exp(x) over the last axis; finite for every finite x."""
    rows, shape = _rows("x", x)
    out = np.empty_like(rows)
    return run_on_team(kernels.softmax.softmax, out, rows, n_threads=n_threads, elements_each=4).reshape(shape)


def log_softmax(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The logarithm of `softmax`, without taking the logarithm of a small number."""
    rows, shape = _rows("x", x)
    out, scratch = np.empty_like(rows), np.empty_like(rows)
    return run_on_team(kernels.softmax.log_softmax, out, scratch, rows, n_threads=n_threads, elements_each=4).reshape(
        shape
    )


def _rows_backward(kernel: Callable[..., None], grad_out: ArrayLike, out: ArrayLike, n_threads: int | None) -> Array:
    grad, shape = _rows("grad_out", grad_out)
    kept, kept_shape = _rows("out", out, grad.dtype)
    if shape != kept_shape:
        raise InvalidValueError(f"grad_out has shape {shape}; expected {kept_shape}, the shape of out")
    return run_on_team(kernel, np.empty_like(grad), grad, kept, n_threads=n_threads).reshape(shape)


def softmax_backward(grad_out: ArrayLike, out: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x from the *output* p: ``p * (grad_out - Σ grad_out p)``."""
    return _rows_backward(kernels.softmax.softmax_backward, grad_out, out, n_threads)


def log_softmax_backward(grad_out: ArrayLike, out: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x from the *output*: ``grad_out - exp(out) Σ grad_out``."""
    return _rows_backward(kernels.softmax.log_softmax_backward, grad_out, out, n_threads)
