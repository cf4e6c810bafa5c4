"""What writing and reading ONNX files have in common."""

from __future__ import annotations

from typing import Any

from fastfnn.layers.base import KnownShape, Layer

#: An entry of the metadata: what the model was trained for.
PURPOSE = "fastfnn.purpose"


def onnx_package(caller: str) -> Any:
    """The package onnx; where it is missing, an `ImportError` says how to get it."""
    try:
        import onnx  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ImportError(f'{caller} needs the package onnx (pip install "fastfnn[onnx]")') from error
    return onnx


def shape_after(layer: Layer, shape: KnownShape | None) -> KnownShape | None:
    """What is known of the samples that `layer` makes, from what is known of those that it gets."""
    if shape is None or None in shape:
        return layer.made_shape(shape or layer.taken_shape())
    return layer.output_shape(tuple(size for size in shape if size is not None))
