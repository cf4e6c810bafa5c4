"""Pooling of (n, c, h, w) images.

`kernel_size`, `stride`, `padding` and `dilation` are numbers, or (height, width) pairs; a stride of None is the kernel
size. With `ceil_mode` a last window that hangs over the padding counts too, if it starts in front of its end.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.functional._run import Array, run_on_team

Pair = int | tuple[int, int]
#: What kernels take: (height, width) of image, output, kernel, stride, padding and dilation, one behind the other.
Sizes = tuple[int, int, int, int, int, int, int, int, int, int, int, int]


class Windows(check.Frozen):
    """The checked arguments of a pooling, and the sizes that follow from them.

    As in PyTorch the padding is half a window at most; with `wide` it is smaller than the window, as in ONNX.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        wide: bool = False,
    ) -> None:
        self.kernel_size = check.pair("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else check.pair("stride", stride)
        self.padding = check.pair("padding", padding, least=0)
        self.dilation = check.pair("dilation", dilation)
        self.ceil_mode = bool(ceil_mode)
        # A window that is not spread out meets the image as long as the padding is smaller.
        wide = wide and self.dilation == (1, 1)
        if any(p >= k if wide else 2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            most = "less than" if wide else "at most half of"
            raise InvalidValueError(
                f"padding is {self.padding}; expected {most} kernel_size, which is {self.kernel_size}"
            )

    def _out_size(self, axis: int, x_shape: tuple[int, ...]) -> int:
        size, kernel, stride = x_shape[axis - 2], self.kernel_size[axis], self.stride[axis]
        padding, dilation = self.padding[axis], self.dilation[axis]
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        count = (room + self.ceil_mode * (stride - 1)) // stride + 1
        if self.ceil_mode and (count - 1) * stride >= size + padding:  # it would start behind the image
            count -= 1
        # Between two elements of a window that are further apart than its size the image would disappear.
        if count < 1 or not size or (padding and dilation > size):
            raise InvalidValueError(
                f"x has shape {x_shape}; its {('height', 'width')[axis]} of {size} is too small for kernel_size "
                f"{self.kernel_size}, padding {self.padding} and dilation {self.dilation}"
            )
        return count

    def sizes(self, x_shape: tuple[int, ...]) -> Sizes:
        """What kernels take, for images whose shape ends with (height, width)."""
        height, width = x_shape[-2:]
        out = self._out_size(0, x_shape), self._out_size(1, x_shape)
        return height, width, *out, *self.kernel_size, *self.stride, *self.padding, *self.dilation


def max_pool(x: Array, sizes: Sizes, n_threads: int | None = None) -> tuple[Array, Array]:
    """Largest values and, as int32, their places, of checked arguments."""
    out = np.empty((*x.shape[:2], *sizes[2:4]), x.dtype)
    index = np.empty(out.shape, np.int32)
    each = math.prod(sizes[4:6])
    run_on_team(kernels.pool.max_pool2d, out, index, x, sizes, n_threads=n_threads, elements_each=each)
    return out, index


def max_pool_backward(grad_out: Array, index: Array, sizes: Sizes, n_threads: int | None = None) -> Array:
    """The gradient for x, of checked arguments."""
    grad_x = np.empty((*grad_out.shape[:2], *sizes[:2]), grad_out.dtype)
    return run_on_team(kernels.pool.max_pool2d_backward, grad_x, grad_out, index, sizes, n_threads=n_threads)


def max_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    n_threads: int | None = None,
) -> Any:
    """The largest of every window; the first of equals, and NaN where there is one. Padding never wins.

    Returns
    -------
    out : (n, c, out_height, out_width)
    indices : int64, the same shape
        Only with `return_indices`: where in its image each lies, ``i * w + j``.
    """
    x = check.float_array("x", x, ndim=4)
    sizes = Windows(kernel_size, stride, padding, dilation, ceil_mode).sizes(x.shape)
    out, index = max_pool(x, sizes, n_threads)
    return (out, index.astype(np.int64)) if return_indices else out


def _x_shape(x_shape: Any, grad_out: Array, dimensions: int) -> tuple[int, ...]:
    """`x_shape` as four ints, of which the first two are those of `grad_out`."""
    try:
        shape = tuple(check.positive_int("x_shape", size, least=0) for size in x_shape)
    except TypeError:
        raise InvalidTypeError(f"x_shape is {x_shape!r}; expected four integers (n, c, h, w)") from None
    if len(shape) != 4:
        raise InvalidValueError(f"x_shape is {shape}; expected four integers (n, c, h, w)")
    if grad_out.ndim != dimensions or grad_out.shape[:2] != shape[:2]:
        rest = "" if dimensions == 2 else ", …, …"
        raise InvalidValueError(f"grad_out has shape {grad_out.shape}; expected ({shape[0]}, {shape[1]}{rest})")
    return shape


def max_pool2d_backward(
    grad_out: ArrayLike, indices: ArrayLike, x_shape: tuple[int, ...], *, n_threads: int | None = None
) -> Array:
    """The gradient for x: each element of `grad_out` goes to the place that `indices` names; windows may share one."""
    grad_out = check.float_array("grad_out", grad_out)
    height, width = _x_shape(x_shape, grad_out, 4)[2:]
    index = np.asarray(indices)
    if index.dtype.kind not in "iu":
        raise InvalidTypeError(f"indices has dtype {index.dtype}; expected integers")
    check.same_shape("indices", index, "grad_out", grad_out)
    if index.size and not 0 <= index.min() <= index.max() < height * width:
        raise InvalidValueError(
            f"indices holds places from {index.min()} to {index.max()}; expected them from 0 to {height * width - 1}, "
            f"as x_shape is {tuple(x_shape)}"
        )
    # How large the windows were does not matter.
    sizes: Sizes = (height, width, *grad_out.shape[2:], 0, 0, 0, 0, 0, 0, 0, 0)  # type: ignore[assignment]
    return max_pool_backward(grad_out, check.plain(index, np.int32), sizes, n_threads)


def avg_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    n_threads: int | None = None,
) -> Array:
    """The mean of every window, padding counted as 0, or not at all without `count_include_pad`.

    What hangs over the padding (`ceil_mode`) never counts.
    """
    x = check.float_array("x", x, ndim=4)
    sizes = Windows(kernel_size, stride, padding, ceil_mode=ceil_mode).sizes(x.shape)
    out, each = np.empty((*x.shape[:2], *sizes[2:4]), x.dtype), math.prod(sizes[4:6])
    arguments = x, sizes, bool(count_include_pad)
    return run_on_team(kernels.pool.avg_pool2d, out, *arguments, n_threads=n_threads, elements_each=each)


def avg_pool2d_backward(
    grad_out: ArrayLike,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    n_threads: int | None = None,
) -> Array:
    """The gradient for x of `avg_pool2d`: its elements get equal shares of their windows' gradients."""
    grad_out = check.float_array("grad_out", grad_out)
    shape = _x_shape(x_shape, grad_out, 4)
    sizes = Windows(kernel_size, stride, padding, ceil_mode=ceil_mode).sizes(shape)
    if grad_out.shape[2:] != sizes[2:4]:
        raise InvalidValueError(f"grad_out has shape {grad_out.shape}; expected {(*shape[:2], *sizes[2:4])}")
    grad_x, arguments = np.empty(shape, grad_out.dtype), (grad_out, sizes, bool(count_include_pad))
    return run_on_team(kernels.pool.avg_pool2d_backward, grad_x, *arguments, n_threads=n_threads)


def global_avg_pool2d(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The mean of every image: (n, c, h, w) to (n, c)."""
    x = check.float_array("x", x, ndim=4)
    pixels = x.shape[2] * x.shape[3]
    if not pixels:
        raise InvalidValueError(f"x has shape {x.shape}; expected images of at least one element")
    out = np.empty(x.shape[:2], x.dtype)
    return run_on_team(kernels.pool.global_avg_pool2d, out, x, n_threads=n_threads, elements_each=pixels)


def global_avg_pool2d_backward(grad_out: ArrayLike, x_shape: tuple[int, ...], *, n_threads: int | None = None) -> Array:
    """The gradient for x of `global_avg_pool2d`: ``grad_out / (h * w)`` all over an image."""
    grad_out = check.float_array("grad_out", grad_out)
    shape = _x_shape(x_shape, grad_out, 2)
    grad_x = np.empty(shape, grad_out.dtype)
    return run_on_team(kernels.pool.global_avg_pool2d_backward, grad_x, grad_out, shape, n_threads=n_threads)


def dividing_windows(x_shape: tuple[int, ...], output_size: Pair) -> Windows:
    """Windows side by side, so many that the output has this size; `x_shape` ends with (height, width)."""
    (height, width), (rows, columns) = x_shape[-2:], check.pair("output_size", output_size)
    if not height or not width or height % rows or width % columns:
        raise InvalidValueError(
            f"x has shape {x_shape}; expected a height and width that output_size divides, which is {(rows, columns)}; "
            "or avg_pool2d, whose windows are told"
        )
    return Windows((height // rows, width // columns))


def adaptive_avg_pool2d(x: ArrayLike, output_size: Pair, *, n_threads: int | None = None) -> Array:
    """Means of windows side by side: (n, c, h, w) to (n, c, *output_size), which divides the images' size.

    PyTorch's windows of several sizes, where it does not, are refused.
    """
    x = check.float_array("x", x, ndim=4)
    return avg_pool2d(x, dividing_windows(x.shape, output_size).kernel_size, n_threads=n_threads)


def adaptive_avg_pool2d_backward(
    grad_out: ArrayLike, x_shape: tuple[int, ...], *, n_threads: int | None = None
) -> Array:
    """The gradient for x of `adaptive_avg_pool2d`."""
    grad_out = check.float_array("grad_out", grad_out, ndim=4)
    height, width = grad_out.shape[2:]
    windows = dividing_windows(_x_shape(x_shape, grad_out, 4), (height, width))
    return avg_pool2d_backward(grad_out, x_shape, windows.kernel_size, n_threads=n_threads)


def global_max_pool2d(x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The largest of every image, NaN where there is one: (n, c, h, w) to (n, c)."""
    x = check.float_array("x", x, ndim=4)
    out, _ = max_pool(x, dividing_windows(x.shape, 1).sizes(x.shape), n_threads)
    return out.reshape(x.shape[:2])


def global_max_pool2d_backward(grad_out: ArrayLike, x: ArrayLike, *, n_threads: int | None = None) -> Array:
    """The gradient for x of `global_max_pool2d`: all of it goes to the first of the largest."""
    x = check.float_array("x", x, ndim=4)
    grad_out = check.float_array("grad_out", grad_out, ndim=2, dtype=x.dtype)
    sizes = dividing_windows(x.shape, 1).sizes(x.shape)
    _, index = max_pool(x, sizes, n_threads)
    check.same_shape("grad_out", grad_out, "the output", index[:, :, 0, 0])
    return max_pool_backward(grad_out.reshape(index.shape), index, sizes, n_threads)
