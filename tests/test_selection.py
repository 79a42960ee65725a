"""What is chosen, against slow formulas, and what is refused."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from grepq_iqa.errors import UsageError
from grepq_iqa.labeling import selection
from grepq_iqa.labeling.selection import BINS, Method, select

METHODS = get_args(Method)


def features(n: int = 40, d: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def posterior(Z: np.ndarray, taken: list[int], penalty: float) -> np.ndarray:
    """Predictive covariance ``(n, n)`` of Bayesian linear regression after seeing the rows ``taken``."""
    K = Z @ Z.T
    if not taken:
        return K
    inner = np.linalg.inv(K[np.ix_(taken, taken)] + penalty * np.eye(len(taken)))
    return K - K[:, taken] @ inner @ K[taken]


@pytest.mark.parametrize("method", ["i-optimal", "d-optimal"])
def test_designs_take_the_image_of_most_gain(method):
    X = features()
    Z = (X - X.mean(0)) / X.std(0)
    Z = np.clip(Z, -3, 3) - np.clip(Z, -3, 3).mean(0)
    penalty = selection.PENALTY * np.mean((Z**2).sum(1))
    chosen = select(X, None, 8, method=method).tolist()
    for k, picked in enumerate(chosen):
        now = posterior(Z, chosen[:k], penalty)
        gains = []
        for i in range(len(Z)):
            after = posterior(Z, [*chosen[:k], i], penalty)
            gain = np.trace(now) - np.trace(after) if method == "i-optimal" else now[i, i]
            gains.append(-np.inf if i in chosen[:k] else gain)
        assert picked == int(np.argmax(gains))


def test_k_center_takes_the_farthest():
    X = features()
    Z = np.clip((X - X.mean(0)) / X.std(0), -3, 3)
    chosen = select(X, None, 6, method="k-center").tolist()
    assert chosen[0] == np.linalg.norm(Z - Z.mean(0), axis=1).argmin()
    for k in range(1, 6):
        nearest = np.linalg.norm(Z[:, None] - Z[chosen[:k]], axis=2).min(axis=1)
        assert chosen[k] == nearest.argmax()


@pytest.mark.parametrize("method", METHODS)
def test_choices_are_distinct_repeat_and_can_be_cut(method):
    X, scores = features(), np.linspace(0.2, 1.2, 40)
    chosen = select(X, scores, 20, method=method)
    assert len(set(chosen.tolist())) == 20
    np.testing.assert_array_equal(select(X, scores, 20, method=method), chosen)
    np.testing.assert_array_equal(select(X, scores, 7, method=method), chosen[:7])
    assert sorted(select(X, scores, 40, method=method).tolist()) == list(range(40))


@pytest.mark.parametrize("method", METHODS)
def test_every_part_of_the_score_range_is_there(method):
    """The steps take turns through equal parts of the range, the lowest first; parts without images are passed over."""
    scores = np.random.default_rng(0).permutation(np.linspace(0.2, 1.2, 100))
    low, high = np.percentile(scores, [2, 98])
    ends = np.linspace(low, high, BINS + 1)[1:-1]
    chosen = select(features(100), scores, 3 * BINS, method=method)
    assert np.searchsorted(ends, scores[chosen]).tolist() == 3 * list(range(BINS))

    scores = np.concatenate([np.linspace(0.9, 1.0, 95), np.linspace(0.1, 0.2, 5)])
    chosen = select(features(100), scores, 2 * BINS, method=method)
    assert (scores[chosen] < 0.3).tolist() == BINS * [True, False]


@pytest.mark.parametrize("method", METHODS)
def test_duplicates_and_equal_features_do_no_harm(method):
    assert len(set(select(np.ones((10, 3)), np.ones(10), 10, method=method).tolist())) == 10
    X = np.repeat(features(5), 4, axis=0)
    chosen = select(X, None, 5, method=method)
    if method != "random":
        assert len({int(i) // 4 for i in chosen}) == 5


@pytest.mark.parametrize("method", METHODS)
def test_what_has_labels_is_not_chosen_and_counts(method):
    X = features()
    first = select(X, None, 5, method=method)
    rest = select(X, None, 35, method=method, labeled=first.tolist())
    assert not set(first.tolist()) & set(rest.tolist())
    if method in ("i-optimal", "d-optimal"):
        np.testing.assert_array_equal(select(X, None, 12, method=method)[5:], rest[:7])


def test_many_images_are_thinned_out(monkeypatch):
    """No Gram matrix is larger than it has to be; which rows stay depends on the seed; the choice is among those."""
    sizes = []

    class Recorder(selection._IOptimal):
        def __init__(self, gram, rng):
            sizes.append(gram.shape)
            super().__init__(gram, rng)

    monkeypatch.setattr(selection, "MAX_CANDIDATES", 15)
    monkeypatch.setitem(selection._RULES, "i-optimal", Recorder)
    assert len(selection._thinned(np.arange(60), 30, np.random.default_rng(0))) == 30
    X = features(60)
    all_that_stay = set(select(X, None, 15).tolist())
    chosen = select(X, None, 10).tolist()
    assert len(all_that_stay) == 15 and len(set(chosen)) == 10 and set(chosen) < all_that_stay
    assert set(select(X, None, 15, seed=1).tolist()) != all_that_stay
    assert len(set(select(X, None, 30).tolist())) == 30
    assert not set(select(X, None, 10, labeled=range(20)).tolist()) & set(range(20))
    assert sizes == [(15, 15), (15, 15), (15, 15), (30, 30), (30, 30)]


def test_given_statistics_decide():
    X = features()
    scale = np.ones(12)
    scale[0] = 1e-3
    assert not np.array_equal(select(X, None, 5), select(X, None, 5, feature_mean=np.zeros(12), feature_scale=scale))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, "cannot select 0 of 40"),
        ({"n": 41}, "cannot select 41 of 40"),
        ({"n": 40, "labeled": [3]}, "cannot select 40 of 39"),
        ({"labeled": [40]}, "outside"),
        ({"labeled": [-1]}, "outside"),
        ({"method": "best"}, "must be one of i-optimal"),
        ({"scores": np.ones(3)}, "scores"),
        ({"scores": np.full(40, np.nan)}, "scores"),
        ({"features": np.full((40, 2), np.inf)}, "features"),
        ({"features": np.ones(40)}, "features"),
        ({"feature_mean": np.ones(2)}, "feature_mean"),
    ],
)
def test_what_cannot_work_is_refused(arguments, words):
    arguments = {"features": features(), "scores": None, "n": 5} | arguments
    with pytest.raises(UsageError, match=words):
        select(**arguments)


def test_the_name_of_earlier_versions_is_understood():
    np.testing.assert_array_equal(
        select(features(), None, 6, method="k-centre"), select(features(), None, 6, method="k-center")
    )
    assert "k-centre" not in METHODS
