"""Closed forms against refits, the estimator contract, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from grepq_iqa.calibration.regressor import MOSRegressor, checked_mos
from grepq_iqa.errors import LabelsError, UsageError, WeightsError

SHAPES = [(12, 40), (40, 12), (20, 20), (20, 19), (5, 3)]


def data(n: int, d: int, m: int = 7, seed: int = 0, noise: float = 0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n + m, d)) * rng.uniform(0.1, 5, size=d) + rng.normal(size=d)
    weights = rng.normal(size=d) / np.sqrt(d)
    y = 3 + ((X - X.mean(0)) / X.std(0)) @ weights + noise * rng.normal(size=n + m)
    return X[:n], y[:n], X[n:], y[n:]


def given(X: np.ndarray) -> dict:
    return {"feature_mean": X.mean(0) + 0.1, "feature_scale": X.std(0) * 1.1}


def refits(X, y, new, alpha, mean, scale, clip):
    """Leave-one-out residuals, and predictions ``(m, n)`` at new points, by n ridge regressions of scikit-learn."""

    def standardize(rows):
        return np.clip((rows - mean) / scale, -clip, clip)

    residuals, predictions = [], []
    for i in range(len(y)):
        keep = np.arange(len(y)) != i
        ridge = Ridge(alpha=alpha, solver="svd").fit(standardize(X[keep]), y[keep])
        residuals.append(y[i] - ridge.predict(standardize(X[i : i + 1]))[0])
        predictions.append(ridge.predict(standardize(new)))
    return np.array(residuals), np.array(predictions).T


@parametrize_with_checks([MOSRegressor(), MOSRegressor(alphas=(1.0,), clip=None)])
def test_is_a_scikit_learn_regressor(estimator, check):
    check(estimator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [1e-6, 0.1, 100.0])
def test_coefficients_are_those_of_ridge(shape, alpha):
    X, y, new, _ = data(*shape)
    regressor = MOSRegressor(alphas=(alpha,), **given(X)).fit(X, y)
    Z, Z_new = (np.clip((rows - regressor.mean_) / regressor.scale_, -3, 3) for rows in (X, new))
    expected = Ridge(alpha=alpha, solver="svd").fit(Z, y)
    np.testing.assert_allclose(regressor.predict(new), expected.predict(Z_new), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(regressor.coef_, expected.coef_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("confidence", [0.5, 0.8])
def test_intervals_equal_those_of_n_refits(shape, confidence):
    X, y, new, _ = data(*shape)
    regressor = MOSRegressor(**given(X)).fit(X, y)
    residuals, predictions = refits(X, y, new, regressor.alpha_, regressor.mean_, regressor.scale_, 3)
    np.testing.assert_allclose(regressor.loo_residuals_, residuals, atol=1e-6)
    np.testing.assert_allclose(regressor.loo_predictions_, y - residuals, atol=1e-6)

    # Barber et al. 2021, equation 1.4, by sorting.
    n = len(y)
    rank = int(np.ceil(confidence * (n + 1) - 1e-9))
    high = np.sort(predictions + np.abs(residuals), axis=1)[:, rank - 1]
    low = -np.sort(-(predictions - np.abs(residuals)), axis=1)[:, rank - 1]
    found_low, found_high = regressor.predict_interval(new, confidence)
    np.testing.assert_allclose(found_low, low, atol=1e-6)
    np.testing.assert_allclose(found_high, high, atol=1e-6)


def test_duplicate_and_constant_features_keep_leave_one_out_exact():
    X, y, new, _ = data(10, 6)
    X, new = np.hstack([X, X, np.ones((10, 3))]), np.hstack([new, new, np.ones((7, 3))])
    regressor = MOSRegressor(alphas=(0.1,)).fit(X, y)
    residuals, _ = refits(X, y, new, 0.1, regressor.mean_, regressor.scale_, 3)
    np.testing.assert_allclose(regressor.loo_residuals_, residuals, atol=1e-8)


def test_alpha_has_the_least_leave_one_out_error():
    X, y, new, _ = data(30, 60, noise=2)
    alphas = (0.1, 10.0, 1000.0, 1e5)
    regressor = MOSRegressor(alphas=alphas, **given(X)).fit(X, y)
    errors = [
        np.sqrt(np.mean(refits(X, y, new, alpha, regressor.mean_, regressor.scale_, 3)[0] ** 2)) for alpha in alphas
    ]
    np.testing.assert_allclose(regressor.alpha_errors_, errors, rtol=1e-6)
    assert regressor.alpha_ == alphas[int(np.argmin(errors))]


def test_a_wild_feature_is_limited():
    X, y, new, _ = data(20, 5)
    regressor = MOSRegressor().fit(X, y)
    far, farther = new.copy(), new.copy()
    far[:, 0], farther[:, 0] = 1e6, 1e9
    np.testing.assert_array_equal(regressor.predict(far), regressor.predict(farther))
    assert not np.allclose(MOSRegressor(clip=None).fit(X, y).predict(far), regressor.predict(far))


def test_a_feature_without_spread_among_photographs_stays_finite():
    X, y, new, _ = data(20, 5)
    scale = X.std(0)
    scale[2] = 0
    assert np.isfinite(MOSRegressor(feature_mean=X.mean(0), feature_scale=scale).fit(X, y).predict(new)).all()


def test_scale_and_direction_of_labels_carry_over():
    X, y, new, _ = data(25, 50)
    plain, turned = MOSRegressor().fit(X, y), MOSRegressor().fit(X, 100 - 10 * y)
    np.testing.assert_allclose(turned.predict(new), 100 - 10 * plain.predict(new), rtol=1e-9)
    low, high = plain.predict_interval(new, 0.8)
    turned_low, turned_high = turned.predict_interval(new, 0.8)
    np.testing.assert_allclose(turned_low, 100 - 10 * high)
    np.testing.assert_allclose(turned_high, 100 - 10 * low)


def test_blocks_do_not_change_intervals(monkeypatch):
    X, y, new, _ = data(20, 30, m=17)
    regressor = MOSRegressor().fit(X, y)
    whole = regressor.predict_interval(new, 0.9)
    monkeypatch.setattr("grepq_iqa.calibration.regressor._BLOCK", 60)
    np.testing.assert_allclose(regressor.predict_interval(new, 0.9), whole, rtol=1e-12)


def test_too_few_labels_promise_nothing():
    X, y, new, _ = data(8, 5)
    low, high = MOSRegressor().fit(X, y).predict_interval(new, 0.9)
    assert np.isneginf(low).all() and np.isposinf(high).all()
    low, high = MOSRegressor().fit(*data(9, 5)[:2]).predict_interval(new, 0.9)
    assert np.isfinite(high - low).all()


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_coverage_is_near_nominal(confidence):
    held = []
    for seed in range(40):
        X, y, new, truth = data(40, 80, m=100, seed=seed)
        low, high = (
            MOSRegressor(feature_mean=X.mean(0), feature_scale=X.std(0)).fit(X, y).predict_interval(new, confidence)
        )
        held.append(np.mean((low <= truth) & (truth <= high)))
    assert np.mean(held) == pytest.approx(confidence, abs=0.04)


@pytest.mark.parametrize("clip", [3.0, None])
def test_saved_and_read_back_it_is_the_same(clip):
    X, y, new, _ = data(20, 30)
    regressor = MOSRegressor(clip=clip, **given(X)).fit(X, y)
    again = MOSRegressor.from_state(load(save(regressor.state())))
    np.testing.assert_array_equal(again.predict(new), regressor.predict(new))
    np.testing.assert_array_equal(again.predict_interval(new, 0.8), regressor.predict_interval(new, 0.8))
    assert (again.alpha_, again.clip, again.n_features_in_) == (regressor.alpha_, clip, 30)
    # Fitting it again keeps to the same statistics.
    np.testing.assert_array_equal(again.fit(X, y).predict(new), regressor.predict(new))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("coef"), "lacks coef"),
        (lambda s: s.update(extra=np.zeros(1)), "unexpected extra"),
        (lambda s: s.update(mean=np.zeros(3)), "mean has shape"),
        (lambda s: s.update(influence=np.zeros(3)), "influence has shape"),
        (lambda s: s.update(coef=np.full_like(s["coef"], np.nan)), "coef holds"),
    ],
)
def test_a_damaged_state_is_refused_by_name(change, named):
    X, y, *_ = data(10, 5)
    state = MOSRegressor().fit(X, y).state()
    change(state)
    with pytest.raises(WeightsError, match=named):
        MOSRegressor.from_state(state)


@pytest.mark.parametrize(
    ("mos", "words"),
    [
        ([1.0, 2.0], "at least 3 labels"),
        ([2.0] * 6, "all 6 labels are 2"),
        ([1, 2, np.nan, 4, np.inf, 6], "2 of 6 labels are NaN or infinite"),
        ([1, 2, 3, 4, 5], "6 images and 5 labels"),
        (["a", "b", "c", "d", "e", "f"], "must be numbers"),
        (None, "requires y"),
    ],
)
def test_labels_that_cannot_work_are_refused_in_words(mos, words):
    rows = 2 if mos is not None and len(mos) == 2 else 6
    with pytest.raises(LabelsError, match=words):
        MOSRegressor().fit(np.random.default_rng(0).normal(size=(rows, 4)), mos)


def test_checked_labels_are_numbers_on_their_own_scale():
    found = checked_mos(["1", "2.5", 4], 3)
    assert found.dtype == np.float64 and found.tolist() == [1, 2.5, 4]
    for labels, rows, words in (
        ([1, 2], 2, "at least 3"),
        ([1, 2, 3], 4, "4 images and 3 labels"),
        ([5, 5, 5], 3, "all 3 labels are 5"),
        ([1, 2, np.nan], 3, "1 of 3 labels are NaN"),
        (["a", "b", "c"], 3, "must be numbers"),
        (None, 3, "requires y"),
    ):
        with pytest.raises(LabelsError, match=words):
            checked_mos(labels, rows)


def test_which_labels_are_not_finite_is_said():
    with pytest.raises(LabelsError) as caught:
        MOSRegressor().fit(np.eye(4), [1, np.nan, 3, 4])
    assert caught.value.problems == ("label 1 (counted from 0) is nan",)


@pytest.mark.parametrize(
    "settings",
    [
        {"alphas": ()},
        {"alphas": (0.0, 1.0)},
        {"alphas": (np.nan,)},
        {"feature_mean": np.zeros(3)},
        {"feature_scale": -np.ones(4)},
        {"feature_mean": np.full(4, np.nan)},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(UsageError):
        MOSRegressor(**settings).fit(np.eye(4), [1, 2, 3, 4])


@pytest.mark.parametrize("confidence", [0, 0.49, 1, 90, float("nan")])
def test_confidence_must_make_sense(confidence):
    regressor = MOSRegressor().fit(np.eye(4), [1, 2, 3, 4])
    with pytest.raises(UsageError, match="confidence"):
        regressor.predict_interval(np.eye(4), confidence)
