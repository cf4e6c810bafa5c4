"""The files of MNIST, small and full, for the tests of what reads them."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parent.parent
OFFICIAL = Path(os.environ.get("FASTFNN_MNIST") or PROJECT.parent / "shared" / "data" / "mnist")
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

needs_full_set = pytest.mark.skipif(
    not all((OFFICIAL / f"{name}.gz").is_file() for name in NAMES), reason="the full MNIST is not there (FASTFNN_MNIST)"
)


def idx_bytes(array: np.ndarray) -> bytes:
    code = {"uint8": 0x08, "int32": 0x0C}[array.dtype.name]
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def small_set(train: int = 5, test: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        NAMES[0]: random.integers(0, 256, (train, 28, 28)).astype(np.uint8),
        NAMES[1]: random.integers(0, 10, train).astype(np.uint8),
        NAMES[2]: random.integers(0, 256, (test, 28, 28)).astype(np.uint8),
        NAMES[3]: random.integers(0, 10, test).astype(np.uint8),
    }


def store(folder: Path, arrays: dict[str, np.ndarray], packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)


def assert_holds(loaded, arrays: dict[str, np.ndarray]) -> None:
    for (images, labels), (images_name, labels_name) in zip(loaded, (NAMES[:2], NAMES[2:]), strict=True):
        assert images.dtype == np.uint8 and labels.dtype == np.int64
        np.testing.assert_array_equal(images, arrays[images_name])
        np.testing.assert_array_equal(labels, arrays[labels_name])
