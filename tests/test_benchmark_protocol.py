"""Measures against slow versions written from their definitions; splits and protocol by what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from grepq_iqa.benchmark import protocol
from grepq_iqa.benchmark.protocol import (
    agreement,
    bootstrap,
    few_labels,
    fit_logistic,
    krcc,
    logistic,
    official_splits,
    plcc,
    plcc_cubic,
    random_splits,
    rmse,
    srcc,
)
from grepq_iqa.errors import UsageError


def slow_ranks(values):
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def slow_pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xy = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return xy / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def slow_tau_b(x, y):
    agree = ties_x = ties_y = pairs = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        agree += a * b
        ties_x, ties_y, pairs = ties_x + (a == 0), ties_y + (b == 0), pairs + 1
    return agree / math.sqrt((pairs - ties_x) * (pairs - ties_y))


def sample(n: int, ties: bool, seed: int = 0):
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, n)
    scores = 0.3 * mos + rng.normal(size=n)
    return (np.round(scores), np.round(mos)) if ties else (scores, mos)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [5, 40])
class TestRankMeasures:
    def test_srcc(self, n: int, ties: bool):
        scores, mos = sample(n, ties)
        assert srcc(scores, mos) == pytest.approx(slow_pearson(slow_ranks(scores), slow_ranks(mos)))

    def test_krcc(self, n: int, ties: bool):
        scores, mos = sample(n, ties)
        assert krcc(scores, mos) == pytest.approx(slow_tau_b(scores, mos))


class TestLogistic:
    @pytest.mark.parametrize("direction", [1, -1])
    @pytest.mark.parametrize(("shift", "scale"), [(0, 1), (1000, 1e-3), (-5, 1e4)])
    def test_finds_the_curve_that_made_the_data(self, direction: int, shift: float, scale: float):
        x = np.linspace(-3, 3, 60)
        mos = (90 - 10) / (1 + np.exp(-(x * direction - 0.4) / 0.7)) + 10
        scores = shift + scale * x
        parameters = fit_logistic(scores, mos)
        np.testing.assert_allclose(logistic(scores, parameters), mos, atol=0.05)
        assert plcc(scores, mos) == pytest.approx(1, abs=1e-5)
        assert rmse(scores, mos) == pytest.approx(0, abs=0.05)

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

    def test_plcc_is_that_of_the_mapped_scores(self):
        scores, mos = sample(60, ties=False)
        assert plcc(scores, mos) == pytest.approx(slow_pearson(logistic(scores, fit_logistic(scores, mos)), mos))


def test_plcc_cubic_is_the_multiple_correlation_of_three_powers():
    scores, mos = sample(50, ties=False)
    powers = np.stack([np.ones(50), scores, scores**2, scores**3], axis=1)
    mapped = powers @ np.linalg.solve(powers.T @ powers, powers.T @ mos)
    assert plcc_cubic(scores, mos) == pytest.approx(slow_pearson(mapped, mos))
    assert plcc_cubic(1e3 + scores, mos) == pytest.approx(plcc_cubic(scores, mos))


@pytest.mark.parametrize("measure", [srcc, krcc, plcc, plcc_cubic])
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_constants_correlate_with_nothing(measure):
    assert math.isnan(measure(np.full(20, 0.1), np.arange(20.0)))


@pytest.mark.parametrize(
    ("scores", "mos"), [([1, 2], [1, 2, 3]), ([1, np.nan, 2], [1, 2, 3]), ([[1], [2]], [[1], [2]])]
)
def test_what_cannot_be_compared_is_refused(scores, mos):
    with pytest.raises(UsageError):
        srcc(scores, mos)


class TestBootstrap:
    def test_against_draws_by_hand(self):
        scores, mos = sample(30, ties=False)
        rng = np.random.default_rng(7)
        values = []
        for _ in range(50):
            at = rng.integers(30, size=30)
            values.append(slow_pearson(slow_ranks(scores[at]), slow_ranks(mos[at])))
        found = bootstrap(srcc, scores, mos, resamples=50, confidence=0.9, seed=7)
        np.testing.assert_allclose(found, np.quantile(values, [0.05, 0.95]))

    def test_groups_are_drawn_whole(self):
        groups = np.repeat(np.arange(6), 5)
        seen = []

        def measure(scores, mos):
            seen.append(np.bincount(mos.astype(int), minlength=6))
            return 0.0

        bootstrap(measure, np.arange(30.0), groups.astype(float), groups=groups, resamples=20)
        assert all((counts % 5 == 0).all() and counts.sum() == 30 for counts in seen)

    def test_few_contents_widen_the_interval(self):
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(10), 30)
        mos = np.repeat(rng.normal(size=10), 30) + 0.1 * rng.normal(size=300)
        scores = mos + np.repeat(rng.normal(size=10), 30)
        alone = np.diff(bootstrap(srcc, scores, mos, resamples=200))
        grouped = np.diff(bootstrap(srcc, scores, mos, groups=groups, resamples=200))
        assert grouped > 2 * alone

    def test_covers_the_truth_about_as_often_as_said(self):
        hits = 0
        for seed in range(60):
            errors = np.random.default_rng(seed).normal(size=80)
            low, high = bootstrap(lambda s, m: s.mean(), errors, errors, resamples=150, seed=seed)
            hits += low <= 0 <= high
        assert 51 <= hits <= 60


class TestAgreement:
    def test_holds_every_measure(self):
        scores, mos = sample(60, ties=False)
        found = agreement(scores, mos, resamples=40)
        for name in protocol.MEASURES:
            assert getattr(found, name) == pytest.approx(getattr(protocol, name)(scores, mos))
            low, high = found.intervals[name]
            assert low <= high
        assert found.n == 60 and found.intervals["srcc"][0] < found.srcc < found.intervals["srcc"][1]

    def test_the_same_seed_says_the_same(self):
        scores, mos = sample(40, ties=False)
        assert agreement(scores, mos, resamples=20, seed=3) == agreement(scores, mos, resamples=20, seed=3)

    def test_too_few(self):
        with pytest.raises(UsageError, match="at least 5"):
            agreement([1, 2, 3, 4], [1, 2, 3, 4])


class TestSplits:
    def test_the_development_protocol(self):
        """Shuffle by the seed; the first 300 of 1,500 are the test part (shared/data/README.md)."""
        for seed, (pool, test) in enumerate(random_splits(1500, 3)):
            order = np.random.default_rng(seed).permutation(1500)
            np.testing.assert_array_equal(test, order[:300])
            np.testing.assert_array_equal(pool, order[300:])

    @pytest.mark.parametrize("n", [5, 37, 100])
    def test_parts_are_disjoint_and_complete(self, n: int):
        for pool, test in random_splits(n, 4):
            assert sorted([*pool, *test]) == list(range(n))
            assert len(test) == round(0.2 * n)

    def test_no_content_on_both_sides(self):
        rng = np.random.default_rng(0)
        groups = rng.integers(0, 25, size=400).astype(str)
        tests = []
        for pool, test in random_splits(400, 10, groups=groups):
            assert not set(groups[pool]) & set(groups[test])
            assert len(set(groups[test])) == 5 and len(pool) + len(test) == 400
            tests.append(frozenset(groups[test]))
        assert len(set(tests)) > 5

    def test_the_pool_of_grouped_images_is_shuffled(self):
        groups = np.repeat(np.arange(10), 20)
        pool, _ = next(random_splits(200, 1, groups=groups))
        assert len(set(groups[pool[:20]])) > 4

    def test_one_content_cannot_be_divided(self):
        with pytest.raises(UsageError, match="cannot be divided"):
            next(random_splits(10, groups=np.zeros(10)))

    def test_official(self):
        split = np.array(["train", "test", "val", "train", "test"])
        divisions = list(official_splits(split, 3))
        assert all(list(test) == [1, 4] and sorted(pool) == [0, 2, 3] for pool, test in divisions)
        with pytest.raises(UsageError, match="no test part"):
            next(official_splits(np.array(["train", "val"])))
        with pytest.raises(UsageError, match="all test part"):
            next(official_splits(np.array(["test"])))


class TestFewLabels:
    def data(self):
        rng = np.random.default_rng(0)
        features = rng.normal(size=(120, 6))
        return features, features @ rng.normal(size=6) + rng.normal(size=120)

    def test_against_a_loop_by_hand(self):
        features, mos = self.data()
        [few, many] = few_labels(features, mos, lambda: Ridge(1.0), (10, 60), random_splits(120, 4))
        for found, count in ((few, 10), (many, 60)):
            wanted = []
            for seed in range(4):
                order = np.random.default_rng(seed).permutation(120)
                test, chosen = order[:24], order[24 : 24 + count]
                X, y = features[chosen], mos[chosen]
                beta = np.linalg.solve(
                    (X - X.mean(0)).T @ (X - X.mean(0)) + np.eye(6), (X - X.mean(0)).T @ (y - y.mean())
                )
                predicted = (features[test] - X.mean(0)) @ beta + y.mean()
                wanted.append(
                    (
                        slow_pearson(slow_ranks(predicted), slow_ranks(mos[test])),
                        slow_pearson(predicted, mos[test]),
                        math.sqrt(np.mean((predicted - mos[test]) ** 2)),
                    )
                )
            np.testing.assert_allclose(np.transpose([found.srcc, found.plcc, found.rmse]), wanted)
            assert found.labels == count and found.test == (24,) * 4
            assert found.median_srcc == pytest.approx(np.median(found.srcc))
            assert found.median_plcc == pytest.approx(np.median(found.plcc))
            assert found.range_srcc == (min(found.srcc), max(found.srcc))
        assert many.median_srcc > few.median_srcc

    def test_the_test_part_is_never_seen(self):
        features, mos = self.data()
        divisions = list(random_splits(120, 2))
        seen = []

        class Spy(Ridge):
            def fit(self, X, y):
                seen.append({X[i].tobytes() for i in range(len(X))})
                return super().fit(X, y)

        few_labels(features, mos, Spy, (20,), divisions)
        for rows, (_, test) in zip(seen, divisions, strict=True):
            assert not rows & {features[i].tobytes() for i in test}

    def test_more_labels_than_there_are(self):
        features, mos = self.data()
        with pytest.raises(UsageError, match="97 labels asked for, but the pool holds 96"):
            few_labels(features, mos, Ridge, (50, 97), random_splits(120, 2))

    def test_features_of_other_length(self):
        with pytest.raises(UsageError, match="do not fit"):
            few_labels(np.zeros((4, 2)), np.zeros(5), Ridge, (2,), random_splits(5, 1))
