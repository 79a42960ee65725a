"""Numbers worked out by hand where random data and unit vectors leave a formula loose; each test kills a mutant."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from grepq_iqa.benchmark.correlation import correlation_metrics
from grepq_iqa.benchmark.splits import official_splits
from grepq_iqa.calibration.regressor import ALPHAS, MOSRegressor
from grepq_iqa.data.patches import reflect_up_to
from grepq_iqa.metrics import bootstrap, srcc
from grepq_iqa.zero_shot import cosine, high_level_quality


def test_length_is_no_direction():
    assert cosine(np.array([3.0, 4.0]), np.array([0.0, 10.0])) == pytest.approx(0.8)
    embedding, good, bad = np.array([6.0, 8.0]), np.array([0.0, 5.0]), np.array([2.0, 0.0])
    assert high_level_quality(embedding, good, bad) == pytest.approx(1 / (1 + math.exp(-10 * (0.8 - 0.6))))


def test_reflection_turns_at_the_last_pixel_without_repeating_it():
    row = torch.tensor([1.0, 2.0, 3.0]).expand(3, 1, 3)
    padded = reflect_up_to(row, 7)
    assert padded.shape == (3, 7, 7)
    torch.testing.assert_close(padded, torch.tensor([3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]).expand(3, 7, 7))


class TestRegressor:
    def test_penalties_reach_from_the_papers_to_nearly_the_mean(self):
        assert {0.1, 1.0, 10.0, 100.0} <= set(ALPHAS)
        rng = np.random.default_rng(0)
        X = rng.normal(size=(40, 5))
        noiseless = MOSRegressor().fit(X, 0.1 * X[:, 0])
        assert noiseless.alpha_ == 0.1 and len(noiseless.alpha_errors_) == len(ALPHAS)
        assert MOSRegressor().fit(rng.normal(size=(40, 1500)), rng.normal(size=40)).alpha_ >= 1e3

    def test_own_statistics_are_mean_and_standard_deviation(self):
        X = np.random.default_rng(0).normal(3, 20, size=(30, 4))
        regressor = MOSRegressor().fit(X, X[:, 0])
        np.testing.assert_allclose(regressor.mean_, X.sum(0) / 30)
        np.testing.assert_allclose(regressor.scale_, np.sqrt(((X - X.sum(0) / 30) ** 2).sum(0) / 30))

    def test_a_constant_stays_one_whatever_rounding_makes_of_its_spread(self):
        X = np.random.default_rng(0).normal(size=(12, 3))
        X[:, 1] = 0.1
        X[::2, 1] = np.nextafter(0.1, 1)
        assert X[:, 1].std() > 0
        regressor = MOSRegressor().fit(X, X[:, 0])
        assert regressor.scale_[1] == 1
        moved = X + np.array([0, 1e-3, 0])
        np.testing.assert_allclose(regressor.predict(moved), regressor.predict(X), atol=1e-9)


class TestBenchmark:
    def test_intervals_of_all_metrics_draw_whole_contents_at_the_confidence_asked_for(self):
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(12), 5)
        mos = np.repeat(rng.normal(size=12), 5) + 0.1 * rng.normal(size=60)
        scores = mos + rng.normal(size=60)
        options = {"groups": groups, "resamples": 60, "confidence": 0.6, "seed": 3}
        assert correlation_metrics(scores, mos, **options).intervals["srcc"] == bootstrap(srcc, scores, mos, **options)

    def test_the_pool_of_an_official_split_is_shuffled_by_its_seed(self):
        split = np.array(["train"] * 30 + ["test"] * 10)
        pools = [pool for pool, _ in official_splits(split, 3, seed=5)]
        for offset, pool in enumerate(pools):
            np.testing.assert_array_equal(pool, np.random.default_rng(5 + offset).permutation(30))
        assert len({tuple(pool) for pool in pools}) == 3
