"""``--data FILE.csv`` and ``--data FOLDER``: tables and folders of images, and what is refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import NAMES, blobs, the_error, train, write_csv, write_image

import fastfnn as ff
from fastfnn import cli, tables
from fastfnn.cli import datasets, images
from fastfnn.tables import plain

X, Y = blobs(48)


def whole(data: datasets.DataSet) -> tuple[np.ndarray, list[str]]:
    """Samples and names of the classes, training and test data behind each other."""
    y = np.concatenate([data.y_train, data.y_test])
    names = data.class_names or [str(i) for i in range(data.classes)]
    return np.concatenate([data.x_train, data.x_test]), [names[i] for i in y]


# Tables


def test_a_table_is_standardised_by_column_and_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = X * [1, 1e3, 1e-3, 1, 1, 1] + [0, 1e4, 0, 5, 0, 0]
    path = write_csv(tmp_path / "table.csv", x, [NAMES[k] for k in Y])
    assert train(path, "--epochs", "30", "--out", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "data   table.csv: 43 training and 5 held-out test samples, 6 float64, 3 classes\n" in out
    assert out.endswith("test accuracy 100.00 %\n")
    data, layer = datasets.load(path, None, 0), ff.load(tmp_path / "model.safetensors").layers[1]
    assert isinstance(layer, ff.Normalize)
    np.testing.assert_allclose(layer.mean, data.x_train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.std, data.x_train.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "class_names"),
    [
        (["2", "0", "1"], None),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1", "2", "3"], ("1", "2", "3")),
        (["0", "2", "4"], ("0", "2", "4")),
        (["1.0", "0.0", "10.0"], ("0.0", "1.0", "10.0")),
        (["01", "1", "02"], ("01", "02", "1")),
        (["b", "10", "9"], ("10", "9", "b")),
        (["grün", "a, b", 'say "c"'], ("a, b", "grün", 'say "c"')),
        (["two\nlines", "b", "a"], ("a", "b", "two\nlines")),
    ],
    ids=str,
)
def test_classes_are_sorted_and_rows_keep_theirs(tmp_path: Path, labels: list[str], class_names: Any) -> None:
    named = [labels[k] for k in Y]
    data = datasets.load(write_csv(tmp_path / "table.csv", X, named), None, 7)
    assert data.class_names == class_names
    x, names = whole(data)
    came = {tuple(row): name for row, name in zip(X.astype(float).tolist(), named, strict=True)}
    assert [came[tuple(row)] for row in x.tolist()] == names


@pytest.mark.parametrize(("label", "given"), [("label", None), ("Class", None), ("y", None), ("kind", "kind")])
def test_the_column_of_the_classes(tmp_path: Path, label: str, given: str | None) -> None:
    data = datasets.load(write_csv(tmp_path / "table.csv", X, Y, label), None, 0, given)
    assert data.classes == 3
    assert data.x_train.shape == (43, 6)


def test_a_spreadsheets_habits_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "TABLE.CSV"
    text = '\ufeffwidth, "the ""height""", label\r\n 1 , "2.5", yes \r\n\r\n-3e2,4,no\r\n5,6,yes\r\n'
    path.write_text(text, encoding="utf-8", newline="")
    source = datasets.read(str(path))
    assert source.columns == tables.of_names(["width", 'the "height"'])
    x, y = source.parts["train"]
    x = tables.apply(x, source.columns) if isinstance(x, tables.Frame) else x
    np.testing.assert_array_equal(x, [[1, 2.5], [-300, 4], [5, 6]])
    np.testing.assert_array_equal(y, [1, 0, 1])


def test_both_readers_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "table.csv", X.astype(float) / 3, Y)
    monkeypatch.setattr(tables, "has_pandas", lambda: False)
    quick = datasets.load(path, None, 0)
    monkeypatch.setattr(plain, "_quick_numbers", lambda *args: None)
    np.testing.assert_array_equal(datasets.load(path, None, 0).x_train, quick.x_train)


#: What is an error without pandas alone: separators, words and gaps.
ONLY_PLAIN = (
    "expected commas",
    "its column 1 has no name",
    "holds 'x'",
    "holds '1,5'",
    "is empty in column",
    "holds 'nan'",
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a header"),
        ("a,b,label\n", "expected rows below its header"),
        ("label\n1\n2\n", "expected columns of numbers beside 'label'"),
        ("a,b,c\n1,2,3\n", "expected --label COLUMN, the one of its columns that is the class: a, b, c"),
        (",a,label\n0,1,2\n", "its column 1 has no name"),
        ("a,a,label\n0,1,2\n", "two columns are called 'a'"),
        ("5.1,3.5,0\n1,2,3\n", "its first row holds numbers; expected a header"),
        ("a;b;label\n1;2;3\n", "its header is 'a;b;label'; expected commas"),
        ("a,label\n1,0\n2,1,3\n", "its line 3 has 3 cells; expected 2"),
        ("a,label\n1,0\n2\n", "its line 3 has 1 cells; expected 2"),
        ("a,b,label\n1,2,0\n3,x,1\n", "its line 3 holds 'x' in column 'b'; expected a finite number"),
        ('a,b,label\n1,2,0\n3,"1,5",1\n', "its line 3 holds '1,5' in column 'b'"),
        ("a,b,label\n1,2,0\n3,,1\n", "its line 3 is empty in column 'b'"),
        ("a,b,label\n1,2,0\n\n3,nan,1\n", "its line 4 holds 'nan' in column 'b'"),
        ("a,b,label\n1,2,0\n-inf,2,1\n", "its line 3 holds '-inf' in column 'a'"),
        ("a,label\n1,0\n2, \n", "its line 3 has no label; expected a class in each row"),
        ("a,label\n1,0\n2,0\n", "all it holds is of class 0; expected at least 2 classes"),
        ("a,label\n1,one\n2,one\n", "all it holds is of class one"),
        ("a,label\n1,0\n", "it has 1 row and no test set"),
        ("a,y\n1,1\n2,0.25\n", "its column 'y' is 0.25 in every row of the training; expected several"),
        ("a,b,label\n1,1e200,0\n2,3e200,1\n3,7e200,1\n", "its column 'b' has mean"),
        (b"a,label\n1,\xe4\n2,b\n", "expected text in UTF-8"),
        (b"PK\x03\x04\x00\x00", "expected"),
    ],
    ids=lambda value: repr(value)[:40] if len(value) < 30 else "",
)
@pytest.mark.parametrize("pandas", [False, True])
def test_bad_tables(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str | bytes,
    said: str,
    pandas: bool,
) -> None:
    if pandas and any(part in said for part in ONLY_PLAIN):
        pytest.skip("pandas reads it")
    if pandas:
        pytest.importorskip("pandas")
    monkeypatch.setattr(tables, "has_pandas", lambda: pandas)
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert train(str(path), "--seed", "1") == 2
    error = the_error(capsys)
    assert said in error
    assert repr(str(path)) in error or repr(path.name) in error


def test_an_unknown_label_names_the_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "table.csv", X[:, :2], Y)
    assert train(path, "--label", "kind") == 2
    assert f"--label is 'kind'; expected one of the columns of {path}: a, label, b" in the_error(capsys)


# Images


def pictures(*shape: int, rows: int = 24) -> np.ndarray:
    """Noise, dark on the right for even places."""
    x = np.random.default_rng(1).integers(100, 250, (rows, *shape), dtype=np.uint8)
    x[::2, ..., shape[-1] // 2 :] //= 8
    return x


def write_folder(folder: Path, x: np.ndarray, kind: str = "png", mode: str = "L") -> str:
    for i, image in enumerate(x):
        write_image(folder / ("odd" if i % 2 else "even") / f"{i:03}.{kind}", image, mode)
    return str(folder)


@pytest.mark.parametrize("shape", [(6, 9), (3, 5, 8)], ids=["grey", "colour"])
def test_images_by_class(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pictures(*shape)
    data = datasets.load(write_folder(tmp_path / "set", x, mode="L" if len(shape) == 2 else "RGB"), None, 3)
    assert data.class_names == ("even", "odd")
    assert (data.x_train.dtype, data.x_train.shape[1:], len(data.x_test)) == (np.uint8, shape, 2)
    found, names = whole(data)
    for image, name in zip(found, names, strict=True):
        place = next(i for i, each in enumerate(x) if (each == image).all())
        assert name == ("odd" if place % 2 else "even")
    np.testing.assert_allclose([data.mean, data.std], [(data.x_train / 255).mean(), (data.x_train / 255).std()])


def test_images_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "set", pictures(8, 8))
    options = ["--model", "small-cnn", "--epochs", "6", "--batch-size", "4"]
    assert cli.main(["train", "--data", folder, *options]) == 0
    out = capsys.readouterr().out
    assert "data   set: 22 training and 2 held-out test images, 8 x 8 uint8, 2 classes\n" in out
    assert out.endswith("test accuracy 100.00 %\n")


def test_a_test_set_of_its_own(tmp_path: Path) -> None:
    x = pictures(6, 9)
    write_folder(tmp_path / "train", x)
    write_image(tmp_path / "test" / "odd" / "z.png", x[3])
    (tmp_path / "README.txt").write_text("not an image")
    data = datasets.load(str(tmp_path), None, 0)
    assert (len(data.x_train), data.held_out, data.y_test.tolist()) == (24, False, [1])
    np.testing.assert_array_equal(data.x_test, x[3:4])


def test_classes_may_be_called_train_and_10(tmp_path: Path) -> None:
    for name in ("train", "car"):
        write_image(tmp_path / "things" / name / "a.png", pictures(4, 4)[0])
    assert datasets.load(str(tmp_path / "things"), None, 0).class_names == ("car", "train")
    for name in ("10", "9", "2"):
        write_image(tmp_path / "numbers" / name / "a.PNG", pictures(4, 4)[0])
    assert datasets.load(str(tmp_path / "numbers"), None, 0).class_names == ("2", "9", "10")
    for name in ("0", "1"):
        write_image(tmp_path / "counted" / name / "a.png", pictures(4, 4)[0])
    assert datasets.load(str(tmp_path / "counted"), None, 0).class_names is None


@pytest.mark.parametrize(("mode", "shape"), [("1", (6, 9)), ("LA", (6, 9)), ("P", (3, 6, 9)), ("RGBA", (3, 6, 9))])
def test_other_modes_become_grey_or_colour(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (4, *shape))
    data = datasets.load(write_folder(tmp_path / "set", x, mode=mode), None, 0)
    assert sorted(whole(data)[0].tolist()) == sorted(x.tolist())


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image").new("RGBA", (5, 4), (10, 20, 30, 0))
    image.putpixel((2, 1), (10, 20, 30, 255))
    image.save(tmp_path / "a.png")
    pixels = images.read_images([tmp_path / "a.png"], "a.png").pixels[0]
    assert pixels[:, 1, 2].tolist() == [10, 20, 30]
    assert (pixels == 255).sum() == 3 * (20 - 1)


def test_a_photograph_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image").fromarray(pictures(6, 9)[1])
    exif = image.getexif()
    exif[0x0112] = 6  # Orientation: its top is at the right
    image.save(tmp_path / "a.png", exif=exif)
    pixels = images.read_images([tmp_path / "a.png"], "a.png").pixels[0]
    np.testing.assert_array_equal(pixels, np.rot90(pictures(6, 9)[1], -1))


def test_size_resizes(tmp_path: Path) -> None:
    folder = Path(write_folder(tmp_path / "set", pictures(6, 9)))
    write_image(folder / "odd" / "large.png", np.full((40, 50), 77, np.uint8))
    data = datasets.load(str(folder), None, 0, size="4x7")
    assert data.x_train.shape[1:] == (4, 7)
    assert (whole(data)[0] == 77).all(axis=(1, 2)).sum() == 1


def spoilt(folder: Path, how: str) -> None:
    if how == "size":
        write_image(folder / "odd" / "x.png", pictures(9, 6)[0])
    elif how == "damaged":
        content = Path(write_image(folder / "odd" / "x.png", pictures(6, 9)[0])).read_bytes()
        (folder / "odd" / "x.png").write_bytes(content[:-40])
    elif how == "foreign":
        (folder / "odd" / "x.jpg").write_text("no image")
    elif how == "16 bits":
        pytest.importorskip("PIL.Image").fromarray(np.full((6, 9), 999, np.uint16)).save(folder / "odd" / "x.png")
    elif how == "empty":
        (folder / "none").mkdir()
    elif how == "flat":
        for path in [*folder.glob("*/*.png")]:
            path.rename(folder / path.name)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    elif how == "surplus":
        (folder / "train").mkdir()
        for name in ("even", "odd"):
            (folder / name).rename(folder / "train" / name)
        write_image(folder / "test" / "prime" / "x.png", pictures(6, 9)[0])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("size", "x.png is 9x6 in grey; expected 6x9 in grey, as the others (--size HxW resizes them)"),
        ("damaged", "x.png cannot be read"),
        ("foreign", "x.jpg cannot be read: it is no image, or damaged"),
        ("16 bits", "x.png is of mode I;16; expected 8 bits a channel"),
        ("empty", "its folder 'none' holds no images (.png, .jpg,"),
        ("flat", "expected folders of images, one for each class"),
        ("surplus", "its test folder has the class 'prime', which its train folder lacks"),
    ],
)
def test_bad_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, said: str) -> None:
    folder = tmp_path / "set"
    write_folder(folder, pictures(6, 9))
    spoilt(folder, how)
    assert train(str(folder), "--strict") == 2
    error = the_error(capsys)
    assert said in error
    assert f"--data is {str(folder)!r}; " in error


@pytest.mark.parametrize("how", ["damaged", "foreign", "16 bits"])
def test_one_bad_image_is_said_and_the_others_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    folder = tmp_path / "set"
    write_folder(folder, pictures(6, 9))
    spoilt(folder, how)
    assert train(str(folder), "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err.count("note: ") == 1
    assert "x." in captured.err
    assert "it is left out" in captured.err
    data = datasets.load(str(folder), None, 0)
    assert len(data.x_train) + len(data.x_test) == 24


def test_a_folder_of_nothing_but_bad_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        (tmp_path / "set" / name).write_text("no image")
    assert train(str(tmp_path / "set")) == 2
    assert "1.png cannot be read: it is no image, or damaged; nor can any other" in the_error(capsys)


def test_grey_and_coloured_images_mix_in_any_order(tmp_path: Path) -> None:
    x = pictures(6, 9, rows=6)
    for i, image in enumerate(x):
        coloured = np.stack([image] * 3)
        write_image(tmp_path / "ab"[i % 2] / f"{i}.png", coloured if i > 3 else image, "RGB" if i > 3 else "L")
    data = datasets.load(str(tmp_path), None, 0)
    assert sorted(whole(data)[0].tolist()) == sorted(np.repeat(x[:, None], 3, axis=1).tolist())


@pytest.mark.parametrize("called", ["val", "valid", "validation"])
def test_validation_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str], called: str) -> None:
    x = pictures(6, 9)
    write_folder(tmp_path / "train", x)
    write_folder(tmp_path / called, x[:10])
    (tmp_path / "raw").mkdir()
    data = datasets.load(str(tmp_path), None, 0)
    assert (len(data.x_train), len(data.x_test), data.x_val) == (24, 10, None)
    assert "24 training and 10 validation images" in str(data)
    assert "holds raw, too, which is left aside" in capsys.readouterr().err
    write_folder(tmp_path / "test", x[:6])
    data = datasets.load(str(tmp_path), None, 0)
    assert "24 training, 10 validation and 6 test images" in str(data)
    np.testing.assert_array_equal(data.validation[0], np.concatenate([x[:10:2], x[1:10:2]]))


def test_without_pillow_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "set", pictures(6, 9))
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert train(folder) == 2
    assert 'pip install "fastfnn[images]"' in the_error(capsys)
