"""Layers that convolve lines: signals, series, texts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.functional.convolution import Filters
from fastfnn.initializers import Initializer, initializer
from fastfnn.layers.base import Array, KnownShape, Layer, Shape
from fastfnn.layers.linear import affine_params


class Conv1d(Layer):
    """One-dimensional convolution of (n, in_channels, length): that of images of one row.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation : int
    groups : int
        Cuts the channels into groups; `in_channels` groups are a depthwise convolution.
    bias : bool
    weight_init : {"he", "xavier", "lecun", "normal", "zeros"} or callable ``(shape, rng) -> array``, optional
        As in `Linear`, for ``shape = (in_channels / groups * kernel_size, out_channels)``.
    bias_init : the same; zeros by default

    Attributes
    ----------
    params : ``weight`` (out_channels, in_channels / groups, kernel_size), ``bias`` (out_channels,)
    """

    fixed_settings = ("in_channels", "out_channels", "filters", "bias")
    torch_names = ("Conv1d",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"padding_mode": ("zeros",)}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
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
        shape = self.out_channels, self.in_channels // groups, 1, check.positive_int("kernel_size", kernel_size)
        steps = check.positive_int("stride", stride), check.positive_int("dilation", dilation)
        room = check.positive_int("padding", padding, least=0)
        #: Of images of one row.
        self.filters = Filters(shape, (1, steps[0]), (0, room), (1, steps[1]), groups)
        self.bias = bool(bias)
        self.weight_init = None if weight_init is None else initializer("weight_init", weight_init)
        self.bias_init = initializer("bias_init", bias_init)

    @property
    def weight_shape(self) -> tuple[int, int, int]:
        return self.filters.filters, self.filters.group_channels, self.filters.kernel_size[1]

    @property
    def _settings(self) -> tuple[int, int, int, int]:
        """(stride, padding, dilation, groups)."""
        filters = self.filters
        return filters.stride[1], filters.padding[1], filters.dilation[1], filters.groups

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        fan_in = int(np.prod(self.weight_shape[1:]))
        params = affine_params(self, (fan_in, self.out_channels), rng, activation)
        return {**params, "weight": params["weight"].T.reshape(self.weight_shape)}

    def forward(self, x: ArrayLike) -> Array:
        """(n, in_channels, length) to (n, out_channels, out_length)."""
        x = check.float_array("x", x, ndim=3, dtype=self.dtype)
        self.output_shape(x.shape[1:])  # refuses what does not fit
        self._saved = x
        return functional.conv1d(x, self.params["weight"], self.params.get("bias"), *self._settings)

    def backward(self, grad_out: ArrayLike) -> Array:
        grad = check.float_array("grad_out", grad_out, dtype=self.dtype)
        grads = functional.conv1d_backward(grad, self.saved, self.params["weight"], *self._settings)
        if self.trainable:
            self.grads["weight"][...] = grads[1]
        if self.trainable and self.bias:
            self.grads["bias"][...] = grads[2]
        return grads[0]

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2 or input_shape[0] != self.in_channels:
            raise InvalidValueError(
                f"{self!r} got samples of shape {input_shape}; expected ({self.in_channels}, length)"
            )
        try:
            return self.out_channels, self.filters.out_size((input_shape[0], 1, input_shape[1]))[1]
        except InvalidValueError as error:
            raise InvalidValueError(f"{self!r}: {error}") from None

    def config(self) -> dict[str, Any]:
        names, defaults = ("stride", "padding", "dilation", "groups"), (1, 0, 1, 1)
        settings = zip(names, self._settings, defaults, strict=True)
        config: dict[str, Any] = {name: value for name, value, default in settings if value != default}
        config = {"kernel_size": self.filters.kernel_size[1], **config}
        config = {"in_channels": self.in_channels, "out_channels": self.out_channels, **config}
        return config if self.bias else {**config, "bias": False}

    def taken_shape(self) -> KnownShape:
        return self.in_channels, None

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return self.out_channels, None

    def to_torch(self, nn: Any) -> Any:
        size = self.filters.kernel_size[1]
        return nn.Conv1d(self.in_channels, self.out_channels, size, *self._settings, bias=self.bias)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        padding = module.padding
        if isinstance(padding, str):
            total = module.dilation[0] * (module.kernel_size[0] - 1) if padding == "same" else 0
            if total % 2:
                raise InvalidValueError("padding 'same' differs from side to side here; expected the same on both")
            padding = (total // 2,)
        size, stride, room, dilation = (
            each[0] for each in (module.kernel_size, module.stride, padding, module.dilation)
        )
        settings = size, stride, room, dilation, module.groups, module.bias is not None
        return cls(module.in_channels, module.out_channels, *settings)

    def to_onnx(self, graph: Any) -> None:
        stride, padding, dilation, groups = self._settings
        graph.add(
            "Conv",
            *graph.own("weight", "bias"),
            kernel_shape=[self.filters.kernel_size[1]],
            strides=[stride],
            pads=[padding, padding],
            dilations=[dilation],
            group=groups,
        )
