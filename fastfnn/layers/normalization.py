"""Batch and layer normalisation."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.layers.base import Array, KnownShape, Layer, Shape

#: What PyTorch calls the number of batches seen.
COUNT = "num_batches_tracked"


class _BatchNorm(Layer):
    """What `BatchNorm1d` and `BatchNorm2d` share: all but the shape of a sample."""

    #: Axes of a batch, and what a batch of so many features looks like.
    ndim, form = 0, ""
    fixed_settings = ("num_features", "affine")
    precedes_activation = True
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"track_running_stats": (True,)}

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        self.num_features = check.positive_int("num_features", num_features)
        self.eps = check.real("eps", eps, least=0.0)
        self.momentum = check.real("momentum", momentum, least=0.0)
        self.affine = bool(affine)

    @property
    def weight_shape(self) -> tuple[int]:
        return (self.num_features,)

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        return {"weight": np.ones(self.num_features), "bias": np.zeros(self.num_features)} if self.affine else {}

    def initial_buffers(self) -> dict[str, Array]:
        return {"running_mean": np.zeros(self.num_features), "running_var": np.ones(self.num_features)}

    def forward(self, x: ArrayLike) -> Array:
        """Normalise by the batch's statistics in training, which updates the running ones; else by those."""
        x = check.float_array("x", x, ndim=self.ndim, dtype=self.dtype)
        if x.shape[1] != self.num_features:
            raise InvalidValueError(f"x has shape {x.shape}; expected {self._expected()} for {self!r}")
        training = self.training and self.trainable
        self._saved = (x, training)
        return functional.batch_norm(
            x,
            self.buffers["running_mean"],
            self.buffers["running_var"],
            self.params.get("weight"),
            self.params.get("bias"),
            training=training,
            momentum=self.momentum,
            eps=self.eps,
        )

    def backward(self, grad_out: ArrayLike) -> Array:
        x, training = self.saved
        running = self.buffers["running_mean"], self.buffers["running_var"]
        grad_x, grad_weight, grad_bias = functional.batch_norm_backward(
            grad_out, x, self.params.get("weight"), *running, training=training, eps=self.eps
        )
        if self.affine and self.trainable:
            self.grads["weight"][...] = grad_weight
            self.grads["bias"][...] = grad_bias
        return grad_x

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != self.ndim - 1 or input_shape[0] != self.num_features:
            raise InvalidValueError(f"{self!r} got a batch of samples {input_shape}; expected {self._expected()}")
        return input_shape

    def _expected(self) -> str:
        return self.form.format(self.num_features)

    def config(self) -> dict[str, Any]:
        config = {"num_features": self.num_features, "eps": self.eps, "momentum": self.momentum}
        return config if self.affine else {**config, "affine": False}

    def taken_shape(self) -> KnownShape:
        return self.num_features, *[None] * (self.ndim - 2)

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return came

    def to_torch(self, nn: Any) -> Any:
        kind = getattr(nn, self.torch_names[0])
        return kind(self.num_features, self.eps, self.momentum, self.affine)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.num_features, module.eps, module.momentum, module.affine)

    def torch_arrays(self) -> dict[str, Array]:
        """With how many batches PyTorch has seen: ours does not count them, and nothing here depends on it."""
        return {**super().torch_arrays(), COUNT: np.zeros((), np.int64)}

    def to_onnx(self, graph: Any) -> None:
        affine = graph.own("weight", "bias")
        if not self.affine:
            ones = np.ones(self.num_features, self.dtype)
            affine = [graph.constant("weight", ones), graph.constant("bias", 0 * ones)]
        running = graph.own("running_mean", "running_var")
        # ONNX's momentum is what the old statistics keep.
        graph.add("BatchNormalization", *affine, *running, epsilon=self.eps, momentum=1 - self.momentum)


class BatchNorm1d(_BatchNorm):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, by features of (n, num_features).

    In training mean and variance are those of the batch, which must have two rows or more; they also move
    `running_mean` and `running_var`, which inference takes. See `Layer.training`; and `Layer.trainable`: frozen, it
    takes the running ones in training, too, and leaves them as they are.

    Parameters
    ----------
    num_features : int
    eps : float
        Added to the variance.
    momentum : float
        How far the running statistics move to each batch's: ``running += momentum * (batch - running)``.
    affine : bool
        Whether there are weight and bias.

    Attributes
    ----------
    params : ``weight`` (num_features,), ones at first; ``bias`` (num_features,), zeros
    buffers : ``running_mean``, ``running_var`` (num_features,); zeros and ones at first

    References
    ----------
    Ioffe & Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift".
    """

    ndim, form = 2, "(n, {})"
    torch_names = ("BatchNorm1d",)


class BatchNorm2d(_BatchNorm):
    """The same for images (n, num_features, height, width): a channel's statistics are over all its pixels.

    Parameters and attributes are those of `BatchNorm1d`.
    """

    ndim, form = 4, "(n, {}, height, width)"
    torch_names = ("BatchNorm2d",)


class LayerNorm(Layer):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, over the last axes of each sample by itself.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The last axes, over which mean and (biased) variance are taken: the number of features of rows, or (channels,
        height, width) of images.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether there are weight and bias.
    bias : bool
        Whether there is a bias beside the weight.

    Attributes
    ----------
    params : ``weight`` of `normalized_shape`, ones at first; ``bias`` of the same, zeros

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer Normalization".
    """

    fixed_settings = ("normalized_shape", "elementwise_affine", "bias")
    precedes_activation = True
    torch_names = ("LayerNorm",)

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.normalized_shape = check.sizes("normalized_shape", normalized_shape)
        self.eps = check.real("eps", eps, least=0.0)
        self.elementwise_affine = bool(elementwise_affine)
        self.bias = bool(bias)

    @property
    def weight_shape(self) -> Shape:
        return self.normalized_shape if self.elementwise_affine else ()

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        if not self.elementwise_affine:
            return {}
        params = {"weight": np.ones(self.normalized_shape), "bias": np.zeros(self.normalized_shape)}
        return params if self.bias else {"weight": params["weight"]}

    def forward(self, x: ArrayLike) -> Array:
        """(n, ..., *normalized_shape) to the same."""
        x = check.float_array("x", x, dtype=self.dtype)
        self.output_shape(x.shape[1:])
        self._saved = x
        return functional.layer_norm(
            x, self.normalized_shape, self.params.get("weight"), self.params.get("bias"), self.eps
        )

    def backward(self, grad_out: ArrayLike) -> Array:
        grad_x, *grads = functional.layer_norm_backward(
            grad_out, self.saved, self.normalized_shape, self.params.get("weight"), self.eps
        )
        for name, grad in zip(("weight", "bias"), grads, strict=True):
            if name in self.grads and self.trainable:
                self.grads[name][...] = grad
        return grad_x

    def output_shape(self, input_shape: Shape) -> Shape:
        expected = self.normalized_shape
        if len(input_shape) < len(expected) or input_shape[len(input_shape) - len(expected) :] != expected:
            raise InvalidValueError(f"{self!r} got samples of shape {input_shape}; expected {expected} as last axes")
        return input_shape

    def config(self) -> dict[str, Any]:
        shape = self.normalized_shape
        config = {"normalized_shape": shape[0] if len(shape) == 1 else list(shape), "eps": self.eps}
        flags = {"elementwise_affine": self.elementwise_affine, "bias": self.bias}
        return {**config, **{name: value for name, value in flags.items() if not value}}

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return came

    def to_torch(self, nn: Any) -> Any:
        return nn.LayerNorm(self.normalized_shape, self.eps, self.elementwise_affine, self.bias)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        affine = module.elementwise_affine
        return cls(tuple(module.normalized_shape), module.eps, affine, not affine or module.bias is not None)

    def to_onnx(self, graph: Any) -> None:
        affine = graph.own("weight", "bias")
        if not self.elementwise_affine:
            affine = [graph.constant("weight", np.ones(self.normalized_shape, self.dtype))]
        graph.add("LayerNormalization", *affine, axis=-len(self.normalized_shape), epsilon=self.eps)
