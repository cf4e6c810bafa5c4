"""Checked functions that allocate their results: the kernels' public face.

Names and signatures follow ``torch.nn.functional``, but `linear` takes its weight as (in, out), so that it is
``x @ weight + bias``. Each function has a twin of the same name in `fastfnn_kernels.reference`.

Arrays are float32 or float64 (other numbers become float32); the result has the dtype of the first argument.
Backward functions take the upstream gradient first. Wrong shapes and dtypes raise `InvalidValueError` (a
`ValueError`) or `InvalidTypeError` (a `TypeError`). ``n_threads=None`` uses every core where the work is worth it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError

Array = NDArray[Any]

#: What one thread does in a nanosecond, roughly: enough to tell large work from small.
FLOPS_PER_NANOSECOND = 100.0
NANOSECONDS_PER_ELEMENT = 0.5
#: Nanoseconds of work below which starting threads (about 200 µs) costs more than it saves.
WORK_WORTH_THREADS = 500_000.0


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _team(n_threads: int | None, nanoseconds: float) -> Any:
    automatic = cores() if nanoseconds >= WORK_WORTH_THREADS else 1
    return kernels.team.Team(check.n_threads(n_threads, automatic=automatic))


def _run(
    kernel: Callable[..., None], out: Array, *args: Any, n_threads: int | None, elements_each: float = 1.0
) -> Array:
    with _team(n_threads, out.size * elements_each * NANOSECONDS_PER_ELEMENT) as team:
        kernel(out, *args, team=team)
    return out


def _elementwise(kernel: Callable[..., None], x: ArrayLike, *scalars: float, n_threads: int | None) -> Array:
    x = check.float_array("x", x)
    out = np.empty_like(x)
    _run(kernel, out.reshape(-1), x.reshape(-1), *map(x.dtype.type, scalars), n_threads=n_threads)
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
    _run(kernel, grad_x.reshape(-1), grad_out.reshape(-1), kept.reshape(-1), *scalars_typed, n_threads=n_threads)
    return grad_x


# Products ---------------------------------------------------------------------------------------------------------


def _product(
    a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, *, n_threads: int | None
) -> Array:
    m, k = a.shape[::-1] if transpose_a else a.shape
    n = b.shape[0] if transpose_b else b.shape[1]
    out = np.empty((m, n), a.dtype)
    with _team(n_threads, 2.0 * m * n * k / FLOPS_PER_NANOSECOND) as team:
        scratch = kernels.gemm.scratch_for(a.dtype, team.size)
        nothing, one = np.empty(0, a.dtype), a.dtype.type(1)
        kernels.gemm.gemm(out, scratch, a, b, nothing, transpose_a, transpose_b, one, False, 0, team=team)
    return out


def matmul(a: ArrayLike, b: ArrayLike, *, n_threads: int | None = None) -> Array:
    """``a @ b`` for a (m, k) and b (k, n)."""
    a = check.float_array("a", a, ndim=2)
    b = check.float_array("b", b, ndim=2, dtype=a.dtype)
    if b.shape[0] != a.shape[1]:
        raise InvalidValueError(f"b has shape {b.shape}; expected ({a.shape[1]}, n), as a has shape {a.shape}")
    return _product(a, b, n_threads=n_threads)


def matmul_backward(
    grad_out: ArrayLike, a: ArrayLike, b: ArrayLike, *, n_threads: int | None = None
) -> tuple[Array, Array]:
    """``(grad_out @ b.T, a.T @ grad_out)``: the gradients for `a` and `b`."""
    a = check.float_array("a", a, ndim=2)
    b = check.float_array("b", b, ndim=2, dtype=a.dtype)
    grad = check.float_array("grad_out", grad_out, dtype=a.dtype)
    if grad.shape != (a.shape[0], b.shape[1]) or a.shape[1] != b.shape[0]:
        raise InvalidValueError(
            f"grad_out has shape {grad.shape}; expected {(a.shape[0], b.shape[1])}, "
            f"the shape of the product of a {a.shape} and b {b.shape}"
        )
    return (
        _product(grad, b, transpose_b=True, n_threads=n_threads),
        _product(a, grad, transpose_a=True, n_threads=n_threads),
    )


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, n_threads: int | None = None) -> Array:
    """``x @ weight + bias`` for x (n, in), weight (in, out) and bias (out,)."""
    x = check.float_array("x", x, ndim=2)
    weight = check.float_array("weight", weight, ndim=2, dtype=x.dtype)
    if weight.shape[0] != x.shape[1]:
        raise InvalidValueError(
            f"x has shape {x.shape}; expected (n, {weight.shape[0]}), as weight has shape {weight.shape}"
        )
    if bias is not None:
        bias = check.float_array("bias", bias, dtype=x.dtype)
        if bias.shape != weight.shape[1:]:
            raise InvalidValueError(f"bias has shape {bias.shape}; expected {weight.shape[1:]}")
    out = np.empty((x.shape[0], weight.shape[1]), x.dtype)
    with _team(n_threads, 2.0 * out.size * x.shape[1] / FLOPS_PER_NANOSECOND) as team:
        kernels.linear.linear(out, kernels.gemm.scratch_for(x.dtype, team.size), x, weight, bias, team=team)
    return out


def linear_backward(
    grad_out: ArrayLike, x: ArrayLike, weight: ArrayLike, *, n_threads: int | None = None
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `linear`."""
    grad_x, grad_weight = matmul_backward(grad_out, x, weight, n_threads=n_threads)
    grad = check.float_array("grad_out", grad_out, dtype=grad_x.dtype)
    grad_bias = np.empty(grad.shape[1], grad.dtype)
    _run(kernels.linear.column_sum, grad_bias, grad, False, n_threads=1)
    return grad_x, grad_weight, grad_bias


# Activations ------------------------------------------------------------------------------------------------------


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


# Softmax ----------------------------------------------------------------------------------------------------------


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
    return _run(kernels.softmax.softmax, out, rows, n_threads=n_threads, elements_each=4).reshape(shape)


def log_softmax(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The logarithm of `softmax`, without taking the logarithm of a small number."""
    rows, shape = _rows("x", x)
    out, scratch = np.empty_like(rows), np.empty_like(rows)
    return _run(kernels.softmax.log_softmax, out, scratch, rows, n_threads=n_threads, elements_each=4).reshape(shape)


def _rows_backward(kernel: Callable[..., None], grad_out: ArrayLike, out: ArrayLike, n_threads: int | None) -> Array:
    grad, shape = _rows("grad_out", grad_out)
    kept, kept_shape = _rows("out", out, grad.dtype)
    if shape != kept_shape:
        raise InvalidValueError(f"grad_out has shape {shape}; expected {kept_shape}, the shape of out")
    return _run(kernel, np.empty_like(grad), grad, kept, n_threads=n_threads).reshape(shape)


def softmax_backward(grad_out: ArrayLike, out: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x from the *output* p: ``p * (grad_out - Σ grad_out p)``."""
    return _rows_backward(kernels.softmax.softmax_backward, grad_out, out, n_threads)


def log_softmax_backward(grad_out: ArrayLike, out: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x from the *output*: ``grad_out - exp(out) Σ grad_out``."""
    return _rows_backward(kernels.softmax.log_softmax_backward, grad_out, out, n_threads)


# Losses -----------------------------------------------------------------------------------------------------------


def _reduced(losses: Array, reduction: str) -> Any:
    """The losses themselves, or their sum or mean in float64."""
    if reduction == "none":
        return losses
    total = float(np.sum(losses, dtype=np.float64))
    return total / losses.size if reduction == "mean" and losses.size else total


def _scale(reduction: str, count: int) -> float:
    """What the gradient of the sum is multiplied by, to be the gradient of the reduced loss."""
    return 1.0 / count if reduction == "mean" and count else 1.0


def _logits(logits: ArrayLike) -> Array:
    z = check.float_array("prediction", logits, ndim=2)
    if z.shape[1] == 0:
        raise InvalidValueError(f"prediction has shape {z.shape}; expected at least one class")
    return z


def _cross_entropy(
    logits: ArrayLike, target: ArrayLike, reduction: str, label_smoothing: float, n_threads: int | None
) -> tuple[Array, Array]:
    z = _logits(logits)
    check.one_of("reduction", reduction, check.REDUCTIONS)
    smoothing = check.real("label_smoothing", label_smoothing, least=0, below=1)
    q = check.class_target("target", target, z)
    kernel = kernels.softmax.softmax_cross_entropy if q.ndim == 1 else kernels.softmax.softmax_cross_entropy_rows
    losses, grad = np.empty(len(z)), np.empty_like(z)
    scalar = z.dtype.type
    with _team(n_threads, z.size * 4 * NANOSECONDS_PER_ELEMENT) as team:
        kernel(losses, grad, z, q, scalar(_scale(reduction, len(z))), scalar(smoothing), team=team)
    return losses, grad


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    n_threads: int | None = None,
) -> Any:
    """``-Σ q log softmax(logits)`` a row, stable at any logits.

    Parameters
    ----------
    logits : (n, classes)
    target : (n,) integer labels, or (n, classes) one-hot rows or probabilities
    reduction : {"mean", "sum", "none"}
        Over rows. "none" returns the n losses (float64), the others a float.
    label_smoothing : float in [0, 1)
        Weight of the uniform distribution mixed into the target.
    """
    return _reduced(_cross_entropy(logits, target, reduction, label_smoothing, n_threads)[0], reduction)


def cross_entropy_and_gradient(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    n_threads: int | None = None,
) -> tuple[Any, Array]:
    """What `cross_entropy` and `cross_entropy_backward` return, for the price of one: the kernel makes both."""
    losses, grad = _cross_entropy(logits, target, reduction, label_smoothing, n_threads)
    return _reduced(losses, reduction), grad


def cross_entropy_backward(
    logits: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    n_threads: int | None = None,
) -> Array:
    """The gradient of exactly what `cross_entropy` returns (for "none", of the losses' sum): (softmax - q) / n."""
    return _cross_entropy(logits, target, reduction, label_smoothing, n_threads)[1]


def _nll_arguments(prediction: ArrayLike, target: ArrayLike, reduction: str) -> tuple[Array, Array]:
    check.one_of("reduction", reduction, check.REDUCTIONS)
    log_p = _logits(prediction)
    return log_p, check.class_target("target", target, log_p)


def nll_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None) -> Any:
    """``-Σ q prediction`` a row of log-probabilities (n, classes); `target` as in `cross_entropy`."""
    log_p, q = _nll_arguments(prediction, target, reduction)
    kernel = kernels.losses.nll_losses if q.ndim == 1 else kernels.losses.nll_losses_rows
    return _reduced(_run(kernel, np.empty(len(log_p)), log_p, q, n_threads=n_threads), reduction)


def nll_loss_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `nll_loss`: ``-q / n``."""
    log_p, q = _nll_arguments(prediction, target, reduction)
    kernel = kernels.losses.nll_gradient if q.ndim == 1 else kernels.losses.nll_gradient_rows
    scale = log_p.dtype.type(_scale(reduction, len(log_p)))
    return _run(kernel, np.empty_like(log_p), log_p, q, scale, n_threads=n_threads)


def _pair(prediction: ArrayLike, target: ArrayLike, reduction: str) -> tuple[Array, Array]:
    check.one_of("reduction", reduction, check.REDUCTIONS)
    p = check.float_array("prediction", prediction)
    t = check.float_array("target", target, dtype=p.dtype)
    check.same_shape("target", t, "prediction", p)
    return p, t


def _losses(
    kernel: Callable[..., None], prediction: ArrayLike, target: ArrayLike, reduction: str, n_threads: int | None
) -> Any:
    p, t = _pair(prediction, target, reduction)
    losses = np.empty_like(p)
    _run(kernel, losses.reshape(-1), p.reshape(-1), t.reshape(-1), n_threads=n_threads, elements_each=4)
    return _reduced(losses, reduction)


def _gradient(
    kernel: Callable[..., None], prediction: ArrayLike, target: ArrayLike, reduction: str, n_threads: int | None
) -> Array:
    p, t = _pair(prediction, target, reduction)
    grad, scale = np.empty_like(p), p.dtype.type(_scale(reduction, p.size))
    _run(kernel, grad.reshape(-1), p.reshape(-1), t.reshape(-1), scale, n_threads=n_threads)
    return grad


def binary_cross_entropy(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Any:
    """``-(t log p + (1 - t) log(1 - p))`` of probabilities; logarithms are bounded below by -100, as in PyTorch."""
    return _losses(kernels.losses.bce_losses, prediction, target, reduction, n_threads)


def binary_cross_entropy_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `binary_cross_entropy`: ``(p - t) / (p (1 - p))``, over the count for "mean"."""
    return _gradient(kernels.losses.bce_gradient, prediction, target, reduction, n_threads)


def binary_cross_entropy_with_logits(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Any:
    """Binary cross-entropy of ``sigmoid(prediction)``, stable at any logits."""
    return _losses(kernels.losses.bce_with_logits_losses, prediction, target, reduction, n_threads)


def binary_cross_entropy_with_logits_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `binary_cross_entropy_with_logits`: ``sigmoid(z) - t``, over the count for "mean"."""
    return _gradient(kernels.losses.bce_with_logits_gradient, prediction, target, reduction, n_threads)


def mse_loss(prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None) -> Any:
    """``(prediction - target)²``; the mean is over all elements."""
    return _losses(kernels.losses.mse_losses, prediction, target, reduction, n_threads)


def mse_loss_backward(
    prediction: ArrayLike, target: ArrayLike, reduction: str = "mean", *, n_threads: int | None = None
) -> Array:
    """The gradient of `mse_loss`: ``2 (prediction - target)``, over the count for "mean"."""
    return _gradient(kernels.losses.mse_gradient, prediction, target, reduction, n_threads)
