"""The embedded sample of MNIST, and the full set that it is from."""

import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from _mnist_files import NAMES, OFFICIAL, PROJECT, assert_holds, needs_full_set

import fastfnn.data
from fastfnn.data import load_mnist, load_mnist_sample, mnist

# The embedded sample


def test_sample_shapes_dtypes_and_balance():
    for (images, labels), per_class in zip(load_mnist_sample(), (1000, 200), strict=True):
        assert images.shape == (10 * per_class, 28, 28) and images.dtype == np.uint8
        assert labels.shape == (10 * per_class,) and labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [per_class] * 10
        assert images.flags.writeable and labels.flags.writeable
        assert (images.reshape(len(images), -1).max(axis=1) > 200).all()  # no image is blank


def test_sample_is_in_a_mixed_order():
    for _, labels in load_mnist_sample():
        for start in range(0, len(labels), 500):
            assert len(set(labels[start : start + 500].tolist())) == 10


def test_sample_is_fresh_at_every_call():
    (x_train, y_train), (x_test, y_test) = load_mnist_sample()
    sums = [int(array.sum()) for array in (x_train, y_train, x_test, y_test)]
    for array in (x_train, y_train, x_test, y_test):
        array[:] = 0
    (x_train, y_train), (x_test, y_test) = load_mnist_sample()
    assert [int(array.sum()) for array in (x_train, y_train, x_test, y_test)] == sums and min(sums) > 0


def test_sample_has_the_checksums_its_readme_states():
    folder = Path(mnist.__file__).parent / "mnist_sample"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        digest = hashlib.sha256(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest()
        assert f"| `{digest}` |" in next(line for line in readme.splitlines() if f"`{name}.gz`" in line)
    assert "CC BY-SA 3.0" in readme and "LeCun" in readme


def test_sample_is_about_two_megabytes():
    folder = Path(mnist.__file__).parent / "mnist_sample"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2.1e6


@needs_full_set
def test_every_sample_image_is_in_its_official_split_with_its_label():
    for (images, labels), (all_images, all_labels) in zip(load_mnist_sample(), load_mnist(OFFICIAL), strict=True):
        official = {image.tobytes(): label for image, label in zip(all_images, all_labels.tolist(), strict=True)}
        found = [official.get(image.tobytes()) for image in images]
        assert found == labels.tolist()
        assert len({image.tobytes() for image in images}) == len(images)  # none drawn twice


@needs_full_set
def test_drawing_the_sample_again_gives_the_same():
    script = PROJECT / "bench" / "make_mnist_sample.py"
    spec = importlib.util.spec_from_file_location("make_mnist_sample", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert_holds(load_mnist_sample(), module.draw_sample(OFFICIAL))


# The full set


@needs_full_set
def test_official_files_pass_the_official_checksums(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFNN_DATA_DIR", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for name in NAMES:
        shutil.copyfile(OFFICIAL / f"{name}.gz", tmp_path / "mnist" / f"{name}.gz")
    (x_train, y_train), (x_test, y_test) = load_mnist(download=False)
    assert x_train.shape == (60_000, 28, 28) and x_test.shape == (10_000, 28, 28)
    # The class counts in the literature.
    assert np.bincount(y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# The package


def test_package_exports_its_functions():
    for name in ("read_idx", "load_mnist", "load_fashion_mnist", "load_mnist_sample", "one_hot", "batches"):
        assert name in fastfnn.data.__all__ and callable(getattr(fastfnn.data, name))


def test_import_and_sample_need_neither_numba_nor_pooch():
    code = (
        "import sys, fastfnn.data; fastfnn.data.load_mnist_sample(); "
        "print(sorted({'numba', 'pooch', 'requests'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), *sys.path]))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "[]", done.stderr
