"""Bradley-Terry on features: against independent slow versions, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from grepq_iqa.calibration.pairs import KAPPA, PairwiseRegressor
from grepq_iqa.errors import LabelsError, NotFittedError, UsageError, WeightsError


def data(n: int = 30, d: int = 6, m: int = 60, seed: int = 0):
    """Features, pairs, outcomes with noise and some ties, and stars of a third of the photographs."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    strength = 2 * X[:, 0] - X[:, 1]
    ends = np.array([rng.choice(n, 2, replace=False) for _ in range(m)])
    t = strength[ends[:, 0]] - strength[ends[:, 1]]
    outcomes = (rng.random(m) < 1 / (1 + np.exp(-t))).astype(float)
    outcomes[::9] = 0.5
    mos = np.full(n, np.nan)
    mos[: n // 3] = 3 + 0.4 * strength[: n // 3] + rng.normal(scale=0.2, size=n // 3)
    return X, ends, outcomes, mos


def standardized(X: np.ndarray) -> np.ndarray:
    return np.clip((X - X.mean(0)) / X.std(0), -3, 3)


def slow(X, ends, outcomes, mos, alpha: float, tau: float) -> tuple[np.ndarray, float]:
    """Weights and offset that minimize the sum of losses, pair by pair and star by star, by a general minimizer."""
    Z = standardized(X)

    def loss(parameters: np.ndarray) -> float:
        beta, offset = parameters[:-1], parameters[-1]
        total = alpha / 2 * beta @ beta
        for (left, right), outcome in zip(ends, outcomes, strict=True):
            better = 1 / (1 + np.exp(-(Z[left] - Z[right]) @ beta))
            total -= outcome * np.log(better) + (1 - outcome) * np.log(1 - better)
        for i in np.flatnonzero(~np.isnan(mos)):
            total += KAPPA / 2 * (mos[i] / tau - offset - Z[i] @ beta) ** 2
        return float(total)

    found = minimize(loss, np.zeros(X.shape[1] + 1), method="BFGS", options={"gtol": 1e-8, "maxiter": 2000}).x
    return found[:-1], found[-1]


@pytest.mark.parametrize("alpha", [0.5, 10.0])
def test_pairs_alone_are_logistic_regression_on_differences(alpha):
    X, ends, outcomes, _ = data()
    fitted = PairwiseRegressor(alphas=(alpha,)).fit(X, ends, outcomes)
    Z = standardized(X)
    D = Z[ends[:, 0]] - Z[ends[:, 1]]
    # A tie is half a win for each.
    rows, wins = np.concatenate([D, D]), np.repeat([1, 0], len(D))
    independent = LogisticRegression(C=1 / alpha, fit_intercept=False, tol=1e-10, max_iter=10_000)
    independent.fit(rows, wins, sample_weight=np.concatenate([outcomes, 1 - outcomes]) + 1e-12)
    np.testing.assert_allclose(fitted.coef_, independent.coef_[0], atol=1e-6)
    np.testing.assert_allclose(fitted.predict(X), Z @ independent.coef_[0], atol=1e-5)
    assert fitted.intercept_ == 0 and fitted.scale_per_unit_ == 1


def test_stars_anchor_as_the_sum_of_losses_says():
    X, ends, outcomes, mos = data()
    fitted = PairwiseRegressor(alphas=(3.0,)).fit(X, ends, outcomes, mos)
    tau = fitted.scale_per_unit_
    beta, offset = slow(X, ends, outcomes, mos, 3.0, tau)
    np.testing.assert_allclose(fitted.coef_ / tau, beta, atol=1e-5)
    assert fitted.intercept_ / tau == pytest.approx(offset, abs=1e-5)
    assert np.corrcoef(fitted.predict(X), 3 + 0.4 * (2 * X[:, 0] - X[:, 1]))[0, 1] > 0.95
    assert abs(fitted.predict(X).mean() - 3) < 0.3


def test_more_features_than_rows_give_the_same_as_the_full_problem():
    X, ends, outcomes, mos = data(n=14, d=25, m=10)
    fitted = PairwiseRegressor(alphas=(5.0,)).fit(X, ends, outcomes, mos)
    tau = fitted.scale_per_unit_
    beta, offset = slow(X, ends, outcomes, mos, 5.0, tau)
    np.testing.assert_allclose(fitted.coef_ / tau, beta, atol=1e-4)
    assert fitted.intercept_ / tau == pytest.approx(offset, abs=1e-4)


def test_leaving_out_is_near_to_fitting_again():
    """One Newton step: a tenth of what leaving out changes, at most."""
    X, ends, outcomes, mos = data()
    fitted = PairwiseRegressor(alphas=(3.0,)).fit(X, ends, outcomes, mos)
    tau = fitted.scale_per_unit_
    for k, star in enumerate(np.flatnonzero(~np.isnan(mos))):
        kept = ~(ends == star).any(axis=1)
        rest = mos.copy()
        rest[star] = np.nan
        beta, offset = slow(X, ends[kept], outcomes[kept], rest, 3.0, tau)
        change = np.linalg.norm(fitted.coef_ / tau - beta)
        assert np.linalg.norm(fitted.loo_coef_[k] / tau - beta) < 0.1 * change + 1e-4
        again = tau * (standardized(X)[star] @ beta + offset)
        assert fitted.loo_residuals_[k] == pytest.approx(abs(mos[star] - again), rel=0.05)


def test_without_stars_the_interval_is_the_posterior_of_the_strength():
    X, ends, outcomes, _ = data(n=12, d=20, m=9)
    fitted = PairwiseRegressor(alphas=(4.0,)).fit(X, ends, outcomes)
    Z = standardized(X)
    D = Z[ends[:, 0]] - Z[ends[:, 1]]
    p = 1 / (1 + np.exp(-D @ fitted.coef_))
    covariance = np.linalg.inv(D.T @ np.diag(p * (1 - p)) @ D + 4 * np.eye(20))
    low, high = fitted.predict_interval(X, 0.8)
    np.testing.assert_allclose((high - low) / 2, 1.2815515655 * np.sqrt(np.diag(Z @ covariance @ Z.T)), rtol=1e-6)
    np.testing.assert_allclose((high + low) / 2, fitted.predict(X), atol=1e-9)


def test_intervals_with_stars_hold_new_stars_about_as_often_as_they_say():
    held = total = 0
    for seed in range(12):
        X, ends, outcomes, _ = data(n=90, m=60, seed=seed)
        rng = np.random.default_rng(seed)
        mos = 3 + 0.4 * (2 * X[:, 0] - X[:, 1]) + rng.normal(scale=0.3, size=90)
        given = np.where(np.arange(90) < 30, mos, np.nan)
        low, high = PairwiseRegressor().fit(X, ends, outcomes, given).predict_interval(X, 0.8)
        held += int(((low <= mos) & (mos <= high))[30:].sum())
        total += 60
    assert 0.74 < held / total < 0.87


def test_few_stars_promise_no_finite_interval():
    X, ends, outcomes, mos = data()
    mos[5:] = np.nan
    low, high = PairwiseRegressor().fit(X, ends, outcomes, mos).predict_interval(X, 0.9)
    assert np.isinf(low).all() and np.isinf(high).all()
    assert np.isfinite(PairwiseRegressor().fit(X, ends, outcomes, mos).predict_interval(X, 0.8)).all()


@given(seed=st.integers(0, 10_000), starred=st.booleans())
@settings(max_examples=25, deadline=None)
def test_sides_and_order_do_not_matter(seed, starred):
    X, ends, outcomes, mos = data(n=15, m=20, seed=seed)
    mos = mos if starred else None
    flip = np.random.default_rng(seed).random(20) < 0.5
    turned = np.where(flip[:, None], ends[:, ::-1], ends)
    answers = np.where(flip, 1 - outcomes, outcomes)
    one = PairwiseRegressor(alphas=(2.0,)).fit(X, ends, outcomes, mos)
    other = PairwiseRegressor(alphas=(2.0,)).fit(X, turned, answers, mos)
    np.testing.assert_allclose(one.predict(X), other.predict(X), atol=1e-6)
    if not starred:  # who wins turned round is the scale turned round
        against = PairwiseRegressor(alphas=(2.0,)).fit(X, ends, 1 - outcomes)
        np.testing.assert_allclose(against.predict(X), -one.predict(X), atol=1e-6)


def test_held_out_differences_never_saw_their_photographs():
    """A photograph of its own direction: only pairs with it tell of that direction, so held out it tells nothing."""
    n = 20
    X = np.eye(n)
    ends = np.arange(n).reshape(-1, 2)
    fitted = PairwiseRegressor(alphas=(0.01,), feature_mean=np.zeros(n), feature_scale=np.ones(n)).fit(
        X, ends, np.ones(n // 2)
    )
    np.testing.assert_allclose(fitted.held_out_, 0, atol=1e-9)
    assert (fitted.predict(X)[ends[:, 0]] > 1).all()


def test_a_photograph_of_several_pairs_is_seen_in_none_of_them():
    """As above, but every photograph is in many pairs, so that most pairs join two parts."""
    n = 24
    rng = np.random.default_rng(0)
    ends = np.array([pair for pair in itertools.combinations(range(n), 2) if rng.random() < 0.5])
    fitted = PairwiseRegressor(alphas=(0.01,), feature_mean=np.zeros(n), feature_scale=np.ones(n)).fit(
        np.eye(n), ends, np.ones(len(ends))
    )
    assert np.isfinite(fitted.held_out_).all()
    np.testing.assert_allclose(fitted.held_out_, 0, atol=1e-9)


@pytest.mark.parametrize("starred", [False, True])
def test_state_is_read_back_to_the_bit(starred):
    X, ends, outcomes, mos = data()
    fitted = PairwiseRegressor(unclipped=1).fit(X, ends, outcomes, mos if starred else None)
    again = PairwiseRegressor.from_state(fitted.state())
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(again.predict_interval(X, 0.8), fitted.predict_interval(X, 0.8))
    assert again.fitted_on == fitted.fitted_on and again.unclipped == 1
    state = fitted.state()
    for change in ({"coef": state["coef"][:-1]}, {"extra": np.ones(1)}, {"mean": np.full(6, np.nan)}):
        with pytest.raises(WeightsError):
            PairwiseRegressor.from_state(state | change)
    with pytest.raises(WeightsError, match="lacks"):
        PairwiseRegressor.from_state({key: value for key, value in state.items() if key != "factor"})


BAD = [
    ({"ends": [[0, 1], [1, 2]], "outcomes": [1, 0]}, "at least 3"),
    ({"ends": [[0, 1], [1, 2], [3, 3]], "outcomes": [1, 0, 1]}, "with itself"),
    ({"ends": [[0, 1], [1, 2], [3, 99]], "outcomes": [1, 0, 1]}, "outside"),
    ({"ends": [[0, 1], [1, 2], [3, 4]], "outcomes": [1, 0, 0.7]}, "0.7"),
    ({"ends": [[0, 1], [1, 2], [3, 4]], "outcomes": [0.5, 0.5, 0.5]}, "ties"),
    ({"ends": [[0, 1, 2]], "outcomes": [1]}, "shapes"),
    ({"mos": np.ones(30)}, "all 30 labels"),
    ({"mos": np.where(np.arange(30) < 2, np.arange(30.0), np.nan)}, "at least 3"),
    ({"mos": np.ones(3)}, "one label or NaN"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_what_cannot_be_fitted_is_refused_in_words(change, words):
    X, ends, outcomes, _ = data()
    given = {"ends": ends, "outcomes": outcomes, "mos": None} | change
    with pytest.raises(LabelsError, match=words):
        PairwiseRegressor().fit(X, given["ends"], given["outcomes"], given["mos"])


def test_wrong_use_is_refused_in_words():
    X, ends, outcomes, _ = data()
    with pytest.raises(NotFittedError):
        PairwiseRegressor().predict(X)
    with pytest.raises(UsageError, match="alphas"):
        PairwiseRegressor(alphas=()).fit(X, ends, outcomes)
    with pytest.raises(UsageError, match="finite"):
        PairwiseRegressor().fit(np.full_like(X, np.nan), ends, outcomes)
    fitted = PairwiseRegressor().fit(X, ends, outcomes)
    with pytest.raises(UsageError, match="shape"):
        fitted.predict(X[:, :2])
    with pytest.raises(UsageError, match="confidence"):
        fitted.predict_interval(X, 1.0)
