"""Metrics against scikit-learn's: classes that are absent, weights, ties, and what is not defined."""

import math
import warnings

import numpy as np
import pytest

import fastfnn as ff
from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.metrics import as_metrics, direction

RNG = np.random.default_rng(77)
M = ff.metrics


def peers():
    return pytest.importorskip("sklearn.metrics")


def agrees(ours, theirs):
    """Both, with the warnings of undefined figures let pass; equal, or both NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-11, atol=1e-14)


LABELS = {
    "two classes": (RNG.integers(0, 2, 40), RNG.integers(0, 2, 40)),
    "one row": (np.array([1]), np.array([1])),
    "none is 1": (np.zeros(6, int), np.zeros(6, int)),
    "all are 1": (np.ones(6, int), np.ones(6, int)),
    "none is taken for 1": (RNG.integers(0, 2, 20), np.zeros(20, int)),
    "four classes": (RNG.integers(0, 4, 60), RNG.integers(0, 4, 60)),
    "never true": (np.array([0, 2, 2, 0]), np.array([0, 1, 2, 2])),
    "never taken for": (np.array([0, 1, 2, 3]), np.array([0, 0, 2, 2])),
    "other labels": (np.array([-3, 7, 7, 100]), np.array([7, 7, -3, 100])),
    "booleans": (RNG.integers(0, 2, 9) == 1, RNG.integers(0, 2, 9) == 1),
    "several a row": (RNG.integers(0, 2, (30, 4)), RNG.integers(0, 2, (30, 4))),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "binary"])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("case", LABELS)
def test_precision_recall_and_f1_are_those_of_scikit_learn(case, name, average, weighted):
    truth, labels = LABELS[case]
    if average == "binary" and (truth.ndim == 2 or not set(np.unique([truth, labels])) <= {0, 1}):
        pytest.skip("more than two classes")
    weights = RNG.uniform(size=len(truth)) if weighted else None
    theirs = getattr(peers(), f"{name}_score")
    metric = as_metrics(f"{name}_{average}")[f"{name}_{average}"]
    agrees(
        lambda: metric(truth, labels, weights), lambda: theirs(truth, labels, average=average, sample_weight=weights)
    )


@pytest.mark.parametrize("metric", [M.Precision, M.Recall, M.F1])
def test_by_default_two_classes_are_one_against_the_other_and_more_are_averaged(metric):
    for case, average in (("two classes", "binary"), ("four classes", "macro"), ("several a row", "macro")):
        assert metric()(*LABELS[case]) == metric(average)(*LABELS[case])
    # Three classes of which one does not occur are not two.
    assert metric()(*LABELS["two classes"], n_classes=3) == metric("macro")(*LABELS["two classes"])


def test_what_is_not_defined_counts_as_0_with_a_warning():
    with pytest.warns(UserWarning, match="precision is not defined where there are no predictions of a class"):
        assert M.Precision()([0, 1], [0, 0]) == 0
    with pytest.warns(UserWarning, match="recall is not defined where there are no rows of a class"):
        assert M.Recall()([0, 0], [0, 1]) == 0
    with pytest.warns(UserWarning, match="f1 is not defined"):
        assert M.F1()([0, 0], [0, 0]) == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", [case for case in LABELS if case != "several a row"])
def test_accuracy_is_that_of_scikit_learn(case, weighted):
    truth, labels = LABELS[case]
    weights = RNG.uniform(size=len(truth)) if weighted else None
    agrees(
        lambda: M.Accuracy()(truth, labels, weights),
        lambda: peers().accuracy_score(truth, labels, sample_weight=weights),
    )


def ties(n, classes):
    """Probabilities of which many are the same."""
    rows = RNG.integers(1, 4, (n, classes)).astype(float)
    return rows / rows.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_is_that_of_scikit_learn_ties_and_absent_classes_included(k, weighted):
    truth, scores = RNG.integers(0, 4, 50), ties(50, 5)
    weights = RNG.uniform(size=50) if weighted else None
    agrees(
        lambda: M.TopK(k)(truth, scores, weights),
        lambda: peers().top_k_accuracy_score(truth, scores, k=k, labels=range(5), sample_weight=weights),
    )


def test_top_k_of_all_classes_is_1_with_a_warning():
    with pytest.warns(UserWarning, match=r"TopK\(k=3\) of 3 classes is 1"):
        assert M.TopK(3)([0, 2], np.eye(3)[[1, 1]]) == 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_roc_auc_is_that_of_scikit_learn(average, dtype, weighted):
    weights = RNG.uniform(size=60) if weighted else None
    settings = {"average": average, "sample_weight": weights}
    two, several = RNG.integers(0, 2, 60), RNG.integers(0, 3, 60)
    for scores in (RNG.uniform(size=60), RNG.integers(0, 4, 60) / 4, np.full(60, 0.5)):
        scores = scores.astype(dtype)
        theirs = peers().roc_auc_score(two, scores, **settings)
        for shape in (scores, scores[:, None], np.column_stack([1 - scores, scores])):
            agrees(lambda shape=shape: M.ROCAUC(average)(two, shape, weights), lambda theirs=theirs: theirs)
    rows = ties(60, 3).astype(dtype)
    agrees(
        lambda: M.ROCAUC(average)(several, rows, weights),
        lambda: peers().roc_auc_score(several, rows, multi_class="ovr", **settings),
    )
    labels, shares = RNG.integers(0, 2, (60, 4)), RNG.uniform(size=(60, 4)).astype(dtype)
    agrees(
        lambda: M.ROCAUC(average)(labels, shares, weights), lambda: peers().roc_auc_score(labels, shares, **settings)
    )


def test_roc_auc_of_one_class_is_nan_with_a_warning():
    for truth, rows in (([1, 1], [0.2, 0.7]), ([0, 0], [0.2, 0.7]), ([0, 1, 0, 1], ties(4, 3))):
        with pytest.warns(UserWarning, match="roc_auc is not defined where all rows are of a class, or none is"):
            assert math.isnan(M.ROCAUC()(truth, rows))
        settings = {"multi_class": "ovr", "labels": [0, 1, 2]} if np.ndim(rows) == 2 else {}
        agrees(lambda: math.nan, lambda t=truth, r=rows, s=settings: peers().roc_auc_score(t, r, **s))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_loss_is_that_of_scikit_learn(dtype, weighted):
    weights = RNG.uniform(size=40) if weighted else None
    hard = np.eye(4)[RNG.integers(0, 4, 40)]  # nothing but 0 and 1: bounded
    for rows in (RNG.dirichlet(np.ones(4), 40), hard):
        rows, truth = rows.astype(dtype), RNG.integers(0, 3, 40)  # nobody is of class 3
        ours, theirs = (
            M.LogLoss()(truth, rows, weights),
            peers().log_loss(truth, rows, labels=range(4), **({} if weights is None else {"sample_weight": weights})),
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-5 if dtype == "float32" else 1e-11)
    truth, share = RNG.integers(0, 2, 40), RNG.uniform(size=40).astype(dtype)
    theirs = peers().log_loss(truth, share, sample_weight=weights)
    np.testing.assert_allclose(M.LogLoss()(truth, share, weights), theirs, rtol=1e-5)


def test_log_loss_of_several_labels_is_the_mean_over_them():
    truth, shares = RNG.integers(0, 2, (20, 3)), RNG.uniform(size=(20, 3))
    each = [M.LogLoss()(truth[:, j], shares[:, j]) for j in range(3)]
    assert M.LogLoss()(truth, shares) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [(), (1,), (3,)])
@pytest.mark.parametrize(
    ("metric", "theirs"),
    [
        (M.MAE(), "mean_absolute_error"),
        (M.MSE(), "mean_squared_error"),
        (M.RMSE(), "root_mean_squared_error"),
        (M.R2(), "r2_score"),
    ],
)
def test_errors_of_numbers_are_those_of_scikit_learn(metric, theirs, outputs, weighted):
    truth, numbers = RNG.normal(size=(30, *outputs)), RNG.normal(size=(30, *outputs))
    weights = RNG.uniform(size=30) if weighted else None
    constant, ones = np.full(truth.shape, 0.1), np.ones(truth.shape)
    for y, p in ((truth, numbers), (ones, numbers), (ones, ones), (constant * 8, constant * 8)):
        agrees(
            lambda y=y, p=p: metric(y, p, weights),
            lambda y=y, p=p: getattr(peers(), theirs)(y, p, sample_weight=weights),
        )


def test_r2_of_one_row_is_nan_with_a_warning():
    with pytest.warns(UserWarning, match="r2 is not defined for one row"):
        assert math.isnan(M.R2()([1.0], [1.0]))


# Names


def test_metrics_come_by_name_as_objects_as_functions_and_in_mappings():
    def bias(y_true, y_predicted):
        return np.mean(y_predicted - y_true)

    found = as_metrics(["accuracy", "top_5", "precision", "recall_micro", M.F1("macro"), "roc_auc", "mae", bias])
    expected = ["accuracy", "top_5", "precision", "recall_micro", "f1_macro", "roc_auc", "mae", "bias"]
    assert list(found) == expected
    assert [repr(metric) for metric in found.values()][1:5] == [
        "TopK(k=5)",
        "Precision()",
        "Recall(average='micro')",
        "F1(average='macro')",
    ]
    assert list(as_metrics({"shift": bias, "best": "f1"})) == ["shift", "best"]
    assert list(as_metrics("f1")) == list(as_metrics(M.F1())) == ["f1"]
    assert as_metrics(None) == as_metrics([]) == {}


def test_it_is_known_which_way_figures_become_better():
    better = {name: direction(f"val_{name}") for name in ("loss", "log_loss", "mae", "rmse", "mse")}
    assert not any(better.values())
    assert all(direction(name) for name in ("accuracy", "val_f1_macro", "val_top_3", "r2", "val_roc_auc"))
    assert direction("val_bias") is None


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ("f2", InvalidValueError, "metrics holds 'f2'; expected 'accuracy', .*'r2', 'top_5', 'f1_macro'"),
        ("top_0", InvalidValueError, "metrics holds 'top_0'"),
        ([M.F1], InvalidTypeError, r"metrics: F1 is a class; write F1\(\)"),
        ([lambda y, p: 0], InvalidValueError, "has no name; expected a mapping"),
        (["f1", M.F1()], InvalidValueError, "metrics holds two by the name 'f1'"),
        ({"loss": "f1"}, InvalidValueError, "by the name 'loss'; expected another name"),
        ({"accuracy": "f1"}, InvalidValueError, "by the name 'accuracy'; expected another name"),
        ({"val_f1": "f1"}, InvalidValueError, "by the name 'val_f1'"),
        ([3], InvalidTypeError, "metrics holds 3; expected a name, a metric or a function"),
        (3, InvalidTypeError, "metrics is 3; expected a list"),
    ],
)
def test_what_are_no_metrics_is_refused(metrics, error, message):
    with pytest.raises(error, match=message):
        as_metrics(metrics)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: M.F1()([0, 1], [0]), InvalidValueError, "y_predicted has 1 rows; expected 2"),
        (lambda: M.F1()([], []), InvalidValueError, r"y_true has shape \(0,\); expected at least one row"),
        (lambda: M.F1("binary")([0, 2], [0, 1]), InvalidValueError, "average is 'binary', but there are other classes"),
        (lambda: M.F1("mean"), InvalidValueError, "average is 'mean'; expected one of 'binary'"),
        (lambda: M.F1()([[0, 2]], [[1, 0]]), InvalidValueError, "y_true has shape .* nothing but 0 and 1"),
        (lambda: M.Accuracy()([0, 1], [[0, 1], [1, 0]]), InvalidValueError, r"y_predicted has shape \(2, 2\)"),
        (lambda: M.F1()([0, 1], [0, 1], [1, -1]), InvalidValueError, "sample_weight holds no weights"),
        (lambda: M.F1()([0, 1], [0, 1], [0, 0]), InvalidValueError, "sample_weight holds no weights"),
        (lambda: M.F1()([0, 1], [0, 1], [1]), InvalidValueError, r"sample_weight has shape \(1,\); expected \(2,\)"),
        (lambda: M.TopK(0), InvalidValueError, "k is 0"),
        (lambda: M.TopK(2)([0, 3], np.ones((2, 3))), InvalidValueError, "y_true holds the label 3"),
        (lambda: M.TopK(2)([0, 1], [0, 1]), InvalidValueError, "expected .* scores"),
        (lambda: M.ROCAUC()([0, 1], [-1.0, 2.0]), InvalidValueError, "y_predicted holds -1; expected probabilities"),
        (lambda: M.ROCAUC("micro"), InvalidValueError, "average is 'micro'"),
        (lambda: M.LogLoss()([[0, 1]], [0.5]), InvalidValueError, "y_predicted has shape"),
        (lambda: M.LogLoss()(["a", "b"], [0.5, 0.5]), InvalidTypeError, "y_true has dtype"),
        (lambda: M.MAE()([1.0, 2.0], [[1.0, 2.0], [1.0, 2.0]]), InvalidValueError, r"expected \(2,\), y_true's"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
