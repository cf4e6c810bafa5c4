"""The report of a training: a well-formed page that holds everything, escapes everything and fetches nothing."""

from __future__ import annotations

import base64
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cli import WriteNpz, train
from _plots import one_hot, passing

import fastfnn as ff
from fastfnn import report
from fastfnn.report import markup
from fastfnn.report.scores import ClassScores, NumberScores

NASTY = "<script>alert('1')</script> & \"quoted\" </pre>"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def headings(self) -> list[str]:
        return [self.texts[i] for i, text in enumerate(self.texts) if text in HEADINGS]


HEADINGS = ("Training", "Classes", "Mistakes", "What it has learned", "Network", "To repeat it")


def a_history(epochs: int = 3) -> ff.History:
    values = [1 / (1 + epoch) for epoch in range(epochs)]
    return ff.History(values, values, values, values, [0.1] * epochs, [0.01] * epochs)


def a_page(classes: int = 3, guesses: Any = (0, 1, 2, 2), truth: Any = (0, 1, 2, 1), **parts: Any) -> Page:
    """Of a model that guesses so."""
    model, x = passing(classes), one_hot(guesses, classes)
    history = parts.pop("history", a_history())
    return Page(report.page(model, history, x, np.asarray(truth), title="A title", **parts))


def drawn(model: ff.Sequential, x: np.ndarray, y: np.ndarray, **names: Any) -> list[report.Picture]:
    pytest.importorskip("matplotlib")
    pictures = report.draw(model, a_history(), x, y, **names)
    assert pictures is not None
    return pictures


# The page


def test_a_page_has_its_parts_in_order() -> None:
    facts = {"Settings": {"lr": 0.1}, "Machine": {"cores": 2}}
    results = {"training": ff.Evaluation(0.25, 0.5), "test": ff.Evaluation(math.nan, math.nan)}
    page = a_page(subtitle="of data", results=results, facts=facts, command="fastfnn train", footer="The end.")
    assert page.headings == ["Training", "Classes", "Network", "To repeat it"]  # no pictures: nothing for the others
    assert page.rows[:3] == [["data", "loss", "accuracy"], ["training", "0.2500", "50.00 %"], ["test", "–", "–"]]
    assert ["0", "Linear(in_features=3, out_features=3)", "3", "12"] in page.rows
    assert ["lr", "0.1"] in page.rows
    assert ["cores", "2"] in page.rows
    places = [
        page.text.index(text) for text in ("A title", "of data", "Settings", "Machine", "fastfnn train", "The end.")
    ]
    assert places == sorted(places)


def test_each_class_has_its_share() -> None:
    page = a_page(4, guesses=[0, 0, 1, 2, 2, 2], truth=[0, 0, 1, 1, 1, 2], class_names=["ox", "hen", "cat", "dog"])
    header = ["class", "test samples", "right", "accuracy (recall)", "precision", "F1", "most often taken for"]
    table = page.rows[page.rows.index(header) + 1 :][:4]
    assert table == [
        ["ox", "2", "2", "100.00 %", "100.00 %", "100.00 %", "–"],
        ["hen", "3", "1", "33.33 %", "100.00 %", "50.00 %", "cat (2\u00a0×)"],
        ["cat", "1", "1", "100.00 %", "33.33 %", "50.00 %", "–"],
        ["dog", "0", "0", "–", "–", "–", "–"],
    ]


def test_of_many_classes_the_worst_are_listed() -> None:
    classes = 150
    truth = np.arange(classes)
    guesses = np.where(truth % 10 == 7, 0, truth)
    page = a_page(classes, guesses, truth)
    assert "Of 150 classes, the 100 with the lowest accuracy:" in page.text
    listed = [row for row in page.rows if len(row) == 7 and row[1] == "1"]
    assert len(listed) == 100
    assert [row[0] for row in listed[:15]] == [str(i) for i in truth if i % 10 == 7]
    assert {row[3] for row in listed[15:]} == {"100.00 %"}


def test_the_epochs_are_listed_or_a_choice_of_them() -> None:
    for epochs, listed, heading in ((3, [1, 2, 3], "Epochs"), (250, [*range(3, 250, 3), 250], "Epochs, one in 3")):
        page = a_page(history=a_history(epochs))
        header = ["epoch", "training loss", "training accuracy", "validation loss", "validation accuracy"]
        start = page.rows.index([*header, "learning rate", "seconds"]) + 1
        rows = page.rows[start : start + len(listed)]
        assert [int(row[0]) for row in rows] == listed
        assert rows[0][1:3] == [f"{1 / listed[0]:.4f}", f"{100 / listed[0]:.2f} %"]
        assert heading in page.texts


def test_whatever_comes_in_is_escaped() -> None:
    names = [NASTY, "b", "c"]
    facts = {NASTY: {NASTY: NASTY}}
    highlights = {NASTY: NASTY}
    results = {NASTY: ff.Evaluation(0.1, 0.2)}
    picture = report.Picture("training", NASTY, b"", 10)
    words = {"subtitle": NASTY, "command": NASTY, "footer": NASTY}
    page = a_page(
        class_names=names, facts=facts, highlights=highlights, results=results, pictures=[picture], **words
    )  # fmt: skip
    assert not page.all("script")
    (image,) = page.all("img")
    assert image["alt"] == NASTY
    assert page.text.count(NASTY) == 11


def test_a_layer_with_many_numbers_is_cut_short() -> None:
    model = ff.Sequential(ff.Normalize(mean=[0.123456789] * 300, std=1.0), ff.Linear(300, 2))
    page = Page(report.page(model, a_history(), np.zeros((2, 300), np.float32), np.array([0, 1]), title=""))
    (cell,) = (row[1] for row in page.rows if len(row) == 4 and row[1].startswith("Normalize("))
    assert len(cell) < 200
    assert "…" in cell and cell.endswith("scale=1.0)")


def test_scores_of_classes_stand_beside_the_accuracy() -> None:
    guess, truth = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    results = {"test": ff.Evaluation(0.25, 0.75)}
    page = a_page(3, guess, truth, results=results, scores={"test": ClassScores.of(guess, truth, 3)})
    assert page.rows[0] == ["data", "loss", "accuracy", "precision", "recall", "F1"]
    # precision 1/2, 1, 1; recall 1, 1/2, 1; F1 2/3, 2/3, 1
    assert page.rows[1] == ["test", "0.2500", "75.00 %", "83.33 %", "83.33 %", "77.78 %"]


def test_a_class_that_is_never_guessed_has_no_precision_and_an_f1_of_0() -> None:
    scores = ClassScores.of([0, 0, 0], [0, 0, 1], 3)
    np.testing.assert_array_equal(scores.precision, [2 / 3, np.nan, np.nan])
    np.testing.assert_array_equal(scores.recall, [1, 0, np.nan])
    np.testing.assert_array_equal(scores.f1, [0.8, 0, np.nan])
    assert scores.mean("f1") == 0.4  # of the classes that are there


def a_regression() -> tuple[ff.Sequential, np.ndarray, np.ndarray]:
    """A model that says the sum of two numbers, and what is 10 more for the first row."""
    model, x = ff.Sequential(ff.Linear(2, 1)), np.arange(12, dtype=np.float32).reshape(6, 2)
    model.layers[0].params["weight"][...], model.layers[0].params["bias"][...] = 1, 0
    y = x.sum(axis=1).astype(float)
    y[0] += 10
    return model, x, y


def test_a_regression_has_its_own_figures_and_no_classes() -> None:
    model, x, y = a_regression()
    scores = NumberScores.of(x.sum(axis=1), y, 5.0)
    np.testing.assert_allclose(scores.r2, 1 - 100 / ((y - y.mean()) ** 2).sum())
    assert (scores.mean_absolute_error, scores.root_mean_squared_error) == (10 / 6, math.sqrt(100 / 6))
    assert scores.baseline == abs(y - 5).mean()
    history = ff.History([1.0], [math.nan], [1.0], [math.nan], [0.1], [0.01])
    results, both = {"test": ff.Evaluation(0.5, math.nan)}, {"test": scores}
    pictures = drawn(model, x, y)
    assert [picture.section for picture in pictures] == ["training", "predictions"]
    text = report.page(model, history, x, y, title="", results=results, scores=both, pictures=pictures)
    page = Page(text)
    assert page.rows[0] == ["data", "loss (standardised)", "R²", "mean absolute error", "root mean squared error"]
    assert page.rows[1][1:] == ["0.5000", f"{scores.r2:.4f}", "1.667", "4.082"]
    assert ["epoch", "training loss", "validation loss", "learning rate", "seconds"] in page.rows
    assert "Predictions" in page.texts
    assert not {"Classes", "Mistakes"} & set(page.texts)


# Pictures


def images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (30, *shape), np.uint8), rng.integers(0, 10, 30)


@pytest.mark.parametrize(
    ("model", "shape", "sections"),
    [
        (ff.models.mlp(784, [9], 10), (28, 28), ["training", "classes", "mistakes", "learned"]),
        (ff.models.mlp(48, [], 10), (3, 4, 4), ["training", "classes", "mistakes", "learned"]),
        (ff.models.mlp(96, [9], 10), (6, 4, 4), ["training", "classes", "learned"]),  # six channels are no colours
        (ff.models.lenet5(10), (28, 28), ["training", "classes", "mistakes", "learned"]),
        (ff.models.small_cnn(10, 3, (12, 12)), (3, 12, 12), ["training", "classes", "mistakes", "learned"]),
        (ff.models.mlp(2, [9], 10), (2,), ["training", "classes", "learned"]),
        (ff.models.mlp(16, [9], 10), (16,), ["training", "classes"]),
        (ff.models.mlp(16, [], 101), (16,), ["training"]),
    ],
    ids=["mlp", "colours", "six channels", "lenet5", "small-cnn", "two features", "features", "many classes"],
)
def test_what_suits_the_samples_is_drawn(model: ff.Sequential, shape: tuple[int, ...], sections: list[str]) -> None:
    x, y = images(*shape)
    pictures = drawn(model, x, y)
    assert [picture.section for picture in pictures] == sections
    for picture in pictures:
        assert picture.png.startswith(b"\x89PNG")
        assert 200 < picture.width < 1300
        assert picture.caption


def test_the_page_holds_the_pictures_and_fetches_nothing() -> None:
    x, y = images(28, 28)
    model = ff.models.lenet5(10)
    pictures = drawn(model, x, y)
    text = report.page(model, a_history(), x, y, title="Pictures", pictures=pictures)
    page = Page(text)
    held = [base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,")) for image in page.all("img")]
    assert held == [picture.png for picture in pictures]
    assert page.headings == ["Training", "Classes", "Mistakes", "What it has learned", "Network"]
    assert not {"script", "link", "iframe", "object", "a", "base"} & {tag for tag, _ in page.elements}
    for word in ("http:", "https:", "url(", "@import", "javascript:", "srcset"):
        assert word not in text
    assert "matplotlib" not in text


@pytest.mark.filterwarnings("error")
def test_names_of_classes_may_be_anything() -> None:
    x, y = images(28, 28)
    names = [
        "$\\frac$",
        "$",
        "a\nb",
        "long " * 30,
        "<b>",
        "\N{SNOWMAN}\N{CJK UNIFIED IDEOGRAPH-4E00}",
        "",
        " ",
        "%",
        "{}",
    ]
    pictures = drawn(ff.models.lenet5(10), x, y, class_names=names)
    assert len(pictures) == 4
    assert max(picture.width for picture in pictures) < 1500


def test_without_matplotlib_everything_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert report.draw(passing(3), a_history(), one_hot([0]), np.array([0])) is None
    page = a_page(pictures=None)
    assert 'matplotlib is not installed: pip install "fastfnn[plot]"' in page.text
    assert page.headings == ["Training", "Classes", "Network"]
    assert not page.all("img")


# From the command line


def test_the_report_of_the_command(npz: WriteNpz, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = tmp_path / "<i>&amp;'\".npz"
    Path(npz()).rename(data)
    assert train(str(data), "--out", str(tmp_path / "out")) == 0
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert f"mlp on {data.name}" in page.texts
    assert f"{data.name}: 48 training and 30 test samples, 6 float32, 3 classes" in page.texts
    assert not page.all("i")
    assert len(page.all("img")) == 2
    assert ["data", str(data)] in page.rows
    assert ["hidden", "8"] in page.rows
    assert ["fastfnn", ff.__version__] in page.rows
    assert ["numpy", np.__version__] in page.rows
    assert page.headings == ["Training", "Classes", "Network", "To repeat it"]


def test_layers_within_layers_have_rows_of_their_own() -> None:
    branch = ff.Residual(ff.Linear(8, 8), ff.Tanh())
    model = ff.Sequential(ff.Linear(4, 8), branch, ff.Linear(8, 2), seed=0)
    page = Page(report.page(model, a_history(), np.zeros((2, 4), np.float32), np.array([0, 1]), title=""))
    start = page.rows.index(["", "layer", "output", "parameters"]) + 1
    assert page.rows[start : start + 5] == [
        ["0", "Linear(in_features=4, out_features=8)", "8", "40"],
        ["1", "Residual()", "8", ""],
        ["1.layers.0", "Linear(in_features=8, out_features=8)", "8", "72"],
        ["1.layers.1", "Tanh()", "8", ""],
        ["2", "Linear(in_features=8, out_features=2)", "2", "18"],
    ]


@pytest.mark.parametrize("word", ["test", "validation"])
def test_where_validation_data_are_the_test_data_one_word_stands_for_both(word: str) -> None:
    model = ff.Sequential(ff.Linear(4, 2), seed=0)
    x, y = np.zeros((2, 4), np.float32), np.array([0, 1])
    page = Page(report.page(model, a_history(), x, y, title="", test=word, validation=word))
    names = {name for row in page.rows if row[0] in ("epoch", "class") for name in row}
    assert {f"{word} loss", f"{word} accuracy", f"{word} samples"} <= names
    other = {"test": "validation", "validation": "test"}[word]
    assert not any(other in name for name in names)


def test_photographs_stay_what_they_are_in_the_dark_and_drawings_turn() -> None:
    drawn = markup.figure(b"", "curves", 10), markup.figure(b"", "digits", 10, is_photo=True)
    assert [re.findall('figure class="([a-z]+)"', each) for each in drawn] == [["drawing"], ["photo"]]
    assert "dark) {\n  figure img" in markup.STYLE
