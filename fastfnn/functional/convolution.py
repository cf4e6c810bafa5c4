"""Convolution of (n, channels, height, width) images, and of (n, channels, length) lines, images of one row.

`stride`, `padding` and `dilation` are numbers, or (height, width) pairs. As in every network library the filter is not
turned round: mathematically it is a cross-correlation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional._run import FLOPS_PER_NANOSECOND, Array, team_for

Pair = int | tuple[int, int]


class Filters(check.Frozen):
    """The checked arguments of a convolution, and the geometry that follows from them."""

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
    ) -> None:
        self.filters, self.group_channels, kernel_h, kernel_w = weight_shape
        self.kernel_size = (kernel_h, kernel_w)
        self.stride = check.pair("stride", stride)
        self.padding = check.pair("padding", padding, least=0)
        self.dilation = check.pair("dilation", dilation)
        self.groups = check.positive_int("groups", groups)
        if 0 in weight_shape:
            raise InvalidValueError(f"weight has shape {weight_shape}; expected no dimension of 0")
        if self.filters % self.groups:
            raise InvalidValueError(f"groups is {groups}; expected a divisor of the {self.filters} output channels")

    @property
    def settings(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
        """(stride, padding, dilation, groups)."""
        return self.stride, self.padding, self.dilation, self.groups

    def geometry(self, x_shape: tuple[int, ...]) -> kernels.convolution.geometry.Geometry:
        """How images of a shape ending with (channels, height, width) are convolved."""
        channels, height, width = x_shape[-3:]
        if channels != self.group_channels * self.groups:
            raise InvalidValueError(
                f"x has shape {x_shape}, with {channels} channels; expected {self.group_channels * self.groups}, "
                f"{self.groups} group{'s' if self.groups > 1 else ''} of {self.group_channels}"
            )
        return kernels.convolution.geometry.geometry(
            channels, (height, width), self.filters, self.kernel_size, *self.settings
        )

    def out_size(self, x_shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the output."""
        size = self.geometry(x_shape).out_size
        if 0 in x_shape[-2:]:
            raise InvalidValueError(f"x has shape {x_shape}; expected images of at least one pixel")
        for axis, name in enumerate(("height", "width")):
            if size[axis] < 1:
                reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
                padded = x_shape[axis - 2] + 2 * self.padding[axis]
                raise InvalidValueError(
                    f"x has shape {x_shape}; its {name}, {padded} with padding, is less than the {reach} that a "
                    f"kernel of {self.kernel_size[axis]} with dilation {self.dilation[axis]} spans"
                )
        return size


def _nanoseconds(weight: Array, out: Array) -> float:
    return 2.0 * out.size * weight[0].size / FLOPS_PER_NANOSECOND


def convolve(x: Array, weight: Array, bias: Array | None, filters: Filters, n_threads: int | None = None) -> Array:
    """`conv2d` of checked arguments."""
    out = np.empty((len(x), filters.filters, *filters.out_size(x.shape)), x.dtype)
    if not out.size:
        return out
    none, start = np.empty(0, np.int32), np.zeros(filters.filters, x.dtype) if bias is None else bias
    with team_for(n_threads, _nanoseconds(weight, out)) as team:
        scratch = filters.geometry(x.shape).scratch(len(x), False, x.dtype, team.size)
        after = kernels.convolution.PLAIN
        kernels.convolution.conv2d(out, none, scratch, x, weight, start, *filters.settings, after, team=team)
    return out


def convolve_backward(
    grad_out: Array, x: Array, weight: Array, filters: Filters, n_threads: int | None = None
) -> tuple[Array, Array, Array]:
    """`conv2d_backward` of checked arguments."""
    grad_x, grad_weight, grad_bias = np.zeros_like(x), np.zeros_like(weight), np.zeros(len(weight), x.dtype)
    if not grad_out.size:
        return grad_x, grad_weight, grad_bias
    none, geometry = np.empty(0, np.int32), filters.geometry(x.shape)
    with team_for(n_threads, 2 * _nanoseconds(weight, grad_out)) as team:
        kernels.convolution.conv2d_backward(
            grad_x,
            grad_weight,
            grad_bias,
            geometry.scratch(len(x), True, x.dtype, team.size),
            geometry.partials(len(x), x.dtype),
            grad_out,
            x,
            weight,
            grad_out,
            none,
            *filters.settings,
            kernels.convolution.PLAIN,
            team=team,
        )
    return grad_x, grad_weight, grad_bias


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    n_threads: int | None = None,
) -> Array:
    """Convolve images with filters.

    Parameters
    ----------
    x : (n, c, h, w)
    weight : (k, c / groups, kh, kw)
    bias : (k,), optional
    stride, padding, dilation : int or (height, width)
        Step between windows; zeros around the image; distance between a filter's taps.
    groups : int
        Channels and filters are cut into so many groups that know nothing of each other; as many as channels is a
        depthwise convolution.

    Returns
    -------
    (n, k, oh, ow) with ``oh = (h + 2 * padding - dilation * (kh - 1) - 1) // stride + 1``
    """
    x = check.float_array("x", x, ndim=4)
    weight = check.float_array("weight", weight, ndim=4, dtype=x.dtype)
    if bias is not None:
        bias = check.float_array("bias", bias, dtype=x.dtype)
        if bias.shape != weight.shape[:1]:
            raise InvalidValueError(f"bias has shape {bias.shape}; expected {weight.shape[:1]}, one for each filter")
    return convolve(x, weight, bias, Filters(weight.shape, stride, padding, dilation, groups), n_threads)


def conv2d_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    n_threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `conv2d`."""
    x = check.float_array("x", x, ndim=4)
    weight = check.float_array("weight", weight, ndim=4, dtype=x.dtype)
    filters = Filters(weight.shape, stride, padding, dilation, groups)
    grad = check.float_array("grad_out", grad_out, dtype=x.dtype)
    shape = (len(x), filters.filters, *filters.out_size(x.shape))
    if grad.shape != shape:
        raise InvalidValueError(f"grad_out has shape {grad.shape}; expected {shape}, the shape of the output")
    return convolve_backward(grad, x, weight, filters, n_threads)


def _line_filters(weight: Array, stride: int, padding: int, dilation: int, groups: int) -> Filters:
    """Of a weight (k, c / groups, 1, size)."""
    steps = check.positive_int("stride", stride), check.positive_int("dilation", dilation)
    room = check.positive_int("padding", padding, least=0)
    return Filters(weight.shape, (1, steps[0]), (0, room), (1, steps[1]), groups)


def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    n_threads: int | None = None,
) -> Array:
    """Convolve lines with filters.

    Parameters
    ----------
    x : (n, c, length)
    weight : (k, c / groups, size)
    bias : (k,), optional
    stride, padding, dilation, groups : int
        As in `conv2d`.

    Returns
    -------
    (n, k, out_length) with ``out_length = (length + 2 * padding - dilation * (size - 1) - 1) // stride + 1``
    """
    lines = check.float_array("x", x, ndim=3)[:, :, None]
    weight = check.float_array("weight", weight, ndim=3, dtype=lines.dtype)[:, :, None]
    if bias is not None:
        bias = check.float_array("bias", bias, dtype=lines.dtype)
        if bias.shape != weight.shape[:1]:
            raise InvalidValueError(f"bias has shape {bias.shape}; expected {weight.shape[:1]}, one for each filter")
    filters = _line_filters(weight, stride, padding, dilation, groups)
    return convolve(lines, weight, bias, filters, n_threads)[:, :, 0]


def conv1d_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    n_threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """``(grad_x, grad_weight, grad_bias)`` of `conv1d`."""
    lines = check.float_array("x", x, ndim=3)[:, :, None]
    weight = check.float_array("weight", weight, ndim=3, dtype=lines.dtype)[:, :, None]
    filters = _line_filters(weight, stride, padding, dilation, groups)
    grad = check.float_array("grad_out", grad_out, dtype=lines.dtype)
    shape = (len(lines), filters.filters, filters.out_size(lines.shape)[1])
    if grad.shape != shape:
        raise InvalidValueError(f"grad_out has shape {grad.shape}; expected {shape}, the shape of the output")
    grad_x, grad_weight, grad_bias = convolve_backward(grad[:, :, None], lines, weight, filters, n_threads)
    return grad_x[:, :, 0], grad_weight[:, :, 0], grad_bias
