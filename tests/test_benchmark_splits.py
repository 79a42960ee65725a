"""Splits and the data-efficient protocol by what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from slow_metrics import slow_pearson, slow_ranks

from grepq_iqa.benchmark.few_labels import few_labels
from grepq_iqa.benchmark.splits import official_splits, random_splits
from grepq_iqa.errors import UsageError


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
        splits = list(official_splits(split, 3))
        assert all(list(test) == [1, 4] and sorted(pool) == [0, 2, 3] for pool, test in splits)
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
        splits = list(random_splits(120, 2))
        seen = []

        class Spy(Ridge):
            def fit(self, X, y):
                seen.append({X[i].tobytes() for i in range(len(X))})
                return super().fit(X, y)

        few_labels(features, mos, Spy, (20,), splits)
        for rows, (_, test) in zip(seen, splits, strict=True):
            assert not rows & {features[i].tobytes() for i in test}

    def test_more_labels_than_there_are(self):
        features, mos = self.data()
        with pytest.raises(UsageError, match="97 labels asked for, but the pool holds 96"):
            few_labels(features, mos, Ridge, (50, 97), random_splits(120, 2))

    def test_features_of_other_length(self):
        with pytest.raises(UsageError, match="do not fit"):
            few_labels(np.zeros((4, 2)), np.zeros(5), Ridge, (2,), random_splits(5, 1))
