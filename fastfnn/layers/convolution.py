"""Layers that convolve images."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn.errors import InvalidValueError
from fastfnn.functional.convolution import Filters, Pair, convolve, convolve_backward
from fastfnn.initializers import Initializer, initializer
from fastfnn.layers.base import Array, KnownShape, Layer, Shape, short_pairs
from fastfnn.layers.linear import affine_params


class Conv2d(Layer):
    """Two-dimensional convolution.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation : int or (height, width)
    groups : int
        Cuts the channels into groups; `in_channels` groups are a depthwise convolution.
    bias : bool
    weight_init : {"he", "xavier", "lecun", "normal", "zeros"} or callable ``(shape, rng) -> array``, optional
        As in `Linear`, for ``shape = (in_channels / groups * kernel pixels, out_channels)``.
    bias_init : the same; zeros by default

    Attributes
    ----------
    params : ``weight`` (out_channels, in_channels / groups, height, width), ``bias`` (out_channels,)

    Notes
    -----
    3×3 filters of stride 1 with 8 channels or more go by Winograd's F(2×2, 3×3) (Lavin & Gray, 2016), which has 2.25
    times fewer multiplications. Its sums are shorter, so of numbers of one size its rounding errors are smaller than
    those of direct summation; they are relative to the largest of the 4×4 inputs of a tile, where an output depends on
    3×3. Images with infinite or very large numbers (above 2^45 in float32) are summed directly.
    """

    fixed_settings = ("in_channels", "out_channels", "filters", "bias")
    torch_names = ("Conv2d",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"padding_mode": ("zeros",)}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weight_init: str | Initializer | None = None,
        bias_init: str | Initializer = "zeros",
    ) -> None:
        super().__init__()
        self.in_channels = check.positive_int("in_channels", in_channels)
        self.out_channels = check.positive_int("out_channels", out_channels)
        if self.in_channels % check.positive_int("groups", groups):
            raise InvalidValueError(f"groups is {groups}; expected a divisor of in_channels, which is {in_channels}")
        kernel = check.pair("kernel_size", kernel_size)
        shape = (self.out_channels, self.in_channels // groups, *kernel)
        self.filters = Filters(shape, stride, padding, dilation, groups)
        self.bias = bool(bias)
        self.weight_init = None if weight_init is None else initializer("weight_init", weight_init)
        self.bias_init = initializer("bias_init", bias_init)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.filters.filters, self.filters.group_channels, *self.filters.kernel_size

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        fan_in = int(np.prod(self.weight_shape[1:]))
        params = affine_params(self, (fan_in, self.out_channels), rng, activation)
        return {**params, "weight": params["weight"].T.reshape(self.weight_shape)}

    def forward(self, x: ArrayLike) -> Array:
        """(n, in_channels, h, w), or (n, h, w) where there is one channel, to (n, out_channels, oh, ow)."""
        x = check.float_array("x", x, dtype=self.dtype)
        if x.ndim not in (3, 4):
            raise InvalidValueError(f"x has shape {x.shape}; expected (n, {self.in_channels}, height, width)")
        self.output_shape(x.shape[1:])  # refuses what does not fit
        self._saved = x
        images = x[:, None] if x.ndim == 3 else x
        return convolve(images, self.params["weight"], self.params.get("bias"), self.filters)

    def backward(self, grad_out: ArrayLike) -> Array:
        x = self.saved
        images = x[:, None] if x.ndim == 3 else x
        grad = check.float_array("grad_out", grad_out, dtype=self.dtype)
        shape = (len(x), *self.output_shape(x.shape[1:]))
        if grad.shape != shape:
            raise InvalidValueError(f"grad_out has shape {grad.shape}; expected {shape}, the shape of the output")
        grad_x, grad_weight, grad_bias = convolve_backward(grad, images, self.params["weight"], self.filters)
        self.grads["weight"][...] = grad_weight
        if self.bias:
            self.grads["bias"][...] = grad_bias
        return grad_x.reshape(x.shape)

    def _image_shape(self, input_shape: Shape) -> Shape:
        """(channels, height, width) of a sample, which may come as (height, width)."""
        shape = (1, *input_shape) if len(input_shape) == 2 else tuple(input_shape)
        if len(shape) != 3 or shape[0] != self.in_channels:
            raise InvalidValueError(
                f"{self!r} got samples of shape {input_shape}; expected ({self.in_channels}, height, width)"
            )
        return shape

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = self._image_shape(input_shape)
        try:
            return self.out_channels, *self.filters.out_size(shape)
        except InvalidValueError as error:
            raise InvalidValueError(f"{self!r}: {error}") from None

    def config(self) -> dict[str, Any]:
        filters = self.filters
        pairs = {"kernel_size": filters.kernel_size, "stride": filters.stride, "padding": filters.padding}
        pairs["dilation"] = filters.dilation
        short = short_pairs(pairs, {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)})
        config = {"in_channels": self.in_channels, "out_channels": self.out_channels, **short}
        if filters.groups > 1:
            config["groups"] = filters.groups
        return config if self.bias else {**config, "bias": False}

    def taken_shape(self) -> KnownShape:
        return self.in_channels, None, None

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return self.out_channels, None, None

    def to_torch(self, nn: Any) -> Any:
        filters = self.filters
        return nn.Conv2d(self.in_channels, self.out_channels, filters.kernel_size, *filters.settings, bias=self.bias)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        sizes = (module.kernel_size, module.stride, _padding_of(module), module.dilation)
        return cls(module.in_channels, module.out_channels, *sizes, module.groups, module.bias is not None)

    def to_onnx(self, graph: Any) -> None:
        if len(graph.shape) == 2:  # images without a channel axis
            graph.add("Unsqueeze", graph.constant("axes", np.array([1], np.int64)))
        filters = self.filters
        graph.add(
            "Conv",
            *graph.own("weight", "bias"),
            kernel_shape=filters.kernel_size,
            strides=filters.stride,
            pads=filters.padding * 2,
            dilations=filters.dilation,
            group=filters.groups,
        )


def _padding_of(module: Any) -> Any:
    """The padding of a module of PyTorch, which may be a word there."""
    if module.padding == "valid":
        return 0
    if module.padding != "same":
        return module.padding
    totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if any(total % 2 for total in totals):
        raise InvalidValueError("padding 'same' differs from side to side here; expected the same on both")
    return totals[0] // 2, totals[1] // 2
