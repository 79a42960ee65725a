"""Metrics after the logistic and the cubic against slow versions written from their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from slow_metrics import sample, slow_pearson, slow_rmse, slow_spearman, slow_tau_b

from grepq_iqa import metrics
from grepq_iqa.benchmark.correlation import correlation_metrics, fit_logistic, fitted_cubic, logistic
from grepq_iqa.errors import UsageError

METRICS = ("srcc", "plcc", "plcc_cubic", "krcc", "rmse")


class TestLogistic:
    @pytest.mark.parametrize("direction", [1, -1])
    @pytest.mark.parametrize(("shift", "scale"), [(0, 1), (1000, 1e-3), (-5, 1e4)])
    def test_finds_the_curve_that_made_the_data(self, direction: int, shift: float, scale: float):
        x = np.linspace(-3, 3, 60)
        mos = (90 - 10) / (1 + np.exp(-(x * direction - 0.4) / 0.7)) + 10
        scores = shift + scale * x
        parameters = fit_logistic(scores, mos)
        np.testing.assert_allclose(logistic(scores, parameters), mos, atol=0.05)
        found = correlation_metrics(scores, mos, resamples=0)
        assert found.plcc == pytest.approx(1, abs=1e-5)
        assert found.rmse == pytest.approx(0, abs=0.05)
        assert found.logistic == parameters

    def test_no_other_curve_near_it_is_better(self):
        scores, mos = sample(80, ties=False)
        found = np.array(fit_logistic(scores, mos))
        best = np.mean((logistic(scores, found) - mos) ** 2)
        for i, step in itertools.product(range(4), (-0.02, 0.02)):
            other = found.copy()
            other[i] *= 1 + step
            assert np.mean((logistic(scores, other) - mos) ** 2) >= best - 1e-9

    def test_far_scores_do_not_overflow(self):
        with np.errstate(over="raise"):
            np.testing.assert_allclose(logistic([-1e6, 1e6], (5, 1, 0, 0.1)), [1, 5])

    def test_constant_scores_give_the_mean(self):
        parameters = fit_logistic(np.full(6, 0.1), np.arange(6.0))
        np.testing.assert_allclose(logistic([-5, 0.1, 7], parameters), 2.5)

    def test_plcc_and_rmse_are_those_of_the_mapped_scores(self):
        scores, mos = sample(60, ties=False)
        mapped = logistic(scores, fit_logistic(scores, mos))
        found = correlation_metrics(scores, mos, resamples=0)
        assert found.plcc == pytest.approx(slow_pearson(mapped, mos))
        assert found.rmse == pytest.approx(slow_rmse(mapped, mos))
        # Neither is that of the scores as they are.
        assert abs(found.plcc - metrics.plcc(scores, mos)) > 1e-3 and found.rmse < metrics.rmse(scores, mos)


def test_plcc_cubic_is_the_multiple_correlation_of_three_powers():
    scores, mos = sample(50, ties=False)
    powers = np.stack([np.ones(50), scores, scores**2, scores**3], axis=1)
    mapped = powers @ np.linalg.solve(powers.T @ powers, powers.T @ mos)
    np.testing.assert_allclose(fitted_cubic(scores, mos), mapped)
    found = correlation_metrics(scores, mos, resamples=0).plcc_cubic
    assert found == pytest.approx(slow_pearson(mapped, mos))
    assert correlation_metrics(1e3 + scores, mos, resamples=0).plcc_cubic == pytest.approx(found)


@pytest.mark.parametrize("resamples", [0, 20])
@pytest.mark.filterwarnings("error", "ignore:An input array is constant")
def test_constants_correlate_with_nothing(resamples: int):
    mos = np.arange(20.0)
    found = correlation_metrics(np.full(20, 0.1), mos, resamples=resamples)
    for name in ("srcc", "krcc", "plcc", "plcc_cubic"):
        assert math.isnan(getattr(found, name))
        assert not resamples or np.isnan(found.intervals[name]).all()
    assert found.rmse == pytest.approx(mos.std())


class TestCorrelationMetrics:
    def test_holds_every_metric(self):
        scores, mos = sample(60, ties=False)
        found = correlation_metrics(scores, mos, resamples=40)
        mapped = logistic(scores, fit_logistic(scores, mos))
        wanted = {
            "srcc": slow_spearman(scores, mos),
            "krcc": slow_tau_b(scores, mos),
            "plcc": slow_pearson(mapped, mos),
            "plcc_cubic": slow_pearson(fitted_cubic(scores, mos), mos),
            "rmse": slow_rmse(mapped, mos),
        }
        assert set(found.intervals) == set(METRICS) == set(wanted)
        for name in METRICS:
            assert getattr(found, name) == pytest.approx(wanted[name])
            low, high = found.intervals[name]
            assert low < high
        assert found.n == 60 and found.intervals["srcc"][0] < found.srcc < found.intervals["srcc"][1]

    @pytest.mark.parametrize("grouped", [False, True])
    def test_intervals_are_of_the_values_that_were_mapped_once(self, grouped: bool):
        scores, mos = sample(60, ties=False)
        options = {"resamples": 30, "confidence": 0.8, "seed": 5, "groups": np.arange(60) // 3 if grouped else None}
        found = correlation_metrics(scores, mos, **options)
        mapped = logistic(scores, found.logistic)
        for name, metric, values in (
            ("srcc", metrics.srcc, scores),
            ("krcc", metrics.krcc, scores),
            ("plcc", metrics.plcc, mapped),
            ("plcc_cubic", metrics.plcc, fitted_cubic(scores, mos)),
            ("rmse", metrics.rmse, mapped),
        ):
            assert found.intervals[name] == metrics.bootstrap(metric, values, mos, **options)

    def test_no_resamples_no_intervals(self):
        scores, mos = sample(10, ties=False)
        assert correlation_metrics(scores, mos, resamples=0).intervals == {}

    def test_the_same_seed_says_the_same(self):
        scores, mos = sample(40, ties=False)
        first, again, other = (correlation_metrics(scores, mos, resamples=20, seed=seed) for seed in (3, 3, 4))
        assert first == again
        assert first.intervals != other.intervals

    def test_too_few(self):
        with pytest.raises(UsageError, match="at least 5"):
            correlation_metrics([1, 2, 3, 4], [1, 2, 3, 4])

    @pytest.mark.parametrize(
        ("scores", "mos"), [([1, 2], [1, 2, 3]), ([1, np.nan, 2], [1, 2, 3]), ([[1], [2]], [[1], [2]])]
    )
    def test_what_cannot_be_compared_is_refused(self, scores, mos):
        with pytest.raises(UsageError, match=r"do not fit|finite"):
            correlation_metrics(scores, mos)
