"""What is in the pictures of trainings and of classes: lines, cells, regions, texts; and what is refused."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from _helpers import run_python
from _plots import one_hot, passing, picture, texts, ticks

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402

plot = ff.plot
LISTS = {
    "loss": [0.9, 0.5, 0.3],
    "val_loss": [0.8, 0.6, 0.4],
    "accuracy": [0.6, 0.7, 0.8],
    "val_accuracy": [0.5, 0.7, 0.9],
}


# Figures


def test_importing_fastfnn_imports_no_matplotlib():
    result = run_python("import sys, fastfnn as ff; ff.plot.history; print('matplotlib' in sys.modules)")
    assert result.stdout.strip() == "False", result.stderr


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastfnn\[plot\]"'):
        plot.history(LISTS)


def test_drawing_leaves_pyplot_alone():
    code = """
import sys, fastfnn as ff
figure = ff.plot.history({"loss": [2.0, 1.0]})
print("matplotlib.pyplot" in sys.modules, figure._repr_png_()[:4] == b"\\x89PNG")
"""
    result = run_python(code)
    assert result.stdout.split() == ["False", "True"], result.stderr


def test_figures_can_be_pickled():
    figure = pickle.loads(pickle.dumps(plot.history(LISTS)))
    assert picture(figure).startswith(b"\x89PNG")


def test_given_axes_are_drawn_into_and_their_figure_comes_back():
    figure = Figure(figsize=(12, 8))
    whole, (left, right) = figure, figure.subfigures(1, 2)
    matrix, (loss, accuracy), plane = left.subplots(), right.subplots(2, 1), figure.add_axes((0, 0, 0.1, 0.1))
    assert plot.confusion_matrix([[1, 2], [3, 4]], ax=matrix) is whole
    assert plot.history(LISTS, ax=(loss, accuracy)) is whole
    assert plot.decision_boundary(passing(2), np.eye(2), [0, 1], resolution=3, ax=plane) is whole
    assert texts(matrix) == ["1", "2", "3", "4"]
    assert (len(loss.lines), len(accuracy.lines), len(plane.images)) == (2, 2, 1)


# History


@pytest.mark.parametrize("make", [lambda lists: ff.History(**lists), dict], ids=["History", "dict"])
def test_history_draws_each_list_over_the_epochs(make):
    figure = plot.history(make(LISTS))
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy"]
    for ax, names in zip(figure.axes, (("loss", "val_loss"), ("accuracy", "val_accuracy")), strict=True):
        assert len(ax.lines) == 2
        for line, name, said in zip(ax.lines, names, ("training", "validation"), strict=True):
            assert np.array_equal(line.get_xdata(), [1, 2, 3])
            assert np.array_equal(line.get_ydata(), LISTS[name])
            assert line.get_label().startswith(said)
    assert "0.3)" in figure.axes[0].lines[0].get_label()
    assert "90.0%)" in figure.axes[1].lines[1].get_label()
    assert picture(figure)


def test_history_has_one_panel_where_there_is_no_accuracy():
    regression = ff.History(loss=[3.0, 2.0], accuracy=[np.nan, np.nan], seconds=[0.1, 0.1])
    (ax,) = plot.history(regression).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[3.0, 2.0]]


def test_one_of_two_given_axes_may_stay_empty_and_says_so():
    loss, accuracy = Figure().subplots(1, 2)
    plot.history({"loss": [1.0]}, ax=[loss, accuracy])
    assert len(loss.lines) == 1
    assert texts(accuracy) == ["no accuracy to draw yet"]


def test_single_axes_are_for_the_losses():
    ax = Figure().subplots()
    plot.history(LISTS, ax=ax)
    assert [line.get_ydata().tolist() for line in ax.lines] == [LISTS["loss"], LISTS["val_loss"]]


def test_an_empty_history_says_so():
    (ax,) = plot.history(ff.History()).axes
    assert texts(ax) == ["no loss to draw yet"]
    assert picture(ax.figure)


def test_a_single_epoch_has_a_visible_point():
    (ax,) = plot.history({"loss": [0.5]}).axes
    assert ax.lines[0].get_marker() not in (None, "None")


def test_history_draws_what_fit_returns(rng):
    x, y = rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    model = ff.Sequential(ff.Linear(5, 3), seed=0)
    run = {"loss": ff.CrossEntropyLoss(), "optimizer": ff.SGD(lr=0.1), "epochs": 2, "seed": 0, "progress": False}
    history = ff.fit(model, x, y, **run)
    loss, accuracy = plot.history(history).axes
    assert loss.lines[0].get_ydata().tolist() == history.loss
    assert accuracy.lines[0].get_ydata().tolist() == history.accuracy


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        ([1.0], InvalidTypeError, "history is list; expected a History"),
        ({"lr": [1.0]}, InvalidValueError, r"history has the keys \['lr'\]; expected one of loss"),
        ({"loss": ["a"]}, InvalidTypeError, r"history\['loss'\] is \['a'\]; expected a list of numbers"),
        ({"loss": 1.0}, InvalidValueError, r"history\['loss'\] has shape \(\); expected a number for each epoch"),
    ],
)
def test_history_refuses(history, error, message):
    with pytest.raises(error, match=message):
        plot.history(history)


def test_axes_are_checked():
    with pytest.raises(InvalidTypeError, match="ax is int; expected matplotlib's Axes"):
        plot.confusion_matrix([[1]], ax=3)
    with pytest.raises(InvalidTypeError, match="ax is str"):
        plot.history(LISTS, ax="here")
    with pytest.raises(InvalidValueError, match="ax has 3 entries; expected one Axes, or a pair"):
        plot.history(LISTS, ax=Figure().subplots(1, 3))


# Confusion matrix


def test_cells_hold_the_counts_of_a_model():
    truth, guess = [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 0, 2]
    (ax,) = plot.confusion_matrix(passing(3), one_hot(guess), truth).axes
    assert texts(ax) == ["1", "1", "0", "1", "2", "0", "0", "0", "1"]
    assert [text.get_position() for text in ax.texts[:2]] == [(0, 0), (1, 0)]  # (column, row)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert ax.get_title() == "Confusion matrix: 66.7% right (4 of 6)"


def test_a_class_that_never_occurs_has_its_row_and_one_hot_rows_are_labels():
    (ax,) = plot.confusion_matrix(passing(3), one_hot([0, 1]), one_hot([0, 1], size=1.0)).axes
    assert texts(ax) == ["1", "0", "0", "0", "1", "0", "0", "0", "0"]


def test_rows_can_be_normalised():
    (ax,) = plot.confusion_matrix([[3, 1], [0, 0]], normalize=True).axes
    assert texts(ax) == ["75.0", "25.0", "0", "0"]
    assert "per cent of each true class" in ax.get_title()


def test_what_is_right_and_mistakes_are_coloured_apart_by_their_share_of_the_row():
    (ax,) = plot.confusion_matrix([[3, 1, 0], [0, 50, 50], [0, 0, 9]]).axes
    right, wrong = (image.get_array() for image in ax.images)
    assert right.filled(-1).tolist() == [[0.75, -1, -1], [-1, 0.5, -1], [-1, -1, 1.0]]
    assert wrong.filled(-1).tolist() == [[-1, 0.25, -1], [-1, -1, 0.5], [-1, -1, -1]]
    assert ax.images[1].get_clim() == (0.0, 0.5)


def test_texts_stand_out_from_their_cells():
    (ax,) = plot.confusion_matrix([[100, 1], [0, 20]]).axes
    assert [text.get_color() for text in ax.texts][::3] == ["white", "white"]
    (ax,) = plot.confusion_matrix([[10, 90, 0], [0, 50, 0], [0, 0, 50]]).axes
    assert [text.get_color() for text in ax.texts][:2] == ["black", "white"]


def test_classes_have_their_names():
    (ax,) = plot.confusion_matrix([[1, 0], [0, 1]], labels=["cat", "dog"]).axes
    assert ticks(ax.xaxis) == ticks(ax.yaxis) == ["cat", "dog"]


@pytest.mark.parametrize("matrix", [[[7]], np.zeros((2, 2), int), [[0.5, 0.25], [0.0, 1.0]]])
def test_odd_matrices_are_drawn(matrix):
    figure = plot.confusion_matrix(matrix)
    assert len(texts(figure.axes[0])) == np.size(matrix)
    assert picture(figure)


def test_numbers_fit_their_cells():
    figure = plot.confusion_matrix(np.full((12, 12), 12345))
    picture(figure)  # places the axes
    (ax,) = figure.axes
    cell = ax.get_window_extent().width / 12
    assert max(text.get_window_extent().width for text in ax.texts) < cell


def test_too_many_classes_get_no_numbers():
    (ax,) = plot.confusion_matrix(np.eye(100, dtype=int)).axes
    assert not ax.texts
    assert len(ticks(ax.xaxis)) < 50


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((passing(3),), InvalidTypeError, "x is None; expected the samples"),
        ((passing(3), one_hot([0])), InvalidTypeError, "y is None; expected the samples"),
        (([[1]], one_hot([0])), InvalidTypeError, "x comes with a matrix"),
        (("text",), InvalidTypeError, "model_or_matrix is str; expected a Sequential or a matrix"),
        (([[1, 2]],), InvalidValueError, r"model_or_matrix has shape \(1, 2\); expected \(classes, classes\)"),
        (([[-1]],), InvalidValueError, "model_or_matrix holds negative numbers"),
        (([[np.nan]],), InvalidValueError, "model_or_matrix holds negative numbers or such as are not finite"),
        (([[1]], None, None, ["a", "b"]), InvalidValueError, "labels has 2 names; expected 1"),
        (([[1]], None, None, "a"), InvalidTypeError, "labels is 'a'; expected a sequence"),
        ((passing(3), one_hot([0]), [3]), InvalidValueError, "y holds the label 3; expected labels from 0 to 2"),
        ((passing(3), one_hot([0]), [0.5]), InvalidTypeError, "y has dtype float64; expected integer labels"),
        ((passing(3), one_hot([0]), [0, 1]), InvalidValueError, r"y has shape \(2,\); expected \(1,\)"),
        ((passing(3), np.ones((1, 4)), [0]), InvalidValueError, r"x has shape \(1, 4\)"),
    ],
)
def test_confusion_matrix_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.confusion_matrix(*arguments)


# Decision boundary


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_regions_have_the_colour_of_the_surest_class(dtype):
    """`passing(2)` sees class 0 where x[0] > x[1]."""
    x = np.array([[5.0, 0.0], [4.0, 1.0], [0.0, 5.0], [1.0, 4.0], [5.0, 1.0]], dtype)
    figure = plot.decision_boundary(passing(2, dtype), x, [0, 0, 1, 1, 1], resolution=51)
    (ax,) = figure.axes
    colours = np.asarray(ax.images[0].get_array())
    assert colours.shape == (51, 51, 3)
    bottom_right, top_left, middle = colours[0, -1], colours[-1, 0], colours[25, 25]
    assert bottom_right[2] > bottom_right[0]  # blue
    assert top_left[0] > top_left[2]  # orange
    assert middle == pytest.approx(1.0, abs=1e-6)  # neither: white
    points = [np.asarray(points.get_offsets()) for points in ax.collections if len(points.get_offsets()) > 1]
    assert [one.tolist() for one in points] == [x[:2].tolist(), x[2:].tolist()]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class 0", "class 1"]
    assert ax.get_title() == "Decision boundary: accuracy 80.0%"
    assert picture(figure)


def test_the_boundary_is_where_two_classes_are_even():
    (ax,) = plot.decision_boundary(passing(2), [[5.0, 0.0], [0.0, 5.0]], [0, 1], resolution=50).axes
    paths = [path.vertices for drawn in ax.collections for path in drawn.get_paths()]
    line = max(paths, key=len)  # the others are markers
    assert line[:, 0] == pytest.approx(line[:, 1], abs=1e-3)
    assert line.min() < 0 and line.max() > 5  # right across


@pytest.mark.parametrize(
    ("x", "y", "legend"),
    [(np.zeros((0, 2)), [], None), (np.ones((1, 2)), [1], ["class 1"]), (np.eye(2), [2, 2], ["class 2"])],
    ids=["no points", "one point", "one class"],
)
def test_few_points_are_drawn(x, y, legend):
    model = ff.Sequential(ff.Linear(2, 3), seed=0)
    figure = plot.decision_boundary(model, x, np.array(y, int), resolution=5)
    got = figure.axes[0].get_legend()
    assert (got and [text.get_text() for text in got.get_texts()]) == legend
    assert picture(figure)


def test_a_model_that_diverged_is_drawn_white():
    model = ff.Sequential(ff.Linear(2, 3), seed=0)
    model.parameters[...] = np.nan
    figure = plot.decision_boundary(model, np.eye(2), [0, 1], resolution=5)
    assert np.all(np.asarray(figure.axes[0].images[0].get_array()) == 1.0)
    assert picture(figure)


def test_the_boundarys_classes_may_have_names():
    (ax,) = plot.decision_boundary(passing(2), np.eye(2), [0, 1], resolution=5, labels=["cat", "$5 dog$"]).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cat", r"\$5 dog\$"]
    assert picture(ax.figure)
    with pytest.raises(InvalidValueError, match="labels has 1 names; expected 2"):
        plot.decision_boundary(passing(2), np.eye(2), [0, 1], labels=["cat"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((passing(3), np.ones((1, 3)), [0]), InvalidValueError, r"x has shape \(1, 3\); expected \(n, 2\)"),
        ((passing(3), np.ones((1, 2)), [0]), InvalidValueError, r"x has shape \(1, 2\): Linear"),
        ((passing(2), [[np.inf, 0.0]], [0]), InvalidValueError, "x holds numbers that are not finite"),
        ((passing(2), np.eye(2), [0, 2]), InvalidValueError, "y holds the label 2"),
        ((passing(2), np.eye(2), [0, 1], 1), InvalidValueError, "resolution is 1; expected an integer of at least 2"),
        ((None, np.eye(2), [0, 1]), InvalidTypeError, "model is NoneType"),
    ],
)
def test_decision_boundary_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.decision_boundary(*arguments)
