"""Layers that make images smaller: each of the (h, w) planes of an (n, c, h, w) batch by itself."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.functional.pooling import Pair, Windows, dividing_windows, max_pool, max_pool_backward
from fastfnn.layers.base import Array, KnownShape, Layer, Shape, short_pairs


def _image_shape(layer: Layer, input_shape: Shape) -> Shape:
    if len(input_shape) != 3:
        raise InvalidValueError(f"{layer!r} got samples of shape {input_shape}; expected (channels, height, width)")
    return input_shape


class _Pool(Layer):
    """What all pooling has in common."""

    precedes_activation = True

    def taken_shape(self) -> KnownShape:
        return None, None, None

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return came


class _WindowPool(_Pool):
    """What pooling over windows has in common: their arguments, and the shape of the output."""

    windows: Windows

    def _onnx_windows(self) -> dict[str, Any]:
        windows = self.windows
        return {
            "kernel_shape": windows.kernel_size,
            "strides": windows.stride,
            "pads": windows.padding * 2,
            "ceil_mode": int(windows.ceil_mode),
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = _image_shape(self, input_shape)
        return (shape[0], *self.windows.sizes(shape)[2:4])

    def config(self) -> dict[str, Any]:
        windows = self.windows
        pairs = {"kernel_size": windows.kernel_size, "stride": windows.stride, "padding": windows.padding}
        pairs["dilation"] = windows.dilation
        short = short_pairs(pairs, {"stride": windows.kernel_size, "padding": (0, 0), "dilation": (1, 1)})
        return {**short, "ceil_mode": True} if windows.ceil_mode else short


class MaxPool2d(_WindowPool):
    """The largest of every window; the first of equals. Padding never wins.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or (height, width)
        A stride of None is the kernel size; the padding is less than it, and at most half of it with a dilation.
    ceil_mode : bool
        A last window that hangs over the edge counts too.
    """

    torch_names = ("MaxPool2d",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"return_indices": (False,)}

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.windows = Windows(kernel_size, stride, padding, dilation, ceil_mode, wide=True)

    def forward(self, x: ArrayLike) -> Array:
        """(n, c, h, w) to (n, c, out_height, out_width)."""
        x = check.float_array("x", x, ndim=4)
        sizes = self.windows.sizes(x.shape)
        out, index = max_pool(x, sizes)
        self._saved = index, sizes
        return out

    def backward(self, grad_out: ArrayLike) -> Array:
        index, sizes = self.saved
        grad_out = check.float_array("grad_out", grad_out)
        check.same_shape("grad_out", grad_out, "the output", index)
        return max_pool_backward(grad_out, index, sizes)

    def to_torch(self, nn: Any) -> Any:
        w = self.windows
        return nn.MaxPool2d(w.kernel_size, w.stride, w.padding, w.dilation, ceil_mode=w.ceil_mode)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)

    def to_onnx(self, graph: Any) -> None:
        graph.add("MaxPool", **self._onnx_windows(), dilations=self.windows.dilation)


class AvgPool2d(_WindowPool):
    """The mean of every window.

    Parameters
    ----------
    kernel_size, stride, padding : int or (height, width)
        A stride of None is the kernel size; the padding is at most half of it.
    ceil_mode : bool
        A last window that hangs over the edge counts too.
    count_include_pad : bool
        Whether the zeros of the padding count.
    """

    torch_names = ("AvgPool2d",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"divisor_override": (None,)}

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.windows = Windows(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def _arguments(self) -> tuple[Any, ...]:
        windows = self.windows
        return windows.kernel_size, windows.stride, windows.padding, windows.ceil_mode, self.count_include_pad

    def forward(self, x: ArrayLike) -> Array:
        """(n, c, h, w) to (n, c, out_height, out_width)."""
        x = check.float_array("x", x, ndim=4)
        self._saved = x.shape
        return functional.avg_pool2d(x, *self._arguments())

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.avg_pool2d_backward(grad_out, self.saved, *self._arguments())

    def config(self) -> dict[str, Any]:
        config = super().config()
        return config if self.count_include_pad else {**config, "count_include_pad": False}

    def to_torch(self, nn: Any) -> Any:
        return nn.AvgPool2d(*self._arguments())

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.kernel_size, module.stride, module.padding, module.ceil_mode, module.count_include_pad)

    def to_onnx(self, graph: Any) -> None:
        graph.add("AveragePool", **self._onnx_windows(), count_include_pad=int(self.count_include_pad))


class AdaptiveAvgPool2d(_Pool):
    """The means of windows that lie side by side, so many that the output has a given size.

    Parameters
    ----------
    output_size : int or (height, width)
        Divides the images' size: PyTorch's windows of several sizes are refused.
    """

    def __init__(self, output_size: Pair) -> None:
        super().__init__()
        self.output_size = check.pair("output_size", output_size)

    def windows_of(self, input_shape: Shape) -> Windows:
        """The windows of images of that shape."""
        shape = _image_shape(self, input_shape)
        try:
            return dividing_windows(shape, self.output_size)
        except InvalidValueError as error:
            raise InvalidValueError(f"{self!r}: {error}") from None

    def forward(self, x: ArrayLike) -> Array:
        """(n, c, h, w) to (n, c, *output_size)."""
        x = check.float_array("x", x, ndim=4)
        self._saved = x.shape, self.windows_of(x.shape[1:]).kernel_size
        return functional.avg_pool2d(x, self._saved[1])

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.avg_pool2d_backward(grad_out, *self.saved)

    def output_shape(self, input_shape: Shape) -> Shape:
        self.windows_of(input_shape)
        return input_shape[0], *self.output_size

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return (came[0] if came is not None else None), *self.output_size

    def config(self) -> dict[str, Any]:
        return short_pairs({"output_size": self.output_size}, {})

    def to_torch(self, nn: Any) -> Any:
        return nn.AdaptiveAvgPool2d(self.output_size)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.output_size)

    def to_onnx(self, graph: Any) -> None:
        """An AveragePool, which ONNX has; so the images' size must be known."""
        if len(graph.shape) != 3 or None in graph.shape[1:]:
            raise InvalidValueError(f"{graph.place} is {self!r}; expected input_shape, of which its windows depend")
        size = self.windows_of((graph.shape[0] or 1, *graph.shape[1:])).kernel_size
        graph.add("AveragePool", kernel_shape=size, strides=size, count_include_pad=1)


class GlobalMaxPool2d(_Pool):
    """The largest of every image: (n, c, h, w) to (n, c)."""

    torch_names = ("AdaptiveMaxPool2d",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"output_size": (1, (1, 1)), "return_indices": (False,)}

    def windows_of(self, input_shape: Shape) -> Windows:
        """The one window of images of that shape."""
        *_, height, width = _image_shape(self, input_shape)
        return Windows((height, width))

    def forward(self, x: ArrayLike) -> Array:
        x = check.float_array("x", x, ndim=4)
        sizes = self.windows_of(x.shape[1:]).sizes(x.shape)
        out, index = max_pool(x, sizes)
        self._saved = index, sizes
        return out.reshape(x.shape[:2])

    def backward(self, grad_out: ArrayLike) -> Array:
        index, sizes = self.saved
        grad_out = check.float_array("grad_out", grad_out)
        check.same_shape("grad_out", grad_out, "the output", index[:, :, 0, 0])
        return max_pool_backward(grad_out.reshape(index.shape), index, sizes)

    def output_shape(self, input_shape: Shape) -> Shape:
        return _image_shape(self, input_shape)[:1]

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return came[:1] if came is not None else (None,)

    def to_torch(self, nn: Any) -> Any:
        """A `Sequential`, for PyTorch's pooling keeps the last two axes; `fastfnn.from_torch` knows it again."""
        return nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())

    def to_onnx(self, graph: Any) -> None:
        graph.add("GlobalMaxPool")
        graph.add("Flatten", axis=1)


class GlobalAvgPool2d(_Pool):
    """The mean of every image: (n, c, h, w) to (n, c)."""

    torch_names = ("AdaptiveAvgPool2d",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"output_size": (1, (1, 1))}

    def forward(self, x: ArrayLike) -> Array:
        x = check.float_array("x", x, ndim=4)
        self._saved = x.shape
        return functional.global_avg_pool2d(x)

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.global_avg_pool2d_backward(grad_out, self.saved)

    def output_shape(self, input_shape: Shape) -> Shape:
        return _image_shape(self, input_shape)[:1]

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return came[:1] if came is not None else (None,)

    def to_torch(self, nn: Any) -> Any:
        """A `Sequential`, for PyTorch's pooling keeps the last two axes; `fastfnn.from_torch` knows it again."""
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def to_onnx(self, graph: Any) -> None:
        graph.add("GlobalAveragePool")
        graph.add("Flatten", axis=1)
