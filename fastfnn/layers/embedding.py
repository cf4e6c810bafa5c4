"""Categories as vectors that are learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastfnn import _checks as check
from fastfnn import functional
from fastfnn.errors import InvalidValueError
from fastfnn.initializers import Initializer, initializer
from fastfnn.layers.base import Array, Layer, Shape


class Embedding(Layer):
    """A table of vectors, one for each category: whole numbers (n, k) become vectors (n, k, embedding_dim).

    Its gradient is that of the entries that occurred: a plain `SGD` writes to these alone. Numbers get none.

    Parameters
    ----------
    num_embeddings : int
        How many categories there are: numbers from 0 to one less.
    embedding_dim : int
    weight_init : str or callable ``(shape, rng) -> array``
        As in `Linear`; N(0, 1) by default, as in PyTorch.

    Attributes
    ----------
    params : ``weight`` (num_embeddings, embedding_dim)

    Notes
    -----
    Numbers reach it as floats of the network's dtype: in float32 these name 16,777,216 categories at most.

    Examples
    --------
    >>> import fastfnn as ff
    >>> model = ff.Sequential(ff.Embedding(100, 8), ff.Flatten(), ff.Linear(24, 2), seed=0)
    >>> model.forward([[4, 99, 0], [7, 7, 1]]).shape
    (2, 2)
    """

    fixed_settings = ("num_embeddings", "embedding_dim")
    torch_names = ("Embedding",)
    torch_fixed = {"padding_idx": (None,), "max_norm": (None,), "scale_grad_by_freq": (False,)}  # noqa: RUF012

    def __init__(self, num_embeddings: int, embedding_dim: int, *, weight_init: str | Initializer = "normal") -> None:
        super().__init__()
        self.num_embeddings = check.positive_int("num_embeddings", num_embeddings)
        self.embedding_dim = check.positive_int("embedding_dim", embedding_dim)
        self.weight_init = initializer("weight_init", weight_init)

    @property
    def weight_shape(self) -> tuple[int, int]:
        return self.num_embeddings, self.embedding_dim

    def initial_params(self, rng: np.random.Generator, activation: str | None) -> dict[str, Array]:
        weight = np.asarray(self.weight_init(self.weight_shape, rng), np.float64)
        if weight.shape != self.weight_shape:
            raise InvalidValueError(f"weight_init made shape {weight.shape}; expected {self.weight_shape}")
        return {"weight": weight}

    def build(self, rng: np.random.Generator, dtype: Any = "float32", activation: str | None = None) -> None:
        kind = check.as_dtype(dtype)
        most = 2 ** (np.finfo(kind).nmant + 1)
        if self.num_embeddings > most:
            raise InvalidValueError(
                f"num_embeddings is {self.num_embeddings:,}; {kind} names {most:,} whole numbers: expected no more, or "
                "dtype='float64'"
            )
        super().build(rng, dtype, activation)

    def forward(self, x: ArrayLike) -> Array:
        """(n, …) whole numbers to (n, …, embedding_dim)."""
        self._saved = np.asarray(x)
        return functional.embedding(x, self.params["weight"])

    def backward(self, grad_out: ArrayLike) -> Array:
        """Fills the table's gradient; numbers have none, so theirs is zeros."""
        grad_out = check.float_array("grad_out", grad_out, dtype=self.dtype)
        if self.trainable:
            self.grads["weight"][...] = functional.embedding_backward(grad_out, self.saved, self.num_embeddings)
        return np.zeros(self.saved.shape, self.dtype)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.embedding_dim)

    def config(self) -> dict[str, Any]:
        return {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim}

    def to_torch(self, nn: Any) -> Any:
        return nn.Embedding(self.num_embeddings, self.embedding_dim)

    @classmethod
    def from_torch(cls, module: Any) -> Layer:
        return cls(module.num_embeddings, module.embedding_dim)

    def to_onnx(self, graph: Any) -> None:
        (weight,) = graph.own("weight")
        graph.add("Cast", to=graph.onnx.TensorProto.INT64)
        graph.add("Gather", of=weight, axis=0)
