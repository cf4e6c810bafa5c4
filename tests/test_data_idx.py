"""What `read_idx` reads, and how it meets files that are not what they claim to be."""

import gzip
import io
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fastfnn.data.idx import read_idx
from fastfnn.errors import DataError, InvalidTypeError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
TERABYTES = struct.pack(">4B3I", 0, 0, 0x08, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)


def idx_bytes(array: np.ndarray) -> bytes:
    """Write IDX independently of the code under test."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(params=["plain", "gzip"])
def write(request: pytest.FixtureRequest, tmp_path: Path):
    """Write content to a file, as it is or gzipped; the name says nothing about which."""

    def write_file(content: bytes) -> Path:
        path = tmp_path / "file.idx"
        path.write_bytes(content if request.param == "plain" else gzip.compress(content))
        return path

    return write_file


def peak_memory_of_failed_read(path: Path, match: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match):
            read_idx(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(1,), (0,), (7,), (2, 3), (1, 1, 1), (0, 28, 28), (3, 0), (2, 3, 4, 5)])
def test_reads_every_type_and_shape(write, dtype, shape):
    values = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    expected = np.ascontiguousarray(values).reshape(-1).view(dtype).reshape(shape)  # any bit pattern, NaNs included
    array = read_idx(write(idx_bytes(expected)))
    assert array.shape == shape
    assert array.dtype == np.dtype(dtype) and array.dtype.isnative
    assert array.tobytes() == expected.tobytes()


def test_values_are_taken_as_big_endian(write):
    array = read_idx(write(bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 0x01, 0x02, 0xFF, 0xFE])))
    assert array.tolist() == [258, -2]


def test_more_data_than_one_chunk(write):
    expected = np.random.default_rng(0).integers(-(2**31), 2**31, 300_001, np.int32)
    np.testing.assert_array_equal(read_idx(write(idx_bytes(expected))), expected)


def test_result_is_fresh_writable_and_contiguous(write):
    path = write(idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    array = read_idx(path)
    assert array.flags.writeable and array.flags.c_contiguous and array.flags.aligned
    array[:] = 0
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_path_may_be_a_string(write):
    assert read_idx(str(write(idx_bytes(np.arange(3, dtype=np.int8))))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("extension", ["", ".gz"])
def test_name_does_not_tell_the_compression(tmp_path, extension):
    content = idx_bytes(np.arange(3, dtype=np.uint8))
    path = tmp_path / f"digits{extension}"
    for stored in (content, gzip.compress(content)):
        path.write_bytes(stored)
        assert read_idx(path).tolist() == [0, 1, 2]


def test_gzip_of_several_members_is_one_file(tmp_path):
    content = idx_bytes(np.arange(10, dtype=np.uint8))
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content[:9]) + gzip.compress(content[9:]))
    assert read_idx(path).tolist() == list(range(10))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")


@pytest.mark.parametrize("path", [3, None, ["a"]])
def test_path_of_a_wrong_type(path):
    with pytest.raises(InvalidTypeError, match=f"path must be a path, got {type(path).__name__}"):
        read_idx(path)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_truncation_at_every_byte(write, shape):
    whole = idx_bytes(np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    header = 4 + 4 * len(shape)
    for length in range(len(whole)):
        with pytest.raises(DataError, match="truncated header" if length < header else "too short"):
            read_idx(write(whole[:length]))


def test_truncation_at_every_byte_of_the_gzip_file(tmp_path):
    whole = gzip.compress(idx_bytes(np.arange(50, dtype=np.uint8)))
    path = tmp_path / "file.gz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="truncated header" if length < 2 else "gzip"):
            read_idx(path)


@pytest.mark.parametrize("surplus", [1, 2, 1000])
@pytest.mark.parametrize("size", [0, 5])
def test_surplus_bytes(write, surplus, size):
    content = idx_bytes(np.zeros(size, np.uint8))
    with pytest.raises(DataError, match=f"too long: its header promises {8 + size} bytes"):
        read_idx(write(content + bytes(surplus)))


@pytest.mark.parametrize("foreign", [b"PK\x03\x04....", b"\x89PNG\r\n", b"\x93NUMPY", b"<html></html>", b"\0\1\x08\1"])
def test_wrong_magic(write, foreign):
    with pytest.raises(DataError, match=f"not an IDX file: expected .* got 0x{foreign[:4].hex()}"):
        read_idx(write(foreign))


@pytest.mark.parametrize("code", [0x00, 0x07, 0x0A, 0x0F, 0xFF])
def test_unknown_type(write, code):
    with pytest.raises(DataError, match=rf"unknown IDX element type: .*0x08 \(uint8\).* got 0x{code:02x}"):
        read_idx(write(bytes([0, 0, code, 1, 0, 0, 0, 0])))


@pytest.mark.parametrize("count", [0, 33, 255])
def test_number_of_dimensions_out_of_range(write, count):
    with pytest.raises(DataError, match=f"dimensions: expected 1 to 32, got {count}"):
        read_idx(write(bytes([0, 0, 0x08, count]) + bytes(4 * count)))


def test_most_dimensions(write):
    assert read_idx(write(idx_bytes(np.full((1,) * 32, 7, np.uint8)))).shape == (1,) * 32


def test_every_message_is_one_line_that_names_the_file(write):
    for content in (b"", b"abcd", b"\0\0\x01\x01", b"\0\0\x08\x00", TERABYTES, b"\0\0\x08\x01\0\0\0\0x"):
        path = write(content)
        with pytest.raises(DataError) as caught:
            read_idx(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, ValueError)


def test_promised_terabytes_take_no_memory(write):
    assert peak_memory_of_failed_read(write(TERABYTES + bytes(1000)), "too short") < 2**20


def test_promised_gigabyte_in_a_gzip_of_megabytes_takes_no_memory(tmp_path):
    """The compressed file is large enough that only decompressing it shows that the header lies."""
    path = tmp_path / "file.gz"
    promised = 2**30
    with gzip.GzipFile(path, "wb", compresslevel=1) as file:
        file.write(struct.pack(">4BI", 0, 0, 0x08, 1, promised))
        file.write(np.random.default_rng(0).bytes(2 * 2**20))
        file.write(bytes(2 * 2**20))
    assert 1032 * os.path.getsize(path) > promised
    assert peak_memory_of_failed_read(path, f"got {8 + 4 * 2**20}") < 2 * 2**20


def test_gzip_bomb_is_decompressed_no_further_than_promised(tmp_path, monkeypatch):
    path = tmp_path / "bomb.gz"
    with gzip.GzipFile(path, "wb") as file:
        file.write(struct.pack(">4BI", 0, 0, 0x08, 1, 10))
        for _ in range(64):
            file.write(bytes(2**20))
    taken = 0
    original = gzip.GzipFile.read

    def counting_read(self, size=-1):
        nonlocal taken
        assert size is not None and size >= 0, "an unbounded read would unpack the bomb"
        data = original(self, size)
        taken += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counting_read)
    assert peak_memory_of_failed_read(path, "too long: its header promises 18 bytes .* got more") < 2**20
    assert 0 < taken <= 4 * 18


@pytest.mark.parametrize("sizes", [(0, 2**32 - 1, 2**32 - 1, 2**32 - 1), (2**32 - 1, 2**32 - 1, 2**32 - 1, 0)])
def test_no_elements_but_absurd_dimensions(write, sizes):
    with pytest.raises(DataError, match="dimensions too large"):
        read_idx(write(struct.pack(">4B4I", 0, 0, 0x0E, 4, *sizes)))


def damaged(position: int) -> bytes:
    content = bytearray(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8))))
    content[position] ^= 0x55
    return bytes(content)


@pytest.mark.parametrize("position", [2, 2500, -6, -1], ids=["method", "data", "checksum", "length"])
def test_damaged_gzip(tmp_path, position):
    path = tmp_path / "file.gz"
    path.write_bytes(damaged(position))
    with pytest.raises(DataError, match="corrupt or truncated"):
        read_idx(path)


def test_rubbish_after_the_gzip_data(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.arange(5, dtype=np.uint8))) + b"rubbish")
    with pytest.raises(DataError, match="corrupt or truncated"):
        read_idx(path)


def test_gzip_within_gzip_is_not_idx(tmp_path):
    path = tmp_path / "file.gz.gz"
    path.write_bytes(gzip.compress(gzip.compress(idx_bytes(np.arange(5, dtype=np.uint8)))))
    with pytest.raises(DataError, match="not an IDX file"):
        read_idx(path)


def test_file_that_shrinks_between_check_and_read(monkeypatch, tmp_path):
    class Shrinking(io.BytesIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            place = super().seek(offset, whence)
            return place + 3 if whence == os.SEEK_END else place

    content = idx_bytes(np.arange(5, dtype=np.uint8))[:-3]
    monkeypatch.setattr("builtins.open", lambda *_: Shrinking(content))
    with pytest.raises(DataError, match="shrank"):
        read_idx(tmp_path / "file")
