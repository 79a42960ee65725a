"""Held-out figures against a plain loop, and what they say of data that is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.base import clone

from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.validation import _plcc, _srcc, cross_validate, learning_curve, worst
from grepq_iqa.errors import LabelsError, UsageError


def data(n: int = 40, d: int = 30, noise: float = 0.3, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=d) / np.sqrt(d) + noise * rng.normal(size=n)


def test_row_wise_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, size=(8, 25)).astype(float), rng.integers(0, 6, size=(8, 25)).astype(float)
    np.testing.assert_allclose(_srcc(a, b), [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(_plcc(a, b), [pearsonr(x, y).statistic for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(_plcc(np.ones((1, 5)), np.arange(5.0)), [0])


def test_leaving_one_fold_each_out_is_leave_one_out():
    X, y = data(12)
    regressor = MOSRegressor(alphas=(10.0,), feature_mean=np.zeros(30), feature_scale=np.ones(30))
    result = cross_validate(regressor, X, y, folds=12, repeats=2)
    np.testing.assert_allclose(result.predicted, clone(regressor).fit(X, y).loo_predictions_)
    without_mean = result.predicted - (y.sum() - y) / 11
    assert result.srcc.value == pytest.approx(spearmanr(without_mean, y).statistic)
    assert result.plcc.value == pytest.approx(pearsonr(without_mean, y).statistic)
    assert result.rmse.value == pytest.approx(np.sqrt(np.mean((result.predicted - y) ** 2)))


def test_good_and_useless_features_are_told_apart():
    X, y = data(60, 10, noise=0.05)
    good = cross_validate(MOSRegressor(), X, y, repeats=3)
    useless = cross_validate(MOSRegressor(), np.random.default_rng(1).normal(size=X.shape), y, repeats=3)
    assert good.srcc.low <= good.srcc.value <= good.srcc.high
    assert good.srcc.value > 0.95 > 0.5 > useless.srcc.value
    assert good.rmse.value < 0.2 < useless.rmse.value
    assert good.coverage == pytest.approx(0.9, abs=0.08)


def test_useless_features_give_no_correlation_rather_than_a_negative_one():
    values = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        regressor = MOSRegressor(alphas=(1e5,))  # all but the mean is taken away
        values.append(cross_validate(regressor, rng.normal(size=(30, 5)), rng.normal(size=30), repeats=2).srcc.value)
    assert abs(np.mean(values)) < 0.15


def test_the_regressor_given_is_left_alone_and_seeds_repeat():
    X, y = data()
    regressor = MOSRegressor()
    first, second = (cross_validate(regressor, X, y, repeats=2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.predicted, second.predicted)
    assert first.srcc == second.srcc
    assert not hasattr(regressor, "coef_")
    assert not np.array_equal(first.predicted, cross_validate(regressor, X, y, repeats=2, seed=4).predicted)


def test_a_fold_that_leaves_equal_labels_does_not_stop_the_rest():
    X, _ = data(8)
    y = np.array([1, 1, 1, 1, 1, 1, 1, 5.0])
    result = cross_validate(MOSRegressor(), X, y, folds=8, repeats=1)
    assert result.predicted[7] == 1
    assert np.isfinite(result.srcc.value)
    assert np.isfinite(learning_curve(MOSRegressor(), X, y, repeats=2).srcc).all()


def test_learning_curve_rises_to_the_cross_validated_figure():
    X, y = data(100, 20)
    curve = learning_curve(MOSRegressor(), X, y, repeats=4)
    assert curve.labels[0] < curve.labels[-1] == 80
    assert curve.srcc[-1] > curve.srcc[0]
    assert (curve.low <= curve.srcc).all() and (curve.srcc <= curve.high).all()
    assert curve.srcc[-1] == pytest.approx(cross_validate(MOSRegressor(), X, y, repeats=4).srcc.value, abs=0.03)
    assert 0 <= curve.gain_by_doubling < 0.3


def test_learning_curve_at_sizes_asked_for():
    X, y = data()
    assert learning_curve(MOSRegressor(), X, y, sizes=[20, 5], repeats=1).labels.tolist() == [5, 20]
    for sizes in ([2], [33], []):
        with pytest.raises(UsageError, match="sizes"):
            learning_curve(MOSRegressor(), X, y, sizes=sizes, repeats=1)


def test_six_labels_suffice_and_five_do_not():
    X, y = data(6)
    assert np.isfinite(cross_validate(MOSRegressor(), X, y).rmse.value)
    assert learning_curve(MOSRegressor(), X, y).labels.tolist() == [4]
    with pytest.raises(LabelsError, match="at least 6"):
        cross_validate(MOSRegressor(), X[:5], y[:5])
    with pytest.raises(LabelsError, match="6 images and 5 labels"):
        cross_validate(MOSRegressor(), X, y[:5])
    with pytest.raises(UsageError, match="folds"):
        cross_validate(MOSRegressor(), X, y, folds=1)


def test_worst_come_first():
    assert worst([1, 2, 3, 4], [1, 4, 3.5, 0], 3).tolist() == [3, 1, 2]
