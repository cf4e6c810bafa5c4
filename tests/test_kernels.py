"""Every compiled kernel against its reference twin, and what the numbers alone would not show."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastfnn_kernels import _config

if not _config.JIT:
    pytest.skip("without the JIT every kernel is its twin", allow_module_level=True)

from _helpers import assert_close, assert_matches, float_inputs, run_guarded

from fastfnn_kernels import activations, losses, reference, softmax
from fastfnn_kernels.products import gemm
from fastfnn_kernels.registry import SPECS, gemm_arguments
from fastfnn_kernels.team import Team

DTYPES = ("float32", "float64")


@pytest.fixture(scope="module")
def teams() -> Iterator[dict[int, Team | None]]:
    with Team(2) as two, Team(3) as three:
        assert (two.size, three.size) == (2, 3)
        yield {1: None, 2: two, 3: three}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECS)
def test_a_kernel_equals_its_twin_bit_for_bit_on_any_number_of_threads(
    name: str, dtype: str, teams: dict[int, Team | None], rng: np.random.Generator
) -> None:
    """At every shape, aligned or not, within guard zones and without touching an input."""
    spec = SPECS[name]
    for shape in spec.shapes:
        args = spec.make_args(rng, dtype, shape)
        on_one: tuple[Any, ...] = ()
        for n_threads, team in teams.items():
            where = f"{name} {dtype} {shape} on {n_threads} threads"
            got = run_guarded(spec, args, team=team, misaligned=n_threads == 2, where=where)
            if n_threads == 1:
                on_one = got
                assert_matches(spec, got, spec.expected(args), dtype, shape, where)
            for one, other in zip(on_one, got, strict=True):
                assert one.tobytes() == other.tobytes(), f"{where}: not the bits of one thread"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epilogue", [gemm.NO_EPILOGUE, gemm.BIAS, gemm.BIAS_RELU, gemm.RELU_MASK])
def test_gemm_does_every_combination_of_its_options(
    epilogue: int, dtype: str, teams: dict[int, Team | None], rng: np.random.Generator
) -> None:
    options = itertools.product((False, True), (False, True), (False, True), (1.0, -0.5))
    for transpose_a, transpose_b, accumulate, alpha in options:
        draw = gemm_arguments(transpose_a, transpose_b, accumulate, epilogue, alpha)
        spec = dataclasses.replace(SPECS["gemm_nn"], draw=draw)
        for shape in ((7, 113, 33), (197, 2, 17), (25, 0, 10), (3, 450, 131), (4, 5, 0)):
            args = spec.make_args(rng, dtype, shape)
            where = f"{shape}, transposed {transpose_a} {transpose_b}, accumulate {accumulate}, alpha {alpha}"
            got = run_guarded(spec, args, team=teams[2], where=where)
            assert_matches(spec, got, spec.expected(args), dtype, shape, where)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECS)
def test_a_nan_goes_where_the_twin_says(name: str, dtype: str, rng: np.random.Generator) -> None:
    spec = SPECS[name]
    shape = {1: (70,), 2: (9, 21), 3: (9, 7, 21), 4: (9, 7, 5, 2), 7: (9, 5, 4, 6, 2, 3, 3)}[len(spec.shapes[0])]
    for place, _ in float_inputs(spec, spec.make_args(rng, dtype, shape)):
        for _ in range(8):
            args = spec.make_args(rng, dtype, shape)
            if args[place].size:
                args[place].flat[rng.integers(args[place].size)] = np.nan
            with np.errstate(invalid="ignore"):
                want = spec.expected(args)
            where = f"{name} {dtype}, NaN in argument {place}"
            got = run_guarded(spec, args, where=where)
            if spec.nan_spreads:
                got = tuple(np.where(np.isnan(g) != np.isnan(w), w, g) for g, w in zip(got, want, strict=True))
            assert_matches(spec, got, want, dtype, shape, where)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name",
    [
        *("relu", "leaky_relu", "sigmoid", "tanh", "log", "gelu", "gelu_tanh", "silu", "scaled_elu", "softplus"),
        *("relu6", "hardswish", "gemm_nn_bias", "gemm_nn_bias_relu", "linear_relu"),
    ],
)
def test_a_nan_passes_through_what_a_network_is_made_of(name: str, dtype: str, rng: np.random.Generator) -> None:
    spec = SPECS[name]
    shape = {1: (70,), 3: (9, 7, 21)}[len(spec.shapes[0])]
    args = spec.make_args(rng, dtype, shape)
    _, x = next(float_inputs(spec, args))
    x[4] = np.nan
    (got,) = run_guarded(spec, args)
    assert np.isnan(got[4]).all()
    assert not np.isnan(np.delete(got, 4, axis=0)).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "softmax_cross_entropy_rows"])
def test_one_nan_logit_gives_a_nan_loss_in_its_row_only(name: str, dtype: str, rng: np.random.Generator) -> None:
    spec = SPECS[name]
    for column in range(10):
        args = spec.make_args(rng, dtype, (40, 10))
        args[2][33, column] = np.nan
        row_losses, grad = run_guarded(spec, args)
        assert np.isnan(row_losses[33])
        assert np.isnan(grad[33]).all()
        assert np.isfinite(np.delete(row_losses, 33)).all()
        assert np.isfinite(np.delete(grad, 33, axis=0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name",
    [
        "sigmoid",
        "tanh",
        "softmax",
        "log_softmax",
        "softmax_cross_entropy",
        "softmax_cross_entropy_smoothed",
        "softmax_cross_entropy_rows",
        "softmax_cross_entropy_rows_smoothed",
        "bce_with_logits_losses",
        "bce_with_logits_gradient",
    ],
)
def test_logits_of_ten_thousand_are_as_good_as_any(name: str, dtype: str, rng: np.random.Generator) -> None:
    spec = SPECS[name]
    shape = {1: (500,), 2: (50, 10)}[len(spec.shapes[0])]
    args = spec.make_args(rng, dtype, shape)
    _, logits = next(float_inputs(spec, args))
    logits[...] = rng.choice([-1e4, -9.99e3, -100, -1, 0, 1, 100, 9.99e3, 1e4], logits.shape)
    got = run_guarded(spec, args)
    assert all(np.isfinite(output).all() for output in got)
    if name == "bce_with_logits_losses":  # a difference of two numbers as large as the logits
        spec = dataclasses.replace(spec, scale=lambda n: 1e4)
    assert_matches(spec, got, spec.expected(args), dtype, shape, name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_label_may_be_any_class(dtype: str, rng: np.random.Generator) -> None:
    logits = rng.normal(size=(5, 5)).astype(dtype)
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    labels = np.arange(5)
    row_losses, grad = np.full(5, np.nan), np.full_like(logits, np.nan)
    softmax.softmax_cross_entropy(row_losses, grad, logits, labels, logits.dtype.type(1), logits.dtype.type(0))
    assert_close(row_losses, -np.diagonal(log_p), tolerance=1e-6)
    assert_close(grad, np.exp(log_p) - np.eye(5), tolerance=1e-6)
    losses.nll_losses(row_losses, log_p.astype(dtype), labels)
    assert_close(row_losses, -np.diagonal(log_p), tolerance=1e-6)
    losses.nll_gradient(grad, log_p.astype(dtype), labels, logits.dtype.type(1))
    np.testing.assert_array_equal(grad, -np.eye(5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_single_class_is_certain(dtype: str) -> None:
    logits = np.array([[-3.0], [0.0], [1e4]], dtype)
    out, scratch, row_losses = np.full_like(logits, np.nan), np.full_like(logits, np.nan), np.full(3, np.nan)
    softmax.softmax(out, logits)
    np.testing.assert_array_equal(out, np.ones((3, 1)))
    softmax.log_softmax(out, scratch, logits)
    np.testing.assert_array_equal(out, np.zeros((3, 1)))
    one, zero = logits.dtype.type(1), logits.dtype.type(0)
    softmax.softmax_cross_entropy(row_losses, out, logits, np.zeros(3, np.int64), one, zero)
    np.testing.assert_array_equal(row_losses, np.zeros(3))
    np.testing.assert_array_equal(out, np.zeros((3, 1)))


def test_a_forbidden_class_costs_nothing_while_the_target_gives_it_no_weight() -> None:
    """A masked logit is -inf; loss and gradient are those without its class, in the kernels and in the twins."""
    logits = np.array([[0.5, -np.inf, 1.5]])
    row_losses, grad = np.full(1, np.nan), np.full_like(logits, np.nan)
    for kernel, target in (
        (softmax.softmax_cross_entropy, np.array([2])),
        (softmax.softmax_cross_entropy_rows, np.array([[0.0, 0.0, 1.0]])),
    ):
        kernel(row_losses, grad, logits, target, 1.0, 0.0)
        p = 1 / (1 + np.exp(-1.0))
        for loss, gradient in ((row_losses, grad), reference.softmax_cross_entropy(logits, target, 1.0, 0.0)):
            assert_close(np.asarray(loss), -np.log([p]), tolerance=1e-12)
            assert_close(gradient, np.array([[1 - p, 0, p - 1]]), tolerance=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_backward_may_overwrite_the_gradient_that_it_reads(dtype: str, rng: np.random.Generator) -> None:
    grad, out = rng.normal(size=1000).astype(dtype), rng.normal(size=1000).astype(dtype)
    want = np.where(out > 0, grad, 0)
    activations.relu_backward(grad, grad, out)
    np.testing.assert_array_equal(grad, want)
