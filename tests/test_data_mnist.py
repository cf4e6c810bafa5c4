"""Where MNIST comes from: a folder of the user's own, or the per-user cache with its mirrors."""

import gzip
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _mnist_files import NAMES, assert_holds, idx_bytes, small_set, store

from fastfnn import _paths
from fastfnn.data import load_fashion_mnist, load_mnist, mnist
from fastfnn.errors import DataError, InvalidTypeError, InvalidValueError

# A folder of the user's own


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "load, nested", [(load_mnist, "MNIST/raw"), (load_fashion_mnist, "FashionMNIST/raw")], ids=["mnist", "fashion"]
)
def test_root_holds_the_files_itself_or_in_torchvisions_folder(tmp_path, load, nested, packed):
    arrays = small_set()
    store(tmp_path / "flat", arrays, packed)
    store(tmp_path / "torchvision" / nested, arrays, packed)
    assert_holds(load(tmp_path / "flat"), arrays)
    assert_holds(load(str(tmp_path / "torchvision")), arrays)


@pytest.mark.parametrize("train, test", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_root_may_hold_a_tiny_subset(tmp_path, train, test):
    arrays = small_set(train, test)
    store(tmp_path, arrays)
    assert_holds(load_mnist(tmp_path), arrays)


def test_home_is_expanded_in_root(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    store(tmp_path / "digits", small_set())
    assert_holds(load_mnist("~/digits"), small_set())


def test_root_with_files_missing_names_exactly_those(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_fetch", lambda *_: pytest.fail("root= must never download"))
    arrays = small_set()
    del arrays[NAMES[1]], arrays[NAMES[2]]
    store(tmp_path, arrays)
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(tmp_path, download=True)
    message = str(caught.value)
    assert isinstance(caught.value, DataError) and isinstance(caught.value, mnist.DataNotFoundError)
    assert [name in message for name in NAMES] == [False, True, True, False]
    assert str(tmp_path) in message and "\n" not in message


def test_root_that_does_not_exist_names_all_files(tmp_path):
    with pytest.raises(mnist.DataNotFoundError, match=", ".join(NAMES)):
        load_mnist(tmp_path / "nowhere")


def test_two_incomplete_layouts_are_not_mixed(tmp_path):
    arrays = small_set()
    store(tmp_path, {name: arrays[name] for name in NAMES[:1]})
    store(tmp_path / "MNIST" / "raw", {name: arrays[name] for name in NAMES[1:]})
    with pytest.raises(mnist.DataNotFoundError, match="root lacks train-images-idx3-ubyte;"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("root", [0, ("a",), object()])
def test_root_of_a_wrong_type(root):
    with pytest.raises(InvalidTypeError, match="root must be a path"):
        load_mnist(root)


@pytest.mark.parametrize(
    "name, wrong, message",
    [
        (
            NAMES[0],
            np.zeros((5, 28, 27), np.uint8),
            r"training images must be uint8 \(n, 28, 28\), got .*\(5, 28, 27\)",
        ),
        (NAMES[2], np.zeros((3, 784), np.uint8), r"test images must be uint8 \(n, 28, 28\), got uint8 \(3, 784\)"),
        (NAMES[0], np.zeros((5, 28, 28), np.int32), "training images must be uint8 .* got int32"),
        (NAMES[1], np.zeros((5, 1), np.uint8), r"training labels must be uint8 \(n,\), got uint8 \(5, 1\)"),
        (NAMES[3], np.zeros(3, np.int32), "test labels must be uint8 .* got int32"),
        (NAMES[1], np.zeros(4, np.uint8), "as many training labels as images expected, got 4 for 5"),
        (NAMES[3], np.zeros(4, np.uint8), "as many test labels as images expected, got 4 for 3"),
        (NAMES[3], np.array([0, 10, 9], np.uint8), "test labels must be 0 to 9, got 10"),
    ],
)
def test_root_with_unfit_arrays(tmp_path, name, wrong, message):
    store(tmp_path, small_set() | {name: wrong})
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path)


def test_root_with_a_truncated_file_names_it(tmp_path):
    store(tmp_path, small_set())
    content = (tmp_path / NAMES[2]).read_bytes()
    (tmp_path / NAMES[2]).write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{NAMES[2]}: too short"):
        load_mnist(tmp_path)


# The per-user cache and its mirrors


class Mirrors:
    """Stands in for the network: what each mirror holds, and what was asked of it."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content
        self.asked: list[str] = []
        self.targets: list[Path] = []
        self.trouble: dict[str, Exception | bytes] = {}  # by start of the URL

    def fetch(self, url: str, target: Path) -> None:
        self.asked.append(url)
        self.targets.append(target)
        for start, trouble in self.trouble.items():
            if url.startswith(start):
                if isinstance(trouble, Exception):
                    target.write_bytes(b"\x1f\x8bhalf a fi")
                    raise trouble
                target.write_bytes(trouble)
                return
        target.write_bytes(self.content[url.rsplit("/", 1)[1]])


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return small_set()


@pytest.fixture
def mirrors(tmp_path, monkeypatch, arrays) -> Mirrors:
    """Put a small set on two mirrors, with its own checksums in place of the official ones."""
    packed = {f"{name}.gz": gzip.compress(idx_bytes(array)) for name, array in arrays.items()}
    mirrors = Mirrors(packed)
    addresses = ("https://one.example/", "https://two.example/")
    sha256 = {name: hashlib.sha256(idx_bytes(array)).hexdigest() for name, array in arrays.items()}
    md5 = {name: hashlib.md5(packed[f"{name}.gz"]).hexdigest() for name in NAMES}
    for variable, digests in (("_MNIST", sha256), ("_FASHION_MNIST", md5)):
        original = getattr(mnist, variable)
        monkeypatch.setattr(mnist, variable, replace(original, mirrors=addresses, digests=digests))
    monkeypatch.setattr(mnist, "_fetch", mirrors.fetch)
    monkeypatch.setenv("FASTFNN_DATA_DIR", str(tmp_path / "cache"))
    return mirrors


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache" / "mnist"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


PACKED_NAMES = sorted(f"{name}.gz" for name in NAMES)


@pytest.mark.parametrize("load, below", [(load_mnist, "mnist"), (load_fashion_mnist, "fashion-mnist")])
def test_missing_files_are_downloaded_once(tmp_path, mirrors, arrays, load, below):
    assert_holds(load(), arrays)
    assert mirrors.asked == [f"https://one.example/{name}.gz" for name in NAMES]
    folder = tmp_path / "cache" / below
    assert names_in(folder) == PACKED_NAMES
    # First to another name, but on the same file system, so that the move into place is a rename.
    assert all(target.parent == folder and target.name not in PACKED_NAMES for target in mirrors.targets)
    assert_holds(load(), arrays)
    assert_holds(load(download=False), arrays)
    assert len(mirrors.asked) == 4


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_files_put_there_by_hand_are_used(mirrors, folder, arrays, packed):
    store(folder, arrays, packed)
    assert_holds(load_mnist(download=False), arrays)
    assert mirrors.asked == []


def test_only_the_missing_file_is_downloaded(mirrors, folder, arrays):
    load_mnist()
    (folder / f"{NAMES[3]}.gz").unlink()
    mirrors.asked.clear()
    assert_holds(load_mnist(), arrays)
    assert mirrors.asked == [f"https://one.example/{NAMES[3]}.gz"]


@pytest.mark.parametrize(
    "trouble",
    [
        ConnectionError("no route"),
        ValueError("odd"),
        b"<html>log in first</html>",
        b"",
        gzip.compress(idx_bytes(np.zeros((5, 28, 28), np.uint8))),
        gzip.compress(b"\0\0\x08\x01\0\0\0\x05")[:-3],
    ],
    ids=["unreachable", "other error", "captive portal", "empty", "wrong content", "cut off"],
)
def test_a_mirror_in_trouble_is_passed_over(mirrors, folder, arrays, trouble):
    mirrors.trouble["https://one.example/"] = trouble
    assert_holds(load_mnist(), arrays)
    assert mirrors.asked[:2] == [f"https://{number}.example/{NAMES[0]}.gz" for number in ("one", "two")]
    assert names_in(folder) == PACKED_NAMES


def test_when_no_mirror_helps_the_error_says_what_each_answered(mirrors, folder):
    mirrors.trouble["https://one.example/"] = ConnectionError("no\nroute")
    mirrors.trouble["https://two.example/"] = b"<html>"
    with pytest.raises(mnist.DataNotFoundError) as caught:
        load_mnist()
    message = str(caught.value)
    assert f"https://one.example/{NAMES[0]}.gz: ConnectionError: no route" in message
    assert f"https://two.example/{NAMES[0]}.gz: DataError" in message
    assert all(f"{name}.gz" in message for name in NAMES) and f"into {folder}" in message
    assert "\n" not in message
    assert names_in(folder) == []  # nothing half-written


def test_interrupted_download_leaves_nothing_behind(mirrors, folder, monkeypatch):
    def interrupted(url: str, target: Path) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(mnist, "_fetch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_mnist()
    assert names_in(folder) == []


def test_without_download_the_error_says_which_files_to_put_where(mirrors, folder):
    with pytest.raises(mnist.DataNotFoundError) as caught:
        load_mnist(download=False)
    message = str(caught.value)
    assert "download=False" in message and f"into {folder}" in message and "root=" in message
    assert all(f"{name}.gz" in message for name in NAMES)
    assert mirrors.asked == [] and not folder.exists()


def test_without_download_only_the_missing_files_are_named(mirrors, folder, arrays):
    del arrays[NAMES[0]]
    store(folder, arrays)
    with pytest.raises(mnist.DataNotFoundError) as caught:
        load_mnist(download=False)
    assert [f"{name}.gz" in str(caught.value) for name in NAMES] == [True, False, False, False]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_wrong_checksum_is_refused_and_both_are_named(mirrors, folder, arrays, packed):
    wrong = np.zeros((5, 28, 28), np.uint8)
    store(folder, arrays | {NAMES[0]: wrong}, packed)
    found, expected = (hashlib.sha256(idx_bytes(array)).hexdigest() for array in (wrong, arrays[NAMES[0]]))
    with pytest.raises(DataError, match=f"{NAMES[0]}.*: wrong checksum: expected SHA-256 .* {expected}, got {found}"):
        load_mnist(download=False)
    assert mirrors.asked == []


def test_fashion_mnist_is_checked_by_the_md5_of_the_packed_file(mirrors, tmp_path, arrays):
    store(tmp_path / "cache" / "fashion-mnist", arrays)  # the right content, but not the published files
    with pytest.raises(DataError, match="expected MD5 of the .gz file"):
        load_fashion_mnist(download=False)
    assert_holds(load_fashion_mnist(), arrays)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("damage", [b"", b"foreign", idx_bytes(np.zeros((5, 28, 28), np.uint8))])
def test_a_damaged_file_is_downloaded_again(mirrors, folder, arrays, packed, damage):
    store(folder, arrays, packed)
    (folder / (f"{NAMES[0]}.gz" if packed else NAMES[0])).write_bytes(damage)
    assert_holds(load_mnist(), arrays)
    assert mirrors.asked == [f"https://one.example/{NAMES[0]}.gz"]
    assert_holds(load_mnist(download=False), arrays)


def test_a_damaged_file_is_kept_when_no_mirror_helps(mirrors, folder, arrays):
    store(folder, arrays | {NAMES[0]: np.zeros((5, 28, 28), np.uint8)})
    mirrors.trouble["https://"] = TimeoutError("slow")
    with pytest.raises(mnist.DataNotFoundError, match=f"wrong checksum.*two.example.*put {NAMES[0]}.gz into"):
        load_mnist()
    assert names_in(folder) == sorted(NAMES)
    assert len(mirrors.asked) == 2  # each mirror once


def test_without_pooch_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)  # makes the import fail
    monkeypatch.setenv("FASTFNN_DATA_DIR", str(tmp_path))
    with pytest.raises(mnist.DataNotFoundError, match=r'pip install "fastfnn\[data\]".* put train-images.* into'):
        load_mnist()
    assert names_in(tmp_path / "mnist") == []


def test_a_cache_folder_that_cannot_be_made(mirrors, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot store .* set FASTFNN_DATA_DIR"):
        load_mnist()


def test_fetch_hands_url_and_target_to_pooch(monkeypatch, tmp_path):
    pooch = pytest.importorskip("pooch")
    calls = []

    class Downloader:
        def __init__(self, **options):
            assert options["timeout"] > 0

        def __call__(self, url, output_file, _pooch):
            calls.append((url, output_file))

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    mnist._fetch("https://one.example/a.gz", tmp_path / "a.gz")
    assert calls == [("https://one.example/a.gz", str(tmp_path / "a.gz"))]


@pytest.mark.parametrize("data_set", [mnist._MNIST, mnist._FASHION_MNIST], ids=lambda data_set: data_set.title)
def test_every_set_has_four_checksums_and_two_mirrors(data_set):
    length = 32 if data_set.md5_of_gzip else 64
    assert tuple(data_set.digests) == NAMES
    assert {len(digest) for digest in data_set.digests.values()} == {length}
    assert len(data_set.mirrors) == 2 and all(mirror.endswith("/") for mirror in data_set.mirrors)


# Where the cache is


@pytest.mark.parametrize(
    "platform, variables, expected",
    [
        ("linux", {}, "home/.cache/fastfnn"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/fastfnn"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/fastfnn"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/fastfnn"),
        ("win32", {}, "home/AppData/Local/fastfnn"),
    ],
)
def test_cache_folder_of_each_platform(monkeypatch, tmp_path, platform, variables, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, below in variables.items():
        monkeypatch.setenv(name, str(tmp_path / below))
    assert _paths.user_cache_dir() == tmp_path / expected
    monkeypatch.delenv("FASTFNN_DATA_DIR", raising=False)
    assert _paths.data_dir() == tmp_path / expected / "data"


def test_relative_cache_variable_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert _paths.user_cache_dir() == tmp_path / ".cache" / "fastfnn"


def test_user_without_a_home_folder_is_told_what_to_set(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", no_home)
    for name in ("XDG_CACHE_HOME", "FASTFNN_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidValueError, match="no home folder; set XDG_CACHE_HOME"):
        load_mnist()
