"""Draw the sample of MNIST that fastfnn embeds (fastfnn/data/mnist_sample) from the four official files.

    python bench/make_mnist_sample.py FOLDER_WITH_MNIST [--out FOLDER]

The same images come out in the same order whenever and wherever this runs; the compressed bytes may differ between
versions of zlib, which is why the checksums printed at the end are those of the uncompressed content.
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastfnn.data import load_mnist

SEED = 20240229
TRAIN_PER_CLASS, TEST_PER_CLASS = 1000, 200
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "fastfnn" / "data" / "mnist_sample"


def draw(labels: NDArray[np.int64], per_class: int, random: np.random.RandomState) -> NDArray[np.int64]:
    """Draw `per_class` row numbers of each digit without replacement, and shuffle them all."""
    rows = [random.permutation(np.flatnonzero(labels == digit))[:per_class] for digit in range(10)]
    return random.permutation(np.concatenate(rows))


def draw_sample(root: Path) -> dict[str, NDArray[np.uint8]]:
    """Give the sample's four arrays by file name."""
    (x_train, y_train), (x_test, y_test) = load_mnist(root)
    if (len(x_train), len(x_test)) != (60_000, 10_000):
        raise SystemExit(f"{root} holds a subset of MNIST; the sample is drawn from the full set")
    # RandomState, because NumPy promises that its streams never change; those of Generator may.
    random = np.random.RandomState(SEED)
    train = draw(y_train, TRAIN_PER_CLASS, random)
    test = draw(y_test, TEST_PER_CLASS, random)
    return {
        "train-images-idx3-ubyte": x_train[train],
        "train-labels-idx1-ubyte": y_train[train].astype(np.uint8),
        "t10k-images-idx3-ubyte": x_test[test],
        "t10k-labels-idx1-ubyte": y_test[test].astype(np.uint8),
    }


def to_idx(array: NDArray[np.uint8]) -> bytes:
    """Give the uncompressed IDX file of an array of bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 0x08, array.ndim]) + sizes + array.tobytes()


def main() -> None:
    """Write the sample and print sizes and checksums."""
    parser = argparse.ArgumentParser(description="Draw the sample of MNIST that fastfnn embeds.")
    parser.add_argument("root", type=Path, help="folder with MNIST's four official files, plain or gzipped")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, array in draw_sample(arguments.root).items():
        content = to_idx(array)
        packed = gzip.compress(content, compresslevel=9, mtime=0)
        (arguments.out / f"{name}.gz").write_bytes(packed)
        print(f"{hashlib.sha256(content).hexdigest()}  {name} ({len(content)} bytes, gzipped {len(packed)})")


if __name__ == "__main__":
    main()
