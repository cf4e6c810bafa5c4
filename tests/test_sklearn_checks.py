"""scikit-learn's own checks of estimators: all of them, with the default parameters and no exceptions."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastfnn.sklearn import FNNClassifier, FNNRegressor


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([FNNClassifier(), FNNRegressor()])
def test_scikit_learns_check(estimator, check):
    check(estimator)
