"""Tables as people have them: what `fastfnn.tables` makes of each column, beside scikit-learn; and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import the_error

from fastfnn import cli, tables
from fastfnn.errors import DataError
from fastfnn.tables import Column

pd: Any = pytest.importorskip("pandas")
CITIES = ["Köln", "Basel", "Łódź"]


def people(rows: int = 300, seed: int = 0) -> Any:
    """Words, gaps, dates and booleans; the class follows from two of the columns."""
    rng = np.random.default_rng(seed)
    city, size = rng.choice(CITIES, rows), rng.normal(size=rows).round(4)
    frame = pd.DataFrame({"Größe (cm)": size, "Stadt": city})
    frame["since"] = pd.date_range("2024-01-01", periods=rows).astype(str)
    frame["member"] = rng.choice([True, False], rows)
    frame["Status"] = np.where((city == "Basel") & (size > -1), "treu", "neu")
    frame["price"] = (250_000 + 40_000 * size + 20_000 * (city == "Basel")).round(2)
    frame.loc[rng.choice(rows, rows // 10, replace=False), "Größe (cm)"] = np.nan
    return frame


def written(folder: Path, frame: Any, name: str = "table.csv", **options: Any) -> Path:
    frame.to_csv(folder / name, index=False, **options)
    return folder / name


def read(path: Path, label: str | None = None, wanted: Any = None, encodings: Any = ("",)) -> tables.Frame:
    choose = lambda columns: None if label is None else columns.index(label)  # noqa: E731
    return tables.read(path, str(path), choose, wanted, encodings)


def made(folder: Path, cells: list[Any], **options: Any) -> tuple[Column, np.ndarray]:
    """What becomes of a column of these cells, beside one of numbers."""
    frame = pd.DataFrame({"column": cells, "beside": np.arange(len(cells)) * 1.5})
    found = read(written(folder, frame, **options))
    column, beside = tables.fit(found)
    x = tables.apply(found, [column, beside])
    np.testing.assert_array_equal(x[:, -1], np.arange(len(cells)) * 1.5)
    return column, x[:, :-1]


# What becomes of a column


def test_the_same_as_scikit_learns_transformers(tmp_path: Path) -> None:
    """Medians and indicators of numbers; frequent values of texts one by one, rare and unseen ones together."""
    compose = pytest.importorskip("sklearn.compose")
    impute, pipeline = pytest.importorskip("sklearn.impute"), pytest.importorskip("sklearn.pipeline")
    encode = pytest.importorskip("sklearn.preprocessing").OneHotEncoder
    rng, n = np.random.default_rng(0), 3000
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.integers(0, 9, n).astype(float)})
    frame["c"] = [f"value {k}" for k in rng.geometric(0.05, n)]
    frame["d"] = rng.choice(["x", "y", "z"], n)
    for name in "abd":
        frame.loc[rng.choice(n, 100, replace=False), name] = None
    train, new = frame[:2500], frame[2500:]
    texts = pipeline.make_pipeline(
        impute.SimpleImputer(strategy="most_frequent"),
        encode(min_frequency=3, max_categories=101, handle_unknown="infrequent_if_exist", sparse_output=False),
    )
    gap = impute.MissingIndicator(features="all", missing_values=np.nan)
    theirs = compose.ColumnTransformer(
        [
            ("a", impute.SimpleImputer(strategy="median", add_indicator=True), ["a"]),
            ("b", impute.SimpleImputer(strategy="median", add_indicator=True), ["b"]),
            ("c", texts, ["c"]),
            ("d", texts, ["d"]),
            ("gap", gap, ["d"]),
        ]
    )
    objects = frame.astype({"c": object, "d": object}).where(frame.notna(), np.nan)
    theirs.fit(objects[:2500])
    columns = tables.fit(read(written(tmp_path, train)))
    ours = tables.apply(read(written(tmp_path, new), wanted=columns), columns)
    # Columns are in another order: their "value 10" before "value 9", and what is infrequent at the end.
    np.testing.assert_array_equal(ours, np.asarray(theirs.transform(objects[2500:]), float))


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["true", "false", "true"], [1, 0, 1]),
        (["True", "FALSE", "true"], [1, 0, 1]),
        ([True, False, False], [1, 0, 0]),
    ],
)
def test_booleans(tmp_path: Path, cells: list[Any], values: list[int]) -> None:
    column, x = made(tmp_path, cells)
    assert (column.kind, column.gaps) == ("boolean", False)
    np.testing.assert_array_equal(x, np.array(values, float)[:, None])


@pytest.mark.parametrize("gap", ["", "NA", "n/a", "NaN", "null", "None", "?"])
def test_gaps(tmp_path: Path, gap: str) -> None:
    column, x = made(tmp_path, ["1", gap, "5", "2.5"])
    assert (column.kind, column.fill, column.gaps) == ("number", 2.5, True)
    np.testing.assert_array_equal(x, [[1, 0], [2.5, 1], [5, 0], [2.5, 0]])
    column, x = made(tmp_path, ["b", gap, "a", "b", "a", "b"])
    assert (column.kind, column.fill, column.values) == ("text", "b", ("a", "b"))
    np.testing.assert_array_equal(x, [[0, 1, 0], [0, 1, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
    column, x = made(tmp_path, ["true", gap, "true", "false"])
    np.testing.assert_array_equal(x, [[1, 0], [1, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("cells", "format", "days"),
    [
        (["1970-01-02", "1969-12-31", "2024-02-29"], "ISO8601", [1, -1, 19782]),
        (["1970-01-01T06:00", "1970-01-02 12:00:00", "1970-01-01"], "ISO8601", [0.25, 1.5, 0]),
        (["1970-01-01T06:00+06:00", "1970-01-02T00:00Z"], "ISO8601", [0, 1]),
        (["02.01.1970", "31.12.1969"], "%d.%m.%Y", [1, -1]),
        (["02.01.1970 18:00", "31.12.1969 00:00"], "%d.%m.%Y %H:%M", [1.75, -1]),
        (["01/02/1970", "12/31/1969"], "%m/%d/%Y", [1, -1]),
        (["02/01/1970", "31/12/1969"], "%d/%m/%Y", [1, -1]),
        (["1970/01/02", "1969/12/31"], "ISO8601", [1, -1]),
        (["2 Jan 1970", "31 Dec 1969"], "%d %b %Y", [1, -1]),
    ],
)
def test_dates_become_days(tmp_path: Path, cells: list[str], format: str, days: list[float]) -> None:
    column, x = made(tmp_path, cells)
    assert (column.kind, column.format, column.note) == ("date", format, "")
    np.testing.assert_allclose(x[:, 0], days, rtol=1e-12)


def test_dates_that_can_be_read_both_ways_are_said(tmp_path: Path) -> None:
    column, x = made(tmp_path, ["01/02/1970", "03/04/1970"])
    assert x[:, 0].tolist() == [1, 62]
    assert "day/month/year would fit too" in column.says()


def test_words_among_numbers_are_gaps_that_are_said(tmp_path: Path) -> None:
    cells = [str(k) for k in range(30)]
    cells[4] = "unknown"
    column, x = made(tmp_path, cells)
    assert (column.kind, column.gaps, x[4].tolist()) == ("number", True, [15, 1])
    assert "1 cell, such as 'unknown', is no number" in column.says()


def test_decimal_commas(tmp_path: Path) -> None:
    column, x = made(tmp_path, ["1,5", "-2,25", "3"], sep=";", decimal=",")
    assert (column.kind, x[:, 0].tolist()) == ("number", [1.5, -2.25, 3])
    path = tmp_path / "t.csv"
    path.write_text("a;label\n1,5;1,25\n2;7,75\n")
    assert read(path, "label").names == ("1.25", "7.75")


def test_thousands_are_grouped(tmp_path: Path) -> None:
    column, x = made(tmp_path, ["1,234.5", "-12,345,678", "999"])
    assert (column.kind, x[:, 0].tolist()) == ("number", [1234.5, -12345678, 999])
    column, x = made(tmp_path, ["1,5", "2,25", "3"])  # with commas between the columns this is no number
    assert column.kind == "unused"
    path = tmp_path / "t.csv"
    path.write_text("a;d;label\n1.234,5;01.02.2024;1.000,25\n2;02.02.2024;7,75\n1.234;03.02.2024;3\n")
    found = read(path, "label")
    number, date = columns = tables.fit(found)
    assert (number.kind, date.format, found.names) == ("number", "%d.%m.%Y", ("1000.25", "7.75", "3"))
    assert tables.apply(found, columns)[:, 0].tolist() == [1234.5, 2, 1234]
    path.write_text('a,label\n1,"1,000"\n2,"2,500.5"\n')
    assert read(path, "label").names == ("1000", "2500.5")


def test_columns_of_no_use_are_left_out_and_named(tmp_path: Path) -> None:
    for cells, note in (
        (["x", "x", "x"], "all cells are 'x'"),
        (["", "", ""], "all cells are empty"),
        (["p", "q", "r"], "each of its 3 values is too rare"),
    ):
        column, x = made(tmp_path, cells)
        assert (column.kind, column.note, x.shape) == ("unused", note, (3, 0))
    path = written(tmp_path, pd.DataFrame({"a": ["p", "q"], "b": ["x", "x"]}))
    with pytest.raises(DataError, match="no column of it is of use: 'a' is left out"):
        tables.fit(read(path))


# New rows


def test_what_the_training_had_not(tmp_path: Path) -> None:
    train = pd.DataFrame(
        {"a": [1.0, 2, 9] * 4, "t": ["x", "y", "y"] * 4, "d": ["2024-01-01", "2024-01-02", "2024-01-05"] * 4}
    )
    columns = tables.fit(read(written(tmp_path, train)))
    new = pd.DataFrame(
        {"d": ["2024-01-05", "soon", "2024-01-05"], "more": 1, "t": ["z", "y", None], "a": [None, "two", 4]}
    )
    notes: list[str] = []
    x = tables.apply(read(written(tmp_path, new), wanted=columns), columns, notes=notes)
    np.testing.assert_array_equal(x[:, :3], [[2, 0, 0], [2, 0, 1], [4, 0, 1]])
    assert x[:, 3].tolist() == [19727, 19724, 19727]
    said = "\n".join(notes)
    assert "column 'a' holds 'two' in line 3; 1 cell of it is no number" in said
    assert "column 'a' has 2 gaps, which the training had none of; taken for 2" in said
    assert "column 't' holds 'z' or others that the training had not, in 1 row" in said
    assert "column 'd' holds 'soon' in line 3" in said


def test_another_column_is_refused_with_its_place(tmp_path: Path) -> None:
    columns = tables.fit(read(written(tmp_path, pd.DataFrame({"a": [1, 2, 3], "b": ["true", "false", "true"]}))))
    for cells, said in (
        ({"a": ["x", "y", "z"], "b": ["true"] * 3}, "its line 2 holds 'x' in column 'a'; expected a finite number"),
        ({"a": [1, 2, "inf"], "b": ["true"] * 3}, "its line 4 holds 'inf' in column 'a'; expected a finite number"),
        ({"a": [1, 2, 3], "b": ["maybe"] * 3}, "its line 2 holds 'maybe' in column 'b'; expected a true or false"),
        ({"a": [1, 2, 3]}, "it has no column 'b'; expected those of the training: a, b; its own are a"),
    ):
        with pytest.raises(DataError, match=said):
            tables.apply(read(written(tmp_path, pd.DataFrame(cells)), wanted=columns), columns)


def test_texts_that_look_like_numbers_stay_texts(tmp_path: Path) -> None:
    columns = tables.fit(read(written(tmp_path, pd.DataFrame({"t": ["01", "1", "x"] * 3}))))
    assert columns[0].values == ("01", "1", "x")
    x = tables.apply(read(written(tmp_path, pd.DataFrame({"t": ["01", "1"]})), wanted=columns), columns)
    np.testing.assert_array_equal(x, [[1, 0, 0], [0, 1, 0]])


def test_columns_are_plain_data_and_come_back(tmp_path: Path) -> None:
    columns = tables.fit(read(written(tmp_path, people())))
    kept = json.loads(json.dumps([column.to_json() for column in columns]))
    assert [Column.from_json(each) for each in kept] == columns
    assert Column.from_json("a") == Column("a")


@pytest.mark.parametrize(
    "kept",
    [
        1,
        None,
        {},
        {"name": 1},
        {"name": "a", "kind": "pickle"},
        {"name": "a", "run": "code"},
        {"name": "a", "fill": "x"},
        {"name": "a", "fill": float("nan")},
        {"name": "a", "gaps": 1},
        {"name": "a", "kind": "text", "values": "xy"},
        {"name": "a", "kind": "text", "values": ["x", 1]},
        {"name": "a", "kind": "text", "values": ["x", "x"]},
        {"name": "a", "kind": "text", "values": ["x"], "fill": "y"},
    ],
)
def test_what_is_no_column_is_refused(kept: Any) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        Column.from_json(kept)


# Files


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t.csv", {"sep": ";"}),
        ("t.csv", {"sep": "\t"}),
        ("t.csv", {"sep": "|"}),
        ("t.tsv", {"sep": "\t"}),
        ("t.TSV", {"sep": "\t", "encoding": "utf-16"}),
        ("t.csv", {"encoding": "utf-16"}),
        ("t.csv", {"encoding": "utf-8-sig"}),
        ("t.csv.gz", {}),
        ("t.tsv.gz", {"sep": "\t"}),
        ("t.csv", {"quoting": 1}),
        ("t.csv", {"lineterminator": "\r\n"}),
    ],
)
def test_however_a_table_is_written_it_is_the_same(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    frame = people(40)
    frame.loc[3, "Stadt"] = 'with, "comma"; and\ttab'
    plain, other = read(written(tmp_path, frame), "Status"), read(written(tmp_path, frame, name, **options), "Status")
    assert (other.names, other.codes.tolist()) == (plain.names, plain.codes.tolist())  # type: ignore[union-attr]
    columns = tables.fit(plain)
    assert tables.fit(other) == columns
    np.testing.assert_array_equal(tables.apply(other, columns), tables.apply(plain, columns))


def test_a_first_column_without_a_name_numbers_the_rows(tmp_path: Path) -> None:
    frame = people(40)
    frame.to_csv(tmp_path / "t.csv")
    assert list(read(tmp_path / "t.csv", "Status").data.columns) == list(frame.columns.drop("Status"))


def test_columns_of_pandas_own_types(tmp_path: Path) -> None:
    cells = {"i": [1, None, 3], "b": [True, None, False], "t": ["x", None, "x"], "f": [0.5, 1, None]}
    data = pd.DataFrame(cells).convert_dtypes()
    data["d"] = pd.to_datetime(["2024-01-01", None, "2024-01-02"], utc=True)
    data["l"] = [[1], [1], [2]]
    frame = tables.Frame(data, "FILE", lambda row: f"row {row}", np.arange(3))
    columns = tables.fit(frame)
    assert [column.kind for column in columns] == ["number", "boolean", "text", "number", "date", "text"]
    x = tables.apply(frame, columns)
    np.testing.assert_array_equal(
        x,
        [
            [1, 0, 1, 0, 1, 0, 0.5, 0, 19723, 0, 1, 0],
            [2, 1, 0, 1, 1, 1, 1, 0, 19723.5, 1, 1, 0],
            [3, 0, 0, 0, 1, 0, 0.75, 1, 19724, 0, 0, 1],
        ],
    )


@pytest.mark.parametrize(("kind", "engine"), [("parquet", "pyarrow"), ("xlsx", "openpyxl")])
def test_other_kinds_of_files(tmp_path: Path, kind: str, engine: str) -> None:
    frame, path = people(40), tmp_path / f"t.{kind}"
    frame["since"] = pd.to_datetime(frame["since"])
    try:
        __import__(engine)
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(DataError, match=rf"reading .* needs the package {engine} \(pip install {engine}\)"):
            read(path, "Status")
        return
    frame.to_parquet(path) if kind == "parquet" else frame.to_excel(path, index=False)
    plain, other = read(written(tmp_path, frame), "Status"), read(path, "Status")
    columns = tables.fit(other)
    np.testing.assert_array_equal(tables.apply(other, columns), tables.apply(plain, tables.fit(plain)))
    assert (other.names, other.at(0)) == (plain.names, "row 2" if kind == "xlsx" else "row 1")


def test_encodings_are_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(written(tmp_path, people(40).replace("Łódź", "Bern"), encoding="latin-1"))
    assert cli.main(["train", "--data", data, "--label", "Status"]) == 2
    said = "expected text in UTF-8, or --encoding latin-1 where it is Latin-1 (its line 1 holds the byte 0xf6)"
    assert said in the_error(capsys)
    options = ["--label", "Status", "--epochs", "2", "--quiet"]
    assert cli.main(["train", "--data", data, "--encoding", "cp1252", *options, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    for encoding in ("cp1252", "utf-8"):  # the training's is tried where it is no UTF-8
        data = str(written(tmp_path, people(40), "new.csv", encoding=encoding, errors="replace"))
        assert cli.main(["evaluate", str(tmp_path / "run"), "--data", data, "--json"]) == 0
    capsys.readouterr()
    data = str(written(tmp_path, people(40), encoding="utf-16"))
    assert cli.main(["train", "--data", data, "--encoding", "utf-8", "--label", "Status"]) == 2
    assert "its first bytes are those of --encoding utf-16" in the_error(capsys)
    (tmp_path / "le.csv").write_bytes("a,label\n1,x\n2,y\n".encode("utf-16-le"))
    assert cli.main(["train", "--data", str(tmp_path / "le.csv")]) == 2
    assert "or --encoding utf-16-le where it is UTF-16" in the_error(capsys)
    for wrong in ("klingon", "base64"):
        assert cli.main(["train", "--data", data, "--encoding", wrong]) == 2
        assert f"--encoding: got '{wrong}'; expected the name of an encoding" in the_error(capsys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b,label\n1,2,x\n\n1,y\n", "its line 4 has 2 cells; expected 3"),
        (b'a,b,label\n1,"2\n3",x\n1,2,x,4\n', "its line 4 has 4 cells; expected 3"),
        (b"a,b,label\n1,2,x,\n1,3,y,\n", "its line 2 has 4 cells; expected 3"),
        (b"a;b;label\n1;2;x\n1;2; \n", "its line 3 has no label; expected a class in each row"),
        (b"a,b,label\n1,2,x\n\n1,inf,y\n", "its line 4 holds 'inf' in column 'b'; expected a finite number"),
        (b"a,label\n", "expected rows below its header"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    for name in ("t.csv", "t.csv.gz"):
        assert cli.main(["train", "--data", str(tmp_path / name), "--label", "label"]) == 2
        error = the_error(capsys)
        assert said in error
        assert str(tmp_path / name) in error


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", gzip.compress(b"a,label\n1,2\n" * 99)[:-9], b"no gzip"])
def test_a_damaged_gz_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "t.csv.gz").write_bytes(content)
    assert cli.main(["train", "--data", str(tmp_path / "t.csv.gz")]) == 2
    assert "t.csv.gz" in the_error(capsys)
