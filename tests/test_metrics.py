"""Metrics against slow versions written from their definitions; the bootstrap against loops that draw by hand."""

from __future__ import annotations

import math
import random
import warnings

import numpy as np
import pytest
from scipy.stats import ks_2samp
from slow_metrics import sample, slow_pearson, slow_ranks, slow_rmse, slow_spearman, slow_tau_b

from grepq_iqa import metrics
from grepq_iqa.errors import UsageError
from grepq_iqa.metrics import bootstrap, krcc, largest, plcc, rmse, srcc


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [5, 40])
class TestOfTheValuesAsTheyAre:
    @pytest.mark.parametrize(
        ("metric", "slow"), [(srcc, slow_spearman), (krcc, slow_tau_b), (plcc, slow_pearson), (rmse, slow_rmse)]
    )
    def test_as_defined(self, metric, slow, n: int, ties: bool):
        scores, mos = sample(n, ties)
        assert metric(scores, mos) == pytest.approx(slow(scores, mos))
        assert metric(scores.tolist(), mos.tolist()) == metric(scores, mos)

    def test_what_they_are_blind_to(self, n: int, ties: bool):
        scores, mos = sample(n, ties)
        assert plcc(3 - 7 * scores, mos) == pytest.approx(-plcc(scores, mos))
        for metric in (srcc, krcc):
            assert metric(np.exp(scores), mos) == pytest.approx(metric(scores, mos))
        assert plcc(np.exp(scores), mos) != pytest.approx(plcc(scores, mos), abs=1e-3)
        assert rmse(scores + 2, mos + 2) == pytest.approx(rmse(scores, mos))


@pytest.mark.parametrize("metric", [srcc, krcc, plcc])
@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_constants_correlate_with_nothing(metric, turn):
    pair = (np.full(20, 0.1), np.arange(20.0))[::turn]
    assert math.isnan(metric(*pair))


@pytest.mark.parametrize("metric", [srcc, krcc, plcc, rmse])
@pytest.mark.parametrize(
    ("scores", "mos"),
    [
        ([1, 2], [1, 2, 3]),
        ([1, np.nan, 2], [1, 2, 3]),
        ([1, 2, 3], [1, 2, np.inf]),
        ([[1], [2]], [[1], [2]]),
        (1, 2),
    ],
)
def test_what_cannot_be_compared_is_refused(metric, scores, mos):
    with pytest.raises(UsageError):
        metric(scores, mos)


def slow_draws(metric, scores, mos, draws: int, groups=None, seed: int = 1) -> list[float]:
    """Values of ``metric`` over images, or whole groups, and repeats drawn one by one; NaN left out."""
    dice = random.Random(seed)
    repeats = np.atleast_2d(scores).tolist()
    names = list(range(len(mos))) if groups is None else sorted(set(groups))
    shown = {name: [i for i in range(len(mos)) if (i if groups is None else groups[i]) == name] for name in names}
    values = []
    for _ in range(draws):
        row = dice.choice(repeats)
        images = [image for _ in names for image in shown[dice.choice(names)]]
        values.append(metric(np.array([row[i] for i in images]), np.array([mos[i] for i in images])))
    return [value for value in values if not math.isnan(value)]


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

    def test_drawing_in_parts_draws_the_same(self, monkeypatch):
        scores, mos = sample(30, ties=False)
        whole = bootstrap(srcc, scores, mos, resamples=50, seed=7)
        monkeypatch.setattr(metrics, "_DRAWN_AT_ONCE", 100)
        assert bootstrap(srcc, scores, mos, resamples=50, seed=7) == whole
        monkeypatch.setattr(metrics, "_DRAWN_AT_ONCE", 1)
        assert bootstrap(srcc, scores, mos, resamples=50, seed=7) == whole

    def test_groups_are_drawn_whole(self):
        groups = np.repeat(np.arange(6), 5)
        seen = []

        def metric(scores, mos):
            seen.append(np.bincount(mos.astype(int), minlength=6))
            return 0.0

        assert bootstrap(metric, np.arange(30.0), groups.astype(float), groups=groups, resamples=20) == (0, 0)
        assert len(seen) == 20 and all((counts % 5 == 0).all() and counts.sum() == 30 for counts in seen)

    @pytest.mark.parametrize("named", [False, True])
    def test_groups_of_any_size_name_and_place_in_the_table(self, named: bool):
        """Every image of a group that is drawn is there, as often as the group was drawn."""
        sizes = np.array([1, 7, 2, 4])
        member = np.random.default_rng(0).permutation(np.repeat(np.arange(4), sizes))
        groups = np.array(["d", "c", "bb", "a"])[member] if named else member
        seen = []

        def metric(scores, mos):
            np.testing.assert_array_equal(scores, 100 + mos)
            images = np.bincount(mos.astype(int), minlength=14)
            times = [set(images[member == i].tolist()) for i in range(4)]
            assert all(len(one) == 1 for one in times)
            seen.append([one.pop() for one in times])
            return 0.0

        bootstrap(metric, 100 + np.arange(14.0), np.arange(14.0), groups=groups, resamples=400)
        drawn = np.array(seen)
        assert drawn.shape == (400, 4) and (drawn.sum(axis=1) == 4).all()
        np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.2)  # 1 +- .87 / 20 each
        assert drawn.max() >= 3 and (drawn == 0).any(axis=0).all()

    @pytest.mark.parametrize("groups", [None, np.repeat(np.arange(6), [1, 2, 3, 4, 5, 5])])
    def test_a_draw_takes_one_repeat_whole(self, groups):
        scores = 1000.0 * np.arange(3)[:, None] + np.arange(20)
        repeats = []

        def metric(values, mos):
            found = set((values // 1000).tolist())
            np.testing.assert_array_equal(values % 1000, mos)
            assert len(found) == 1
            repeats.append(found.pop())
            return 0.0

        bootstrap(metric, scores, np.arange(20.0), groups=groups, resamples=600)
        assert len(repeats) == 600
        np.testing.assert_allclose([repeats.count(i) / 600 for i in range(3)], 1 / 3, atol=0.08)

    @pytest.mark.parametrize("grouped", [False, True])
    @pytest.mark.parametrize("repeats", [None, 1, 4])
    @pytest.mark.parametrize(("metric", "slow"), [(srcc, slow_spearman), (rmse, slow_rmse)])
    def test_same_distribution_as_a_slow_loop(self, metric, slow, grouped: bool, repeats: int | None):
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(9), [1, 2, 3, 4, 5, 1, 2, 3, 4]).tolist() if grouped else None
        mos = rng.normal(size=25) + (0 if groups is None else rng.normal(size=9)[groups])
        noise = rng.normal(size=(repeats or 1, 25)) * np.linspace(0.4, 1.6, repeats or 1)[:, None]
        scores = (mos + noise)[0 if repeats is None else slice(None)]
        wanted = slow_draws(slow, scores, mos, draws=1500, groups=groups)
        values = []

        def watched(scores, mos):
            values.append(metric(scores, mos))
            return values[-1]

        low, high = bootstrap(watched, scores, mos, groups=groups, resamples=3000, confidence=0.9)
        assert len(values) == 3000
        # Two samples of one distribution are farther apart than this once in a thousand times.
        assert ks_2samp(values, wanted).statistic < 1.95 * math.sqrt(1 / 1500 + 1 / 3000)
        np.testing.assert_allclose([low, high], np.quantile(values, [0.05, 0.95]))
        np.testing.assert_allclose([low, high], np.quantile(wanted, [0.05, 0.95]), atol=0.2 * np.std(wanted))

    def test_repeats_that_differ_widen_the_interval(self):
        mos = np.arange(50.0)
        one = mos + np.random.default_rng(0).normal(size=50)
        alone = bootstrap(rmse, one, mos, resamples=300)
        assert bootstrap(rmse, one[None], mos, resamples=300) == alone
        low, high = bootstrap(rmse, [one, one + 10], mos, resamples=300)
        assert low == pytest.approx(alone[0], abs=0.1) and 9 < high < 11

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

    def test_seeds(self):
        scores, mos = sample(40, ties=False)
        options = {"groups": np.arange(40) // 2, "resamples": 60}
        for values in (scores, np.stack([scores, scores[::-1]])):
            first = bootstrap(srcc, values, mos, seed=3, **options)
            assert first == bootstrap(srcc, values, mos, seed=3, **options)
            assert first != bootstrap(srcc, values, mos, seed=4, **options)

    @pytest.mark.parametrize("groups", [None, np.zeros(6), ["a"] * 6])
    def test_what_has_no_spread_has_no_interval(self, groups):
        """One group, one image, or a metric that never has a value: NaN, without a word of warning."""
        scores, mos = np.arange(6.0), np.arange(6.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if groups is not None:
                assert np.isnan(bootstrap(rmse, scores, mos, groups=groups, resamples=20)).all()
                assert np.isnan(bootstrap(rmse, [scores, scores], mos, groups=groups, resamples=20)).all()
            else:
                assert np.isnan(bootstrap(rmse, scores[:1], mos[:1], resamples=20)).all()
                assert np.isnan(bootstrap(rmse, [], [], resamples=20)).all()
            assert np.isnan(bootstrap(srcc, np.ones(6), mos, resamples=20)).all()
            assert np.isnan(bootstrap(srcc, np.ones((2, 6)), mos, groups=mos // 2, resamples=20)).all()

    def test_each_in_a_group_of_its_own_is_no_groups(self):
        scores, mos = sample(20, ties=False)
        alone = bootstrap(srcc, scores, mos, resamples=50)
        assert bootstrap(srcc, scores, mos, groups=np.arange(20), resamples=50) == alone

    def test_draws_without_a_value_are_left_out(self):
        """Of two images, draws of the same one twice correlate with nothing; all others correlate fully."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert bootstrap(srcc, [1, 2], [3, 4], resamples=200) == (1, 1)
            values = []

            def sometimes(scores, mos):
                values.append(scores.mean() if scores[0] < 10 else math.nan)
                return values[-1]

            found = bootstrap(sometimes, np.arange(20.0), np.arange(20.0), resamples=100, confidence=0.8)
        known = [value for value in values if not math.isnan(value)]
        assert 0 < len(known) < len(values) == 100
        np.testing.assert_allclose(found, np.quantile(known, [0.1, 0.9]))

    def test_a_metric_of_whole_numbers_is_not_cut_to_them(self):
        answers = iter([0, *[0.5] * 99])
        assert bootstrap(lambda s, m: next(answers), [1, 2], [1, 2], resamples=100, confidence=0.5) == (0.5, 0.5)

    @pytest.mark.parametrize(
        ("scores", "mos", "groups"),
        [
            ([1, 2, 3], [1, 2], None),
            ([[1, 2, 3], [1, 2, np.nan]], [1, 2, 3], None),
            ([1, 2, 3], [1, np.inf, 3], None),
            ([1, 2, 3], [1, 2, 3], [0, 1]),
            ([1, 2, 3], [1, 2, 3], [0, 1, 1, 2]),
            (np.zeros((2, 2, 3)), [1, 2, 3], None),
        ],
    )
    def test_what_does_not_fit_is_refused(self, scores, mos, groups):
        with pytest.raises(UsageError):
            bootstrap(lambda s, m: 0.0, scores, mos, groups=groups, resamples=10)


def test_largest_come_first_and_equals_in_their_order():
    assert largest([0, 2, 5, 2, -7, 5], 4).tolist() == [2, 5, 1, 3]
    assert largest(np.abs([0, 2, 0.5, -4]), 3).tolist() == [3, 1, 2]
    assert largest([3, 1], 10).tolist() == [0, 1]
    assert largest([3, 1], 0).tolist() == [] and largest([], 3).tolist() == []
