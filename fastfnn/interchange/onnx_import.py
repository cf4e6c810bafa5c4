"""Models from elsewhere: an ONNX graph that is a plain chain becomes a `Sequential`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastfnn import _checks as check
from fastfnn._paths import StrPath, as_path
from fastfnn.errors import FOREIGN, ModelFileError
from fastfnn.interchange.onnx_common import PURPOSE, onnx_package
from fastfnn.interchange.onnx_layers import Reader
from fastfnn.interchange.onnx_nodes import chain_of
from fastfnn.model import Sequential


def import_onnx(path: StrPath, dtype: Any = None) -> Sequential:
    """Read an ONNX file whose graph is a chain of operators that fastfnn has layers for, or has branches that meet.

    These are Gemm, MatMul (with an Add behind it), Conv of images or lines, Pad of images, BatchNormalization,
    LayerNormalization, MaxPool and AveragePool of either, GlobalMaxPool, GlobalAveragePool or ReduceMean of images
    (with a Flatten behind it), Flatten, Reshape to rows, Relu, LeakyRelu, PRelu, Clip to [0, 6], Elu, Selu, Gelu,
    HardSwish, Swish (or a Sigmoid and a Mul), Softplus, Sigmoid, Tanh, Softmax, LogSoftmax and Log; Mul, Add, Sub and
    Div by constants become a `Normalize`; Dropout, Identity and casts to floats are left out. What `export_onnx` wrote
    comes back as it was, but for `Dropout`, an `AdaptiveAvgPool2d`, a normalisation without weights, and a `Softplus`
    with settings.
    Branches meet in Add, Sum or Concat: they become `Residual`, `Parallel` and, where each begins with a Gather of
    columns, `Columns`; a Gather from a table is an `Embedding`.

    Parameters
    ----------
    path : str or path
    dtype : {"float32", "float64"}, optional
        Of the model. By default float64 where the graph's output is, else float32.

    Returns
    -------
    Sequential
        Takes what the graph takes.

    Raises
    ------
    ImportError
        The package onnx is missing.
    FileNotFoundError
        There is no such file.
    ModelFileError
        The file is truncated or foreign, or the graph has branches that cross, or a node that fastfnn has no layer
        for: it is named.
    """
    onnx = onnx_package("import_onnx")
    source = as_path(path, "path")
    if not source.is_file():
        raise FileNotFoundError(f"path is {str(source)!r}; there is no such file")
    wanted = None if dtype is None else check.as_dtype(dtype)
    proto = _parsed(onnx, source)
    try:
        chain = chain_of(onnx, proto)
        double = proto.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
        own = np.dtype(np.float64 if double else np.float32)
        model = Reader(chain.constants, chain.shape, chain.batch, wanted or own).model(chain.nodes)
        said = {entry.key: entry.value for entry in proto.metadata_props}
        model.take_purpose(json.loads(said.get(PURPOSE, "{}")))
        return model
    except FOREIGN as error:
        raise ModelFileError(f"{source}: {error}") from None


def _parsed(onnx: Any, source: Path) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    wrong = (DecodeError, onnx.checker.ValidationError, OSError, *FOREIGN)
    try:
        proto = onnx.load(source, format="protobuf")
        for value in proto.graph.output:  # runtimes do without its shape, the checker does not
            if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
                value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(proto)
    except wrong as error:
        raise ModelFileError(f"{source} is no readable ONNX file: {error}") from None
    return proto
