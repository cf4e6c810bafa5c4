"""IDX, the file format of MNIST: a magic number, the sizes of the dimensions, then the elements in row-major order.

The header is not trusted: what it promises is compared with what the file really holds before memory is taken for the
data, and no more than the promised number of bytes is ever decompressed.
"""

import gzip
import math
import os
import sys
import zlib
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastfnn._paths import StrPath, as_path
from fastfnn.errors import DataError

# Multi-byte elements are stored big-endian.
_DTYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_MAX_DIMENSIONS = 32  # what every supported NumPy can hold
_CHUNK = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate spends at least two bits on a match, and a match gives at most 258 bytes.
DEFLATE_MAX_RATIO = 1032


class Digest(Protocol):
    """A running checksum, such as ``hashlib.sha256()``."""

    def update(self, data: Any, /) -> None:
        """Take in more bytes."""


def read_idx(path: StrPath) -> NDArray[Any]:
    """Read an IDX file, plain or gzipped (told apart by content, not by name).

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    numpy.ndarray
        A fresh, writable, C-contiguous array of the shape in the file's header; dtype uint8, int8, int16, int32,
        float32 or float64 in native byte order. A dimension may have size 0.

    Raises
    ------
    DataError
        The file is not IDX, has an unknown element type, no or more than 32 dimensions, fewer or more bytes than its
        header promises, or is corrupt gzip. It is found out before memory is taken for the data.
    FileNotFoundError
        There is no such file.
    InvalidTypeError
        `path` is not a path.
    """
    path = as_path(path, "path")
    with open(path, "rb") as file:
        return read_idx_stream(file, str(path))


def read_idx_stream(file: IO[bytes], name: str, digest: Digest | None = None) -> NDArray[Any]:
    """Do the work of `read_idx` on an open, seekable binary file; `name` stands for it in errors.

    `digest`, if given, is fed the uncompressed content, header included; read it only after a successful return.
    """
    file_size = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_gzip = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    if not is_gzip:
        return _read(file, name, digest, plain_size=file_size, most=file_size)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
            return _read(unzipped, name, digest, plain_size=None, most=DEFLATE_MAX_RATIO * file_size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: expected a whole gzip file, got corrupt or truncated data ({error})") from error


def _read(
    stream: IO[bytes] | gzip.GzipFile, name: str, digest: Digest | None, plain_size: int | None, most: int
) -> NDArray[Any]:
    """Check and read; `plain_size` is the length where it is known at once, `most` what the file can hold at best."""
    header, dtype, shape = _read_header(stream, name)
    total = len(header) + math.prod(shape) * dtype.itemsize
    promise = f"its header promises {total} bytes (shape {shape} of {dtype.name})"
    if total > most:
        raise DataError(f"{name}: too short: {promise}, the file can hold at most {most}")
    # NumPy refuses (0, 2**32 - 1, 2**32 - 1) although it has no elements.
    if math.prod(size or 1 for size in shape) * dtype.itemsize > sys.maxsize:
        raise DataError(f"{name}: dimensions too large for this machine: {shape} of {dtype.name}")
    if plain_size is None:
        # Only decompressing tells the true length. Doing that once for the length alone keeps the memory out of
        # the hands of whoever wrote the header; one byte over is enough to know that there is a surplus.
        stream.seek(0)
        size = _count_bytes(stream, total + 1)
        stream.seek(len(header))
    else:
        size = plain_size
    if size < total:
        raise DataError(f"{name}: too short: {promise}, got {size}")
    if size > total:
        raise DataError(f"{name}: too long: {promise}, got {'more' if plain_size is None else size}")

    array = np.empty(shape, dtype)
    raw = array.reshape(-1).view(np.uint8)
    if digest is not None:
        digest.update(header)
    for start in range(0, raw.size, _CHUNK):
        part = raw[start : start + _CHUNK]
        chunk = stream.read(part.size)
        if len(chunk) != part.size:
            raise DataError(f"{name}: too short: {promise}, the file shrank while it was read")
        part[:] = np.frombuffer(chunk, np.uint8)
        if digest is not None:
            digest.update(chunk)
    if sys.byteorder == "little":
        array.byteswap(inplace=True)
    return array


def _read_header(stream: IO[bytes] | gzip.GzipFile, name: str) -> tuple[bytes, np.dtype[Any], tuple[int, ...]]:
    """Read and check magic, element type and dimensions; give the header's bytes too."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{name}: truncated header: expected 4 bytes of magic number, got {len(magic)}")
    if magic[:2] != b"\0\0":
        raise DataError(f"{name}: not an IDX file: expected a magic number 0x0000...., got 0x{magic.hex()}")
    if magic[2] not in _DTYPES:
        known = ", ".join(f"0x{code:02x} ({dtype})" for code, dtype in _DTYPES.items())
        raise DataError(f"{name}: unknown IDX element type: expected one of {known}, got 0x{magic[2]:02x}")
    count = magic[3]
    if not 1 <= count <= _MAX_DIMENSIONS:
        raise DataError(f"{name}: wrong number of dimensions: expected 1 to {_MAX_DIMENSIONS}, got {count}")
    sizes = stream.read(4 * count)
    if len(sizes) < 4 * count:
        raise DataError(
            f"{name}: truncated header: expected {4 * count} bytes for the sizes of {count} dimensions, "
            f"got {len(sizes)}"
        )
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, 4 * count, 4))
    return magic + sizes, np.dtype(_DTYPES[magic[2]]), shape


def _count_bytes(stream: IO[bytes] | gzip.GzipFile, limit: int) -> int:
    """Count the bytes from here to the end without keeping them, but stop at `limit`."""
    count = 0
    while count < limit:
        chunk = stream.read(min(_CHUNK, limit - count))
        if not chunk:
            break
        count += len(chunk)
    return count
