"""MNIST and Fashion-MNIST: the full sets from a folder or a checked download, and an embedded sample of MNIST."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn._paths import StrPath, as_path, data_dir
from fastfnn.data.idx import read_idx, read_idx_stream
from fastfnn.errors import DataError
from fastfnn_kernels._files import staged

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]

# Training images, training labels, test images, test labels: the order counts below.
_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CLASSES = 10


class DataNotFoundError(DataError, FileNotFoundError):
    """Files of a data set are missing and could not be fetched; the message says which and where to put them."""


@dataclass(frozen=True)
class _DataSet:
    title: str
    folder: str  # in the user's data folder
    nested: str  # where torchvision keeps the files, below its root
    mirrors: tuple[str, ...]
    digests: dict[str, str]  # by file name
    # Checksums are SHA-256 of the uncompressed content, or, where only that is published, MD5 of the .gz file as it is.
    md5_of_gzip: bool = False


_MNIST = _DataSet(
    title="MNIST",
    folder="mnist",
    nested="MNIST/raw",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    digests={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
_FASHION_MNIST = _DataSet(
    title="Fashion-MNIST",
    folder="fashion-mnist",
    nested="FashionMNIST/raw",
    mirrors=(  # the encrypted one first: an MD5 is a weak guard on an open line
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    digests={  # as published in the README of zalandoresearch/fashion-mnist
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    md5_of_gzip=True,
)


def load_mnist(root: StrPath | None = None, download: bool = True) -> tuple[Split, Split]:
    """Load MNIST: 60,000 training and 10,000 test images of handwritten digits.

    Parameters
    ----------
    root : str or path-like, optional
        A folder that holds the four files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, plain or as ``.gz``, in itself or in ``MNIST/raw``.
        These are your files, so they may be a subset: shapes, dtypes, labels and matching counts are checked, but
        not the checksums. By default the per-user folder is used: ``$FASTFNN_DATA_DIR/mnist``, or ``data/mnist`` in
        fastfnn's cache folder. There the files' SHA-256 (of the uncompressed content) must be the official ones.
    download : bool, optional
        Whether to fetch files that are missing from (or damaged in) the per-user folder. Needs the package pooch:
        ``pip install "fastfnn[data]"``. With `root` nothing is ever downloaded.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        Images: uint8, shape (n, 28, 28), 0 is background. Labels: int64, shape (n,), 0 to 9.

    Raises
    ------
    DataNotFoundError
        Files are missing and were not to be, or could not be, downloaded. It is also a `FileNotFoundError`.
    DataError
        A file is not IDX, damaged, of another shape, or (in the per-user folder) has a wrong checksum.
    InvalidTypeError
        `root` is not a path.
    """
    return _load(_MNIST, root, download)


def load_fashion_mnist(root: StrPath | None = None, download: bool = True) -> tuple[Split, Split]:
    """Load Fashion-MNIST: 60,000 training and 10,000 test images of clothing in ten classes.

    Everything is as in `load_mnist`, but: torchvision's folder is ``FashionMNIST/raw``, the per-user folder is
    ``fashion-mnist``, and the files in it must be the ``.gz`` files as published, because the checksums that the
    authors published are MD5s of those.

    Parameters
    ----------
    root : str or path-like, optional
        A folder that holds the four files (named as MNIST's, plain or ``.gz``).
    download : bool, optional
        Whether to fetch what is missing from, or damaged in, the per-user folder.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        Images: uint8, shape (n, 28, 28). Labels: int64, shape (n,), 0 to 9.

    Raises
    ------
    DataNotFoundError, DataError, InvalidTypeError
        As in `load_mnist`.
    """
    return _load(_FASHION_MNIST, root, download)


def load_mnist_sample() -> tuple[Split, Split]:
    """Load the embedded sample of MNIST: 10,000 training and 2,000 test images, no files or network needed.

    They are drawn without replacement from the official training and test split respectively, 1,000 and 200 of each
    digit, in a fixed random order. The arrays are fresh and writable at every call.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        Images: uint8, shapes (10000, 28, 28) and (2000, 28, 28). Labels: int64, shapes (10000,) and (2000,), 0 to 9.
    """
    from importlib.resources import files

    folder = files("fastfnn.data") / "mnist_sample"
    arrays = []
    for name in _NAMES:
        with folder.joinpath(name + ".gz").open("rb") as file:
            arrays.append(read_idx_stream(file, f"mnist_sample/{name}.gz"))
    return _both_splits(arrays, "MNIST sample")


def _load(data_set: _DataSet, root: StrPath | None, download: bool) -> tuple[Split, Split]:
    if root is None:
        folder = data_dir() / data_set.folder
        return _both_splits(_read_cache(data_set, folder, download), f"{data_set.title} in {folder}")
    folder = as_path(root, "root")
    # One layout or the other, so that files of two different sets are never mixed.
    folder = min((folder, folder / data_set.nested), key=lambda candidate: len(_missing(candidate)))
    missing = _missing(folder)
    if missing:
        folder = as_path(root, "root")
        raise DataNotFoundError(
            f"{data_set.title}: root lacks {', '.join(missing)}; put them, plain or as .gz, into {folder} or "
            f"{folder / data_set.nested}"
        )
    return _both_splits([read_idx(_candidates(folder, name)[0]) for name in _NAMES], f"{data_set.title} in {folder}")


def _candidates(folder: Path, name: str) -> list[Path]:
    """Find a file in its two forms, the one that loads faster first."""
    return [path for path in (folder / name, folder / (name + ".gz")) if path.is_file()]


def _missing(folder: Path) -> list[str]:
    return [name for name in _NAMES if not _candidates(folder, name)]


def _both_splits(arrays: list[NDArray[Any]], where: str) -> tuple[Split, Split]:
    """Check the four arrays against each other; widen the labels to int64."""
    splits: list[Split] = []
    for kind, images, labels in (("training", arrays[0], arrays[1]), ("test", arrays[2], arrays[3])):
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
            raise DataError(f"{where}: {kind} images must be uint8 (n, 28, 28), got {images.dtype} {images.shape}")
        if labels.dtype != np.uint8 or labels.ndim != 1:
            raise DataError(f"{where}: {kind} labels must be uint8 (n,), got {labels.dtype} {labels.shape}")
        if len(images) != len(labels):
            raise DataError(f"{where}: as many {kind} labels as images expected, got {len(labels)} for {len(images)}")
        if labels.size and labels.max() >= _CLASSES:
            raise DataError(f"{where}: {kind} labels must be 0 to {_CLASSES - 1}, got {labels.max()}")
        splits.append((images, labels.astype(np.int64)))
    return splits[0], splits[1]


def _read_cache(data_set: _DataSet, folder: Path, download: bool) -> list[NDArray[Any]]:
    """Read the four verified files of the per-user folder, after downloading those that are missing or damaged."""
    if not download and _missing(folder):
        raise _not_found(data_set, folder, "files are missing and download=False")
    arrays = []
    for name in _NAMES:
        array, refused = None, None
        for path in _candidates(folder, name):
            try:
                array = _read_verified(data_set, path, name)
                break
            except DataError as error:
                refused = error
        if array is None:
            if refused is not None and not download:
                raise refused
            array = _download(data_set, folder, name, refused)
        arrays.append(array)
    return arrays


def _read_verified(data_set: _DataSet, path: Path, name: str) -> NDArray[Any]:
    """Read an IDX file whose checksum must be the published one."""
    with open(path, "rb") as file:
        if data_set.md5_of_gzip:
            digest = hashlib.md5(usedforsecurity=False)
            while chunk := file.read(1 << 18):
                digest.update(chunk)
            _compare(path, "MD5 of the .gz file", digest.hexdigest(), data_set.digests[name])
            return read_idx_stream(file, str(path))
        digest = hashlib.sha256()
        array = read_idx_stream(file, str(path), digest)
        _compare(path, "SHA-256 of the uncompressed content", digest.hexdigest(), data_set.digests[name])
        return array


def _compare(path: Path, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(f"{path}: wrong checksum: expected {what} {expected}, got {found}")


def _download(data_set: _DataSet, folder: Path, name: str, refused: DataError | None) -> NDArray[Any]:
    """Try the mirrors in order; a file takes its place in the folder only once it is whole and verified."""
    answers = [] if refused is None else [str(refused)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{name}.gz"
        for mirror in data_set.mirrors:
            url = mirror + target.name
            try:
                with staged(target) as file:
                    _fetch(url, Path(file.name))
                    array = _read_verified(data_set, Path(file.name), name)
                return array
            except ImportError:
                answers.append('downloading needs the package pooch (pip install "fastfnn[data]")')
                break
            except (OSError, ValueError) as error:  # the network's and pooch's errors, and a file that is not it
                answers.append(f"{url}: {type(error).__name__}: {error}")
    except OSError as error:
        remedy = "set FASTFNN_DATA_DIR to a folder that can be written, or pass root="
        raise DataError(f"{data_set.title}: cannot store {name} in {folder}: {error}; {remedy}") from error
    reason = " ".join("; ".join(answers).split())  # answers may have line breaks
    raise _not_found(data_set, folder, f"cannot download {name}.gz ({reason})", name) from refused


def _fetch(url: str, target: Path) -> None:
    """Download `url` into the file `target`; the only function here that touches the network."""
    import pooch  # type: ignore[import-untyped]

    if sys.stderr.isatty():
        print(f"fastfnn: downloading {url}", file=sys.stderr)
    pooch.HTTPDownloader(chunk_size=1 << 16, timeout=30)(url, str(target), None)


def _not_found(data_set: _DataSet, folder: Path, reason: str, name: str | None = None) -> DataNotFoundError:
    """Make the error that names all files still wanted, `name` among them even if a damaged one is there."""
    missing = _missing(folder)
    wanted = [f"{n}.gz" for n in _NAMES if n in missing or n == name]
    remedy = f"put {', '.join(wanted)} into {folder}, or pass root= a folder that holds the files"
    return DataNotFoundError(f"{data_set.title}: {reason}; {remedy}")
