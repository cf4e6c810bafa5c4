"""Layers that prepare a network's input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

import fastfnn_kernels as kernels
from fastfnn import _checks as check
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.layers.base import Array, KnownShape, Layer, Shape

#: Elements that `Normalize.fit` looks at together, and the deviation, as a share of the mean, that is none: float32 has
#: no digits for it.
FITTED_ELEMENTS, SMALLEST_DEVIATION = 1 << 18, 1e-7


class Flatten(Layer):
    """(n, …) to (n, features), without a copy."""

    precedes_activation = True
    torch_names = ("Flatten",)
    torch_fixed: ClassVar[dict[str, tuple[Any, ...]]] = {"start_dim": (1,), "end_dim": (-1,)}

    def forward(self, x: ArrayLike) -> Array:
        array = np.asarray(x)
        if array.ndim < 2:
            raise InvalidValueError(f"x has shape {array.shape}; expected (n, …), a sample in each row")
        self._saved = array.shape
        return array.reshape(array.shape[0], math.prod(array.shape[1:]))

    def backward(self, grad_out: ArrayLike) -> Array:
        return np.asarray(grad_out).reshape(self.saved)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def made_shape(self, came: KnownShape | None) -> KnownShape:
        return came if came is not None and len(came) == 1 else (None,)

    def to_torch(self, nn: Any) -> Any:
        return nn.Flatten()

    def to_onnx(self, graph: Any) -> None:
        graph.add("Flatten", axis=1)


def _values(name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    values = np.atleast_1d(np.asarray(value, np.float64))
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InvalidValueError(f"{name} is {value!r}; expected a finite number, or one for each channel")
    if name == "std" and values.min() <= 0:
        raise InvalidValueError(f"std is {value!r}; expected more than 0")
    return tuple(values.tolist())


class Normalize(Layer):
    """``(x * scale - mean) / std``, from any numeric dtype to the network's.

    Parameters
    ----------
    mean, std : float, or one for each channel
        Channels are the first axis of a sample, or equal blocks of a flattened one.
    scale : float
        Applied first: ``1 / 255`` for ``uint8`` images whose mean and std are given for pixels in [0, 1].

    Examples
    --------
    >>> model = ff.Sequential(ff.Normalize.fit(x_train), ff.Linear(20, 3))
    """

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0, scale: float = 1.0):
        super().__init__()
        self.mean: Any
        self.std: Any
        self.mean, self.std = mean, std
        self.scale = check.real("scale", scale)
        if 1 not in (len(self.mean), len(self.std)) and len(self.mean) != len(self.std):
            raise InvalidValueError(f"std has {len(self.std)} values; expected {len(self.mean)}, as many as mean")

    @classmethod
    def fit(cls, x: ArrayLike) -> Normalize:
        """A layer that brings data like `x` to a mean of 0 and a standard deviation of 1.

        Parameters
        ----------
        x : (n, features), (n, height, width) or (n, channels, …)
            The training data: what is fitted to others, too, knows of them. Each feature or channel has a mean and a
            standard deviation of its own; images without channels have one of each.

        Raises
        ------
        InvalidValueError
            x has no rows, or holds NaN or infinity, which is named with its row.
        """
        array = check.as_array("x", x)
        if array.dtype.kind not in "fiub":
            raise InvalidTypeError(f"x has dtype {array.dtype}; expected numbers")
        if array.ndim < 2 or not array.size:
            raise InvalidValueError(f"x has shape {array.shape}; expected (n, …), a sample in each row")
        channels = 1 if array.ndim == 3 else array.shape[1]
        axes = tuple(axis for axis in range(array.ndim) if axis != 1 or channels == 1)
        rows = max(1, FITTED_ELEMENTS * len(array) // array.size)
        parts = [array[start : start + rows] for start in range(0, len(array), rows)]

        def mean_of(each: Callable[[Array], Array]) -> Array:
            sums = [each(part.astype(np.float64)).sum(axis=axes, keepdims=True) for part in parts]
            return np.sum(sums, axis=0) * (channels / array.size)

        with np.errstate(invalid="ignore"):
            mean = mean_of(lambda part: part)
        if not np.isfinite(mean).all():
            place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
            raise InvalidValueError(f"x[{', '.join(map(str, place))}] is {array[place]}; expected finite numbers")
        std = np.sqrt(mean_of(lambda part: (part - mean) ** 2))
        std[std <= SMALLEST_DEVIATION * np.abs(mean)] = 1.0  # constant, but for rounding
        return cls(mean.reshape(-1).tolist(), std.reshape(-1).tolist())

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("mean", "std"):
            value = _values(name, value)
        super().__setattr__(name, value)

    def factor_and_shift(self) -> tuple[Array, Array]:
        """The same as ``x * factor + shift``, a value for each channel."""
        mean, std = np.broadcast_arrays(np.array(self.mean), np.array(self.std))
        return (self.scale / std).astype(self.dtype), (-mean / std).astype(self.dtype)

    def forward(self, x: ArrayLike) -> Array:
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise InvalidValueError(f"x has dtype {array.dtype}; expected numbers")
        array = check.float_array("x", array, dtype=self.dtype) if array.dtype.kind == "f" else check.plain(array)
        if array.ndim < 2:
            raise InvalidValueError(f"x has shape {array.shape}; expected (n, …), a sample in each row")
        factor, shift = self.factor_and_shift()
        self.output_shape(array.shape[1:])
        out = np.empty(array.shape, self.dtype)
        features = math.prod(array.shape[1:])
        kernels.normalization.normalize(
            out.reshape(len(out), features), array.reshape(len(out), features), factor, shift
        )
        self._saved = factor
        return out

    def backward(self, grad_out: ArrayLike) -> Array:
        grad = check.float_array("grad_out", grad_out, dtype=self.dtype)
        blocks = grad.reshape(len(grad), self.saved.size, -1)
        return (blocks * self.saved[:, None]).reshape(grad.shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = max(len(self.mean), len(self.std))
        first = input_shape[0] if input_shape else 0
        fits = first == channels if len(input_shape) > 1 else first % channels == 0
        if channels > 1 and not fits:
            raise InvalidValueError(f"{self!r} got samples of shape {input_shape}; expected {channels} channels first")
        return input_shape

    def config(self) -> dict[str, Any]:
        return {
            "mean": self.mean[0] if len(self.mean) == 1 else list(self.mean),
            "std": self.std[0] if len(self.std) == 1 else list(self.std),
            "scale": self.scale,
        }

    def made_shape(self, came: KnownShape | None) -> KnownShape | None:
        return came

    def to_onnx(self, graph: Any) -> None:
        factor, shift = self.factor_and_shift()
        first, *others = graph.shape
        if factor.size > 1 and others:
            factor, shift = (value.reshape(-1, *[1] * len(others)) for value in (factor, shift))
        elif factor.size > 1 and first is not None:
            factor, shift = (value.repeat(first // value.size) for value in (factor, shift))
        elif factor.size > 1:
            raise InvalidValueError(f"input_shape is None; expected the shape of one sample, for {graph.place} {self}")
        # The float64 settings do not follow from two rounded numbers; `import_onnx` finds them here.
        graph.add("Mul", graph.constant("factor", factor), doc=json.dumps(self.config()))
        graph.add("Add", graph.constant("shift", shift))
