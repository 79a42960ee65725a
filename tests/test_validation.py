"""Held-out figures against a plain loop, and what they say of data that is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.base import clone

from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.report import report_fit
from grepq_iqa.calibration.validation import _plcc, _splits, _srcc, cross_validate, learning_curve
from grepq_iqa.data.labels import Labels
from grepq_iqa.errors import LabelsError, UsageError
from grepq_iqa.metrics import bootstrap, largest, rmse, srcc


def data(n: int = 40, d: int = 30, noise: float = 0.3, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=d) / np.sqrt(d) + noise * rng.normal(size=n)


def test_correlations_are_those_of_scipy_and_none_of_a_constant():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, size=(8, 25)).astype(float), rng.integers(0, 6, size=(8, 25)).astype(float)
    for x, y in zip(a, b, strict=True):
        assert _srcc(x, y) == pytest.approx(spearmanr(x, y).statistic)
        assert _plcc(x, y) == pytest.approx(pearsonr(x, y).statistic)
    for metric in (_srcc, _plcc):
        assert metric(np.ones(5), np.arange(5.0)) == 0 == metric(np.arange(5.0), np.ones(5))


@pytest.mark.parametrize(("n", "folds"), [(12, 5), (40, 5), (7, 9)])
def test_every_repeat_holds_every_image_out_once(n: int, folds: int):
    splits = list(_splits(np.arange(n), folds, 3, seed=0))
    assert [repeat for repeat, _ in splits] == [i for i in range(3) for _ in range(min(folds, n))]
    for k in range(3):
        parts = [parts for repeat, parts in splits if repeat == k]
        assert sorted(np.concatenate([test for _, test in parts])) == list(range(n))
        assert all(sorted([*train, *test]) == list(range(n)) for train, test in parts)
        assert {len(test) for _, test in parts} <= {n // min(folds, n), -(-n // min(folds, n))}
    if folds < n:
        assert len({tuple(test) for _, (_, test) in splits}) > folds
    assert [test.tolist() for _, (_, test) in splits] == [
        test.tolist() for _, (_, test) in _splits(np.arange(n), folds, 3, 0)
    ]
    for wrong in ((1, 3), (5, 0)):
        with pytest.raises(UsageError, match="at least 2 folds and 1 repeat"):
            next(_splits(np.arange(n), *wrong, seed=0))


def test_figures_are_means_over_the_repeats_and_ranges_resample_images_and_repeats():
    """Against a loop that fits every fold by itself."""
    X, y = data(30, 8)
    regressor = MOSRegressor()
    result = cross_validate(regressor, X, y, folds=4, repeats=3, seed=2)
    predicted, center = np.full((3, 30), np.nan), np.full((3, 30), np.nan)
    for repeat, (train, test) in _splits(np.arange(30), 4, 3, seed=2):
        predicted[repeat, test] = clone(regressor).fit(X[train], y[train]).predict(X[test])
        center[repeat, test] = np.mean(y[train])
    np.testing.assert_allclose(result.predicted, predicted.mean(axis=0))
    known = predicted - center
    assert result.srcc.value == pytest.approx(np.mean([spearmanr(row, y).statistic for row in known]))
    assert result.plcc.value == pytest.approx(np.mean([pearsonr(row, y).statistic for row in known]))
    assert result.rmse.value == pytest.approx(np.mean([np.sqrt(np.mean((row - y) ** 2)) for row in predicted]))
    options = {"resamples": 1000, "confidence": 0.9, "seed": 2}
    for found, metric, rows in (
        (result.srcc, _srcc, known),
        (result.plcc, _plcc, known),
        (result.rmse, rmse, predicted),
    ):
        assert (found.low, found.high) == bootstrap(metric, rows, y, **options)
        assert found.low < found.value < found.high


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
    assert largest(np.abs(np.array([1, 2, 3, 4]) - [1, 4, 3.5, 0]), 3).tolist() == [3, 1, 2]


def test_a_report_names_the_worst_predicted_images(tmp_path):
    X, y = data(30, 4, noise=0.01)
    y[[7, 19]] += [10, -20]
    labels = Labels(tuple(tmp_path / f"{i}.png" for i in range(30)), y, tuple(range(2, 32)), False, "path", "mos")
    report = report_fit(MOSRegressor().fit(X, y), X, labels, y, worst_count=2)
    assert report.worst.tolist() == [19, 7]
    assert report.zero_shot_srcc == pytest.approx(1)
    turned = dataclasses.replace(labels, lower_is_better=True)
    assert report_fit(MOSRegressor().fit(X, y), X, turned, y).zero_shot_srcc == pytest.approx(-1)


def test_a_fit_is_compared_with_others_ratings_where_the_model_has_them(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.normal(size=40)  # nothing to learn
    labels = Labels(tuple(tmp_path / f"{i}.png" for i in range(40)), y, tuple(range(2, 42)), False, "path", "mos")
    scores, expected = rng.normal(size=40), y + rng.normal(size=40)
    alone = report_fit(MOSRegressor().fit(X, y), X, labels, scores)
    report = report_fit(MOSRegressor().fit(X, y), X, labels, scores, expected=expected)
    assert alone.others_srcc is None and alone.comparison.unfitted == pytest.approx(srcc(scores, y))
    assert report.others_srcc == report.comparison.unfitted == pytest.approx(srcc(expected, y))
    assert report.comparison.worse and any(
        "than others' ratings do, which need no labels" in w for w in report.warnings
    )
    assert f"expected by others' ratings has SRCC {report.others_srcc:.3f}" in report.as_text()
    assert report.as_dict()["compared_with_no_labels"]["what"] == "others' ratings"
    assert alone.as_dict()["compared_with_no_labels"]["what"] == "zero-shot"
    turned = dataclasses.replace(labels, lower_is_better=True)
    other_way = report_fit(MOSRegressor().fit(X, y), X, turned, scores, expected=expected)
    assert other_way.others_srcc == pytest.approx(-report.others_srcc)
    assert other_way.comparison.unfitted == pytest.approx(-report.comparison.unfitted)
