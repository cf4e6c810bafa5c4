"""Files that somebody has made up or damaged: only errors of ours, soon, and no more memory than the file has."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import fastfnn as ff
from fastfnn import tables
from fastfnn.cli import arrays as readers
from fastfnn.cli import images, outputs
from fastfnn.cli.trained import Trained
from fastfnn.data import read_idx
from fastfnn.errors import DataError, FastFNNError, ModelFileError
from fastfnn.interchange import safetensors

#: How many files each reader gets here; `python -m tests.faults` goes on for as long as it is told.
FILES = 150
MOST_MEMORY = 200 << 20

# Whole files ----------------------------------------------------------------------------------------------------------


def a_model() -> ff.Sequential:
    return ff.Sequential(
        ff.Normalize(mean=0.1, std=0.3, scale=1 / 255),
        ff.Conv2d(1, 2, 3),
        ff.BatchNorm2d(2),
        ff.ReLU(),
        ff.MaxPool2d(2),
        ff.Flatten(),
        ff.Dropout(0.1),
        ff.Linear(18, 3),
        seed=0,
    )


def a_training() -> tuple[ff.Sequential, dict[str, Any]]:
    options = {"optimizer": ff.Adam(1e-3), "schedule": ff.schedules.ReduceOnPlateau(), "rng": np.random.default_rng(0)}
    return a_model(), {**options, "callbacks": [ff.EarlyStopping(patience=3, monitor="loss")]}


def model_file() -> bytes:
    return safetensors.to_bytes(a_model())


def checkpoint_file(folder: Path) -> bytes:
    model, options = a_training()
    options["optimizer"].prepare(model.parameters)
    options["schedule"].begin()
    options["callbacks"][0].begin()
    history = ff.History(loss=[1.0], accuracy=[0.5], seconds=[0.1], lr=[1e-3])
    ff.Checkpoint(folder / "checkpoint")(ff.EpochEnd(1, model, history=history, **options))
    return (folder / "checkpoint").read_bytes()


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"x_train": rng.random((20, 4)), "y_train": rng.integers(0, 3, 20)}


def npz_file(save: Callable[..., None] = np.savez_compressed) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays())
    return buffer.getvalue()


def npy_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, arrays()["x_train"])
    return buffer.getvalue()


def csv_file() -> bytes:
    rows = [f"{a:.3f},{b:.3f},{k}" for a, b, k in zip(*arrays()["x_train"][:, :2].T, "xyzxy" * 4, strict=True)]
    return "\n".join(["a,b,class", *rows]).encode()


def table_file() -> bytes:
    """Words, dates, booleans and a gap."""
    pytest.importorskip("pandas")
    rows = [f"{a:.3f};{'' if a < 0.2 else k};2024-01-0{1 + i % 9};{a > 0.5};{k}" for i, (a, k) in enumerate(_letters())]
    return "\n".join(["a;word;since;large;class", *rows]).encode()


def _letters() -> Iterator[tuple[float, str]]:
    return zip(arrays()["x_train"][:, 0], "xyzxy" * 4, strict=True)


def idx_file() -> bytes:
    return b"\0\0\x08\x03" + struct.pack(">3I", 2, 3, 4) + bytes(range(24))


def image_file(kind: str) -> bytes:
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def settings_file() -> bytes:
    arrays = {"x_train": {"dtype": "float64", "shape": [20, 4], "crc32": 1}}
    kept = {"settings": {"size": "28x28", "label": "y", "seed": 0}, "class_names": ["a", "b", "c"], "arrays": arrays}
    columns = ["p", {"name": "q", "kind": "text", "values": ["x", "y"], "fill": "x", "gaps": True}]
    return json.dumps({**kept, "columns": columns}).encode()


def onnx_file(folder: Path) -> bytes:
    pytest.importorskip("onnx")
    ff.export_onnx(a_model(), folder / "model.onnx", input_shape=(1, 8, 8))
    return (folder / "model.onnx").read_bytes()


# Readers: each gets a path --------------------------------------------------------------------------------------------


def resume(path: Path) -> None:
    model, options = a_training()
    ff.fit(
        model,
        np.zeros((8, 1, 8, 8), np.float32),
        np.arange(8) % 3,
        loss=ff.CrossEntropyLoss(),
        optimizer=options["optimizer"],
        schedule=options["schedule"],
        callbacks=options["callbacks"],
        epochs=1,
        resume=path,
        progress=False,
    )


def read_npz(path: Path) -> None:
    readers.read_npz(path, "FILE", lambda names: names)


def read_csv(path: Path) -> None:
    tables.read_plain(path, "FILE", lambda names: tables.label_place(names, "FILE", None))


def read_table(path: Path) -> None:
    """As pandas reads it."""
    pytest.importorskip("pandas")
    zipped = path.read_bytes()[:2] == b"\x1f\x8b"
    named = write(path.with_name("table.csv.gz" if zipped else "table.csv"), path.read_bytes())
    frame = tables.read(named, "FILE", lambda names: tables.label_place(names, "FILE", None))
    tables.apply(frame, tables.fit(frame))


def read_settings(path: Path) -> None:
    """As ``evaluate`` and ``train --resume`` read them."""
    (path.parent / outputs.SETTINGS).write_bytes(path.read_bytes())
    for name in (outputs.MODEL, outputs.CHECKPOINT):
        (path.parent / name).write_bytes(model_file())
    (path.parent / outputs.FIGURES).write_bytes(path.read_bytes())
    for read in (lambda: Trained.read(str(path.parent)), lambda: outputs.read_settings(str(path.parent))):
        with contextlib.suppress(FastFNNError):
            read()


KINDS: dict[str, tuple[Callable[..., bytes], Callable[[Path], Any]]] = {
    "model": (model_file, ff.load),
    "checkpoint": (checkpoint_file, resume),
    "npz": (npz_file, read_npz),
    "npz, stored": (lambda: npz_file(np.savez), read_npz),
    "npy": (npy_file, lambda path: readers.read_npy(path, "FILE")),
    "csv": (csv_file, read_csv),
    "table": (table_file, read_table),
    "table, zipped": (lambda: gzip.compress(table_file(), mtime=0), read_table),
    "idx": (idx_file, read_idx),
    "settings": (settings_file, read_settings),
    "onnx": (onnx_file, ff.import_onnx),
    **{
        kind: (lambda kind=kind: image_file(kind), lambda path: images.read_images([path], "FILE", strict=True))
        for kind in ("PNG", "TIFF", "JPEG", "GIF", "BMP", "WEBP")
    },
}


def made(kind: str, folder: Path) -> bytes:
    make = KINDS[kind][0]
    return make(folder) if make in (checkpoint_file, onnx_file) else make()


def try_to_read(kind: str, path: Path, payload: bytes) -> bool:
    """Whether the reader took it; anything but an error of ours fails, and too much memory does, too."""
    path.write_bytes(payload)
    tracemalloc.start()
    try:
        KINDS[kind][1](path)
        return True
    except FastFNNError:
        return False
    except ImportError as error:  # a package that is optional
        pytest.skip(str(error))
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < MOST_MEMORY, f"{most >> 20} MiB"


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(made(kind, tmp_path))
    KINDS[kind][1](path)


# Damage ---------------------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """The payload, cut, or with bytes changed, put in, left out or doubled, in one to three places."""
    out = bytearray(payload)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(out) - 1)))
        length = draw(st.sampled_from([1, 1, 1, 2, 4, 8, 64]))
        how = draw(st.sampled_from(["change", "change", "fill", "insert", "remove", "double", "cut"]))
        if how == "change":
            out[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif how == "fill":
            out[place : place + length] = bytes([draw(st.sampled_from([0, 0xFF, 0x7F, 0x80]))]) * length
        elif how == "insert":
            out[place:place] = draw(st.binary(min_size=1, max_size=length))
        elif how == "remove":
            del out[place : place + length]
        elif how == "double":
            out[place:place] = out[place : place + length]
        else:
            del out[place:]
    return bytes(out)


ANY_TEXT = st.sampled_from(["", "0", "Linear", "float8", "S2000000000", "\x1b[31m", "\ud800", "x" * 10_000, "../a"])
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**12, 10**400, -(10**400)])
    | st.floats()
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
#: What Python's JSON reads and no program should.
DEEP = "[" * 100_000 + "]" * 100_000


@st.composite
def rewritten(draw: st.DrawFn, text: str) -> str:
    """JSON in which one or two values, wherever they are, have become others, or gone, or have others beside them."""
    root = {"root": json.loads(text)}
    for _ in range(draw(st.integers(1, 2))):
        places: list[tuple[Any, Any]] = []

        def walk(value: Any, places: list[tuple[Any, Any]] = places) -> None:
            for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
                places.append((value, key))
                walk(value[key])

        walk(root)
        parent, key = draw(st.sampled_from(places))
        if draw(st.booleans()) or (parent is root):
            parent[key] = draw(ANY_JSON)
        elif isinstance(parent, dict) and draw(st.booleans()):
            del parent[key]
        elif isinstance(parent, dict):
            parent[draw(ANY_TEXT)] = draw(ANY_JSON)
        else:
            parent.insert(key, draw(ANY_JSON))
    out = json.dumps(root["root"])
    return out if draw(st.integers(0, 9)) else out.replace("1", DEEP, 1)


@st.composite
def with_metadata(draw: st.DrawFn, payload: bytes) -> bytes:
    """A safetensors file with other metadata, or with another header, its numbers as they were."""
    length = int.from_bytes(payload[:8], "little")
    header, tensors = json.loads(payload[8 : 8 + length]), payload[8 + length :]
    entry = draw(st.sampled_from([*header["__metadata__"], None]))
    if entry is None:
        encoded = draw(rewritten(json.dumps(header))).encode("utf-8", "surrogatepass")
    else:
        header["__metadata__"][entry] = draw(rewritten(header["__metadata__"][entry]))
        encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + tensors


def strategy(kind: str, payload: bytes) -> st.SearchStrategy[bytes]:
    if kind in ("model", "checkpoint"):
        return damaged(payload) | with_metadata(payload)
    if kind == "settings":
        return damaged(payload) | rewritten(payload.decode()).map(lambda text: text.encode("utf-8", "surrogatepass"))
    return damaged(payload)


quick = settings(
    max_examples=FILES, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.filterwarnings("ignore")  # of Pillow, about images that it reads all the same
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_by_errors_of_ours(tmp_path: Path, kind: str) -> None:
    payload = made(kind, tmp_path)

    @seed(20240229)
    @quick
    @given(strategy(kind, payload))
    def refuse(changed: bytes) -> None:
        try_to_read(kind, tmp_path / "file", changed)

    refuse()


# What asks for much ---------------------------------------------------------------------------------------------------


def with_entry(payload: bytes, change: Callable[[dict[str, Any]], Any], entry: str = safetensors.KEY) -> bytes:
    length = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + length])
    described = json.loads(header["__metadata__"][entry])
    changed = change(described) or described
    header["__metadata__"][entry] = changed if isinstance(changed, str) else json.dumps(changed)
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + payload[8 + length :]


GREEDY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a large layer": lambda d: d["layers"][-1].update(in_features=10**6, out_features=10**6),
    "many layers": lambda d: d["layers"].extend([{"layer": "Linear", "in_features": 900, "out_features": 900}] * 5000),
    "a large kernel": lambda d: d["layers"][1].update(kernel_size=10**5),
    "many channels": lambda d: d["layers"][2].update(num_features=10**10),
    "deep": lambda d: DEEP,
    "a long number": lambda d: d["layers"][1].update(stride=10**400),
    "another dtype": lambda d: d.update(dtype="S2000000000"),
}


@pytest.mark.parametrize("change", GREEDY.values(), ids=GREEDY)
def test_a_model_asks_for_no_more_memory_than_its_file_has(tmp_path: Path, change: Any) -> None:
    assert not try_to_read("model", tmp_path / "file", with_entry(model_file(), change))


def test_the_state_of_a_generator_is_made_of_integers(tmp_path: Path) -> None:
    def change(training: dict[str, Any]) -> None:
        training["generator"]["values"]["state"] = {"dtype": "S2000000000", "array": ["a"] * 4}

    payload = with_entry(checkpoint_file(tmp_path), change, safetensors.TRAINING)
    with pytest.raises(ModelFileError, match="uint32"):
        resume(write(tmp_path / "file", payload))
    assert not try_to_read("checkpoint", tmp_path / "file", payload)


def write(path: Path, payload: bytes) -> Path:
    path.write_bytes(payload)
    return path


def npy_header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_member_of_an_archive_is_bounded_by_its_file(tmp_path: Path, method: int) -> None:
    path = tmp_path / "file"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", npy_header((10**10,)) + bytes(1000))
    with pytest.raises(DataError, match="its x cannot be read"):
        readers.read_npz(path, "FILE", lambda names: names)
    assert not try_to_read("npz", path, path.read_bytes())


def test_a_wide_table_is_read_and_a_far_too_wide_one_refused(tmp_path: Path) -> None:
    """Columns are compared by a set: 80,000 of them once took a minute."""
    wide = tmp_path / "wide.csv"
    names = [*(f"c{i}" for i in range(80_000)), "class"]
    wide.write_text("\n".join([",".join(names), ",".join(["1"] * 80_000 + ["a"]), ",".join(["2"] * 80_000 + ["b"])]))
    table = tables.read_plain(wide, "FILE", lambda columns: len(columns) - 1)
    assert table.x.shape == (2, 80_000)
    assert table.names == ["a", "b"]
    wide.write_text(",".join(str(i) for i in range(1_000_000)))
    with pytest.raises(DataError, match="it has 1,000,000 columns; expected at most 100,000"):
        tables.read_plain(wide, "FILE", lambda columns: 0)


@pytest.mark.skipif(sys.maxsize < 2**33, reason="a 64-bit machine")
def test_rows_without_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.npy", npy_header((2**33, 0)))
    x = readers.read_npy(path, "FILE")
    with pytest.raises(FastFNNError, match="expected samples of at least one number"):
        ff.predict(ff.Sequential(ff.ReLU()), x)
