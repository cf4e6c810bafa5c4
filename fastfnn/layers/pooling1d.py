"""Layers that make lines shorter: each of the channels of an (n, c, length) batch by itself."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.functional.pooling import Windows, max_pool, max_pool_backward
from fastfnn.functional.pooling1d import line_windows
from fastfnn.layers.base import Array, KnownShape, Layer, Shape


class _LinePool(Layer):
    """What both have in common: windows of images of one row, and the shape of the output."""

    precedes_activation = True
    windows: Windows

    def _across(self) -> dict[str, int]:
        windows = self.windows
        pairs = {"kernel_size": windows.kernel_size, "stride": windows.stride, "padding": windows.padding}
        return {name: pair[1] for name, pair in pairs.items()}

    def _onnx_windows(self) -> dict[str, Any]:
        sizes = self._across()
        pads, ceil = [sizes["padding"]] * 2, int(self.windows.ceil_mode)
        return {"kernel_shape": [sizes["kernel_size"]], "strides": [sizes["stride"]], "pads": pads, "ceil_mode": ceil}

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise InvalidValueError(f"{self!r} got samples of shape {input_shape}; expected (channels, length)")
        return input_shape[0], self.windows.sizes((input_shape[0], 1, input_shape[1]))[3]

    def config(self) -> dict[str, Any]:
        sizes, dilation = self._across(), self.windows.dilation[1]
        config: dict[str, Any] = {"kernel_size": sizes["kernel_size"]}
        if sizes["stride"] != sizes["kernel_size"]:
            config["stride"] = sizes["stride"]
        if sizes["padding"]:
            config["padding"] = sizes["padding"]
        if dilation != 1:
            config["dilation"] = dilation
        return {**config, "ceil_mode": True} if self.windows.ceil_mode else config

    def taken_shape(self) -> KnownShape:
        return None, None

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return (None if came is None else came[0]), None


def _of_lines(value: Any) -> Any:
    """What PyTorch keeps as a number, or as a tuple of one."""
    return value[0] if isinstance(value, (tuple, list)) else value


def _sizes_of(module: Any) -> tuple[int, int, int]:
    return _of_lines(module.kernel_size), _of_lines(module.stride), _of_lines(module.padding)


class MaxPool1d(_LinePool):
    """The largest of every window of lines; the first of equals. Padding never wins.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int
        A stride of None is the kernel size; the padding is less than it, and at most half of it with a dilation.
    ceil_mode : bool
        A last window that hangs over the edge counts too.
    """

    torch_names = ("MaxPool1d",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"return_indices": (False,)}

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        dilation: int = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.windows = line_windows(kernel_size, stride, padding, dilation, ceil_mode, wide=True)

    def forward(self, x: ArrayLike) -> Array:
        """(n, c, length) to (n, c, out_length)."""
        lines = check.float_array("x", x, ndim=3)[:, :, None]
        sizes = self.windows.sizes(lines.shape)
        out, index = max_pool(lines, sizes)
        self._saved = index, sizes
        return out[:, :, 0]

    def backward(self, grad_out: ArrayLike) -> Array:
        index, sizes = self.saved
        grad = check.float_array("grad_out", grad_out)
        check.same_shape("grad_out", grad, "the output", index[:, :, 0])
        return max_pool_backward(grad[:, :, None], index, sizes)[:, :, 0]

    def to_torch(self, nn: Any) -> Any:
        windows = self.windows
        return nn.MaxPool1d(**self._across(), dilation=windows.dilation[1], ceil_mode=windows.ceil_mode)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        size, stride, padding = _sizes_of(module)
        return cls(size, stride, padding, _of_lines(module.dilation), module.ceil_mode)

    def to_onnx(self, graph: Any) -> None:
        graph.add("MaxPool", **self._onnx_windows(), dilations=[self.windows.dilation[1]])


class AvgPool1d(_LinePool):
    """The mean of every window of lines.

    Parameters
    ----------
    kernel_size, stride, padding : int
        A stride of None is the kernel size; the padding is at most half of it.
    ceil_mode : bool
        A last window that hangs over the edge counts too.
    count_include_pad : bool
        Whether the zeros of the padding count.
    """

    torch_names = ("AvgPool1d",)

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.windows = line_windows(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def _arguments(self) -> tuple[Any, ...]:
        return *self._across().values(), self.windows.ceil_mode, self.count_include_pad

    def forward(self, x: ArrayLike) -> Array:
        """(n, c, length) to (n, c, out_length)."""
        x = check.float_array("x", x, ndim=3)
        self._saved = x.shape
        return functional.avg_pool1d(x, *self._arguments())

    def backward(self, grad_out: ArrayLike) -> Array:
        return functional.avg_pool1d_backward(grad_out, self.saved, *self._arguments())

    def config(self) -> dict[str, Any]:
        config = super().config()
        return config if self.count_include_pad else {**config, "count_include_pad": False}

    def to_torch(self, nn: Any) -> Any:
        return nn.AvgPool1d(*self._arguments())

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(*_sizes_of(module), module.ceil_mode, module.count_include_pad)

    def to_onnx(self, graph: Any) -> None:
        graph.add("AveragePool", **self._onnx_windows(), count_include_pad=int(self.count_include_pad))
